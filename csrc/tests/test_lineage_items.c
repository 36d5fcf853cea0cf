/* Generators that are kept, and run again when a value that they yielded is lost. */
#include "pair.h"

enum { ITEMS = 4 };

static PrHandle begin_stream(Pair *p, uint32_t *task) {
    PrHandle stream;
    PrCall call = {.n_returns = 1, .retries = 3, .flags = PR_TASK_STREAMING};
    EQUAL(pr_submit(&p->s, &call, &stream), 0);
    *task = pr_next_queued(&p->w);
    if (!*task) EQUAL(pr_next_task(&p->w, task, soon()), 0);
    return stream;
}

static void yield_one(Pair *p, uint32_t task, uint64_t number) {
    PrHandle item;
    uint8_t *data;
    EQUAL(pr_create(&p->w, SIZE, 0, &item, &data), 0);
    write_value(data, SIZE, number);
    pr_seal(&p->w, item, 0);
    EQUAL(pr_stream_put(&p->w, p->w.tasks[task].first_return, item), 0);
    release(&p->w, item);
}

static void end_stream(Pair *p, uint32_t task) {
    seal_result(&p->w, p->w.tasks[task].first_return, 1, 0, 0);
    pr_finish(&p->w, task);
}

/* A generator that runs again; how many items it made. */
static uint32_t yield_again(Pair *p) {
    uint32_t task = pr_next_queued(&p->w), made = 0;
    if (!task) EQUAL(pr_next_task(&p->w, &task, soon()), 0);
    for (uint32_t i = 0; i < ITEMS; i++) {
        uint32_t slot = pr_item(&p->w, &p->w.tasks[task], i);
        if (!slot || pr_state(atomic_load(&p->w.objects[slot].state)) != PR_OBJECT_PENDING)
            continue;
        seal_result(&p->w, slot, SIZE, 100 + i, 0);
        made++;
    }
    pr_finish(&p->w, task);
    return made;
}

static void test_generator(void) {
    Pair p = new_pair();
    uint32_t task;
    PrHandle stream = begin_stream(&p, &task), items[ITEMS];
    for (uint32_t i = 0; i < ITEMS; i++) yield_one(&p, task, 100 + i);
    for (uint32_t i = 0; i < ITEMS - 1; i++) items[i] = pr_stream_take(&p.s, pr_slot(stream));
    release(&p.s, items[0]); /* its slot stays as long as the task runs */
    discard(&p, items[1]);
    EQUAL(again(&p, items[1]), PR_BUSY);
    end_stream(&p, task);
    SOUND(&p.s);
    EQUAL(p.s.control->n_lineage, 1);
    items[ITEMS - 1] = pr_stream_take(&p.s, pr_slot(stream));
    release(&p.s, stream);
    SOUND(&p.s);
    discard(&p, items[ITEMS - 1]);
    EQUAL(again(&p, items[1]), 0);
    SOUND(&p.s);
    EQUAL(yield_again(&p), ITEMS - 1); /* all but the one that is there */
    SOUND(&p.s);
    for (uint32_t i = 1; i < ITEMS; i++) EQUAL(number_of(&p, items[i]), 100 + i);
    pr_recover(&p.s, 0, 0, "");
    SOUND(&p.s);
    discard(&p, items[2]);
    EQUAL(again(&p, items[2]), 0);
    pr_recover(&p.s, 0, 0, "");
    SOUND(&p.s);
    EQUAL(yield_again(&p), 2);
    EQUAL(number_of(&p, items[2]), 102);
    for (uint32_t i = 1; i < ITEMS; i++) release(&p.s, items[i]);
    end_pair(&p);
}

