/* Lineage; see lineage.h. */
#include "lineage.h"

#include <stdlib.h>
#include <string.h>

#include "actor.h"
#include "object.h"

enum { LOOK_AT = 64 /* tasks that may not go, before it is given up */ };

PrDependency *pr_own_dependencies(const PrSession *s, PrTask *t) {
    if (!t->dependencies) return t->inline_dependencies;
    return (PrDependency *)(void *)(s->write_base + t->dependencies);
}

uint64_t *pr_nested(const PrSession *s, const PrTask *t, uint32_t *n) {
    if (!t->arguments) {
        *n = 0;
        return NULL;
    }
    PrObject *o = &s->objects[pr_slot(t->arguments)];
    *n = o->n_refs;
    if (!*n) return NULL;
    uint64_t at = (uint64_t)((const uint8_t *)pr_refs_in(s, o) - s->read_base);
    return (uint64_t *)(void *)(s->write_base + at);
}

int pr_is_undecided(PrObject *o) {
    return (atomic_load(&pr_copy_of(o)->why) & ~(uint32_t)PR_WHY_FREED) == PR_WHY_UNDECIDED;
}

int pr_is_gone(PrObject *o) {
    uint64_t word = atomic_load(&o->state);
    return pr_state(word) == PR_OBJECT_SEALED && word & PR_OUT && !(word & PR_ACTOR) && !o->place &&
           !atomic_load(&pr_copy_of(o)->file);
}

/* -- the list of tasks that are DONE ----------------------------------------------------------- */

static uint64_t bytes_of(const PrSession *s, PrHandle h) {
    PrObject *o = pr_object_of(s, h);
    return pr_is_inline(o) ? 0 : o->size;
}

static uint64_t cost_of(const PrSession *s, const PrTask *t) {
    const PrDependency *d = pr_dependencies(s, t);
    uint32_t n;
    const uint64_t *nested = pr_nested(s, t, &n);
    uint64_t bytes = PR_LINEAGE_TASK;
    if (t->dependencies) bytes += t->n_dependencies * sizeof *d;
    if (t->arguments) bytes += bytes_of(s, t->arguments);
    for (uint32_t k = 0; k < t->n_dependencies; k++)
        if (!pr_is_weak(&d[k])) bytes += bytes_of(s, d[k].object);
    for (uint32_t k = 0; k < n; k++)
        if (!(nested[k] & PR_UNHELD)) bytes += bytes_of(s, nested[k]);
    return bytes;
}

void pr_link_done(PrSession *s, uint32_t task) {
    PrControl *c = s->control;
    PrTask *t = &s->tasks[task];
    atomic_store_explicit(&t->next, 0, memory_order_relaxed);
    atomic_store_explicit(&t->missing, c->lineage_last, memory_order_relaxed);
    if (c->lineage_last) {
        atomic_store_explicit(&s->tasks[c->lineage_last].next, task, memory_order_relaxed);
    } else {
        c->lineage_first = task;
    }
    c->lineage_last = task;
    c->n_lineage++;
    c->n_early += (t->flags & PR_TASK_EARLY) != 0;
    atomic_store_explicit(&t->follower, cost_of(s, t), memory_order_relaxed);
    c->lineage_bytes += atomic_load(&t->follower);
}

void pr_unlink_done(PrSession *s, PrTask *t) {
    PrControl *c = s->control;
    uint32_t before = atomic_load(&t->missing), after = atomic_load(&t->next);
    if (before) {
        atomic_store_explicit(&s->tasks[before].next, after, memory_order_relaxed);
    } else {
        c->lineage_first = after;
    }
    if (after) {
        atomic_store_explicit(&s->tasks[after].missing, before, memory_order_relaxed);
    } else {
        c->lineage_last = before;
    }
    c->n_lineage--;
    if (atomic_fetch_and(&t->flags, ~(uint32_t)PR_TASK_EARLY) & PR_TASK_EARLY) c->n_early--;
    c->lineage_bytes -= atomic_load(&t->follower);
    atomic_store_explicit(&t->follower, PR_RELEASED, memory_order_relaxed);
}

/* -- the end ----------------------------------------------------------------------------------- */

