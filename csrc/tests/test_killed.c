/* Workers that are killed on purpose: what each runs, what becomes of its task, the text that tells
 * why; and the pages of free memory. */
#include <sys/mman.h>

#include "../running.h"
#include "workers.h"

static const char WHY[] =
    "it was the last to begin, and a text that tells all of this does not fit into a slot";

/* At once, in the middle of its task. */
static void die(PrSession *s, PrSession *w, PrRetry retry) {
    atomic_store(&w->self->start_time, 0);
    munmap(w->held, (uint64_t)w->control->objects.limit * sizeof(uint32_t));
    pr_recover_killed(s, w->index, PR_OUT_OF_MEMORY, WHY, retry);
    memset(w, 0, sizeof *w);
}

static PrHandle put_off_task(const PrSession *s) {
    PrHandle tasks[2];
    EQUAL(pr_put_off(s, tasks, 2), 1);
    return tasks[0];
}

static int says_why(const PrSession *s, PrHandle h) {
    PrObject *o = &s->objects[pr_slot(h)];
    const uint8_t *data = pr_message_of(s, o);
    return data[0] == PR_OUT_OF_MEMORY && o->size == sizeof WHY &&
           memcmp(data + 1, WHY, sizeof WHY - 1) == 0;
}

/* -- what becomes of the task ------------------------------------------------------------------ */

/* With a dependency, whose edge must not be missed again. */
static void test_later(void) {
    PrSession s = task_session(2, 0), w = join_session(&s, PR_WORKER);
    uint32_t shape = cpu_shape(&s, 1);
    PrHandle value = put(&s, 10, 1, NULL, 0);
    uint32_t slot = pr_slot(value);
    PrHandle h = submit(&s, shape, (Work){.number = 7}, &slot, 1, 1);
    release(&s, value);
    for (int i = 0; i < 5; i++) { /* more often than there are retries */
        uint32_t task = next(&w);
        EQUAL(s.tasks[task].attempt, i);
        die(&s, &w, PR_RETRY_LATER);
        SOUND(&s);
        w = join_session(&s, PR_WORKER);
        CHECK(nothing_to_do(&w));
        EQUAL(s.tasks[task].retries_left, 1);
        pr_recover(&s, 0, 0, ""); /* it is put off still */
        SOUND(&s);
        CHECK(nothing_to_do(&w));
        pr_resume(&s, put_off_task(&s));
        SOUND(&s);
        EQUAL(pr_put_off(&s, NULL, 0), 0);
    }
    uint32_t task = next(&w);
    PrHandle handle = pr_handle(atomic_load(&s.tasks[task].state), task);
    finish(&w, task);
    pr_resume(&s, handle); /* of one that is over: nothing */
    CHECK(has_value(&s, h, 7));
    release(&s, h);
    leave_session(&w);
    end_session(&s);
}

static void test_without_retries(void) {
    PrSession s = task_session(2, 0);
    uint32_t shape = cpu_shape(&s, 1);
    static const PrRetry kinds[] = {PR_RETRY_COUNTED, PR_RETRY_LATER, PR_RETRY_NEVER};
    for (int i = 0; i < 3; i++) {
        PrSession w = join_session(&s, PR_WORKER);
        PrHandle h = submit(&s, shape, (Work){.number = 1}, NULL, 0, kinds[i] == PR_RETRY_NEVER);
        next(&w);
        die(&s, &w, kinds[i]);
        SOUND(&s);
        CHECK(says_why(&s, h));
        release(&s, h);
    }
    end_session(&s);
}

/* Who waits for it fails in the same words. */
static void test_words_are_passed_on(void) {
    PrSession s = task_session(2, 0), w = join_session(&s, PR_WORKER);
    uint32_t shape = cpu_shape(&s, 1);
    PrHandle first = submit_plain(&s, shape, 1);
    uint32_t slot = pr_slot(first);
    PrHandle second = submit(&s, shape, (Work){.number = 2}, &slot, 1, 0);
    next(&w);
    die(&s, &w, PR_RETRY_NEVER);
    w = join_session(&s, PR_WORKER);
    uint32_t task = next(&w);
    pr_fail_task_like(&w, task, pr_failed_dependency(&w, task));
    CHECK(says_why(&s, first) && says_why(&s, second));
    release(&s, first);
    release(&s, second);
    leave_session(&w);
    end_session(&s);
}

