from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "<stdint.h>":
    uint64_t UINT64_MAX

cdef extern from "session.h" nogil:
    ctypedef uint64_t PrHandle
    enum:
        PR_FULL
        PR_STALE
        PR_TIMEOUT
        PR_INTERRUPTED
        PR_ENDED
        PR_LIMIT
        PR_SYSTEM
        PR_AWAY
        PR_BUSY
        PR_UNIT
        PR_CPU
        PR_GPU
        PR_MEMORY
        PR_RESOURCES
        PR_SHAPE_RESOURCES
        PR_SHAPES
        PR_INLINE_OBJECT
        PR_INLINE_ARGUMENTS
        PR_OBJECT_FREE
        PR_OBJECT_RESERVED
        PR_OBJECT_PENDING
        PR_OBJECT_SEALED
        PR_OBJECT_FAILED
        PR_CODE
        PR_STREAM
        PR_CANCEL
        PR_TASK_WAITING
        PR_TASK_READY
        PR_TASK_RUNNING
        PR_TASK_STREAMING
        PR_TASK_ITEMS
        PR_TASK_DYNAMIC
        PR_TASK_RETRY_EXCEPTIONS
        PR_TASK_CREATION
        PR_TASK_CALL
        PR_ACTOR_LIVE
        PR_ACTOR_DEAD
        PR_ACTOR_UNORDERED
        PR_ACTOR_DETACHED
        PR_PROCESS_LIVE
        PR_DRIVER
        PR_WORKER
        PR_NODE
        PR_CLIENT
        PR_SPILLER
        PR_OUT
        PR_BLOCK
        PR_FETCH
        PR_NO_SHAPE
    ctypedef struct PrObject:
        uint64_t state  # this and others are atomic: reading or setting one is an atomic access
        uint32_t refs
        uint32_t owner
        uint64_t size
        uint64_t place
        uint32_t n_refs
        uint32_t next
        uint8_t *bytes
    ctypedef struct PrCopy:
        uint32_t pins
        uint32_t file
        uint32_t verified
        uint32_t given_up
        uint64_t offset
    ctypedef struct PrFile:
        uint64_t number
        uint64_t size
        uint32_t target
    ctypedef struct PrTask:
        uint64_t state
        uint32_t worker
        uint32_t n_dependencies
        uint32_t function
        uint32_t label
        uint16_t shape
        uint16_t n_returns
        uint32_t first_return
        PrHandle arguments
        PrHandle parent
        int32_t retries_left
        uint32_t attempt
        uint32_t flags
        uint16_t arguments_size
        uint16_t backlog
        uint32_t actor
        uint32_t job
        uint16_t backlog
        uint8_t *inline_arguments
    ctypedef struct PrNeed:
        uint32_t kind
        int64_t amount
    ctypedef struct PrQueue:
        uint32_t count
    ctypedef struct PrShape:
        PrQueue queue
        uint32_t env
        uint32_t n_needs
        PrNeed *needs
        uint32_t reported
    ctypedef struct PrResource:
        char *name
        int64_t total
        int64_t available
    ctypedef struct PrProcess:
        uint32_t state
        uint64_t want
        int64_t since
        uint32_t kind
        int32_t pid
        uint32_t event
        uint32_t shape
        uint32_t blocked
        uint64_t running
        uint32_t env
        uint32_t leave
        uint64_t gpus
        uint64_t finished
        int64_t idle_since
    ctypedef struct PrActor:
        uint64_t state
        uint32_t object
        PrHandle creation
        PrHandle death
        uint32_t worker
        uint32_t flags
        uint32_t job
        uint32_t cancels
    ctypedef struct PrName:
        uint64_t handle
        uint8_t *key
        int32_t pid
    ctypedef struct PrLock:
        pass
    ctypedef struct PrTable:
        uint32_t used
        uint32_t limit
        uint32_t n_free
    ctypedef struct PrControl:
        uint64_t arena_size
        uint32_t n_lineage
        uint64_t lineage_bytes
        uint64_t n_reconstructed
        uint64_t n_lineage_dropped
        uint64_t spill_at
        uint64_t call_at
        uint32_t n_wanting
        uint32_t spiller
        uint32_t called
        uint32_t fetches
        uint32_t files_done
        uint64_t spilled_bytes
        uint64_t n_spilled
        uint64_t restored_bytes
        uint64_t n_restored
        uint64_t n_evicted
        uint32_t ended
        uint32_t n_processes
        uint32_t n_cpus
        PrLock arena_lock
        PrTable objects
        PrTable tasks
        PrTable actors
        PrTable names
        uint32_t named
        uint32_t n_resources
        uint32_t n_shapes
        PrResource *resources
        uint64_t *idle
        uint32_t n_idle
        uint32_t wanted
        uint64_t epoch
        uint64_t deaths
        uint64_t retries
        uint64_t put_bytes
        uint64_t n_put
        int64_t spin
    ctypedef struct PrArena:
        pass
    ctypedef struct PrSession:
        PrControl *control
        PrObject *objects
        PrFile *files
        PrTask *tasks
        PrActor *actors
        PrProcess *processes
        PrProcess *self
        PrShape *shapes
        PrArena *arena
        uint8_t *write_base
        const uint8_t *read_base
        uint32_t *held
        uint32_t *pinned
        uint32_t index
        int control_fd
        int arena_fd
        int wake_fd
    ctypedef struct PrConfig:
        uint64_t max_lineage_bytes
        uint32_t evicts
        uint64_t arena_size
        uint32_t max_objects
        uint32_t max_tasks
        uint32_t max_processes
        int64_t spin
        uint64_t spill_at
    ctypedef enum PrProcessKind:
        pass
    int pr_session_create(PrSession *s, const PrConfig *config, PrProcessKind kind)
    int pr_session_attach(PrSession *s, int control_fd, int arena_fd, int wake_fd,
                          PrProcessKind kind)
    void pr_session_detach(PrSession *s, int unmap)
    void pr_session_unmap(PrSession *s)
    void pr_enter(PrSession *s)
    void pr_leave(PrSession *s)
    void pr_trim(PrSession *s)
    void pr_notify(PrSession *s, PrProcess *p)
    int pr_sleep(PrSession *s, uint32_t seen, int64_t timeout, int may_spin)
    void pr_call_node(PrSession *s)
    int pr_sleep(PrSession *s, uint32_t seen, int64_t timeout, int may_spin)
    uint32_t pr_slot(PrHandle h)
    int pr_same(uint64_t state_word, PrHandle h)
    int pr_state(uint64_t word)
    PrHandle pr_handle(uint64_t word, uint32_t slot)