/* Whether anybody may want one of its results to be made again. */
static int is_wanted(const PrSession *s, const PrTask *t) {
    for (uint32_t slot = pr_first_result(t); slot; slot = pr_next_result(s, t, slot)) {
        PrObject *o = &s->objects[slot];
        if (!(atomic_load(&o->state) & PR_LINEAGE)) continue;
        if (atomic_load(&o->refs) || pr_copy_of(o)->wanted) return 1;
    }
    return 0;
}

/* A dependency that a task wanted and wants no more. The task that is to be ended for that, or 0.
 */
static uint32_t forget(PrSession *s, PrHandle h) {
    PrObject *o = pr_object_of(s, h);
    uint64_t word = atomic_load(&o->state);
    uint32_t maker = pr_maker(o);
    if (!pr_same(word, h) || !maker || pr_state(word) == PR_OBJECT_DYING) return 0;
    pr_copy_of(o)->wanted--;
    PrTask *t = &s->tasks[maker];
    return pr_is_done(t) && !is_wanted(s, t) ? maker : 0;
}

/* What it holds, and what its results are from now on: what is still referred to stays, as what
 * cannot be made again. */
static void let_go(PrSession *s, PrTask *t) {
    for (uint32_t slot = pr_first_result(t), next; slot; slot = next) {
        PrObject *o = &s->objects[slot];
        next = pr_next_result(s, t, slot);
        if (!(atomic_load(&o->state) & PR_LINEAGE)) {
            pr_unref(s, slot);
            continue;
        }
        atomic_store(&pr_copy_of(o)->why, PR_WHY_DROPPED);
        atomic_store(&o->owner, 0);
        if (!atomic_load(&o->refs)) pr_die(s, slot);
    }
    if (t->arguments) pr_unref(s, pr_slot(t->arguments));
    if (t->label) pr_unref(s, t->label);
}

/* What only that kept is put on the list, too. */
static void want_no_more(PrSession *s, PrHandle h, uint32_t *list) {
    uint32_t unwanted = forget(s, h);
    if (!unwanted) return;
    pr_unlink_done(s, &s->tasks[unwanted]);
    atomic_store_explicit(&s->tasks[unwanted].next, *list, memory_order_relaxed);
    *list = unwanted;
}

/* DONE tasks are no longer: that one, and all that only it kept. Their slots follow in
 * bury_over. */
static void end_lineage(PrSession *s, uint32_t task) {
    uint32_t list = task, n;
    pr_unlink_done(s, &s->tasks[task]);
    atomic_store_explicit(&s->tasks[task].next, 0, memory_order_relaxed);
    while (list) {
        PrTask *t = &s->tasks[task = list];
        const PrDependency *d = pr_dependencies(s, t);
        const uint64_t *nested = pr_nested(s, t, &n);
        list = atomic_load_explicit(&t->next, memory_order_relaxed);
        atomic_store_explicit(&t->worker, s->index, memory_order_relaxed);
        pr_set_task_state(t, PR_TASK_DYING);
        for (uint32_t k = 0; k < t->n_dependencies; k++) {
            if (pr_is_weak(&d[k])) want_no_more(s, d[k].object, &list);
            else pr_unref(s, pr_slot(d[k].object));
        }
        for (uint32_t k = 0; k < n; k++)
            if (nested[k] & PR_UNHELD) want_no_more(s, nested[k] & ~PR_UNHELD, &list);
        let_go(s, t);
        atomic_store_explicit(&t->next, s->over, memory_order_relaxed);
        s->over = task;
    }
}

static void bury_over(PrSession *s) {
    while (s->over) {
        uint32_t task = s->over;
        PrTask *t = &s->tasks[task];
        s->over = atomic_load_explicit(&t->next, memory_order_relaxed);
        pr_block_free(s, &t->dependencies);
        pr_recycle_task(s, task);
    }
}

/* -- results that nobody holds ----------------------------------------------------------------- */

void pr_note_unheld(PrSession *s, PrHandle object) {
    if (s->n_unheld == s->unheld_room) {
        uint32_t room = s->unheld_room ? 2 * s->unheld_room : 64;
        PrHandle *more = realloc(s->unheld, room * sizeof *more);
        if (!more) abort();
        s->unheld = more;
        s->unheld_room = room;
    }
    s->unheld[s->n_unheld++] = object;
}

