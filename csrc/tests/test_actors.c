/* Actors: creation, names, slots, and their calls: order, retries, cancellation, batches. How they
 * end is in test_actor_ends.c. Threads play the processes; each test ends with nothing left. */
#include "actors.h"

/* -- creation ---------------------------------------------------------------------------------- */

static void test_creation(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER),
              v = join_session(&s, PR_WORKER);
    Actor a = make_actor(&s), b = make_actor(&s);
    PrHandle early[40], later = call(&s, &b, 50);
    for (uint32_t i = 0; i < 40; i++) early[i] = call(&s, &a, i);
    SOUND(&s);
    EQUAL(pr_actor_list(&s, NULL, 0), 2);
    uint32_t creation = begin_actor(&w, &a);
    CHECK(nothing_to_do(&v)); /* the CPU is the first one's as long as it lives */
    EQUAL(atomic_load(&s.control->resources[PR_CPU].available), 0);
    for (uint32_t i = 0; i < 40; i++) {
        serve(&w, &a, i);
        expect_value(&s, early[i], i);
    }
    SOUND(&s);
    CHECK(has_no_call(&w, &a));
    EQUAL(pr_actor_idle(&w, a.slot), 1);
    uint32_t seen = atomic_load(&w.self->event);
    PrHandle h = call(&s, &a, 41);
    CHECK(atomic_load(&w.self->event) != seen);
    EQUAL(atomic_load(&shared(&s, &a)->idle), 0);
    EQUAL(pr_actor_idle(&w, a.slot), 0);
    serve(&w, &a, 41);
    expect_value(&s, h, 41);
    end_actor(&w, creation);
    CHECK(is_dead(&s, &a));
    SOUND(&s);
    forget(&s, &a);
    creation = begin_actor(&v, &b);
    serve(&v, &b, 50);
    expect_value(&s, later, 50);
    end_actor(&v, creation);
    EQUAL(atomic_load(&s.control->resources[PR_CPU].available), PR_UNIT);
    forget(&s, &b);
    leave_session(&w);
    leave_session(&v);
    end_session(&s);
}

/* Tasks that its process has taken and not begun are for others. */
static void test_gives_tasks_back(void) {
    PrSession s = task_session(4, 0), w = join_session(&s, PR_WORKER),
              v = join_session(&s, PR_WORKER);
    PrHandle results[40];
    uint32_t shape = cpu_shape(&s, 1);
    PrHandle before = submit_plain(&s, shape, 1);
    Actor a = make_actor(&s);
    for (uint32_t i = 0; i < 40; i++) results[i] = submit_plain(&s, shape, i);
    finish(&w, next(&w)); /* from now on it takes several at a time */
    expect_value(&s, before, 1);
    uint32_t creation = begin_actor(&w, &a);
    EQUAL(atomic_load(&w.self->queue.count), 0);
    for (uint32_t i = 0; i < 40; i++) finish(&v, next(&v));
    for (uint32_t i = 0; i < 40; i++) expect_value(&s, results[i], i);
    end_actor(&w, creation);
    forget(&s, &a);
    leave_session(&w);
    leave_session(&v);
    end_session(&s);
}

/* -- order ------------------------------------------------------------------------------------- */

/* Dependencies come in another order than the calls. With `again`, after a recovery. */
static void ordered(int again) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    Actor a = make_actor(&s);
    PrHandle wanted[3] = {reserve(&s), reserve(&s), reserve(&s)}, calls[7];
    uint32_t creation = begin_actor(&w, &a), pair[2] = {pr_slot(wanted[2]), pr_slot(wanted[1])};
    calls[0] = call(&s, &a, 0);
    calls[1] = call_after(&s, &a, 1, wanted[0]);
    calls[2] = call(&s, &a, 2);
    calls[3] = call_with(&s, &a, 3, pair, 2, 0);
    calls[4] = call_after(&s, &a, 4, wanted[1]);
    calls[5] = call_after(&s, &a, 5, wanted[0]);
    calls[6] = call(&s, &a, 6);
    SOUND(&s);
    if (again) rebuild(&s);
    EQUAL(pr_count_tasks(&s, PR_TASK_WAITING), 6);
    serve(&w, &a, 0);
    pr_seal(&s, wanted[2], 0);
    pr_seal(&s, wanted[1], 0);
    SOUND(&s);
    CHECK(has_no_call(&w, &a));
    if (again) rebuild(&s);
    pr_seal(&s, wanted[0], 0);
    SOUND(&s);
    EQUAL(pr_count_tasks(&s, PR_TASK_WAITING), 0);
    for (uint32_t i = 1; i < 7; i++) serve(&w, &a, i);
    for (uint32_t i = 0; i < 7; i++) expect_value(&s, calls[i], i);
    for (int i = 0; i < 3; i++) release(&s, wanted[i]);
    end_actor(&w, creation);
    forget(&s, &a);
    leave_session(&w);
    end_session(&s);
}

