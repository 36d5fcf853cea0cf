/* Objects whose memory is given back while they live: pins, copies in files, room; see session.h.
 *
 *     SEALED ──────► SEALED, with a copy ──────► SEALED | OUT, with a copy
 *                     │        ▲                    │       │
 *                     │        └────────────────────┘       │ the copy is lost
 *                     └─ the copy is lost: SEALED           ▼
 *                                                SEALED | OUT, and the value is gone
 *
 * One process of the session, the spiller, writes copies, gives blocks back (pr_evict), and reads
 * copies into new blocks (pr_arrive); it holds the object meanwhile. Whoever reads a block *pins*
 * it first: it counts itself into `pins`, then looks whether the object is OUT. The spiller marks
 * it OUT first, then looks whether there are pins. So either the reader finds that it is too late,
 * or the spiller does. A process' pins are bits in a bitmap of its own, as references are: those
 * of the dead count no more.
 *
 * The handles that stand behind a message stay in memory, in a small block of their own, since the
 * objects they refer to have to be known to be alive.
 *
 * Files belong to the spiller. It removes those in which no object has its copy any more, which who
 * buries the last such object notices. What is in a file and how it is checked is the affair of
 * pyray/runtime/spill_files.py; here a copy is a file and an offset.
 */
#ifndef PYRAY_SPILL_H
#define PYRAY_SPILL_H

#include "object.h"

/* -- reading ----------------------------------------------------------------------------------- */

/* Whether the message of an object that is ready is in the slot; else it has, or had, a block. */
static inline int pr_is_inline(PrObject *o) {
    return !(atomic_load_explicit(&o->state, memory_order_relaxed) & PR_BLOCK);
}

static inline PrCopy *pr_copy_of(PrObject *o) {
    uint64_t word = atomic_load_explicit(&o->state, memory_order_relaxed);
    return (PrCopy *)(void *)(o->bytes + (word & PR_STREAM ? sizeof(PrStream) : 0));
}

/* Whether its inline bytes are a PrCopy. An actor's object has other things there. */
static inline int pr_has_copy(PrObject *o, uint64_t word) {
    return !(word & PR_ACTOR) && (o->place || word & (PR_OUT | PR_LINEAGE));
}

/* A time for PrCopy.used: of 2^20 ns, about a millisecond. */
static inline uint32_t pr_tick(int64_t now) {
    return (uint32_t)(now >> 20);
}

/* The block stays until pr_unpin. This process holds the object. 1; 0: its message needs no pin, as
 * it is in the slot or never spilled; PR_AWAY: there is no block. */
int pr_pin(PrSession *s, uint32_t slot);
/* After a pr_pin that gave 1. */
void pr_unpin(PrSession *s, uint32_t slot);
/* An object that is OUT is to be read again: the spiller is told, and wakes who watches it. */
void pr_fetch(PrSession *s, uint32_t slot);
/* Waits until it is not OUT, or nobody fetches it any more: pr_await_fetch returns as pr_wait. */
int pr_await_fetch(PrSession *s, uint32_t slot, int64_t deadline);
/* The copy is no good. It counts as lost from now on. */
void pr_lose_copy(PrSession *s, uint32_t slot);

/* -- room, room.c ------------------------------------------------------------------------------ */

enum {
    PR_SPILL_LEAST = 512, /* smaller messages stay in memory */
    /* So do smaller ones that have a name: without its functions, and what is known of its jobs, a
     * session could do nothing while files cannot be read. */
    PR_SPILL_NAMED = 1 << 16,
    /* PrProcess.granted: no block has such a place. */
    PR_WAITING = 1,
    PR_GRANTING = 2, /* the spiller is about to answer */
    PR_DENIED = 3,
    PR_WAITS_FOR_ROOM = 4096 /* blocks of this size wait for their turn if others wait */
};

/* This process wants a block of so many bytes, and has waited since then (of pr_now()): its turn is
 * before those that came later. 0; PR_FULL: there is no spilling in this session, or the block is
 * too large for it; PR_BUSY: another thread of this process waits for one. */
int pr_want_room(PrSession *s, uint64_t bytes, int64_t since);
/* Waits for that block. 0: the next pr_create or pr_room of that size gets it, which may be that of
 * another thread; PR_FULL: it will not come; PR_TIMEOUT, PR_INTERRUPTED, PR_ENDED. */
