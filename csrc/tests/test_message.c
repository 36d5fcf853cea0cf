/* Parsing: positions of columns, the tree of nodes, memo and buffers; every fault is found. */
#include "../message.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -- making messages -------------------------------------------------------------------------- */

/* A message that is being written; the description is kept apart until it is complete. */
typedef struct {
    _Alignas(64) uint8_t bytes[8192];
    size_t size;
    uint8_t description[4096];
    size_t described;
} Draft;

static void describe(Draft *d, const void *bytes, size_t size) {
    memcpy(d->description + d->described, bytes, size);
    d->described += size;
}

#define DESCRIBE(d, ...)                       \
    do {                                       \
        const uint8_t given[] = {__VA_ARGS__}; \
        describe(d, given, sizeof given);      \
    } while (0)

static void pad(Draft *d, size_t to) {
    while (d->size % to != 0) d->bytes[d->size++] = 0;
}

static void column(Draft *d, const void *bytes, size_t size) {
    if (size > 0) memcpy(d->bytes + d->size, bytes, size);
    d->size += size;
    pad(d, 8);
}

#define COLUMN(d, type, ...)                \
    do {                                    \
        const type given[] = {__VA_ARGS__}; \
        column(d, given, sizeof given);     \
    } while (0)

/* Puts prefix and description in front of the columns, whose writing starts here. */
static void begin_columns(Draft *d) {
    uint32_t described = (uint32_t)d->described;
    d->bytes[0] = PR_COLUMNS_BYTE;
    memcpy(d->bytes + 4, &described, 4);
    memcpy(d->bytes + 16, d->description, d->described);
    d->size = 16 + d->described;
    pad(d, 8);
}

static void finish(Draft *d) {
    uint64_t size = d->size;
    memcpy(d->bytes + 8, &size, 8);
}

/* The list ['a', 'bc', 'a'] with a DICTIONARY below the list. */
static Draft list_of_strings(void) {
    Draft d = {0};
    DESCRIBE(&d, 3, 0, 0, 0, 0, 0, 0);
    DESCRIBE(&d, PR_LIST, 1, PR_DICTIONARY, 3, PR_UTF8, 2, 3);
    begin_columns(&d);
    COLUMN(&d, int32_t, 0, 3);
    COLUMN(&d, int32_t, 0, 1, 0);
    COLUMN(&d, int32_t, 0, 1, 3);
    column(&d, "abc", 3);
    finish(&d);
    return d;
}

/* A list of two lists, the second of which holds a reference to the first, and two buffers. */
static Draft with_memo_and_buffers(void) {
    Draft d = {0};
    DESCRIBE(&d, 4, 0, 0, 0, 0, 2, 3);
    DESCRIBE(&d, PR_LIST, 1, PR_LIST, 3, PR_UNION, 2, 1, PR_REF, 2);
    begin_columns(&d);
    COLUMN(&d, int32_t, 0, 3);
    COLUMN(&d, int32_t, 0, 0, 1, 2);
    COLUMN(&d, int8_t, 0, 0);
    COLUMN(&d, int32_t, 0, 1);
    COLUMN(&d, int32_t, 0, 1);
    COLUMN(&d, int64_t, 0, 128);
    COLUMN(&d, int64_t, 100, 3);
    COLUMN(&d, int32_t, 1, 1, 1);
    COLUMN(&d, int64_t, 0, 1, 2);
    COLUMN(&d, int32_t, 1, 0, 1);
    pad(&d, 64);
    d.size += 192;
    finish(&d);
    return d;
}

/* -- checks ----------------------------------------------------------------------------------- */

static int parses(const Draft *d) {
    static PrMessage m;
    int status = pr_message_parse(&m, d->bytes, d->size);
    if (status == 0) status = pr_message_check(&m);
    assert(status == 0 || (status == -1 && m.error != NULL));
    pr_message_free(&m);
    return status == 0;
}

static void test_varint(void) {
    const uint8_t most[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1};
    const uint8_t more[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2};
    const uint8_t *at = most;
    uint64_t value;
    assert(pr_varint(&at, most + sizeof most, &value) == 0 && value == UINT64_MAX);
    assert(at == most + sizeof most);
    at = more;
    assert(pr_varint(&at, more + sizeof more, &value) == -1);
    at = most;
    assert(pr_varint(&at, most + 9, &value) == -1);
}

static void test_positions(void) {
    Draft d = list_of_strings();
    PrMessage m;
    assert(pr_message_parse(&m, d.bytes, d.size) == 0);
    assert(m.size == d.size && m.n_nodes == 3 && m.record_rows == 0 && m.head_size == d.size);
    assert(m.nodes[0].kind == PR_LIST && m.nodes[0].child == 1 && m.nodes[0].n_children == 1);
    assert(m.nodes[2].parent == 1 && m.nodes[2].data_size == 3);
    assert(memcmp(m.nodes[2].b, "abc", 3) == 0);
    int64_t begin, end;
    assert(pr_range(&m.nodes[2], 1, 3, &begin, &end) == 0 && begin == 1 && end == 3);
    assert(pr_range(&m.nodes[2], 1, 2, &begin, &end) == -1);
    pr_message_free(&m);
}

