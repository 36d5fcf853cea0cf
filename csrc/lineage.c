/* Lineage; see lineage.h. */
#include "lineage.h"

#include <stdlib.h>
#include <string.h>

#include "object.h"

enum { LOOK_AT = 64 /* tasks that may not go, before it is given up */ };

static PrObject *object_at(const PrSession *s, PrHandle h) {
    return &s->objects[pr_slot(h)];
}

static PrDependency *dependencies(const PrSession *s, PrTask *t) {
    if (!t->dependencies) return t->inline_dependencies;
    return (PrDependency *)(void *)(s->write_base + t->dependencies);
}

static int is_weak(const PrDependency *d) {
    return atomic_load_explicit(&d->next, memory_order_relaxed) == PR_WEAK;
}

static uint32_t next_return(const PrSession *s, uint32_t slot) {
    return atomic_load_explicit(&s->objects[slot].next, memory_order_relaxed);
}

/* A result of a task that is not over. */
static int is_undecided(PrObject *o) {
    return (atomic_load(&pr_copy_of(o)->why) & ~(uint32_t)PR_WHY_FREED) == PR_WHY_UNDECIDED;
}

int pr_is_gone(PrObject *o) {
    uint64_t word = atomic_load(&o->state);
    return pr_state(word) == PR_OBJECT_SEALED && word & PR_OUT && !(word & PR_ACTOR) && !o->place &&
           !atomic_load(&pr_copy_of(o)->file);
}

/* -- the list of tasks that are DONE ----------------------------------------------------------- */

static uint64_t bytes_of(const PrSession *s, PrHandle h) {
    PrObject *o = object_at(s, h);
    return pr_is_inline(o) ? 0 : o->size;
}

