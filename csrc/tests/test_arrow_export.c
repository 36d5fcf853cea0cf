/* The Arrow export: what it hands out lies inside the message, whatever the message's bytes, and
 * all of it is released. Run under sanitizers: each message is in an allocation of its own size. */
#include "../arrow_export.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arrow_messages.h"

static int released;

static void release_message(void *handle) {
    free(handle);
    released++;
}

static PrArrowSource *open_copy(const uint8_t *message, size_t size, size_t shift, int *status) {
    const char *error = NULL;
    uint8_t *copy = malloc(size + shift);
    memcpy(copy + shift, message, size);
    PrArrowSource *source =
        pr_arrow_open(copy + shift, size, release_message, copy, status, &error);
    assert(error != NULL || source != NULL);
    if (source == NULL) free(copy);
    return source;
}

/* -- a consumer that reads everything ---------------------------------------------------------- */

static volatile uint64_t sum; /* so that no read is optimized away */

static void read_bytes(const void *data, int64_t size) {
    for (int64_t i = 0; i < size; i++) sum += ((const uint8_t *)data)[i];
}

static int64_t offset_at(const void *offsets, int large, int64_t i) {
    return large ? ((const int64_t *)offsets)[i] : ((const int32_t *)offsets)[i];
}

/* Checks an offsets buffer and returns its last value. */
static int64_t read_offsets(const struct ArrowArray *array, int large) {
    int64_t last = offset_at(array->buffers[1], large, 0);
    for (int64_t i = 1; i <= array->length; i++) {
        int64_t next = offset_at(array->buffers[1], large, i);
        assert(0 <= last && last <= next);
        last = next;
    }
    return last;
}

static int64_t width_of(char format) {
    switch (format) {
    case 'c': return 1;
    case 's': return 2;
    case 'i': return 4;
    default: return 8;
    }
}

static void read_union(const struct ArrowArray *array) {
    for (int64_t i = 0; i < array->length; i++) {
        int type_id = ((const int8_t *)array->buffers[0])[i];
        int32_t offset = ((const int32_t *)array->buffers[1])[i];
        assert(0 <= type_id && type_id < array->n_children);
        assert(0 <= offset && offset < array->children[type_id]->length);
    }
}

static void read_buffers(const struct ArrowSchema *schema, const struct ArrowArray *array) {
    const char *format = schema->format;
    int64_t size;
    switch (format[0]) {
    case 'n': assert(array->null_count == array->length); return;
    case 'b': read_bytes(array->buffers[1], (array->length + 7) / 8); return;
    case 'u':
    case 'z':
    case 'U':
    case 'Z':
        size = read_offsets(array, format[0] < 'a');
        read_bytes(array->buffers[2], size);
        return;
    case '+': break;
    default: read_bytes(array->buffers[1], array->length * width_of(format[0])); return;
    }
    if (format[1] == 'l' || format[1] == 'L' || format[1] == 'm')
        assert(read_offsets(array, format[1] == 'L') <= array->children[0]->length);
    if (format[1] == 'w') assert(array->children[0]->length == 2 * array->length);
    if (format[1] == 'u') read_union(array);
    for (int64_t i = 0; format[1] == 's' && i < array->n_children; i++)
        assert(array->children[i]->length == array->length);
}

static int read_array(const struct ArrowSchema *schema, const struct ArrowArray *array) {
    int depth = 0;
    assert(array->offset == 0 && schema->n_children == array->n_children);
    sum += strlen(schema->name);
    read_buffers(schema, array);
    for (int64_t i = 0; i < array->n_children; i++) {
        int below = read_array(schema->children[i], array->children[i]);
        if (below > depth) depth = below;
    }
    assert((schema->dictionary == NULL) == (array->dictionary == NULL));
    if (schema->dictionary) {
        read_array(schema->dictionary, array->dictionary);
        for (int64_t i = 0; i < array->length; i++)
            assert((uint32_t)((const int32_t *)array->buffers[1])[i] < array->dictionary->length);
    }
    return depth + 1;
}

/* Exports, reads, releases; returns how deep the types are nested. */
static int consume(PrArrowSource *source) {
    struct ArrowSchema schema;
    struct ArrowArray array;
    assert(pr_arrow_schema(source, &schema) == PR_ARROW_OK);
    assert(pr_arrow_array(source, &array) == PR_ARROW_OK);
    pr_arrow_release(source);
    int depth = read_array(&schema, &array);
    schema.release(&schema);
    array.release(&array);
    assert(schema.release == NULL && array.release == NULL);
    return depth;
}

/* -- tests ------------------------------------------------------------------------------------- */

