/* Going inside and outside, locks, and waiting; see session.h.
 *
 * A lock's holder may die: its word is cleared by the recovery, which also makes what the lock
 * protects anew. A process never waits for a lock while it holds another.
 */
#include "futex.h"
#include "task.h"

#include <sched.h>
#include <sys/eventfd.h>

enum { LOCK_SPINS = 200, EVENT_SPINS = 32, SPIN_FAILURES = 4, SPIN_RETRY = 16, SPIN_LONG = 64 };
enum { SPIN_YIELDING = 4 };
enum { WITHOUT_PLACE = 3000 }; /* ns */
enum { WAIT = 10 * 1000000, WAITS = 10 };
enum { HEAP_PATIENCE = 100 * 1000000 }; /* ns */

/* After a long wait, outside: where there is no node, everybody looks for who died. So does the
 * node: while it waits, it hears of no death. */
static void look_for_dead(PrSession *s, int waits) {
    int depth = s->depth;
    uint32_t dying = s->dying, buried = s->buried;
    uint64_t epoch = s->dying_epoch;
    int looks = s->self->kind == PR_CLIENT || s->self->kind == PR_NODE;
    if (!looks || waits % WAITS) return;
    /* As if nothing was under way: what is done there says that it is inside, and finds nothing of
     * before the recovery to bury. */
    s->depth = 0;
    s->dying = s->buried = 0;
    pr_recover_dead(s);
    s->depth = depth;
    s->dying = dying;
    s->buried = buried;
    s->dying_epoch = epoch;
}

void pr_enter_slowly(PrSession *s) {
    PrControl *c = s->control;
    for (int waits = 1;; waits++) {
        atomic_store(&s->self->busy, 0);
        uint32_t stopping = atomic_load(&c->stopping);
        if (stopping) pr_futex_wait(&c->stopping, stopping, WAIT);
        if (stopping && atomic_load(&c->stopping) == stopping) look_for_dead(s, waits);
        atomic_store(&s->self->busy, 1);
        if (!atomic_load(&c->stopping)) return;
    }
}

static int try_lock(PrSession *s, PrLock *lock, uint32_t mark) {
    uint32_t none = 0;
    return atomic_compare_exchange_strong(&lock->word, &none, (s->index + 1) | mark);
}

void pr_lock_slowly(PrSession *s, PrLock *lock) {
    for (int i = 0; i < LOCK_SPINS; i++) {
        pr_relax();
        if (!atomic_load_explicit(&lock->word, memory_order_relaxed) && try_lock(s, lock, 0))
            return;
    }
    for (int waits = 1;; waits++) {
        uint32_t word = atomic_load(&lock->word);
        if (word == 0) {
            /* There may be others who wait: only the mark makes our unlock wake them. */
            if (try_lock(s, lock, PR_LOCK_WAITED)) return;
            continue;
        }
        if (!(word & PR_LOCK_WAITED) &&
            !atomic_compare_exchange_strong(&lock->word, &word, word | PR_LOCK_WAITED))
            continue;
        /* Outside while we wait: the holder may be dead, and its recovery would wait for us. */
        atomic_store(&s->self->busy, 0);
        pr_futex_wait(&lock->word, word | PR_LOCK_WAITED, WAIT);
        look_for_dead(s, waits);
        atomic_store(&s->self->busy, 1);
        if (atomic_load(&s->control->stopping)) pr_enter_slowly(s);
    }
}

void pr_unlock_slowly(PrLock *lock) {
    pr_futex_wake(&lock->word, 1);
}

void pr_notify(PrSession *s, PrProcess *p) {
    (void)s;
    atomic_fetch_add(&p->event, 1);
    if (atomic_load(&p->sleeping)) pr_futex_wake(&p->event, INT_MAX);
}

void pr_call_node(PrSession *s) {
    if (atomic_exchange(&s->control->wanted, 1)) return;
    if (s->wake_fd >= 0) (void)!eventfd_write(s->wake_fd, 1);
}

/* Spinning costs a core that a worker may need: one process fewer than there are cores does it, at
 * most PR_SPINNERS. Each has a place, by which the recovery knows those of the dead. */
static _Atomic uint32_t *take_place(PrSession *s) {
    PrControl *c = s->control;
    for (uint32_t i = 0; i < PR_SPINNERS && i + 1 < c->n_cpus; i++) {
        uint32_t none = 0;
        if (!atomic_load_explicit(&c->spinners[i], memory_order_relaxed) &&
            atomic_compare_exchange_strong(&c->spinners[i], &none, s->index + 1))
            return &c->spinners[i];
    }
    return NULL;
}

/* Where it was of no use it is tried for a shorter time, then now and then only: what we wait for
 * takes long, or others want the cores. The place may be free in a moment: of two processes that
 * wait for each other in turn, one still has it when the other comes. After the time that was asked
 * for (PrControl.spin) it goes on for three times as long, but lets others have the core first: to
 * sleep, and to be woken on a core that was halted, takes as long as some hundred calls. */
static int spin(PrSession *s, uint32_t seen, int64_t timeout) {
    _Atomic uint32_t *place = NULL;
    int came = 0;
    uint32_t failures = atomic_load_explicit(&s->self->spin_failures, memory_order_relaxed);
    if (s->control->spin <= 0) return 0;
    if (failures < SPIN_FAILURES || failures % SPIN_RETRY == 0) {
        int shift = failures < SPIN_FAILURES ? (int)failures : failures % SPIN_LONG ? 3 : 0;
        int64_t spin = s->control->spin >> shift, longest = SPIN_YIELDING * spin;
        int64_t began = pr_now(), passed = 0;
        if (timeout >= 0 && timeout < longest) longest = timeout;
        do {
            if (!place) place = take_place(s);
            if (passed > spin) sched_yield();
            for (int i = 0; i < EVENT_SPINS && !came; i++) {
                pr_relax();
                came = atomic_load_explicit(&s->self->event, memory_order_acquire) != seen;
            }
            passed = pr_now() - began;
        } while (!came && passed < (place ? longest : WITHOUT_PLACE));
        if (place) atomic_store_explicit(place, 0, memory_order_release);
        if (!place && !came) return 0;
    }
    atomic_store_explicit(&s->self->spin_failures, came ? 0 : failures + 1, memory_order_relaxed);
    return came;
}

static int wait_for_event(PrSession *s, uint32_t seen, int64_t timeout) {
    _Atomic uint32_t *event = &s->self->event;
    int gives_back = s->keeps_heap && (timeout < 0 || timeout > HEAP_PATIENCE);
    int error = pr_futex_wait(event, seen, gives_back ? HEAP_PATIENCE : timeout);
    if (!gives_back || error != ETIMEDOUT) return error;
    pr_give_heap_back();
    return pr_futex_wait(event, seen, timeout < 0 ? timeout : timeout - HEAP_PATIENCE);
}

int pr_sleep(PrSession *s, uint32_t seen, int64_t timeout, int may_spin) {
    PrProcess *self = s->self;
    int status = 0;
    if (atomic_load(&self->event) != seen) return 0;
    if (may_spin && spin(s, seen, timeout)) return 0;
    atomic_fetch_add(&self->sleeping, 1);
    if (atomic_load(&self->event) == seen) {
        int error = wait_for_event(s, seen, timeout);
        status = error == ETIMEDOUT ? PR_TIMEOUT : error == EINTR ? PR_INTERRUPTED : 0;
    }
    atomic_fetch_sub(&self->sleeping, 1);
    return status;
}
