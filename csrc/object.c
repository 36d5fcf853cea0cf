/* Objects' slots, blocks and references; see object.h and, for what a crash leaves, session.h.
 *
 * Order of stores: size and n_refs, then `place` under the arena's lock, then the bytes, then the
 * counts of what the object refers to, then the state, and only then those who wait are told. A
 * crash before the state leaves RESERVED or PENDING, whose block the recovery gives back.
 */
#include "object.h"

#include <stdlib.h>
#include <string.h>

#include "actor.h"
#include "futex.h"
#include "lineage.h"
#include "spares.h"
#include "spill.h"

/* -- slots ------------------------------------------------------------------------------------- */

void pr_set_state(PrObject *o, uint64_t state) {
    uint64_t word = atomic_load_explicit(&o->state, memory_order_relaxed);
    atomic_store_explicit(&o->state, (word & ~(uint64_t)UINT32_MAX) | state, memory_order_release);
}

int pr_fill_objects(PrSession *s, uint32_t n) {
    PrTable *t = &s->control->objects;
    PrProcess *self = s->self;
    uint32_t first = self->n_objects;
    if (first >= n) return 0;
    pr_lock(s, &t->lock);
    while (self->n_objects < PR_MAGAZINE / 2 || self->n_objects < n) {
        uint32_t slot = t->head;
        if (slot) {
            t->head = atomic_load_explicit(&s->objects[slot].next, memory_order_relaxed);
            pr_crash_point();
            t->n_free--;
        } else {
            slot = atomic_load_explicit(&t->used, memory_order_relaxed);
            if (slot >= t->limit) break;
            atomic_store(&t->used, slot + 1);
        }
        atomic_store_explicit(&s->objects[slot].owner, s->index, memory_order_relaxed);
        pr_set_state(&s->objects[slot], PR_OBJECT_CACHED);
        self->objects[self->n_objects++] = slot;
    }
    pr_unlock(&t->lock);
    /* Taken from the end: in ascending order, so that neighbours in time are neighbours in memory.
     */
    for (uint32_t i = first, k = self->n_objects; i + 1 < k; i++) {
        uint32_t slot = self->objects[i];
        self->objects[i] = self->objects[--k];
        self->objects[k] = slot;
    }
    return self->n_objects >= n ? 0 : PR_LIMIT;
}

/* Lowest slots go back last: tables stay dense. */
static void flush_objects(PrSession *s, uint32_t keep) {
    PrTable *t = &s->control->objects;
    PrProcess *self = s->self;
    if (self->n_objects <= keep) return;
    pr_lock(s, &t->lock);
    while (self->n_objects > keep) {
        uint32_t slot = self->objects[--self->n_objects];
        atomic_store_explicit(&s->objects[slot].next, t->head, memory_order_relaxed);
        pr_set_state(&s->objects[slot], PR_OBJECT_FREE);
        pr_crash_point();
        t->head = slot;
        pr_crash_point();
        t->n_free++;
    }
    pr_unlock(&t->lock);
}

void pr_flush_magazines(PrSession *s) {
    flush_objects(s, 0);
    pr_flush_tasks(s, 0);
}

uint32_t pr_take_object(PrSession *s) {
    return s->self->objects[--s->self->n_objects];
}

void pr_keep_object(PrSession *s, uint32_t slot) {
    if (s->self->n_objects == PR_MAGAZINE) flush_objects(s, PR_MAGAZINE / 2);
    s->self->objects[s->self->n_objects++] = slot;
}

/* A dying slot whose block is given back: the next generation begins. */
static void recycle(PrSession *s, uint32_t slot) {
    PrObject *o = &s->objects[slot];
    uint64_t word = atomic_load_explicit(&o->state, memory_order_relaxed);
    o->place = 0;
    pr_crash_point();
    o->n_refs = 0;
    atomic_store_explicit(&o->owner, s->index, memory_order_relaxed);
    uint64_t next = ((word >> 32) + 1) << 32 | PR_OBJECT_CACHED;
    atomic_store_explicit(&o->state, next, memory_order_release);
    pr_keep_object(s, slot);
}

/* -- blocks ------------------------------------------------------------------------------------ */

