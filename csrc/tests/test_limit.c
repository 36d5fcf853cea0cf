/* How many calls of an actor a process may have that are not over. Threads play the processes. */
#include "actors.h"

static int try_call(PrSession *s, const Actor *a, uint32_t limit, uint32_t number, PrHandle *h) {
    Work w = {.number = number};
    PrCall call = {.flags = PR_TASK_CALL,
                   .actor = a->slot,
                   .limit = limit,
                   .n_returns = 1,
                   .inline_arguments = &w,
                   .arguments_size = sizeof w};
    return pr_submit(s, &call, h);
}

/* Each process may have so many calls that are not over, however they end. */
static void test_limit(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER),
              t = join_session(&s, PR_CLIENT);
    uint32_t worker;
    for (int again = 0; again < 2; again++) { /* in the same slot */
        Actor a = make_actor(&s);
        uint32_t creation = begin_actor(&w, &a);
        PrHandle mine[6], theirs[3], none;
        pr_hold(&t, pr_slot(a.object));
        for (uint32_t i = 0; i < 3; i++) EQUAL(try_call(&s, &a, 3, i, &mine[i]), 0);
        EQUAL(try_call(&s, &a, 3, 9, &none), PR_BUSY);
        EQUAL(try_call(&t, &a, 2, 3, &theirs[0]), 0);
        EQUAL(try_call(&t, &a, 2, 4, &theirs[1]), 0);
        EQUAL(try_call(&t, &a, 2, 9, &none), PR_BUSY);
        if (again) rebuild(&s);
        EQUAL(try_call(&s, &a, 3, 9, &none), PR_BUSY);
        serve(&w, &a, 0);
        EQUAL(try_call(&t, &a, 2, 9, &none), PR_BUSY);
        EQUAL(pr_cancel(&s, mine[1], &worker), 0);
        EQUAL(try_call(&s, &a, 3, 5, &mine[3]), 0);
        EQUAL(try_call(&s, &a, 3, 6, &mine[4]), 0);
        EQUAL(try_call(&s, &a, 3, 9, &none), PR_BUSY);
        for (uint32_t i = 2; i < 6; i++) serve(&w, &a, i);
        /* Its result is there, but it is not over. */
        uint32_t last = begin_call(&w, a.slot);
        EQUAL(try_call(&s, &a, 1, 9, &none), PR_BUSY);
        seal_returns(&w, last, 6);
        EQUAL(try_call(&s, &a, 1, 8, &mine[5]), 0);
        pr_finish(&w, last);
        EQUAL(try_call(&t, &a, 1, 7, &theirs[2]), 0);
        end_actor(&w, creation);
        for (int i = 0; i < 6; i++) release(&s, mine[i]);
        for (int i = 0; i < 3; i++) release(&t, theirs[i]);
        release(&t, a.object);
        forget(&s, &a);
    }
    leave_session(&w);
    leave_session(&t);
    end_session(&s);
}

/* A list of them that grows, and is looked through now and then. */
static void test_many_with_a_limit(void) {
    enum { LIMIT = 500 };
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    Actor a = make_actor(&s);
    uint32_t creation = begin_actor(&w, &a), served = 0;
    PrHandle h;
    for (uint32_t i = 0; i < 4 * LIMIT; i++) {
        while (try_call(&s, &a, LIMIT, i, &h)) {
            EQUAL(i - served, LIMIT);
            for (uint32_t k = 0; k <= i % 7; k++) serve(&w, &a, served++);
        }
        release(&s, h);
    }
    while (served < 4 * LIMIT) serve(&w, &a, served++);
    end_actor(&w, creation);
    forget(&s, &a);
    leave_session(&w);
    end_session(&s);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    RUN(test_limit);
    RUN(test_many_with_a_limit);
    printf("ok\n");
    return 0;
}
