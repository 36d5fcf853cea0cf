/* What is done when a process has died: the world is stopped, and every cache is made anew.
 *
 * The truth that is read: states of slots; the bitmaps of references and the process slots of those
 * who live; names; what objects contain, streams hold and tasks list. It costs a pass over the used
 * slots, some milliseconds for a hundred thousand; a process dies rarely. If the one that recovers
 * dies, another takes over: nothing here changes the truth in a way that cannot be done again.
 */
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "actor.h"
#include "futex.h"
#include "lineage.h"
#include "recover.h"
#include "spares.h"
#include "spill.h"

/* -- stopping ---------------------------------------------------------------------------------- */

static void wait_until_outside(PrSession *s, PrProcess *p) {
    for (int i = 0; atomic_load(&p->busy) && atomic_load(&p->state) == PR_PROCESS_LIVE; i++) {
        if (i < 100) {
            pr_relax();
        } else if (i < 1000) {
            sched_yield();
        } else {
            _Atomic uint32_t nothing = 0;
            if (!pr_is_alive(p)) {
                atomic_store(&p->state, PR_PROCESS_DEAD);
                return;
            }
            pr_futex_wait(&nothing, 0, 100000);
        }
    }
    (void)s;
}

/* Others that want to recover wait for us, unless we die. 0 if another did it all meanwhile. */
static void stop_world(PrSession *s) {
    PrControl *c = s->control;
    uint32_t none = 0;
    while (!atomic_compare_exchange_strong(&c->stopping, &none, s->index + 1)) {
        const PrProcess *other = &s->processes[none - 1];
        if (none == s->index + 1) break;
        if (!pr_is_alive(other) &&
            atomic_compare_exchange_strong(&c->stopping, &none, s->index + 1))
            break;
        pr_futex_wait(&c->stopping, none, 1000000);
        none = 0;
    }
    for (uint32_t i = 1; i < atomic_load(&c->n_processes); i++)
        if (i != s->index && atomic_load(&s->processes[i].state) == PR_PROCESS_LIVE)
            wait_until_outside(s, &s->processes[i]);
}

static void start_world(PrSession *s) {
    atomic_store(&s->control->stopping, 0);
    pr_futex_wake(&s->control->stopping, INT_MAX);
}

/* -- processes --------------------------------------------------------------------------------- */

static void clear_locks(PrSession *s) {
    PrControl *c = s->control;
    PrLock *locks[] = {&c->objects.lock, &c->tasks.lock,    &c->arena_lock,  &c->names.lock,
                       &c->stream_lock,  &c->resource_lock, &c->actors.lock, &c->lineage_lock};
    for (size_t i = 0; i < sizeof locks / sizeof *locks; i++) atomic_store(&locks[i]->word, 0);
    for (uint32_t i = 0; i < PR_SHAPES && i <= atomic_load(&c->n_shapes); i++)
        atomic_store(&s->shapes[i].queue.lock.word, 0);
    for (uint32_t i = 1; i < atomic_load(&c->n_processes); i++)
        atomic_store(&s->processes[i].queue.lock.word, 0);
    for (uint32_t i = 1; i <= atomic_load(&c->actors.used) && i < PR_ACTORS; i++)
        atomic_store(&s->actors[i].queue.lock.word, 0);
}