/* The worker dies when all is sealed, and the task is not over: the first time, and later. */
static void test_worker_dies_at_the_end(void) {
    Pair p = new_pair();
    uint32_t task;
    PrHandle stream = begin_stream(&p, &task), items[ITEMS];
    for (uint32_t i = 0; i < ITEMS; i++) yield_one(&p, task, 100 + i);
    for (uint32_t i = 0; i < ITEMS - 1; i++) items[i] = pr_stream_take(&p.s, pr_slot(stream));
    seal_result(&p.w, p.w.tasks[task].first_return, 1, 0, 0);
    for (int times = 0; times < 3; times++) {
        kill_worker(&p, &p.w);
        EQUAL(p.s.control->n_lineage, 1);
        p.w = join_session(&p.s, PR_WORKER);
        for (uint32_t i = 0; i < ITEMS - 1; i++) EQUAL(number_of(&p, items[i]), 100 + i);
        discard(&p, items[times]);
        EQUAL(again(&p, items[times]), 0);
        EQUAL(pr_next_task(&p.w, &task, soon()), 0);
        seal_result(&p.w, pr_item(&p.w, &p.w.tasks[task], (uint32_t)times), SIZE,
                    100 + (uint32_t)times, 0);
    }
    pr_finish(&p.w, task);
    for (uint32_t i = 0; i < ITEMS - 1; i++) release(&p.s, items[i]);
    release(&p.s, stream);
    end_pair(&p);
}

/* What a stream says at its end is none of its items, however long it is. */
static void test_worker_dies_at_the_end_of_an_empty_stream(void) {
    Pair p = new_pair();
    uint32_t task;
    PrHandle stream = begin_stream(&p, &task);
    seal_result(&p.w, pr_slot(stream), SIZE, 7, 0);
    kill_worker(&p, &p.w);
    EQUAL(live_tasks(&p.s) + done_tasks(&p.s), 0);
    EQUAL(number_of(&p, stream), 7);
    p.w = join_session(&p.s, PR_WORKER);
    release(&p.s, stream);
    end_pair(&p);
}

static void test_generator_that_nobody_needs(void) {
    Pair p = new_pair();
    uint32_t task;
    PrHandle stream = begin_stream(&p, &task);
    for (uint32_t i = 0; i < ITEMS; i++) yield_one(&p, task, i);
    release(&p.s, pr_stream_take(&p.s, pr_slot(stream)));
    release(&p.s, pr_stream_take(&p.s, pr_slot(stream)));
    SOUND(&p.s);
    pr_recover(&p.s, 0, 0, "");
    SOUND(&p.s);
    release(&p.s, stream);
    end_stream(&p, task);
    end_pair(&p);
}

static void test_generator_that_fails(void) {
    Pair p = new_pair();
    uint32_t task;
    PrHandle stream = begin_stream(&p, &task);
    for (uint32_t i = 0; i < ITEMS; i++) yield_one(&p, task, i);
    PrHandle kept = pr_stream_take(&p.s, pr_slot(stream));
    release(&p.s, pr_stream_take(&p.s, pr_slot(stream)));
    pr_fail_task(&p.w, task, 77, "it failed");
    SOUND(&p.s);
    EQUAL(p.s.control->n_lineage, 0);
    discard(&p, kept);
    EQUAL(refused(&p, kept, kept), PR_WHY_FAILED | PR_WHY_FREED);
    release(&p.s, kept);
    release(&p.s, stream);
    end_pair(&p);
    /* The second time only. */
    p = new_pair();
    stream = begin_stream(&p, &task);
    for (uint32_t i = 0; i < ITEMS; i++) yield_one(&p, task, 100 + i);
    PrHandle lost = pr_stream_take(&p.s, pr_slot(stream));
    kept = pr_stream_take(&p.s, pr_slot(stream));
    end_stream(&p, task);
    discard(&p, lost);
    EQUAL(again(&p, lost), 0);
    EQUAL(pr_next_task(&p.w, &task, soon()), 0);
    pr_fail_task(&p.w, task, 77, "it failed");
    SOUND(&p.s);
    EQUAL(state_of(&p.s, lost), PR_OBJECT_FAILED);
    EQUAL(number_of(&p, kept), 101);
    release(&p.s, lost);
    release(&p.s, kept);
    release(&p.s, stream);
    end_pair(&p);
}

int main(void) {
    RUN(test_generator);
    RUN(test_worker_dies_at_the_end);
    RUN(test_worker_dies_at_the_end_of_an_empty_stream);
    RUN(test_generator_that_nobody_needs);
    RUN(test_generator_that_fails);
    return 0;
}
