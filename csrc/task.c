/* Tasks; see task.h.
 *
 * A task's slot is filled while it is CACHED; then its returns become PENDING, then it becomes
 * WAITING or READY, and only then goes to a queue. A crash before that leaves PENDING objects of a
 * task that is none, which the recovery frees. A task that is WAITING may be in the lists of
 * dependants of several objects: its slot is not used again until all of these are sealed.
 */
#include "task.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "actor.h"
#include "lineage.h"
#include "object.h"
#include "spares.h"

/* -- slots ------------------------------------------------------------------------------------- */

void pr_set_task_state(PrTask *t, uint64_t state) {
    uint64_t word = atomic_load_explicit(&t->state, memory_order_relaxed);
    atomic_store_explicit(&t->state, (word & ~(uint64_t)UINT32_MAX) | state, memory_order_release);
}

/* Free slots are in the caches of who has freed them, and each says where the next one is: who
 * takes them would wait for one after the other. So the first of those that were freed together
 * names them. It is no more than a hint, in the room for a task's dependencies and arguments. */
enum { HINTS = PR_MAGAZINE / 2 };

typedef struct {
    uint32_t n, slots[HINTS];
} Hint;

_Static_assert(sizeof(Hint) <= sizeof(PrTask) - offsetof(PrTask, inline_dependencies),
               "room for a hint");

static Hint *hint_in(const PrSession *s, uint32_t slot) {
    return (Hint *)(void *)s->tasks[slot].inline_dependencies;
}

static void prefetch_free(const PrSession *s, uint32_t first) {
    const Hint *hint = hint_in(s, first);
    for (uint32_t i = 0; first && i < hint->n && i < HINTS; i++)
        if (hint->slots[i] < s->control->tasks.limit) pr_prefetch(&s->tasks[hint->slots[i]]);
}

int pr_fill_tasks(PrSession *s) {
    PrTable *table = &s->control->tasks;
    PrProcess *self = s->self;
    if (self->n_tasks) return 0;
    pr_lock(s, &table->lock);
    prefetch_free(s, table->head);
    while (self->n_tasks < PR_MAGAZINE / 2) {
        uint32_t slot = table->head;
        if (slot) {
            table->head = atomic_load_explicit(&s->tasks[slot].next, memory_order_relaxed);
            pr_crash_point();
            table->n_free--;
        } else {
            slot = atomic_load_explicit(&table->used, memory_order_relaxed);
            if (slot >= table->limit) break;
            atomic_store(&table->used, slot + 1);
        }
        atomic_store_explicit(&s->tasks[slot].owner, s->index, memory_order_relaxed);
        pr_set_task_state(&s->tasks[slot], PR_TASK_CACHED);
        self->tasks[self->n_tasks++] = slot;
    }
    pr_unlock(&table->lock);
    return self->n_tasks ? 0 : PR_FULL;
}

void pr_flush_tasks(PrSession *s, uint32_t keep) {
    PrTable *table = &s->control->tasks;
    PrProcess *self = s->self;
    if (self->n_tasks <= keep) return;
    pr_lock(s, &table->lock);
    Hint hint = {0};
    while (self->n_tasks > keep) {
        uint32_t slot = self->tasks[--self->n_tasks];
        hint_in(s, slot)->n = 0;
        hint.slots[hint.n++ % HINTS] = slot;
        atomic_store_explicit(&s->tasks[slot].next, table->head, memory_order_relaxed);
        pr_set_task_state(&s->tasks[slot], PR_TASK_FREE);
        pr_crash_point();
        table->head = slot;
        pr_crash_point();
        table->n_free++;
    }
    *hint_in(s, table->head) = hint;
    pr_unlock(&table->lock);
}