cdef extern from "lineage.h" nogil:
    ctypedef enum PrWhy:
        PR_WHY_PUT
        PR_WHY_ACTOR
        PR_WHY_NO_RETRIES
        PR_WHY_GENERATOR
        PR_WHY_DROPPED
        PR_WHY_FAILED
        PR_WHY_GONE
        PR_WHY_UNDECIDED
        PR_WHY_FREED
    int pr_reconstruct(PrSession *s, PrHandle object, PrHandle *culprit, PrWhy *why)
    int pr_discard(PrSession *s, uint32_t slot)
    bint pr_is_gone(PrObject *o)
    uint32_t pr_item(const PrSession *s, const PrTask *t, uint32_t number)
    uint32_t pr_first_result(const PrTask *t)
    uint32_t pr_next_result(const PrSession *s, const PrTask *t, uint32_t slot)

cdef extern from "arena.h" nogil:
    ctypedef struct PrArenaStats:
        uint64_t capacity
        uint64_t used
        uint64_t peak
        uint64_t blocks
        uint64_t free_blocks
        uint64_t largest_free
        uint64_t touched

cdef extern from "object.h" nogil:
    ctypedef struct PrStream:
        uint32_t produced
        uint32_t taken
        uint32_t closed
    enum:
        PR_SPIN
        PR_ONCE
    bint pr_is_ready(uint64_t word)
    int pr_create(PrSession *s, uint64_t size, uint32_t n_refs, PrHandle *handle, uint8_t **data)
    void pr_seal(PrSession *s, PrHandle handle, int failed)
    void pr_abandon(PrSession *s, PrHandle handle)
    void pr_block_stats(PrSession *s, PrArenaStats *out)
    int pr_room(PrSession *s, uint32_t slot, uint64_t size, uint32_t n_refs, uint8_t **data)
    int pr_seal_small(PrSession *s, uint32_t slot, const void *message, uint64_t size, int failed)
    void pr_fail(PrSession *s, uint32_t slot, int code, const char *text)
    const uint8_t *pr_message_of(const PrSession *s, PrObject *o)
    const uint64_t *pr_refs_in(const PrSession *s, const PrObject *o)
    uint64_t pr_block_size(uint64_t size, uint32_t n_refs)
    void pr_hold(PrSession *s, uint32_t slot)
    void pr_release(PrSession *s, uint32_t slot)
    void pr_note_site(PrSession *s, PrHandle object, uint32_t site)
    void pr_make_ready(PrSession *s, uint32_t slot, uint64_t state)
    uint32_t PR_NEXT
    int pr_wait(PrSession *s, const uint32_t *slots, size_t n, size_t needed, int64_t deadline,
                int any_failure, int how)
    ctypedef struct PrVigil:
        uint32_t n
    int pr_vigil_begin(PrSession *s, PrVigil *v)
    void pr_vigil_end(PrSession *s, PrVigil *v)
    void pr_vigil_add(PrSession *s, PrVigil *v, uint32_t waited)
    void pr_vigil_remove(PrSession *s, PrVigil *v, uint32_t slot)
    size_t pr_vigil_ready(PrSession *s, PrVigil *v, uint32_t *slots, size_t room)
    int pr_vigil_sleep(PrSession *s, uint32_t seen)
    PrHandle pr_name_find(PrSession *s, const uint8_t *key)
    int pr_name_set(PrSession *s, const uint8_t *key, PrHandle handle, PrHandle *found)
    int pr_name_remove(PrSession *s, const uint8_t *key, PrHandle only)
    size_t pr_name_list(PrSession *s, const void *prefix, size_t size, PrName *out, size_t room)
    int pr_name_wait(PrSession *s, uint32_t seen, int64_t deadline, int how)
    int pr_stream_put(PrSession *s, uint32_t stream, PrHandle item)
    PrHandle pr_stream_take(PrSession *s, uint32_t stream)
    uint32_t pr_stream_length(const PrSession *s, uint32_t stream)
    int pr_stream_room(PrSession *s, uint32_t task, int64_t deadline, int how)
    int pr_stream_wait(PrSession *s, uint32_t stream, int64_t deadline, int how)
    void pr_stream_close(PrSession *s, uint32_t stream)

