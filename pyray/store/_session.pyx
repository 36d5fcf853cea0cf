"""The attachment of this process to a session's shared memory: csrc/session.h for Python.

Imports nothing else of pyray. The design is in docs/architecture.md; what the shared tables hold,
and what a crash leaves, in csrc/session.h.
"""

import os

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from libc.string cimport memcpy, memset

KINDS = {
    "driver": PR_DRIVER, "worker": PR_WORKER, "node": PR_NODE, "client": PR_CLIENT,
    "spiller": PR_SPILLER}
cdef dict KIND_NAMES = {number: name for name, number in KINDS.items()}
cdef tuple RETRIES = ("counted", "later", "never")  # PrRetry


class SessionEnded(RuntimeError):
    """The session that this belongs to has ended."""


cdef int raise_status(int status, str what) except -1:
    """The exception for what a C function returned."""
    if status == PR_SYSTEM:
        raise OSError(f"{what}: the operating system refused: {os.strerror(errno)}")
    if status == PR_LIMIT:
        raise RuntimeError(f"{what}: the session has as many as it may have")
    if status == PR_STALE:
        raise RuntimeError(f"{what}: it is not a session of this version of pyray")
    if status == PR_FULL:
        raise MemoryError(f"{what}: the object store is full")
    raise RuntimeError(f"{what}: status {status}")


cdef dict running_of(PrRunning *r):
    cdef PrTaskEntry *t = &r.task
    found = {"pid": r.pid, "task": t.task, "began": r.began}
    if t.task:
        _, _, name = (<bytes> t.label).decode("utf-8", "replace").partition(" ")
        found["name"] = name
        found["owner"] = t.parent, 0 if t.parent else t.owner
        found["sequence"] = t.sequence
        found["retries_left"] = t.retries_left
        found["is_actor"] = (t.flags & PR_TASK_CREATION) != 0
    return found


cdef object too_many_resources(str name):
    return RuntimeError(
        f"cannot add the resource {name!r}: a session has at most {PR_RESOURCES} kinds of "
        "resources. Use fewer names, in init() and in the options of tasks")


cdef extern from "errno.h":
    int errno

cdef extern from "unistd.h":
    int getpid()

cdef extern from "sys/mman.h":
    enum:
        PROT_READ
        PROT_WRITE
        MAP_PRIVATE
        MAP_NORESERVE
    void *MAP_FAILED
    void *mmap(void *address, size_t length, int protection, int flags, int fd, int64_t offset)
    int munmap(void *address, size_t length)

cdef extern from "Python.h":
    void *PyMem_RawMalloc(size_t size)
    void PyMem_RawFree(void *memory)

cdef enum:
    PAGE = 4096
    WORTH_MAPPING = 1 << 16  # below, a copy costs less than a mapping and its page faults


