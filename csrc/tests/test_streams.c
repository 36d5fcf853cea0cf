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

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    RUN(test_stream);
    RUN(test_closed_stream);
    RUN(test_stream_between_threads);
    printf("ok\n");
    return 0;
}
