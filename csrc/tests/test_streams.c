/* Streams of objects that a task yields. */
#include "runtime.h"

/* -- streams ----------------------------------------------------------------------------------- */

/* The consumer `s` has the task's result, the worker `w` runs it. */
static PrHandle open_stream(PrSession *s, PrSession *w, uint32_t *task) {
    PrHandle stream;
    int shape = pr_shape(s, NULL, 0, 0);
    PrCall call = {.shape = (uint32_t)shape, .n_returns = 1, .flags = PR_TASK_STREAMING};
    EQUAL(pr_submit(s, &call, &stream), 0);
    EQUAL(pr_next_task(w, task, soon()), 0);
    return stream;
}

static void end_stream(PrSession *w, uint32_t task, PrHandle stream) {
    uint8_t *data;
    EQUAL(pr_room(w, pr_slot(stream), 4, 0, &data), 0);
    CHECK(((uintptr_t)data & 7) == 0);
    write_pattern(data, 4, 77);
    pr_enter(w);
    pr_make_ready(w, pr_slot(stream), PR_OBJECT_SEALED);
    pr_leave(w);
    pr_finish(w, task);
}

static int yield_item(PrSession *w, PrHandle stream, uint64_t number) {
    PrHandle item = put(w, number % 150, number, NULL, 0);
    int status = pr_stream_put(w, pr_slot(stream), item);
    release(w, item);
    return status;
}

/* Who waits for the next item among other objects. */
static void test_vigil(void) {
    PrSession s = small_session(), w = join_session(&s, PR_WORKER);
    uint32_t task, found[2], seen;
    PrHandle stream = open_stream(&s, &w, &task), item;
    uint32_t slot = pr_slot(stream);
    PrVigil v;
    EQUAL(pr_vigil_begin(&s, &v), 0);
    pr_vigil_add(&s, &v, slot | PR_NEXT);
    EQUAL(pr_vigil_ready(&s, &v, found, 2), 0);
    for (uint64_t i = 0; i < 3; i++) {
        seen = atomic_load(&s.self->event);
        EQUAL(yield_item(&w, stream, i), 0);
        EQUAL(yield_item(&w, stream, i), 0);
        CHECK(atomic_load(&s.self->event) != seen);
        EQUAL(pr_vigil_sleep(&s, seen), 0);
        for (int k = 0; k < 2; k++) { /* the second one is there already */
            EQUAL(pr_vigil_ready(&s, &v, found, 2), 1);
            EQUAL(found[0], slot);
            CHECK((item = pr_stream_take(&s, slot)));
            release(&s, item);
            pr_vigil_add(&s, &v, slot | PR_NEXT);
        }
        EQUAL(pr_vigil_ready(&s, &v, found, 2), 0);
    }
    /* After a recovery all are looked at: one who has put an item may have told nobody. */
    yield_item(&w, stream, 7);
    atomic_fetch_or(&s.watch[slot >> 6], (uint64_t)1 << (slot & 63));
    EQUAL(pr_vigil_ready(&s, &v, found, 2), 0);
    pr_recover(&s, 0, 0, "");
    EQUAL(pr_vigil_ready(&s, &v, found, 2), 1);
    pr_vigil_end(&s, &v);
    end_stream(&w, task, stream);
    release(&s, stream);
    leave_session(&w);
    end_session(&s);
}

static void test_stream(void) {
    PrSession s = small_session(), w = join_session(&s, PR_WORKER);
    uint32_t task;
    PrHandle stream = open_stream(&s, &w, &task), item;
    EQUAL(pr_stream_take(&s, pr_slot(stream)), 0);
    EQUAL(pr_stream_wait(&s, pr_slot(stream), pr_now() + 10 * MS, 0), PR_TIMEOUT);
    for (uint64_t i = 0; i < 300; i++) EQUAL(yield_item(&w, stream, i), 0);
    EQUAL(pr_stream_length(&s, pr_slot(stream)), 300);
    SOUND(&s);
    for (uint64_t i = 0; i < 200; i++) {
        EQUAL(pr_stream_wait(&s, pr_slot(stream), -1, 0), 0);
        CHECK((item = pr_stream_take(&s, pr_slot(stream))));
        CHECK(has_value(&s, item, i));
        release(&s, item);
    }
    SOUND(&s);
    end_stream(&w, task, stream); /* items that were not taken stay */
    EQUAL(pr_stream_wait(&s, pr_slot(stream), -1, 0), 0);
    CHECK(has_value(&s, stream, 77));
    EQUAL(pr_stream_length(&s, pr_slot(stream)), 100);
    CHECK((item = pr_stream_take(&s, pr_slot(stream))));
    release(&s, stream); /* and go with it */
    SOUND(&s);
    CHECK(has_value(&s, item, 200));
    release(&s, item);
    leave_session(&w);
    end_session(&s);
}