@cython.final
cdef class Session:
    """One process' place in a session. `create` makes a session; `attach` joins one."""

    def __cinit__(self):
        memset(&self.s, 0, sizeof(PrSession))
        self.s.control_fd = self.s.arena_fd = self.s.wake_fd = -1
        self.closed = True
        self.pid = getpid()

    def __init__(self):
        raise TypeError("use Session.create() or Session.attach()")

    @staticmethod
    def create(*, arena_bytes, resources, spin_us=None, kind="driver", spill_at=0,
               max_lineage_bytes=0, evicts=False):
        """A new session with an arena of `arena_bytes` and these resources, floats by name.

        `spin_us`: microseconds a waiter spins before it sleeps; default 50, or PYRAY_SPIN_US.
        `spill_at`: bytes in use from which on objects are written to files; 0 for never.
        `max_lineage_bytes`: that tasks which are over may keep, to make results again; 0: nothing.
        `evicts`: when there is no room, values go that can be made again.
        """
        cdef Session self = Session.__new__(Session)
        cdef PrConfig config
        memset(&config, 0, sizeof(PrConfig))
        if spin_us is None:
            spin_us = float(os.environ.get("PYRAY_SPIN_US", "50"))
        config.arena_size = arena_bytes
        config.spin = <int64_t> (spin_us * 1000)
        config.spill_at = spill_at
        config.max_lineage_bytes = max_lineage_bytes
        config.evicts = evicts
        cdef int status = pr_session_create(&self.s, &config, KINDS[kind])
        if status:
            raise_status(status, "cannot make a session")
        self.closed = False
        for name, amount in resources.items():
            self.define(name, amount)
        return self

    @staticmethod
    def attach(int control_fd, int arena_fd, int wake_fd, kind, uint32_t env=0):
        """Joins the session of these descriptors, which are closed with it."""
        cdef Session self = Session.__new__(Session)
        cdef int status = pr_session_attach(&self.s, control_fd, arena_fd, wake_fd, KINDS[kind])
        if status:
            raise_status(status, "cannot join the session")
        self.closed = False
        self.s.self.env = env
        if kind == "worker" and not env:  # others have an environment to set up first
            pr_coming(&self.s)
        return self

    cdef int check(self) except -1:
        if self.closed or self.dead:
            raise SessionEnded(
                "the session has ended" if self.closed else
                "the session's node process died: its tasks and objects are lost")
        return 0

    def __dealloc__(self):
        # In a forked child the place is the parent's: only the memory goes.
        if not self.closed and not self.dead and self.pid == getpid():
            pr_session_detach(&self.s, 0)
        pr_session_unmap(&self.s)

    def close(self):
        """Leave: what this process holds is given back, but for objects that views still show."""
        if self.closed:
            return
        self.closed = True
        if not self.pins and not self.dead:
            leave(self)

    def end(self):
        """The session is over for every process."""
        cdef uint32_t i
        if self.closed:
            return
        self.s.control.ended = 1
        for i in range(1, self.s.control.n_processes):
            pr_notify(&self.s, &self.s.processes[i])

    def interrupt(self):
        """Wakes the threads of this process that wait, so that they look at what has changed."""
        if self.s.self != NULL:
            pr_notify(&self.s, self.s.self)

    @property
    def control_fd(self):
        return self.s.control_fd

    @property
    def arena_fd(self):
        return self.s.arena_fd

    @property
    def wake_fd(self):
        return self.s.wake_fd

    @property
    def index(self):
        return self.s.index

    # -- resources ------------------------------------------------------------------------------

    def define(self, str name, amount):
        """There are so many units of a resource."""
        cdef int kind = pr_resource(&self.s, name.encode(), round(amount * PR_UNIT))
        if kind < 0:
            raise too_many_resources(name)

    def shape(self, resources, uint32_t env=0):
        """The number of the shape of tasks that want these resources in that environment."""
        cdef PrNeed needs[PR_SHAPE_RESOURCES]
        cdef uint32_t n = 0
        cdef int kind
        self.check()
        wanted = []
        for name, amount in resources.items():
            if amount:
                kind = pr_resource(&self.s, name.encode(), -1)
                if kind < 0:
                    raise too_many_resources(name)
                wanted.append((kind, round(amount * PR_UNIT)))
        if len(wanted) > PR_SHAPE_RESOURCES:
            raise ValueError(
                f"a task may want at most {PR_SHAPE_RESOURCES} kinds of resources, this one wants "
                f"{len(wanted)}: {', '.join(resources)}. Make one resource of some of them")
        for number, amount in sorted(wanted):
            needs[n].kind = number
            needs[n].amount = amount
            n += 1
        cdef int shape = pr_shape(&self.s, needs, n, env)
        if shape < 0:
            raise RuntimeError(
                f"the tasks of this session want {PR_SHAPES} different sets of resources in their "
                "runtime environments, which is the limit, and this task wants another: use fewer "
                "different amounts (round them), and fewer runtime environments, or start another "
                "session")
        return shape

    cdef dict amounts(self, bint available):
        cdef uint32_t i
        cdef PrResource *r
        result = {}
        for i in range(self.s.control.n_resources):
            r = &self.s.control.resources[i]
            if r.total > 0:
                amount = <int64_t> r.available if available else r.total
                if amount > 0:
                    result[(<bytes> r.name).decode()] = amount / <double> PR_UNIT
        return result

    def total_resources(self):
        self.check()
        return self.amounts(False)

    def available_resources(self):
        self.check()
        return self.amounts(True)

    cdef dict shape_resources(self, uint32_t index):
        cdef PrShape *shape = &self.s.shapes[index]
        cdef uint32_t k
        result = {}
        for k in range(shape.n_needs):
            name = (<bytes> self.s.control.resources[shape.needs[k].kind].name).decode()
            result[name] = shape.needs[k].amount / <double> PR_UNIT
        return result

    def resources_of(self, uint32_t shape):
        """What tasks of that shape want."""
        return self.shape_resources(shape)

    # -- names ----------------------------------------------------------------------------------

    def publish(self, bytes key, blob):
        """Stores bytes under a key of 16 bytes, for ever; its number is the same everywhere."""
        return pr_slot(self.name(b"function" + key, blob))

    def publish_env(self, bytes text):
        """Stores the text of an environment; number 0 is the default one."""
        from _blake2 import blake2b
        if text in (b"", b"{}"):
            return 0
        return pr_slot(self.name(b"environs" + blake2b(text, digest_size=16).digest(), text))

    def find(self, bytes key):
        """What was published under a key of 16 bytes, read-only; None if nothing was."""
        cdef PrHandle found
        self.check()
        key = b"function" + key
        if len(key) != 24:
            raise ValueError(f"a key has 16 bytes, not {len(key) - 8}")
        found = pr_name_find(&self.s, <const uint8_t *> <const char *> key)
        if not found:
            return None
        view = memoryview(pin(self, pr_slot(found)))
        drop(self, pr_slot(found))
        return view

    def sweep(self):
        """Forgets what was published and nothing refers to any more."""
        cdef size_t room = self.s.control.names.used, n, i
        cdef PrName *found
        self.check()
        found = <PrName *> PyMem_RawMalloc((room + 1) * sizeof(PrName))
        if found == NULL:
            raise MemoryError
        # One that is found by another process meanwhile is held by that, and only nameless.
        n = pr_name_list(&self.s, <const char *> b"function", 8, found, room)
        for i in range(min(n, room)):
            if self.s.objects[pr_slot(found[i].handle)].refs == 1:
                pr_name_remove(&self.s, found[i].key, found[i].handle)
        PyMem_RawFree(found)

    cdef PrHandle name(self, bytes key, blob) except 0:
        """The object of that name, held once more by this process; made of `blob` if need be."""
        cdef const unsigned char[::1] data = memoryview(blob).cast("B")
        cdef PrHandle handle, found
        cdef uint8_t *out
        cdef int status = PR_FULL
        cdef Py_ssize_t n = data.shape[0]
        # Never inline: readers take views of it.
        cdef uint64_t size = max(n, PR_INLINE_OBJECT + 1)
        self.check()
        if len(key) != 24:
            raise ValueError(f"a key has 16 bytes, not {len(key) - 8}")
        found = pr_name_find(&self.s, <const uint8_t *> <const char *> key)
        if found:
            return found
        while status:
            status = pr_create(&self.s, size, 0, &handle, &out)
            if status == PR_LIMIT or status and not self.await_room(size):
                raise_status(status, "cannot publish")
        memset(out, 0, PR_INLINE_OBJECT + 1)
        if n:
            memcpy(out, &data[0], n)
        pr_seal(&self.s, handle, 0)
        status = pr_name_set(&self.s, <const uint8_t *> <const char *> key, handle, &found)
        if found != handle or status:
            drop(self, pr_slot(handle))
        if status:
            raise_status(status, "cannot publish")
        return found

    def replace(self, bytes key, blob):
        """Stores bytes under a key of 16 bytes in place of those that are there."""
        key = b"function" + key
        pr_name_remove(&self.s, <const uint8_t *> <const char *> key, 0)
        drop(self, pr_slot(self.name(key, blob)))

    def await_room(self, uint64_t size):
        """Whether to try again to make an object of so many bytes, for which there was no room."""
        from pyray.store._spilled import await_room
        return await_room(self, size)

    def function(self, uint32_t number):
        """The published bytes, as a read-only buffer (with zero bytes behind, if they are few)."""
        self.check()
        return memoryview(pin(self, number))

    def note_site(self, PrHandle handle, str text):
        """The object of that handle was made where this text says, for people who look."""
        from _blake2 import blake2b
        if self.sites is None:
            self.sites = {}
        slot = self.sites.get(text)
        if slot is None:
            blob = text.encode("utf-8", "replace")
            key = b"callsite" + blake2b(blob, digest_size=16).digest()
            slot = self.sites[text] = pr_slot(self.name(key, blob))
        pr_note_site(&self.s, handle, slot)

    def env(self, uint32_t number):
        return bytes(self.function(number)).rstrip(b"\0") if number else b"{}"

    # -- for the node ---------------------------------------------------------------------------

    def wanted_workers(self):
        """Environments that need more workers now, and how many."""
        cdef uint32_t envs[64]
        cdef uint32_t counts[64]
        cdef uint32_t n = pr_wanted(&self.s, envs, counts, 64)
        return [(envs[i], counts[i]) for i in range(n) if counts[i]]

    def ask_again(self):
        """How many running tasks do not know yet that they are cancelled; they are told again."""
        return pr_ask_all_again(&self.s)

    def fail_calls(self):
        """Calls that wait for an actor which is dead fail as others did."""
        pr_fail_calls(&self.s)

    def infeasible(self):
        """What tasks in a queue want and can never get; each set is returned once."""
        cdef uint32_t i
        cdef PrShape *shape
        result = []
        for i in range(self.s.control.n_shapes):
            shape = &self.s.shapes[i]
            if shape.queue.count and not pr_fits(&self.s, shape, 1):
                if not shape.reported:
                    shape.reported = 1
                    result.append(self.shape_resources(i))
        return result

    cdef bint is_idle(self, uint32_t i):
        return self.s.control.idle[i >> 6] >> (i & 63) & 1

    cdef bint serves_actor(self, uint32_t i):
        cdef PrHandle running = self.s.processes[i].running
        return running and self.s.tasks[pr_slot(running)].flags & PR_TASK_CREATION

    def count_actors(self):
        """How many processes are those of actors."""
        return sum([self.serves_actor(i) for i in range(1, self.s.control.n_processes)])

    def surplus_workers(self, int keep, double idle_seconds=1.0, env=None):
        """Asks idle workers beyond `keep` to leave, if they were idle for so long; their pids.

        With `env`, none of that environment. Those that serve an actor do not count.
        """
        cdef uint32_t i
        cdef PrProcess *p
        cdef int64_t before = pr_now() - <int64_t> (idle_seconds * 1e9)
        workers = [i for i in range(1, self.s.control.n_processes)
                   if self.s.processes[i].state == PR_PROCESS_LIVE
                   and self.s.processes[i].kind == PR_WORKER and not self.serves_actor(i)]
        asked = []
        for i in reversed(workers):
            p = &self.s.processes[i]
            if len(workers) - len(asked) <= keep:
                break
            if env is not None and p.env == env:
                continue
            if self.is_idle(i) and <int64_t> p.idle_since <= before:
                p.leave = 1
                pr_notify(&self.s, p)
                asked.append(p.pid)
        return asked

    def recover(self, int pid, str reason="", int code=1, str retry="counted"):
        """That process is dead: what it held is given back, its tasks are tried again or fail.

        `retry`, of the task that it ran: "counted", at the cost of a retry; "later", for nothing,
        when `resume` says so; "never".
        """
        cdef uint32_t i
        cdef bint found = False
        cdef bytes text = reason.encode()
        cdef int how = RETRIES.index(retry)
        # A driver that has left and come back may have two places.
        for i in range(1, self.s.control.n_processes):
            if (<int> self.s.processes[i].pid == pid
                    and self.s.processes[i].state == PR_PROCESS_LIVE):
                pr_recover_killed(&self.s, i, code, text, <PrRetry> how)
                found = True
        return found

    def recover_dead(self):
        """Whether processes were found dead; what they held is given back. Needs no node."""
        self.check()
        return bool(pr_recover_dead(&self.s))

    def stop_job(self, uint32_t job, int pid, bint force=False):
        """The driver of that job, a process of that pid, is gone: what it has left behind is to
        stop, with `force` by the death of workers. How many tasks and actors there are still."""
        return pr_stop_job(&self.s, job, pid, force)

    def has_job(self, uint32_t job):
        """Whether something of that job is there that may ask what is known of it."""
        return pr_has_job(&self.s, job) != 0

    def put_off(self):
        """Handles of tasks that are to be tried again later."""
        cdef uint32_t n = pr_put_off(&self.s, NULL, 0), i
        cdef bytearray room = bytearray(8 * n + 8)
        cdef PrHandle *tasks = <PrHandle *> <char *> room
        n = min(n, pr_put_off(&self.s, tasks, n))
        return [tasks[i] for i in range(n)]

    def resume(self, PrHandle task):
        """A task that was put off is tried again now, if it is there still."""
        pr_resume(&self.s, task)

    def is_pending(self, PrHandle task):
        """Whether that task is not over."""
        cdef PrTaskEntry found
        return pr_look_at_task(&self.s, task, &found) != 0

    def running(self):
        """What each worker runs: dicts of its `pid` and, unless it is idle, of a `task`.

        That is the handle; `owner` tells apart who submitted it, `began` is the time in ns when it
        was taken (an actor's creation lasts as long as the actor), `sequence` the order of
        submission.
        """
        cdef uint32_t room = self.s.control.n_processes, n, i
        cdef PrRunning *found = <PrRunning *> PyMem_RawMalloc((room + 1) * sizeof(PrRunning))
        if found == NULL:
            raise MemoryError
        try:
            n = min(room, pr_running(&self.s, found, room))
            return [running_of(&found[i]) for i in range(n)]
        finally:
            PyMem_RawFree(found)

    def ask_to_leave(self, int pid):
        """That worker ends as soon as it has nothing to do."""
        cdef uint32_t i
        for i in range(1, self.s.control.n_processes):
            if <int> self.s.processes[i].pid == pid and self.s.processes[i].kind == PR_WORKER:
                self.s.processes[i].leave = 1
                pr_notify(&self.s, &self.s.processes[i])

    def trim(self):
        """Gives the pages of the arena's free memory back to the system."""
        with nogil:
            pr_trim(&self.s)

    def processes(self):
        """What each attached process is and does."""
        cdef uint32_t i
        cdef int pid
        cdef PrProcess *p
        result = []
        for i in range(1, self.s.control.n_processes):
            p = &self.s.processes[i]
            pid = pr_live_pid(&self.s, i)
            if not pid:
                continue
            state = "idle"
            if p.running:
                state = "blocked" if p.blocked else "busy"
            found = {
                "pid": pid, "kind": KIND_NAMES[p.kind], "index": i,
                "env": p.env, "state": state, "finished": p.finished}
            if pr_live_pid(&self.s, i) == pid:  # else its slot may be another's
                result.append(found)
        return result

    def request_exit(self):
        """All workers leave as soon as they have nothing to do."""
        cdef uint32_t i
        for i in range(1, self.s.control.n_processes):
            if self.s.processes[i].kind == PR_WORKER:
                self.s.processes[i].leave = 1
                pr_notify(&self.s, &self.s.processes[i])

    def actor_states(self):
        """How many actors are ALIVE, and how many PENDING: those wait for a process."""
        cdef uint32_t i
        cdef int state
        found = {"ALIVE": 0, "PENDING": 0}
        self.check()
        for i in range(1, self.s.control.actors.used):
            if pr_state(self.s.actors[i].state) == PR_ACTOR_LIVE:
                state = pr_state(self.s.tasks[pr_slot(self.s.actors[i].creation)].state)
                found["ALIVE" if state == PR_TASK_RUNNING else "PENDING"] += 1
        return found

    def demands(self):
        """What tasks and actors that wait to be run want, and how many of each there are."""
        cdef uint32_t i
        cdef int state
        counts = {}
        self.check()
        for i in range(1, self.s.control.tasks.used):
            state = pr_state(self.s.tasks[i].state)
            if state != PR_TASK_WAITING and state != PR_TASK_READY:
                continue
            if not self.s.tasks[i].flags & PR_TASK_CALL:
                shape = self.s.tasks[i].shape
                counts[shape] = counts.get(shape, 0) + 1
        return [(self.shape_resources(shape), count) for shape, count in counts.items()]

    def stats(self):
        """Bytes of the arena, objects and tasks by number, and counters."""
        cdef PrArenaStats a
        cdef PrControl *c = self.s.control
        self.check()
        pr_block_stats(&self.s, &a)
        return {
            "capacity": a.capacity, "used": a.used, "peak": a.peak, "blocks": a.blocks,
            "free_blocks": a.free_blocks, "largest_free": a.largest_free, "touched": a.touched,
            "object_slots": c.objects.used - 1, "task_slots": c.tasks.used - 1,
            "objects": self.count_objects(), "deaths": c.deaths,
            "retries": c.retries, "recoveries": c.epoch,
            "spilled_bytes": c.spilled_bytes, "spilled_objects": c.n_spilled,
            "restored_bytes": c.restored_bytes, "restored_objects": c.n_restored,
            "evicted_objects": c.n_evicted, "waiting_for_room": c.n_wanting,
            "lineage_tasks": c.n_lineage, "lineage_bytes": c.lineage_bytes,
            "lineage_dropped": c.n_lineage_dropped, "reconstructed_tasks": c.n_reconstructed}

    def pinned(self):
        """Bytes of sealed objects that each process reads now, by pid."""
        cdef uint32_t i
        cdef int pid
        found = {}
        for i in range(1, self.s.control.n_processes):
            pid = pr_live_pid(&self.s, i)
            if pid:
                size = pr_pinned_bytes(&self.s, i)
                if size:
                    found[pid] = size
        return found

    def stop_spilling(self):
        """Nobody will make room any more: who waits for some is refused."""
        cdef uint64_t bytes = 0
        cdef uint32_t process
        self.s.control.spill_at = self.s.control.call_at = UINT64_MAX
        while True:
            process = pr_first_wanting(&self.s, &bytes)
            if not process:
                return
            pr_deny(&self.s, process)

    def wants_spiller(self):
        """Whether there is something for a spiller to do, and none."""
        return self.s.control.called and not self.s.control.spiller

    cdef uint64_t count_objects(self):
        cdef uint32_t i
        cdef uint64_t n = 0
        cdef int state
        for i in range(1, self.s.control.objects.used):
            state = pr_state(self.s.objects[i].state)
            n += PR_OBJECT_RESERVED <= state <= PR_OBJECT_FAILED
        return n