static void test_order(void) {
    ordered(0);
    ordered(1);
}

/* What one caller waits for holds back nobody else. */
static void test_callers(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER),
              t = join_session(&s, PR_CLIENT);
    Actor a = make_actor(&s);
    uint32_t creation = begin_actor(&w, &a);
    PrHandle mine = reserve(&s), theirs = reserve(&t), calls[8];
    pr_hold(&t, pr_slot(a.object));
    for (int again = 0; again < 2; again++) {
        calls[0] = call_after(&s, &a, 0, mine);
        calls[1] = call(&t, &a, 1);
        calls[2] = call(&s, &a, 2);
        calls[3] = call_after(&t, &a, 3, theirs);
        calls[4] = call(&s, &a, 4);
        calls[5] = call(&t, &a, 5);
        if (again) rebuild(&s);
        serve(&w, &a, 1);
        CHECK(has_no_call(&w, &a));
        pr_seal(&t, theirs, 0);
        serve(&w, &a, 3);
        serve(&w, &a, 5);
        CHECK(has_no_call(&w, &a));
        SOUND(&s);
        pr_seal(&s, mine, 0);
        for (uint32_t i = 0; i < 6; i += 2) serve(&w, &a, i);
        for (uint32_t i = 0; i < 6; i++) expect_value(i % 2 ? &t : &s, calls[i], i);
        release(&s, mine);
        release(&t, theirs);
        mine = reserve(&s);
        theirs = reserve(&t);
    }
    pr_abandon(&s, mine);
    pr_abandon(&t, theirs);
    end_actor(&w, creation);
    release(&t, a.object);
    forget(&s, &a);
    leave_session(&w);
    leave_session(&t);
    end_session(&s);
}

static void test_unordered(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    for (int again = 0; again < 2; again++) {
        Actor a = actor_with(&s, 0, NULL, PR_ACTOR_UNORDERED);
        uint32_t creation = begin_actor(&w, &a);
        PrHandle first = reserve(&s), second = reserve(&s);
        PrHandle calls[4] = {call_after(&s, &a, 0, first), call(&s, &a, 1),
                             call_after(&s, &a, 2, second), call(&s, &a, 3)};
        if (again) rebuild(&s);
        serve(&w, &a, 1);
        serve(&w, &a, 3);
        CHECK(has_no_call(&w, &a));
        pr_seal(&s, second, 0);
        serve(&w, &a, 2);
        SOUND(&s);
        pr_seal(&s, first, 0);
        serve(&w, &a, 0);
        for (uint32_t i = 0; i < 4; i++) expect_value(&s, calls[i], i);
        release(&s, first);
        release(&s, second);
        end_actor(&w, creation);
        forget(&s, &a);
    }
    leave_session(&w);
    end_session(&s);
}

/* Each call waits for an object of its own: they come from the last to the first, or the other way,
 * or in any order. */
