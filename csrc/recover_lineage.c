/* Lineage in a recovery; see recover.h and lineage.h. The truth that is read: which tasks are DONE,
 * which of their dependencies they hold, which objects have PR_LINEAGE and whose value is gone. */
#include <stdlib.h>

#include "lineage.h"
#include "recover.h"

static int has_lineage(const PrSession *s, uint32_t slot) {
    return (atomic_load(&s->objects[slot].state) & PR_LINEAGE) != 0;
}

/* It was to be run again when who did that died: the rest of its results. */
static void make_pending(PrSession *s, const PrTask *t) {
    for (uint32_t slot = pr_first_result(t); slot; slot = pr_next_result(s, t, slot)) {
        PrObject *o = &s->objects[slot];
        uint64_t word = atomic_load(&o->state);
        if (!(word & PR_LINEAGE) || !pr_is_gone(o)) continue;
        if (atomic_load(&pr_copy_of(o)->writing)) continue; /* as begin_again */
        o->n_refs = 0;
        pr_copy_of(o)->handles = 0;
        atomic_store(&o->state, (word & ~(uint64_t)(PR_STATE_MASK | PR_FETCH)) | PR_OBJECT_PENDING);
    }
}

void pr_settle_repeated(Rebuild *r) {
    for (uint32_t i = 1; i < r->n_tasks; i++) {
        PrTask *t = &r->s->tasks[i];
        int state = pr_state(atomic_load(&t->state));
        if (is_pending(t)) pr_clear_marks(r->s, t);
        if (state == PR_TASK_WAITING || state == PR_TASK_READY) make_pending(r->s, t);
    }
}

void pr_count_done(Rebuild *r, const PrTask *t) {
    PrSession *s = r->s;
    const PrDependency *d = pr_dependencies(s, t);
    for (uint32_t k = 0; k < t->n_dependencies; k++)
        if (!pr_is_weak(&d[k])) count(r, d[k].object);
    if (t->arguments) count(r, t->arguments);
    if (t->label) count(r, t->label);
    for (uint32_t slot = pr_first_result(t); slot; slot = pr_next_result(s, t, slot)) {
        if (has_lineage(s, slot)) r->claimed[slot] = 1;
        else count(r, slot);
    }
}

void pr_claim_items(Rebuild *r, const PrTask *t) {
    uint32_t flags = t->flags & (PR_TASK_STREAMING | PR_TASK_CALL | PR_TASK_ITEMS);
    if (flags != PR_TASK_STREAMING) return;
    for (uint32_t slot = atomic_load(&t->items); slot;
         slot = pr_copy_of(&r->s->objects[slot])->next_item)
        r->claimed[slot] = 1;
}

/* A DONE task wants that object's lineage kept, or, with -1, no more. */
static void want(const PrSession *s, PrHandle h, int change) {
    PrObject *o = pr_object_of(s, h);
    uint64_t word = atomic_load(&o->state);
    int state = pr_state(word);
    if (pr_same(word, h) && pr_maker(o) && state >= PR_OBJECT_PENDING && state <= PR_OBJECT_FAILED)
        pr_copy_of(o)->wanted += (uint32_t)change;
}

static void want_all(const PrSession *s, const PrTask *t, int change) {
    const PrDependency *d = pr_dependencies(s, t);
    uint32_t n;
    const uint64_t *nested = pr_nested(s, t, &n);
    for (uint32_t k = 0; k < t->n_dependencies; k++)
        if (pr_is_weak(&d[k])) want(s, d[k].object, change);
    for (uint32_t k = 0; k < n; k++)
        if (nested[k] & PR_UNHELD) want(s, nested[k] & ~PR_UNHELD, change);
}

/* A result whose task is neither DONE nor to be run. */
static void abandon(PrSession *s, uint32_t slot) {
    PrObject *o = &s->objects[slot];
    uint64_t word = atomic_load(&o->state);
    int undecided = pr_is_ready(word) && pr_has_copy(o, word) && pr_is_undecided(o);
    if (pr_maker(o) || undecided) atomic_store(&pr_copy_of(o)->why, PR_WHY_FAILED);
    if (has_lineage(s, slot)) atomic_store(&o->owner, 0);
}

