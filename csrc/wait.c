/* Waiting for objects, and streams of them; see object.h.
 *
 * A waiter sets the object's bit in its own watch bitmap, then PR_WATCHED in the object's state,
 * and sleeps if that state was not sealed; who seals exchanges the state, and if it was WATCHED
 * looks at the bitmaps of processes that wait. Either the waiter sees the sealed state or the
 * sealer the bit. Clearing a bit is what entitles to count it off `missing`, so each is counted
 * once. `missing` only says when waking is worth it: too small a number costs a needless look, as a
 * waiter always looks at the states themselves. One count serves all threads of a process: when
 * several wait, it is 0, and each event wakes all of them.
 *
 * A vigil counts as a thread that waits as long as it is not empty, so that none of its bits goes
 * but by who makes the object ready: then those that are ready are the ones whose bits are gone. In
 * two cases that is not so, and they are looked at: another thread that waited for the same object
 * may have cleared the bit, and a recovery fails what is lost without a look at bitmaps.
 */
#include <stdlib.h>

#include "futex.h"
#include "lineage.h"
#include "spill.h"

static int has_item(const PrSession *s, uint32_t waited) {
    return waited & PR_NEXT && pr_stream_length(s, waited & ~PR_NEXT);
}

static uint64_t word_of(const PrSession *s, uint32_t waited) {
    return atomic_load_explicit(&s->objects[waited & ~PR_NEXT].state, memory_order_acquire);
}

/* How many are ready, up to `needed`; with any_failure, a FAILED one makes it `needed`. */
static size_t count_ready(PrSession *s, const uint32_t *slots, size_t n, size_t needed,
                          int any_failure) {
    size_t ready = 0;
    for (size_t i = 0; i < n && ready < needed; i++) {
        uint64_t word = word_of(s, slots[i]);
        if (!pr_is_ready(word) && !has_item(s, slots[i])) continue;
        if (any_failure && pr_state(word) == PR_OBJECT_FAILED) return needed;
        ready++;
    }
    return ready;
}

/* Returns whether its bit was set before. */
static int watch(PrSession *s, uint32_t slot) {
    uint64_t bit = (uint64_t)1 << (slot & 63);
    uint64_t before = atomic_fetch_or(&s->watch[slot >> 6], bit);
    uint64_t word = atomic_fetch_or(&s->objects[slot].state, PR_WATCHED);
    if (pr_is_ready(word) && atomic_fetch_and(&s->watch[slot >> 6], ~bit) & bit)
        atomic_fetch_sub(&s->self->missing, 1);
    return (before & bit) != 0;
}

static void expect(PrSession *s, int32_t missing) {
    PrProcess *self = s->self;
    int alone = atomic_load(&self->waiting) == 1;
    atomic_store(&self->missing, alone ? missing : 0);
    if (!alone || atomic_load(&self->waiting) == 1) return;
    /* Another came meanwhile, and may have slept through what counted our number down. */
    atomic_store(&self->missing, 0);
    pr_notify(s, self);
}

/* Returns how many had their bit set before. The first time, these are the ones that stand in
 * `slots` more than once, of whom we are told once only. */
static int32_t watch_all(PrSession *s, const uint32_t *slots, size_t n, int32_t missing) {
    int32_t ready = 0, again = 0;
    expect(s, missing);
    for (size_t i = 0; i < n; i++) {
        if (pr_is_ready(word_of(s, slots[i]))) {
            ready++;
        } else {
            again += watch(s, slots[i] & ~PR_NEXT);
            ready += has_item(s, slots[i]);
        }
    }
    atomic_fetch_sub(&s->self->missing, ready);
    return again;
}

static void begin_wait(PrSession *s) {
    atomic_fetch_add(&s->self->waiting, 1);
}