void pr_recycle_task(PrSession *s, uint32_t task) {
    PrTask *t = &s->tasks[task];
    uint64_t word = atomic_load_explicit(&t->state, memory_order_relaxed);
    t->n_dependencies = 0;
    atomic_store_explicit(&t->n_returns, 0, memory_order_release);
    atomic_store_explicit(&t->owner, s->index, memory_order_relaxed);
    uint64_t next = ((word >> 32) + 1) << 32 | PR_TASK_CACHED;
    atomic_store_explicit(&t->state, next, memory_order_release);
    if (s->self->n_tasks == PR_MAGAZINE) pr_flush_tasks(s, PR_MAGAZINE / 2);
    s->self->tasks[s->self->n_tasks++] = task;
}

static PrDependency *dependencies(const PrSession *s, PrTask *t) {
    if (!t->dependencies) return t->inline_dependencies;
    return (PrDependency *)(void *)(s->write_base + t->dependencies);
}

const PrDependency *pr_dependencies(const PrSession *s, const PrTask *t) {
    if (!t->dependencies) return t->inline_dependencies;
    return (const PrDependency *)(const void *)(s->read_base + t->dependencies);
}

/* -- dependencies ------------------------------------------------------------------------------ */

/* Has the object tell the task when it is sealed; 0 if it is. */
static int link_edge(PrObject *o, PrDependency *d, uint64_t edge) {
    uint64_t head = atomic_load(&o->dependants);
    do {
        if (head == PR_CLOSED) return 0;
        atomic_store_explicit(&d->next, head, memory_order_relaxed);
    } while (!atomic_compare_exchange_weak(&o->dependants, &head, edge));
    return 1;
}

void pr_make_task_ready(PrTask *t) {
    uint64_t word = atomic_load(&t->state);
    while (pr_state(word) == PR_TASK_WAITING &&
           !atomic_compare_exchange_weak(&t->state, &word,
                                         (word & ~(uint64_t)PR_STATE_MASK) | PR_TASK_READY)) {
    }
}

void pr_resolve_edges(PrSession *s, uint64_t edges, uint64_t epoch) {
    uint32_t head = 0, tail = 0, n = 0, shape = 0;
    while (edges && edges != PR_CLOSED) {
        uint32_t task = (uint32_t)(edges >> 32), k = (uint32_t)edges - 1;
        PrTask *t = &s->tasks[task];
        edges = atomic_load_explicit(&dependencies(s, t)[k].next, memory_order_relaxed);
        if (atomic_fetch_sub(&t->missing, 1) != 1) continue;
        if (t->flags & PR_TASK_CALL) {
            pr_release_call(s, task, epoch);
            if (pr_epoch(s) != epoch) return;
            continue;
        }
        pr_make_task_ready(t);
        if (n && t->shape != shape) {
            pr_queue_tasks(s, shape, head, tail, n, epoch);
            if (pr_epoch(s) != epoch) return; /* the rebuild has seen to the others */
            head = n = 0;
        }
        shape = t->shape;
        atomic_store_explicit(&t->next, 0, memory_order_relaxed);
        if (n) {
            atomic_store_explicit(&s->tasks[tail].next, task, memory_order_relaxed);
        } else {
            head = task;
        }
        tail = task;
        n++;
    }
    if (n) pr_queue_tasks(s, shape, head, tail, n, epoch);
}

uint32_t pr_next_result(const PrSession *s, const PrTask *t, uint32_t slot) {
    PrObject *o = &s->objects[slot];
    if (atomic_load_explicit(&t->flags, memory_order_relaxed) & PR_TASK_ITEMS)
        return pr_copy_of(o)->next_item;
    return atomic_load_explicit(&o->next, memory_order_relaxed);
}

/* -- submission -------------------------------------------------------------------------------- */

static void keep_returns(PrSession *s, uint32_t slot) {
    while (slot) {
        uint32_t next = atomic_load_explicit(&s->objects[slot].next, memory_order_relaxed);
        pr_keep_object(s, slot);
        slot = next;
    }
}

/* Slots for the returns, linked; CACHED still, as there may be more than a magazine holds, and a
 * recovery while we fill it. */
