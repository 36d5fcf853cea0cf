/* Actors: a worker of their own, and a queue of calls; see session.h.
 *
 *     FREE -> LIVE -> DEAD -> FREE
 *
 * An object stands for an actor: handles are references to it. The task that makes the actor, its
 * creation, is RUNNING as long as the actor lives, by the process that serves it: so it holds its
 * resources and its arguments, and is tried again if the process dies (retries: restarts). Its one
 * result is sealed when the actor ends, as a failure, which is that of all calls from then on.
 *
 * Calls of one process run in the order of their submission: one whose dependencies are missing
 * holds back those that the process submits after it. When it goes to the queue, it lets the next
 * one go (`follower`). One that was cancelled does so as soon as it has been let go itself.
 *
 * An actor ends when no other process refers to its object and it has no calls left, be it made by
 * then or not, when its creation fails, when its process leaves, and when it is killed.
 */
#ifndef PYRAY_ACTOR_H
#define PYRAY_ACTOR_H

#include "task.h"

/* `object` (RESERVED, with a block, its bytes written) is sealed to stand for a new actor, which
 * `creation` will make. `key` of its name, or NULL. *death is what it will have died of, held by
 * this process. 0, PR_FULL, PR_LIMIT (too many actors), or PR_STALE: there is one of that name. If
 * it is not 0, the object is gone. */
int pr_actor_create(PrSession *s, PrHandle object, const uint8_t *key, uint32_t flags,
                    PrCall *creation, PrHandle *death);
/* The actor that an object which this process holds stands for; 0: none. */
uint32_t pr_actor_of(const PrSession *s, uint32_t object);
/* The object of the live actor of that name, held by this process once more; or 0. */
PrHandle pr_actor_find(PrSession *s, const uint8_t key[24]);
/* What is to be done to end it on purpose, unless the slot is another's by now. With `restart`, it
 * may be made anew. The process to be killed, 0 if none serves it. */
uint32_t pr_actor_kill(PrSession *s, PrHandle actor, int restart);
/* The object of that actor if it lives, held by this process once more; or 0. */
PrHandle pr_actor_hold(PrSession *s, uint32_t actor);
/* Of live actors, up to `room` slots; how many there are. */
uint32_t pr_actor_list(PrSession *s, uint32_t *actors, uint32_t room);

/* -- limits, limit.c --------------------------------------------------------------------------- */

typedef struct PrOwnCalls PrOwnCalls;

/* Whether this process, which holds its object, may call it once more, if it may have so many calls
 * (> 0) that are not over: 0, PR_BUSY, or PR_FULL. And then it has done so. */
int pr_may_call(PrSession *s, uint32_t actor, uint32_t limit);
void pr_note_call(PrSession *s, uint32_t actor, PrHandle call);
/* What this process knows of its own calls, at its end. */
void pr_forget_calls(PrSession *s);

/* -- for the process that serves it ------------------------------------------------------------ */

/* The creation that this process runs makes it the actor's: other tasks it has taken go back. */
void pr_actor_begin(PrSession *s, uint32_t creation);
/* The next call, RUNNING; 0: there is none. */
uint32_t pr_next_call(PrSession *s, uint32_t actor);
/* In two steps, for who cannot run it at once: the next call, READY still, and of which epoch that
 * is true; 0: there is none. */
uint32_t pr_take_call(PrSession *s, uint32_t actor, uint64_t *epoch);
/* One that was taken is RUNNING then: 1. 0: it was cancelled, or is in the queue again. */
int pr_begin_call(PrSession *s, uint32_t task, uint64_t epoch);
/* Says that the process waits for calls: 1 if it has to, after which who submits one notifies it.
 */
int pr_actor_idle(PrSession *s, uint32_t actor);
/* Whether calls wait that no thread of this process has begun; if none, who submits one notifies
 * it. */
int pr_calls_wait(PrSession *s, uint32_t actor);
/* Nobody else refers to it, and it has no calls: nobody will ever call it again. */
int pr_actor_unwanted(PrSession *s, uint32_t actor);

/* -- for task.c, object.c and recover.c; all inside ----------------------------------------------
 */

/* The creation is about to be queued. */
void pr_actor_born(PrSession *s, uint32_t task);
/* A new call: to the queue, or behind what it has to wait for. */
void pr_submit_call(PrSession *s, uint32_t task, uint64_t epoch);
/* A call that misses nothing any more: it and its followers go to the queue. */
void pr_release_call(PrSession *s, uint32_t task, uint64_t epoch);
/* One that waits for what it misses is CANCELLED, by this process: it counts no longer, and holds
 * back no other. May wait for a lock. */
void pr_call_cancelled(PrSession *s, uint32_t task);
/* Tried again, ahead of the others, by the process that runs it. */
void pr_call_again(PrSession *s, uint32_t task);
/* It is not pending any more. */
void pr_call_over(PrSession *s, uint32_t actor);
/* Its creation, that task or none (0), is over: DEAD from now on. 1 for who has done so, and is to
 * end it; 0: another has, or the slot is another actor's by now. Waits for nothing. */
int pr_actor_die(PrSession *s, uint32_t actor, PrHandle creation);
/* And then: its calls fail, unless there was a recovery since `epoch`, which sees to that. */
void pr_actor_end(PrSession *s, uint32_t actor, uint64_t epoch);
/* The results of a call of a dead actor fail as that did. */
void pr_fail_as_actor(PrSession *s, uint32_t task);
/* Calls of dead actors that are in their queues, or wait for what they miss, fail. Outside. */
void pr_fail_calls(PrSession *s);
/* It has lost a reference, or a call: its object dies if it was the last of both, and of a dead
 * actor. Both may be gone, and others in their slots. Waits for nothing. */
void pr_actor_let_go(PrSession *s, PrHandle object, uint32_t actor);
/* Nobody referred to that object of an actor: unless a process has begun to make the actor, and
 * will see that itself, it ends. May wait for locks. */
void pr_actor_unmade(PrSession *s, PrHandle object);
/* Its object is gone. May wait for a lock. */
void pr_actor_free(PrSession *s, uint32_t actor);

static inline int pr_actor_state(const PrActor *a) {
    return pr_state(atomic_load(&a->state));
}

/* Of the slot's generation, without flags. */
static inline void pr_set_actor_state(PrActor *a, uint64_t state) {
    uint64_t word = atomic_load_explicit(&a->state, memory_order_relaxed);
    atomic_store(&a->state, (word & ~(uint64_t)UINT32_MAX) | state);
}

static inline uint32_t pr_pending_calls(const PrActor *a) {
    uint32_t over = atomic_load(&a->over); /* first: it is never more than were submitted */
    return atomic_load(&a->calls) - over;
}

/* The task makes an actor that was killed: it is not tried again. */
static inline int pr_is_killed(const PrSession *s, const PrTask *t) {
    return t->flags & PR_TASK_CREATION && atomic_load(&s->actors[t->actor].state) & PR_KILLED;
}

/* The actor that is in that slot now. */
static inline PrHandle pr_actor_handle(const PrSession *s, uint32_t actor) {
    return pr_handle(atomic_load(&s->actors[actor].state), actor);
}

static inline uint32_t *pr_actor_in(PrObject *o) {
    return (uint32_t *)(void *)o->bytes;
}

#endif