int pr_block_new(PrSession *s, uint64_t size, uint64_t *place) {
    PrControl *c = s->control;
    pr_lock(s, &c->arena_lock);
    *place = pr_arena_alloc(s->arena, size);
    int high = pr_arena_used(s->arena) > atomic_load_explicit(&c->call_at, memory_order_relaxed);
    pr_unlock(&c->arena_lock);
    if (high) pr_call_spiller(s);
    return *place ? 0 : PR_FULL;
}

/* The block leaves the slot before it is free: then it is nobody's, which a rebuild that comes
 * while we wait for the lock takes into account. */
void pr_block_free(PrSession *s, uint64_t *place) {
    uint64_t at = *place, epoch = pr_epoch(s);
    if (!at) return;
    *place = 0;
    pr_lock(s, &s->control->arena_lock);
    if (pr_epoch(s) == epoch) pr_arena_free(s->arena, at);
    pr_unlock(&s->control->arena_lock);
    if (atomic_load(&s->control->n_wanting)) pr_call_spiller(s);
}

/* The lists of free blocks are walked: nobody may change them meanwhile. */
void pr_block_stats(PrSession *s, PrArenaStats *out) {
    pr_enter(s);
    pr_lock(s, &s->control->arena_lock);
    pr_arena_stats(s->arena, out);
    pr_unlock(&s->control->arena_lock);
    pr_leave(s);
}

/* Those who wait for room have theirs first. */
static int take_block(PrSession *s, PrObject *o, uint64_t bytes) {
    if (!(atomic_load_explicit(&o->state, memory_order_relaxed) & PR_LINEAGE))
        memset(pr_copy_of(o), 0, sizeof(PrCopy));
    atomic_store_explicit(&pr_copy_of(o)->used, pr_tick(pr_now()), memory_order_relaxed);
    if (pr_take_grant(s, bytes, &o->place)) return 0;
    if (bytes >= PR_WAITS_FOR_ROOM && atomic_load(&s->control->n_wanting)) return PR_FULL;
    return pr_block_new(s, bytes, &o->place);
}

static int make_room(PrSession *s, PrObject *o, uint64_t size, uint32_t n_refs, uint8_t **data) {
    o->size = size;
    pr_crash_point();
    o->n_refs = n_refs;
    if (size <= pr_inline_room(o) && !n_refs) {
        *data = pr_inline(o);
        return 0;
    }
    if (take_block(s, o, pr_block_size(size, n_refs))) return PR_FULL;
    *data = s->write_base + o->place;
    return 0;
}

/* -- making ------------------------------------------------------------------------------------ */

int pr_create(PrSession *s, uint64_t size, uint32_t n_refs, PrHandle *handle, uint8_t **data) {
    int status;
    pr_enter(s);
    if ((status = pr_fill_objects(s, 1)) == 0) {
        uint32_t slot = pr_take_object(s);
        PrObject *o = &s->objects[slot];
        atomic_store_explicit(&o->refs, 1, memory_order_relaxed);
        atomic_store_explicit(&o->dependants, 0, memory_order_relaxed);
        pr_set_state(o, PR_OBJECT_RESERVED);
        pr_note_held(s, slot);
        *handle = pr_handle(atomic_load_explicit(&o->state, memory_order_relaxed), slot);
        if ((status = make_room(s, o, size, n_refs, data))) pr_abandon(s, *handle);
    }
    pr_leave(s);
    return status;
}

int pr_room(PrSession *s, uint32_t slot, uint64_t size, uint32_t n_refs, uint8_t **data) {
    pr_enter(s);
    pr_block_free(s, &s->objects[slot].place); /* room of an attempt before */
    int status = make_room(s, &s->objects[slot], size, n_refs, data);
    pr_leave(s);
    return status;
}

int pr_seal_small(PrSession *s, uint32_t slot, const void *message, uint64_t size, int failed) {
    PrObject *o = &s->objects[slot];
    pr_enter(s);
    int fits = !o->place && size <= pr_inline_room(o);
    if (fits) {
        o->size = size;
        pr_crash_point();
        o->n_refs = 0;
        memcpy(pr_inline(o), message, size);
        pr_make_ready(s, slot, failed ? PR_OBJECT_FAILED : PR_OBJECT_SEALED);
    }
    pr_leave(s);
    return fits;
}

