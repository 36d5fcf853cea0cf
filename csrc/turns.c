/* Threads that take turns; see turns.h.
 *
 * Who submits a call counts it into the queue and then looks at `idle`; who stands by, or the
 * leader on its behalf, sets `idle` and then looks at the queue. So one of the two finds the other.
 */
#include "turns.h"

#include "actor.h"
#include "futex.h"

enum { LINGER = 3000, NAP = 100000, LONGEST = 5000000 /* ns */, LOOKS = 16 };

static void count(PrSession *s, PrTurns *turns, int on) {
    if (turns->counted == on) return;
    turns->counted = on;
    if (on) atomic_fetch_add(&s->self->sleeping, 1);
    else atomic_fetch_sub(&s->self->sleeping, 1);
}

void pr_turn_begins(PrSession *s, uint32_t actor, PrTurns *turns) {
    turns->runs = 1;
    turns->begun++;
    if (!turns->sleeps) return; /* it will look */
    count(s, turns, 1);
    if (!pr_calls_wait(s, actor)) return;
    turns->sleeps = 0;
    pr_notify(s, s->self);
}

void pr_turn_ends(PrSession *s, PrTurns *turns) {
    turns->runs = 0;
    count(s, turns, 0);
}

int pr_turn_comes(PrSession *s, uint32_t actor, PrTurns *turns) {
    uint32_t seen = turns->seen;
    turns->seen = turns->begun;
    if (turns->runs && pr_calls_wait(s, actor)) {
        turns->runs = 0;
        turns->nap = 0;
        return 1;
    }
    if (turns->begun != seen) {
        turns->nap = !turns->nap ? NAP : turns->nap < LONGEST / 2 ? 2 * turns->nap : LONGEST;
        return 0;
    }
    turns->nap = 0;
    turns->sleeps = 1;
    count(s, turns, turns->runs);
    return 0;
}

void pr_stand_by(PrSession *s, uint32_t seen, const PrTurns *turns) {
    struct timespec nap = {.tv_nsec = turns->nap};
    if (turns->nap) nanosleep(&nap, NULL);
    else pr_futex_wait(&s->self->event, seen, -1);
}

void pr_stood_by(PrSession *s, PrTurns *turns) {
    turns->sleeps = 0;
    count(s, turns, 0);
}

void pr_linger(PrSession *s, uint32_t actor) {
    const _Atomic uint32_t *calls = &s->actors[actor].queue.count;
    uint32_t seen = atomic_load_explicit(&s->self->event, memory_order_relaxed);
    int64_t until = pr_now() + LINGER;
    do {
        for (int i = 0; i < LOOKS; i++) {
            if (atomic_load_explicit(calls, memory_order_relaxed)) return;
            if (atomic_load_explicit(&s->self->event, memory_order_relaxed) != seen) return;
            pr_relax();
        }
    } while (pr_now() < until);
}