static void bury_processes(Rebuild *r) {
    PrSession *s = r->s;
    PrControl *c = s->control;
    size_t words = (r->n_objects + 63) / 64;
    uint32_t n_idle = 0;
    int32_t n_woken = 0;
    for (uint32_t i = 1; i < r->n_processes; i++) {
        PrProcess *p = &s->processes[i];
        if (is_live(s, i)) n_woken += atomic_load(&p->woken) != 0;
        if (atomic_load(&p->state) != PR_PROCESS_DEAD) continue;
        for (size_t w = 0; w < words; w++) {
            atomic_store_explicit(&pr_refs_of(s, i)[w], 0, memory_order_relaxed);
            atomic_store_explicit(&pr_watch_of(s, i)[w], 0, memory_order_relaxed);
            atomic_store_explicit(&pr_pins_of(s, i)[w], 0, memory_order_relaxed);
        }
        atomic_fetch_and(&c->idle[i >> 6], ~((uint64_t)1 << (i & 63)));
        atomic_store(&p->shape, PR_NO_SHAPE);
        atomic_store(&p->running, 0);
        atomic_fetch_add(&c->deaths, 1);
    }
    for (size_t k = 0; k < PR_SPINNERS; k++) {
        uint32_t spinner = atomic_load(&c->spinners[k]);
        if (spinner && !is_live(s, spinner - 1)) atomic_store(&c->spinners[k], 0);
    }
    for (size_t w = 0; w < sizeof c->idle / sizeof *c->idle; w++)
        n_idle += (uint32_t)__builtin_popcountll(atomic_load(&c->idle[w]));
    atomic_store(&c->n_idle, n_idle);
    atomic_store(&c->n_woken, n_woken);
}

/* While it joined, or left; the slot is FREE and nobody can take it. */
static int died_joining(const PrProcess *p) {
    int32_t pid = atomic_load(&p->pid);
    return pid && kill(pid, 0) && errno == ESRCH;
}

static void free_processes(Rebuild *r) {
    for (uint32_t i = 1; i < r->n_processes; i++) {
        PrProcess *p = &r->s->processes[i];
        uint32_t state = atomic_load(&p->state);
        if (state == PR_PROCESS_FREE && died_joining(p)) atomic_store(&p->pid, 0);
        if (state != PR_PROCESS_DEAD) continue;
        atomic_store(&p->busy, 0);
        atomic_store(&p->state, PR_PROCESS_FREE);
        atomic_store(&p->pid, 0);
    }
}

/* -- tasks ------------------------------------------------------------------------------------- */

void pr_free_task(PrTask *t) {
    uint64_t word = atomic_load(&t->state);
    t->dependencies = 0;
    t->n_dependencies = 0;
    t->n_returns = 0;
    atomic_store(&t->follower, PR_RELEASED);
    atomic_store(&t->state, ((word >> 32) + 1) << 32 | PR_TASK_FREE);
}

static int all_ready(PrSession *s, const PrTask *t) {
    for (uint32_t slot = pr_first_result(t); slot; slot = pr_next_result(s, t, slot))
        if (!pr_is_ready(atomic_load(&s->objects[slot].state))) return 0;
    return t->n_returns > 0;
}

static PrRetry retry_of(const Rebuild *r, PrTask *t) {
    int is_actors = (t->flags & (PR_TASK_CALL | PR_TASK_CREATION)) != 0;
    return atomic_load(&t->worker) == r->process && !is_actors ? r->retry : PR_RETRY_COUNTED;
}

/* The mark before the state: who is WAITING without it goes to the queue. */
static void try_again(PrTask *t, PrRetry retry) {
    if (t->retries_left > 0 && retry == PR_RETRY_COUNTED) t->retries_left--;
    t->attempt++;
    if (retry == PR_RETRY_LATER) {
        atomic_fetch_or(&t->flags, PR_TASK_PUT_OFF);
        pr_crash_point();
        pr_set_task_state(t, PR_TASK_WAITING);
    } else {
        atomic_fetch_and(&t->flags, ~(uint32_t)PR_TASK_PUT_OFF);
        pr_set_task_state(t, PR_TASK_READY);
    }
}

/* Its worker died. */
static void break_task(Rebuild *r, uint32_t task) {
    PrTask *t = &r->s->tasks[task];
    uint64_t word = atomic_load(&t->state);
    PrRetry retry = retry_of(r, t);
    int may = t->retries_left && retry != PR_RETRY_NEVER;
    if (all_ready(r->s, t)) {
        if (!pr_keep_orphan(r->s, t)) pr_free_task(t);
    } else if (may && !(word & PR_CANCEL) && !pr_is_killed(r->s, t)) {
        try_again(t, retry);
        atomic_fetch_add(&r->s->control->retries, 1);
    } else {
        atomic_store(&t->worker, r->s->index);
        r->broken[r->n_broken++] = task;
    }
}

