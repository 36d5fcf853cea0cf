/* Values that are lost, and made again by the tasks that made them; and values that are given back
 * on purpose. See lineage.h. */
#include <stdlib.h>

#include "lineage.h"
#include "object.h"

typedef struct {
    uint32_t *slots;
    uint32_t n, room;
} List;

typedef struct {
    List tasks;       /* that are to run again */
    uint64_t *seen;   /* bits */
    List held;        /* objects that the tasks hold again */
    uint64_t *blocks; /* to be given back once the lock is */
    uint32_t n_blocks;
    PrHandle culprit;
    PrWhy why;
} Plan;

/* Room for one more. */
static int make_longer(List *l) {
    uint32_t room = l->room ? 2 * l->room : 16;
    if (l->n < l->room) return 0;
    uint32_t *more = realloc(l->slots, room * sizeof *more);
    if (!more) return PR_FULL;
    l->slots = more;
    l->room = room;
    return 0;
}

static int plan_task(const PrSession *s, Plan *p, uint32_t task) {
    uint64_t bit = (uint64_t)1 << (task & 63);
    const PrTask *t = &s->tasks[task];
    if (pr_state(atomic_load(&t->state)) != PR_TASK_DONE) {
        /* A generator that runs for the first time may go on for ever. */
        int yields = (t->flags & (PR_TASK_STREAMING | PR_TASK_ITEMS)) == PR_TASK_STREAMING;
        p->why = yields ? PR_WHY_UNDECIDED : 0;
        return PR_BUSY;
    }
    if (!p->seen && !(p->seen = calloc(s->control->tasks.limit / 64 + 1, sizeof *p->seen)))
        return PR_FULL;
    if (p->seen[task >> 6] & bit) return 0;
    if (make_longer(&p->tasks)) return PR_FULL;
    p->seen[task >> 6] |= bit;
    p->tasks.slots[p->tasks.n++] = task;
    return 0;
}

static int blame(Plan *p, PrHandle culprit, PrWhy why) {
    p->culprit = culprit;
    p->why = why;
    return PR_STALE;
}

/* That value will be needed: it is there, being made, or planned. */
static int plan_value(const PrSession *s, Plan *p, PrHandle h) {
    PrObject *o = pr_object_of(s, h);
    uint64_t word = atomic_load(&o->state);
    if (!pr_same(word, h) || pr_state(word) == PR_OBJECT_DYING) return blame(p, h, PR_WHY_GONE);
    if (!pr_is_gone(o)) return 0;
    if (atomic_load(&pr_copy_of(o)->writing)) return PR_BUSY;
    uint32_t maker = pr_maker(o);
    if (!maker && pr_is_undecided(o)) return PR_BUSY;
    return maker ? plan_task(s, p, maker) : blame(p, h, atomic_load(&pr_copy_of(o)->why));
}

/* All that follows from the tasks that are planned. */
static int plan_rest(const PrSession *s, Plan *p) {
    int status = 0;
    for (uint32_t i = 0; !status && i < p->tasks.n; i++) {
        const PrTask *t = &s->tasks[p->tasks.slots[i]];
        const PrDependency *d = pr_dependencies(s, t);
        uint32_t n;
        const uint64_t *nested = pr_nested(s, t, &n);
        if (t->arguments) status = plan_value(s, p, t->arguments);
        for (uint32_t k = 0; !status && k < t->n_dependencies; k++)
            status = plan_value(s, p, d[k].object);
        for (uint32_t k = 0; !status && k < n; k++)
            status = plan_value(s, p, nested[k] & ~PR_UNHELD);
    }
    return status;
}

static void forget_plan(Plan *p) {
    free(p->tasks.slots);
    free(p->seen);
    free(p->held.slots);
    free(p->blocks);
}

int pr_could_reconstruct(PrSession *s, uint32_t slot) {
    Plan p = {0};
    uint32_t maker = pr_maker(&s->objects[slot]);
    int status = maker ? plan_task(s, &p, maker) : PR_STALE;
    if (!status) status = plan_rest(s, &p);
    forget_plan(&p);
    return !status;
}

/* What nobody may hold any more is held, if it is still there. */
static int hold_weak(const PrSession *s, Plan *p, PrHandle h) {
    PrObject *o = pr_object_of(s, h);
    if (make_longer(&p->held)) return PR_FULL;
    uint32_t n = atomic_load(&o->refs), lives = pr_maker(o) != 0; /* whoever refers to it, or not */
    while ((n || lives) && !atomic_compare_exchange_weak(&o->refs, &n, n + 1)) {
    }
    if (!n && !lives) return blame(p, h, PR_WHY_GONE);
    p->held.slots[p->held.n++] = pr_slot(h);
    return 0;
}