static int take_returns(PrSession *s, uint32_t n, uint32_t *first) {
    uint32_t last = 0;
    *first = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (pr_fill_objects(s, 1)) {
            keep_returns(s, *first);
            return PR_FULL;
        }
        uint32_t slot = pr_take_object(s);
        atomic_store_explicit(&s->objects[slot].next, 0, memory_order_relaxed);
        if (last) {
            atomic_store_explicit(&s->objects[last].next, slot, memory_order_relaxed);
        } else {
            *first = slot;
        }
        last = slot;
    }
    return 0;
}

static void make_returns(PrSession *s, PrTask *t, uint32_t task, uint32_t slot, PrHandle *returns) {
    atomic_store_explicit(&t->first_return, slot, memory_order_release);
    for (uint32_t i = 0; slot; i++) {
        PrObject *o = &s->objects[slot];
        uint64_t stream = t->flags & PR_TASK_STREAMING ? PR_STREAM : 0;
        if (stream) memset(o->bytes, 0, sizeof(PrStream));
        o->size = 0;
        atomic_store_explicit(&o->refs, 2, memory_order_relaxed); /* the task's, and ours */
        atomic_store_explicit(&o->dependants, 0, memory_order_relaxed);
        /* The state first: the owner of a CACHED slot is a process. */
        pr_set_state(o, PR_OBJECT_PENDING | stream);
        atomic_store_explicit(&o->owner, task, memory_order_relaxed);
        pr_note_held(s, slot);
        returns[i] = pr_handle(atomic_load_explicit(&o->state, memory_order_relaxed), slot);
        slot = atomic_load_explicit(&o->next, memory_order_relaxed);
    }
}

static void hold_label(PrSession *s, const PrCall *call) {
    if (call->flags & PR_TASK_CALL) pr_take_label(s, call->label);
    else atomic_fetch_add(&s->objects[call->label].refs, 1);
}

static void fill(PrSession *s, PrTask *t, const PrCall *call) {
    PrDependency *d = dependencies(s, t);
    t->function = call->function;
    t->label = call->label;
    t->shape = (uint16_t)call->shape;
    atomic_store_explicit(&t->n_returns, (uint16_t)call->n_returns, memory_order_release);
    atomic_store_explicit(&t->flags, call->flags, memory_order_relaxed);
    atomic_store_explicit(&t->actor, call->actor, memory_order_relaxed);
    atomic_store_explicit(&t->job, call->job, memory_order_relaxed);
    t->caller = s->caller;
    atomic_store_explicit(&t->follower, PR_RELEASED, memory_order_relaxed);
    t->retries_left = call->retries;
    t->attempt = 0;
    atomic_store_explicit(&t->parent, call->parent, memory_order_release);
    t->arguments = call->arguments;
    t->arguments_size = (uint16_t)call->arguments_size;
    t->backlog = (uint16_t)call->backlog;
    if (call->arguments_size)
        memcpy(t->inline_arguments, call->inline_arguments, call->arguments_size);
    for (uint32_t k = 0; k < t->n_dependencies; k++) {
        PrObject *o = &s->objects[call->dependencies[k]];
        d[k].object = pr_handle(atomic_load(&o->state), call->dependencies[k]);
        atomic_store_explicit(&d[k].next, 0, memory_order_relaxed);
        atomic_fetch_add(&o->refs, 1);
    }
    if (call->arguments) atomic_fetch_add(&s->objects[pr_slot(call->arguments)].refs, 1);
    if (call->label) hold_label(s, call);
    atomic_store_explicit(&t->worker, 0, memory_order_relaxed);
    atomic_store_explicit(&t->next, 0, memory_order_relaxed);
    t->sequence = atomic_fetch_add_explicit(&s->control->sequence, 1, memory_order_relaxed);
}

/* Room for the dependencies, while the slot is still only ours. */
static int make_dependencies(PrSession *s, PrTask *t, uint32_t n) {
    t->dependencies = 0;
    pr_crash_point();
    t->n_dependencies = n;
    if (n <= PR_INLINE_DEPENDENCIES) return 0;
    return pr_block_new(s, n * sizeof(PrDependency), &t->dependencies);
}