/* First of all: which tasks there still are. */
static void settle_tasks(Rebuild *r) {
    PrSession *s = r->s;
    for (uint32_t i = 1; i < r->n_tasks; i++) {
        PrTask *t = &s->tasks[i];
        uint64_t word = atomic_load(&t->state);
        int owned = is_live(s, atomic_load(&t->owner)), run = is_live(s, atomic_load(&t->worker));
        switch (pr_state(word)) {
        case PR_TASK_CACHED:
            if (!owned) pr_free_task(t);
            break;
        case PR_TASK_DYING:
            if (!run) pr_free_task(t);
            break;
        case PR_TASK_RUNNING:
            if (!run) break_task(r, i);
            break;
        case PR_TASK_CANCELLED:
            /* In no queue from now on, and no obstacle to later calls. With both marks, the one
             * that would bury it is dead. */
            atomic_store(&t->follower, PR_RELEASED);
            if (word & PR_CANCEL) {
                pr_free_task(t);
            } else if (is_live(s, pr_canceller(word))) {
                atomic_store(&t->state, word | PR_POPPED);
            } else {
                atomic_store(&t->state, pr_cancelled(word, s->index) | PR_POPPED);
                r->broken[r->n_broken++] = i;
            }
            break;
        default: break;
        }
    }
}

/* -- counts ------------------------------------------------------------------------------------ */

static void count_processes(Rebuild *r) {
    for (uint32_t i = 1; i < r->n_processes; i++) {
        pr_forget_spares(&r->s->processes[i]);
        if (!is_live(r->s, i)) continue;
        _Atomic uint64_t *refs = pr_refs_of(r->s, i);
        for (uint32_t w = 0; w * 64 < r->n_objects; w++) {
            uint64_t bits = atomic_load_explicit(&refs[w], memory_order_relaxed);
            for (; bits; bits &= bits - 1) count(r, w * 64 + (uint32_t)__builtin_ctzll(bits));
        }
    }
}

static void count_tasks(Rebuild *r) {
    PrSession *s = r->s;
    for (uint32_t i = 1; i < r->n_tasks; i++) {
        const PrTask *t = &s->tasks[i];
        if (pr_is_done(t)) pr_count_done(r, t);
        if (!is_pending(t)) continue;
        if ((t->flags & (PR_TASK_CALL | PR_TASK_OVER)) == PR_TASK_CALL)
            atomic_fetch_add(&s->actors[t->actor].calls, 1);
        const PrDependency *d = pr_dependencies(s, t);
        for (uint32_t k = 0; k < t->n_dependencies; k++) count(r, d[k].object);
        if (t->arguments) count(r, t->arguments);
        if (t->label) count(r, t->label);
        for (uint32_t slot = pr_first_result(t); slot; slot = pr_next_result(s, t, slot)) {
            count(r, slot);
            r->claimed[slot] = 1;
        }
        pr_claim_items(r, t);
    }
}

static void count_stream(Rebuild *r, PrObject *o) {
    PrStream *st = (PrStream *)(void *)o->bytes;
    uint32_t n = 0;
    st->last = 0;
    for (uint32_t slot = st->first; slot; slot = atomic_load(&r->s->objects[slot].next), n++) {
        count(r, slot);
        st->last = slot;
    }
    /* A crash came after an item was linked, or unlinked, and before that was counted. */
    if (n > st->produced - st->taken) {
        st->produced = st->taken + n;
    } else {
        st->taken = st->produced - n;
    }
}

static int is_value(const PrObject *o) {
    return pr_is_ready(atomic_load(&o->state));
}

static void count_contents(Rebuild *r) {
    PrSession *s = r->s;
    for (uint32_t i = 1; i < r->n_objects; i++) {
        PrObject *o = &s->objects[i];
        uint64_t word = atomic_load(&o->state);
        if (word & PR_STREAM && (is_value(o) || pr_state(word) == PR_OBJECT_PENDING))
            count_stream(r, o);
        if (!is_value(o)) continue;
        for (uint32_t k = 0; k < o->n_refs; k++) {
            PrHandle h = pr_refs_in(s, o)[k];
            if (!(h & PR_UNHELD)) count(r, h);
        }
    }
}