static void chain(int kind) {
    enum { N = 60 };
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    Actor a = make_actor(&s);
    uint32_t creation = begin_actor(&w, &a), at[N], served = 0;
    uint64_t seed = 5;
    PrHandle wanted[N], calls[N];
    int there[N] = {0};
    for (uint32_t i = 0; i < N; i++) {
        wanted[i] = reserve(&s);
        calls[i] = call_after(&s, &a, i, wanted[i]);
        at[i] = kind ? i : N - 1 - i;
    }
    for (uint32_t i = N - 1; kind == 2 && i; i--) {
        uint32_t k = (uint32_t)below(&seed, i + 1), other = at[i];
        at[i] = at[k];
        at[k] = other;
    }
    for (uint32_t i = 0; i < N; i++) {
        pr_seal(&s, wanted[at[i]], 0);
        there[at[i]] = 1;
        SOUND(&s);
        for (; served < N && there[served]; served++) serve(&w, &a, served);
        CHECK(has_no_call(&w, &a));
        EQUAL(pr_count_tasks(&s, PR_TASK_WAITING), N - served);
        if (i % 7 == 0) rebuild(&s);
    }
    for (uint32_t i = 0; i < N; i++) {
        expect_value(&s, calls[i], i);
        release(&s, wanted[i]);
    }
    end_actor(&w, creation);
    forget(&s, &a);
    leave_session(&w);
    end_session(&s);
}

static void test_chain(void) {
    for (int kind = 0; kind < 3; kind++) chain(kind);
}

/* Several callers at once: the calls of each come in order, though what they wait for does not. */
typedef struct {
    PrSession of;
    Actor actor;
    uint32_t index, n, cancelled;
    uint64_t seed;
} Caller;

typedef struct {
    uint32_t last[4], served;
} Order;

static void note_order(void *with, PrSession *w, uint32_t task) {
    Order *order = with;
    uint32_t number = number_of(w, task), *last = &order->last[number >> 20];
    CHECK((number & 0xfffff) > *last);
    *last = number & 0xfffff;
    order->served++;
    finish(w, task);
}

/* One more that is waited for, or one that comes; what the next call waits for. */
static uint32_t change_open(PrSession *s, PrHandle open[8], uint64_t *seed, uint32_t slots[8]) {
    uint32_t n = 0, k = (uint32_t)below(seed, 8);
    if (open[k]) {
        pr_seal(s, open[k], 0);
        release(s, open[k]);
        open[k] = 0;
    } else if (below(seed, 4) == 0) {
        open[k] = reserve(s);
    }
    for (k = 0; k < 8; k++)
        if (open[k] && below(seed, 4) == 0) slots[n++] = pr_slot(open[k]);
    return n;
}

static void *call_at_random(void *with) {
    Caller *me = with;
    PrSession s = join_session(&me->of, PR_CLIENT);
    PrHandle open[8] = {0};
    uint32_t slots[8], worker;
    pr_hold(&s, pr_slot(me->actor.object));
    for (uint32_t i = 1; i <= me->n; i++) {
        uint32_t n = change_open(&s, open, &me->seed, slots);
        PrHandle h = call_with(&s, &me->actor, me->index << 20 | i, slots, n, 0);
        if (below(&me->seed, 16) == 0) me->cancelled += pr_cancel(&s, h, &worker) == 0;
        release(&s, h);
        if (below(&me->seed, 200) == 0) nap(MS / 20);
    }
    for (int k = 0; k < 8; k++) {
        if (!open[k]) continue;
        pr_seal(&s, open[k], 0);
        release(&s, open[k]);
    }
    leave_session(&s);
    return NULL;
}

static void test_callers_at_once(void) {
    enum { CALLERS = 3, N = 4000 };
    PrSession s = task_session(2, 0);
    Player player;
    Caller callers[CALLERS];
    pthread_t threads[CALLERS];
    Order order = {{0}, 0};
    uint32_t cancelled = 0;
    start_players(&s, &player, 1, note_order, &order);
    Actor a = make_actor(&s);
    for (uint32_t i = 0; i < CALLERS; i++) {
        callers[i] = (Caller){.of = s, .actor = a, .index = i, .n = N, .seed = i};
        threads[i] = start_thread(call_at_random, &callers[i]);
    }
    join_threads(threads, CALLERS);
    for (int i = 0; i < CALLERS; i++) cancelled += callers[i].cancelled;
    UNTIL(pr_pending_calls(shared(&s, &a)) == 0);
    EQUAL(order.served + cancelled, CALLERS * N);
    release(&s, a.object);
    EQUAL(wait_for(&s, a.death), 0);
    release(&s, a.death);
    stop_players(&s, &player, 1);
    end_session(&s);
}