uint32_t pr_link_dependencies(PrSession *s, uint32_t task) {
    PrTask *t = &s->tasks[task];
    PrDependency *d = dependencies(s, t);
    uint32_t sealed = 0;
    for (uint32_t k = 0; k < t->n_dependencies; k++) {
        uint64_t edge = (uint64_t)task << 32 | (k + 1);
        sealed += !link_edge(&s->objects[pr_slot(d[k].object)], &d[k], edge);
    }
    return sealed;
}

/* 1 if nothing is missing. */
static int wait_for_dependencies(PrSession *s, PrTask *t, uint32_t task) {
    /* One that holds it back until all edges are made. */
    atomic_store(&t->missing, t->n_dependencies + 1);
    pr_set_task_state(t, PR_TASK_WAITING);
    uint32_t sealed = pr_link_dependencies(s, task) + 1;
    if (atomic_fetch_sub(&t->missing, sealed) != sealed) return 0;
    pr_make_task_ready(t);
    return 1;
}

/* Of the submission after the next one: others had them last. */
static void prefetch_slots(const PrSession *s) {
    const PrProcess *self = s->self;
    if (self->n_tasks > 1) {
        const PrTask *t = &s->tasks[self->tasks[self->n_tasks - 2]];
        pr_prefetch(&t->state);
        pr_prefetch(&t->parent);
    }
    if (self->n_objects > 1) pr_prefetch(&s->objects[self->objects[self->n_objects - 2]]);
}

int pr_submit(PrSession *s, const PrCall *call, PrHandle *returns) {
    uint32_t first;
    int status;
    if (call->n_returns > UINT16_MAX) return PR_LIMIT;
    if (call->flags & PR_TASK_CALL && call->n_dependencies && !s->held_calls &&
        !(s->held_calls = calloc(PR_ACTORS, sizeof *s->held_calls)))
        return PR_FULL;
    if (call->limit && (status = pr_may_call(s, call->actor, call->limit))) return status;
    pr_enter(s);
    if (take_returns(s, call->n_returns, &first)) {
        pr_leave(s);
        return PR_FULL;
    }
    if (pr_fill_tasks(s)) {
        keep_returns(s, first);
        pr_leave(s);
        return PR_FULL;
    }
    uint32_t task = s->self->tasks[--s->self->n_tasks];
    PrTask *t = &s->tasks[task];
    prefetch_slots(s);
    if (make_dependencies(s, t, call->n_dependencies)) {
        pr_recycle_task(s, task);
        keep_returns(s, first);
        pr_leave(s);
        return PR_FULL;
    }
    /* From here to the queue's lock there is no waiting, hence no recovery but of our own death. */
    uint64_t epoch = pr_epoch(s);
    fill(s, t, call);
    make_returns(s, t, task, first, returns);
    if (t->flags & PR_TASK_CREATION) pr_actor_born(s, task);
    if (call->limit) pr_note_call(s, call->actor, pr_handle(atomic_load(&t->state), task));
    if (t->flags & PR_TASK_CALL) {
        pr_submit_call(s, task, epoch);
    } else if (t->n_dependencies == 0) {
        pr_set_task_state(t, PR_TASK_READY);
        pr_queue_tasks(s, t->shape, task, task, 1, epoch);
    } else if (wait_for_dependencies(s, t, task)) {
        pr_queue_tasks(s, t->shape, task, task, 1, epoch);
    }
    pr_leave(s);
    return 0;
}

/* -- the end ----------------------------------------------------------------------------------- */

/* One that runs more calls keeps it for a while: until it waits for calls. */
static void drop_label(PrSession *s, const PrTask *t) {
    if (t->flags & PR_TASK_CALL && s->calls) pr_give_label(s, t->label);
    else pr_unref(s, t->label);
}

