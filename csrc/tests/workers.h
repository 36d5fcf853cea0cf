/* For the tests of tasks: workers that are threads, each with a session of its own, and what is
 * submitted to them. */
#ifndef PYRAY_TESTS_WORKERS_H
#define PYRAY_TESTS_WORKERS_H

#include "runtime.h"

/* -- workers ----------------------------------------------------------------------------------- */

/* What the task is to do, as its inline arguments. */
typedef struct {
    uint32_t number;
    uint32_t busy;  /* microseconds */
    uint32_t fails; /* attempts that are retried */
} Work;

typedef struct Pool Pool;

typedef struct {
    Pool *pool;
    int index;
    uint32_t env;
    _Atomic uint32_t done;
} Worker;

/* Workers, each a thread with a session of its own. */
struct Pool {
    PrSession *s;
    int n;
    pthread_t threads[16];
    Worker workers[16];
    _Atomic uint32_t order[1 << 14]; /* numbers of tasks as they began */
    _Atomic uint32_t n_order;
    _Atomic int hold;    /* tasks with busy == UINT32_MAX stay until it is 0 */
    _Atomic int running; /* how many do, and the most there were */
    _Atomic int most;
};

static inline void count_running(Pool *pool) {
    int now = atomic_fetch_add(&pool->running, 1) + 1, most = atomic_load(&pool->most);
    while (now > most && !atomic_compare_exchange_weak(&pool->most, &most, now)) {
    }
}

static inline void seal_returns(PrSession *s, uint32_t task, uint64_t number) {
    PrTask *t = &s->tasks[task];
    uint32_t slot = t->first_return;
    for (uint32_t i = 0; i < t->n_returns; i++) {
        uint32_t next = atomic_load(&s->objects[slot].next);
        uint8_t *data;
        EQUAL(pr_room(s, slot, 40 + number % 100, 0, &data), 0);
        write_pattern(data, 40 + number % 100, number + i);
        pr_enter(s);
        pr_make_ready(s, slot, PR_OBJECT_SEALED);
        pr_leave(s);
        slot = next;
    }
}

static inline void execute(PrSession *s, Pool *pool, uint32_t task) {
    PrTask *t = &s->tasks[task];
    Work work;
    uint32_t failed = pr_failed_dependency(s, task);
    memcpy(&work, t->inline_arguments, sizeof work);
    for (uint32_t k = 0; k < t->n_dependencies; k++)
        CHECK(pr_is_ready(atomic_load(&s->objects[pr_dependency(s, t, k)].state)));
    EQUAL(pr_state(atomic_load(&t->state)), PR_TASK_RUNNING);
    EQUAL(atomic_load(&s->self->running), pr_handle(atomic_load(&t->state), task));
    if (failed) {
        pr_fail_task_like(s, task, failed);
        return;
    }
    uint32_t at = atomic_fetch_add(&pool->n_order, 1);
    if (at < sizeof pool->order / sizeof *pool->order) atomic_store(&pool->order[at], work.number);
    count_running(pool);
    if (work.busy == UINT32_MAX) {
        UNTIL(!atomic_load(&pool->hold) || atomic_load(&t->state) & PR_CANCEL);
    } else if (work.busy) {
        nap((int64_t)work.busy * 1000);
    }
    atomic_fetch_sub(&pool->running, 1);
    if (atomic_load(&t->state) & PR_CANCEL) {
        pr_fail_task(s, task, PR_TASK_WAS_CANCELLED, "it stopped");
    } else if (t->attempt < work.fails) {
        uint8_t *data;
        /* An attempt that got as far as to make room. */
        if (t->n_returns) EQUAL(pr_room(s, t->first_return, 500, 2, &data), 0);
        if (!pr_retry(s, task)) pr_fail_task(s, task, 77, "no retries are left");
    } else {
        seal_returns(s, task, work.number);
        pr_finish(s, task);
    }
}