static void test_what_follows_is_ignored(void) {
    Draft d = list_of_strings();
    d.size += 24;
    assert(parses(&d));
}

static void test_cut_off(void) {
    Draft drafts[] = {list_of_strings(), with_memo_and_buffers()};
    for (size_t i = 0; i < 2; i++) {
        assert(parses(&drafts[i]));
        for (size_t size = 0; size < drafts[i].size; size++) {
            /* A copy of just that size, so that the sanitizer sees every byte too many. */
            uint8_t *copy = malloc(size > 0 ? size : 1);
            PrMessage m;
            memcpy(copy, drafts[i].bytes, size);
            assert(pr_message_parse(&m, copy, size) == -1);
            pr_message_free(&m);
            if (size >= 16) {
                uint64_t claimed = size;
                memcpy(copy + 8, &claimed, 8);
                if (pr_message_parse(&m, copy, size) == 0) (void)pr_message_check(&m);
                pr_message_free(&m);
            }
            free(copy);
        }
    }
}

static void test_unaligned(void) {
    Draft d = with_memo_and_buffers();
    uint8_t *shifted = malloc(d.size + 3);
    PrMessage m;
    memcpy(shifted + 3, d.bytes, d.size);
    assert(pr_message_parse(&m, shifted + 3, d.size) == 0);
    uint8_t *head = malloc(m.head_size);
    memcpy(head, shifted + 3, m.head_size);
    pr_message_realign(&m, head);
    assert(pr_message_check(&m) == 0);
    const uint8_t *data;
    uint64_t size;
    assert(pr_message_buffer(&m, 1, &data, &size) == 0 && size == 3);
    assert(data == m.buffers + 128 && m.buffers > shifted && m.buffers < shifted + d.size);
    assert(pr_memo_lower_bound(&m, &m.nodes[1], 2) == 2);
    pr_message_free(&m);
    free(head);
    free(shifted);
}

static void test_memo(void) {
    Draft d = with_memo_and_buffers();
    PrMessage m;
    assert(pr_message_parse(&m, d.bytes, d.size) == 0 && m.n_numbers == 0);
    assert(m.nodes[1].memo_begin == 0 && m.nodes[1].memo_end == 3);
    assert(m.nodes[0].memo_begin == m.nodes[0].memo_end);
    assert(m.nodes[0].has_refs && m.nodes[1].has_refs && m.nodes[3].has_refs);
    assert(pr_message_check(&m) == 0 && pr_message_check(&m) == 0);
    assert(m.n_numbers == 2 && m.memo_first[0] == 1 && m.memo_first[1] == 0);
    assert(pr_memo_lower_bound(&m, &m.nodes[1], 1) == 1);
    assert(pr_memo_lower_bound(&m, &m.nodes[1], 3) == 3);
    pr_message_free(&m);
}

static int32_t *memo_column(Draft *d, int which) {
    PrMessage m;
    assert(pr_message_parse(&m, d->bytes, d->size) == 0);
    const void *columns[] = {m.memo_node, m.memo_number};
    ptrdiff_t offset = (const uint8_t *)columns[which] - d->bytes;
    pr_message_free(&m);
    return (int32_t *)(void *)(d->bytes + offset);
}

static void test_wrong_memos(void) {
    const struct {
        int column, entry, value;
    } wrong[] = {
        {0, 0, 2},             /* not sorted; a UNION is no object either */
        {0, 2, 3},             /* a REF is no object */
        {0, 2, 4},             /* no such node */
        {0, 2, -1}, {0, 2, 0}, /* no such row */
        {1, 1, 2},             /* a gap */
        {1, 1, 3},             /* larger than can be */
        {1, 1, -1},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        Draft d = with_memo_and_buffers();
        memo_column(&d, wrong[i].column)[wrong[i].entry] = wrong[i].value;
        assert(!parses(&d));
    }
}

static void test_wrong_buffers(void) {
    const int64_t wrong[][4] = {
        {0, 64, 100, 3},  /* overlap */
        {0, 130, 100, 3}, /* not aligned */
        {128, 0, 3, 3},   /* not ascending */
        {0, 192, 100, 1}, /* outside */
        {0, 128, 100, 65}, {0, 128, -1, 3}, {-64, 128, 3, 3}, {0, 128, INT64_MAX, 3},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        Draft d = with_memo_and_buffers();
        PrMessage m;
        assert(pr_message_parse(&m, d.bytes, d.size) == 0);
        memcpy(d.bytes + ((const uint8_t *)m.buffer_offsets - d.bytes), wrong[i], 16);
        memcpy(d.bytes + ((const uint8_t *)m.buffer_sizes - d.bytes), wrong[i] + 2, 16);
        assert(pr_message_check(&m) == -1);
        pr_message_free(&m);
    }
}