/* -- cancellation ------------------------------------------------------------------------------ */

static void test_cancel(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    Actor a = make_actor(&s);
    uint32_t creation = begin_actor(&w, &a), worker = 0;
    /* In the queue, and taken out of it. */
    PrHandle calls[4];
    for (uint32_t i = 0; i < 4; i++) calls[i] = call(&s, &a, i);
    EQUAL(pr_cancel(&s, calls[1], &worker), 0);
    SOUND(&s);
    serve(&w, &a, 0);
    EQUAL(pr_cancel(&s, calls[2], &worker), 0);
    SOUND(&s);
    serve(&w, &a, 3);
    expect_value(&s, calls[0], 0);
    expect_code(&s, calls[1], PR_TASK_WAS_CANCELLED);
    expect_code(&s, calls[2], PR_TASK_WAS_CANCELLED);
    expect_value(&s, calls[3], 3);
    EQUAL(pr_pending_calls(shared(&s, &a)), 0);
    /* While it runs: its process is told, and counts. */
    PrHandle h = call_with(&s, &a, 4, NULL, 0, 5);
    uint32_t task = begin_call(&w, a.slot), seen = atomic_load(&w.self->event);
    EQUAL(pr_cancel(&s, h, &worker), 3);
    EQUAL(worker, w.index);
    EQUAL(atomic_load(&shared(&s, &a)->cancels), 1);
    CHECK(atomic_load(&w.self->event) != seen);
    CHECK(atomic_load(&w.tasks[task].state) & PR_CANCEL);
    pr_heard(&w, task);
    EQUAL(pr_cancel(&s, h, &worker), 3);
    EQUAL(atomic_load(&shared(&s, &a)->cancels), 2);
    EQUAL(pr_retry(&w, task), 0);
    SOUND(&s);
    pr_fail_task(&w, task, PR_TASK_WAS_CANCELLED, "");
    EQUAL(pr_cancel(&s, h, &worker), 2);
    expect_code(&s, h, PR_TASK_WAS_CANCELLED);
    end_actor(&w, creation);
    forget(&s, &a);
    leave_session(&w);
    end_session(&s);
}

static void note_child(void *with, PrHandle child) {
    PrHandle *found = with;
    CHECK(!*found);
    *found = child;
}

/* A call is a child as a task is; an actor is not. */
static void test_child(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    PrHandle parent = pr_handle((uint64_t)7 << 32, 9), found = 0, h;
    PrCall creation = {.shape = cpu_shape(&s, 1), .parent = parent};
    Actor a;
    uint32_t worker;
    EQUAL(try_actor(&s, &a, creation, NULL, 0), 0);
    PrCall child = {.flags = PR_TASK_CALL, .actor = a.slot, .n_returns = 1, .parent = parent};
    EQUAL(pr_submit(&s, &child, &h), 0);
    pr_each_child(&s, parent, note_child, &found);
    EQUAL(found, h);
    EQUAL(pr_cancel(&s, found, &worker), 0);
    expect_code(&s, h, PR_TASK_WAS_CANCELLED);
    uint32_t process = begin_actor(&w, &a);
    CHECK(has_no_call(&w, &a));
    end_actor(&w, process);
    forget(&s, &a);
    leave_session(&w);
    end_session(&s);
}

/* In the middle of a chain: before and after what holds it back has come. Those behind it wait for
 * those before it, and not for what it waited for. */
