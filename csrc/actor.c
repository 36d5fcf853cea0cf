/* Actors; see actor.h.
 *
 * Order of stores: an actor is LIVE, with `owner` and `object`, before its object is sealed, and
 * that before the creation is READY. A crash in between leaves a LIVE one without creation whose
 * owner is dead, or an object that is not sealed: the recovery frees both.
 *
 * The end: first the creation is over (task.c), then the actor DEAD, then its calls fail: those in
 * its queue by who ends it, those that wait for what they miss by the node, which looks through all
 * tasks for them. A crash in between leaves calls of a dead actor, which the recovery fails.
 *
 * A call that waits is in the lists of objects and of an earlier call. When it is ended there its
 * results fail, and it counts no longer (PR_TASK_OVER): the actor may be gone before it. The slot
 * is given back when nothing is missing any more, by who finds that out, and goes to no queue.
 *
 * Two may want to end it: who kills it before it is made, and who finds its creation cancelled. Who
 * sets PR_ENDING does so; the other one must not touch the slot, which may be another actor's soon.
 *
 * Which of those two frees the object that see both that the actor is dead and that nobody refers
 * to it, is decided by the change of the object's state to DYING.
 */
#include "actor.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "futex.h"
#include "lineage.h"
#include "object.h"
#include "spares.h"

enum {
    MANY = 1024, /* calls: up to so many are taken at a time, without a look at each of them, */
    SOME = 32,   /* and of more than that so many */
    STREAM = 256,
    FEW = 16,
    LITTLE = 4,
    PAUSE = 2000, /* ns */
    LONGER = 2
};

static PrActor *actor_of(const PrSession *s, const PrTask *t) {
    return &s->actors[t->actor];
}

static void fail_queue(PrSession *s, PrActor *a, uint64_t epoch);
static int fail_unbegun(PrSession *s, PrHandle call);

/* -- making ------------------------------------------------------------------------------------ */

static int is_named(const PrActor *a, const uint8_t *key) {
    return pr_actor_state(a) == PR_ACTOR_LIVE && memcmp(a->key, key, sizeof a->key) == 0;
}

/* Under the table's lock. */
static uint32_t find_name(const PrSession *s, const uint8_t *key) {
    uint32_t used = atomic_load(&s->control->actors.used);
    for (uint32_t i = 1; i < used; i++)
        if (is_named(&s->actors[i], key)) return i;
    return 0;
}

static uint32_t take_actor(PrSession *s) {
    PrTable *table = &s->control->actors;
    uint32_t actor = table->head, used = atomic_load(&table->used);
    if (actor) {
        table->head = s->actors[actor].next;
        pr_crash_point();
        table->n_free--;
    } else if (used < table->limit) {
        atomic_store(&table->used, used + 1);
        actor = used;
    }
    return actor;
}

/* Its object is gone: nobody knows the actor any more, and it has no calls. */
void pr_actor_free(PrSession *s, uint32_t actor) {
    PrActor *a = &s->actors[actor];
    PrTable *table = &s->control->actors;
    uint32_t death = pr_slot(a->death);
    uint64_t word = atomic_load(&a->state), epoch = pr_epoch(s);
    a->death = 0;
    pr_crash_point();
    atomic_store(&a->state, ((word >> 32) + 1) << 32 | PR_ACTOR_FREE);
    if (death) pr_unref(s, death);
    pr_lock(s, &table->lock);
    if (pr_epoch(s) == epoch) {
        a->next = table->head;
        pr_crash_point();
        table->head = actor;
        pr_crash_point();
        table->n_free++;
    }
    pr_unlock(&table->lock);
}