/* No bit stays behind: it would be taken for one that stands there twice. */
static void end_wait(PrSession *s, const uint32_t *slots, size_t n) {
    PrProcess *self = s->self;
    if (atomic_fetch_sub(&self->waiting, 1) > 1) return;
    for (size_t i = 0; i < n; i++) {
        uint32_t slot = slots[i] & ~PR_NEXT;
        uint64_t bit = (uint64_t)1 << (slot & 63);
        if (atomic_load_explicit(&s->watch[slot >> 6], memory_order_relaxed) & bit)
            atomic_fetch_and(&s->watch[slot >> 6], ~bit);
    }
    /* Another came meanwhile, and its bits may be gone. */
    if (atomic_load(&self->waiting)) pr_notify(s, self);
}

/* Who ends the session says so first, then notifies everybody. */
static int sleep_on(PrSession *s, uint32_t seen, int64_t left, int how) {
    if (atomic_load(&s->control->ended)) return PR_ENDED;
    int status = pr_sleep(s, seen, left, how & PR_SPIN);
    return !status && atomic_load(&s->control->ended) ? PR_ENDED : status;
}

int pr_wait(PrSession *s, const uint32_t *slots, size_t n, size_t needed, int64_t deadline,
            int any_failure, int how) {
    size_t ready = count_ready(s, slots, n, needed, any_failure);
    int32_t missing = needed > INT32_MAX ? INT32_MAX : (int32_t)needed, twice = -1;
    int status = 0;
    if (ready >= needed) return 0;
    begin_wait(s);
    for (;;) {
        int64_t left = deadline < 0 ? -1 : deadline - pr_now();
        uint32_t seen = atomic_load(&s->self->event);
        if (deadline >= 0 && left <= 0) status = PR_TIMEOUT;
        if (status) break;
        if (twice < 0) {
            twice = watch_all(s, slots, n, missing);
            atomic_fetch_sub(&s->self->missing, twice);
        } else {
            watch_all(s, slots, n, missing - twice);
        }
        ready = count_ready(s, slots, n, needed, any_failure);
        if (ready >= needed) break;
        status = sleep_on(s, seen, left, how);
        ready = count_ready(s, slots, n, needed, any_failure);
        if (ready >= needed) break;
        if (!status && how & PR_ONCE) status = PR_INTERRUPTED;
    }
    end_wait(s, slots, n);
    return ready >= needed ? 0 : status;
}

int pr_name_wait(PrSession *s, uint32_t seen, int64_t deadline, int how) {
    PrControl *c = s->control;
    int status = 0;
    begin_wait(s);
    while (atomic_load(&c->named) == seen && !status) {
        uint32_t event = atomic_load(&s->self->event);
        int64_t left = deadline < 0 ? -1 : deadline - pr_now();
        expect(s, 0);
        watch(s, 0);
        if (atomic_load(&c->named) != seen) break;
        status = deadline >= 0 && left <= 0 ? PR_TIMEOUT : sleep_on(s, event, left, how);
        if (!status && how & PR_ONCE && atomic_load(&c->named) == seen) status = PR_INTERRUPTED;
    }
    end_wait(s, &(uint32_t){0}, 1);
    return atomic_load(&c->named) != seen ? 0 : status;
}

int pr_await_fetch(PrSession *s, uint32_t slot, int64_t deadline) {
    _Atomic uint64_t *state = &s->objects[slot].state;
    int status = 0;
    begin_wait(s);
    while (!status && atomic_load(state) & PR_FETCH) {
        uint32_t seen = atomic_load(&s->self->event);
        int64_t left = deadline < 0 ? -1 : deadline - pr_now();
        expect(s, 0);
        atomic_fetch_or(&s->watch[slot >> 6], (uint64_t)1 << (slot & 63));
        if (!(atomic_fetch_or(state, PR_WATCHED) & PR_FETCH)) break;
        status = deadline >= 0 && left <= 0 ? PR_TIMEOUT : sleep_on(s, seen, left, 0);
    }
    end_wait(s, &slot, 1);
    return atomic_load(state) & PR_FETCH ? status : 0;
}

/* -- vigils ------------------------------------------------------------------------------------ */

int pr_vigil_begin(PrSession *s, PrVigil *v) {
    *v = (PrVigil){.slots = calloc(s->control->bitmap_words, sizeof *v->slots)};
    return v->slots ? 0 : PR_FULL;
}