/* Its maker died before it was sealed: it never was. */
static int is_orphan(PrSession *s, PrHandle handle) {
    const PrObject *o = &s->objects[pr_slot(handle)];
    return pr_state(atomic_load(&o->state)) == PR_OBJECT_RESERVED &&
           !is_live(s, atomic_load(&o->owner));
}

static void rebuild_names(Rebuild *r) {
    PrSession *s = r->s;
    PrTable *table = &s->control->names;
    uint32_t used = atomic_load(&table->used);
    for (uint32_t i = 1; i < used; i++) s->buckets[pr_name_bucket(s, s->names[i].key)] = 0;
    table->head = table->n_free = 0;
    for (uint32_t i = 1; i < used; i++) {
        PrName *e = &s->names[i];
        uint64_t handle = atomic_load(&e->handle);
        if (handle && is_orphan(s, handle)) atomic_store(&e->handle, handle = 0);
        uint32_t *list = handle ? &s->buckets[pr_name_bucket(s, e->key)] : &table->head;
        e->next = *list;
        *list = i;
        if (handle) count(r, handle);
        table->n_free += !handle;
    }
    atomic_fetch_add(&s->control->named, 1); /* the dead may have done so, or not */
}

/* -- objects ----------------------------------------------------------------------------------- */

static void free_object(PrObject *o) {
    uint64_t word = atomic_load(&o->state);
    o->place = 0;
    o->n_refs = 0;
    atomic_store(&o->state, ((word >> 32) + 1) << 32 | PR_OBJECT_FREE);
}

/* What can be made again stays, while its task does: see pr_rebuild_lineage. */
static int may_go(const PrSession *s, PrObject *o) {
    return is_value(o) && !pr_maker(o) && pr_may_go(s, o);
}

/* One reference fewer: onto the list, if it was the last. */
static void drop(PrSession *s, uint32_t slot, uint32_t *list) {
    PrObject *o = &s->objects[slot];
    if (atomic_fetch_sub(&o->refs, 1) != 1 || !may_go(s, o)) return;
    atomic_store(&o->next, *list);
    *list = slot;
}

static void drop_actor(Rebuild *r, uint32_t actor, uint32_t *list) {
    PrActor *a = &r->s->actors[actor];
    if (a->death) drop(r->s, pr_slot(a->death), list);
    pr_forget_actor(a);
}

void pr_free_unreferenced(Rebuild *r, uint32_t slot) {
    PrSession *s = r->s;
    uint32_t list = slot;
    atomic_store(&s->objects[slot].next, 0);
    while (list) {
        PrObject *o = &s->objects[list];
        list = atomic_load(&o->next);
        uint32_t item = 0, i = 0;
        uint64_t word = atomic_load(&o->state);
        if (word & PR_ACTOR) drop_actor(r, *pr_actor_in(o), &list);
        if (word & PR_STREAM) item = ((PrStream *)(void *)o->bytes)->first;
        while (item || i < o->n_refs) {
            PrHandle h = item ? item : pr_refs_in(s, o)[i++];
            uint32_t target = pr_slot(h);
            if (h & PR_UNHELD) continue;
            if (item) item = atomic_load(&s->objects[target].next);
            drop(s, target, &list);
        }
        free_object(o);
    }
}

void pr_drop(Rebuild *r, uint32_t slot) {
    uint32_t list = 0;
    drop(r->s, slot, &list);
    if (list) pr_free_unreferenced(r, list);
}

static void lose(PrObject *o) {
    static const char text[] = "the process that was to make it died";
    uint8_t *bytes = pr_inline(o);
    o->place = 0;
    o->n_refs = 0;
    o->size = sizeof text;
    bytes[0] = PR_OBJECT_LOST;
    memcpy(bytes + 1, text, sizeof text - 1);
    pr_set_state(o, PR_OBJECT_FAILED | PR_CODE | (atomic_load(&o->state) & PR_STREAM));
}