@cython.final
cdef class FileCopy:
    def __dealloc__(self):
        if self.mapped:
            munmap(self.memory, self.mapped)
        else:
            PyMem_RawFree(self.memory)


@cython.final
cdef class Pin:
    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, <void *> self.data, self.size, 1, flags)

    def private_copy(self):
        """The bytes for one's own use: pages are copied when they are first written."""
        return private_copy(self)

    def __dealloc__(self):
        cdef Session session = self.session
        if session is None:
            return
        if not session.closed and not session.dead:
            if self.pinned:
                pr_unpin(&session.s, self.slot)
            pr_release(&session.s, self.slot)
        end_use(session)


@cython.final
cdef class PrivateCopy:
    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.data, self.size, 0, flags)

    def __dealloc__(self):
        if self.mapping != NULL:
            munmap(self.mapping, self.mapped)
        else:
            PyMem_RawFree(self.data)


cdef PrivateCopy private_copy(Pin source):
    cdef PrivateCopy self = PrivateCopy.__new__(PrivateCopy)
    cdef FileCopy copy = source.copy
    self.size = source.size
    if source.size < WORTH_MAPPING or (copy is not None and not copy.mapped):
        self.data = PyMem_RawMalloc(source.size + 1)
        if self.data == NULL:
            raise MemoryError
        memcpy(self.data, source.data, source.size)
    elif copy is None:
        # The object may not change while pages of the mapping are those of the arena still.
        self.source = source
        map_privately(self, source.session.s.arena_fd,
                      <uint64_t> (source.data - source.session.s.read_base))
    else:
        fd = os.open(copy.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            map_privately(self, fd, copy.offset)
        finally:
            os.close(fd)
    return self


cdef object map_privately(PrivateCopy copy, int fd, uint64_t offset):
    """Bytes of a file from that offset on become those of the copy."""
    cdef uint64_t begin = offset & ~<uint64_t> (PAGE - 1)
    copy.mapped = offset + copy.size - begin
    copy.mapping = mmap(NULL, copy.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE,
                        fd, begin)
    if copy.mapping == MAP_FAILED:
        copy.mapping = NULL
        raise MemoryError(f"cannot map {copy.mapped} bytes privately: {os.strerror(errno)}")
    copy.data = <char *> copy.mapping + (offset - begin)


cdef void leave(Session session) noexcept:
    """Without views or calls of this process any more. A store's memory shall go with that, too."""
    pr_session_detach(&session.s, session.s.self.kind == PR_CLIENT)


cdef void begin_use(Session session) noexcept:
    """Until end_use, this process keeps its place in the session, though it be closed."""
    session.pins += 1


cdef void end_use(Session session) noexcept:
    session.pins -= 1
    if session.closed and not session.pins and not session.dead:
        leave(session)


cdef Pin pin(Session session, uint32_t slot, int64_t deadline=-1):
    """An object's bytes, which stay as long as this. The process holds it meanwhile.

    Raises _spilled.Late if they have to be fetched, and are not there by then (of pr_now(); -1: it
    takes as long as it takes).
    """
    cdef Pin self = Pin.__new__(Pin)
    cdef PrObject *o = &session.s.objects[slot]
    cdef int status
    pr_hold(&session.s, slot)
    begin_use(session)
    self.session = session
    self.slot = slot
    status = pr_pin(&session.s, slot)
    while status == PR_AWAY:
        from pyray.store._spilled import find_value
        self.copy = find_value(session, slot, deadline)
        if self.copy is not None:
            self.data = self.copy.data
            self.size = self.copy.size
            return self
        status = pr_pin(&session.s, slot)
    self.pinned = status == 1
    self.data = pr_message_of(&session.s, o)
    self.size = o.size
    return self


cdef int drop(Session session, uint32_t slot) except -1:
    if not session.closed and not session.dead:
        pr_release(&session.s, slot)
    return 0