/* The tasks hold all that they need, or nothing more than before. */
static int hold_needed(PrSession *s, Plan *p) {
    int status = 0;
    for (uint32_t i = 0; i < p->tasks.n; i++) {
        const PrTask *t = &s->tasks[p->tasks.slots[i]];
        const PrDependency *d = pr_dependencies(s, t);
        uint32_t n;
        const uint64_t *nested = pr_nested(s, t, &n);
        for (uint32_t k = 0; !status && k < t->n_dependencies; k++)
            if (pr_is_weak(&d[k])) status = hold_weak(s, p, d[k].object);
        for (uint32_t k = 0; !status && k < n; k++)
            if (nested[k] & PR_UNHELD) status = hold_weak(s, p, nested[k] & ~PR_UNHELD);
    }
    while (status && p->held.n) pr_unref(s, p->held.slots[--p->held.n]);
    return status;
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

/* It holds that from now on, and wants it no more. */
static void take_hold(PrSession *s, PrHandle h) {
    PrObject *o = pr_object_of(s, h);
    if (pr_maker(o)) pr_copy_of(o)->wanted--;
}

void pr_clear_marks(PrSession *s, PrTask *t) {
    PrDependency *d = pr_own_dependencies(s, t);
    uint32_t n;
    uint64_t *nested = pr_nested(s, t, &n);
    for (uint32_t k = 0; k < t->n_dependencies; k++)
        if (pr_is_weak(&d[k])) atomic_store_explicit(&d[k].next, 0, memory_order_relaxed);
    for (uint32_t k = 0; k < n; k++) nested[k] &= ~PR_UNHELD;
}

/* A block that is nobody's any more. Without memory to note it, it comes back at a recovery. */
static void note_block(Plan *p, uint64_t block) {
    uint64_t *more = block ? realloc(p->blocks, (p->n_blocks + 1) * sizeof *more) : NULL;
    if (!more) return;
    p->blocks = more;
    more[p->n_blocks++] = block;
}

/* WAITING, held back, and its results PENDING. */
static void begin_again(PrSession *s, Plan *p, uint32_t task) {
    PrTask *t = &s->tasks[task];
    const PrDependency *d = pr_dependencies(s, t);
    uint32_t n;
    const uint64_t *nested = pr_nested(s, t, &n);
    pr_unlink_done(s, t);
    for (uint32_t k = 0; k < t->n_dependencies; k++)
        if (pr_is_weak(&d[k])) take_hold(s, d[k].object);
    for (uint32_t k = 0; k < n; k++)
        if (nested[k] & PR_UNHELD) take_hold(s, nested[k] & ~PR_UNHELD);
    t->attempt++;
    atomic_store_explicit(&t->worker, 0, memory_order_relaxed);
    atomic_store_explicit(&t->next, 0, memory_order_relaxed);
    atomic_store(&t->missing, t->n_dependencies + 1);
    pr_set_task_state(t, PR_TASK_WAITING);
    pr_clear_marks(s, t);
    for (uint32_t slot = pr_first_result(t); slot; slot = pr_next_result(s, t, slot)) {
        PrObject *o = &s->objects[slot];
        if (!(atomic_load(&o->state) & PR_LINEAGE)) continue;
        atomic_fetch_add(&o->refs, 1);
        /* Its copy may have been lost while it is read: then it may still come from there. */
        if (pr_is_gone(o) && !atomic_load(&pr_copy_of(o)->writing))
            note_block(p, make_pending(s, o));
    }
}

/* Under the lock, nothing stands in the way any more. */
static void run_again(PrSession *s, Plan *p) {
    uint32_t n_ready = 0;
    for (uint32_t i = 0; i < p->tasks.n; i++) begin_again(s, p, p->tasks.slots[i]);
    for (uint32_t i = 0; i < p->tasks.n; i++) {
        uint32_t task = p->tasks.slots[i], sealed = pr_link_dependencies(s, task) + 1;
        if (atomic_fetch_sub(&s->tasks[task].missing, sealed) != sealed) continue;
        pr_make_task_ready(&s->tasks[task]);
        p->tasks.slots[n_ready++] = task;
    }
    atomic_fetch_add(&s->control->n_reconstructed, p->tasks.n);
    p->tasks.n = n_ready;
}

static int plan_all(PrSession *s, Plan *p, PrHandle object) {
    int status = plan_value(s, p, object);
    if (!status) status = plan_rest(s, p);
    return status || !p->tasks.n ? status : hold_needed(s, p);
}

int pr_reconstruct(PrSession *s, PrHandle object, PrHandle *culprit, PrWhy *why) {
    Plan p = {0};
    pr_enter(s);
    pr_lock(s, &s->control->lineage_lock);
    /* No waiting until the lock is given up: a recovery comes before all of it, or after. */
    uint64_t epoch = pr_epoch(s);
    int status = plan_all(s, &p, object);
    if (!status) run_again(s, &p);
    pr_unlock(&s->control->lineage_lock);
    for (uint32_t i = 0; !status && i < p.tasks.n && pr_epoch(s) == epoch; i++)
        pr_queue_tasks(s, s->tasks[p.tasks.slots[i]].shape, p.tasks.slots[i], p.tasks.slots[i], 1,
                       epoch);
    for (uint32_t i = 0; i < p.n_blocks && pr_epoch(s) == epoch; i++)
        pr_block_free(s, &p.blocks[i]);
    pr_bury(s);
    pr_leave(s);
    *culprit = p.culprit;
    *why = p.why;
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
    pr_free_taken(s, blocks);
    pr_bury(s);
    pr_leave(s);
    return status;
}
