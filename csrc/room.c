/* Waiting until there is room for a block; see spill.h.
 *
 * Who finds no room says since when, and what it wants, and sleeps. The spiller gives blocks to
 * those who wait, one after the other, so that a large one is not overtaken for ever by small ones:
 * from then on blocks that come later wait, too, but for very small ones.
 *
 * `granted` is written by the process and by the spiller while it is PR_WAITING: by an exchange
 * on both sides, so that a block is either taken or given back. A granted block is
 * nobody's but by that word, which a rebuild reads of processes that live.
 */
#include "spill.h"

#include "futex.h"

int pr_want_room(PrSession *s, uint64_t bytes, int64_t since) {
    PrControl *c = s->control;
    PrProcess *self = s->self;
    if (c->spill_at == UINT64_MAX || atomic_load(&c->spiller) == s->index) return PR_FULL;
    if (bytes > c->arena_size - PR_ARENA_UNIT) return PR_FULL;
    if (atomic_load(&self->want)) return PR_BUSY;
    pr_enter(s);
    self->since = since;
    atomic_store(&self->want, bytes);
    atomic_store(&self->granted, PR_WAITING);
    atomic_fetch_add(&c->n_wanting, 1);
    pr_call_spiller(s);
    pr_leave(s);
    return 0;
}

/* The wish is over; the place it was granted, or 0. */
static uint64_t end_wish(PrSession *s) {
    uint64_t place = atomic_exchange(&s->self->granted, 0);
    atomic_store(&s->self->want, 0);
    atomic_fetch_sub(&s->control->n_wanting, 1);
    return place > PR_DENIED ? place : 0;
}

int pr_take_grant(PrSession *s, uint64_t bytes, uint64_t *place) {
    if (atomic_load_explicit(&s->self->want, memory_order_relaxed) != bytes) return 0;
    if (atomic_load(&s->self->granted) <= PR_DENIED) return 0;
    *place = end_wish(s);
    return 1;
}

void pr_forget_room(PrSession *s) {
    pr_enter(s);
    if (atomic_load(&s->self->want)) {
        uint64_t place = end_wish(s);
        pr_block_free(s, &place);
    }
    pr_leave(s);
}

int pr_await_room(PrSession *s, int64_t deadline) {
    for (;;) {
        uint32_t seen = atomic_load(&s->self->event);
        uint64_t granted = atomic_load(&s->self->granted);
        int64_t left = deadline < 0 ? -1 : deadline - pr_now();
        if (granted == PR_DENIED) return PR_FULL;
        if (granted != PR_WAITING && granted != PR_GRANTING)
            return 0; /* or another thread has taken it */
        if (atomic_load(&s->control->ended)) return PR_ENDED;
        if (s->control->spill_at == UINT64_MAX && !atomic_load(&s->control->spiller))
            return PR_FULL;
        if (deadline >= 0 && left <= 0) return PR_TIMEOUT;
        int status = pr_sleep(s, seen, left, 0);
        if (status == PR_INTERRUPTED) return status;
    }
}

/* -- the spiller's side ------------------------------------------------------------------------ */

void pr_begin_spilling(PrSession *s) {
    pr_enter(s);
    atomic_store(&s->control->spiller, s->index);
    pr_leave(s);
}

void pr_call_spiller(PrSession *s) {
    uint32_t spiller = atomic_load(&s->control->spiller);
    if (s->control->spill_at == UINT64_MAX && !spiller) return;
    if (atomic_exchange(&s->control->called, 1) && spiller) return;
    if (spiller) pr_notify(s, &s->processes[spiller]);
    else pr_call_node(s);
}

uint32_t pr_first_wanting(const PrSession *s, uint64_t *bytes) {
    uint32_t n = atomic_load(&s->control->n_processes), first = 0;
    for (uint32_t i = 1; i < n; i++) {
        const PrProcess *p = &s->processes[i];
        uint64_t want = atomic_load(&p->want);
        if (!want || atomic_load(&p->granted) != PR_WAITING ||
            atomic_load(&p->state) != PR_PROCESS_LIVE)
            continue;
        if (first && p->since > s->processes[first].since) continue;
        first = i;
        *bytes = want;
    }
    return first;
}

/* Unless its wish is over, or has changed. */
static int answer(PrSession *s, uint32_t process, uint64_t before, uint64_t after) {
    return atomic_compare_exchange_strong(&s->processes[process].granted, &before, after);
}

int pr_grant(PrSession *s, uint32_t process) {
    PrProcess *p = &s->processes[process];
    uint64_t place = 0;
    int status = 0;
    pr_enter(s);
    if (answer(s, process, PR_WAITING, PR_GRANTING)) {
        status = pr_block_new(s, atomic_load(&p->want), &place);
        if (answer(s, process, PR_GRANTING, status ? PR_WAITING : place)) place = 0;
        if (place) pr_block_free(s, &place);
        else if (!status) pr_notify(s, p);
    }
    pr_leave(s);
    return status;
}

void pr_deny(PrSession *s, uint32_t process) {
    pr_enter(s);
    if (answer(s, process, PR_WAITING, PR_DENIED)) pr_notify(s, &s->processes[process]);
    pr_leave(s);
}

/* -- who keeps what ---------------------------------------------------------------------------- */

static int is_written_by(const PrSession *s, PrObject *o, uint32_t process) {
    uint64_t word = atomic_load(&o->state);
    uint32_t owner = atomic_load(&o->owner);
    if (pr_state(word) == PR_OBJECT_RESERVED) return owner == process;
    return pr_state(word) == PR_OBJECT_PENDING && owner < s->control->tasks.limit &&
           atomic_load(&s->tasks[owner].worker) == process;
}

static int reads(const PrSession *s, uint32_t slot, uint32_t process) {
    return atomic_load(&pr_pins_of(s, process)[slot >> 6]) >> (slot & 63) & 1;
}

uint64_t pr_pinned_bytes(PrSession *s, uint32_t process) {
    uint32_t used = atomic_load(&s->control->objects.used);
    uint64_t sum = 0;
    for (uint32_t i = 1; i < used; i++) {
        PrObject *o = &s->objects[i];
        int state = pr_state(atomic_load(&o->state)), held;
        if (state < PR_OBJECT_RESERVED || state > PR_OBJECT_FAILED) continue;
        pr_enter(s);
        held = pr_hold_if_held(s, i);
        pr_leave(s);
        if (!held) continue;
        /* What is being written has no size yet that could be read. */
        int sealed = pr_state(atomic_load(&o->state)) == PR_OBJECT_SEALED;
        uint64_t bytes = sealed && reads(s, i, process) ? pr_block_size(o->size, o->n_refs) : 0;
        if (bytes >= PR_WAITS_FOR_ROOM) sum += bytes;
        pr_release(s, i);
    }
    return sum;
}

/* Whether it is about to seal an object. */
static int is_writing(const PrSession *s, uint32_t process) {
    uint32_t used = atomic_load(&s->control->objects.used);
    for (uint32_t i = 1; i < used; i++)
        if (is_written_by(s, &s->objects[i], process)) return 1;
    return 0;
}

int pr_may_free(PrSession *s, uint32_t process) {
    uint32_t n = atomic_load(&s->control->n_processes);
    for (uint32_t i = 1; i < n; i++) {
        const PrProcess *p = &s->processes[i];
        if (i == s->index || atomic_load(&p->state) != PR_PROCESS_LIVE) continue;
        /* Of one that waits, another thread may be writing. */
        if (is_writing(s, i)) return 1;
        if (i != process && !atomic_load(&p->want) && pr_pinned_bytes(s, i)) return 1;
    }
    return 0;
}