/* LIVE, and nothing of it there yet. 0, PR_LIMIT, PR_STALE. */
static int new_actor(PrSession *s, uint32_t object, const uint8_t *key, uint32_t flags,
                     uint32_t job, uint32_t *actor) {
    PrTable *table = &s->control->actors;
    int status = 0;
    pr_lock(s, &table->lock);
    if (key && find_name(s, key)) {
        status = PR_STALE;
    } else if (!(*actor = take_actor(s))) {
        status = PR_LIMIT;
    } else {
        PrActor *a = &s->actors[*actor];
        a->owner = s->index;
        a->object = object;
        atomic_store(&a->job, job);
        a->death = 0;
        memset(a->key, 0, sizeof a->key);
        if (key) memcpy(a->key, key, sizeof a->key);
        atomic_store(&a->flags, flags);
        atomic_store(&a->creation, 0);
        atomic_store(&a->worker, 0);
        atomic_store(&a->calls, 0);
        atomic_store(&a->over, 0);
        atomic_store(&a->idle, 0);
        atomic_store(&a->cancels, 0);
        pr_set_actor_state(a, PR_ACTOR_LIVE);
        if (flags & PR_ACTOR_DETACHED) atomic_fetch_add(&s->objects[object].refs, 1);
    }
    pr_unlock(&table->lock);
    return status;
}

int pr_actor_create(PrSession *s, PrHandle object, const uint8_t *key, uint32_t flags,
                    PrCall *creation, PrHandle *death) {
    PrObject *o = &s->objects[pr_slot(object)];
    uint32_t actor;
    pr_enter(s);
    int status = new_actor(s, pr_slot(object), key, flags, creation->job, &actor);
    if (status) {
        pr_abandon(s, object);
    } else {
        *pr_actor_in(o) = actor;
        pr_crash_point();
        pr_make_ready(s, pr_slot(object), PR_OBJECT_SEALED | PR_ACTOR);
        creation->actor = actor;
        creation->flags |= PR_TASK_CREATION;
        creation->n_returns = 1;
        status = pr_submit(s, creation, death);
        if (status) {
            if (pr_actor_die(s, actor, 0)) pr_actor_end(s, actor, pr_epoch(s));
            pr_release(s, pr_slot(object));
        }
    }
    pr_leave(s);
    return status;
}

void pr_actor_born(PrSession *s, uint32_t task) {
    const PrTask *t = &s->tasks[task];
    PrActor *a = actor_of(s, t);
    uint32_t slot = atomic_load(&t->first_return);
    atomic_fetch_add(&s->objects[slot].refs, 1);
    a->death = pr_handle(atomic_load(&s->objects[slot].state), slot);
    atomic_store(&a->creation, pr_handle(atomic_load(&t->state), task));
}

uint32_t pr_actor_of(const PrSession *s, uint32_t object) {
    PrObject *o = &s->objects[object];
    return atomic_load(&o->state) & PR_ACTOR ? *pr_actor_in(o) : 0;
}

/* The one of that name, or in that slot, if there is no name. */
static PrHandle hold_actor(PrSession *s, const uint8_t *key, uint32_t actor) {
    PrHandle found = 0;
    pr_enter(s);
    pr_lock(s, &s->control->actors.lock);
    if (key) actor = find_name(s, key);
    const PrActor *a = &s->actors[actor];
    uint32_t slot = a->object;
    uint64_t word = atomic_load(&a->state);
    int there = actor && pr_state(word) == PR_ACTOR_LIVE && atomic_load(&a->creation) &&
                pr_hold_if_held(s, slot);
    if (there) found = pr_handle(atomic_load(&s->objects[slot].state), slot);
    /* It may have ended meanwhile, and what we hold be another object in the same slot. */
    int same = pr_same(atomic_load(&a->state), word);
    pr_unlock(&s->control->actors.lock);
    if (there && !same) pr_release(s, slot);
    pr_leave(s);
    return same ? found : 0;
}

PrHandle pr_actor_find(PrSession *s, const uint8_t key[24]) {
    return hold_actor(s, key, 0);
}

PrHandle pr_actor_hold(PrSession *s, uint32_t actor) {
    return hold_actor(s, NULL, actor);
}

uint32_t pr_actor_list(PrSession *s, uint32_t *actors, uint32_t room) {
    uint32_t used = atomic_load(&s->control->actors.used), n = 0;
    for (uint32_t i = 1; i < used; i++) {
        if (pr_actor_state(&s->actors[i]) != PR_ACTOR_LIVE) continue;
        if (n < room) actors[n] = i;
        n++;
    }
    return n;
}

/* -- calls ------------------------------------------------------------------------------------- */

/* To the actor's queue, if there was no rebuild since `epoch`, which does the same; the follower of
 * the call, to which it is no obstacle any more, or 0. */
