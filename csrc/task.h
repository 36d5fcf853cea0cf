/* Tasks: submission, dependencies, running, results; see session.h.
 *
 *     FREE -> CACHED -> WAITING -> READY -> RUNNING -> DYING -> CACHED -> FREE
 *                                        -> CANCELLED -> CACHED
 *
 * RUNNING may become DONE instead of DYING, and WAITING again after that: lineage.h.
 *
 * A task holds its dependencies, its arguments' object, its label and its returns. The label is an
 * object that refers to the function, so that both stay while tasks need them, and no longer.
 * RUNNING goes back to READY when it is tried again, or to WAITING if that is put off.
 */
#ifndef PYRAY_TASK_H
#define PYRAY_TASK_H

#include "session.h"

typedef struct {
    uint32_t function; /* object slots */
    uint32_t label;    /* that this process holds, or 0 */
    uint32_t shape;
    uint32_t n_returns; /* objects */
    uint32_t flags;
    int32_t retries;              /* < 0: no limit */
    const uint32_t *dependencies; /* slots that this process holds */
    uint32_t n_dependencies;
    PrHandle arguments; /* an object that this process holds, or 0 with: */
    const void *inline_arguments;
    uint32_t arguments_size; /* at most PR_INLINE_ARGUMENTS */
    uint32_t backlog;        /* of PrTask; at most 65535 */
    PrHandle parent;
    uint32_t actor; /* with PR_TASK_CREATION or PR_TASK_CALL: slot */
    uint32_t limit; /* of calls of this process to the actor that are not over; 0: none */
    uint32_t job;
} PrCall;

typedef struct {
    uint32_t seen;
    int64_t longest;
} PrNap;

/* Queues a task. returns[] gets the n_returns handles of its results, held by this process. 0,
 * PR_FULL, PR_LIMIT for more than 65535 of them, or PR_BUSY: the call's limit is reached. */
int pr_submit(PrSession *s, const PrCall *call, PrHandle *returns);

/* The next task for this worker, RUNNING; waits at most until `deadline`. 0, PR_TIMEOUT,
 * PR_INTERRUPTED, PR_ENDED: the worker shall leave. */
int pr_next_task(PrSession *s, uint32_t *task, int64_t deadline);
/* The same in steps, of which only the sleep in between may be without the lock that keeps this
 * process' threads apart: 0, PR_ENDED, or PR_TIMEOUT: this worker is idle, and is to sleep until
 * its event is not nap->seen, at most nap->longest ns (-1: no limit), and then to say how that
 * ended. pr_after_nap returns what pr_next_task would; PR_TIMEOUT: look again. */
int pr_look_for_task(PrSession *s, uint32_t *task, PrNap *nap);
int pr_after_nap(PrSession *s, int status);
/* A task that waits in this worker's own queue; 0 if none. Never waits. */
uint32_t pr_next_queued(PrSession *s);
/* The results are sealed, or there is nothing to seal: the task is over. */
void pr_finish(PrSession *s, uint32_t task);
/* What becomes of a task whose process has died, if it has retries left. */
typedef enum {
    PR_RETRY_COUNTED = 0, /* tried again, which costs a retry */
    PR_RETRY_LATER = 1,   /* tried again for nothing, when pr_resume says so */
    PR_RETRY_NEVER = 2
} PrRetry;

/* The task shall run again: 1, or 0 if it has no retries left, or was cancelled. */
int pr_retry(PrSession *s, uint32_t task);
/* Tasks that are put off, up to `room` of them; how many there are. */
uint32_t pr_put_off(const PrSession *s, PrHandle *tasks, uint32_t room);
/* One that is put off, unless it is over by now: to the queue. */
void pr_resume(PrSession *s, PrHandle task);
/* All results that are not sealed yet fail, and the task is over. */
void pr_fail_task(PrSession *s, uint32_t task, int code, const char *text);
/* All results that are not sealed yet fail as that object did, and the task is over. */
void pr_fail_task_like(PrSession *s, uint32_t task, uint32_t failed);
/* Slot of the task's k-th dependency. */
uint32_t pr_dependency(const PrSession *s, const PrTask *t, uint32_t k);
/* The first dependency that FAILED, or 0. */
uint32_t pr_failed_dependency(const PrSession *s, uint32_t task);