static void cancel_in_chain(int again, int late) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    Actor a = make_actor(&s);
    uint32_t creation = begin_actor(&w, &a), worker;
    PrHandle wanted[2] = {reserve(&s), reserve(&s)}, calls[5];
    calls[0] = call_after(&s, &a, 0, wanted[0]);
    calls[1] = call(&s, &a, 1);
    calls[2] = call_after(&s, &a, 2, wanted[1]);
    calls[3] = call(&s, &a, 3);
    EQUAL(pr_cancel(&s, calls[1], &worker), 0);
    if (!late) EQUAL(pr_cancel(&s, calls[2], &worker), 0);
    EQUAL(pr_pending_calls(shared(&s, &a)), late ? 3 : 2);
    SOUND(&s);
    CHECK(has_no_call(&w, &a));
    if (again) rebuild(&s);
    calls[4] = call(&s, &a, 4);
    CHECK(has_no_call(&w, &a));
    pr_seal(&s, wanted[0], 0);
    SOUND(&s);
    serve(&w, &a, 0);
    if (late) {
        CHECK(has_no_call(&w, &a));
        EQUAL(pr_cancel(&s, calls[2], &worker), 0);
        SOUND(&s);
    }
    serve(&w, &a, 3);
    serve(&w, &a, 4);
    EQUAL(pr_pending_calls(shared(&s, &a)), 0);
    EQUAL(pr_count_tasks(&s, PR_TASK_CANCELLED), !again || late);
    pr_seal(&s, wanted[1], 0);
    EQUAL(pr_count_tasks(&s, PR_TASK_CANCELLED), 0);
    SOUND(&s);
    for (uint32_t i = 0; i < 5; i++) {
        if (i == 1 || i == 2) expect_code(&s, calls[i], PR_TASK_WAS_CANCELLED);
        else expect_value(&s, calls[i], i);
    }
    release(&s, wanted[0]);
    release(&s, wanted[1]);
    end_actor(&w, creation);
    forget(&s, &a);
    leave_session(&w);
    end_session(&s);
}

static void test_cancel_in_chain(void) {
    for (int i = 0; i < 4; i++) cancel_in_chain(i / 2, i % 2);
}

/* The latest call of the caller, behind which the next would have to wait. */
static void test_cancel_the_last(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    Actor a = make_actor(&s);
    uint32_t creation = begin_actor(&w, &a), worker;
    PrHandle wanted[2] = {reserve(&s), reserve(&s)}, calls[4];
    calls[0] = call_after(&s, &a, 0, wanted[0]);
    EQUAL(pr_cancel(&s, calls[0], &worker), 0);
    calls[1] = call(&s, &a, 1);
    serve(&w, &a, 1);
    calls[2] = call_after(&s, &a, 2, wanted[1]);
    calls[3] = call(&s, &a, 3);
    SOUND(&s);
    pr_seal(&s, wanted[0], 0);
    CHECK(has_no_call(&w, &a));
    pr_seal(&s, wanted[1], 0);
    serve(&w, &a, 2);
    serve(&w, &a, 3);
    expect_code(&s, calls[0], PR_TASK_WAS_CANCELLED);
    for (uint32_t i = 1; i < 4; i++) expect_value(&s, calls[i], i);
    release(&s, wanted[0]);
    release(&s, wanted[1]);
    end_actor(&w, creation);
    forget(&s, &a);
    leave_session(&w);
    end_session(&s);
}

/* Nobody refers to the actor, and what its cancelled call waits for never comes. */
static void test_cancel_without_references(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    Actor a = make_actor(&s);
    uint32_t creation = begin_actor(&w, &a), worker;
    PrHandle wanted = reserve(&s), held = call_after(&s, &a, 0, wanted);
    release(&s, a.object);
    EQUAL(pr_actor_idle(&w, a.slot), 1);
    uint32_t seen = atomic_load(&w.self->event);
    EQUAL(pr_cancel(&s, held, &worker), 0);
    CHECK(atomic_load(&w.self->event) != seen);
    CHECK(pr_actor_unwanted(&w, a.slot));
    end_actor(&w, creation);
    CHECK(is_gone(&s, a.object));
    expect_code(&s, held, PR_TASK_WAS_CANCELLED);
    expect_code(&s, a.death, PR_ACTOR_DIED);
    SOUND(&s);
    pr_seal(&s, wanted, 0);
    release(&s, wanted);
    leave_session(&w);
    end_session(&s);
}