static uint32_t words_in_use(const PrSession *s) {
    return (atomic_load(&s->control->objects.used) + 63) / 64;
}

static void open_vigil(PrSession *s, PrVigil *v) {
    v->epoch = pr_epoch(s);
    begin_wait(s);
    expect(s, 0);
}

/* As end_wait: who waited besides has left its bits. */
static void close_vigil(PrSession *s) {
    PrProcess *self = s->self;
    if (atomic_fetch_sub(&self->waiting, 1) > 1) return;
    for (uint32_t i = 0; i < words_in_use(s); i++)
        if (atomic_load_explicit(&s->watch[i], memory_order_relaxed)) atomic_store(&s->watch[i], 0);
    if (atomic_load(&self->waiting)) pr_notify(s, self);
}

void pr_vigil_end(PrSession *s, PrVigil *v) {
    if (s && v->n) close_vigil(s);
    free(v->slots);
    *v = (PrVigil){0};
}

void pr_vigil_add(PrSession *s, PrVigil *v, uint32_t waited) {
    uint32_t slot = waited & ~PR_NEXT;
    uint64_t bit = (uint64_t)1 << (slot & 63), *word = &v->slots[slot >> 6];
    if (!(*word & bit) && !v->n++) open_vigil(s, v);
    *word |= bit;
    watch(s, slot);
    if (has_item(s, waited)) atomic_fetch_and(&s->watch[slot >> 6], ~bit);
    /* Who made it ready before has told nobody of it. */
    if (!(atomic_load(&s->watch[slot >> 6]) & bit)) pr_notify(s, s->self);
}

static void forget(PrSession *s, PrVigil *v, uint32_t slot) {
    v->slots[slot >> 6] &= ~((uint64_t)1 << (slot & 63));
    if (!--v->n) close_vigil(s);
}

void pr_vigil_remove(PrSession *s, PrVigil *v, uint32_t slot) {
    if (v->slots[slot >> 6] >> (slot & 63) & 1) forget(s, v, slot);
}

/* Bits of those that are ready, or have an item, go. */
static void look_at_all(PrSession *s, const PrVigil *v) {
    for (uint32_t i = 0; i < words_in_use(s); i++)
        for (uint64_t bits = v->slots[i]; bits; bits &= bits - 1) {
            uint32_t slot = i * 64 + (uint32_t)__builtin_ctzll(bits);
            uint64_t word = word_of(s, slot);
            if (pr_is_ready(word) || (word & PR_STREAM && pr_stream_length(s, slot)))
                atomic_fetch_and(&s->watch[i], ~(bits & -bits));
        }
}

size_t pr_vigil_ready(PrSession *s, PrVigil *v, uint32_t *slots, size_t room) {
    uint64_t epoch = pr_epoch(s);
    size_t n = 0;
    if (v->n && v->epoch != epoch) look_at_all(s, v);
    v->epoch = epoch;
    for (uint32_t i = 0; v->n && i < words_in_use(s); i++) {
        uint64_t bits = v->slots[i];
        if (bits) bits &= ~atomic_load(&s->watch[i]);
        for (; bits; bits &= bits - 1) {
            if (n == room) return n;
            slots[n] = i * 64 + (uint32_t)__builtin_ctzll(bits);
            forget(s, v, slots[n++]);
        }
    }
    return n;
}

int pr_vigil_sleep(PrSession *s, uint32_t seen) {
    expect(s, 0);
    return sleep_on(s, seen, -1, 0);
}

/* -- streams ----------------------------------------------------------------------------------- */

static PrStream *stream_of(const PrSession *s, uint32_t slot) {
    return (PrStream *)(void *)s->objects[slot].bytes;
}