int pr_await_room(PrSession *s, int64_t deadline);
/* It is wanted no more; a block that was granted is given back. Nothing if there was no wish. */
void pr_forget_room(PrSession *s);
/* The block that was granted to this process, if it is of that size, is for `place`: 1, or 0. For
 * object.c; inside. */
int pr_take_grant(PrSession *s, uint64_t bytes, uint64_t *place);

/* The process that has waited longest, or 0; and what it wants. */
uint32_t pr_first_wanting(const PrSession *s, uint64_t *bytes);
/* Gives it a block if there is one: 0, or PR_FULL. */
int pr_grant(PrSession *s, uint32_t process);
void pr_deny(PrSession *s, uint32_t process);
/* Whether it is worth to wait: an object is being written, or a process reads that is neither this
 * one nor itself waiting for room. */
int pr_may_free(PrSession *s, uint32_t process);
/* Bytes of sealed objects that a process reads now. Small ones are left out: functions, say. */
uint64_t pr_pinned_bytes(PrSession *s, uint32_t process);

/* -- for the spiller --------------------------------------------------------------------------- */

/* This process is the spiller: it is notified when there is something to do. It makes `called` 0
 * before it looks. There is no other: the death of one before has been recovered from. */
void pr_begin_spilling(PrSession *s);
/* There is something for the spiller to do; the node is told if there is none. */
void pr_call_spiller(PrSession *s);
/* Up to `room` sealed objects that nobody reads, those first that were read longest ago, until they
 * have `bytes` together: such as can be given back, or with `dirty` such as need a copy first. This
 * process holds each once more. Dirty ones are not chosen again until they have a copy, or
 * pr_not_written. How many. */
uint32_t pr_choose(PrSession *s, int dirty, uint64_t bytes, PrHandle *chosen, uint32_t room);
/* Bytes of blocks that could be given back now: of objects with a copy, and without. */
void pr_spillable(PrSession *s, uint64_t *clean, uint64_t *dirty);
/* Objects that are waited for, held by this process once more. How many. */
uint32_t pr_fetched(PrSession *s, PrHandle *chosen, uint32_t room);
/* A file to be written; 0: there are as many as there may be. */
uint32_t pr_file_new(PrSession *s, uint32_t target);
/* It is whole, or will never be. Objects get their copies between the two. */
void pr_file_done(PrSession *s, uint32_t file, uint64_t size);
void pr_set_copy(PrSession *s, uint32_t slot, uint32_t file, uint64_t offset);
void pr_not_written(PrSession *s, uint32_t slot);
/* The next file, from one slot on, that no object needs: its slot, which pr_file_free gives back
 * once the file is removed, so that who comes after a spiller that has died removes it; 0: there is
 * none. */
uint32_t pr_file_unused(PrSession *s, uint32_t after);
void pr_file_free(PrSession *s, uint32_t file);
/* The block of an object is given back that has a copy, or, if the session evicts, can be made
 * again: 0; PR_BUSY; PR_FULL: no room for its handles; PR_STALE: it is none, or has no block. */
int pr_evict(PrSession *s, uint32_t slot);
/* A block for the message of an object that is OUT: 0; PR_FULL; PR_STALE: it has no copy any more.
 */
int pr_make_incoming(PrSession *s, uint32_t slot, uint8_t **data);
/* The message is there: the object is as before. Or it will not come: who waits is told. */
void pr_arrive(PrSession *s, uint32_t slot);
void pr_give_up(PrSession *s, uint32_t slot);

/* -- for object.c and recover.c; inside -------------------------------------------------------- */

/* Marks a block as given back, if nobody reads it and the spiller is not at it: 0 or PR_BUSY. Under
 * the lineage's lock. */
int pr_mark_out(PrObject *o);
/* Of one that is OUT: 0, or PR_BUSY. */
int pr_copy_is_idle(PrObject *o);
/* Its copy, if it has one, is needed no more. Inside. */
void pr_leave_file(PrSession *s, PrObject *o);
/* What else than its block an object has that is dying: its place in a file, its handles' block. */
void pr_drop_copy(PrSession *s, PrObject *o);
/* The world is stopped, and objects are settled: pins, files and wishes are counted anew. */
void pr_rebuild_copies(PrSession *s);

#endif