void pr_bury_task(PrSession *s, uint32_t task) {
    PrTask *t = &s->tasks[task];
    const PrDependency *d = pr_dependencies(s, t);
    uint32_t actor = t->actor;
    uint64_t epoch = pr_epoch(s);
    atomic_store_explicit(&t->worker, s->index, memory_order_relaxed);
    pr_set_task_state(t, PR_TASK_DYING);
    pr_uncover(s, t);
    if ((t->flags & (PR_TASK_CALL | PR_TASK_OVER)) == PR_TASK_CALL) pr_call_over(s, actor);
    /* Not so if it was killed before it was made: then it is dead already. */
    int ends = t->flags & PR_TASK_CREATION &&
               pr_actor_die(s, actor, pr_handle(atomic_load(&t->state), task));
    for (uint32_t k = 0; k < t->n_dependencies; k++) pr_unref(s, pr_slot(d[k].object));
    if (t->arguments) pr_unref(s, pr_slot(t->arguments));
    if (t->label) drop_label(s, t);
    for (uint32_t slot = pr_first_result(t), next; slot; slot = next) {
        next = pr_next_result(s, t, slot);
        pr_unref(s, slot);
    }
    pr_bury(s);
    pr_drop_items(s, t, epoch);
    pr_block_free(s, &t->dependencies);
    pr_recycle_task(s, task);
    if (ends) pr_actor_end(s, actor, epoch);
}

/* A creation holds its actor's resources, and is what the process runs, whatever it is called for.
 */
static void stop_running(PrSession *s, const PrTask *t) {
    if (!(t->flags & PR_TASK_CALL))
        atomic_store_explicit(&s->self->running, 0, memory_order_relaxed);
}

void pr_finish(PrSession *s, uint32_t task) {
    pr_enter(s);
    stop_running(s, &s->tasks[task]);
    atomic_store_explicit(&s->self->finished, s->self->finished + 1, memory_order_relaxed);
    if (!pr_keep_task(s, task)) pr_bury_task(s, task);
    pr_leave(s);
}

/* Of values that did not come. */
static void free_rooms(PrSession *s, const PrTask *t) {
    for (uint32_t slot = pr_first_result(t); slot; slot = pr_next_result(s, t, slot)) {
        PrObject *o = &s->objects[slot];
        if (pr_state(atomic_load(&o->state)) == PR_OBJECT_PENDING) pr_block_free(s, &o->place);
    }
}

int pr_retry(PrSession *s, uint32_t task) {
    PrTask *t = &s->tasks[task];
    uint64_t word = atomic_load(&t->state);
    if (t->retries_left == 0 || word & PR_CANCEL || pr_is_killed(s, t)) return 0;
    pr_enter(s);
    free_rooms(s, t);
    uint64_t epoch = pr_epoch(s);
    if (t->retries_left > 0) t->retries_left--;
    pr_crash_point();
    t->attempt++;
    atomic_store_explicit(&t->next, 0, memory_order_relaxed);
    uint64_t ready = (word & ~(uint64_t)UINT32_MAX) | PR_TASK_READY;
    int done = atomic_compare_exchange_strong(&t->state, &word, ready);
    if (done) {
        stop_running(s, t);
        atomic_fetch_add(&s->control->retries, 1);
        if (t->flags & PR_TASK_CALL) pr_call_again(s, task);
        else pr_queue_tasks(s, t->shape, task, task, 1, epoch);
    }
    pr_leave(s);
    return done;
}

uint32_t pr_put_off(const PrSession *s, PrHandle *tasks, uint32_t room) {
    uint32_t used = atomic_load(&s->control->tasks.used), n = 0;
    for (uint32_t i = 1; i < used; i++) {
        uint64_t word = atomic_load(&s->tasks[i].state);
        if (pr_state(word) != PR_TASK_WAITING || !(s->tasks[i].flags & PR_TASK_PUT_OFF)) continue;
        if (n < room) tasks[n] = pr_handle(word, i);
        n++;
    }
    return n;
}

