/* A driver, and a worker that it plays, for tests of lineage. */
#ifndef PYRAY_TESTS_PAIR_H
#define PYRAY_TESTS_PAIR_H

#include "../lineage.h"
#include "spiller.h"

enum { SIZE = 5000, RETURNS = 3 };

typedef struct {
    PrSession s, w;
    uint32_t runs; /* tasks */
} Pair;

static inline Pair new_pair(void) {
    Pair p = {.s = small_session()};
    PrNeed need = {PR_CPU, PR_UNIT};
    EQUAL(pr_resource(&p.s, "CPU", PR_UNIT), PR_CPU);
    EQUAL(pr_shape(&p.s, &need, 1, 0), 0);
    p.w = join_session(&p.s, PR_WORKER);
    return p;
}

/* Before anything runs: for another worker. */
static inline void two_cpus(Pair *p) {
    p->s.control->resources[PR_CPU].total = 2 * PR_UNIT;
    atomic_store(&p->s.control->resources[PR_CPU].available, 2 * PR_UNIT);
}

static inline void end_pair(Pair *p) {
    EQUAL(p->s.control->n_lineage, 0);
    EQUAL(p->s.control->lineage_bytes, 0);
    leave_session(&p->w);
    end_session(&p->s);
}

typedef struct {
    uint64_t number, size;
} Work;

/* A task that makes n objects of that size from those, if n_from; they are held. Its arguments are
 * the object `holder`, if not 0. */
static inline PrHandle submit_with(Pair *p, uint64_t size, PrHandle holder, const PrHandle *from,
                                   uint32_t n_from, uint32_t n, int32_t retries,
                                   PrHandle *returns) {
    static uint64_t numbers = 0;
    uint32_t slots[8];
    Work work = {.number = numbers += 10, .size = size};
    PrHandle first;
    for (uint32_t i = 0; i < n_from; i++) slots[i] = pr_slot(from[i]);
    PrCall call = {.n_returns = n,
                   .retries = retries,
                   .dependencies = slots,
                   .n_dependencies = n_from,
                   .arguments = holder,
                   .inline_arguments = &work,
                   .arguments_size = sizeof work};
    EQUAL(pr_submit(&p->s, &call, returns ? returns : &first), 0);
    return returns ? returns[0] : first;
}

static inline PrHandle submit(Pair *p, uint64_t size, const PrHandle *from, uint32_t n_from,
                              uint32_t n, int32_t retries, PrHandle *returns) {
    return submit_with(p, size, 0, from, n_from, n, retries, returns);
}

/* A result of a task that this worker runs gets a value, of which the number tells all bytes. */
static inline void seal_result(PrSession *w, uint32_t slot, uint64_t size, uint64_t number,
                               PrHandle inside) {
    uint8_t *data;
    EQUAL(pr_room(w, slot, size, inside != 0, &data), 0);
    write_value(data, size, number);
    if (inside) memcpy(data + ((size + 7) & ~7ull), &inside, 8);
    pr_enter(w);
    pr_make_ready(w, slot, PR_OBJECT_SEALED);
    pr_leave(w);
}

/* Its results hold `inside`, if that is not 0. */
static inline void run_one(Pair *p, PrHandle inside) {
    PrSession *w = &p->w;
    uint32_t task = pr_next_queued(w);
    if (!task) EQUAL(pr_next_task(w, &task, soon()), 0);
    PrTask *t = &w->tasks[task];
    Work work;
    memcpy(&work, t->inline_arguments, sizeof work);
    uint32_t slot = t->first_return;
    p->runs++;
    for (uint32_t i = 0; i < t->n_returns; i++) {
        if (pr_state(atomic_load(&w->objects[slot].state)) == PR_OBJECT_PENDING)
            seal_result(w, slot, work.size, work.number + i, inside);
        slot = atomic_load(&w->objects[slot].next);
    }
    pr_finish(w, task);
}

/* This worker dies, and the others recover from that. */
static inline void kill_worker(Pair *p, PrSession *w) {
    atomic_store(&w->self->state, PR_PROCESS_DEAD);
    pr_recover(&p->s, 0, 0, "");
    SOUND(&p->s);
}

static inline int idle(Pair *p) {
    uint32_t task;
    return !pr_next_queued(&p->w) && pr_next_task(&p->w, &task, pr_now()) == PR_TIMEOUT;
}

/* The number that its bytes tell, or -1: it is not there. */
static inline int64_t number_of(Pair *p, PrHandle h) {
    PrObject *o = &p->s.objects[pr_slot(h)];
    uint64_t number;
    EQUAL(pr_state(atomic_load(&o->state)), PR_OBJECT_SEALED);
    if (pr_pin(&p->s, pr_slot(h)) != 1) return -1;
    memcpy(&number, pr_message_of(&p->s, o), 8);
    CHECK(has_pattern(pr_message_of(&p->s, o) + 8, o->size - 8, number));
    pr_unpin(&p->s, pr_slot(h));
    return (int64_t)number;
}

static inline void discard(Pair *p, PrHandle h) {
    EQUAL(pr_discard(&p->s, pr_slot(h)), 0);
    EQUAL(pr_pin(&p->s, pr_slot(h)), PR_AWAY);
    CHECK(pr_is_gone(&p->s.objects[pr_slot(h)]));
    SOUND(&p->s);
}

static inline int again(Pair *p, PrHandle h) {
    PrHandle culprit;
    PrWhy why;
    int status = pr_reconstruct(&p->s, h, &culprit, &why);
    SOUND(&p->s);
    return status;
}

static inline PrWhy refused(Pair *p, PrHandle h, PrHandle whose) {
    PrHandle culprit = 0;
    PrWhy why = 0;
    EQUAL(pr_reconstruct(&p->s, h, &culprit, &why), PR_STALE);
    EQUAL(culprit, whose);
    SOUND(&p->s);
    return why;
}

#endif