void pr_wake_watchers(PrSession *s, uint32_t slot, int failed) {
    uint32_t n = atomic_load(&s->control->n_processes);
    uint64_t bit = (uint64_t)1 << (slot & 63);
    for (uint32_t i = 1; i < n; i++) {
        PrProcess *p = &s->processes[i];
        if (!atomic_load(&p->waiting)) continue;
        _Atomic uint64_t *word = &pr_watch_of(s, i)[slot >> 6];
        if (!(atomic_load(word) & bit) || !(atomic_fetch_and(word, ~bit) & bit)) continue;
        if (atomic_fetch_sub(&p->missing, 1) <= 1 || failed) pr_notify(s, p);
    }
}

void pr_make_ready(PrSession *s, uint32_t slot, uint64_t state) {
    PrObject *o = &s->objects[slot];
    const uint64_t *targets = o->n_refs ? pr_refs_in(s, o) : NULL;
    uint64_t word = atomic_load_explicit(&o->state, memory_order_relaxed), epoch = pr_epoch(s);
    if (o->place) {
        state |= PR_BLOCK;
        if (pr_state(word) == PR_OBJECT_PENDING)
            atomic_store_explicit(&pr_copy_of(o)->why, PR_WHY_UNDECIDED, memory_order_relaxed);
    }
    /* Counted before anybody can read, and drop, the object. */
    for (uint32_t i = 0; i < o->n_refs; i++)
        atomic_fetch_add(&s->objects[pr_slot(targets[i])].refs, 1);
    word = atomic_exchange(
        &o->state, (word & ~(uint64_t)UINT32_MAX) | (word & (PR_STREAM | PR_LINEAGE)) | state);
    uint64_t edges = atomic_exchange(&o->dependants, PR_CLOSED);
    if (word & PR_WATCHED) pr_wake_watchers(s, slot, pr_state(state) == PR_OBJECT_FAILED);
    if (edges) pr_resolve_edges(s, edges, epoch);
    if (state & PR_BLOCK && atomic_load(&s->control->n_wanting)) pr_call_spiller(s);
}

void pr_seal(PrSession *s, PrHandle handle, int failed) {
    pr_enter(s);
    pr_make_ready(s, pr_slot(handle), failed ? PR_OBJECT_FAILED : PR_OBJECT_SEALED);
    pr_leave(s);
}

void pr_abandon(PrSession *s, PrHandle handle) {
    PrObject *o = &s->objects[pr_slot(handle)];
    pr_enter(s);
    if (!o->place) o->size = 0;
    pr_crash_point();
    o->n_refs = 0; /* nothing was counted for them */
    pr_make_ready(s, pr_slot(handle), PR_OBJECT_FAILED);
    pr_release(s, pr_slot(handle));
    pr_leave(s);
}

void pr_fail(PrSession *s, uint32_t slot, int code, const char *text) {
    PrObject *o = &s->objects[slot];
    size_t size = strlen(text);
    uint8_t *bytes;
    pr_enter(s);
    pr_block_free(s, &o->place);                /* room for a value that did not come */
    if (make_room(s, o, size + 1, 0, &bytes)) { /* none for all of the text */
        bytes = pr_inline(o);
        size = pr_inline_room(o) - 1;
        o->size = size + 1;
    }
    pr_crash_point();
    bytes[0] = (uint8_t)code;
    memcpy(bytes + 1, text, size);
    pr_make_ready(s, slot, PR_OBJECT_FAILED | PR_CODE);
    pr_leave(s);
}

const uint64_t *pr_refs_in(const PrSession *s, PrObject *o) {
    uint64_t at = o->place ? o->place + ((o->size + 7) & ~7ull) : pr_copy_of(o)->handles;
    return (const uint64_t *)(const void *)(s->read_base + at);
}

/* -- references -------------------------------------------------------------------------------- */

/* A rebuild has given back the blocks of all objects that were dying then, and counted nothing for
 * what they refer to: only their slots are left to do. */
static void note_rebuild(PrSession *s) {
    if (s->dying_epoch == pr_epoch(s)) return;
    while (s->dying) {
        uint32_t slot = s->dying;
        s->dying = atomic_load_explicit(&s->objects[slot].next, memory_order_relaxed);
        atomic_store_explicit(&s->objects[slot].next, s->buried, memory_order_relaxed);
        s->buried = slot;
    }
    s->dying_epoch = pr_epoch(s);
}

void pr_enlist(PrSession *s, uint32_t slot) {
    PrObject *o = &s->objects[slot];
    note_rebuild(s);
    atomic_store_explicit(&o->owner, s->index, memory_order_relaxed);
    atomic_store_explicit(&o->next, s->dying, memory_order_relaxed);
    s->dying = slot;
}