/* -- failures and retries ---------------------------------------------------------------------- */

static void test_failed_dependency(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    Actor a = make_actor(&s);
    uint32_t creation = begin_actor(&w, &a);
    PrHandle bad = reserve(&s), first = call_after(&s, &a, 0, bad), second = call(&s, &a, 1);
    pr_seal(&s, bad, 1);
    uint32_t task = begin_call(&w, a.slot);
    EQUAL(pr_failed_dependency(&w, task), pr_slot(bad));
    pr_fail_task_like(&w, task, pr_slot(bad));
    EQUAL(atomic_load(&w.self->running),
          pr_handle(atomic_load(&w.tasks[creation].state), creation));
    serve(&w, &a, 1);
    EQUAL(state_of(&s, first), PR_OBJECT_FAILED);
    release(&s, first);
    release(&s, bad);
    expect_value(&s, second, 1);
    end_actor(&w, creation);
    forget(&s, &a);
    leave_session(&w);
    end_session(&s);
}

static void test_retry(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    Actor a = make_actor(&s);
    uint32_t creation = begin_actor(&w, &a);
    for (int again = 0; again < 2; again++) {
        PrHandle calls[3] = {call_with(&s, &a, 0, NULL, 0, 2), call(&s, &a, 1), call(&s, &a, 2)};
        for (uint32_t attempt = 0; attempt < 2; attempt++) {
            uint32_t task = begin_call(&w, a.slot);
            EQUAL(number_of(&w, task), 0);
            EQUAL(w.tasks[task].attempt, attempt);
            EQUAL(pr_retry(&w, task), 1);
            SOUND(&s);
            if (again) rebuild(&s);
        }
        serve(&w, &a, 0); /* ahead of the others */
        uint32_t task = begin_call(&w, a.slot);
        EQUAL(number_of(&w, task), 1);
        EQUAL(pr_retry(&w, task), 0);
        finish(&w, task);
        serve(&w, &a, 2);
        for (uint32_t i = 0; i < 3; i++) expect_value(&s, calls[i], i);
    }
    EQUAL(atomic_load(&s.control->retries), 4);
    end_actor(&w, creation);
    forget(&s, &a);
    leave_session(&w);
    end_session(&s);
}

/* What was taken and not begun comes again after a recovery, and once. */
static void test_batches(void) {
    enum { N = 100 };
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    Actor a = make_actor(&s);
    uint32_t creation = begin_actor(&w, &a), running, taken;
    PrHandle calls[N];
    uint64_t epoch;
    for (uint32_t i = 0; i < N; i++) calls[i] = call(&s, &a, i);
    for (uint32_t i = 0; i < 11; i++) serve(&w, &a, i);
    running = begin_call(&w, a.slot);
    taken = pr_take_call(&w, a.slot, &epoch);
    EQUAL(number_of(&w, taken), 12);
    CHECK(atomic_load(&shared(&s, &a)->queue.count) < N - 13);
    SOUND(&s);
    rebuild(&s);
    EQUAL(atomic_load(&shared(&s, &a)->queue.count), N - 12);
    EQUAL(pr_pending_calls(shared(&s, &a)), N - 11);
    EQUAL(pr_actor_idle(&w, a.slot), 0);
    EQUAL(pr_begin_call(&w, taken, epoch), 0);
    EQUAL(pr_state(atomic_load(&w.tasks[taken].state)), PR_TASK_READY);
    finish(&w, running);
    for (uint32_t i = 12; i < N; i++) serve(&w, &a, i);
    CHECK(has_no_call(&w, &a));
    for (uint32_t i = 0; i < N; i++) expect_value(&s, calls[i], i);
    end_actor(&w, creation);
    forget(&s, &a);
    leave_session(&w);
    end_session(&s);
}

