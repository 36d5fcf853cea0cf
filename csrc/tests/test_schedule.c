/* Scheduling: batches, stealing, resources, starving, blocking, environments, workers that come and
 * go. Threads play the processes; each test ends with nothing left. */
#include "workers.h"

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

/* A task that is queued when the result of another is there, and its worker not idle yet. */
static void test_returning(void) {
    PrSession s = task_session(2, 0), w = join_session(&s, PR_WORKER);
    PrSession other = join_session(&s, PR_WORKER);
    uint32_t shape = cpu_shape(&s, 1), queued;
    PrHandle first = submit_plain(&s, shape, 1), second, third;
    uint32_t task = next(&w);
    /* As if it slept. */
    atomic_store(&s.control->idle[other.index >> 6], (uint64_t)1 << (other.index & 63));
    atomic_store(&s.control->n_idle, 1);
    pr_returning(&w);
    EQUAL(atomic_load(&s.control->n_woken), 1);
    finish(&w, task);
    second = submit_plain(&s, shape, 2);
    third = submit_plain(&s, shape, 3);
    EQUAL(atomic_load(&s.control->n_idle), 1);
    /* Of what it leaves to others they are told. */
    task = next(&w);
    EQUAL(number_of(&w, task), 2);
    EQUAL(atomic_load(&s.control->n_idle), 0);
    EQUAL(atomic_load(&other.self->woken), 1);
    queued = next(&other);
    EQUAL(number_of(&other, queued), 3);
    EQUAL(atomic_load(&s.control->n_woken), 0);
    /* Nobody else is idle: there is nobody to be left alone. */
    pr_returning(&w);
    EQUAL(atomic_load(&s.control->n_woken), 0);
    finish(&w, task);
    finish(&other, queued);
    release(&s, first);
    release(&s, second);
    release(&s, third);
    leave_session(&other);
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

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    RUN(test_batch);
    RUN(test_returning);
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
    printf("ok\n");
    return 0;
}