void pr_die(PrSession *s, uint32_t slot) {
    PrObject *o = &s->objects[slot];
    uint64_t word = atomic_load_explicit(&o->state, memory_order_relaxed);
    atomic_store_explicit(&o->owner, s->index, memory_order_relaxed);
    uint64_t dying = (word & ~(uint64_t)PR_STATE_MASK) | PR_OBJECT_DYING;
    atomic_store_explicit(&o->state, dying, memory_order_release);
    pr_enlist(s, slot);
}

void pr_unref_many(PrSession *s, uint32_t slot, uint32_t n) {
    PrObject *o = &s->objects[slot];
    /* Before it is given up: an actor's object may go at once then, by the hand of another. */
    uint64_t word = atomic_load_explicit(&o->state, memory_order_relaxed);
    uint32_t actor = word & PR_ACTOR ? *pr_actor_in(o) : 0;
    uint32_t left = atomic_fetch_sub(&o->refs, n) - n;
    if (actor) {
        /* The last one may be the actor's own. */
        if (left <= 1) pr_actor_let_go(s, pr_handle(word, slot), actor);
    } else if (!left) {
        /* Of a result of a task that is DONE, others may decide by now: its slot may be another's.
         */
        uint64_t now = atomic_load(&o->state);
        if (!pr_same(now, word)) return;
        if (now & PR_LINEAGE) pr_note_unheld(s, pr_handle(now, slot));
        else pr_die(s, slot);
    }
}

void pr_unref(PrSession *s, uint32_t slot) {
    pr_unref_many(s, slot, 1);
}

int pr_hold_if_held(PrSession *s, uint32_t slot) {
    _Atomic uint32_t *refs = &s->objects[slot].refs;
    if (s->held[slot]) {
        s->held[slot]++;
        return 1;
    }
    uint64_t bit = (uint64_t)1 << (slot & 63);
    uint32_t n = atomic_load(refs);
    atomic_fetch_or(&s->refs[slot >> 6], bit);
    while (n && !atomic_compare_exchange_weak(refs, &n, n + 1)) {
    }
    if (n) s->held[slot] = 1;
    else atomic_fetch_and(&s->refs[slot >> 6], ~bit);
    return n != 0;
}

void pr_release_last(PrSession *s, uint32_t slot) {
    pr_enter(s);
    _Atomic uint64_t *word = &s->refs[slot >> 6];
    atomic_store_explicit(
        word, atomic_load_explicit(word, memory_order_relaxed) & ~((uint64_t)1 << (slot & 63)),
        memory_order_relaxed);
    if (pr_has_spares(s)) pr_return_spares_of(s, slot);
    pr_unref(s, slot);
    pr_bury(s);
    pr_leave(s);
}

/* What a dying object holds. May wait for a lock, once: it has one block, of the message or, when
 * that was given back, of the handles. */
static void empty(PrSession *s, uint32_t slot) {
    PrObject *o = &s->objects[slot];
    uint64_t word = atomic_load_explicit(&o->state, memory_order_relaxed);
    if (word & PR_STREAM) pr_drop_stream(s, o);
    if (o->n_refs) {
        const uint64_t *targets = pr_refs_in(s, o);
        for (uint32_t i = 0; i < o->n_refs; i++)
            if (!(targets[i] & PR_UNHELD)) pr_unref(s, pr_slot(targets[i]));
    }
    if (word & PR_BLOCK && !(word & PR_ACTOR)) pr_drop_copy(s, o);
    pr_block_free(s, &o->place);
}

void pr_bury(PrSession *s) {
    while (s->dying || s->buried || s->n_unheld || s->over) {
        note_rebuild(s);
        if (s->n_unheld || s->over) {
            pr_settle_lineage(s);
            continue;
        }
        uint32_t *list = s->dying ? &s->dying : &s->buried, slot = *list;
        PrObject *o = &s->objects[slot];
        int whole = list == &s->dying;
        *list = atomic_load_explicit(&o->next, memory_order_relaxed);
        if (whole) empty(s, slot);
        uint64_t word = atomic_load_explicit(&o->state, memory_order_relaxed);
        if (word & PR_ACTOR) pr_actor_free(s, *pr_actor_in(o));
        recycle(s, slot);
    }
}
