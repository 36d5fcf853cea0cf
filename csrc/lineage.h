/* Tasks that are over and kept, as their results can be made again by them; see task.h.
 *
 *     task:    RUNNING ──► DONE ──► DYING         nobody needs its results any more
 *                           └─────► WAITING       a result's value is gone, and is wanted
 *     result:  SEALED ──► SEALED | OUT, no copy ──► PENDING | OUT ──► SEALED
 *
 * A task is kept if it may be tried again and one of its results is large: small ones cannot be
 * lost. Those of its results that have blocks get PR_LINEAGE; as long as the task is there, it is
 * their `owner`, else that is 0. A DONE task holds its arguments and label, and those of its
 * results and dependencies, and objects in its arguments, that have no lineage of their own. Of
 * those that have, it counts itself into PrCopy.wanted instead (PR_WEAK, PR_UNHELD): they are not
 * kept, but can be made again, as long as it may need them. (The object of its arguments is the
 * task's alone.) A result that nobody holds any more gives its value back, and keeps its slot,
 * while its task is there. A task is there as long as one of its results with a lineage is held, or
 * wanted.
 *
 * The lineage's lock guards `wanted`, `owner` of what has PR_LINEAGE, the change from and to DONE,
 * and the loss of values without a copy. Who holds it waits for nothing: blocks are given back, and
 * tasks queued, after it. What a crash leaves is settled from the states (recover_lineage.c): a
 * task is WAITING before the first of its results is PENDING.
 */
#ifndef PYRAY_LINEAGE_H
#define PYRAY_LINEAGE_H

#include "spill.h"
#include "task.h"

enum {
    PR_LINEAGE_TASK = 256,  /* bytes that a DONE task counts beside its arguments */
    PR_LINEAGE_ITEMS = 1024 /* items of a generator that can be made again: the first ones */
};

/* Why a value cannot be made again, of an object with a block: PrCopy.why. */
typedef enum {
    PR_WHY_PUT = 0,
    PR_WHY_ACTOR = 1,
    PR_WHY_NO_RETRIES = 2,
    PR_WHY_GENERATOR = 3,
    PR_WHY_DROPPED = 4,   /* lineage is limited, or not kept at all */
    PR_WHY_FAILED = 5,    /* another result of the task did, or it was lost before it was over */
    PR_WHY_GONE = 6,      /* it is not there any more: nobody referred to it */
    PR_WHY_UNDECIDED = 7, /* its task is not over */
    PR_WHY_FREED = 16     /* one bit: its value was given back by pr_discard */
} PrWhy;

/* The task is over, all that it made is sealed: DONE if it is kept. Whether it is. Inside; may wait
 * for locks. */
int pr_keep_task(PrSession *s, uint32_t task);
/* The same in a recovery, of a task whose worker has died when all that it made was sealed: who
 * refers to it is not known yet, so what nobody needs goes later. */
int pr_keep_orphan(PrSession *s, PrTask *t);
/* It is over, and not kept. Inside. */
void pr_uncover(PrSession *s, const PrTask *t);
/* An item, sealed and held by this process, of the generator that it runs: the task can make it
 * again from now on, if there is a point in it. As long as the task runs, slots of items that
 * nobody refers to stay. Inside. */
void pr_cover_item(PrSession *s, uint32_t task, uint32_t slot, uint32_t number);
/* A generator is over, DYING by this process since that epoch, and not kept. Inside; may wait for
 * locks. */
void pr_drop_items(PrSession *s, const PrTask *t, uint64_t epoch);
/* Of a generator that runs again: the item of that number; 0: it is not needed. */
uint32_t pr_item(const PrSession *s, const PrTask *t, uint32_t number);
/* This process dropped the last reference to something with PR_LINEAGE, or to an actor that is not
 * made yet: pr_bury will look. */
void pr_note_unheld(PrSession *s, PrHandle object);
/* Looks, and ends what was to be ended. Inside; may wait for locks. */
void pr_settle_lineage(PrSession *s);

/* Whether the object is sealed and its value is neither in memory nor in a file. */
int pr_is_gone(PrObject *o);
/* The value of an object that this process holds is to be made again, if it is gone; also those
 * that this needs. 0: it is there, or will be (wait for it); PR_BUSY: ask again a little later;
 * PR_STALE: it cannot be, for want of *culprit, *why; PR_FULL: no memory for the plan. */
int pr_reconstruct(PrSession *s, PrHandle object, PrHandle *culprit, PrWhy *why);
/* Whether it could be, if it were gone. For spill.c; under the lineage's lock. */
int pr_could_reconstruct(PrSession *s, uint32_t slot);
/* The value of an object that this process holds is given back, wherever it is: 0; PR_BUSY: it is
 * being read, or written to a file; PR_STALE: there is none, or it is small. */
int pr_discard(PrSession *s, uint32_t slot);

/* Its value is given back, wherever it is, but for the blocks that it was in. Nobody reads it, and
 * it is OUT, or nobody refers to it. Under the lineage's lock. */
void pr_take_value(PrSession *s, PrObject *o, uint64_t blocks[2]);
/* Gives those back, once the lock is. Inside; may wait for locks. */
void pr_free_taken(PrSession *s, uint64_t blocks[2]);

/* -- shared by lineage.c, reconstruct.c, recover_lineage.c and check.c --------------------------
 */

/* The handles behind a task's arguments, of objects that those refer to. NULL if there are none. */
uint64_t *pr_nested(const PrSession *s, const PrTask *t, uint32_t *n);
PrDependency *pr_own_dependencies(const PrSession *s, PrTask *t);
/* A result of a task that is not over. */
int pr_is_undecided(PrObject *o);
/* Takes it out of the list of DONE tasks. */
void pr_unlink_done(PrSession *s, PrTask *t);
/* One that is to run holds all that it needs. */
void pr_clear_marks(PrSession *s, PrTask *t);

static inline PrObject *pr_object_of(const PrSession *s, PrHandle h) {
    return &s->objects[pr_slot(h)];
}

static inline int pr_is_weak(const PrDependency *d) {
    return atomic_load_explicit(&d->next, memory_order_relaxed) == PR_WEAK;
}

/* At the end of the list. */
void pr_link_done(PrSession *s, uint32_t task);

static inline int pr_is_done(const PrTask *t) {
    return pr_state(atomic_load_explicit(&t->state, memory_order_relaxed)) == PR_TASK_DONE;
}

/* The task that can make it again, or 0. */
static inline uint32_t pr_maker(PrObject *o) {
    return atomic_load(&o->state) & PR_LINEAGE ? atomic_load(&o->owner) : 0;
}

#endif