/* Of one that was cancelled meanwhile, who takes it out of the queue gives the slot back; unless a
 * recovery has left that to who cancelled it (POPPED). Once the mark is off, a crash leaves it to
 * the recovery to queue the task. */
void pr_resume(PrSession *s, PrHandle handle) {
    uint32_t task = pr_slot(handle);
    PrTask *t = &s->tasks[task];
    pr_enter(s);
    uint64_t word = atomic_load(&t->state), epoch = pr_epoch(s);
    int state = pr_state(word);
    int there = state == PR_TASK_WAITING || (state == PR_TASK_CANCELLED && !(word & PR_POPPED));
    if (pr_same(word, handle) && there &&
        atomic_fetch_and(&t->flags, ~(uint32_t)PR_TASK_PUT_OFF) & PR_TASK_PUT_OFF) {
        atomic_store(&t->missing, 0);
        pr_crash_point();
        pr_make_task_ready(t);
        atomic_store_explicit(&t->next, 0, memory_order_relaxed);
        pr_queue_tasks(s, t->shape, task, task, 1, epoch);
    }
    pr_leave(s);
}

void pr_fail_returns(PrSession *s, uint32_t task, int code, const char *text) {
    const PrTask *t = &s->tasks[task];
    for (uint32_t slot = pr_first_result(t), next; slot; slot = next) {
        next = pr_next_result(s, t, slot);
        if (pr_state(atomic_load(&s->objects[slot].state)) == PR_OBJECT_PENDING)
            pr_fail(s, slot, code, text);
    }
}

void pr_fail_task(PrSession *s, uint32_t task, int code, const char *text) {
    pr_fail_returns(s, task, code, text);
    pr_finish(s, task);
}

void pr_drop_task(PrSession *s, uint32_t task, int code, const char *text) {
    pr_fail_returns(s, task, code, text);
    pr_enter(s);
    pr_bury_task(s, task);
    pr_leave(s);
}

uint32_t pr_dependency(const PrSession *s, const PrTask *t, uint32_t k) {
    return pr_slot(pr_dependencies(s, t)[k].object);
}

uint32_t pr_failed_dependency(const PrSession *s, uint32_t task) {
    const PrTask *t = &s->tasks[task];
    const PrDependency *d = pr_dependencies(s, t);
    for (uint32_t k = 0; k < t->n_dependencies; k++) {
        uint32_t slot = pr_slot(d[k].object);
        if (pr_state(atomic_load(&s->objects[slot].state)) == PR_OBJECT_FAILED) return slot;
    }
    return 0;
}

/* One result fails with the bytes of another's failure. */
static void fail_like(PrSession *s, uint32_t slot, PrObject *failed) {
    uint8_t *data;
    uint64_t code = atomic_load(&failed->state) & PR_CODE;
    if (pr_room(s, slot, failed->size, failed->n_refs, &data)) {
        pr_fail(s, slot, PR_STORE_FULL, "no room for the exception of a dependency");
        return;
    }
    memcpy(data, pr_message_of(s, failed), failed->size);
    if (failed->n_refs)
        memcpy(data + ((failed->size + 7) & ~7ull), pr_refs_in(s, failed), 8ull * failed->n_refs);
    pr_enter(s);
    pr_make_ready(s, slot, PR_OBJECT_FAILED | code);
    pr_leave(s);
}

void pr_fail_returns_like(PrSession *s, uint32_t task, uint32_t failed) {
    const PrTask *t = &s->tasks[task];
    for (uint32_t slot = pr_first_result(t), next; slot; slot = next) {
        next = pr_next_result(s, t, slot);
        if (pr_state(atomic_load(&s->objects[slot].state)) == PR_OBJECT_PENDING)
            fail_like(s, slot, &s->objects[failed]);
    }
}

void pr_fail_task_like(PrSession *s, uint32_t task, uint32_t failed) {
    pr_fail_returns_like(s, task, failed);
    pr_finish(s, task);
}

