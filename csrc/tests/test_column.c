/* The builders: promotion, offsets, planning and writing, checked by parsing what was written. */
#include "column.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "memo.h"
#include "utf8.h"
#include "warm.h"

#undef NDEBUG
#define CHECK(x)                                                    \
    do {                                                            \
        if (!(x)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
            abort();                                                \
        }                                                           \
    } while (0)

static uint8_t *written(PrBuilder *b, PrMessage *m) {
    uint8_t *out;
    CHECK(pr_plan(b) == 0);
    CHECK(b->total_size % 8 == 0 && b->head_size <= b->total_size);
    out = aligned_alloc(64, (b->total_size + 63) / 64 * 64);
    CHECK(out);
    memset(out, 0xee, b->total_size);
    pr_write_head(b, out);
    if (pr_message_parse(m, out, b->total_size)) {
        fprintf(stderr, "%s\n", m->error);
        abort();
    }
    return out;
}

static void put_int(PrBuilder *b, PrSlot *slot, int64_t v) {
    PrColumn *c = pr_find(slot, PR_INT64, 0, 0);
    if (!c) c = pr_add(b, slot, PR_INT64, 0, 0, 0);
    CHECK(c && pr_int_row(slot, c, v) == 0);
}

static void put_text(PrBuilder *b, PrSlot *slot, const char *text) {
    PrColumn *c = pr_find(slot, PR_UTF8, 0, 0);
    if (!c) c = pr_add(b, slot, PR_UTF8, 0, 0, 0);
    CHECK(c && pr_data_row(slot, c, text, (int64_t)strlen(text)) == 0);
}

/* A list of n ints of each width is the narrowest column that holds them. */
static void test_int_widths(void) {
    static const int64_t largest[] = {INT8_MAX, INT16_MAX, INT32_MAX, INT64_MAX};
    static const int kinds[] = {PR_INT8, PR_INT16, PR_INT32, PR_INT64};
    PrBuilder b;
    int w;
    CHECK(pr_builder_init(&b) == 0);
    for (w = 0; w < 8; w++) {
        int64_t v = w < 4 ? largest[w] : -largest[w - 4] - 1;
        PrMessage m;
        uint8_t *out;
        PrColumn *list = pr_add(&b, &b.root, PR_LIST, PR_INTS, 0, 1);
        CHECK(list && pr_list_row(&b.root, list, 3) == 0);
        put_int(&b, &list->slots[0], 0);
        put_int(&b, &list->slots[0], v);
        put_int(&b, &list->slots[0], -1);
        out = written(&b, &m);
        CHECK(m.n_nodes == 2 && m.nodes[1].kind == kinds[w & 3] && m.nodes[1].rows == 3);
        CHECK(pr_offset(&m.nodes[0], m.nodes[0].a, 1) == 3);
        pr_message_free(&m);
        free(out);
        pr_builder_reset(&b, 1 << 20);
    }
    pr_builder_free(&b);
}

/* The first misfit puts a UNION above the old column, which stays where it is. */
static void test_promotion(void) {
    PrBuilder b;
    PrMessage m;
    uint8_t *out;
    PrColumn *ints;
    int i;
    CHECK(pr_builder_init(&b) == 0);
    put_int(&b, &b.root, 7);
    put_int(&b, &b.root, 8);
    ints = b.root.column;
    put_text(&b, &b.root, "text");
    put_int(&b, &b.root, 9);
    CHECK(b.root.column->kind == PR_UNION && b.root.column->members[0] == ints && ints->rows == 3);
    out = written(&b, &m);
    CHECK(m.nodes[0].kind == PR_UNION && m.nodes[0].rows == 4 && m.nodes[0].n_children == 2);
    for (i = 0; i < 4; i++) {
        static const uint8_t types[] = {0, 0, 1, 0};
        static const int32_t offsets[] = {0, 1, 0, 2};
        CHECK(m.nodes[0].a[i] == types[i]);
        CHECK(((const int32_t *)(const void *)m.nodes[0].b)[i] == offsets[i]);
    }
    pr_message_free(&m);
    free(out);
    pr_builder_free(&b);
}

/* A UTF8 column that repeats is two nodes, and memo rows are of the values. */
static void test_dictionary(void) {
    PrBuilder b;
    PrMessage m;
    uint8_t *out;
    PrColumn *texts;
    PrMemoRow memo = {0};
    CHECK(pr_builder_init(&b) == 0);
    put_text(&b, &b.root, "one");
    put_text(&b, &b.root, "two");
    texts = b.root.column;
    CHECK(pr_make_repeated(texts) == 0 && pr_bytes_push32(&texts->c, 0) == 0);
    put_int(&b, &b.root, 1);
    memo.column = texts;
    memo.row = 1;
    CHECK(pr_bytes_append(&b.memo, &memo, sizeof memo) == 0);
    b.n_numbers = 1;
    out = written(&b, &m);
    CHECK(m.nodes[0].kind == PR_UNION && m.nodes[1].kind == PR_DICTIONARY && m.nodes[1].rows == 3);
    CHECK(m.nodes[3].kind == PR_UTF8 && m.nodes[3].rows == 2 && m.memo_node[0] == 3);
    pr_message_free(&m);
    free(out);
    pr_builder_free(&b);
}