static void test_closed_stream(void) {
    PrSession s = small_session(), w = join_session(&s, PR_WORKER);
    uint32_t task;
    PrHandle stream = open_stream(&s, &w, &task);
    for (uint64_t i = 0; i < 10; i++) EQUAL(yield_item(&w, stream, i), 0);
    pr_stream_close(&s, pr_slot(stream));
    EQUAL(pr_stream_length(&s, pr_slot(stream)), 0);
    EQUAL(live_objects(&s), 1);
    EQUAL(yield_item(&w, stream, 11), PR_ENDED);
    EQUAL(live_objects(&s), 1);
    end_stream(&w, task, stream);
    release(&s, stream);
    leave_session(&w);
    end_session(&s);
}

/* The producer has no more than a few items that were not taken. */
typedef struct {
    PrSession of;
    PrHandle stream;
    uint32_t task;
    uint64_t items;
    _Atomic int begun;
} Producer;

static void *produce(void *with) {
    Producer *p = with;
    PrSession w = join_session(&p->of, PR_WORKER);
    EQUAL(pr_next_task(&w, &p->task, soon()), 0);
    uint32_t stream = w.tasks[p->task].first_return;
    p->stream = pr_handle(atomic_load(&w.objects[stream].state), stream);
    for (uint64_t i = 0; i < p->items; i++) {
        EQUAL(yield_item(&w, p->stream, i), 0);
        for (int64_t end = soon(); pr_stream_length(&w, stream) >= 5;) {
            uint32_t seen = atomic_load(&w.self->event);
            if (pr_stream_length(&w, stream) < 5) break;
            CHECK(pr_now() < end);
            CHECK(pr_sleep(&w, seen, 10000 * (int64_t)MS, 1) != PR_TIMEOUT);
        }
    }
    end_stream(&w, p->task, p->stream);
    leave_session(&w);
    return NULL;
}

static void stream_between_threads(int64_t spin) {
    PrSession s = new_session(1 << 20, 4096, 64, spin);
    Producer p = {.of = s, .items = 3000};
    int shape = pr_shape(&s, NULL, 0, 0);
    PrCall call = {.shape = (uint32_t)shape, .n_returns = 1, .flags = PR_TASK_STREAMING};
    PrHandle stream, item;
    pthread_t thread = start_thread(produce, &p);
    EQUAL(pr_submit(&s, &call, &stream), 0);
    for (uint64_t i = 0; i < p.items; i++) {
        EQUAL(pr_stream_wait(&s, pr_slot(stream), soon(), PR_SPIN), 0);
        CHECK((item = pr_stream_take(&s, pr_slot(stream))));
        CHECK(has_value(&s, item, i));
        release(&s, item);
    }
    while (state_of(&s, stream) == PR_OBJECT_PENDING)
        EQUAL(pr_stream_wait(&s, pr_slot(stream), soon(), PR_SPIN), 0);
    EQUAL(pr_stream_take(&s, pr_slot(stream)), 0);
    join_threads(&thread, 1);
    release(&s, stream);
    end_session(&s);
}

static void test_stream_between_threads(void) {
    stream_between_threads(0);
    stream_between_threads(20000);
}

/* -- waiting for the next item, beside other objects ------------------------------------------- */