/* -- cancellation ------------------------------------------------------------------------------ */

void pr_end_cancelled(PrSession *s, uint32_t task, int waited) {
    PrTask *t = &s->tasks[task];
    uint32_t call = t->flags & PR_TASK_CALL; /* soon it may be another one's */
    PrQueue *q = call ? &s->actors[t->actor].queue : &s->shapes[t->shape].queue;
    pr_enter(s);
    if (waited && call) pr_call_cancelled(s, task);
    if (atomic_fetch_or(&t->state, PR_CANCEL) & PR_POPPED) pr_bury_task(s, task);
    if (!waited) pr_drop_cancelled(s, q);
    pr_bury(s);
    pr_leave(s);
}

static void cancel_queued(PrSession *s, uint32_t task, int waited) {
    const PrTask *t = &s->tasks[task];
    if (t->flags & PR_TASK_CREATION) {
        const char *text =
            t->attempt ? "it was killed by kill()" : "it was killed before it was made";
        pr_fail_returns(s, task, PR_ACTOR_DIED, text);
    } else {
        pr_fail_returns(s, task, PR_TASK_WAS_CANCELLED, "");
    }
    pr_end_cancelled(s, task, waited);
}

void pr_pop_cancelled(PrSession *s, uint32_t task) {
    if (atomic_fetch_or(&s->tasks[task].state, PR_POPPED) & PR_CANCEL) pr_bury_task(s, task);
}

int pr_start_task(PrSession *s, uint32_t task) {
    PrTask *t = &s->tasks[task];
    uint64_t word = atomic_load(&t->state);
    /* Stored first: a cancellation that finds it RUNNING reads who runs it. */
    atomic_store_explicit(&t->worker, s->index, memory_order_relaxed);
    while (pr_state(word) == PR_TASK_READY) {
        uint64_t running = (word & ~(uint64_t)PR_STATE_MASK) | PR_TASK_RUNNING;
        if (atomic_compare_exchange_weak(&t->state, &word, running)) return 1;
    }
    pr_pop_cancelled(s, task);
    return 0;
}

/* Who takes it out of a queue says a moment later that it runs it. */
uint32_t pr_runner(const PrSession *s, PrHandle task) {
    const PrTask *t = &s->tasks[pr_slot(task)];
    for (;; sched_yield()) {
        uint64_t word = atomic_load(&t->state);
        if (!pr_same(word, task) || pr_state(word) != PR_TASK_RUNNING) return 0;
        uint32_t worker = atomic_load(&t->worker);
        if (atomic_load(&s->processes[worker].running) == task) return worker;
        if (s->processes[worker].kind != PR_WORKER || atomic_load(&s->control->ended)) return 0;
    }
}

int pr_take_unbegun(PrSession *s, PrHandle handle) {
    PrTask *t = &s->tasks[pr_slot(handle)];
    uint64_t word = atomic_load(&t->state);
    int state;
    pr_enter(s);
    do {
        state = pr_same(word, handle) ? pr_state(word) : 0;
        if (state != PR_TASK_WAITING && state != PR_TASK_READY) state = 0;
    } while (state &&
             !atomic_compare_exchange_weak(&t->state, &word, pr_cancelled(word, s->index)));
    pr_leave(s);
    return state;
}

int pr_cancel_unbegun(PrSession *s, PrHandle handle) {
    int state = pr_take_unbegun(s, handle);
    if (state) cancel_queued(s, pr_slot(handle), state == PR_TASK_WAITING);
    return state != 0;
}

/* The process looks which of its calls are to stop. */
static int tell_actor(PrSession *s, const PrTask *t) {
    PrActor *a = &s->actors[t->actor];
    atomic_fetch_add(&a->cancels, 1);
    pr_notify(s, &s->processes[atomic_load(&t->worker)]);
    return 3;
}