static void settle_objects(Rebuild *r) {
    PrSession *s = r->s;
    for (uint32_t i = 1; i < r->n_objects; i++) {
        PrObject *o = &s->objects[i];
        uint64_t word = atomic_load(&o->state);
        int dying_actor = word & PR_ACTOR && pr_state(word) == PR_OBJECT_DYING;
        uint32_t owner = dying_actor ? pr_canceller(word) : atomic_load(&o->owner);
        int owned = is_live(s, owner), referred = atomic_load(&o->refs) > 0;
        switch (pr_state(word)) {
        case PR_OBJECT_CACHED:
        case PR_OBJECT_DYING:
            if (!owned) free_object(o);
            break;
        case PR_OBJECT_RESERVED:
            if (!owned && referred) lose(o);
            else if (!owned) free_object(o);
            break;
        case PR_OBJECT_PENDING:
            if (r->claimed[i]) break;
            o->n_refs = 0;
            if (referred) lose(o);
            else pr_free_unreferenced(r, i); /* it may be a stream, and hold items */
            break;
        case PR_OBJECT_SEALED:
        case PR_OBJECT_FAILED:
            if (!referred && may_go(s, o)) pr_free_unreferenced(r, i);
            break;
        default: break;
        }
    }
}

static void note_extent(Rebuild *r, uint64_t offset, uint64_t size) {
    if (!offset) return;
    if (r->n_extents == r->room) {
        r->room = r->room ? 2 * r->room : 1024;
        r->extents = realloc(r->extents, r->room * sizeof *r->extents);
        if (!r->extents) abort();
    }
    r->extents[r->n_extents++] = (PrExtent){offset, size};
}

static void note_blocks(Rebuild *r, PrObject *o) {
    uint64_t size = pr_block_size(o->size, o->n_refs);
    note_extent(r, o->place, size);
    if (!(atomic_load(&o->state) & PR_OUT)) return;
    note_extent(r, pr_copy_of(o)->handles, 8ull * o->n_refs);
    note_extent(r, pr_copy_of(o)->incoming, size);
}

/* Whether a process that lives makes the task's results: it runs it, or lets them fail. */
static int is_being_written(const PrSession *s, const PrTask *t) {
    uint64_t word = atomic_load(&t->state);
    if (pr_state(word) == PR_TASK_RUNNING) return is_live(s, atomic_load(&t->worker));
    return pr_state(word) == PR_TASK_CANCELLED && is_live(s, pr_canceller(word));
}

static void rebuild_objects(Rebuild *r) {
    PrSession *s = r->s;
    PrTable *table = &s->control->objects;
    table->head = table->n_free = 0;
    for (uint32_t i = r->n_objects - 1; i >= 1; i--) {
        PrObject *o = &s->objects[i];
        int state = pr_state(atomic_load(&o->state));
        if (state == PR_OBJECT_FREE) {
            atomic_store(&o->next, table->head);
            table->head = i;
            table->n_free++;
        } else if (state == PR_OBJECT_PENDING) {
            if (!is_being_written(s, &s->tasks[atomic_load(&o->owner)])) o->place = o->n_refs = 0;
        }
        if (state >= PR_OBJECT_RESERVED && state <= PR_OBJECT_FAILED) {
            note_blocks(r, o);
            atomic_store(&o->dependants, is_value(o) ? PR_CLOSED : 0);
        }
    }
    for (uint32_t i = 1; i < r->n_processes; i++) {
        const PrProcess *p = &s->processes[i];
        uint64_t granted = atomic_load(&p->granted);
        if (is_live(s, i) && granted > PR_DENIED) note_extent(r, granted, atomic_load(&p->want));
    }
}

/* -- queues and resources ---------------------------------------------------------------------- */

