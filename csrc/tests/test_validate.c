/* The full check of a message: each kind of fault is found, and named. */
#include "../validate.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static PrText text(const char *string) {
    return (PrText){(const uint8_t *)string, strlen(string)};
}

static int is_utf8(const char *string) {
    return pr_utf8_is_valid((const uint8_t *)string, strlen(string));
}

static void test_utf8(void) {
    assert(is_utf8(""));
    assert(is_utf8("plain text that is longer than eight bytes"));
    assert(is_utf8("h\xc3\xa9, \xe2\x82\xac, \xf0\x9f\x98\x80, \xf4\x8f\xbf\xbf"));
    assert(is_utf8("\xed\x9f\xbf\xee\x80\x80"));
    assert(!is_utf8("\x80"));
    assert(!is_utf8("\xc0\xaf"));
    assert(!is_utf8("\xe0\x80\xaf"));
    assert(!is_utf8("\xf0\x80\x80\xaf"));
    assert(!is_utf8("\xed\xa0\x80"));
    assert(!is_utf8("\xf4\x90\x80\x80"));
    assert(!is_utf8("\xf5\x80\x80\x80"));
    assert(!is_utf8("eight bytes and then \xe2\x82"));
    assert(!is_utf8("\xe2\x82x"));
}

static void test_itemsizes(void) {
    assert(pr_dtype_itemsize(text("<f8")) == 8);
    assert(pr_dtype_itemsize(text("|b1")) == 1);
    assert(pr_dtype_itemsize(text("<c16")) == 16);
    assert(pr_dtype_itemsize(text(">U3")) == 12);
    assert(pr_dtype_itemsize(text("|S0")) == 0);
    assert(pr_dtype_itemsize(text("<M8[25ns]")) == 8);
    assert(pr_dtype_itemsize(text("<M8")) == 8);
    assert(pr_dtype_itemsize(text("f4")) == 4);
    const char *const wrong[] = {"", "<", "f", "|O8", "<f8[ns]", "<M8[ns", "<f99999999999", "x4"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert(pr_dtype_itemsize(text(wrong[i])) == -1);
}

/* -- columns, each as the second node of a message of two ---------------------------------------
 */

static PrNode nodes[4];

static PrMessage message_of(PrNode first, uint32_t n_children) {
    nodes[0] = first;
    nodes[0].child = 1;
    nodes[0].n_children = n_children;
    PrMessage m;
    memset(&m, 0, sizeof m);
    m.n_nodes = 1 + n_children;
    m.nodes = nodes;
    return m;
}

static int is_sound(PrNode first, uint32_t n_children) {
    PrMessage m = message_of(first, n_children);
    int result = pr_message_validate(&m);
    assert((result == 0) == (m.error == NULL));
    return result == 0;
}

static int offsets_are_sound(const int32_t *offsets, int64_t rows, int64_t child_rows) {
    int64_t wide[4];
    for (int64_t i = 0; i <= rows; i++) wide[i] = offsets[i];
    nodes[1] = (PrNode){.kind = PR_NULL, .rows = child_rows};
    PrNode list = {.kind = PR_LIST, .rows = rows, .a = (const uint8_t *)offsets};
    PrNode large = {.kind = PR_LIST, .large = 1, .rows = rows, .a = (const uint8_t *)wide};
    int sound = is_sound(list, 1);
    assert(is_sound(large, 1) == sound);
    return sound;
}

static void test_offsets(void) {
    assert(offsets_are_sound((int32_t[]){0, 2, 2, 5}, 3, 5));
    assert(!offsets_are_sound((int32_t[]){1, 2, 2, 5}, 3, 5));
    assert(!offsets_are_sound((int32_t[]){0, 3, 2, 5}, 3, 5));
    assert(!offsets_are_sound((int32_t[]){0, 2, 2, 4}, 3, 5));
    assert(!offsets_are_sound((int32_t[]){0, -1, 2, 5}, 3, 5));
    assert(offsets_are_sound((int32_t[]){0}, 0, 0));
    assert(!offsets_are_sound((int32_t[]){0}, 0, 1));
}

static void test_strings(void) {
    PrNode n = {.kind = PR_UTF8,
                .rows = 2,
                .data_size = 3,
                .a = (const uint8_t *)(int32_t[]){0, 1, 3},
                .b = (const uint8_t *)"h\xc3\xa9"};
    assert(is_sound(n, 0));
    n.a = (const uint8_t *)(int32_t[]){0, 2, 3};
    assert(!is_sound(n, 0));
    n.kind = PR_BYTES;
    assert(is_sound(n, 0));
    n.data_size = 4;
    assert(!is_sound(n, 0));
}

static void test_unions(void) {
    const int8_t type_ids[] = {0, 1, 0};
    const int32_t offsets[] = {0, 0, 1};
    PrNode n = {
        .kind = PR_UNION, .rows = 3, .a = (const uint8_t *)type_ids, .b = (const uint8_t *)offsets};
    nodes[1] = (PrNode){.kind = PR_NULL, .rows = 2};
    nodes[2] = (PrNode){.kind = PR_NULL, .rows = 1};
    assert(is_sound(n, 2));
    assert(!is_sound(n, 1));
    n.b = (const uint8_t *)(int32_t[]){1, 0, 0};
    assert(!is_sound(n, 2));
    n.b = (const uint8_t *)offsets;
    nodes[1].rows = 1;
    assert(!is_sound(n, 2));
    n.a = (const uint8_t *)(int8_t[]){0, -1, 0};
    assert(!is_sound(n, 2));
}

static void test_indices(void) {
    PrNode n = {.kind = PR_DICTIONARY, .rows = 2, .a = (const uint8_t *)(int32_t[]){1, 0}};
    nodes[1] = (PrNode){.kind = PR_UTF8, .rows = 2, .a = (const uint8_t *)(int32_t[]){0, 0, 0}};
    assert(is_sound(n, 1));
    n.a = (const uint8_t *)(int32_t[]){2, 0};
    assert(!is_sound(n, 1));
    n.a = (const uint8_t *)(int32_t[]){-1, 0};
    assert(!is_sound(n, 1));
    /* A negative buffer is out of band; a negative tensor, global or reference is nothing. */
    n.kind = PR_BUFFER;
    n.rows = 1;
    assert(is_sound(n, 0));
    const uint8_t kinds[] = {PR_NDARRAY, PR_GLOBAL, PR_REF};
    for (size_t i = 0; i < sizeof kinds; i++) {
        n.kind = kinds[i];
        assert(!is_sound(n, 0));
    }
}

static void test_records(void) {
    PrNode n = {.kind = PR_TUPLE_RECORD, .rows = 2};
    nodes[1] = nodes[2] = (PrNode){.kind = PR_NULL, .rows = 2};
    assert(is_sound(n, 2));
    nodes[2].rows = 1;
    assert(!is_sound(n, 2));
}

/* -- tensors ----------------------------------------------------------------------------------- */

static int tensor_is_sound(const char *dtype, int64_t rows, int64_t columns, int64_t buffer_size) {
    static uint8_t bytes[256];
    PrMessage m = message_of((PrNode){.kind = PR_NULL, .rows = 1}, 0);
    PrText dtypes[] = {text(dtype)};
    int64_t shape[] = {rows, columns}, offset = 0;
    m.base = m.buffers = bytes;
    m.size = sizeof bytes;
    m.n_tensors = m.n_dtypes = m.n_buffers = 1;
    m.n_dims = 2;
    m.dtypes = dtypes;
    m.tensor_buffer = m.tensor_dtype = (int32_t[]){0};
    m.tensor_order = (int8_t[]){1};
    m.tensor_shape_offsets = (int32_t[]){0, 2};
    m.tensor_shapes = shape;
    m.buffer_offsets = &offset;
    m.buffer_sizes = &buffer_size;
    return pr_message_validate(&m) == 0;
}

static void test_tensors(void) {
    assert(tensor_is_sound("<f8", 2, 3, 48));
    assert(!tensor_is_sound("<f8", 2, 3, 40));
    assert(!tensor_is_sound("<f8", 2, 3, 1000));
    assert(!tensor_is_sound("<f8", -2, -3, 48));
    assert(!tensor_is_sound("<f8", INT64_MAX, 3, 48));
    assert(!tensor_is_sound("|O8", 2, 3, 48));
    assert(tensor_is_sound("<f8", 0, INT64_MAX, 0));
    assert(tensor_is_sound("|S0", 2, 3, 0));
}

int main(void) {
    test_utf8();
    test_itemsizes();
    test_offsets();
    test_strings();
    test_unions();
    test_indices();
    test_records();
    test_tensors();
    puts("validate: ok");
    return 0;
}