static uint32_t queue_call(PrSession *s, uint32_t task, uint64_t epoch) {
    PrTask *t = &s->tasks[task];
    PrActor *a = actor_of(s, t);
    uint64_t follower = PR_RELEASED;
    pr_lock(s, &a->queue.lock);
    if (pr_epoch(s) == epoch) {
        atomic_store_explicit(&t->next, 0, memory_order_relaxed);
        pr_queue_append(s, &a->queue, task, task, 1);
        /* Under the lock: who finds it released queues its own call behind it. */
        follower = atomic_load(&t->follower);
        if (follower != PR_RELEASED)
            follower = (uint32_t)atomic_fetch_or(&t->follower, PR_RELEASED);
    }
    pr_unlock(&a->queue.lock);
    if (pr_actor_state(a) == PR_ACTOR_DEAD) {
        pr_call_node(s);
    } else if (atomic_load(&a->idle) && atomic_exchange(&a->idle, 0)) {
        pr_notify(s, &s->processes[atomic_load(&a->worker)]);
    }
    return follower == PR_RELEASED ? 0 : (uint32_t)follower;
}

/* For one who does so: the call is no obstacle to its follower any more, which is returned, or 0 if
 * there is none, another has been faster, or the slot is another task's by now. */
static uint32_t take_follower(PrSession *s, PrHandle call) {
    _Atomic uint64_t *follower = &s->tasks[pr_slot(call)].follower;
    uint64_t word = atomic_load(follower);
    do {
        if (!pr_same(word, call) || (uint32_t)word == PR_RELEASED) return 0;
    } while (!atomic_compare_exchange_weak(follower, &word, word | PR_RELEASED));
    return (uint32_t)word;
}

/* One that misses nothing goes to the queue, or is given back if it was cancelled meanwhile. Its
 * follower, or 0. */
static uint32_t release_one(PrSession *s, uint32_t task, uint64_t epoch) {
    PrTask *t = &s->tasks[task];
    pr_make_task_ready(t);
    uint64_t word = atomic_load(&t->state);
    if (pr_state(word) != PR_TASK_CANCELLED) return queue_call(s, task, epoch);
    uint32_t follower = take_follower(s, pr_handle(word, task));
    pr_pop_cancelled(s, task);
    return follower;
}

/* So much of what the call misses has come; its follower if it may go, or 0. Who cancels it marks
 * it first and then looks whether it follows another, and here it is the other way round: at least
 * one of the two finds that it is an obstacle no longer. */
static uint32_t miss_less(PrSession *s, uint32_t task, uint32_t come, uint64_t epoch) {
    PrTask *t = &s->tasks[task];
    PrHandle call = pr_handle(atomic_load(&t->state), task); /* while it misses something */
    if (atomic_fetch_sub(&t->missing, come) == come) return release_one(s, task, epoch);
    if (!(come & PR_FOLLOWS)) return 0;
    uint64_t word = atomic_load(&t->state);
    int cancelled = pr_same(word, call) && pr_state(word) == PR_TASK_CANCELLED;
    return cancelled ? take_follower(s, call) : 0;
}

/* A follower, and those that it lets go in turn; 0: none. A recovery sees to all of them. */
static void let_go(PrSession *s, uint32_t task, uint64_t epoch) {
    while (task && pr_epoch(s) == epoch) task = miss_less(s, task, PR_FOLLOWS, epoch);
}

void pr_release_call(PrSession *s, uint32_t task, uint64_t epoch) {
    let_go(s, release_one(s, task, epoch), epoch);
}

void pr_call_cancelled(PrSession *s, uint32_t task) {
    PrTask *t = &s->tasks[task];
    uint64_t epoch = pr_epoch(s);
    atomic_fetch_or(&t->flags, PR_TASK_OVER);
    pr_call_over(s, t->actor);
    if (atomic_load(&t->missing) & PR_FOLLOWS) return;
    let_go(s, take_follower(s, pr_handle(atomic_load(&t->state), task)), epoch);
}

/* The latest call of this process to the actor, if it is not in the queue yet; it knows its
 * follower by the next one. */
static PrHandle held_call(PrSession *s, uint32_t actor) {
    PrHandle *held = s->held_calls ? &s->held_calls[actor] : NULL;
    if (!held || !*held || atomic_load(&s->actors[actor].flags) & PR_ACTOR_UNORDERED) return 0;
    uint64_t word = atomic_load(&s->tasks[pr_slot(*held)].follower);
    if (!pr_same(word, *held) || (uint32_t)word == PR_RELEASED) *held = 0;
    return *held;
}