cdef extern from "spill.h" nogil:
    enum:
        PR_WAITS_FOR_ROOM
    bint pr_is_inline(PrObject *o)
    PrCopy *pr_copy_of(PrObject *o)
    int pr_pin(PrSession *s, uint32_t slot)
    void pr_unpin(PrSession *s, uint32_t slot)
    void pr_fetch(PrSession *s, uint32_t slot)
    int pr_await_fetch(PrSession *s, uint32_t slot, int64_t deadline)
    void pr_lose_copy(PrSession *s, uint32_t slot)
    int pr_want_room(PrSession *s, uint64_t bytes, int64_t since)
    int pr_await_room(PrSession *s, int64_t deadline)
    void pr_forget_room(PrSession *s)
    uint64_t pr_pinned_bytes(PrSession *s, uint32_t process)
    int pr_live_pid(const PrSession *s, uint32_t process)
    uint32_t pr_first_wanting(const PrSession *s, uint64_t *bytes)
    void pr_deny(PrSession *s, uint32_t process)

cdef extern from "task.h" nogil:
    ctypedef struct PrCall:
        uint32_t function
        uint32_t label
        uint32_t shape
        uint32_t n_returns
        uint32_t flags
        int32_t retries
        const uint32_t *dependencies
        uint32_t n_dependencies
        PrHandle arguments
        const void *inline_arguments
        uint32_t arguments_size
        uint32_t backlog
        PrHandle parent
        uint32_t actor
        uint32_t limit
        uint32_t job
    int pr_submit(PrSession *s, const PrCall *call, PrHandle *returns)
    ctypedef struct PrNap:
        uint32_t seen
        int64_t longest
    int pr_look_for_task(PrSession *s, uint32_t *task, PrNap *nap)
    int pr_after_nap(PrSession *s, int status)
    uint32_t pr_next_queued(PrSession *s)
    void pr_finish(PrSession *s, uint32_t task)
    int pr_retry(PrSession *s, uint32_t task)
    void pr_fail_task(PrSession *s, uint32_t task, int code, const char *text)
    void pr_fail_task_like(PrSession *s, uint32_t task, uint32_t failed)
    uint32_t pr_dependency(const PrSession *s, const PrTask *t, uint32_t k)
    uint32_t pr_failed_dependency(const PrSession *s, uint32_t task)
    int pr_cancel(PrSession *s, PrHandle object, uint32_t *worker)
    void pr_each_child(PrSession *s, PrHandle parent, void (*each)(void *, PrHandle) noexcept,
                       void *arg)
    int pr_resource(PrSession *s, const char *name, int64_t total)
    int pr_shape(PrSession *s, const PrNeed *needs, uint32_t n, uint32_t env)
    int pr_fits(const PrSession *s, const PrShape *shape, int ever)
    void pr_kick(PrSession *s, uint32_t shape)
    void pr_block(PrSession *s)
    void pr_unblock(PrSession *s)
    void pr_coming(PrSession *s)
    void pr_returning(PrSession *s)
    void pr_rescue(PrSession *s)
    void pr_ask_again(PrSession *s, const uint32_t *slots, size_t n)
    uint32_t pr_ask_all_again(PrSession *s)
    int pr_heard(PrSession *s, uint32_t task)
    void pr_worker_rest(PrSession *s)
    void pr_keep_heap(PrSession *s)
    uint32_t pr_wanted(PrSession *s, uint32_t *envs, uint32_t *counts, uint32_t room)
    ctypedef enum PrRetry:
        pass
    uint32_t pr_put_off(const PrSession *s, PrHandle *tasks, uint32_t room)
    void pr_resume(PrSession *s, PrHandle task)
    void pr_recover_killed(PrSession *s, uint32_t process, int code, const char *text,
                           PrRetry retry)
    uint32_t pr_find_dead(PrSession *s)
    int pr_recover_dead(PrSession *s)