/* A full arena: as much of the text as fits into the slot. */
static void test_no_room_for_words(void) {
    PrSession s = task_session(2, 0), w = join_session(&s, PR_WORKER);
    PrHandle h = submit_plain(&s, cpu_shape(&s, 1), 1), all = 0;
    next(&w);
    for (uint64_t size = 1 << 24; size >= 64; size /= 2) {
        PrHandle more;
        while ((more = put(&s, size, 1, &all, all ? 1 : 0))) {
            if (all) release(&s, all);
            all = more;
        }
    }
    die(&s, &w, PR_RETRY_NEVER);
    SOUND(&s);
    PrObject *o = &s.objects[pr_slot(h)];
    EQUAL(o->size, PR_INLINE_OBJECT);
    EQUAL(pr_inline(o)[0], PR_OUT_OF_MEMORY);
    CHECK(memcmp(pr_inline(o) + 1, WHY, PR_INLINE_OBJECT - 1) == 0);
    release(&s, h);
    release(&s, all);
    end_session(&s);
}

/* -- cancelled while it is put off ------------------------------------------------------------- */

static void cancel_put_off(int recover_before, int recover_after) {
    PrSession s = task_session(2, 0), w = join_session(&s, PR_WORKER);
    PrHandle h = submit(&s, cpu_shape(&s, 1), (Work){.number = 1}, NULL, 0, 1);
    uint32_t worker;
    next(&w);
    die(&s, &w, PR_RETRY_LATER);
    PrHandle task = put_off_task(&s);
    if (recover_before) pr_recover(&s, 0, 0, "");
    EQUAL(pr_cancel(&s, h, &worker), 0);
    EQUAL(code_of(&s, h), PR_TASK_WAS_CANCELLED);
    SOUND(&s);
    if (recover_after) pr_recover(&s, 0, 0, "");
    SOUND(&s);
    pr_resume(&s, task);
    SOUND(&s);
    w = join_session(&s, PR_WORKER);
    CHECK(nothing_to_do(&w));
    EQUAL(live_tasks(&s), 0);
    release(&s, h);
    leave_session(&w);
    end_session(&s);
}

static void test_cancelled(void) {
    for (int i = 0; i < 4; i++) cancel_put_off(i & 1, i & 2);
}

/* -- what is running --------------------------------------------------------------------------- */

static void test_running(void) {
    PrSession s = task_session(2, 0), w = join_session(&s, PR_WORKER),
              v = join_session(&s, PR_WORKER);
    static const char text[] =
        "0 what it is called, which is so long that it is not in the slot, "
        "and is said in full if it is not even longer than this";
    PrHandle label, returns[2];
    uint8_t *data;
    PrRunning found[3];
    EQUAL(pr_create(&s, sizeof text, 0, &label, &data), 0);
    memcpy(data, text, sizeof text);
    pr_seal(&s, label, 0);
    for (uint32_t i = 0; i < 2; i++) {
        PrCall call = {.shape = cpu_shape(&s, 1),
                       .n_returns = 1,
                       .retries = 3,
                       .label = i ? pr_slot(label) : 0,
                       .parent = i ? 5 : 0};
        EQUAL(pr_submit(&s, &call, &returns[i]), 0);
    }
    EQUAL(pr_running(&s, found, 0), 2);
    EQUAL(pr_running(&s, found, 3), 2);
    CHECK(!found[0].task.task && !found[1].task.task);
    uint32_t first = next(&w);
    int64_t between = pr_now();
    uint32_t second = next(&v);
    EQUAL(pr_running(&s, found, 3), 2);
    EQUAL(pr_slot(found[0].task.task), first);
    EQUAL(pr_slot(found[1].task.task), second);
    CHECK(found[0].pid == getpid() && found[0].task.owner == s.index && !found[0].task.parent);
    CHECK(found[1].task.parent == 5 && found[1].task.sequence > found[0].task.sequence);
    CHECK(found[0].began <= between && found[1].began >= between);
    EQUAL(found[1].task.retries_left, 3);
    EQUAL(found[0].task.label[0], 0);
    CHECK(strncmp(found[1].task.label, text, PR_LABEL_SIZE - 1) == 0);
    for (int i = 0; i < 2; i++) {
        PrSession *at = i ? &v : &w;
        uint32_t task = i ? second : first;
        seal_returns(at, task, 0);
        pr_finish(at, task);
        release(&s, returns[i]);
    }
    EQUAL(pr_running(&s, found, 3), 2);
    CHECK(!found[0].task.task && !found[1].task.task);
    release(&s, label);
    leave_session(&w);
    leave_session(&v);
    end_session(&s);
}

