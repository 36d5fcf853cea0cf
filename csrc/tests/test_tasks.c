/* Tasks: dependencies, order, batches, stealing, resources, environments, cancellation, retries,
 * and that no wake-up is lost. Threads play the processes; each test ends with nothing left. */
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

static void count_running(Pool *pool) {
    int now = atomic_fetch_add(&pool->running, 1) + 1, most = atomic_load(&pool->most);
    while (now > most && !atomic_compare_exchange_weak(&pool->most, &most, now)) {
    }
}

static void seal_returns(PrSession *s, uint32_t task, uint64_t number) {
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

static void execute(PrSession *s, Pool *pool, uint32_t task) {
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

static void *work(void *with) {
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

static void add_worker(Pool *pool, uint32_t env) {
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

static Pool *new_pool(PrSession *s, int n) {
    Pool *pool = calloc(1, sizeof *pool);
    pool->s = s;
    while (pool->n < n) add_worker(pool, 0);
    return pool;
}

static void end_pool(Pool *pool) {
    PrSession *s = pool->s;
    for (uint32_t i = 1; i < atomic_load(&s->control->n_processes); i++) {
        if (&s->processes[i] == s->self) continue;
        atomic_store(&s->processes[i].leave, 1);
        pr_notify(s, &s->processes[i]);
    }
    join_threads(pool->threads, pool->n);
    free(pool);
}

/* -- tasks ------------------------------------------------------------------------------------- */

static uint32_t cpu_shape(PrSession *s, double cpus) {
    PrNeed need = {PR_CPU, (int64_t)(cpus * PR_UNIT)};
    int shape = pr_shape(s, &need, 1, 0);
    CHECK(shape >= 0);
    return (uint32_t)shape;
}

static PrSession task_session(int cpus, int64_t spin) {
    PrSession s = new_session(1 << 24, 1 << 16, 1 << 15, spin);
    EQUAL(pr_resource(&s, "CPU", (int64_t)cpus * PR_UNIT), PR_CPU);
    return s;
}

static PrHandle submit(PrSession *s, uint32_t shape, Work w, const uint32_t *dependencies,
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

static PrHandle submit_plain(PrSession *s, uint32_t shape, uint32_t number) {
    return submit(s, shape, (Work){.number = number}, NULL, 0, 0);
}

static PrHandle reserve(PrSession *s) {
    PrHandle h;
    uint8_t *data;
    EQUAL(pr_create(s, 90, 0, &h, &data), 0);
    memset(data, 1, 90);
    return h;
}

/* The next task, at once. */
static uint32_t next(PrSession *w) {
    uint32_t task;
    EQUAL(pr_next_task(w, &task, soon()), 0);
    return task;
}

static int nothing_to_do(PrSession *w) {
    uint32_t task;
    return pr_next_task(w, &task, pr_now()) == PR_TIMEOUT;
}

static uint32_t number_of(const PrSession *s, uint32_t task) {
    Work w;
    memcpy(&w, s->tasks[task].inline_arguments, sizeof w);
    return w.number;
}

static void finish(PrSession *w, uint32_t task) {
    seal_returns(w, task, number_of(w, task));
    pr_finish(w, task);
}

/* -- submission -------------------------------------------------------------------------------- */

static void test_dependencies(void) {
    static const uint32_t counts[] = {0, 1, 2, 3, 10, 10000};
    PrSession s = task_session(2, 0), w = join_session(&s, PR_WORKER);
    uint32_t shape = cpu_shape(&s, 1), *slots = malloc(10000 * sizeof *slots);
    PrHandle *handles = malloc(10000 * sizeof *handles);
    /* Sealed before: none, all, each second one, all but the last. */
    for (int kind = 0; kind < 4; kind++) {
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            uint32_t n = counts[c], later = 0;
            for (uint32_t i = 0; i < n; i++) {
                handles[i] = reserve(&s);
                slots[i] = pr_slot(handles[i]);
                if (kind == 1 || (kind == 2 && i % 2) || (kind == 3 && i + 1 < n))
                    pr_seal(&s, handles[i], 0);
                else later++;
            }
            PrHandle result = submit(&s, shape, (Work){.number = n}, slots, n, 0);
            SOUND(&s);
            EQUAL(pr_count_tasks(&s, PR_TASK_WAITING), later > 0);
            EQUAL(nothing_to_do(&w), later > 0 || n == 0 ? later > 0 : 0);
            if (!later) pr_worker_rest(&w);
            for (uint32_t i = 0; i < n; i++) {
                if (state_of(&s, handles[i]) == PR_OBJECT_RESERVED) {
                    CHECK(nothing_to_do(&w) || !later);
                    if (i % 1000 == 999) SOUND(&s);
                    pr_seal(&s, handles[i], 0);
                }
                release(&s, handles[i]);
            }
            (void)result;
            /* Either it was taken above, or it is now. */
            uint32_t task = w.self->running ? pr_slot(w.self->running) : next(&w);
            EQUAL(number_of(&w, task), n);
            for (uint32_t k = 0; k < n; k++) EQUAL(pr_dependency(&w, &w.tasks[task], k), slots[k]);
            SOUND(&s);
            finish(&w, task);
            CHECK(has_value(&s, result, n));
            release(&s, result);
        }
        SOUND(&s);
        EQUAL(live_objects(&s), 0);
    }
    free(slots);
    free(handles);
    leave_session(&w);
    end_session(&s);
}

/* One object that many wait for, and one that stands there several times. */
static void test_shared_dependency(void) {
    enum { N = 3000 };
    PrSession s = task_session(4, 0);
    PrNeed need = {PR_CPU, PR_UNIT};
    uint32_t shapes[3] = {cpu_shape(&s, 1), cpu_shape(&s, 0.5),
                          (uint32_t)pr_shape(&s, &need, 1, 0)};
    EQUAL(shapes[0], shapes[2]);
    PrHandle wanted = reserve(&s);
    static PrHandle results[N];
    uint32_t slots[4] = {pr_slot(wanted), pr_slot(wanted), pr_slot(wanted), pr_slot(wanted)};
    for (uint32_t i = 0; i < N; i++)
        results[i] = submit(&s, shapes[i / 7 % 2], (Work){.number = i}, slots, 1 + i % 4, 0);
    SOUND(&s);
    EQUAL(pr_count_tasks(&s, PR_TASK_WAITING), N);
    Pool *pool = new_pool(&s, 3);
    nap(5 * MS);
    pr_seal(&s, wanted, 0);
    release(&s, wanted);
    for (uint32_t i = 0; i < N; i++) {
        EQUAL(wait_for(&s, results[i]), 0);
        CHECK(has_value(&s, results[i], i));
        release(&s, results[i]);
    }
    end_pool(pool);
    end_session(&s);
}

static void test_failed_dependencies(void) {
    PrSession s = task_session(2, 0);
    Pool *pool = new_pool(&s, 2);
    uint32_t shape = cpu_shape(&s, 1);
    for (int big = 0; big < 2; big++) {
        PrHandle bad, inner = put(&s, 5, 5, NULL, 0), good = put(&s, 5, 5, NULL, 0);
        uint64_t size = big ? 5000 : 30;
        uint8_t *data;
        EQUAL(pr_create(&s, size, (uint32_t)big, &bad, &data), 0);
        write_pattern(data, size, 9);
        if (big) memcpy(data + size, &inner, 8);
        uint32_t first[2] = {pr_slot(good), pr_slot(bad)};
        PrHandle a = submit(&s, shape, (Work){.number = 1}, first, 2, 0);
        uint32_t second = pr_slot(a);
        PrHandle b = submit(&s, shape, (Work){.number = 2}, &second, 1, 0);
        pr_seal(&s, bad, 1);
        release(&s, bad);
        release(&s, good);
        release(&s, inner);
        /* The failure goes through, with its bytes and what they refer to. */
        EQUAL(wait_for(&s, b), 0);
        EQUAL(state_of(&s, b), PR_OBJECT_FAILED);
        const PrObject *o = &s.objects[pr_slot(b)];
        EQUAL(o->size, size);
        CHECK(has_pattern(pr_message_of(&s, &s.objects[pr_slot(b)]), size, 9));
        if (big) CHECK(has_value(&s, pr_refs_in(&s, o)[0], 5));
        release(&s, a);
        release(&s, b);
    }
    end_pool(pool);
    end_session(&s);
}

static void test_order(void) {
    enum { N = 1000 };
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    uint32_t shape = cpu_shape(&s, 1);
    PrHandle results[N];
    for (uint32_t i = 0; i < N; i++) results[i] = submit_plain(&s, shape, i);
    for (uint32_t i = 0; i < N; i++) {
        uint32_t task = next(&w);
        EQUAL(number_of(&w, task), i);
        finish(&w, task);
        release(&s, results[i]);
        if (i % 100 == 0) SOUND(&s);
    }
    CHECK(nothing_to_do(&w));
    leave_session(&w);
    end_session(&s);
}

static void test_returns(void) {
    static const uint32_t counts[] = {0, 1, 2, 63, 64, 65, 200, 5000};
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    uint32_t shape = cpu_shape(&s, 1);
    static PrHandle returns[5000];
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        Work work = {.number = 3};
        PrCall call = {.shape = shape,
                       .n_returns = counts[c],
                       .inline_arguments = &work,
                       .arguments_size = sizeof work};
        EQUAL(pr_submit(&s, &call, returns), 0);
        SOUND(&s);
        EQUAL(pr_count_objects(&s, PR_OBJECT_PENDING), counts[c]);
        uint32_t task = next(&w);
        SOUND(&s);
        finish(&w, task);
        for (uint32_t i = 0; i < counts[c]; i++) {
            CHECK(has_value(&s, returns[i], 3 + i));
            release(&s, returns[i]);
        }
    }
    PrCall call = {.shape = shape, .n_returns = 65536};
    EQUAL(pr_submit(&s, &call, returns), PR_LIMIT);
    leave_session(&w);
    end_session(&s);
}

static void test_arguments(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    PrHandle arguments = put(&s, 3000, 4, NULL, 0), result;
    PrCall call = {.shape = cpu_shape(&s, 1), .n_returns = 1, .arguments = arguments};
    EQUAL(pr_submit(&s, &call, &result), 0);
    release(&s, arguments);
    release(&s, result); /* nobody wants it; it runs all the same */
    EQUAL(live_objects(&s), 2);
    uint32_t task = next(&w);
    CHECK(has_value(&w, w.tasks[task].arguments, 4));
    seal_returns(&w, task, 1);
    pr_finish(&w, task);
    leave_session(&w);
    end_session(&s);
}

/* Tables that are full: what was begun is undone. */
static void test_full(void) {
    enum { OBJECTS = 300, TASKS = 200 };
    PrSession s = new_session(1 << 16, OBJECTS, TASKS, 0), w = join_session(&s, PR_WORKER);
    pr_resource(&s, "CPU", PR_UNIT);
    uint32_t shape = cpu_shape(&s, 1), n = 0;
    static PrHandle handles[OBJECTS + TASKS];
    PrCall call = {.shape = shape, .n_returns = OBJECTS};
    EQUAL(pr_submit(&s, &call, handles), PR_FULL); /* no slots for the results */
    SOUND(&s);
    EQUAL(live_objects(&s), 0);
    call.n_returns = 1;
    while (pr_submit(&s, &call, &handles[n]) == 0) n++;
    EQUAL(n, TASKS - 1);
    SOUND(&s);
    EQUAL(live_objects(&s), n);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t task = next(&w);
        seal_returns(&w, task, 0);
        pr_finish(&w, task);
        release(&s, handles[i]);
    }
    /* No room for the list of dependencies. */
    PrHandle all = 0, one = put(&s, 1, 1, NULL, 0);
    for (uint64_t size = 1 << 16; size >= 64; size /= 2) {
        PrHandle h;
        while ((h = put(&s, size, 1, &all, all ? 1 : 0))) {
            if (all) release(&s, all);
            all = h;
        }
    }
    uint32_t slots[5] = {pr_slot(one), pr_slot(one), pr_slot(one), pr_slot(one), pr_slot(one)};
    call.dependencies = slots;
    call.n_dependencies = 5;
    EQUAL(pr_submit(&s, &call, handles), PR_FULL);
    SOUND(&s);
    release(&s, all);
    EQUAL(pr_submit(&s, &call, handles), 0);
    release(&s, one);
    finish(&w, next(&w));
    release(&s, handles[0]);
    leave_session(&w);
    end_session(&s);
}

/* -- batches and stealing ---------------------------------------------------------------------- */

static void test_batch(void) {
    enum { N = 2000 };
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    uint32_t shape = cpu_shape(&s, 1), largest = 0;
    static PrHandle results[N];
    for (uint32_t i = 0; i < N; i++) results[i] = submit_plain(&s, shape, i);
    for (uint32_t i = 0; i < N; i++) {
        uint32_t task = pr_next_queued(&w);
        if (!task) task = next(&w);
        uint32_t queued = atomic_load(&w.self->queue.count);
        if (queued > largest) largest = queued;
        EQUAL(number_of(&w, task), i);
        finish(&w, task);
        release(&s, results[i]);
    }
    CHECK(largest >= 4 && largest < 64); /* short tasks are taken several at a time */
    EQUAL(pr_next_queued(&w), 0);
    leave_session(&w);
    end_session(&s);
}

/* One that stays in a task while others take its batch. */
static void test_stealing(void) {
    enum { N = 400 };
    PrSession s = task_session(2, 0), w = join_session(&s, PR_WORKER);
    uint32_t shape = cpu_shape(&s, 1), stolen;
    static PrHandle results[N];
    for (uint32_t i = 0; i < N; i++) results[i] = submit_plain(&s, shape, i);
    uint32_t task = 0, i = 0;
    for (; i < N && atomic_load(&w.self->queue.count) < 3; i++) {
        task = next(&w);
        if (atomic_load(&w.self->queue.count) < 3) finish(&w, task);
    }
    stolen = atomic_load(&w.self->queue.count);
    CHECK(stolen >= 3);
    SOUND(&s);
    /* It runs on; the others do all the rest. */
    Pool *pool = new_pool(&s, 1);
    for (uint32_t k = 0; k < N; k++)
        if (results[k] != pr_handle(atomic_load(&s.objects[s.tasks[task].first_return].state),
                                    s.tasks[task].first_return))
            EQUAL(wait_for(&s, results[k]), 0);
    EQUAL(atomic_load(&w.self->queue.count), 0);
    finish(&w, task);
    end_pool(pool);
    for (uint32_t k = 0; k < N; k++) {
        CHECK(has_value(&s, results[k], k));
        release(&s, results[k]);
    }
    leave_session(&w);
    end_session(&s);
}

/* A thief that sleeps is told when there are resources for what it may steal. */
static void test_stealing_later(void) {
    enum { N = 400 };
    PrSession s = task_session(3, 0), a = join_session(&s, PR_WORKER);
    PrSession b = join_session(&s, PR_WORKER), c = join_session(&s, PR_WORKER);
    uint32_t shape = cpu_shape(&s, 1), others[2], task = 0;
    static PrHandle results[N];
    PrHandle held = submit_plain(&s, cpu_shape(&s, 0.9999), 999);
    others[0] = next(&b); /* b has one of the CPUs */
    for (uint32_t n = 0; n < N; n++) results[n] = submit_plain(&s, shape, n);
    while (atomic_load(&a.self->queue.count) < 3) {
        if (task) finish(&a, task);
        task = next(&a);
    }
    /* c does all the others, but for the last. */
    others[1] = next(&c);
    while (atomic_load(&s.shapes[shape].queue.count) || atomic_load(&c.self->queue.count)) {
        finish(&c, others[1]);
        others[1] = next(&c);
    }
    CHECK(atomic_load(&a.self->queue.count) >= 3);
    Pool *pool = new_pool(&s, 1); /* finds no CPU, sleeps */
    UNTIL(atomic_load(&s.control->n_idle) == 1);
    pr_block(&b);
    UNTIL(atomic_load(&a.self->queue.count) == 0);
    pr_unblock(&b);
    end_pool(pool);
    finish(&a, task);
    finish(&b, others[0]);
    finish(&c, others[1]);
    release(&s, held);
    for (uint32_t i = 0; i < N; i++) {
        EQUAL(wait_for(&s, results[i]), 0);
        CHECK(has_value(&s, results[i], i));
        release(&s, results[i]);
    }
    leave_session(&a);
    leave_session(&b);
    leave_session(&c);
    end_session(&s);
}

/* Short and long tasks of two shapes: stolen ones run with the resources that they want. */
static void test_stealing_shapes(void) {
    enum { N = 4000 };
    PrSession s = task_session(3, 0);
    EQUAL(pr_resource(&s, "GPU", 4 * PR_UNIT), PR_GPU);
    PrNeed gpu = {PR_GPU, PR_UNIT};
    uint32_t shapes[2] = {cpu_shape(&s, 1), (uint32_t)pr_shape(&s, &gpu, 1, 0)};
    Pool *pool = new_pool(&s, 4);
    static PrHandle results[N];
    uint64_t seed = 3;
    for (uint32_t i = 0; i < N; i++) {
        Work work = {.number = i, .busy = below(&seed, 50) ? 0 : 300};
        results[i] = submit(&s, shapes[i / 16 % 2], work, NULL, 0, 0);
    }
    for (uint32_t i = 0; i < N; i++) {
        EQUAL(wait_for(&s, results[i]), 0);
        CHECK(has_value(&s, results[i], i));
        release(&s, results[i]);
    }
    end_pool(pool);
    end_session(&s);
}

/* -- resources --------------------------------------------------------------------------------- */

static void test_fractions(void) {
    PrSession s = task_session(1, 0), w[5];
    uint32_t shape = cpu_shape(&s, 0.25), tasks[4];
    PrHandle results[5];
    for (uint32_t i = 0; i < 5; i++) {
        w[i] = join_session(&s, PR_WORKER);
        results[i] = submit_plain(&s, shape, i);
    }
    for (uint32_t i = 0; i < 4; i++) tasks[i] = next(&w[i]);
    EQUAL(atomic_load(&s.control->resources[PR_CPU].available), 0);
    CHECK(nothing_to_do(&w[4]));
    SOUND(&s);
    finish(&w[2], tasks[2]);
    tasks[2] = next(&w[2]); /* the fifth, by the one that has the share */
    CHECK(nothing_to_do(&w[4]));
    for (uint32_t i = 0; i < 4; i++) finish(&w[i], tasks[i]);
    for (uint32_t i = 0; i < 5; i++) {
        CHECK(has_value(&s, results[i], i));
        release(&s, results[i]);
        leave_session(&w[i]);
    }
    EQUAL(atomic_load(&s.control->resources[PR_CPU].available), PR_UNIT);
    end_session(&s);
}

static void test_custom_resources(void) {
    PrSession s = task_session(8, 0);
    int license = pr_resource(&s, "license", 2 * PR_UNIT);
    CHECK(license > PR_MEMORY);
    EQUAL(pr_resource(&s, "license", -1), license); /* asked only */
    EQUAL(s.control->resources[license].total, 2 * PR_UNIT);
    PrNeed needs[2] = {{PR_CPU, PR_UNIT}, {(uint32_t)license, PR_UNIT}};
    int shape = pr_shape(&s, needs, 2, 0);
    EQUAL(pr_shape(&s, needs, 2, 0), shape);
    Pool *pool = new_pool(&s, 6);
    PrHandle results[40];
    for (uint32_t i = 0; i < 40; i++)
        results[i] = submit(&s, (uint32_t)shape, (Work){.number = i, .busy = 300}, NULL, 0, 0);
    for (uint32_t i = 0; i < 40; i++) {
        EQUAL(wait_for(&s, results[i]), 0);
        release(&s, results[i]);
    }
    CHECK(atomic_load(&pool->most) <= 2);
    end_pool(pool);
    char name[PR_NAME_SIZE + 1];
    memset(name, 'x', PR_NAME_SIZE);
    name[PR_NAME_SIZE] = 0;
    EQUAL(pr_resource(&s, name, 1), PR_LIMIT);
    for (int i = license + 1; i < PR_RESOURCES; i++) {
        snprintf(name, sizeof name, "r%d", i);
        EQUAL(pr_resource(&s, name, i), i);
    }
    EQUAL(pr_resource(&s, "one more", 1), PR_LIMIT);
    for (int i = shape + 1; i < PR_SHAPES; i++) {
        needs[0].amount = i;
        EQUAL(pr_shape(&s, needs, 2, 0), i);
    }
    needs[0].amount = PR_UNIT - 1;
    EQUAL(pr_shape(&s, needs, 2, 0), PR_LIMIT);
    EQUAL(pr_shape(&s, needs, PR_SHAPE_RESOURCES + 1, 0), PR_LIMIT);
    end_session(&s);
}

/* More of a resource while some of it is in use. */
static void test_resource_grows(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    PrHandle a = submit_plain(&s, cpu_shape(&s, 1), 1);
    uint32_t task = next(&w);
    EQUAL(pr_resource(&s, "CPU", 3 * PR_UNIT), PR_CPU);
    EQUAL(atomic_load(&s.control->resources[PR_CPU].available), 2 * PR_UNIT);
    SOUND(&s);
    finish(&w, task);
    release(&s, a);
    leave_session(&w);
    EQUAL(atomic_load(&s.control->resources[PR_CPU].available), 3 * PR_UNIT);
    end_session(&s);
}

static uint32_t gpu_shape(PrSession *s, double gpus) {
    PrNeed need = {PR_GPU, (int64_t)(gpus * PR_UNIT)};
    return (uint32_t)pr_shape(s, &need, 1, 0);
}

static void test_gpus(void) {
    PrSession s = task_session(1, 0), w[4];
    EQUAL(pr_resource(&s, "GPU", 3 * PR_UNIT), PR_GPU);
    static const double wanted[] = {0.6, 0.6, 0.6, 0.4};
    PrHandle results[4], whole, part;
    uint32_t tasks[4], task;
    for (int i = 0; i < 4; i++) {
        w[i] = join_session(&s, PR_WORKER);
        results[i] = submit_plain(&s, gpu_shape(&s, wanted[i]), 1);
        tasks[i] = next(&w[i]);
    }
    for (int i = 0; i < 3; i++) EQUAL(atomic_load(&w[i].self->gpus), 1 << i);
    EQUAL(atomic_load(&w[3].self->gpus), 1); /* where it fits best */
    SOUND(&s);
    /* 0.8 are free, but in two parts: nobody waits busily for what does not fit. */
    part = submit_plain(&s, gpu_shape(&s, 0.7), 2);
    whole = submit_plain(&s, gpu_shape(&s, 1), 3);
    PrSession more = join_session(&s, PR_WORKER);
    EQUAL(pr_next_task(&more, &task, pr_now() + 20 * MS), PR_TIMEOUT);
    finish(&w[1], tasks[1]);
    pr_worker_rest(&w[1]);
    task = next(&more);
    EQUAL(atomic_load(&more.self->gpus), 2);
    finish(&more, task);
    task = next(&more);
    finish(&more, task);
    pr_worker_rest(&more);
    for (int i = 0; i < 4; i++) {
        if (i != 1) finish(&w[i], tasks[i]);
        release(&s, results[i]);
        leave_session(&w[i]);
    }
    PrHandle two = submit_plain(&s, gpu_shape(&s, 2), 4);
    task = next(&more);
    EQUAL(__builtin_popcountll(atomic_load(&more.self->gpus)), 2);
    SOUND(&s);
    finish(&more, task);
    release(&s, part);
    release(&s, whole);
    release(&s, two);
    leave_session(&more);
    end_session(&s);
}

static void test_infeasible(void) {
    PrSession s = task_session(2, 0);
    Pool *pool = new_pool(&s, 1);
    uint32_t shape = cpu_shape(&s, 3), small = cpu_shape(&s, 1);
    UNTIL(atomic_load(&s.control->n_idle) == 1);
    atomic_store(&s.control->wanted, 0);
    CHECK(!pr_fits(&s, &s.shapes[shape], 1) && pr_fits(&s, &s.shapes[small], 1));
    PrHandle never = submit_plain(&s, shape, 1), h = submit_plain(&s, small, 2);
    EQUAL(atomic_load(&s.control->wanted), 1); /* the node is to say so */
    EQUAL(wait_for(&s, h), 0);                 /* and the others are not kept waiting */
    EQUAL(state_of(&s, never), PR_OBJECT_PENDING);
    EQUAL(atomic_load(&s.control->starving), 0);
    /* Until there is more. */
    pr_resource(&s, "CPU", 3 * PR_UNIT);
    pr_enter(&s);
    pr_kick(&s, shape);
    pr_leave(&s);
    EQUAL(wait_for(&s, never), 0);
    release(&s, never);
    release(&s, h);
    end_pool(pool);
    end_session(&s);
}

/* Those that want a lot, or something else, get it though others always find work. */
static void starve(uint32_t large_env, int same_env_workers) {
    enum { SMALL = 6000 };
    PrSession s = task_session(2, 0);
    PrNeed need = {PR_CPU, 2 * PR_UNIT};
    uint32_t small = cpu_shape(&s, 1), large = (uint32_t)pr_shape(&s, &need, 1, large_env);
    Pool *pool = new_pool(&s, same_env_workers);
    if (large_env) add_worker(pool, large_env);
    UNTIL(atomic_load(&s.control->n_idle) == (uint32_t)pool->n);
    static PrHandle results[SMALL];
    atomic_store(&pool->hold, 1); /* the first two */
    for (uint32_t i = 0; i < SMALL; i++)
        results[i] =
            submit(&s, small, (Work){.number = i, .busy = i < 2 ? UINT32_MAX : 0}, NULL, 0, 0);
    PrHandle h = submit_plain(&s, large, 99999);
    atomic_store(&pool->hold, 0);
    EQUAL(wait_for(&s, h), 0);
    release(&s, h);
    for (uint32_t i = 0; i < SMALL; i++) {
        EQUAL(wait_for(&s, results[i]), 0);
        release(&s, results[i]);
    }
    /* Its turn came long before the end. */
    uint32_t at = 0;
    while (at < SMALL && atomic_load(&pool->order[at]) != 99999) at++;
    CHECK(at < SMALL / 2);
    end_pool(pool);
    end_session(&s);
}

static void test_starving(void) {
    starve(0, 3);
    starve(7, 3);
}

/* What a starving shape lacks may be in use for good, or until one of the others has run: these do
 * not wait for it. */
static void test_starving_for_long(void) {
    PrSession s = task_session(2, 0), actor = join_session(&s, PR_WORKER);
    int lock = pr_resource(&s, "lock", PR_UNIT);
    PrNeed needs[2] = {{PR_CPU, PR_UNIT}, {(uint32_t)lock, PR_UNIT}};
    uint32_t small = cpu_shape(&s, 1), large = cpu_shape(&s, 2);
    uint32_t locked = (uint32_t)pr_shape(&s, needs, 2, 0);
    Pool *pool = new_pool(&s, 2);
    /* One holds the lock, and waits for a nested task. */
    PrHandle outer = submit_plain(&s, locked, 1), second;
    UNTIL(state_of(&s, outer) != PR_OBJECT_PENDING);
    release(&s, outer);
    outer = submit_plain(&s, locked, 2);
    EQUAL(wait_for(&s, outer), 0);
    release(&s, outer);
    UNTIL(atomic_load(&s.control->n_idle) == 2);
    atomic_store(&pool->hold, 1);
    PrHandle held = submit(&s, locked, (Work){.number = 3, .busy = UINT32_MAX}, NULL, 0, 0);
    UNTIL(atomic_load(&pool->running) == 1);
    second = submit_plain(&s, locked, 4);
    for (uint32_t i = 0; i < 20; i++) {
        PrHandle nested = submit_plain(&s, small, 100 + i);
        EQUAL(wait_for(&s, nested), 0);
        release(&s, nested);
    }
    EQUAL(state_of(&s, second), PR_OBJECT_PENDING);
    atomic_store(&pool->hold, 0);
    EQUAL(wait_for(&s, held), 0);
    EQUAL(wait_for(&s, second), 0);
    release(&s, held);
    release(&s, second);
    /* One CPU is an actor's; what wants both never runs, the others do. */
    UNTIL(atomic_load(&s.control->n_idle) == 2);
    PrHandle forever = submit_plain(&s, cpu_shape(&s, 0.5), 5);
    uint32_t task;
    while (pr_next_task(&actor, &task, pr_now()) == PR_TIMEOUT &&
           state_of(&s, forever) == PR_OBJECT_PENDING) {
    }
    if (state_of(&s, forever) != PR_OBJECT_PENDING) {
        release(&s, forever);
        leave_session(&actor);
        end_pool(pool);
        end_session(&s);
        return;
    }
    PrHandle both = submit_plain(&s, large, 6);
    for (uint32_t i = 0; i < 20; i++) {
        PrHandle other = submit_plain(&s, small, 200 + i);
        EQUAL(wait_for(&s, other), 0);
        release(&s, other);
    }
    EQUAL(state_of(&s, both), PR_OBJECT_PENDING);
    finish(&actor, task);
    leave_session(&actor);
    EQUAL(wait_for(&s, both), 0);
    release(&s, both);
    release(&s, forever);
    end_pool(pool);
    end_session(&s);
}

/* -- blocking ---------------------------------------------------------------------------------- */

static void test_block(void) {
    PrSession s = task_session(1, 0), a = join_session(&s, PR_WORKER);
    PrSession b = join_session(&s, PR_WORKER);
    uint32_t shape = cpu_shape(&s, 1), other;
    PrHandle outer = submit_plain(&s, shape, 1), nested, more[64];
    uint32_t task = next(&a);
    for (uint32_t i = 0; i < 64; i++) more[i] = submit_plain(&s, shape, 10 + i);
    nested = submit_plain(&a, shape, 2);
    CHECK(nothing_to_do(&b));
    pr_block(&a);
    pr_block(&a); /* another thread of it does, too */
    SOUND(&s);
    EQUAL(atomic_load(&s.control->resources[PR_CPU].available), PR_UNIT);
    for (uint32_t i = 0; i < 65; i++) {
        other = next(&b);
        finish(&b, other);
    }
    EQUAL(pr_wait(&a, &(uint32_t){pr_slot(nested)}, 1, 1, soon(), 0, 0), 0);
    pr_unblock(&a);
    pr_unblock(&a);
    /* Both have it now; the next task waits for both. */
    EQUAL(atomic_load(&s.control->resources[PR_CPU].available), -PR_UNIT);
    SOUND(&s);
    PrHandle last = submit_plain(&s, shape, 3);
    other = next(&b); /* of what it holds */
    finish(&b, other);
    pr_worker_rest(&b);
    EQUAL(atomic_load(&s.control->resources[PR_CPU].available), 0);
    pr_block(&a);
    pr_worker_rest(&a); /* blocked, and yet at its end */
    EQUAL(atomic_load(&s.control->resources[PR_CPU].available), PR_UNIT);
    finish(&a, task);
    release(&a, nested);
    release(&s, outer);
    release(&s, last);
    for (uint32_t i = 0; i < 64; i++) release(&s, more[i]);
    leave_session(&a);
    leave_session(&b);
    end_session(&s);
}

/* Tasks that wait for tasks that wait for tasks, on one CPU: each blocked worker makes room. */
typedef struct {
    PrSession *s;
    uint32_t shape;
} Nest;

static void *work_nested(void *with) {
    Nest *nest = with;
    PrSession s = join_session(nest->s, PR_WORKER);
    uint32_t task;
    while (pr_next_task(&s, &task, -1) == 0) {
        uint32_t depth = number_of(&s, task);
        if (depth) {
            PrHandle inner[2];
            uint32_t slots[2];
            for (int i = 0; i < 2; i++) {
                inner[i] = submit_plain(&s, nest->shape, depth - 1);
                slots[i] = pr_slot(inner[i]);
            }
            pr_block(&s);
            EQUAL(pr_wait(&s, slots, 2, 2, soon(), 0, PR_SPIN), 0);
            pr_unblock(&s);
            for (int i = 0; i < 2; i++) release(&s, inner[i]);
        }
        finish(&s, task);
    }
    leave_session(&s);
    return NULL;
}

static void test_nested(void) {
    enum { DEPTH = 5, THREADS = 33 }; /* as many as may be blocked at a time, and one */
    PrSession s = task_session(1, 0);
    Nest nest = {.s = &s, .shape = cpu_shape(&s, 1)};
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) threads[i] = start_thread(work_nested, &nest);
    for (int round = 0; round < 10; round++) {
        PrHandle h = submit_plain(&s, nest.shape, DEPTH);
        EQUAL(wait_for(&s, h), 0);
        release(&s, h);
    }
    atomic_store(&s.control->ended, 1);
    for (uint32_t i = 1; i < atomic_load(&s.control->n_processes); i++)
        pr_notify(&s, &s.processes[i]);
    join_threads(threads, THREADS);
    end_session(&s);
}

/* -- environments and workers that come and go ------------------------------------------------- */

static void test_environments(void) {
    enum { N = 600 };
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    PrNeed need = {PR_CPU, PR_UNIT};
    uint32_t shapes[3], envs[8], counts[8];
    PrHandle results[N];
    for (uint32_t env = 0; env < 3; env++) shapes[env] = (uint32_t)pr_shape(&s, &need, 1, env);
    for (uint32_t i = 0; i < 6; i++) results[i] = submit_plain(&s, shapes[i % 3], i);
    EQUAL(atomic_load(&s.control->wanted), 1);
    EQUAL(pr_wanted(&s, envs, counts, 8), 1); /* there is one CPU */
    EQUAL(envs[0], 0);
    EQUAL(counts[0], 1);
    atomic_store(&w.self->env, 2);
    finish(&w, next(&w));
    uint32_t task = next(&w);
    EQUAL(number_of(&w, task), 5);
    finish(&w, task);
    CHECK(nothing_to_do(&w));
    leave_session(&w);
    Pool *pool = new_pool(&s, 1);
    add_worker(pool, 1);
    add_worker(pool, 2);
    /* One CPU, which workers of all environments have in turn, each told by the one before. */
    for (uint32_t i = 6; i < N; i++) results[i] = submit_plain(&s, shapes[i % 3], i);
    for (uint32_t i = 0; i < N; i++) {
        EQUAL(wait_for(&s, results[i]), 0);
        CHECK(has_value(&s, results[i], i));
        release(&s, results[i]);
    }
    end_pool(pool);
    end_session(&s);
}

static void test_wanted(void) {
    PrSession s = task_session(8, 0);
    int license = pr_resource(&s, "license", 3 * PR_UNIT);
    PrNeed one = {PR_CPU, PR_UNIT}, needs[2] = {{PR_CPU, PR_UNIT}, {(uint32_t)license, PR_UNIT}};
    uint32_t scarce = (uint32_t)pr_shape(&s, needs, 2, 2), envs[8], counts[8];
    uint32_t plain = (uint32_t)pr_shape(&s, &one, 1, 1);
    PrHandle results[20];
    EQUAL(pr_wanted(&s, envs, counts, 8), 0);
    for (uint32_t i = 0; i < 20; i++) results[i] = submit_plain(&s, i < 10 ? scarce : plain, i);
    EQUAL(pr_wanted(&s, envs, counts, 8), 2);
    EQUAL(atomic_load(&s.control->wanted), 0);
    for (int i = 0; i < 2; i++) EQUAL(counts[i], envs[i] == 2 ? 3 : 5);
    EQUAL(pr_wanted(&s, envs, counts, 1), 1);
    Pool *pool = calloc(1, sizeof *pool);
    pool->s = &s;
    add_worker(pool, 1);
    add_worker(pool, 2);
    for (uint32_t i = 0; i < 20; i++) {
        EQUAL(wait_for(&s, results[i]), 0);
        release(&s, results[i]);
    }
    end_pool(pool);
    end_session(&s);
}

static void test_leave(void) {
    PrSession s = task_session(2, 0), a = join_session(&s, PR_WORKER);
    uint32_t shape = cpu_shape(&s, 1), task;
    PrHandle results[100];
    for (uint32_t i = 0; i < 100; i++) results[i] = submit_plain(&s, shape, i);
    for (uint32_t i = 0; i < 10; i++) finish(&a, next(&a));
    atomic_store(&a.self->leave, 1);
    /* It does what it has taken, and no more. */
    int status;
    while ((status = pr_next_task(&a, &task, -1)) == 0) finish(&a, task);
    EQUAL(status, PR_ENDED);
    EQUAL(atomic_load(&s.control->resources[PR_CPU].available), 2 * PR_UNIT);
    leave_session(&a);
    CHECK(pr_count_tasks(&s, PR_TASK_READY) > 0);
    SOUND(&s);
    /* One that goes with tasks in its own queue gives them back. */
    PrSession b = join_session(&s, PR_WORKER);
    for (uint32_t i = 0; i < 8; i++) finish(&b, next(&b));
    leave_session(&b);
    SOUND(&s);
    Pool *pool = new_pool(&s, 1);
    for (uint32_t i = 0; i < 100; i++) {
        EQUAL(wait_for(&s, results[i]), 0);
        release(&s, results[i]);
    }
    end_pool(pool);
    /* The end of the session is the end of waiting. */
    PrSession c = join_session(&s, PR_WORKER);
    atomic_store(&s.control->ended, 1);
    EQUAL(pr_next_task(&c, &task, -1), PR_ENDED);
    leave_session(&c);
    end_session(&s);
}

/* A worker that goes as it is told of a task: another one is. */
static void *come_and_go(void *with) {
    Pool *pool = with;
    PrSession s = join_session(pool->s, PR_WORKER);
    uint32_t task;
    int status;
    while ((status = pr_next_task(&s, &task, pr_now() + MS / 20)) != PR_ENDED) {
        if (status == 0) {
            execute(&s, pool, task);
        } else {
            EQUAL(status, PR_TIMEOUT);
            leave_session(&s);
            nap(MS / 20);
            s = join_session(pool->s, PR_WORKER);
        }
    }
    leave_session(&s);
    return NULL;
}

static void test_timeouts(void) {
    PrSession s = task_session(2, 0);
    Pool *pool = new_pool(&s, 1);
    uint32_t shape = cpu_shape(&s, 1);
    pool->threads[pool->n++] = start_thread(come_and_go, pool);
    for (uint32_t i = 0; i < 3000; i++) {
        PrHandle h = submit_plain(&s, shape, i);
        EQUAL(wait_for(&s, h), 0);
        release(&s, h);
        if (i % 4 == 0) nap(MS / 20);
    }
    atomic_store(&s.control->ended, 1);
    end_pool(pool);
    end_session(&s);
}

/* -- cancellation and retries ------------------------------------------------------------------ */

static int code_of(const PrSession *s, PrHandle h) {
    PrObject *o = &s->objects[pr_slot(h)];
    uint64_t word = atomic_load(&o->state);
    return pr_state(word) == PR_OBJECT_FAILED && word & PR_CODE ? pr_inline(o)[0] : -1;
}

static void test_cancel(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    uint32_t shape = cpu_shape(&s, 1), worker = 0, slot;
    PrHandle wanted = reserve(&s), arguments = put(&s, 500, 1, NULL, 0), h;
    slot = pr_slot(wanted);
    /* While it waits for an object. */
    PrCall call = {.shape = shape,
                   .n_returns = 1,
                   .arguments = arguments,
                   .dependencies = &slot,
                   .n_dependencies = 1};
    EQUAL(pr_submit(&s, &call, &h), 0);
    EQUAL(pr_cancel(&w, h, &worker), 0);
    EQUAL(code_of(&s, h), PR_TASK_WAS_CANCELLED);
    EQUAL(pr_cancel(&s, h, &worker), 2);
    SOUND(&s);
    pr_seal(&s, wanted, 0);
    SOUND(&s);
    release(&s, h);
    CHECK(nothing_to_do(&w));
    /* While it is in a queue. */
    PrHandle first = submit_plain(&s, shape, 1);
    h = submit_plain(&s, shape, 2);
    EQUAL(pr_cancel(&s, h, &worker), 0);
    EQUAL(code_of(&s, h), PR_TASK_WAS_CANCELLED);
    release(&s, h);
    SOUND(&s);
    uint32_t task = next(&w);
    EQUAL(number_of(&w, task), 1);
    /* While it runs. */
    EQUAL(pr_cancel(&s, first, &worker), 1);
    EQUAL(worker, w.index);
    EQUAL(pr_cancel(&s, first, &worker), 1); /* again */
    w.tasks[task].retries_left = 5;
    EQUAL(pr_retry(&w, task), 0);
    pr_fail_task(&w, task, PR_TASK_WAS_CANCELLED,
                 "a text that is longer than the room that there "
                 "is in a slot for the bytes of a message");
    EQUAL(code_of(&s, first), PR_TASK_WAS_CANCELLED);
    EQUAL(s.objects[pr_slot(first)].size, PR_INLINE_OBJECT);
    /* When it is over, and what no task makes. */
    EQUAL(pr_cancel(&s, first, &worker), 2);
    EQUAL(pr_cancel(&s, wanted, &worker), 2);
    release(&s, first);
    EQUAL(pr_cancel(&s, first, &worker), 2); /* a stale handle */
    CHECK(nothing_to_do(&w));
    release(&s, wanted);
    release(&s, arguments);
    leave_session(&w);
    end_session(&s);
}

typedef struct {
    PrSession of;
    PrHandle *handles;
    _Atomic uint32_t n;
    uint32_t total, cancelled, asked;
} Canceller;

static void *cancel_some(void *with) {
    Canceller *c = with;
    PrSession s = join_session(&c->of, PR_CLIENT);
    for (uint32_t i = 0; i < c->total; i++) {
        uint32_t worker;
        while (atomic_load(&c->n) <= i) pr_relax();
        if (i % 3) continue;
        int status = pr_cancel(&s, c->handles[i], &worker);
        c->cancelled += status == 0;
        c->asked += status == 1;
    }
    leave_session(&s);
    return NULL;
}

static void test_cancel_at_once(void) {
    enum { N = 12000 };
    PrSession s = task_session(2, 0);
    Pool *pool = new_pool(&s, 2);
    static PrHandle handles[N];
    Canceller canceller = {.of = s, .handles = handles, .total = N};
    pthread_t thread = start_thread(cancel_some, &canceller);
    uint32_t shape = cpu_shape(&s, 1), failed = 0;
    for (uint32_t i = 0; i < N; i++) {
        uint32_t before = i ? pr_slot(handles[i - 1]) : 0;
        /* Some wait for one that may be cancelled, and fail with it. */
        handles[i] = submit(&s, shape, (Work){.number = i}, &before, i && i % 5 == 0, 0);
        atomic_store(&canceller.n, i + 1);
        if (i % 64 == 0) nap(MS / 50);
    }
    join_threads(&thread, 1);
    for (uint32_t i = 0; i < N; i++) {
        EQUAL(wait_for(&s, handles[i]), 0);
        if (state_of(&s, handles[i]) == PR_OBJECT_FAILED) {
            EQUAL(code_of(&s, handles[i]), PR_TASK_WAS_CANCELLED);
            failed++;
        } else {
            CHECK(has_value(&s, handles[i], i));
        }
    }
    CHECK(failed >= canceller.cancelled);
    for (uint32_t i = 0; i < N; i++) release(&s, handles[i]);
    end_pool(pool);
    end_session(&s);
}

static void note_child(void *with, PrHandle child) {
    PrHandle *found = with;
    while (*found) found++;
    *found = child;
}

static void test_children(void) {
    PrSession s = task_session(1, 0);
    uint32_t shape = cpu_shape(&s, 1), worker;
    PrHandle parent = pr_handle((uint64_t)7 << 32, 9), handles[6], found[8] = {0};
    PrCall call = {.shape = shape, .n_returns = 1};
    for (int i = 0; i < 6; i++) {
        call.parent = i % 2 ? parent : 0;
        EQUAL(pr_submit(&s, &call, &handles[i]), 0);
    }
    pr_each_child(&s, parent, note_child, found);
    CHECK(found[2] && !found[3]);
    for (int i = 0; i < 3; i++) EQUAL(pr_cancel(&s, found[i], &worker), 0);
    memset(found, 0, sizeof found);
    pr_each_child(&s, parent, note_child, found);
    CHECK(!found[0]);
    Pool *pool = new_pool(&s, 1);
    for (int i = 0; i < 6; i++) {
        EQUAL(wait_for(&s, handles[i]), 0);
        EQUAL(code_of(&s, handles[i]), i % 2 ? PR_TASK_WAS_CANCELLED : -1);
        release(&s, handles[i]);
    }
    end_pool(pool);
    end_session(&s);
}

/* Children are looked for while they come and go. */
static void test_children_at_once(void) {
    PrSession s = task_session(2, 0), t = join_session(&s, PR_CLIENT);
    Pool *pool = new_pool(&s, 2);
    uint32_t shape = cpu_shape(&s, 1), worker;
    PrHandle parent = pr_handle((uint64_t)7 << 32, 9);
    static PrHandle handles[2000], found[4000];
    for (int round = 0; round < 20; round++) {
        PrCall call = {.shape = shape, .n_returns = 1};
        for (int i = 0; i < 200; i++) {
            call.parent = i % 2 ? parent : 0;
            Work work = {.number = (uint32_t)i};
            call.inline_arguments = &work;
            call.arguments_size = sizeof work;
            EQUAL(pr_submit(&s, &call, &handles[i]), 0);
            if (i % 40) continue;
            memset(found, 0, sizeof found);
            pr_each_child(&t, parent, note_child, found);
            for (int k = 0; found[k]; k++) pr_cancel(&t, found[k], &worker);
        }
        for (int i = 0; i < 200; i++) {
            EQUAL(wait_for(&s, handles[i]), 0);
            CHECK(i % 2 || has_value(&s, handles[i], (uint32_t)i));
            release(&s, handles[i]);
        }
    }
    end_pool(pool);
    leave_session(&t);
    end_session(&s);
}

static void test_retry(void) {
    PrSession s = task_session(2, 0);
    Pool *pool = new_pool(&s, 2);
    uint32_t shape = cpu_shape(&s, 1);
    struct {
        uint32_t fails;
        int32_t retries;
        int code;
    } cases[] = {{0, 0, -1}, {1, 0, 77}, {1, 1, -1}, {3, 3, -1}, {4, 3, 77}, {20, -1, -1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Work work = {.number = 3, .fails = cases[i].fails};
        PrHandle h = submit(&s, shape, work, NULL, 0, cases[i].retries);
        EQUAL(wait_for(&s, h), 0);
        EQUAL(code_of(&s, h), cases[i].code);
        release(&s, h);
    }
    EQUAL(atomic_load(&s.control->retries), 1 + 3 + 3 + 20);
    end_pool(pool);
    end_session(&s);
}

/* -- no lost wake-up --------------------------------------------------------------------------- */

/* One task at a time: each time both sides have just gone to sleep, or are about to. */
static void single_tasks(int64_t spin, int workers, int rounds, int cpus) {
    PrSession s = task_session(cpus, spin);
    Pool *pool = new_pool(&s, workers);
    uint32_t shape = cpu_shape(&s, 1);
    uint64_t seed = (uint64_t)spin + (uint64_t)workers;
    for (int i = 0; i < rounds; i++) {
        PrHandle h = submit_plain(&s, shape, (uint32_t)i);
        EQUAL(wait_for(&s, h), 0);
        CHECK(has_value(&s, h, (uint64_t)i));
        release(&s, h);
        if (below(&seed, 64) == 0) nap((int64_t)below(&seed, MS / 10));
    }
    end_pool(pool);
    end_session(&s);
}

static void test_wake_ups(void) {
    int rounds = getenv("PYRAY_ROUNDS") ? atoi(getenv("PYRAY_ROUNDS")) : 3000;
    for (int workers = 1; workers <= 4; workers += 3) {
        single_tasks(0, workers, rounds, 2);
        single_tasks(5000, workers, rounds, 1);
        single_tasks(50000, workers, rounds, 2);
    }
}

/* Several submitters, each with tasks that wait for its last one. */
typedef struct {
    PrSession of;
    uint32_t shape, n;
    uint64_t seed;
} Submitter;

static void *submit_chains(void *with) {
    Submitter *me = with;
    PrSession s = join_session(&me->of, PR_CLIENT);
    PrHandle last[8] = {0};
    for (uint32_t i = 0; i < me->n; i++) {
        uint32_t slots[8], n = 0;
        for (int k = 0; k < 8; k++)
            if (last[k] && below(&me->seed, 3) == 0) slots[n++] = pr_slot(last[k]);
        Work work = {.number = i, .busy = below(&me->seed, 200) ? 0 : 100};
        PrHandle h = submit(&s, me->shape, work, slots, n, 0);
        int k = (int)below(&me->seed, 8);
        if (last[k]) {
            if (below(&me->seed, 4) == 0) EQUAL(wait_for(&s, last[k]), 0);
            release(&s, last[k]);
        }
        last[k] = h;
    }
    for (int k = 0; k < 8; k++) {
        if (!last[k]) continue;
        EQUAL(wait_for(&s, last[k]), 0);
        EQUAL(state_of(&s, last[k]), PR_OBJECT_SEALED);
        release(&s, last[k]);
    }
    leave_session(&s);
    return NULL;
}

static void test_submitters(void) {
    PrSession s = task_session(2, 0);
    Pool *pool = new_pool(&s, 3);
    Submitter submitters[3];
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        submitters[i] = (Submitter){.of = s, .n = 2000, .seed = (uint64_t)i};
        submitters[i].shape = cpu_shape(&s, i == 2 ? 2 : 1);
        threads[i] = start_thread(submit_chains, &submitters[i]);
    }
    join_threads(threads, 3);
    end_pool(pool);
    end_session(&s);
}

/* -- forked workers ---------------------------------------------------------------------------- */

static void test_forked(void) {
    enum { N = 5000, CHILDREN = 3 };
    PrSession s = task_session(2, 20000);
    uint32_t shape = cpu_shape(&s, 1);
    int pids[CHILDREN];
    static PrHandle results[N];
    for (int i = 0; i < CHILDREN; i++) {
        if ((pids[i] = fork())) continue;
        PrSession w = join_forked(&s, PR_WORKER);
        uint32_t task;
        while (pr_next_task(&w, &task, -1) == 0) {
            uint32_t number = number_of(&w, task);
            if (i == 0 && number % 10 == 0) { /* with a nested task, for the others */
                PrHandle inner = submit_plain(&w, shape, 1);
                pr_block(&w);
                EQUAL(wait_for(&w, inner), 0);
                pr_unblock(&w);
                release(&w, inner);
            }
            finish(&w, task);
        }
        pr_session_detach(&w, 1);
        _exit(0);
    }
    for (uint32_t i = 0; i < N; i++) results[i] = submit_plain(&s, shape, i);
    for (uint32_t i = 0; i < N; i++) {
        EQUAL(wait_for(&s, results[i]), 0);
        CHECK(has_value(&s, results[i], i));
        release(&s, results[i]);
    }
    for (uint32_t i = 0; i < N / 10; i++) {
        PrHandle h = submit_plain(&s, shape, i + 1);
        EQUAL(wait_for(&s, h), 0);
        release(&s, h);
    }
    atomic_store(&s.control->ended, 1);
    for (uint32_t i = 1; i < atomic_load(&s.control->n_processes); i++)
        pr_notify(&s, &s.processes[i]);
    for (int i = 0; i < CHILDREN; i++) EQUAL(wait_child(pids[i]), 0);
    end_session(&s);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (MAY_FORK) RUN(test_forked);
    RUN(test_dependencies);
    RUN(test_shared_dependency);
    RUN(test_failed_dependencies);
    RUN(test_order);
    RUN(test_returns);
    RUN(test_arguments);
    RUN(test_full);
    RUN(test_batch);
    RUN(test_stealing);
    RUN(test_stealing_later);
    RUN(test_stealing_shapes);
    RUN(test_fractions);
    RUN(test_custom_resources);
    RUN(test_resource_grows);
    RUN(test_gpus);
    RUN(test_infeasible);
    RUN(test_starving);
    RUN(test_starving_for_long);
    RUN(test_block);
    RUN(test_nested);
    RUN(test_environments);
    RUN(test_wanted);
    RUN(test_leave);
    RUN(test_timeouts);
    RUN(test_cancel);
    RUN(test_cancel_at_once);
    RUN(test_children);
    RUN(test_children_at_once);
    RUN(test_retry);
    RUN(test_wake_ups);
    RUN(test_submitters);
    printf("ok\n");
    return 0;
}