void pr_count_wanted(Rebuild *r) {
    PrSession *s = r->s;
    for (uint32_t i = 1; i < r->n_objects; i++) {
        PrObject *o = &s->objects[i];
        int state = pr_state(atomic_load(&o->state));
        if (state < PR_OBJECT_PENDING || state > PR_OBJECT_FAILED) continue;
        if (has_lineage(s, i)) pr_copy_of(o)->wanted = 0;
        if (!r->claimed[i]) abandon(s, i);
    }
    for (uint32_t i = 1; i < r->n_tasks; i++) {
        const PrTask *t = &s->tasks[i];
        if (pr_is_done(t)) want_all(s, t, 1);
    }
}

/* -- what nobody needs any more ---------------------------------------------------------------- */

/* Values that nobody holds go; whether there were any, and whether any result is wanted. */
static int settle_results(Rebuild *r, const PrTask *t, int *wanted) {
    PrSession *s = r->s;
    int changed = 0;
    for (uint32_t slot = pr_first_result(t); slot; slot = pr_next_result(s, t, slot)) {
        PrObject *o = &s->objects[slot];
        PrCopy *c = pr_copy_of(o);
        if (!has_lineage(s, slot)) continue;
        *wanted |= atomic_load(&o->refs) || c->wanted;
        if (atomic_load(&o->refs) || pr_is_gone(o)) continue;
        for (uint32_t k = 0; k < o->n_refs; k++)
            if (!(pr_refs_in(s, o)[k] & PR_UNHELD)) pr_drop(r, pr_slot(pr_refs_in(s, o)[k]));
        o->n_refs = 0;
        atomic_fetch_or(&o->state, PR_OUT | PR_BLOCK);
        o->place = c->handles = 0;
        atomic_store(&c->file, 0);
        changed = 1;
    }
    return changed;
}

static void end_lineage(Rebuild *r, PrTask *t) {
    PrSession *s = r->s;
    const PrDependency *d = pr_dependencies(s, t);
    want_all(s, t, -1);
    for (uint32_t k = 0; k < t->n_dependencies; k++)
        if (!pr_is_weak(&d[k])) pr_drop(r, pr_slot(d[k].object));
    if (t->arguments) pr_drop(r, pr_slot(t->arguments));
    if (t->label) pr_drop(r, t->label);
    for (uint32_t slot = pr_first_result(t), next; slot; slot = next) {
        next = pr_next_result(s, t, slot);
        if (!has_lineage(s, slot)) {
            pr_drop(r, slot);
            continue;
        }
        atomic_store(&s->objects[slot].owner, 0);
        pr_free_unreferenced(r, slot);
    }
    pr_free_task(t);
}

void pr_rebuild_lineage(Rebuild *r) {
    PrSession *s = r->s;
    PrControl *c = s->control;
    uint32_t *done = malloc((size_t)r->n_tasks * sizeof *done), n = 0;
    int changed;
    if (!done) abort();
    for (uint32_t i = 1; i < r->n_tasks; i++)
        if (pr_is_done(&s->tasks[i])) done[n++] = i;
    pr_sort_tasks(s, done, n);
    do { /* the youngest first: they want what others have made */
        changed = 0;
        for (uint32_t i = n; i--;) {
            int wanted = 0;
            if (!done[i]) continue;
            changed |= settle_results(r, &s->tasks[done[i]], &wanted);
            if (wanted) continue;
            end_lineage(r, &s->tasks[done[i]]);
            done[i] = 0;
            changed = 1;
        }
    } while (changed);
    c->lineage_first = c->lineage_last = c->n_lineage = c->n_early = 0;
    c->lineage_bytes = 0;
    for (uint32_t i = 0; i < n; i++)
        if (done[i]) pr_link_done(s, done[i]);
    free(done);
}