/* Offsets past 2^31 are widened in place. */
static void test_wide_offsets(void) {
    PrBuilder b;
    PrMessage m;
    uint8_t *out;
    PrColumn *c;
    CHECK(pr_builder_init(&b) == 0);
    c = pr_add(&b, &b.root, PR_LIST, PR_OTHER, 0, 1);
    CHECK(c && pr_list_row(&b.root, c, 5) == 0 && !c->large);
    CHECK(pr_list_row(&b.root, c, INT32_MAX) == 0 && c->large);
    CHECK(c->rows == 2 && c->a.size == 24);
    CHECK(((const int64_t *)(const void *)c->a.data)[1] == 5);
    CHECK(((const int64_t *)(const void *)c->a.data)[2] == 5 + (int64_t)INT32_MAX);
    CHECK(pr_plan(&b) == 0);
    out = aligned_alloc(64, (b.total_size + 63) / 64 * 64);
    CHECK(out);
    pr_write_head(&b, out);
    CHECK(pr_message_parse(&m, out, b.total_size) == 0 && m.nodes[0].large);
    pr_message_free(&m);
    free(out);
    pr_builder_free(&b);
}

/* Many columns, many messages: nothing of one is seen in the next. */
static void test_reuse(void) {
    PrBuilder b;
    int round, i;
    CHECK(pr_builder_init(&b) == 0);
    for (round = 0; round < 50; round++) {
        PrMessage m;
        uint8_t *out;
        PrSlot *slot = &b.root;
        for (i = 0; i < round * 7; i++) {
            PrColumn *list = pr_add(&b, slot, PR_LIST, PR_OTHER, 0, 1);
            CHECK(list && pr_list_row(slot, list, 1) == 0);
            slot = &list->slots[0];
        }
        put_text(&b, slot, "end");
        out = written(&b, &m);
        CHECK(m.n_nodes == (uint32_t)(round * 7 + 1));
        pr_message_free(&m);
        free(out);
        pr_builder_reset(&b, round % 2 ? 0 : 1 << 20);
    }
    pr_builder_free(&b);
}

static void test_memo(void) {
    enum { N = 20000 };
    static char objects[N];
    PrMemo m = {0};
    int round, i;
    for (round = 0; round < 4; round++) {
        int n = round % 2 ? 10 : N;
        for (i = 0; i < n; i++) {
            CHECK(pr_memo_get(&m, &objects[i], NULL) == -1);
            CHECK(pr_memo_add(&m, &objects[i], NULL) == i);
        }
        for (i = 0; i < n; i++) CHECK(pr_memo_get(&m, &objects[i], NULL) == i);
        pr_memo_clear(&m);
        for (i = 0; i < n; i++) CHECK(pr_memo_get(&m, &objects[i], NULL) == -1);
    }
    pr_memo_free(&m);
    /* The same address in two columns is two keys. */
    CHECK(pr_memo_add(&m, &objects[0], &objects[1]) == 0);
    CHECK(pr_memo_add(&m, &objects[0], &objects[2]) == 1);
    CHECK(pr_memo_get(&m, &objects[0], &objects[2]) == 1);
    CHECK(pr_memo_get(&m, &objects[0], &objects[3]) == -1);
    pr_memo_clear(&m);
    CHECK(pr_memo_get(&m, &objects[0], &objects[2]) == -1);
    pr_memo_free(&m);
}

static void test_utf8(void) {
    static const uint16_t two[] = {'a', 0xe9, 0x20ac, 0xd800};
    static const uint32_t four[] = {0x1f600, 'b', 0xdfff};
    static const uint8_t one[] = {'a', 0xff};
    uint8_t out[16];
    CHECK(pr_utf8_encode(out, one, 2, 1, 0) == 3 && memcmp(out, "a\xc3\xbf", 3) == 0);
    CHECK(pr_utf8_encode(out, two, 3, 2, 0) == 6 && memcmp(out, "a\xc3\xa9\xe2\x82\xac", 6) == 0);
    CHECK(pr_utf8_encode(out, two, 4, 2, 0) == -1);
    CHECK(pr_utf8_encode(out, two, 4, 2, 1) == 9 && memcmp(out + 6, "\xed\xa0\x80", 3) == 0);
    CHECK(pr_utf8_encode(out, four, 2, 4, 0) == 5 && memcmp(out,
                                                            "\xf0\x9f\x98\x80"
                                                            "b",
                                                            5) == 0);
    CHECK(pr_utf8_encode(out, four, 3, 4, 0) == -1);
    CHECK(!pr_has_surrogates(two, 3, 2) && pr_has_surrogates(two, 4, 2));
    CHECK(!pr_has_surrogates(four, 2, 4) && pr_has_surrogates(four, 3, 4));
}

static void test_warm(void) {
    size_t a, b, c;
    char *first = pr_warm_take(3 << 20, &a), *second, *third;
    CHECK(first && a >= 3 << 20);
    memset(first, 1, 3 << 20);
    pr_warm_give(first, a);
    CHECK(pr_warm_idle() == a);
    second = pr_warm_take(2 << 20, &b);
    CHECK(second == first && b == a && pr_warm_idle() == 0);
    third = pr_warm_take(3 << 20, &c);
    CHECK(third && third != second);
    pr_warm_give(second, b);
    pr_warm_give(third, c);
    CHECK(pr_warm_idle() == b + c);
    first = pr_warm_take((size_t)PR_WARM_LIMIT, &a); /* takes nothing that waits: all too small */
    CHECK(first && pr_warm_idle() == b + c);
    pr_warm_give(first, a); /* and, given back, drives the others out */
    CHECK(pr_warm_idle() == a);
    CHECK(pr_warm_take((size_t)-1, &a) == NULL);
}

int main(void) {
    test_int_widths();
    test_promotion();
    test_dictionary();
    test_wide_offsets();
    test_reuse();
    test_memo();
    test_utf8();
    test_warm();
    puts("test_column: passed");
    return 0;
}