cdef extern from "actor.h" nogil:
    int pr_actor_create(PrSession *s, PrHandle object, const uint8_t *key, uint32_t flags,
                        PrCall *creation, PrHandle *death)
    uint32_t pr_actor_of(const PrSession *s, uint32_t object)
    PrHandle pr_actor_find(PrSession *s, const uint8_t *key)
    PrHandle pr_actor_hold(PrSession *s, uint32_t actor)
    PrHandle pr_actor_handle(const PrSession *s, uint32_t actor)
    uint32_t pr_actor_kill(PrSession *s, PrHandle actor, int restart)
    uint32_t pr_actor_list(PrSession *s, uint32_t *actors, uint32_t room)
    void pr_actor_begin(PrSession *s, uint32_t creation)
    uint32_t pr_pending_calls(const PrActor *a)
    int pr_may_call(PrSession *s, uint32_t actor, uint32_t limit)
    uint32_t pr_next_call(PrSession *s, uint32_t actor)
    uint32_t pr_take_call(PrSession *s, uint32_t actor, uint64_t *epoch)
    int pr_begin_call(PrSession *s, uint32_t task, uint64_t epoch)
    int pr_actor_idle(PrSession *s, uint32_t actor)
    int pr_actor_unwanted(PrSession *s, uint32_t actor)
    void pr_fail_calls(PrSession *s)

