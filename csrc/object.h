/* Objects: slots, blocks, references, sealing, waiting, names and streams; see session.h.
 *
 *     FREE -> CACHED -> RESERVED -> SEALED | FAILED -> DYING -> CACHED -> FREE
 *                    -> PENDING  -> SEALED | FAILED
 *
 * An object with a block has it as: the message, padded to 8, then n_refs handles of objects that
 * it keeps alive. Small messages without handles are inline in the slot. A block may be given back
 * while the object lives (spill.h): who reads it pins it.
 */
#ifndef PYRAY_OBJECT_H
#define PYRAY_OBJECT_H

#include "session.h"

/* Codes of failures by the system, in objects with PR_CODE. */
enum {
    PR_WORKER_CRASHED = 1,
    PR_TASK_WAS_CANCELLED = 2,
    PR_OBJECT_LOST = 3,
    PR_ACTOR_DIED = 4,
    PR_OUT_OF_MEMORY = 5,
    PR_ENV_FAILED = 6,
    PR_STORE_FULL = 7,
    PR_OWNER_DIED = 8,
    PR_OBJECT_FREED = 9,
    PR_ACTOR_UNAVAILABLE = 10
};

static inline uint64_t pr_block_size(uint64_t size, uint32_t n_refs) {
    return ((size + 7) & ~(uint64_t)7) + (uint64_t)n_refs * 8;
}

/* The slot's own room for a message. Before it stays a stream's PrStream, or the PrCopy of what may
 * be made again while others look at that. */
static inline uint8_t *pr_inline(PrObject *o) {
    uint64_t word = atomic_load_explicit(&o->state, memory_order_relaxed);
    size_t before = word & PR_STREAM ? sizeof(PrStream) : word & PR_LINEAGE ? sizeof(PrCopy) : 0;
    return o->bytes + before;
}

static inline uint64_t pr_inline_room(PrObject *o) {
    return (uint64_t)(o->bytes + PR_INLINE_OBJECT - pr_inline(o));
}

static inline int pr_is_ready(uint64_t state_word) {
    int state = pr_state(state_word);
    return state == PR_OBJECT_SEALED || state == PR_OBJECT_FAILED;
}

/* -- making ------------------------------------------------------------------------------------ */

/* A RESERVED object that this process holds once; *data is where `size` bytes of message, and then
 * (at the next multiple of 8) n_refs handles, are to be written. 0; PR_FULL: no block; PR_LIMIT:
 * there are as many objects as there may be. */
int pr_create(PrSession *s, uint64_t size, uint32_t n_refs, PrHandle *handle, uint8_t **data);
/* What was created is whole. `failed`: the message is an exception. */
void pr_seal(PrSession *s, PrHandle handle, int failed);
/* What was created will not be written. */
void pr_abandon(PrSession *s, PrHandle handle);
/* Room for the value of a PENDING object of a task that this process runs; as pr_create. */
int pr_room(PrSession *s, uint32_t slot, uint64_t size, uint32_t n_refs, uint8_t **data);
/* Writes and seals a PENDING object whose message is this one, if it fits into the slot: 1 if so.
 */
int pr_seal_small(PrSession *s, uint32_t slot, const void *message, uint64_t size, int failed);
/* A PENDING object gets a failure instead of a value: a code and a text, cut if there is no room.
 */
void pr_fail(PrSession *s, uint32_t slot, int code, const char *text);

/* -- reading ----------------------------------------------------------------------------------- */

/* Where the message of a sealed object lies: in the slot, or, if it is pinned, in the read-only
 * mapping. */
static inline const uint8_t *pr_message_of(const PrSession *s, PrObject *o) {
    return o->place ? s->read_base + o->place : pr_inline(o);
}

/* The handles of an object that has some. */
const uint64_t *pr_refs_in(const PrSession *s, PrObject *o);

/* -- references -------------------------------------------------------------------------------- */

/* This process refers to the object, which it did not; whose count says so, or will. Inside. */
static inline void pr_note_held(PrSession *s, uint32_t slot) {
    _Atomic uint64_t *word = &s->refs[slot >> 6];
    uint64_t others = atomic_load_explicit(word, memory_order_relaxed);
    s->held[slot] = 1;
    atomic_store_explicit(word, others | (uint64_t)1 << (slot & 63), memory_order_relaxed);
}

/* This process refers to the object once more. Something else holds it meanwhile. */
static inline void pr_hold(PrSession *s, uint32_t slot) {
    if (s->held[slot]) {
        s->held[slot]++;
        return;
    }
    pr_enter(s);
    pr_note_held(s, slot);
    atomic_fetch_add(&s->objects[slot].refs, 1);
    pr_leave(s);
}

void pr_release_last(PrSession *s, uint32_t slot);
/* The same for one that perhaps nothing holds any more: 0 then. Inside. What is held may be another
 * object than was meant, as slots are used again. */
int pr_hold_if_held(PrSession *s, uint32_t slot);

static inline void pr_release(PrSession *s, uint32_t slot) {
    if (--s->held[slot] == 0) pr_release_last(s, slot);
}

/* Where the object was made is what the object in slot `site` says, which has a name for ever. */
static inline void pr_note_site(PrSession *s, PrHandle object, uint32_t site) {
    uint64_t mark = (object & ~(uint64_t)UINT32_MAX) | site;
    atomic_store_explicit(&s->sites[pr_slot(object)], mark, memory_order_relaxed);
}

/* One reference that is not a process', fewer. The caller is inside, and calls pr_bury later. */
void pr_unref(PrSession *s, uint32_t slot);
void pr_unref_many(PrSession *s, uint32_t slot, uint32_t n);
/* Gives back what has no references any more. Inside; may wait for locks. */
void pr_bury(PrSession *s);