int pr_cancel(PrSession *s, PrHandle object, uint32_t *worker) {
    PrObject *o = &s->objects[pr_slot(object)];
    for (;;) {
        uint32_t task = atomic_load(&o->owner);
        if (task >= s->control->tasks.limit) return 2;
        PrTask *t = &s->tasks[task];
        uint64_t word = atomic_load(&t->state), object_word = atomic_load(&o->state), after;
        /* Still pending: then the task is the object's, and the word is of its generation. */
        if (pr_state(object_word) != PR_OBJECT_PENDING || !pr_same(object_word, object)) return 2;
        int state = pr_state(word), done;
        if (state == PR_TASK_RUNNING) {
            after = (word | PR_CANCEL) & ~(uint64_t)PR_POPPED; /* not heard, of this one */
        } else if (state == PR_TASK_WAITING || state == PR_TASK_READY) {
            after = pr_cancelled(word, s->index);
        } else {
            return 2;
        }
        *worker = atomic_load(&t->worker);
        pr_enter(s);
        done = atomic_compare_exchange_strong(&t->state, &word, after);
        pr_leave(s);
        if (!done) continue;
        if (state == PR_TASK_RUNNING && t->flags & PR_TASK_CALL) return tell_actor(s, t);
        if (state == PR_TASK_RUNNING) {
            *worker = pr_runner(s, pr_handle(word, task));
            atomic_store(&s->control->asked, 1);
            pr_call_node(s);
            return 1;
        }
        cancel_queued(s, task, state == PR_TASK_WAITING);
        return 0;
    }
}

/* Whether the task has not heard yet that it shall stop; its process gets the signal once more. */
static int ask_again(const PrSession *s, uint32_t task) {
    const PrTask *t = &s->tasks[task];
    uint64_t word = atomic_load(&t->state);
    if (pr_state(word) != PR_TASK_RUNNING || !(word & PR_CANCEL) || word & PR_POPPED) return 0;
    const PrProcess *worker = &s->processes[atomic_load(&t->worker)];
    if (atomic_load(&worker->running) != pr_handle(word, task)) return 0;
    kill(atomic_load(&worker->pid), SIGINT);
    return 1;
}

void pr_ask_again(PrSession *s, const uint32_t *slots, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const PrObject *o = &s->objects[slots[i] & ~PR_NEXT];
        uint32_t task = atomic_load(&o->owner);
        if (pr_state(atomic_load(&o->state)) == PR_OBJECT_PENDING) ask_again(s, task);
    }
}

uint32_t pr_ask_all_again(PrSession *s) {
    uint32_t used = atomic_load(&s->control->tasks.used), n = 0;
    if (!atomic_exchange(&s->control->asked, 0)) return 0;
    for (uint32_t i = 1; i < used; i++) n += (uint32_t)ask_again(s, i);
    if (n) atomic_store(&s->control->asked, 1);
    return n;
}

int pr_heard(PrSession *s, uint32_t task) {
    return !(atomic_fetch_or(&s->tasks[task].state, PR_POPPED) & PR_POPPED);
}

void pr_each_child(PrSession *s, PrHandle parent, void (*each)(void *, PrHandle), void *with) {
    uint32_t used = atomic_load(&s->control->tasks.used);
    for (uint32_t i = 1; i < used; i++) {
        PrTask *t = &s->tasks[i];
        uint64_t word = atomic_load(&t->state);
        int state = pr_state(word);
        if (state < PR_TASK_WAITING || state > PR_TASK_RUNNING) continue;
        if (t->flags & PR_TASK_CREATION) continue;
        /* Nobody keeps the slot from being used again: what was read counts if it was not. */
        if (atomic_load(&t->parent) != parent || !atomic_load(&t->n_returns)) continue;
        uint32_t slot = pr_first_result(t);
        PrHandle object = pr_handle(atomic_load(&s->objects[slot].state), slot);
        uint64_t after = atomic_load(&t->state);
        state = pr_state(after);
        if (pr_same(after, word) && state >= PR_TASK_WAITING && state <= PR_TASK_RUNNING)
            each(with, object);
    }
}