void pr_take_value(PrSession *s, PrObject *o, uint64_t blocks[2]) {
    PrCopy *c = pr_copy_of(o);
    const uint64_t *targets = o->n_refs ? pr_refs_in(s, o) : NULL;
    blocks[0] = o->place;
    blocks[1] = c->handles;
    for (uint32_t i = 0; i < o->n_refs; i++)
        if (!(targets[i] & PR_UNHELD)) pr_unref(s, pr_slot(targets[i]));
    o->n_refs = 0;
    atomic_fetch_or(&o->state, PR_OUT | PR_BLOCK);
    o->place = 0;
    pr_crash_point();
    c->handles = 0;
    pr_leave_file(s, o);
}

void pr_free_taken(PrSession *s, uint64_t blocks[2]) {
    uint64_t epoch = pr_epoch(s);
    pr_block_free(s, &blocks[0]);
    if (pr_epoch(s) == epoch) pr_block_free(s, &blocks[1]);
}

static void settle_unheld(PrSession *s, PrHandle h, uint64_t blocks[2]) {
    PrObject *o = pr_object_of(s, h);
    uint64_t word = atomic_load(&o->state);
    if (!pr_same(word, h) || !pr_is_ready(word) || atomic_load(&o->refs)) return;
    uint32_t maker = atomic_load(&o->owner);
    if (!maker) {
        pr_die(s, pr_slot(h));
        return;
    }
    if (!pr_is_gone(o)) pr_take_value(s, o, blocks);
    PrTask *t = &s->tasks[maker];
    if (pr_is_done(t) && !is_wanted(s, t)) end_lineage(s, maker);
}

void pr_settle_lineage(PrSession *s) {
    PrLock *lock = &s->control->lineage_lock;
    bury_over(s);
    while (s->n_unheld) {
        uint64_t blocks[2] = {0, 0};
        PrHandle object = s->unheld[--s->n_unheld];
        if (atomic_load(&pr_object_of(s, object)->state) & PR_ACTOR) {
            pr_actor_unmade(s, object);
            continue;
        }
        pr_lock(s, lock);
        settle_unheld(s, object, blocks);
        pr_unlock(lock);
        pr_free_taken(s, blocks);
        bury_over(s);
    }
}

void pr_uncover(PrSession *s, const PrTask *t) {
    for (uint32_t slot = pr_first_result(t); slot; slot = pr_next_result(s, t, slot)) {
        PrObject *o = &s->objects[slot];
        uint64_t word = atomic_load_explicit(&o->state, memory_order_relaxed);
        if (word & PR_LINEAGE || (word & PR_BLOCK && pr_is_undecided(o)))
            atomic_store(&pr_copy_of(o)->why, PR_WHY_FAILED);
        if (word & PR_LINEAGE) atomic_store(&o->owner, 0);
    }
}

/* Of those that are worth it: 0, or why it is not kept. */
static int why_not(const PrSession *s, const PrTask *t) {
    if (t->flags & (PR_TASK_CALL | PR_TASK_CREATION)) return PR_WHY_ACTOR;
    if (t->flags & PR_TASK_DYNAMIC) return PR_WHY_GENERATOR;
    if (!t->retries_left) return PR_WHY_NO_RETRIES;
    return s->control->max_lineage_bytes ? 0 : PR_WHY_DROPPED;
}

/* -- generators -------------------------------------------------------------------------------- */

/* A generator that runs for the first time, and has yielded something that can be made again. */
static int has_yielded(const PrTask *t) {
    uint32_t flags = t->flags & (PR_TASK_STREAMING | PR_TASK_CALL | PR_TASK_ITEMS);
    return flags == PR_TASK_STREAMING && atomic_load(&t->items);
}

void pr_cover_item(PrSession *s, uint32_t task, uint32_t slot, uint32_t number) {
    PrTask *t = &s->tasks[task];
    PrObject *o = &s->objects[slot];
    PrCopy *c = pr_copy_of(o);
    uint64_t word = atomic_load(&o->state);
    if (pr_state(word) != PR_OBJECT_SEALED || !(word & PR_BLOCK) || o->size < PR_SPILL_LEAST)
        return;
    int why = number < PR_LINEAGE_ITEMS ? why_not(s, t) : PR_WHY_GENERATOR;
    if (why) {
        atomic_store(&c->why, (uint16_t)why);
        return;
    }
    c->item = (uint16_t)number;
    c->next_item = atomic_load(&t->items);
    atomic_store(&o->owner, task);
    atomic_fetch_or(&o->state, PR_LINEAGE);
    atomic_store(&t->items, slot);
}