/* -- waiting ----------------------------------------------------------------------------------- */

enum {
    PR_SPIN = 1, /* a while, before the first sleep */
    PR_ONCE = 2  /* return when this process was notified of anything */
};

/* With a slot that is waited for: ready is also a stream that has an item to be taken. */
#define PR_NEXT ((uint32_t)1 << 31)

/* Waits until `needed` of n objects that this process holds are ready, or with `any_failure` one of
 * them is FAILED, until `deadline` (pr_now; < 0: no limit). Any number of threads may.
 * 0, PR_TIMEOUT, PR_INTERRUPTED (by a signal; with PR_ONCE by a notice), PR_ENDED. */
int pr_wait(PrSession *s, const uint32_t *slots, size_t n, size_t needed, int64_t deadline,
            int any_failure, int how);
/* Objects that this process waits for, for long: it hears of each that is ready without a look at
 * the others. Private, and not for two threads at a time. */
typedef struct {
    uint64_t *slots; /* bits: they are waited for */
    uint32_t n;      /* how many */
    uint64_t epoch;  /* when all of them were looked at */
} PrVigil;

/* 0 or PR_FULL. */
int pr_vigil_begin(PrSession *s, PrVigil *v);
/* `s` is NULL if the process has left the session. */
void pr_vigil_end(PrSession *s, PrVigil *v);
/* One that this process holds until it is removed, or found ready. With PR_NEXT, as in pr_wait. */
void pr_vigil_add(PrSession *s, PrVigil *v, uint32_t waited);
void pr_vigil_remove(PrSession *s, PrVigil *v, uint32_t slot);
/* Up to `room` of those that are ready, and perhaps some that are not; they are waited for no
 * longer. */
size_t pr_vigil_ready(PrSession *s, PrVigil *v, uint32_t *slots, size_t room);
/* Waits until this process was notified since its `event` was `seen`, as it is when one of them is
 * ready. Any thread may. 0, PR_INTERRUPTED, PR_ENDED. */
int pr_vigil_sleep(PrSession *s, uint32_t seen);

/* -- names ------------------------------------------------------------------------------------- */

/* The named object, held by this process once more; or 0. */
PrHandle pr_name_find(PrSession *s, const uint8_t key[24]);
/* Gives an object that this process holds a name. *found is the object that has the name
 * afterwards: another one if it was there before (and held by this process now). 0 or PR_LIMIT. */
int pr_name_set(PrSession *s, const uint8_t key[24], PrHandle handle, PrHandle *found);
/* 0, or PR_STALE if there is no such name, or it is not that of `only` (0: of whatever). */
int pr_name_remove(PrSession *s, const uint8_t key[24], PrHandle only);
/* The names whose keys begin so, up to `room` of them (handle, key and pid are set); how many there
 * are in all. */
size_t pr_name_list(PrSession *s, const void *prefix, size_t size, PrName *out, size_t room);
/* Waits until PrControl.named is not `seen`: something was given a name; as pr_wait. */
int pr_name_wait(PrSession *s, uint32_t seen, int64_t deadline, int how);
uint32_t pr_name_bucket(const PrSession *s, const uint8_t key[24]);

/* -- streams ----------------------------------------------------------------------------------- */

/* An object that this process has sealed and holds becomes the stream's next. 0, or PR_ENDED when
 * the consumer wants no more. */
int pr_stream_put(PrSession *s, uint32_t stream, PrHandle item);
/* The stream's next object, held by this process; 0 if there is none (yet). */
PrHandle pr_stream_take(PrSession *s, uint32_t stream);
/* Items produced and not taken. */
uint32_t pr_stream_length(const PrSession *s, uint32_t stream);
/* Waits until there is an item, or the stream has ended; as pr_wait. */
int pr_stream_wait(PrSession *s, uint32_t stream, int64_t deadline, int how);
void pr_stream_close(PrSession *s, uint32_t stream);
/* Back-pressure: this process runs the task, and waits while `backlog` of its items are not taken.
 * 0; PR_ENDED when nobody wants more, or the session is over; else as pr_wait. */
int pr_stream_room(PrSession *s, uint32_t task, int64_t deadline, int how);

/* -- for task.c and recover.c ------------------------------------------------------------------ */

/* At least n slots in the magazine. Inside; may wait for a lock. 0 or PR_LIMIT. */
int pr_fill_objects(PrSession *s, uint32_t n);
void pr_flush_magazines(PrSession *s);
/* A slot out of the magazine: CACHED, to be given another state before the next safe point. */
uint32_t pr_take_object(PrSession *s);
/* Back into it. Inside; may wait for a lock. */
void pr_keep_object(PrSession *s, uint32_t slot);
/* State word of the slot's generation. */
void pr_set_state(PrObject *o, uint64_t state);
/* A block for what `place` (in a slot) says it has, by then. Inside. 0 or PR_FULL. */
int pr_block_new(PrSession *s, uint64_t size, uint64_t *place);
/* Gives it back, and makes it 0. Inside; may wait for a lock. */
void pr_block_free(PrSession *s, uint64_t *place);
/* What the arena has. Not inside. */
void pr_block_stats(PrSession *s, PrArenaStats *out);
/* To SEALED or FAILED; dependants and watchers are told. Inside. */
void pr_make_ready(PrSession *s, uint32_t slot, uint64_t state);
void pr_drop_stream(PrSession *s, PrObject *o);
/* It is DYING, by this process: pr_bury will see to it. */
void pr_enlist(PrSession *s, uint32_t slot);
/* Nobody refers to it, nor will: DYING. */
void pr_die(PrSession *s, uint32_t slot);
void pr_wake_watchers(PrSession *s, uint32_t slot, int failed);

#endif