/* Descriptions that are wrong in themselves, each with room for any columns. */
static void test_wrong_descriptions(void) {
    const struct {
        uint8_t size, bytes[24];
    } wrong[] = {
        {7, {0, 0, 0, 0, 0, 0, 0}},             /* no nodes */
        {9, {1, 0, 0, 0, 0, 0, 0, PR_NULL, 0}}, /* no object */
        {9, {1, 0, 0, 0, 0, 0, 0, 9, 1}},       /* no such kind */
        {9, {1, 0, 0, 0, 0, 0, 0, 32, 1}},
        {9, {1, 0, 0, 0, 0, 0, 0, PR_NULL | PR_LARGE, 1}},              /* no offsets */
        {9, {1, 0, 0, 0, 0, 0, 0, PR_LIST, 1}},                         /* no child */
        {11, {2, 0, 0, 0, 0, 0, 0, PR_NULL, 1, PR_NULL, 1}},            /* no parent */
        {10, {1, 0, 0, 0, 0, 0, 0, PR_NULL, 1, 0}},                     /* too long */
        {9, {1, 0, 0, 0, 1, 0, 0, PR_NULL, 1}},                         /* dimensions, no tensors */
        {12, {2, 0, 0, 0, 0, 0, 0, PR_DICTIONARY, 1, PR_INT8, 1}},      /* values are not str */
        {12, {2, 0, 0, 0, 0, 0, 0, PR_TUPLE_RECORD, 2, 1, PR_NULL, 1}}, /* lengths differ */
        {10, {1, 0, 0, 0, 0, 0, 0, PR_TUPLE_RECORD, 2, 0}},             /* no fields */
        {10, {1, 0, 0, 0, 0, 0, 0, PR_DICT_RECORD, 2, 0}},
        {12, {2, 0, 0, 0, 0, 0, 0, PR_INSTANCE, 1, 0, PR_NULL, 1}}, /* no such global */
        {13, {2, 0, 0, 0, 0, 0, 0, PR_REDUCE, 1, PR_PART_ARGUMENTS, 1, PR_NULL, 1}},
        {13, {2, 0, 0, 0, 0, 0, 0, PR_REDUCE, 1, PR_PART_FUNCTION, 0, PR_NULL, 1}},
        {13, {2, 0, 0, 0, 0, 0, 0, PR_REDUCE, 1, 64 | PR_PART_ARGUMENTS, 0, PR_NULL, 1}},
        {14, {2, 0, 0, 0, 0, 0, 0, PR_UNION, 1, 1, PR_UNION, 1, 0}}, /* a union in a union */
        {11, {1, 0, 0, 0, 0, 0, 0, PR_UNION, 1, 0x80, 1}},           /* 128 members */
        {10, {1, 0, 0, 0, 0, 0, 0, PR_UTF8, 1, 0xff}},               /* cut off */
        {18,
         {1, 0, 0, 0, 0, 0, 0, PR_NULL, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}},
        {16, {1, 0, 0, 0, 0, 0, 0, PR_INT64, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20}},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        Draft d = {0};
        describe(&d, wrong[i].bytes, wrong[i].size);
        begin_columns(&d);
        d.size += 64;
        finish(&d);
        assert(!parses(&d));
    }
}

/* Records of 256 rows, nested so often, around a column of None, and a buffer of five bytes if
 * asked for. What stands before the buffer has `head` bytes, if its columns need no more. */
static Draft nested_records(uint8_t depth, size_t head, int with_buffer) {
    Draft d = {0};
    DESCRIBE(&d, depth + 1, 0, 0, 0, 0, with_buffer, 0);
    for (int i = 0; i < depth; i++) DESCRIBE(&d, PR_TUPLE_RECORD, 0x80, 2, 1);
    DESCRIBE(&d, PR_NULL, 0x80, 2);
    begin_columns(&d);
    d.size += 256 / 8;
    if (with_buffer) COLUMN(&d, int64_t, 0, 5);
    if (d.size < head) d.size = head;
    if (with_buffer) {
        pad(&d, 64);
        column(&d, "bytes", 5);
        pad(&d, 64);
    }
    finish(&d);
    return d;
}