static inline void *work(void *with) {
    Worker *worker = with;
    PrSession s = join_session(worker->pool->s, PR_WORKER);
    uint32_t task;
    int status;
    atomic_store(&s.self->env, worker->env);
    atomic_store(&worker->pool->s->self->leave, 0);
    for (;;) {
        task = pr_next_queued(&s);
        if (!task) {
            status = pr_next_task(&s, &task, -1);
            if (status == PR_ENDED) break;
            EQUAL(status, 0);
        }
        execute(&s, worker->pool, task);
        atomic_fetch_add(&worker->done, 1);
    }
    leave_session(&s);
    return NULL;
}

static inline void add_worker(Pool *pool, uint32_t env) {
    Worker *worker = &pool->workers[pool->n];
    uint32_t live = 0, before = 0;
    for (uint32_t i = 1; i < atomic_load(&pool->s->control->n_processes); i++)
        before += atomic_load(&pool->s->processes[i].state) == PR_PROCESS_LIVE;
    *worker = (Worker){.pool = pool, .index = pool->n, .env = env};
    pool->threads[pool->n++] = start_thread(work, worker);
    for (int64_t end = soon(); live <= before && pr_now() < end; nap(MS / 20)) {
        live = 0;
        for (uint32_t i = 1; i < atomic_load(&pool->s->control->n_processes); i++)
            live += atomic_load(&pool->s->processes[i].state) == PR_PROCESS_LIVE;
    }
}

static inline Pool *new_pool(PrSession *s, int n) {
    Pool *pool = calloc(1, sizeof *pool);
    pool->s = s;
    while (pool->n < n) add_worker(pool, 0);
    return pool;
}

/* All but the caller shall go when they are idle. */
static inline void ask_to_leave(PrSession *s) {
    for (uint32_t i = 1; i < atomic_load(&s->control->n_processes); i++) {
        if (&s->processes[i] == s->self) continue;
        atomic_store(&s->processes[i].leave, 1);
        pr_notify(s, &s->processes[i]);
    }
}

static inline void end_pool(Pool *pool) {
    ask_to_leave(pool->s);
    join_threads(pool->threads, pool->n);
    free(pool);
}

/* -- tasks ------------------------------------------------------------------------------------- */

static inline uint32_t cpu_shape(PrSession *s, double cpus) {
    PrNeed need = {PR_CPU, (int64_t)(cpus * PR_UNIT)};
    int shape = pr_shape(s, &need, 1, 0);
    CHECK(shape >= 0);
    return (uint32_t)shape;
}

static inline PrSession task_session(int cpus, int64_t spin) {
    PrSession s = new_session(1 << 24, 1 << 16, 1 << 15, spin);
    EQUAL(pr_resource(&s, "CPU", (int64_t)cpus * PR_UNIT), PR_CPU);
    return s;
}

static inline PrHandle submit(PrSession *s, uint32_t shape, Work w, const uint32_t *dependencies,
                              uint32_t n, int32_t retries) {
    PrHandle h;
    PrCall call = {.shape = shape,
                   .n_returns = 1,
                   .retries = retries,
                   .dependencies = dependencies,
                   .n_dependencies = n,
                   .inline_arguments = &w,
                   .arguments_size = sizeof w};
    EQUAL(pr_submit(s, &call, &h), 0);
    return h;
}

static inline PrHandle submit_plain(PrSession *s, uint32_t shape, uint32_t number) {
    return submit(s, shape, (Work){.number = number}, NULL, 0, 0);
}

/* The next task, at once. */
static inline uint32_t next(PrSession *w) {
    uint32_t task;
    EQUAL(pr_next_task(w, &task, soon()), 0);
    return task;
}

static inline int nothing_to_do(PrSession *w) {
    uint32_t task;
    return pr_next_task(w, &task, pr_now()) == PR_TIMEOUT;
}

static inline uint32_t number_of(const PrSession *s, uint32_t task) {
    Work w;
    memcpy(&w, s->tasks[task].inline_arguments, sizeof w);
    return w.number;
}

static inline void finish(PrSession *w, uint32_t task) {
    seal_returns(w, task, number_of(w, task));
    pr_finish(w, task);
}

static inline int code_of(const PrSession *s, PrHandle h) {
    PrObject *o = &s->objects[pr_slot(h)];
    uint64_t word = atomic_load(&o->state);
    return pr_state(word) == PR_OBJECT_FAILED && word & PR_CODE ? pr_message_of(s, o)[0] : -1;
}

#endif