/* Whether the call has to wait for that earlier one. */
static int follow(PrSession *s, PrHandle earlier, uint32_t task) {
    uint64_t none = earlier & ~(uint64_t)UINT32_MAX;
    return earlier &&
           atomic_compare_exchange_strong(&s->tasks[pr_slot(earlier)].follower, &none, none | task);
}

/* One missing for each dependency, the earlier call, and one for all of these together, so that it
 * does not go before they are linked. */
static void hold_back(PrSession *s, uint32_t task, PrHandle earlier, uint64_t epoch) {
    PrTask *t = &s->tasks[task];
    uint64_t word = atomic_load_explicit(&t->state, memory_order_relaxed);
    atomic_store_explicit(&t->follower, word & ~(uint64_t)UINT32_MAX, memory_order_relaxed);
    atomic_store(&t->missing, t->n_dependencies + 1 + PR_FOLLOWS);
    pr_set_task_state(t, PR_TASK_WAITING);
    uint32_t there = pr_link_dependencies(s, task) + 1;
    if (!follow(s, earlier, task)) there += PR_FOLLOWS;
    if (s->held_calls) s->held_calls[t->actor] = pr_handle(word, task);
    let_go(s, miss_less(s, task, there, epoch), epoch);
}

void pr_submit_call(PrSession *s, uint32_t task, uint64_t epoch) {
    PrTask *t = &s->tasks[task];
    PrActor *a = actor_of(s, t);
    PrHandle earlier = held_call(s, t->actor);
    PrHandle call = pr_handle(atomic_load_explicit(&t->state, memory_order_relaxed), task);
    atomic_fetch_add(&a->calls, 1);
    if (t->n_dependencies || earlier) {
        hold_back(s, task, earlier, epoch);
    } else {
        pr_set_task_state(t, PR_TASK_READY);
        queue_call(s, task, epoch);
    }
    if (pr_actor_state(a) != PR_ACTOR_DEAD) return;
    fail_unbegun(s, call);
    fail_queue(s, a, pr_epoch(s));
}

void pr_call_again(PrSession *s, uint32_t task) {
    if (s->calls && s->calls_epoch != pr_epoch(s)) s->calls = 0;
    atomic_store_explicit(&s->tasks[task].next, s->calls, memory_order_relaxed);
    s->calls = task;
    s->calls_epoch = pr_epoch(s);
}

/* -- serving ----------------------------------------------------------------------------------- */

void pr_actor_begin(PrSession *s, uint32_t creation) {
    PrActor *a = actor_of(s, &s->tasks[creation]);
    pr_enter(s);
    pr_give_queue(s);
    s->calls = 0;
    atomic_store(&a->worker, s->index);
    pr_call_node(s); /* there is a worker fewer for tasks */
    pr_leave(s);
}

/* Who runs calls faster than they come would take each as it comes: the queue's line, with its
 * lock, would go from core to core with every call, which holds up who submits them most of all. So
 * after STREAM calls, when only a FEW have come meanwhile, we wait until there are some more;
 * longer next time if these are few still, as long as that brings more, which it does not if all
 * callers wait for us; and not for the next STREAM calls if it was of no use. */
static void gather(PrSession *s, const PrQueue *q) {
    if (s->calls || s->n_streamed < STREAM) return;
    if (s->n_taken >= FEW && atomic_load_explicit(&q->count, memory_order_relaxed)) return;
    for (int64_t until = pr_now() + (PAUSE << s->longer); pr_now() < until;) pr_relax();
    uint32_t n = atomic_load_explicit(&q->count, memory_order_relaxed);
    if (n < LITTLE) {
        s->n_streamed = s->longer = s->n_gathered = 0;
    } else if (n < FEW && s->longer < LONGER) {
        int more = 2 * n >= 3 * s->n_gathered;
        s->longer = more ? s->longer + 1 : 0;
        s->n_gathered = more ? n : 0;
    }
}

/* The slots of calls are in their callers' caches, and each says where the next one is: they are
 * fetched some calls before they are needed. `ahead` is a call whose slot was fetched when this
 * process was here before; it may be over, as what it says is only used to fetch something. */
