/* References to labels that are no call's; see spares.h. */
#include "spares.h"

#include "object.h"

enum { TAKEN = 32 /* at a time */, MOST = 2 * TAKEN };

static PrSpare *place_of(PrSession *s, uint32_t label) {
    return &s->self->spares[label % PR_SPARES];
}

/* How many there are of that label from now on. */
static void set(PrSession *s, PrSpare *spare, uint32_t label, uint32_t n) {
    uint32_t others = atomic_load_explicit(&s->self->n_spares, memory_order_relaxed) - spare->n;
    atomic_store_explicit(&s->self->n_spares, others + n, memory_order_relaxed);
    spare->object = label;
    spare->n = n;
}

/* Of labels that share a place only one has spares, until they are used up. */
static int is_taken(const PrSpare *spare, uint32_t label) {
    return spare->n && spare->object != label;
}

void pr_take_label(PrSession *s, uint32_t label) {
    PrSpare *spare = place_of(s, label);
    _Atomic uint32_t *refs = &s->objects[label].refs;
    if (is_taken(spare, label)) {
        atomic_fetch_add(refs, 1);
    } else if (spare->n) {
        set(s, spare, label, spare->n - 1);
    } else {
        atomic_fetch_add(refs, TAKEN);
        set(s, spare, label, TAKEN - 1);
    }
}

void pr_give_label(PrSession *s, uint32_t label) {
    PrSpare *spare = place_of(s, label);
    if (is_taken(spare, label)) {
        pr_unref(s, label);
    } else if (spare->n < MOST) {
        set(s, spare, label, spare->n + 1);
    } else {
        set(s, spare, label, MOST - TAKEN);
        pr_unref_many(s, label, TAKEN + 1);
    }
}

static void give_back(PrSession *s, PrSpare *spare) {
    uint32_t n = spare->n;
    if (!n) return;
    set(s, spare, spare->object, 0);
    pr_unref_many(s, spare->object, n);
}

void pr_return_spares_of(PrSession *s, uint32_t label) {
    PrSpare *spare = place_of(s, label);
    if (spare->object == label) give_back(s, spare);
}

void pr_return_spares(PrSession *s) {
    for (uint32_t i = 0; i < PR_SPARES && pr_has_spares(s); i++) give_back(s, &s->self->spares[i]);
}