/* Asks the task that is to make the object to stop. 0: it will not run; 1: it runs, by the process
 * *worker, or 0 if that is dead; 2: it is over, or was no task's; 3: as 1, a call of an actor,
 * whose process was told. */
int pr_cancel(PrSession *s, PrHandle object, uint32_t *worker);
/* A task that was asked to stop may have been about to sleep when the signal came, and not noticed:
 * who waits for its results now and then asks again, until the worker says that it has heard. So
 * does the node, for those that nobody waits for: of how many. */
uint32_t pr_ask_all_again(PrSession *s);
void pr_ask_again(PrSession *s, const uint32_t *slots, size_t n);
/* The worker has heard: 1; 0: it had before, and this signal is one that came too late. */
int pr_heard(PrSession *s, uint32_t task);
/* Children of a task that are not over, calls of actors too, but no actors: calls `each` with the
 * first return's handle. */
void pr_each_child(PrSession *s, PrHandle parent, void (*each)(void *, PrHandle), void *with);

/* What the task makes: its returns; of a generator that is DONE, or runs again after that, those of
 * its items that can be made again. 0: no more. */
static inline uint32_t pr_first_result(const PrTask *t) {
    if (!atomic_load_explicit(&t->n_returns, memory_order_relaxed)) return 0;
    int items = (atomic_load_explicit(&t->flags, memory_order_relaxed) & PR_TASK_ITEMS) != 0;
    return atomic_load_explicit(items ? &t->items : &t->first_return, memory_order_relaxed);
}

uint32_t pr_next_result(const PrSession *s, const PrTask *t, uint32_t slot);

/* -- for object.c, schedule.c and recover.c ---------------------------------------------------- */

const PrDependency *pr_dependencies(const PrSession *s, const PrTask *t);
int pr_fill_tasks(PrSession *s);
void pr_flush_tasks(PrSession *s, uint32_t keep);
void pr_set_task_state(PrTask *t, uint64_t state);
/* DYING, and nothing is left of it: the slot goes back to the magazine. Inside; may wait for a
 * lock.
 */
void pr_recycle_task(PrSession *s, uint32_t task);
/* The edges of an object that is sealed by now; tasks that miss nothing more go to their queues,
 * unless there was a rebuild after `epoch`. */
void pr_resolve_edges(PrSession *s, uint64_t edges, uint64_t epoch);
/* What a task holds is given back, and its slot. It is DYING or CANCELLED. Inside. */
void pr_bury_task(PrSession *s, uint32_t task);
/* READY, and in no queue any more: RUNNING by this process, 1; or 0, if it was cancelled, which
 * ends it. Inside. */
int pr_start_task(PrSession *s, uint32_t task);
/* One that misses nothing: READY, unless it was cancelled meanwhile. */
void pr_make_task_ready(PrTask *t);
/* Has the dependencies tell the task when they are sealed. How many are. */
uint32_t pr_link_dependencies(PrSession *s, uint32_t task);
/* The worker that runs the task, 0: none. A recovery that is about to fail it does not count. */
uint32_t pr_runner(const PrSession *s, PrHandle task);
/* A task that nobody runs shall never be: 1 if so. Its results fail. */
int pr_cancel_unbegun(PrSession *s, PrHandle task);
/* The same in steps. The task is CANCELLED, by this process, which is to fail its results and then
 * to end it: the state before, WAITING or READY; 0: it is neither, or gone. */
int pr_take_unbegun(PrSession *s, PrHandle task);
/* `waited`: it was WAITING. Who comes second, this or the one that pops it, buries it. */
void pr_end_cancelled(PrSession *s, uint32_t task, int waited);
/* A CANCELLED one is in no queue and no list any more. Inside; may wait for locks. */
void pr_pop_cancelled(PrSession *s, uint32_t task);
/* All results that are not sealed yet fail; or do so as that object did. */
void pr_fail_returns(PrSession *s, uint32_t task, int code, const char *text);
void pr_fail_returns_like(PrSession *s, uint32_t task, uint32_t failed);
/* As pr_fail_task, of a task that nobody runs any more. */
void pr_drop_task(PrSession *s, uint32_t task, int code, const char *text);