static void relink(PrSession *s, PrTask *t, uint32_t task) {
    PrDependency *d = (PrDependency *)(uintptr_t)pr_dependencies(s, t);
    uint32_t missing = (t->flags & PR_TASK_PUT_OFF) != 0;
    if (t->dependencies) d = (PrDependency *)(void *)(s->write_base + t->dependencies);
    for (uint32_t k = 0; k < t->n_dependencies; k++) {
        PrObject *o = &s->objects[pr_slot(d[k].object)];
        if (is_value(o)) continue;
        atomic_store(&d[k].next, atomic_load(&o->dependants));
        atomic_store(&o->dependants, (uint64_t)task << 32 | (k + 1));
        missing++;
    }
    atomic_store(&t->missing, missing);
    if (!missing && !(t->flags & PR_TASK_CALL)) pr_set_task_state(t, PR_TASK_READY);
}

static PrSession *sorting; /* qsort has no room for it; the world is stopped */

static int by_sequence(const void *a, const void *b) {
    uint64_t left = sorting->tasks[*(const uint32_t *)a].sequence;
    uint64_t right = sorting->tasks[*(const uint32_t *)b].sequence;
    return left < right ? -1 : left > right;
}

void pr_sort_tasks(PrSession *s, uint32_t *tasks, uint32_t n) {
    sorting = s;
    if (n) qsort(tasks, n, sizeof *tasks, by_sequence);
}

static int by_caller(const void *a, const void *b) {
    const PrTask *left = &sorting->tasks[*(const uint32_t *)a];
    const PrTask *right = &sorting->tasks[*(const uint32_t *)b];
    if (left->actor != right->actor) return left->actor < right->actor ? -1 : 1;
    if (left->caller != right->caller) return left->caller < right->caller ? -1 : 1;
    return by_sequence(a, b);
}

/* Calls that wait, for their dependencies or for an earlier call that does. */
static void relink_calls(Rebuild *r, uint32_t *calls, uint32_t n) {
    PrSession *s = r->s;
    const PrTask *before = NULL;
    qsort(calls, n, sizeof *calls, by_caller);
    for (uint32_t i = 0; i < n; i++) {
        PrTask *t = &s->tasks[calls[i]];
        uint64_t generation = atomic_load(&t->state) & ~(uint64_t)UINT32_MAX;
        int ordered = !(atomic_load(&s->actors[t->actor].flags) & PR_ACTOR_UNORDERED);
        atomic_store(&t->follower, generation);
        if (ordered && before && before->actor == t->actor && before->caller == t->caller) {
            PrTask *earlier = &s->tasks[calls[i - 1]];
            atomic_store(&earlier->follower, atomic_load(&earlier->follower) | calls[i]);
            atomic_fetch_add(&t->missing, PR_FOLLOWS);
        }
        before = t;
        if (atomic_load(&t->missing)) continue;
        pr_set_task_state(t, PR_TASK_READY);
        before = NULL;
    }
}

static void enqueue(PrSession *s, uint32_t task) {
    PrTask *t = &s->tasks[task];
    int call = (t->flags & PR_TASK_CALL) != 0;
    PrQueue *q = call ? &s->actors[t->actor].queue : &s->shapes[t->shape].queue;
    atomic_store(&t->next, 0);
    atomic_store(&t->follower, PR_RELEASED);
    pr_queue_append(s, q, task, task, 1);
}

static void clear_queues(Rebuild *r) {
    PrSession *s = r->s;
    for (uint32_t i = 0; i < atomic_load(&s->control->n_shapes); i++) {
        s->shapes[i].queue.head = s->shapes[i].queue.tail = 0;
        atomic_store(&s->shapes[i].queue.count, 0);
    }
    for (uint32_t i = 1; i < r->n_processes; i++) {
        s->processes[i].queue.head = s->processes[i].queue.tail = 0;
        atomic_store(&s->processes[i].queue.count, 0);
    }
}