static void test_wait_for_next(void) {
    PrSession s = small_session(), w = join_session(&s, PR_WORKER);
    uint32_t task;
    PrHandle stream = open_stream(&s, &w, &task), object = reserve(&s);
    uint32_t whole = pr_slot(stream), next = whole | PR_NEXT;
    uint32_t both[2] = {next, pr_slot(object)}, twice[2] = {next, whole};
    EQUAL(pr_wait(&s, both, 2, 1, pr_now() + MS, 0, 0), PR_TIMEOUT);
    EQUAL(yield_item(&w, stream, 1), 0);
    EQUAL(pr_wait(&s, both, 2, 1, -1, 0, 0), 0);
    EQUAL(pr_wait(&s, both, 2, 2, pr_now() + MS, 0, 0), PR_TIMEOUT);
    EQUAL(pr_wait(&s, twice, 2, 1, -1, 0, 0), 0);
    EQUAL(pr_wait(&s, &whole, 1, 1, pr_now() + MS, 0, 0), PR_TIMEOUT); /* it goes on */
    release(&s, pr_stream_take(&s, whole));
    EQUAL(pr_wait(&s, &next, 1, 1, pr_now() + MS, 0, 0), PR_TIMEOUT);
    pr_seal(&s, object, 0);
    EQUAL(pr_wait(&s, both, 2, 1, -1, 0, 0), 0);
    end_stream(&w, task, stream);
    EQUAL(pr_wait(&s, both, 2, 2, -1, 0, 0), 0); /* there is no next one, which is known now */
    release(&s, object);
    release(&s, stream);
    leave_session(&w);
    end_session(&s);
}

enum { STREAMS = 3, OBJECTS = 3, WAITED = STREAMS + OBJECTS };

typedef struct {
    PrSession *w;
    PrHandle waited[WAITED]; /* streams, then objects */
    uint64_t seed;
} Maker;

/* An item of each stream, and each object, in some order. */
static void *make_all(void *with) {
    Maker *m = with;
    int order[WAITED];
    for (int i = 0; i < WAITED; i++) {
        int k = (int)below(&m->seed, (uint64_t)i + 1);
        order[i] = order[k];
        order[k] = i;
    }
    for (int i = 0; i < WAITED; i++) {
        PrHandle h = m->waited[order[i]];
        if (below(&m->seed, 6) == 0) nap((int64_t)below(&m->seed, MS / 4));
        if (order[i] < STREAMS) EQUAL(yield_item(m->w, h, 1), 0);
        else pr_seal(m->w, h, 0);
    }
    return NULL;
}

static void wait_while_made(int64_t spin, int rounds) {
    PrSession s = new_session(1 << 20, 4096, 64, spin), w = join_session(&s, PR_WORKER);
    Maker m = {.w = &w};
    uint32_t tasks[STREAMS], slots[WAITED];
    uint64_t seed = 3;
    for (int i = 0; i < STREAMS; i++) m.waited[i] = open_stream(&s, &w, &tasks[i]);
    for (int round = 0; round < rounds; round++) {
        m.seed = random_bits(&seed);
        for (int i = STREAMS; i < WAITED; i++) pr_hold(&s, pr_slot(m.waited[i] = reserve(&w)));
        for (int i = 0; i < WAITED; i++)
            slots[i] = pr_slot(m.waited[i]) | (i < STREAMS ? PR_NEXT : 0);
        pthread_t thread = start_thread(make_all, &m);
        size_t n = 1 + below(&seed, WAITED);
        EQUAL(pr_wait(&s, slots, WAITED, n, soon(), 0, n % 2 ? PR_SPIN : 0), 0);
        EQUAL(pr_wait(&s, slots, WAITED, WAITED, soon(), 0, PR_SPIN), 0);
        join_threads(&thread, 1);
        for (int i = 0; i < STREAMS; i++) release(&s, pr_stream_take(&s, pr_slot(m.waited[i])));
        for (int i = STREAMS; i < WAITED; i++) {
            release(&s, m.waited[i]);
            release(&w, m.waited[i]);
        }
    }
    for (int i = 0; i < STREAMS; i++) {
        end_stream(&w, tasks[i], m.waited[i]);
        release(&s, m.waited[i]);
    }
    SOUND(&s);
    leave_session(&w);
    end_session(&s);
}

static void test_wait_while_made(void) {
    wait_while_made(0, 300);
    wait_while_made(20000, 300);
}

typedef struct {
    PrSession *s; /* one for all; who changes it takes turns */
    pthread_mutex_t *turn;
    uint32_t stream;
    _Atomic uint32_t *taken;
} Taker;