/* The word of a task that this process cancels; and who that is. */
static inline uint64_t pr_cancelled(uint64_t word, uint32_t process) {
    return (word & ~(uint64_t)UINT32_MAX) | (uint64_t)process << PR_CANCELLER | PR_TASK_CANCELLED;
}

static inline uint32_t pr_canceller(uint64_t word) {
    return (uint32_t)word >> PR_CANCELLER;
}

/* -- schedule.c -------------------------------------------------------------------------------- */

/* Resource kinds and shapes are registered once. Amounts are in 1 / PR_UNIT. >= 0, or PR_LIMIT. */
int pr_resource(PrSession *s, const char *name, int64_t total);
int pr_shape(PrSession *s, const PrNeed *needs, uint32_t n, uint32_t env);
/* Of so many GPUs, what the g-th has. */
int64_t pr_gpu_total(int64_t total, int g);
/* Tasks linked by `next`, all READY and of one shape, go to its queue, and workers are told. */
void pr_queue_tasks(PrSession *s, uint32_t shape, uint32_t head, uint32_t tail, uint32_t n,
                    uint64_t epoch);
/* Under the queue's lock: tasks linked by `next` at its end; and at most *n from its front, 0 if it
 * is empty, of which *tail is the last. */
void pr_queue_append(PrSession *s, PrQueue *q, uint32_t head, uint32_t tail, uint32_t n);
uint32_t pr_queue_detach(PrSession *s, PrQueue *q, uint32_t *n, uint32_t *tail);
/* Cancelled tasks at the front of a queue of a shape's, or an actor's, leave it: nobody else ever
 * does so if their resources, or the actor's, are never free. Inside; may wait for locks. */
void pr_drop_cancelled(PrSession *s, PrQueue *q);
/* Tasks that this worker has taken and not begun are for others. Inside. */
void pr_give_queue(PrSession *s);
/* A worker waits for objects: its CPU, and the tasks in its own queue, are for others; and back. */
void pr_block(PrSession *s);
void pr_unblock(PrSession *s);
/* Wakes idle workers if tasks wait behind one that takes long, for them to steal: for those who
 * have waited for a while. */
void pr_rescue(PrSession *s);
/* This new worker will look for tasks at once: no other need be started meanwhile. */
void pr_coming(PrSession *s);
/* It is about to seal the last result of its task, and then to look for the next one at once. */
void pr_returning(PrSession *s);
/* Gives back the resources a worker holds, and the tasks in its own queue. */
void pr_worker_rest(PrSession *s);
/* Whether a shape's needs are free now; 1 if it could ever be with `ever`. */
int pr_fits(const PrSession *s, const PrShape *shape, int ever);
/* A worker is woken, or the node told, if that shape's tasks can run. */
void pr_kick(PrSession *s, uint32_t shape);
/* Environments and numbers of workers to be started now, at most `room`; for the node. */
uint32_t pr_wanted(PrSession *s, uint32_t *envs, uint32_t *counts, uint32_t room);

/* -- recover.c --------------------------------------------------------------------------------- */

/* The process in that slot is dead: stops the world and makes all caches anew; its tasks are tried
 * again or fail with `text`. Also finds others that died meanwhile. */
void pr_recover(PrSession *s, uint32_t process, int code, const char *text);
/* The same of one that was killed on purpose: what becomes of the task it ran, but for actors and
 * their calls, whose retries are counted. */
void pr_recover_killed(PrSession *s, uint32_t process, int code, const char *text, PrRetry retry);
/* Slot of a process that is dead and not recovered; 0: there is none. */
uint32_t pr_find_dead(PrSession *s);
/* Recovers from the deaths of whoever is dead, if anybody is: whether anybody was. For sessions
 * without a node, where any process may find out at any time. The caller is outside. */
int pr_recover_dead(PrSession *s);

#endif