static void rebuild_tasks(Rebuild *r) {
    PrSession *s = r->s;
    PrTable *table = &s->control->tasks;
    uint32_t *slots = malloc((size_t)r->n_tasks * sizeof *slots), n = 0, n_calls = 0;
    if (!slots) abort();
    table->head = table->n_free = 0;
    for (uint32_t i = r->n_tasks - 1; i >= 1; i--) {
        PrTask *t = &s->tasks[i];
        int state = pr_state(atomic_load(&t->state));
        if (state == PR_TASK_FREE) {
            atomic_store(&t->next, table->head);
            table->head = i;
            table->n_free++;
            continue;
        }
        note_extent(r, t->dependencies, t->n_dependencies * sizeof(PrDependency));
        if (state == PR_TASK_WAITING) relink(s, t, i);
        if (state == PR_TASK_WAITING && t->flags & PR_TASK_CALL) slots[n_calls++] = i;
    }
    sorting = s;
    relink_calls(r, slots, n_calls);
    clear_queues(r);
    for (uint32_t i = 1; i < r->n_tasks; i++)
        if (pr_state(atomic_load(&s->tasks[i].state)) == PR_TASK_READY) slots[n++] = i;
    pr_sort_tasks(s, slots, n);
    for (uint32_t i = 0; i < n; i++) enqueue(s, slots[i]);
    free(slots);
}

static void rebuild_resources(Rebuild *r) {
    PrSession *s = r->s;
    PrControl *c = s->control;
    uint32_t n = atomic_load(&c->n_resources);
    for (uint32_t i = 0; i < n; i++)
        atomic_store(&c->resources[i].available, c->resources[i].total);
    for (int g = 0; g < PR_GPUS; g++)
        atomic_store(&c->gpu_free[g], pr_gpu_total(c->resources[PR_GPU].total, g));
    for (uint32_t i = 1; i < r->n_processes; i++) {
        const PrProcess *p = &s->processes[i];
        uint32_t shape = atomic_load(&p->shape);
        if (!is_live(s, i) || shape == PR_NO_SHAPE) continue;
        for (uint32_t k = 0; k < s->shapes[shape].n_needs; k++) {
            PrNeed need = s->shapes[shape].needs[k];
            if (need.kind == PR_CPU && atomic_load(&p->blocked)) continue;
            atomic_fetch_sub(&c->resources[need.kind].available, need.amount);
        }
        for (int g = 0; g < PR_GPUS; g++)
            if (atomic_load(&p->gpus) >> g & 1) atomic_fetch_sub(&c->gpu_free[g], p->gpu_amount);
    }
    atomic_store(&c->starving, 0);
}

/* The dead may have sealed an object, or taken the mark off an idle worker, and told nobody; and
 * what was lost is ready now, too. */
static void tell_all(PrSession *s) {
    for (uint32_t i = 1; i < atomic_load(&s->control->n_processes); i++)
        if (is_live(s, i)) pr_notify(s, &s->processes[i]);
}

/* -- the whole --------------------------------------------------------------------------------- */

static void rebuild(Rebuild *r) {
    PrSession *s = r->s;
    clear_locks(s);
    bury_processes(r);
    settle_tasks(r);
    pr_settle_repeated(r);
    pr_settle_actors(r);
    for (uint32_t i = 1; i < r->n_objects; i++) atomic_store(&s->objects[i].refs, 0);
    count_processes(r);
    count_tasks(r);
    pr_count_wanted(r);
    pr_count_actors(r);
    count_contents(r);
    rebuild_names(r);
    pr_drop_unwanted_actors(r);
    settle_objects(r);
    pr_rebuild_lineage(r);
    pr_rebuild_copies(s);
    rebuild_objects(r);
    pr_rebuild_actors(r);
    rebuild_tasks(r);
    rebuild_resources(r);
    if (pr_arena_rebuild(s->arena, s->control->arena_size, r->extents, r->n_extents)) abort();
    free_processes(r);
}

/* Whether that actor will serve again, or does so by now: its creation is not one that we drop. */
static int is_restarting(const PrSession *s, uint32_t actor) {
    const PrActor *a = &s->actors[actor];
    const PrTask *t = &s->tasks[pr_slot(atomic_load(&a->creation))];
    int state = pr_state(atomic_load(&t->state));
    return pr_actor_state(a) == PR_ACTOR_LIVE &&
           (state == PR_TASK_READY ||
            (state == PR_TASK_RUNNING && atomic_load(&t->worker) != s->index));
}