static void *take_items(void *with) {
    Taker *t = with;
    for (;;) {
        uint32_t next = t->stream | PR_NEXT;
        EQUAL(pr_wait(t->s, &next, 1, 1, soon(), 0, 0), 0);
        int over = pr_is_ready(atomic_load(&t->s->objects[t->stream].state));
        pthread_mutex_lock(t->turn);
        PrHandle item = pr_stream_take(t->s, t->stream);
        if (item) release(t->s, item);
        pthread_mutex_unlock(t->turn);
        if (item) atomic_fetch_add(t->taken, 1);
        else if (over) return NULL;
    }
}

/* Threads of one process take from one stream: each may find that another was faster. */
static void test_takers(void) {
    enum { N = 1000, TAKERS = 3 };
    PrSession s = small_session(), w = join_session(&s, PR_WORKER);
    uint32_t task;
    PrHandle stream = open_stream(&s, &w, &task);
    pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
    _Atomic uint32_t taken = 0;
    Taker taker = {.s = &s, .turn = &turn, .stream = pr_slot(stream), .taken = &taken};
    pthread_t threads[TAKERS];
    for (int i = 0; i < TAKERS; i++) threads[i] = start_thread(take_items, &taker);
    for (uint32_t i = 0; i < N; i++) {
        EQUAL(yield_item(&w, stream, i), 0);
        if (i % 4 == 0) UNTIL(atomic_load(&taken) == i + 1);
    }
    end_stream(&w, task, stream);
    join_threads(threads, TAKERS);
    EQUAL(taken, N);
    release(&s, stream);
    leave_session(&w);
    end_session(&s);
}

/* -- back-pressure ----------------------------------------------------------------------------- */

static PrHandle open_with_backlog(PrSession *s, PrSession *w, uint32_t backlog, uint32_t *task) {
    PrHandle stream;
    int shape = pr_shape(s, NULL, 0, 0);
    PrCall call = {
        .shape = (uint32_t)shape, .n_returns = 1, .flags = PR_TASK_STREAMING, .backlog = backlog};
    EQUAL(pr_submit(s, &call, &stream), 0);
    EQUAL(pr_next_task(w, task, soon()), 0);
    return stream;
}

static void test_room(void) {
    PrSession s = small_session(), w = join_session(&s, PR_WORKER);
    uint32_t task;
    PrHandle stream = open_with_backlog(&s, &w, 2, &task), item;
    EQUAL(pr_stream_room(&w, task, -1, 0), 0);
    EQUAL(yield_item(&w, stream, 1), 0);
    EQUAL(pr_stream_room(&w, task, -1, 0), 0);
    EQUAL(yield_item(&w, stream, 2), 0);
    EQUAL(pr_stream_room(&w, task, pr_now(), 0), PR_TIMEOUT);
    EQUAL(pr_stream_room(&w, task, pr_now() + MS, PR_SPIN), PR_TIMEOUT);
    CHECK((item = pr_stream_take(&s, pr_slot(stream))));
    release(&s, item);
    EQUAL(pr_stream_room(&w, task, -1, 0), 0);
    EQUAL(yield_item(&w, stream, 3), 0);
    pr_stream_close(&s, pr_slot(stream));
    EQUAL(yield_item(&w, stream, 4), PR_ENDED);
    end_stream(&w, task, stream);
    release(&s, stream);
    /* Without a limit, nobody ever waits. */
    stream = open_with_backlog(&s, &w, 0, &task);
    for (uint64_t i = 0; i < 100; i++) EQUAL(yield_item(&w, stream, i), 0);
    EQUAL(pr_stream_room(&w, task, -1, 0), 0);
    end_stream(&w, task, stream);
    release(&s, stream);
    leave_session(&w);
    end_session(&s);
}

typedef struct {
    PrSession *w;
    uint32_t task, most; /* that there ever were */
    PrHandle stream;
    uint64_t items;
    int how;
    _Atomic int status; /* of the last wait; 1: it waits still */
} Yielder;

static void *yield_all(void *with) {
    Yielder *y = with;
    int status = 0;
    for (uint64_t i = 0; i < y->items && !status; i++) {
        if ((status = yield_item(y->w, y->stream, i))) break;
        uint32_t now = pr_stream_length(y->w, pr_slot(y->stream));
        if (now > y->most) y->most = now;
        status = pr_stream_room(y->w, y->task, soon(), y->how);
    }
    atomic_store(&y->status, status);
    return NULL;
}