static void look_ahead(PrSession *s) {
    const PrTask *ahead = &s->tasks[s->ahead];
    if (!s->calls) return;
    uint32_t object = atomic_load_explicit(&ahead->first_return, memory_order_relaxed);
    uint32_t next = atomic_load_explicit(&ahead->next, memory_order_relaxed);
    pr_prefetch(&s->objects[object]);
    pr_prefetch(&s->tasks[next].state);
    pr_prefetch(&s->tasks[next].parent);
    s->ahead = next ? next : s->calls;
}

/* READY, or cancelled meanwhile. Inside. */
static uint32_t take_call(PrSession *s, PrQueue *q) {
    uint32_t n, tail;
    if (s->calls && s->calls_epoch != pr_epoch(s)) s->calls = 0;
    if (!s->calls && atomic_load(&q->count)) {
        pr_lock(s, &q->lock);
        s->calls_epoch = pr_epoch(s);
        n = atomic_load(&q->count) > MANY ? SOME : MANY;
        s->calls = s->ahead = pr_queue_detach(s, q, &n, &tail);
        pr_unlock(&q->lock);
        s->n_taken = n;
        s->n_streamed += n;
    }
    uint32_t task = s->calls;
    if (!task) return 0;
    s->calls = atomic_load_explicit(&s->tasks[task].next, memory_order_relaxed);
    look_ahead(s);
    return task;
}

uint32_t pr_next_call(PrSession *s, uint32_t actor) {
    uint32_t task;
    gather(s, &s->actors[actor].queue);
    pr_enter(s);
    do task = take_call(s, &s->actors[actor].queue);
    while (task && !pr_start_task(s, task));
    pr_leave(s);
    return task;
}

uint32_t pr_take_call(PrSession *s, uint32_t actor, uint64_t *epoch) {
    gather(s, &s->actors[actor].queue);
    pr_enter(s);
    uint32_t task = take_call(s, &s->actors[actor].queue);
    *epoch = s->calls_epoch;
    pr_leave(s);
    return task;
}

int pr_begin_call(PrSession *s, uint32_t task, uint64_t epoch) {
    pr_enter(s);
    int runs = pr_epoch(s) == epoch && pr_start_task(s, task);
    pr_leave(s);
    return runs;
}

/* Without references nobody submits a call, but one that is not over. What this process itself has
 * does not count: an actor that keeps a handle of itself would never end. */
static int seems_unwanted(const PrSession *s, const PrActor *a) {
    uint32_t own = s->held[a->object] != 0;
    return atomic_load(&s->objects[a->object].refs) == own && !pr_pending_calls(a);
}

/* Inside, if it seems so: a recovery counts references and calls anew. */
int pr_actor_unwanted(PrSession *s, uint32_t actor) {
    const PrActor *a = &s->actors[actor];
    if (!seems_unwanted(s, a)) return 0;
    pr_enter(s);
    int unwanted = seems_unwanted(s, a);
    pr_leave(s);
    return unwanted;
}

int pr_calls_wait(PrSession *s, uint32_t actor) {
    PrActor *a = &s->actors[actor];
    if ((s->calls && s->calls_epoch == pr_epoch(s)) || atomic_load(&a->queue.count)) return 1;
    if (pr_has_spares(s)) {
        pr_enter(s);
        pr_return_spares(s);
        pr_bury(s);
        pr_leave(s);
    }
    atomic_store(&a->idle, 1);
    return atomic_load(&a->queue.count) != 0;
}

int pr_actor_idle(PrSession *s, uint32_t actor) {
    return !pr_calls_wait(s, actor) && !pr_actor_unwanted(s, actor);
}

/* -- the end ----------------------------------------------------------------------------------- */

/* A killer may not have failed the death yet when a recovery finds the actor DEAD. */
void pr_fail_as_actor(PrSession *s, uint32_t task) {
    uint32_t death = pr_slot(actor_of(s, &s->tasks[task])->death);
    if (!death) pr_fail_returns(s, task, PR_ACTOR_DIED, "it was never made");
    else if (pr_is_ready(atomic_load(&s->objects[death].state)))
        pr_fail_returns_like(s, task, death);
    else pr_fail_returns(s, task, PR_ACTOR_DIED, "it was killed by kill()");
}

