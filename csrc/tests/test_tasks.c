/* Tasks: dependencies, order, arguments, results, and that no wake-up is lost. Threads play the
 * processes, and in one test are forked ones; each test ends with nothing left. */
#include "workers.h"

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
        PrObject *o = &s.objects[pr_slot(b)];
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

/* A label, and the function it refers to, stay as long as a task that has them, and no longer. */
static void test_label(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    PrHandle function = put(&s, 3000, 4, NULL, 0), label = put(&s, 100, 5, &function, 1), result;
    PrCall call = {.function = pr_slot(function),
                   .label = pr_slot(label),
                   .shape = cpu_shape(&s, 1),
                   .n_returns = 1,
                   .retries = 2};
    for (int i = 0; i < 2; i++) {
        EQUAL(pr_submit(&s, &call, &result), 0);
        release(&s, result);
    }
    release(&s, function);
    release(&s, label);
    for (int i = 0; i < 2; i++) {
        uint32_t task = next(&w);
        EQUAL(pr_retry(&w, task), 1);
        task = next(&w);
        EQUAL(w.tasks[task].label, pr_slot(label));
        CHECK(has_value(&w, function, 4));
        SOUND(&s);
        pr_recover(&s, 0, 0, ""); /* counts all anew */
        SOUND(&s);
        EQUAL(live_objects(&s), 4 - (uint32_t)i);
        seal_returns(&w, task, 1);
        pr_finish(&w, task);
    }
    SOUND(&s);
    EQUAL(live_objects(&s), 0);
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
    RUN(test_label);
    RUN(test_full);
    RUN(test_wake_ups);
    RUN(test_submitters);
    printf("ok\n");
    return 0;
}