static uint64_t cost_of(const PrSession *s, const PrTask *t) {
    const PrDependency *d = pr_dependencies(s, t);
    uint64_t bytes = PR_LINEAGE_TASK;
    if (t->dependencies) bytes += t->n_dependencies * sizeof *d;
    if (t->arguments) bytes += bytes_of(s, t->arguments);
    for (uint32_t k = 0; k < t->n_dependencies; k++)
        if (!is_weak(&d[k])) bytes += bytes_of(s, d[k].object);
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

static void unlink_done(PrSession *s, PrTask *t) {
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
    uint32_t slot = t->first_return;
    for (uint32_t i = 0; i < t->n_returns; i++, slot = next_return(s, slot)) {
        PrObject *o = &s->objects[slot];
        if (!(atomic_load(&o->state) & PR_LINEAGE)) continue;
        if (atomic_load(&o->refs) || pr_copy_of(o)->wanted) return 1;
    }
    return 0;
}

/* A dependency that a task wanted and wants no more. The task that is to be ended for that, or 0.
 */
static uint32_t forget(PrSession *s, PrHandle h) {
    PrObject *o = object_at(s, h);
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
    uint32_t slot = t->first_return;
    for (uint32_t i = 0, next; i < t->n_returns; i++, slot = next) {
        PrObject *o = &s->objects[slot];
        next = next_return(s, slot);
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

/* DONE tasks are no longer: that one, and all that only it kept. Their slots follow in
 * bury_over. */
static void end_lineage(PrSession *s, uint32_t task) {
    uint32_t list = task;
    unlink_done(s, &s->tasks[task]);
    atomic_store_explicit(&s->tasks[task].next, 0, memory_order_relaxed);
    while (list) {
        PrTask *t = &s->tasks[task = list];
        PrDependency *d = dependencies(s, t);
        list = atomic_load_explicit(&t->next, memory_order_relaxed);
        atomic_store_explicit(&t->worker, s->index, memory_order_relaxed);
        pr_set_task_state(t, PR_TASK_DYING);
        let_go(s, t);
        for (uint32_t k = 0; k < t->n_dependencies; k++) {
            uint32_t unwanted = is_weak(&d[k]) ? forget(s, d[k].object) : 0;
            if (!is_weak(&d[k])) pr_unref(s, pr_slot(d[k].object));
            if (!unwanted) continue;
            unlink_done(s, &s->tasks[unwanted]);
            atomic_store_explicit(&s->tasks[unwanted].next, list, memory_order_relaxed);
            list = unwanted;
        }
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
    for (uint32_t i = 0; i < o->n_refs; i++) pr_unref(s, pr_slot(targets[i]));
    o->n_refs = 0;
    atomic_fetch_or(&o->state, PR_OUT | PR_BLOCK);
    o->place = 0;
    pr_crash_point();
    c->handles = 0;
    pr_leave_file(s, o);
}

static void free_blocks(PrSession *s, uint64_t blocks[2]) {
    uint64_t epoch = pr_epoch(s);
    pr_block_free(s, &blocks[0]);
    if (pr_epoch(s) == epoch) pr_block_free(s, &blocks[1]);
}

static void settle_unheld(PrSession *s, PrHandle h, uint64_t blocks[2]) {
    PrObject *o = object_at(s, h);
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
        pr_lock(s, lock);
        settle_unheld(s, s->unheld[--s->n_unheld], blocks);
        pr_unlock(lock);
        free_blocks(s, blocks);
        bury_over(s);
    }
}

/* -- keeping ----------------------------------------------------------------------------------- */

void pr_uncover(PrSession *s, const PrTask *t) {
    uint32_t slot = t->first_return;
    for (uint32_t i = 0; i < t->n_returns; i++, slot = next_return(s, slot)) {
        PrObject *o = &s->objects[slot];
        uint64_t word = atomic_load_explicit(&o->state, memory_order_relaxed);
        if (word & PR_LINEAGE || (word & PR_BLOCK && is_undecided(o)))
            atomic_store(&pr_copy_of(o)->why, PR_WHY_FAILED);
        if (word & PR_LINEAGE) atomic_store(&o->owner, 0);
    }
}

/* Of those that are worth it: 0, or why it is not kept. */
static int why_not(const PrSession *s, const PrTask *t) {
    if (t->flags & (PR_TASK_CALL | PR_TASK_CREATION)) return PR_WHY_ACTOR;
    if (t->flags & (PR_TASK_STREAMING | PR_TASK_DYNAMIC)) return PR_WHY_GENERATOR;
    if (!t->retries_left) return PR_WHY_NO_RETRIES;
    return s->control->max_lineage_bytes ? 0 : PR_WHY_DROPPED;
}

/* Whether all its results are values, and a large one of them is held by others, too. */
static int is_worth_keeping(const PrSession *s, const PrTask *t) {
    uint32_t slot = t->first_return;
    int worth = 0;
    for (uint32_t i = 0; i < t->n_returns; i++, slot = next_return(s, slot)) {
        PrObject *o = &s->objects[slot];
        uint64_t word = atomic_load_explicit(&o->state, memory_order_relaxed);
        if (pr_state(word) != PR_OBJECT_SEALED) return 0;
        if (!(word & PR_BLOCK) || o->size < PR_SPILL_LEAST) continue;
        worth |= atomic_load(&o->refs) > 1 || pr_maker(o);
    }
    return worth;
}

static void note_why(PrSession *s, const PrTask *t, int why) {
    uint32_t slot = t->first_return;
    for (uint32_t i = 0; i < t->n_returns; i++, slot = next_return(s, slot)) {
        PrObject *o = &s->objects[slot];
        uint64_t word = atomic_load_explicit(&o->state, memory_order_relaxed);
        if (!pr_is_ready(word) || !(word & PR_BLOCK)) continue;
        uint32_t freed = atomic_load(&pr_copy_of(o)->why) & PR_WHY_FREED;
        atomic_store(&pr_copy_of(o)->why, (uint32_t)why | freed);
    }
}

/* Before it is DONE: which of its dependencies it will not hold. */
static void mark_weak(PrSession *s, PrTask *t) {
    PrDependency *d = dependencies(s, t);
    int early = 0;
    for (uint32_t k = 0; k < t->n_dependencies; k++) {
        PrObject *o = object_at(s, d[k].object);
        uint64_t weak = pr_maker(o) ? PR_WEAK : 0;
        if (weak) pr_copy_of(o)->wanted++;
        else early |= !pr_is_inline(o) && is_undecided(o);
        atomic_store_explicit(&d[k].next, weak, memory_order_relaxed);
    }
    atomic_fetch_and(&t->flags, ~(uint32_t)PR_TASK_EARLY);
    if (early) atomic_fetch_or(&t->flags, PR_TASK_EARLY);
}

/* It was over before those that made its dependencies were: now, perhaps, they are. */
static void mark_weak_later(PrSession *s, PrTask *t) {
    PrDependency *d = dependencies(s, t);
    int early = 0;
    for (uint32_t k = 0; k < t->n_dependencies; k++) {
        PrObject *o = object_at(s, d[k].object);
        if (is_weak(&d[k]) || pr_is_inline(o)) continue;
        early |= is_undecided(o);
        if (!pr_maker(o)) continue;
        pr_copy_of(o)->wanted++;
        atomic_store_explicit(&d[k].next, PR_WEAK, memory_order_relaxed);
        pr_unref(s, pr_slot(d[k].object));
    }
    uint64_t before = atomic_load(&t->follower), cost = cost_of(s, t);
    s->control->lineage_bytes -= before - cost;
    atomic_store_explicit(&t->follower, cost, memory_order_relaxed);
    if (early) return;
    atomic_fetch_and(&t->flags, ~(uint32_t)PR_TASK_EARLY);
    s->control->n_early--;
}

/* Those that were over just before. */
static void settle_early(PrSession *s) {
    PrControl *c = s->control;
    uint32_t task = c->lineage_last;
    for (int i = 0; i < LOOK_AT && task && c->n_early; i++) {
        PrTask *t = &s->tasks[task];
        task = atomic_load(&t->missing);
        if (t->flags & PR_TASK_EARLY) mark_weak_later(s, t);
    }
}

/* Once it is DONE. */
static void release_held(PrSession *s, PrTask *t) {
    const PrDependency *d = dependencies(s, t);
    uint32_t slot = t->first_return;
    for (uint32_t k = 0; k < t->n_dependencies; k++)
        if (is_weak(&d[k])) pr_unref(s, pr_slot(d[k].object));
    for (uint32_t i = 0; i < t->n_returns; i++, slot = next_return(s, slot))
        if (atomic_load_explicit(&s->objects[slot].state, memory_order_relaxed) & PR_LINEAGE)
            pr_unref(s, slot);
}

/* Whether somebody holds a result whose value only this task could make again. */
static int is_needed_now(const PrSession *s, const PrTask *t) {
    uint32_t slot = t->first_return;
    for (uint32_t i = 0; i < t->n_returns; i++, slot = next_return(s, slot)) {
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

int pr_keep_task(PrSession *s, uint32_t task) {
    PrTask *t = &s->tasks[task];
    if (!is_worth_keeping(s, t)) return 0;
    int why = why_not(s, t);
    if (why) {
        note_why(s, t, why);
        return 0;
    }
    uint32_t slot = t->first_return;
    pr_lock(s, &s->control->lineage_lock);
    for (uint32_t i = 0; i < t->n_returns; i++, slot = next_return(s, slot)) {
        PrObject *o = &s->objects[slot];
        if (atomic_load_explicit(&o->state, memory_order_relaxed) & PR_BLOCK)
            atomic_fetch_or(&o->state, PR_LINEAGE);
    }
    note_why(s, t, 0);
    mark_weak(s, t);
    pr_set_task_state(t, PR_TASK_DONE);
    pr_link_done(s, task);
    release_held(s, t);
    if (s->control->n_early) settle_early(s);
    trim(s);
    pr_unlock(&s->control->lineage_lock);
    pr_bury(s);
    return 1;
}

/* -- making again ------------------------------------------------------------------------------ */

typedef struct {
    uint32_t *tasks; /* that are to run again */
    uint32_t n, room;
    uint64_t *seen; /* bits */
    PrHandle culprit;
    PrWhy why;
} Plan;

static int plan_task(const PrSession *s, Plan *p, uint32_t task) {
    uint64_t bit = (uint64_t)1 << (task & 63);
    int state = pr_state(atomic_load(&s->tasks[task].state));
    if (state != PR_TASK_DONE) return PR_BUSY;
    if (!p->seen && !(p->seen = calloc(s->control->tasks.limit / 64 + 1, sizeof *p->seen)))
        return PR_FULL;
    if (p->seen[task >> 6] & bit) return 0;
    if (p->n == p->room) {
        uint32_t room = p->room ? 2 * p->room : 16;
        uint32_t *more = realloc(p->tasks, room * sizeof *more);
        if (!more) return PR_FULL;
        p->tasks = more;
        p->room = room;
    }
    p->seen[task >> 6] |= bit;
    p->tasks[p->n++] = task;
    return 0;
}

static int blame(Plan *p, PrHandle culprit, PrWhy why) {
    p->culprit = culprit;
    p->why = why;
    return PR_STALE;
}

/* That value will be needed: it is there, being made, or planned. */
static int plan_value(const PrSession *s, Plan *p, PrHandle h) {
    PrObject *o = object_at(s, h);
    uint64_t word = atomic_load(&o->state);
    if (!pr_same(word, h) || pr_state(word) == PR_OBJECT_DYING) return blame(p, h, PR_WHY_GONE);
    if (!pr_is_gone(o)) return 0;
    if (atomic_load(&pr_copy_of(o)->writing)) return PR_BUSY;
    uint32_t maker = pr_maker(o);
    if (!maker && is_undecided(o)) return PR_BUSY;
    return maker ? plan_task(s, p, maker) : blame(p, h, atomic_load(&pr_copy_of(o)->why));
}

/* All that follows from the tasks that are planned. */
static int plan_rest(const PrSession *s, Plan *p) {
    int status = 0;
    for (uint32_t i = 0; !status && i < p->n; i++) {
        const PrTask *t = &s->tasks[p->tasks[i]];
        const PrDependency *d = pr_dependencies(s, t);
        if (t->arguments) status = plan_value(s, p, t->arguments);
        for (uint32_t k = 0; !status && k < t->n_dependencies; k++)
            status = plan_value(s, p, d[k].object);
    }
    return status;
}

static void forget_plan(Plan *p) {
    free(p->tasks);
    free(p->seen);
}

int pr_could_reconstruct(PrSession *s, uint32_t slot) {
    Plan p = {0};
    uint32_t maker = pr_maker(&s->objects[slot]);
    int status = maker ? plan_task(s, &p, maker) : PR_STALE;
    if (!status) status = plan_rest(s, &p);
    forget_plan(&p);
    return !status;
}

/* What nobody may hold any more, and has no lineage, is held if it is still there. */
static int hold_weak(const PrSession *s, PrHandle h) {
    PrObject *o = object_at(s, h);
    if (pr_maker(o)) {
        atomic_fetch_add(&o->refs, 1);
        return 1;
    }
    uint32_t n = atomic_load(&o->refs);
    while (n && !atomic_compare_exchange_weak(&o->refs, &n, n + 1)) {
    }
    return n != 0;
}

/* The tasks hold all their dependencies, or none of them does what it did not before. */
static int hold_dependencies(PrSession *s, Plan *p) {
    uint32_t i, k;
    for (i = 0; i < p->n; i++) {
        PrTask *t = &s->tasks[p->tasks[i]];
        const PrDependency *d = dependencies(s, t);
        for (k = 0; k < t->n_dependencies; k++)
            if (is_weak(&d[k]) && !hold_weak(s, d[k].object)) goto undo;
    }
    return 0;
undo:
    blame(p, dependencies(s, &s->tasks[p->tasks[i]])[k].object, PR_WHY_GONE);
    for (;;) {
        const PrDependency *d = dependencies(s, &s->tasks[p->tasks[i]]);
        while (k--)
            if (is_weak(&d[k])) pr_unref(s, pr_slot(d[k].object));
        if (!i--) return PR_STALE;
        k = s->tasks[p->tasks[i]].n_dependencies;
    }
}

/* To be made again. The block of its handles stays for the caller. */
static uint64_t make_pending(PrSession *s, PrObject *o) {
    uint64_t blocks[2], word;
    pr_take_value(s, o, blocks);
    word = atomic_load(&o->state);
    atomic_store(&pr_copy_of(o)->why, 0);
    atomic_store(&o->dependants, 0);
    while (!atomic_compare_exchange_weak(
        &o->state, &word, (word & ~(uint64_t)(PR_STATE_MASK | PR_FETCH)) | PR_OBJECT_PENDING)) {
    }
    return blocks[1];
}

/* WAITING, held back, and its results PENDING. Blocks to be given back are noted. */
static int begin_again(PrSession *s, uint32_t task, uint64_t **blocks, uint32_t *n) {
    PrTask *t = &s->tasks[task];
    PrDependency *d = dependencies(s, t);
    uint32_t slot = t->first_return;
    unlink_done(s, t);
    for (uint32_t k = 0; k < t->n_dependencies; k++)
        if (is_weak(&d[k]) && pr_maker(object_at(s, d[k].object)))
            pr_copy_of(object_at(s, d[k].object))->wanted--;
    t->attempt++;
    atomic_store_explicit(&t->worker, 0, memory_order_relaxed);
    atomic_store_explicit(&t->next, 0, memory_order_relaxed);
    atomic_store(&t->missing, t->n_dependencies + 1);
    pr_set_task_state(t, PR_TASK_WAITING);
    for (uint32_t i = 0; i < t->n_returns; i++, slot = next_return(s, slot)) {
        PrObject *o = &s->objects[slot];
        if (!(atomic_load(&o->state) & PR_LINEAGE)) continue;
        atomic_fetch_add(&o->refs, 1);
        if (!pr_is_gone(o)) continue;
        uint64_t block = make_pending(s, o);
        if (!block) continue;
        uint64_t *more = realloc(*blocks, (*n + 1) * sizeof *more);
        if (!more) return PR_FULL; /* a block is lost until the next recovery */
        *blocks = more;
        more[(*n)++] = block;
    }
    return 0;
}

/* Under the lock, nothing stands in the way any more. */
static void run_again(PrSession *s, Plan *p, uint64_t **blocks, uint32_t *n_blocks) {
    uint32_t n_ready = 0;
    for (uint32_t i = 0; i < p->n; i++) begin_again(s, p->tasks[i], blocks, n_blocks);
    for (uint32_t i = 0; i < p->n; i++) {
        uint32_t task = p->tasks[i], sealed = pr_link_dependencies(s, task) + 1;
        if (atomic_fetch_sub(&s->tasks[task].missing, sealed) != sealed) continue;
        pr_make_task_ready(&s->tasks[task]);
        p->tasks[n_ready++] = task;
    }
    atomic_fetch_add(&s->control->n_reconstructed, p->n);
    p->n = n_ready;
}

static int plan_all(PrSession *s, Plan *p, PrHandle object) {
    int status = plan_value(s, p, object);
    if (!status) status = plan_rest(s, p);
    return status || !p->n ? status : hold_dependencies(s, p);
}

int pr_reconstruct(PrSession *s, PrHandle object, PrHandle *culprit, PrWhy *why) {
    Plan p = {0};
    uint64_t *blocks = NULL;
    uint32_t n_blocks = 0;
    pr_enter(s);
    pr_lock(s, &s->control->lineage_lock);
    /* No waiting until the lock is given up: a recovery comes before all of it, or after. */
    uint64_t epoch = pr_epoch(s);
    int status = plan_all(s, &p, object);
    if (!status) run_again(s, &p, &blocks, &n_blocks);
    pr_unlock(&s->control->lineage_lock);
    for (uint32_t i = 0; !status && i < p.n && pr_epoch(s) == epoch; i++)
        pr_queue_tasks(s, s->tasks[p.tasks[i]].shape, p.tasks[i], p.tasks[i], 1, epoch);
    for (uint32_t i = 0; i < n_blocks && pr_epoch(s) == epoch; i++) pr_block_free(s, &blocks[i]);
    pr_bury(s);
    pr_leave(s);
    *culprit = p.culprit;
    *why = p.why;
    free(blocks);
    forget_plan(&p);
    return status;
}

int pr_discard(PrSession *s, uint32_t slot) {
    PrObject *o = &s->objects[slot];
    uint64_t blocks[2] = {0, 0};
    int status = PR_STALE;
    pr_enter(s);
    pr_lock(s, &s->control->lineage_lock);
    uint64_t word = atomic_load(&o->state);
    if (pr_state(word) == PR_OBJECT_SEALED && (word & (PR_BLOCK | PR_ACTOR)) == PR_BLOCK &&
        o->size >= PR_SPILL_LEAST && !pr_is_gone(o))
        status = word & PR_OUT ? pr_copy_is_idle(o) : pr_mark_out(o);
    if (!status) {
        pr_take_value(s, o, blocks);
        atomic_fetch_or(&pr_copy_of(o)->why, PR_WHY_FREED);
    }
    pr_unlock(&s->control->lineage_lock);
    free_blocks(s, blocks);
    pr_bury(s);
    pr_leave(s);
    return status;
}
