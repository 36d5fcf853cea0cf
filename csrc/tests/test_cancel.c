/* Cancellation, of children too, and retries; at any moment. Threads play the processes; each test
 * ends with nothing left. */
#include "workers.h"

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
    /* While it is in a queue to which no worker ever looks. */
    uint32_t never = cpu_shape(&s, 100);
    PrHandle ahead = submit_plain(&s, never, 3), behind = submit_plain(&s, never, 4);
    EQUAL(pr_cancel(&s, behind, &worker), 0);
    EQUAL(pr_count_tasks(&s, PR_TASK_CANCELLED), 2);
    SOUND(&s);
    EQUAL(pr_cancel(&s, ahead, &worker), 0);
    EQUAL(pr_count_tasks(&s, PR_TASK_CANCELLED), 1); /* that above */
    release(&s, ahead);
    release(&s, behind);
    SOUND(&s);
    /* While it runs. */
    EQUAL(pr_cancel(&s, first, &worker), 1);
    EQUAL(worker, w.index);
    EQUAL(pr_cancel(&s, first, &worker), 1); /* again */
    w.tasks[task].retries_left = 5;
    EQUAL(pr_retry(&w, task), 0);
    static const char text[] =
        "a text that is longer than the room that there is in a slot for the "
        "bytes of a message";
    pr_fail_task(&w, task, PR_TASK_WAS_CANCELLED, text);
    EQUAL(code_of(&s, first), PR_TASK_WAS_CANCELLED);
    EQUAL(s.objects[pr_slot(first)].size, sizeof text);
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

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    RUN(test_cancel);
    RUN(test_cancel_at_once);
    RUN(test_children);
    RUN(test_children_at_once);
    RUN(test_retry);
    printf("ok\n");
    return 0;
}