static void test_sound_messages(void) {
    for (size_t shift = 0; shift < 8; shift++) {
        int status;
        released = 0;
        PrArrowSource *source = open_copy(many_kinds, sizeof many_kinds, shift, &status);
        assert(source != NULL && status == PR_ARROW_OK);
        consume(source);
        assert(released == 1);
    }
}

static void test_deep_types_are_cut(void) {
    int status;
    PrArrowSource *source = open_copy(deep_lists, sizeof deep_lists, 0, &status);
    assert(source->n_continued > 0);
    assert(consume(source) < 64);
}

static void test_scalars(void) {
    static const struct {
        const char *bytes;
        size_t size;
        int sound;
    } messages[] = {
        {"\x10", 1, 1},
        {"\x10x", 2, 0},
        {"\x11", 1, 1},
        {"\x12", 1, 1},
        {"\x13", 1, 0},
        {"\x13\x80", 2, 1},
        {"\x13\x80\x80\x80\x80\x80\x80\x80\x80\x01", 10, 1},
        {"\x14\0\0\0\0\0\0\0", 8, 0},
        {"\x14\0\0\0\0\0\0\0\x40", 9, 1},
        {"\x15", 1, 1},
        {"\x15h\xc3\xa9", 4, 1},
        {"\x15h\xc3", 3, 0},
        {"\x16\xed\xa0\x80", 4, 1},
        {"\x17\xff", 2, 1},
        {"\x18", 1, 0},
        {"\x1f", 1, 0},
    };
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
        int status;
        PrArrowSource *source =
            open_copy((const uint8_t *)messages[i].bytes, messages[i].size, 0, &status);
        assert((source != NULL) == messages[i].sound);
        if (source) consume(source);
    }
}

/* Each byte replaced in turn: either the export refuses, or all it hands out can be read. */
static void test_altered_messages(void) {
    static const uint8_t changes[] = {0x01, 0x02, 0x40, 0x80, 0xff};
    uint8_t altered[sizeof many_kinds];
    int refused = 0;
    for (size_t at = 1; at < sizeof many_kinds; at++) {
        for (size_t c = 0; c < sizeof changes; c++) {
            int status;
            memcpy(altered, many_kinds, sizeof altered);
            altered[at] ^= changes[c];
            PrArrowSource *source = open_copy(altered, sizeof altered, 0, &status);
            if (source) consume(source);
            else refused++;
        }
    }
    assert(refused > 0);
    for (size_t size = 0; size < sizeof many_kinds; size++) {
        int status;
        assert(open_copy(many_kinds, size, 0, &status) == NULL && status == PR_ARROW_INVALID);
    }
}

/* Several bytes at once, at random but the same in each run. */
static void test_mangled_messages(void) {
    uint8_t mangled[sizeof many_kinds];
    uint64_t random = 88172645463325252u;
    for (int i = 0; i < 20000; i++) {
        int status;
        memcpy(mangled, many_kinds, sizeof mangled);
        for (int changes = 1 + i % 4; changes > 0; changes--) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            mangled[random % sizeof mangled] = (uint8_t)(random >> 32) & (i % 2 ? 0x07 : 0xff);
        }
        PrArrowSource *source = open_copy(mangled, sizeof mangled, 0, &status);
        if (source) consume(source);
    }
}

static void test_children_outlive_their_parent(void) {
    int status;
    struct ArrowArray batch, moved;
    released = 0;
    PrArrowSource *source = open_copy(many_kinds, sizeof many_kinds, 0, &status);
    assert(pr_arrow_array(source, &batch) == PR_ARROW_OK);
    pr_arrow_release(source);
    moved = *batch.children[2]; /* the buffers */
    batch.children[2]->release = NULL;
    batch.release(&batch);
    assert(released == 0);
    read_bytes(moved.children[0]->children[1]->buffers[2], 16);
    moved.release(&moved);
    assert(released == 1);
}

static void *release_on_a_thread(void *array) {
    ((struct ArrowArray *)array)->release(array);
    return NULL;
}

static void test_release_on_threads(void) {
    enum { THREADS = 8 };
    int status;
    pthread_t threads[THREADS];
    struct ArrowArray arrays[THREADS];
    released = 0;
    PrArrowSource *source = open_copy(many_kinds, sizeof many_kinds, 0, &status);
    for (int i = 0; i < THREADS; i++) assert(pr_arrow_array(source, &arrays[i]) == PR_ARROW_OK);
    pr_arrow_release(source);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, release_on_a_thread, &arrays[i]);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    assert(released == 1);
}

int main(void) {
    test_sound_messages();
    test_deep_types_are_cut();
    test_scalars();
    test_altered_messages();
    test_mangled_messages();
    test_children_outlive_their_parent();
    test_release_on_threads();
    puts("arrow export: ok");
    return 0;
}