/* A task that was to be run by who is dead. */
static void drop_broken(PrSession *s, uint32_t task, int code, const char *text) {
    const PrTask *t = &s->tasks[task];
    uint64_t word = atomic_load(&t->state);
    int cancelled = word & PR_CANCEL || pr_state(word) == PR_TASK_CANCELLED;
    int is_actors = (t->flags & (PR_TASK_CALL | PR_TASK_CREATION)) != 0;
    /* Who died may have been at it because the actor is dead. */
    if (pr_state(word) == PR_TASK_CANCELLED && t->flags & PR_TASK_CALL &&
        pr_actor_state(&s->actors[t->actor]) == PR_ACTOR_DEAD)
        pr_fail_as_actor(s, task);
    if (is_actors && code == PR_WORKER_CRASHED) code = PR_ACTOR_DIED;
    if (t->flags & PR_TASK_CREATION) {
        if (cancelled || pr_is_killed(s, t)) text = "it was killed by kill()";
    } else if (cancelled) {
        code = PR_TASK_WAS_CANCELLED;
        text = "";
    } else if (t->flags & PR_TASK_CALL && is_restarting(s, t->actor)) {
        code = PR_ACTOR_UNAVAILABLE;
    }
    pr_drop_task(s, task, code, text);
}

/* The world is stopped, and those who are dead are DEAD. Starts it again. */
static void recover(PrSession *s, uint32_t process, int code, const char *text, PrRetry retry) {
    Rebuild r = {.s = s, .process = process, .retry = retry};
    r.n_objects = atomic_load(&s->control->objects.used);
    r.n_tasks = atomic_load(&s->control->tasks.used);
    r.n_actors = atomic_load(&s->control->actors.used);
    r.n_processes = atomic_load(&s->control->n_processes);
    r.claimed = calloc(r.n_objects, 1);
    r.broken = malloc((size_t)r.n_tasks * sizeof *r.broken);
    if (!r.claimed || !r.broken) abort();
    rebuild(&r);
    atomic_fetch_add(&s->control->epoch, 1);
    start_world(s);
    tell_all(s);
    for (size_t i = 0; i < r.n_broken; i++) drop_broken(s, r.broken[i], code, text);
    pr_fail_calls(s);
    free(r.claimed);
    free(r.broken);
    free(r.extents);
    pr_enter(s);
    for (uint32_t i = 0; i < atomic_load(&s->control->n_shapes); i++) pr_kick(s, i);
    pr_leave(s);
}

void pr_recover(PrSession *s, uint32_t process, int code, const char *text) {
    pr_recover_killed(s, process, code, text, PR_RETRY_COUNTED);
}

void pr_recover_killed(PrSession *s, uint32_t process, int code, const char *text, PrRetry retry) {
    PrProcess *p = &s->processes[process];
    stop_world(s);
    /* Another may have been faster: that slot may be a new process' by now. */
    if (process && is_live(s, process) && !pr_is_alive(p)) atomic_store(&p->state, PR_PROCESS_DEAD);
    recover(s, process, code, text, retry);
}

/* Marked so, by one who died of the recovery perhaps, or not. */
static int is_dead(const PrProcess *p) {
    uint32_t state = atomic_load(&p->state);
    if (state == PR_PROCESS_FREE) return died_joining(p);
    return state == PR_PROCESS_DEAD || !pr_is_alive(p);
}

int pr_recover_dead(PrSession *s) {
    int found = 0;
    if (!pr_find_dead(s)) return 0;
    stop_world(s);
    /* Another may have been faster: that slot may be a new process' by now. */
    for (uint32_t i = 1; i < atomic_load(&s->control->n_processes); i++)
        if (is_dead(&s->processes[i])) {
            atomic_store(&s->processes[i].state, PR_PROCESS_DEAD);
            found = 1;
        }
    if (found) {
        recover(s, 0, PR_WORKER_CRASHED, "", PR_RETRY_COUNTED);
    } else {
        start_world(s);
    }
    return found;
}

uint32_t pr_find_dead(PrSession *s) {
    for (uint32_t i = 1; i < atomic_load(&s->control->n_processes); i++)
        if (is_dead(&s->processes[i])) return i;
    return 0;
}
