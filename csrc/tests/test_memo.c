/* The memo: what was put is found, and a table that was large once is not for ever. */
#include "../memo.h"
#include "runtime.h"

enum { MANY = 10000, FEW = 10, MESSAGES = 100 };

static char objects[MANY * 16];

static void fill(PrMemo *m, int n) {
    for (int i = 0; i < n; i++) {
        EQUAL(pr_memo_get(m, &objects[16 * i], NULL), -1);
        EQUAL(pr_memo_add(m, &objects[16 * i], NULL), i);
    }
    for (int i = 0; i < n; i++) EQUAL(pr_memo_get(m, &objects[16 * i], NULL), i);
}

static void test_messages_of_all_sizes(void) {
    PrMemo m = {0};
    for (int i = 0; i < MESSAGES; i++) {
        fill(&m, i * 7919 % 3000);
        pr_memo_clear(&m);
        EQUAL(m.n_entries, 0);
    }
    pr_memo_free(&m);
}

static void test_small_after_large(void) {
    PrMemo m = {0};
    fill(&m, MANY);
    uint32_t large = m.mask;
    pr_memo_clear(&m);
    for (int i = 0; i < 3; i++) { /* one that is used now and then stays */
        for (int k = 0; k < 4; k++) {
            fill(&m, FEW);
            pr_memo_clear(&m);
        }
        EQUAL(m.mask, large);
        fill(&m, MANY);
        pr_memo_clear(&m);
    }
    for (int i = 0; i < MESSAGES; i++) {
        fill(&m, FEW);
        pr_memo_clear(&m);
    }
    CHECK(m.mask && m.mask < 1024);
    pr_memo_free(&m);
}

int main(void) {
    RUN(test_messages_of_all_sizes);
    RUN(test_small_after_large);
    return 0;
}