/* More than are taken without a look at each. */
static void test_many(void) {
    enum { N = 1500 };
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    Actor a = make_actor(&s);
    uint32_t creation = begin_actor(&w, &a);
    PrHandle *calls = calloc(N, sizeof *calls);
    for (uint32_t i = 0; i < N; i++) calls[i] = call(&s, &a, i);
    serve(&w, &a, 0);
    SOUND(&s);
    for (uint32_t i = 1; i < N; i++) serve(&w, &a, i);
    SOUND(&s);
    CHECK(has_no_call(&w, &a));
    for (uint32_t i = 0; i < N; i++) expect_value(&s, calls[i], i);
    end_actor(&w, creation);
    forget(&s, &a);
    free(calls);
    leave_session(&w);
    end_session(&s);
}

/* -- slots, names, resources ------------------------------------------------------------------- */

static void test_slots(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    Actor actors[4];
    PrCall creation = {.shape = cpu_shape(&s, 1)};
    s.control->actors.limit = 4; /* one of them is nil */
    for (int i = 0; i < 3; i++) actors[i] = make_actor(&s);
    EQUAL(try_actor(&s, &actors[3], creation, NULL, 0), PR_LIMIT);
    CHECK(is_gone(&s, actors[3].object));
    SOUND(&s);
    uint64_t before = atomic_load(&shared(&s, &actors[0])->state);
    end_actor(&w, begin_actor(&w, &actors[0]));
    EQUAL(pr_actor_hold(&s, actors[0].slot), 0);
    EQUAL(kill_actor(&s, &actors[0], 0), 0);
    EQUAL(try_actor(&s, &actors[3], creation, NULL, 0), PR_LIMIT); /* somebody refers to it */
    forget(&s, &actors[0]);
    EQUAL(pr_actor_hold(&s, actors[0].slot), 0);
    actors[3] = make_actor(&s);
    EQUAL(actors[3].slot, actors[0].slot);
    EQUAL(atomic_load(&shared(&s, &actors[3])->state) >> 32, (before >> 32) + 1);
    EQUAL(pr_actor_hold(&s, actors[3].slot), actors[3].object);
    release(&s, actors[3].object);
    PrHandle plain = put(&s, 10, 1, NULL, 0);
    EQUAL(pr_actor_of(&s, pr_slot(plain)), 0);
    release(&s, plain);
    for (int i = 1; i < 4; i++) {
        end_actor(&w, begin_actor(&w, &actors[i]));
        forget(&s, &actors[i]);
    }
    leave_session(&w);
    end_session(&s);
}

/* A call that had to wait says nothing of the next actor in the same slot. */
static void test_slot_of_a_held_call(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    uint32_t slot = 0;
    for (int round = 0; round < 5; round++) {
        Actor a = make_actor(&s);
        PrHandle wanted = reserve(&s), first = call(&s, &a, 0);
        CHECK(!slot || slot == a.slot);
        slot = a.slot;
        EQUAL(pr_count_tasks(&s, PR_TASK_WAITING), 0);
        PrHandle second = call_after(&s, &a, 1, wanted);
        uint32_t creation = begin_actor(&w, &a);
        serve(&w, &a, 0);
        pr_seal(&s, wanted, 0);
        serve(&w, &a, 1);
        expect_value(&s, first, 0);
        expect_value(&s, second, 1);
        release(&s, wanted);
        end_actor(&w, creation);
        forget(&s, &a);
        SOUND(&s);
    }
    leave_session(&w);
    end_session(&s);
}

/* No slots for its creation, or no memory: nothing is left of it, its name neither. */
static void test_full(void) {
    PrSession s = new_session(1 << 16, 400, 200, 0), w = join_session(&s, PR_WORKER);
    EQUAL(pr_resource(&s, "CPU", PR_UNIT), PR_CPU);
    uint32_t shape = cpu_shape(&s, 1), n = 0;
    PrHandle tasks[200];
    PrCall plain = {.shape = shape, .n_returns = 1}, creation = {.shape = shape};
    uint8_t key[24];
    Actor a;
    name_key(key, 1);
    while (pr_submit(&s, &plain, &tasks[n]) == 0) n++;
    for (uint32_t flags = 0; flags <= PR_ACTOR_DETACHED; flags += PR_ACTOR_DETACHED) {
        EQUAL(try_actor(&s, &a, creation, key, flags), PR_FULL);
        CHECK(is_gone(&s, a.object));
        SOUND(&s);
        EQUAL(pr_actor_list(&s, NULL, 0), 0);
        EQUAL(pr_actor_find(&s, key), 0);
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t task = next(&w);
        seal_returns(&w, task, 0);
        pr_finish(&w, task);
        release(&s, tasks[i]);
    }
    EQUAL(try_actor(&s, &a, creation, key, 0), 0);
    end_actor(&w, begin_actor(&w, &a));
    forget(&s, &a);
    leave_session(&w);
    end_session(&s);
}