/* A record has no column: without a byte a row, nested ones would multiply what the bytes hold. */
static void test_rows_of_records_take_a_byte(void) {
    for (uint8_t depth = 1; depth < 31; depth++) {
        size_t rows = (size_t)depth * 256;
        Draft exact = nested_records(depth, rows, 0);
        Draft less = nested_records(depth, rows - 8, 0), more = nested_records(depth, rows + 8, 0);
        PrMessage m;
        assert(pr_message_parse(&m, exact.bytes, exact.size) == 0);
        assert(m.record_rows == rows && m.head_size == rows && m.size == rows);
        pr_message_free(&m);
        assert(!parses(&less) && !parses(&more));
    }
}

static void test_buffers_begin_behind_the_rows_of_records(void) {
    for (uint8_t depth = 1; depth < 31; depth++) {
        size_t rows = (size_t)depth * 256;
        Draft exact = nested_records(depth, rows, 1), less = nested_records(depth, rows - 64, 1);
        PrMessage m;
        const uint8_t *data;
        uint64_t size;
        assert(pr_message_parse(&m, exact.bytes, exact.size) == 0);
        assert(m.head_size == rows && pr_message_buffer(&m, 0, &data, &size) == 0);
        assert(data == exact.bytes + rows && memcmp(data, "bytes", 5) == 0);
        pr_message_free(&m);
        assert(!parses(&less));
    }
}

/* Numbers of rows whose sum would not fit into 64 bits are refused before they are added up. */
static void test_impossible_rows(void) {
    const struct {
        uint8_t size, bytes[24];
    } wrong[] = {
        {14, {2, 0, 0, 0, 0, 0, 0, PR_TUPLE_RECORD, 0x80, 1, 1, PR_NULL, 0x80, 1}},
        {15, {3, 0, 0, 0, 0, 0, 0, PR_TUPLE_RECORD, 64, 1, PR_TUPLE_RECORD, 64, 1, PR_NULL, 64}},
        {20, {2,    0,    0,    0,    0,    0,    0, PR_TUPLE_RECORD, 0xff, 0xff, 0xff,
              0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, PR_NULL,         1}},
        {21, {2,    0,    0,    0,    0,    0, 0, PR_TUPLE_RECORD, 0xff, 0xff, 0xff, 0xff,
              0xff, 0xff, 0xff, 0xff, 0xff, 1, 1, PR_NULL,         1}},
        {17, {1, 0, 0, 0, 0, 0, 0, PR_INT64, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20}},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        Draft d = {0};
        PrMessage m;
        describe(&d, wrong[i].bytes, wrong[i].size);
        begin_columns(&d);
        d.size += 64;
        finish(&d);
        assert(pr_message_parse(&m, d.bytes, d.size) == -1);
        assert(strstr(m.error, "than the message could hold"));
        pr_message_free(&m);
    }
}

/* More nodes and names than fit into the struct. */
static void test_large_description(void) {
    enum { FIELDS = 100 };
    Draft d = {0};
    DESCRIBE(&d, FIELDS + 1, 0, 0, 0, 0, 0, 0);
    DESCRIBE(&d, PR_DICT_RECORD, 1, FIELDS);
    for (uint8_t i = 0; i < FIELDS; i++) DESCRIBE(&d, 2, 'f', i);
    for (uint8_t i = 0; i < FIELDS; i++) DESCRIBE(&d, PR_INT8, 1);
    begin_columns(&d);
    for (uint8_t i = 0; i < FIELDS; i++) COLUMN(&d, uint8_t, i);
    finish(&d);
    PrMessage m;
    assert(pr_message_parse(&m, d.bytes, d.size) == 0);
    assert(m.n_names == FIELDS && m.names[99].size == 2 && m.names[99].data[1] == 99);
    assert(m.storage != NULL && m.nodes[100].a[0] == 99);
    pr_message_free(&m);
}

static void test_mutations(void) {
    uint64_t random = 1;
    for (int i = 0; i < 200000; i++) {
        Draft d = i % 2 ? list_of_strings() : with_memo_and_buffers();
        for (int change = 0; change < 1 + i % 3; change++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            d.bytes[16 + (random >> 33) % (d.size - 16)] = (uint8_t)(random >> 56);
        }
        uint8_t *copy = malloc(d.size);
        PrMessage m;
        memcpy(copy, d.bytes, d.size);
        if (pr_message_parse(&m, copy, d.size) == 0) (void)pr_message_check(&m);
        pr_message_free(&m);
        free(copy);
    }
}

int main(void) {
    test_varint();
    test_positions();
    test_what_follows_is_ignored();
    test_cut_off();
    test_unaligned();
    test_memo();
    test_wrong_memos();
    test_wrong_buffers();
    test_wrong_descriptions();
    test_rows_of_records_take_a_byte();
    test_buffers_begin_behind_the_rows_of_records();
    test_impossible_rows();
    test_large_description();
    test_mutations();
    puts("message: ok");
    return 0;
}