/* The table lies at random instants: nothing of it is followed out of bounds. */
static void test_wild_tables(void) {
    PrSession s = task_session(2, 0), w = join_session(&s, PR_WORKER);
    PrHandle label = put(&s, 200, 1, NULL, 0), h;
    PrCall call = {.shape = cpu_shape(&s, 1), .n_returns = 1, .label = pr_slot(label)};
    PrRunning found;
    EQUAL(pr_submit(&s, &call, &h), 0);
    uint32_t task = next(&w);
    PrObject *o = &s.objects[pr_slot(label)];
    uint64_t place = o->place, size = o->size, running = atomic_load(&w.self->running);
    static const uint64_t wild[] = {0, 1, UINT32_MAX, UINT64_MAX, (1 << 24) - 1, 1 << 24};
    for (size_t i = 0; i < sizeof wild / sizeof *wild; i++) {
        o->place = wild[i];
        EQUAL(pr_running(&s, &found, 1), 1);
        EQUAL(found.task.task, running);
        o->place = place;
        o->size = wild[i];
        EQUAL(pr_running(&s, &found, 1), 1);
        o->size = size;
        atomic_store(&w.self->running, wild[i]);
        EQUAL(pr_running(&s, &found, 1), 1);
        EQUAL(found.task.task, 0);
        atomic_store(&w.self->running, running);
        s.tasks[task].label = (uint32_t)wild[i];
        EQUAL(pr_running(&s, &found, 1), 1);
        s.tasks[task].label = pr_slot(label);
    }
    seal_returns(&w, task, 0);
    pr_finish(&w, task);
    release(&s, h);
    release(&s, label);
    leave_session(&w);
    end_session(&s);
}

/* -- free memory ------------------------------------------------------------------------------- */

static uint64_t resident(const PrSession *s) {
    static unsigned char pages[1 << 14];
    uint64_t n = s->control->arena_size / 4096, found = 0;
    CHECK(n <= sizeof pages);
    EQUAL(mincore(s->write_base, s->control->arena_size, pages), 0);
    for (uint64_t i = 0; i < n; i++) found += pages[i] & 1;
    return found * 4096;
}

/* What is free goes back, what is used stays as it is. */
static void test_trim(void) {
    enum { N = 12, SIZE = 5 << 20 };
    PrSession s = new_session(1 << 26, 1 << 10, 1 << 8, 0);
    PrHandle objects[N];
    for (uint32_t i = 0; i < N; i++) CHECK((objects[i] = put(&s, SIZE, i, NULL, 0)));
    uint64_t before = resident(&s);
    CHECK(before >= (uint64_t)N * SIZE);
    pr_trim(&s);
    EQUAL(resident(&s), before);
    for (uint32_t i = 0; i < N; i += 2) release(&s, objects[i]);
    EQUAL(resident(&s), before);
    pr_trim(&s);
    CHECK(resident(&s) <= before - (uint64_t)N / 2 * (SIZE - 2 * 4096));
    SOUND(&s);
    for (uint32_t i = 1; i < N; i += 2) {
        CHECK(has_value(&s, objects[i], i));
        release(&s, objects[i]);
    }
    pr_recover(&s, 0, 0, ""); /* all of it is new memory now, which has pages */
    pr_trim(&s);
    CHECK(resident(&s) <= 4096); /* the first 64 bytes are nobody's */
    CHECK((objects[0] = put(&s, SIZE, 1, NULL, 0)));
    CHECK(has_value(&s, objects[0], 1));
    release(&s, objects[0]);
    end_session(&s);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    RUN(test_later);
    RUN(test_without_retries);
    RUN(test_words_are_passed_on);
    RUN(test_no_room_for_words);
    RUN(test_cancelled);
    RUN(test_running);
    RUN(test_wild_tables);
    RUN(test_trim);
    printf("ok\n");
    return 0;
}