/* A call that no process will run. */
static void fail_call(PrSession *s, uint32_t task) {
    if (!pr_start_task(s, task)) return;
    pr_fail_as_actor(s, task);
    pr_finish(s, task);
}

/* Unless there is a recovery, which sees to the rest. The actor is DEAD, or was and is another by
 * now, whose queue is none of our business. */
static void fail_queue(PrSession *s, PrActor *a, uint64_t epoch) {
    uint32_t n, tail, task;
    do {
        n = 1;
        pr_lock(s, &a->queue.lock);
        int dead = pr_epoch(s) == epoch && pr_actor_state(a) == PR_ACTOR_DEAD;
        task = dead ? pr_queue_detach(s, &a->queue, &n, &tail) : 0;
        pr_unlock(&a->queue.lock);
        if (task) fail_call(s, task);
    } while (task);
}

/* A call of a dead actor that is in no process' hands: 1, or 0 if it is over, or about to be. */
static int fail_unbegun(PrSession *s, PrHandle call) {
    uint32_t task = pr_slot(call);
    int state = pr_take_unbegun(s, call);
    if (!state) return 0;
    pr_fail_as_actor(s, task);
    pr_end_cancelled(s, task, state == PR_TASK_WAITING);
    return 1;
}

/* A slot that is another task's by the end of the look has another word, and is left alone. */
static int fail_if_waiting(PrSession *s, uint32_t task) {
    const PrTask *t = &s->tasks[task];
    uint64_t word = atomic_load(&t->state);
    if (pr_state(word) != PR_TASK_WAITING || !(t->flags & PR_TASK_CALL)) return 0;
    if (pr_actor_state(actor_of(s, t)) != PR_ACTOR_DEAD) return 0;
    return atomic_load(&t->state) == word && fail_unbegun(s, pr_handle(word, task));
}

static int fail_waiting(PrSession *s) {
    uint32_t used = atomic_load(&s->control->tasks.used);
    int n = 0;
    for (uint32_t i = 1; i < used; i++) n += fail_if_waiting(s, i);
    return n;
}

/* Again as long as any are found: others may have waited for these. */
void pr_fail_calls(PrSession *s) {
    uint32_t used = atomic_load(&s->control->actors.used);
    for (int again = 1; again;) {
        int pending = again = 0;
        for (uint32_t i = 1; i < used; i++) {
            PrActor *a = &s->actors[i];
            if (pr_actor_state(a) != PR_ACTOR_DEAD) continue;
            if (atomic_load(&a->queue.count)) {
                pr_enter(s);
                fail_queue(s, a, pr_epoch(s));
                pr_leave(s);
                again = 1;
            }
            pending |= pr_pending_calls(a) != 0;
        }
        if (pending && fail_waiting(s)) again = 1;
    }
}

int pr_actor_die(PrSession *s, uint32_t actor, PrHandle creation) {
    PrActor *a = &s->actors[actor];
    uint64_t word = atomic_load(&a->state);
    /* The creation after the word, which is of the same actor then. */
    do {
        if (pr_state(word) != PR_ACTOR_LIVE || word & PR_ENDING ||
            atomic_load(&a->creation) != creation)
            return 0;
    } while (!atomic_compare_exchange_weak(&a->state, &word, word | PR_ENDING));
    atomic_fetch_add(&a->calls, 1); /* as one for us: it stays until pr_actor_end is through */
    pr_set_actor_state(a, PR_ACTOR_DEAD);
    return 1;
}

void pr_actor_end(PrSession *s, uint32_t actor, uint64_t epoch) {
    PrActor *a = &s->actors[actor];
    /* What this process had taken and not begun. */
    while (atomic_load(&a->worker) == s->index && s->calls && s->calls_epoch == pr_epoch(s) &&
           pr_epoch(s) == epoch) {
        uint32_t task = s->calls;
        s->calls = atomic_load_explicit(&s->tasks[task].next, memory_order_relaxed);
        fail_call(s, task);
    }
    fail_queue(s, a, epoch);
    if (pr_epoch(s) != epoch) return;
    if (pr_pending_calls(a) > 1) pr_call_node(s); /* some wait, perhaps */
    if (atomic_fetch_and(&a->flags, ~(uint32_t)PR_ACTOR_DETACHED) & PR_ACTOR_DETACHED)
        atomic_fetch_sub(&s->objects[a->object].refs, 1);
    pr_call_over(s, actor);
    pr_bury(s);
}