int pr_stream_put(PrSession *s, uint32_t stream, PrHandle item) {
    PrStream *st = stream_of(s, stream);
    uint32_t slot = pr_slot(item);
    int status = 0;
    pr_enter(s);
    pr_lock(s, &s->control->stream_lock);
    if (atomic_load(&st->closed)) {
        status = PR_ENDED;
    } else {
        atomic_store(&s->objects[slot].next, 0);
        pr_cover_item(s, atomic_load(&s->objects[stream].owner), slot, atomic_load(&st->produced));
        atomic_fetch_add(&s->objects[slot].refs, 1);
        if (st->first) {
            atomic_store(&s->objects[st->last].next, slot);
        } else {
            st->first = slot;
        }
        pr_crash_point();
        st->last = slot;
        atomic_fetch_add(&st->produced, 1);
    }
    pr_unlock(&s->control->stream_lock);
    if (!status && atomic_load(&s->objects[stream].state) & PR_WATCHED)
        pr_wake_watchers(s, stream, 1);
    pr_leave(s);
    return status;
}

PrHandle pr_stream_take(PrSession *s, uint32_t stream) {
    PrStream *st = stream_of(s, stream);
    PrHandle item = 0;
    uint32_t producer = 0;
    pr_enter(s);
    pr_lock(s, &s->control->stream_lock);
    uint32_t slot = st->first;
    if (slot) {
        pr_hold(s, slot);
        st->first = atomic_load(&s->objects[slot].next);
        atomic_fetch_add(&st->taken, 1);
        pr_unref(s, slot); /* which we hold */
        item = pr_handle(atomic_load(&s->objects[slot].state), slot);
        producer = atomic_load(&s->objects[stream].owner);
    }
    pr_unlock(&s->control->stream_lock);
    /* Back-pressure: the producer may wait for room. */
    if (producer && !pr_is_ready(atomic_load(&s->objects[stream].state))) {
        uint32_t worker = atomic_load(&s->tasks[producer].worker);
        if (worker && worker < s->control->max_processes) pr_notify(s, &s->processes[worker]);
    }
    pr_leave(s);
    return item;
}

uint32_t pr_stream_length(const PrSession *s, uint32_t stream) {
    const PrStream *st = stream_of(s, stream);
    uint32_t taken = atomic_load(&st->taken); /* first: it is never more than were produced */
    return atomic_load(&st->produced) - taken;
}

int pr_stream_wait(PrSession *s, uint32_t stream, int64_t deadline, int how) {
    return pr_wait(s, &(uint32_t){stream | PR_NEXT}, 1, 1, deadline, 0, how);
}

void pr_stream_close(PrSession *s, uint32_t stream) {
    PrStream *st = stream_of(s, stream);
    PrHandle item;
    pr_enter(s);
    pr_lock(s, &s->control->stream_lock);
    atomic_store(&st->closed, 1);
    pr_unlock(&s->control->stream_lock);
    pr_leave(s);
    while ((item = pr_stream_take(s, stream))) pr_release(s, pr_slot(item));
}

/* The consumer has closed it, or died, or left: only the task holds the stream then. Inside, as a
 * recovery counts references anew; it notifies everybody afterwards, and so does who leaves. */
static int is_unwanted(PrSession *s, uint32_t stream) {
    pr_enter(s);
    int alone = atomic_load(&s->objects[stream].refs) <= 1;
    pr_leave(s);
    return alone || atomic_load(&stream_of(s, stream)->closed);
}

/* Who takes an item, or closes the stream and so takes all, counts it first, then notifies us. */
int pr_stream_room(PrSession *s, uint32_t task, int64_t deadline, int how) {
    uint32_t stream = s->tasks[task].first_return, backlog = s->tasks[task].backlog;
    int status = 0;
    while (backlog && !status) {
        uint32_t seen = atomic_load(&s->self->event);
        int64_t left = deadline < 0 ? -1 : deadline - pr_now();
        if (pr_stream_length(s, stream) < backlog) return 0;
        if (is_unwanted(s, stream)) return PR_ENDED;
        status = deadline >= 0 && left <= 0 ? PR_TIMEOUT : sleep_on(s, seen, left, how);
    }
    return status;
}

void pr_drop_stream(PrSession *s, PrObject *o) {
    PrStream *st = (PrStream *)(void *)o->bytes;
    while (st->first) {
        uint32_t slot = st->first;
        st->first = atomic_load(&s->objects[slot].next);
        pr_unref(s, slot);
    }
}
