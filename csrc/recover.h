/* What the parts of the recovery share: recover.c, recover_actors.c and
 * recover_lineage.c. The world is stopped. */
#ifndef PYRAY_RECOVER_H
#define PYRAY_RECOVER_H

#include "actor.h"

typedef struct {
    PrSession *s;
    uint32_t process; /* that was killed, and: */
    PrRetry retry;    /* what becomes of its task */
    uint32_t n_objects, n_tasks, n_actors, n_processes;
    uint8_t *claimed; /* objects that are returns of a task that is not over */
    PrExtent *extents;
    size_t n_extents, room;
    uint32_t *broken; /* tasks that are to fail */
    size_t n_broken;
} Rebuild;

static inline int is_live(const PrSession *s, uint32_t process) {
    return process && process < s->control->max_processes &&
           atomic_load(&s->processes[process].state) == PR_PROCESS_LIVE;
}

/* One more reference to that object. */
static inline void count(Rebuild *r, PrHandle h) {
    atomic_fetch_add_explicit(&r->s->objects[pr_slot(h)].refs, 1, memory_order_relaxed);
}

static inline int is_pending(const PrTask *t) {
    int state = pr_state(atomic_load(&t->state));
    return state >= PR_TASK_WAITING && state <= PR_TASK_CANCELLED;
}

/* -- recover.c -----------------------------------------------------------------------------------
 */

void pr_free_task(PrTask *t);
/* A value that nobody refers to, and those that only it referred to. */
void pr_free_unreferenced(Rebuild *r, uint32_t slot);
/* One reference fewer; if it was the last, the value goes. */
void pr_drop(Rebuild *r, uint32_t slot);
/* By the order of their submission. */
void pr_sort_tasks(PrSession *s, uint32_t *tasks, uint32_t n);

/* -- recover_actors.c, in this order ----------------------------------------------------------- */

/* Once it is settled which tasks there are: which actors. Their queues and counts are empty. */
void pr_settle_actors(Rebuild *r);
/* What they refer to. */
void pr_count_actors(Rebuild *r);
/* One that is to be made, or made anew, and that nobody refers to or has called, is not, as nobody
 * can call it any more: its creation fails. Once all references and calls are counted. */
void pr_drop_unwanted_actors(Rebuild *r);
/* Whether an object that nobody refers to goes: that of an actor only if that is dead, too. */
int pr_may_go(const PrSession *s, PrObject *o);
/* Its slot is free. */
void pr_forget_actor(PrActor *a);
/* The list of free slots. */
void pr_rebuild_actors(Rebuild *r);

/* -- recover_lineage.c, in this order ---------------------------------------------------------- */

/* Once it is settled which tasks there are: results that are to be made again. */
void pr_settle_repeated(Rebuild *r);
/* What a DONE task refers to; its results are claimed. */
void pr_count_done(Rebuild *r, const PrTask *t);
/* Items of a generator that is not over are claimed, too. */
void pr_claim_items(Rebuild *r, const PrTask *t);
/* Of which results the lineage is wanted, once all tasks are counted. */
void pr_count_wanted(Rebuild *r);
/* Once objects are settled: DONE tasks, and values, that nobody needs any more go. */
void pr_rebuild_lineage(Rebuild *r);

#endif