void pr_call_over(PrSession *s, uint32_t actor) {
    PrActor *a = &s->actors[actor];
    uint32_t slot = a->object;
    PrHandle object =
        pr_handle(atomic_load(&s->objects[slot].state), slot); /* which the call keeps */
    /* The last reference may be that of its own process. */
    uint32_t own = atomic_load(&a->worker) == s->index ? s->held[slot] != 0 : 1;
    atomic_fetch_add(&a->over, 1);
    if (atomic_load(&s->objects[slot].refs) <= own) pr_actor_let_go(s, object, actor);
}

/* Conditions that stay once all hold: DEAD, no references, no calls. They are read in this order,
 * as who ends it counts as a call before it is DEAD, and who refers to it counts a call before
 * letting go. What is read is that of one actor if the object's generation is still the same at the
 * end. */
void pr_actor_let_go(PrSession *s, PrHandle object, uint32_t actor) {
    const PrActor *a = &s->actors[actor];
    PrObject *o = &s->objects[pr_slot(object)];
    uint64_t word = atomic_load(&o->state), dying;
    do {
        if (!pr_same(word, object) || pr_state(word) != PR_OBJECT_SEALED) return;
        int dead = pr_actor_state(a) == PR_ACTOR_DEAD;
        uint32_t refs = atomic_load(&o->refs), worker = atomic_load(&a->worker);
        if (refs > 1 || pr_pending_calls(a)) return;
        if (!dead) {
            /* It knows whether the last one is its own. */
            if (worker) pr_notify(s, &s->processes[worker]);
            else if (!refs) pr_note_unheld(s, object);
            return;
        }
        if (refs) return;
        dying = (word & ~(uint64_t)UINT32_MAX) | (uint64_t)s->index << PR_CANCELLER | PR_ACTOR |
                PR_OBJECT_DYING;
    } while (!atomic_compare_exchange_strong(&o->state, &word, dying));
    pr_enlist(s, pr_slot(object));
}

void pr_actor_unmade(PrSession *s, PrHandle object) {
    PrObject *o = &s->objects[pr_slot(object)];
    uint64_t word = atomic_load(&o->state);
    if (!pr_same(word, object) || pr_state(word) != PR_OBJECT_SEALED) return;
    uint32_t actor = *pr_actor_in(o);
    PrActor *a = &s->actors[actor];
    PrHandle creation = atomic_load(&a->creation);
    int unwanted = !atomic_load(&o->refs) && !pr_pending_calls(a);
    /* It was the actor of that object, as that is there still. */
    if (!pr_same(atomic_load(&o->state), object) || !creation || !unwanted) return;
    if (pr_cancel_unbegun(s, creation) && pr_actor_die(s, actor, creation))
        pr_actor_end(s, actor, pr_epoch(s));
}

/* Whether that actor lives, and is not to be made anew from now on if `mark` is PR_KILLED. */
static int mark_living(PrSession *s, PrHandle actor, uint64_t mark) {
    _Atomic uint64_t *state = &s->actors[pr_slot(actor)].state;
    uint64_t word = atomic_load(state);
    do {
        if (!pr_same(word, actor) || pr_state(word) != PR_ACTOR_LIVE) return 0;
    } while (!atomic_compare_exchange_weak(state, &word, word | mark));
    return 1;
}

/* The caller has seen the actor LIVE: the creation is its own if it is there still afterwards. */
uint32_t pr_actor_kill(PrSession *s, PrHandle actor, int restart) {
    PrHandle creation = atomic_load(&s->actors[pr_slot(actor)].creation);
    pr_enter(s);
    int lives = creation && mark_living(s, actor, restart ? 0 : PR_KILLED);
    /* Not begun: the slot of its creation stays in a queue, perhaps for long. */
    if (lives && !restart && pr_cancel_unbegun(s, creation) &&
        pr_actor_die(s, pr_slot(actor), creation))
        pr_actor_end(s, pr_slot(actor), pr_epoch(s));
    pr_leave(s);
    return lives ? pr_runner(s, creation) : 0;
}