void pr_drop_items(PrSession *s, const PrTask *t, uint64_t epoch) {
    if (!has_yielded(t)) return;
    pr_lock(s, &s->control->lineage_lock);
    /* A recovery has seen to them, as they were nobody's. */
    uint32_t slot = pr_epoch(s) == epoch ? atomic_load(&t->items) : 0;
    while (slot) {
        PrObject *o = &s->objects[slot];
        uint32_t item = slot;
        slot = pr_copy_of(o)->next_item;
        atomic_store(&pr_copy_of(o)->why, PR_WHY_FAILED);
        atomic_store(&o->owner, 0);
        if (!atomic_load(&o->refs)) pr_die(s, item);
    }
    pr_unlock(&s->control->lineage_lock);
    pr_bury(s);
}

uint32_t pr_item(const PrSession *s, const PrTask *t, uint32_t number) {
    uint32_t found = 0;
    for (uint32_t slot = pr_first_result(t); slot; slot = pr_next_result(s, t, slot)) {
        PrObject *o = &s->objects[slot];
        int pending = pr_state(atomic_load(&o->state)) == PR_OBJECT_PENDING;
        if (pr_copy_of(o)->item == number && (pending || !found)) found = slot;
    }
    return found;
}

/* -- keeping ----------------------------------------------------------------------------------- */

/* Whether all its results are values, and a large one of them is held by others, too; or may be so,
 * if it is not known who holds them. */
static int is_worth_keeping(const PrSession *s, const PrTask *t, int known) {
    int worth = has_yielded(t);
    for (uint32_t slot = pr_first_result(t); slot; slot = pr_next_result(s, t, slot)) {
        PrObject *o = &s->objects[slot];
        uint64_t word = atomic_load_explicit(&o->state, memory_order_relaxed);
        if (pr_state(word) != PR_OBJECT_SEALED) return 0;
        if (word & PR_STREAM || !(word & PR_BLOCK) || o->size < PR_SPILL_LEAST) continue;
        worth |= !known || atomic_load(&o->refs) > 1 || pr_maker(o);
    }
    return worth;
}

static void note_why(PrSession *s, const PrTask *t, int why) {
    for (uint32_t slot = pr_first_result(t); slot; slot = pr_next_result(s, t, slot)) {
        PrObject *o = &s->objects[slot];
        uint64_t word = atomic_load_explicit(&o->state, memory_order_relaxed);
        if (!pr_is_ready(word) || !(word & PR_BLOCK)) continue;
        uint32_t freed = atomic_load(&pr_copy_of(o)->why) & PR_WHY_FREED;
        atomic_store(&pr_copy_of(o)->why, (uint16_t)((uint32_t)why | freed));
    }
}

/* Whether it is wanted from now on, instead of held; *early: it will be, perhaps. */
static int may_be_weak(PrObject *o, int *early) {
    if (pr_is_inline(o)) return 0;
    *early |= !pr_maker(o) && pr_is_undecided(o);
    if (!pr_maker(o)) return 0;
    pr_copy_of(o)->wanted++;
    return 1;
}

/* Of what it needed it holds no more what can be made again. Before it is DONE, and again later if
 * that was too early. */
static void mark_weak(PrSession *s, PrTask *t) {
    PrDependency *d = pr_own_dependencies(s, t);
    uint32_t n;
    uint64_t *nested = pr_nested(s, t, &n);
    int early = 0;
    for (uint32_t k = 0; k < t->n_dependencies; k++) {
        if (pr_is_weak(&d[k]) || !may_be_weak(pr_object_of(s, d[k].object), &early)) continue;
        atomic_store_explicit(&d[k].next, PR_WEAK, memory_order_relaxed);
        pr_unref(s, pr_slot(d[k].object));
    }
    for (uint32_t k = 0; k < n; k++) {
        PrHandle h = nested[k];
        if (h & PR_UNHELD || !may_be_weak(pr_object_of(s, h), &early)) continue;
        nested[k] = h | PR_UNHELD;
        pr_unref(s, pr_slot(h));
    }
    atomic_fetch_and(&t->flags, ~(uint32_t)PR_TASK_EARLY);
    if (early) atomic_fetch_or(&t->flags, PR_TASK_EARLY);
}

