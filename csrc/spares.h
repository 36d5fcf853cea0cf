/* References to the labels of actors' calls, kept for the next ones.
 *
 * Each call holds its label. If who submits calls and who runs them counted on the label's one
 * word, its cache line would go from core to core with every call. Instead each process keeps some
 * references that are no call's (PrProcess.spares), which are in the object's count: a call that is
 * submitted takes one of them, and one that is over gives its own.
 *
 * They are a cache: a recovery counts anew, and clears them. A process returns those of a label
 * when it lets go of it, and all when it waits for calls, and at its end.
 */
#ifndef PYRAY_SPARES_H
#define PYRAY_SPARES_H

#include "session.h"

/* All inside. A call that is submitted holds its label, which this process refers to. */
void pr_take_label(PrSession *s, uint32_t label);
/* A call is over. pr_bury is to be called later, as after all of these. */
void pr_give_label(PrSession *s, uint32_t label);
void pr_return_spares_of(PrSession *s, uint32_t label);
void pr_return_spares(PrSession *s);

/* By a recovery, which counts anew; so a slot has none when a process takes it. */
static inline void pr_forget_spares(PrProcess *p) {
    atomic_store_explicit(&p->n_spares, 0, memory_order_relaxed);
    for (uint32_t i = 0; i < PR_SPARES; i++) p->spares[i] = (PrSpare){0};
}

/* Outside: unless there is a recovery. */
static inline int pr_has_spares(const PrSession *s) {
    return atomic_load_explicit(&s->self->n_spares, memory_order_relaxed) != 0;
}

#endif