cdef extern from "job.h" nogil:
    uint32_t PR_DETACHED_JOB
    uint32_t pr_stop_job(PrSession *s, uint32_t job, int pid, int force)
    int pr_has_job(const PrSession *s, uint32_t job)

cdef extern from "running.h" nogil:
    ctypedef struct PrTaskEntry:
        PrHandle task
        PrHandle parent
        uint32_t owner
        uint32_t state
        uint64_t sequence
        int32_t retries_left
        uint32_t attempt
        uint32_t flags
        int32_t pid
        char *label
    ctypedef struct PrRunning:
        int32_t pid
        int64_t began
        PrTaskEntry task
    uint32_t pr_running(const PrSession *s, PrRunning *out, uint32_t room)
    int pr_look_at_task(const PrSession *s, PrHandle task, PrTaskEntry *out)

cdef extern from "futex.h" nogil:
    int64_t pr_now()

cdef enum:
    # ns; how late a signal that comes just before a wait is seen, at most
    SLICE = 100000000


cdef class Session:
    cdef PrSession s
    cdef readonly bint closed  # no more calls; views of objects may still hold the mapping
    cdef public bint dead      # the node process is gone
    cdef Py_ssize_t pins       # views of objects, and calls that run without the GIL
    cdef int pid               # of the process whose place it is
    cdef int64_t spin
    cdef public object record_site  # called with what makes a reference; None: nobody asks
    cdef dict sites                 # slots of objects that tell a site, by its text
    # Where files with copies of objects are: a directory each, or None for those that only the
    # spiller reads; None until it is known.
    cdef public tuple targets
    # What is called for an object whose value is lost: (handle, why, deadline). It raises what
    # `get` shall raise, or _spilled.Late, or returns if the value may be there by now.
    cdef public object lost
    # What is called when the session ends while this process waits for room, or for a value that is
    # read back: (SessionEnded). It raises what the caller shall. None: it is that error.
    cdef public object over

    cdef int check(self) except -1
    cdef dict amounts(self, bint available)
    cdef dict shape_resources(self, uint32_t index)
    cdef PrHandle name(self, bytes key, blob) except 0
    cdef bint is_idle(self, uint32_t i)
    cdef bint serves_actor(self, uint32_t i)
    cdef uint64_t count_objects(self)


cdef class FileCopy:
    """An object's bytes out of a file: mapped, or read if they are few."""

    cdef void *memory   # header and message
    cdef size_t mapped  # its size, if it is a mapping; else it is memory of our own
    cdef const uint8_t *data
    cdef uint64_t size
    cdef str path
    cdef uint64_t offset


cdef class Pin:
    """Holds an object for a view of its bytes."""

    cdef Session session
    cdef uint32_t slot
    cdef bint pinned  # its block
    cdef const uint8_t *data
    cdef uint64_t size
    cdef FileCopy copy  # where the bytes are, if they are not in memory


cdef class PrivateCopy:
    """An object's bytes as they may be written, for this process alone."""

    cdef object source  # what has to stay meanwhile
    cdef void *mapping  # or NULL: `data` is a copy
    cdef size_t mapped
    cdef void *data
    cdef Py_ssize_t size


cdef Pin pin(Session session, uint32_t slot, int64_t deadline=*)
cdef object map_privately(PrivateCopy copy, int fd, uint64_t offset)
cdef void begin_use(Session session) noexcept
cdef void end_use(Session session) noexcept
cdef int drop(Session session, uint32_t slot) except -1