/* Tasks that were over just before those that made what they needed: now, perhaps, these are. */
static void settle_early(PrSession *s) {
    PrControl *c = s->control;
    uint32_t task = c->lineage_last;
    for (int i = 0; i < LOOK_AT && task && c->n_early; i++) {
        PrTask *t = &s->tasks[task];
        task = atomic_load(&t->missing);
        if (!(t->flags & PR_TASK_EARLY)) continue;
        mark_weak(s, t);
        c->n_early -= !(t->flags & PR_TASK_EARLY);
        c->lineage_bytes -= atomic_load(&t->follower);
        atomic_store_explicit(&t->follower, cost_of(s, t), memory_order_relaxed);
        c->lineage_bytes += atomic_load(&t->follower);
    }
}

/* Once it is DONE. Of what it has yielded it has held the stream alone. */
static void release_results(PrSession *s, PrTask *t, int yielded) {
    if (yielded) {
        pr_unref(s, t->first_return);
        /* Who yielded one, and died at it, has left it to nobody. */
        for (uint32_t slot = pr_first_result(t); slot; slot = pr_next_result(s, t, slot))
            if (!atomic_load(&s->objects[slot].refs))
                pr_note_unheld(s, pr_handle(atomic_load(&s->objects[slot].state), slot));
        return;
    }
    for (uint32_t slot = pr_first_result(t); slot; slot = pr_next_result(s, t, slot))
        if (atomic_load_explicit(&s->objects[slot].state, memory_order_relaxed) & PR_LINEAGE)
            pr_unref(s, slot);
}

/* Whether somebody holds a result whose value only this task could make again. */
static int is_needed_now(const PrSession *s, const PrTask *t) {
    for (uint32_t slot = pr_first_result(t); slot; slot = pr_next_result(s, t, slot)) {
        PrObject *o = &s->objects[slot];
        if (atomic_load(&o->refs) && pr_is_gone(o)) return 1;
    }
    return 0;
}

/* The oldest go when there are too many; not those whose loss would be one of a value. */
static void trim(PrSession *s) {
    PrControl *c = s->control;
    uint32_t task = c->lineage_first;
    for (int i = 0; i < LOOK_AT && task &&
                    (c->lineage_bytes > c->max_lineage_bytes || c->n_lineage > c->tasks.limit / 2);
         i++) {
        uint32_t next = atomic_load(&s->tasks[task].next);
        if (!is_needed_now(s, &s->tasks[task])) {
            atomic_fetch_add(&c->n_lineage_dropped, 1);
            end_lineage(s, task);
            next = c->lineage_first; /* that may have been ended, too */
            i = 0;
        }
        task = next;
    }
}

/* Whether it is to be kept, and can be; else its results know why it cannot. */
static int may_keep(PrSession *s, const PrTask *t, int known) {
    int why = is_worth_keeping(s, t, known) ? why_not(s, t) : -1;
    if (why > 0) note_why(s, t, why);
    return why == 0;
}

/* Its results are such as it can make again. */
static void cover_results(PrSession *s, PrTask *t) {
    if (has_yielded(t)) {
        atomic_fetch_or(&t->flags, PR_TASK_ITEMS);
    } else {
        for (uint32_t slot = pr_first_result(t); slot; slot = pr_next_result(s, t, slot))
            if (atomic_load(&s->objects[slot].state) & PR_BLOCK)
                atomic_fetch_or(&s->objects[slot].state, PR_LINEAGE);
    }
    note_why(s, t, 0);
}

int pr_keep_orphan(PrSession *s, PrTask *t) {
    if (!may_keep(s, t, 0)) return 0;
    cover_results(s, t);
    atomic_fetch_or(&t->flags, PR_TASK_EARLY);
    pr_set_task_state(t, PR_TASK_DONE);
    return 1;
}

int pr_keep_task(PrSession *s, uint32_t task) {
    PrTask *t = &s->tasks[task];
    if (!may_keep(s, t, 1)) return 0;
    int yielded = has_yielded(t);
    pr_lock(s, &s->control->lineage_lock);
    cover_results(s, t);
    mark_weak(s, t);
    pr_set_task_state(t, PR_TASK_DONE);
    pr_link_done(s, task);
    release_results(s, t, yielded);
    if (!is_wanted(s, t)) end_lineage(s, task);
    if (s->control->n_early) settle_early(s);
    trim(s);
    pr_unlock(&s->control->lineage_lock);
    pr_bury(s);
    return 1;
}