static void test_names(void) {
    PrSession s = task_session(2, 0), t = join_session(&s, PR_CLIENT),
              w = join_session(&s, PR_WORKER);
    uint8_t key[24], other[24];
    name_key(key, 1);
    name_key(other, 2);
    Actor a = actor_with(&s, 0, key, 0), b;
    PrCall creation = {.shape = cpu_shape(&s, 1)};
    EQUAL(try_actor(&t, &b, creation, key, 0), PR_STALE);
    CHECK(is_gone(&t, b.object));
    EQUAL(pr_actor_find(&t, other), 0);
    EQUAL(pr_actor_find(&t, key), a.object);
    EQUAL(pr_actor_find(&t, key), a.object);
    SOUND(&t);
    release(&t, a.object);
    EQUAL(try_actor(&s, &b, creation, other, 0), 0);
    EQUAL(pr_actor_list(&s, NULL, 0), 2);
    uint32_t process = begin_actor(&w, &a);
    release(&s, a.object);
    CHECK(!pr_actor_unwanted(&w, a.slot)); /* another has found it */
    EQUAL(pr_actor_find(&s, key), a.object);
    release(&t, a.object);
    end_actor(&w, process);
    /* It is dead: the name is free, though somebody refers to it. */
    EQUAL(pr_actor_find(&t, key), 0);
    Actor c = actor_with(&t, 0, key, 0);
    SOUND(&t);
    forget(&s, &a);
    end_actor(&w, begin_actor(&w, &b));
    forget(&s, &b);
    process = begin_actor(&w, &c);
    release(&t, c.object);
    CHECK(pr_actor_unwanted(&w, c.slot));
    EQUAL(pr_actor_find(&s, key), 0); /* it is about to end */
    end_actor(&w, process);
    expect_code(&t, c.death, PR_ACTOR_DIED);
    leave_session(&w);
    leave_session(&t);
    end_session(&s);
}

static void test_detached(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    uint8_t key[24];
    name_key(key, 1);
    for (int again = 0; again < 2; again++) {
        Actor a = actor_with(&s, 0, key, PR_ACTOR_DETACHED);
        uint32_t creation = begin_actor(&w, &a);
        release(&s, a.object);
        release(&s, a.death);
        if (again) rebuild(&s);
        SOUND(&s);
        CHECK(!pr_actor_unwanted(&w, a.slot));
        EQUAL(pr_actor_find(&s, key), a.object);
        PrHandle h = call(&s, &a, 7);
        release(&s, a.object);
        serve(&w, &a, 7);
        expect_value(&s, h, 7);
        CHECK(!is_gone(&s, a.object));
        end_actor(&w, creation);
        CHECK(is_gone(&s, a.object) && is_gone(&s, a.death));
        EQUAL(pr_actor_find(&s, key), 0);
    }
    leave_session(&w);
    end_session(&s);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    RUN(test_creation);
    RUN(test_gives_tasks_back);
    RUN(test_order);
    RUN(test_callers);
    RUN(test_unordered);
    RUN(test_chain);
    RUN(test_callers_at_once);
    RUN(test_cancel);
    RUN(test_child);
    RUN(test_cancel_in_chain);
    RUN(test_cancel_the_last);
    RUN(test_cancel_without_references);
    RUN(test_failed_dependency);
    RUN(test_retry);
    RUN(test_batches);
    RUN(test_many);
    RUN(test_slots);
    RUN(test_slot_of_a_held_call);
    RUN(test_full);
    RUN(test_names);
    RUN(test_detached);
    printf("ok\n");
    return 0;
}