/* The consumer is as fast as it can be, or slow: there is never more than the limit. */
static void stream_with_backlog(int64_t spin, uint32_t backlog) {
    enum { N = 1000 };
    PrSession s = new_session(1 << 20, 4096, 64, spin), w = join_session(&s, PR_WORKER);
    Yielder y = {.w = &w, .items = N, .how = PR_SPIN, .status = 1};
    uint64_t seed = backlog;
    PrHandle item;
    y.stream = open_with_backlog(&s, &w, backlog, &y.task);
    pthread_t thread = start_thread(yield_all, &y);
    for (uint64_t i = 0; i < N; i++) {
        EQUAL(pr_stream_wait(&s, pr_slot(y.stream), soon(), PR_SPIN), 0);
        CHECK((item = pr_stream_take(&s, pr_slot(y.stream))));
        CHECK(has_value(&s, item, i));
        release(&s, item);
        if (below(&seed, 50) == 0)
            UNTIL(pr_stream_length(&s, pr_slot(y.stream)) == backlog || i + backlog >= N - 1);
    }
    join_threads(&thread, 1);
    EQUAL(y.status, 0);
    EQUAL(y.most, backlog);
    end_stream(&w, y.task, y.stream);
    release(&s, y.stream);
    leave_session(&w);
    end_session(&s);
}

static void test_backlog(void) {
    stream_with_backlog(0, 1);
    stream_with_backlog(20000, 1);
    stream_with_backlog(20000, 7);
}

static void ignore(int signal) {
    (void)signal;
}

enum { CLOSED, LEFT, DIED, OVER, SIGNALLED, N_ENDS };

static void end_consumer(PrSession *s, PrSession *c, PrHandle stream, int how) {
    switch (how) {
    case CLOSED: pr_stream_close(c, pr_slot(stream)); break;
    case DIED: /* as if its pid were another's by now */
        atomic_store(&c->self->start_time, 0);
        pr_recover(s, c->index, PR_WORKER_CRASHED, "");
        break;
    case OVER: atomic_store(&s->control->ended, 1); break;
    default: break;
    }
    if (how == LEFT || how == CLOSED) leave_session(c);
}

/* Whatever becomes of the consumer, the producer does not wait for it. */
static void test_end_of_backlog(void) {
    struct sigaction action = {.sa_handler = ignore};
    sigaction(SIGUSR1, &action, NULL);
    for (int how = 0; how < N_ENDS; how++) {
        PrSession s = small_session(), w = join_session(&s, PR_WORKER);
        PrSession c = join_session(&s, PR_CLIENT);
        Yielder y = {.w = &w, .items = 5, .status = 1};
        y.stream = open_with_backlog(&c, &w, 3, &y.task);
        pthread_t thread = start_thread(yield_all, &y);
        UNTIL(atomic_load(&w.self->sleeping));
        EQUAL(atomic_load(&y.status), 1);
        EQUAL(pr_stream_length(&s, pr_slot(y.stream)), 3);
        end_consumer(&s, &c, y.stream, how);
        while (atomic_load(&y.status) == 1) {
            if (how == SIGNALLED) pthread_kill(thread, SIGUSR1);
            if (how == OVER) pr_notify(&s, w.self);
            nap(MS / 10);
        }
        join_threads(&thread, 1);
        EQUAL(atomic_load(&y.status), how == SIGNALLED ? PR_INTERRUPTED : PR_ENDED);
        atomic_store(&s.control->ended, 0);
        end_stream(&w, y.task, y.stream);
        if (how == OVER || how == SIGNALLED) {
            release(&c, y.stream);
            leave_session(&c);
        }
        leave_session(&w);
        end_session(&s);
    }
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    RUN(test_vigil);
    RUN(test_stream);
    RUN(test_closed_stream);
    RUN(test_stream_between_threads);
    RUN(test_wait_for_next);
    RUN(test_wait_while_made);
    RUN(test_takers);
    RUN(test_room);
    RUN(test_backlog);
    RUN(test_end_of_backlog);
    printf("ok\n");
    return 0;
}
