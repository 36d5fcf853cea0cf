/* Opening a message for export: checks, depths, and the small columns; see arrow_export.h. */
#include <stdlib.h>
#include <string.h>

#include "arrow_export.h"
#include "validate.h"

const PrArrowKind pr_arrow_kinds[PR_KIND_LIMIT] = {
    [PR_NULL] = {"NULL", "none", "n", "n", PR_ARROW_NULL},
    [PR_BOOL] = {"BOOL", "bool", "b", "b", PR_ARROW_VALUES},
    [PR_INT8] = {"INT8", "int", "c", "c", PR_ARROW_VALUES},
    [PR_INT16] = {"INT16", "int", "s", "s", PR_ARROW_VALUES},
    [PR_INT32] = {"INT32", "int", "i", "i", PR_ARROW_VALUES},
    [PR_INT64] = {"INT64", "int", "l", "l", PR_ARROW_VALUES},
    [PR_FLOAT64] = {"FLOAT64", "float", "g", "g", PR_ARROW_VALUES},
    [PR_COMPLEX128] = {"COMPLEX128", "complex", "+w:2", "+w:2", PR_ARROW_COMPLEX},
    [PR_UTF8] = {"UTF8", "str", "u", "U", PR_ARROW_BINARY},
    [PR_SURROGATES] = {"SURROGATES", "surrogates", "z", "Z", PR_ARROW_BINARY},
    [PR_BYTES] = {"BYTES", "bytes", "z", "Z", PR_ARROW_BINARY},
    [PR_BYTEARRAY] = {"BYTEARRAY", "bytearray", "z", "Z", PR_ARROW_BINARY},
    [PR_BIGINT] = {"BIGINT", "bigint", "z", "Z", PR_ARROW_BINARY},
    [PR_DICTIONARY] = {"DICTIONARY", "str", "i", "i", PR_ARROW_DICTIONARY},
    [PR_REF] = {"REF", "ref", "+s", "+s", PR_ARROW_INDEX},
    [PR_GLOBAL] = {"GLOBAL", "global", "+s", "+s", PR_ARROW_INDEX},
    [PR_BYTES_BUFFER] = {"BYTES_BUFFER", "bytes_buffer", "+s", "+s", PR_ARROW_INDEX},
    [PR_BYTEARRAY_BUFFER] = {"BYTEARRAY_BUFFER", "bytearray_buffer", "+s", "+s", PR_ARROW_INDEX},
    [PR_BUFFER] = {"BUFFER", "buffer", "+s", "+s", PR_ARROW_INDEX},
    [PR_BUFFER_WRITABLE] = {"BUFFER_WRITABLE", "buffer_writable", "+s", "+s", PR_ARROW_INDEX},
    [PR_NDARRAY] = {"NDARRAY", "ndarray", "+s", "+s", PR_ARROW_INDEX},
    [PR_LIST] = {"LIST", "list", "+l", "+L", PR_ARROW_LIST},
    [PR_TUPLE] = {"TUPLE", "tuple", "+l", "+L", PR_ARROW_LIST},
    [PR_SET] = {"SET", "set", "+l", "+L", PR_ARROW_LIST},
    [PR_FROZENSET] = {"FROZENSET", "frozenset", "+l", "+L", PR_ARROW_LIST},
    [PR_DICT] = {"DICT", "dict", NULL, NULL, PR_ARROW_MAP},
    [PR_DICT_RECORD] = {"DICT_RECORD", "dict_record", "+s", "+s", PR_ARROW_STRUCT},
    [PR_TUPLE_RECORD] = {"TUPLE_RECORD", "tuple_record", "+s", "+s", PR_ARROW_STRUCT},
    [PR_INSTANCE] = {"INSTANCE", "instance", "+s", "+s", PR_ARROW_STRUCT},
    [PR_REDUCE] = {"REDUCE", "reduce", "+s", "+s", PR_ARROW_STRUCT},
    [PR_UNION] = {"UNION", "union", NULL, NULL, PR_ARROW_UNION},
};

/* -- layouts ----------------------------------------------------------------------------------- */

/* Whether a column of dict keys may hold what Arrow calls null, which a map's keys must not. */
static int may_be_null(const PrArrowSource *source, uint32_t node) {
    const PrNode *n = &source->message.nodes[node];
    if (source->is_continued[node] || n->kind == PR_NULL) return 1;
    if (n->kind != PR_UNION) return 0;
    for (uint32_t c = n->child; c < n->child + n->n_children; c++)
        if (source->is_continued[c] || source->message.nodes[c].kind == PR_NULL) return 1;
    return 0;
}

PrArrowLayout pr_arrow_own_layout(const PrArrowSource *source, uint32_t node) {
    const PrNode *n = &source->message.nodes[node];
    if (n->kind == PR_DICT && (n->large || may_be_null(source, n->child))) return PR_ARROW_PAIRS;
    return pr_arrow_kinds[n->kind].layout;
}

PrArrowLayout pr_arrow_layout(const PrArrowSource *source, uint32_t node) {
    return source->is_continued[node] ? PR_ARROW_CONTINUED : pr_arrow_own_layout(source, node);
}

/* A parent comes before its children, so one pass in order finds every depth. */
static void find_depths(PrArrowSource *source) {
    const PrMessage *m = &source->message;
    for (uint32_t i = 1; i < m->n_nodes; i++) {
        const PrNode *n = &m->nodes[i];
        /* The items of a dict lie under a struct of their own. */
        int depth = source->depths[n->parent] + (m->nodes[n->parent].kind == PR_DICT ? 2 : 1);
        if (depth >= PR_ARROW_DEPTH && n->n_children > 0) {
            source->is_continued[i] = 1;
            source->continued[source->n_continued++] = i;
            depth = 0;
        }
        source->depths[i] = (uint8_t)depth;
    }
}

/* -- scalar messages --------------------------------------------------------------------------- */

static void set_scalar(PrArrowSource *source, int kind, const void *a) {
    source->scalar.kind = (uint8_t)kind;
    source->scalar.rows = 1;
    source->scalar.a = a;
}

static int scalar_bool(PrArrowSource *source, uint64_t size, int value) {
    source->scalar_values[0] = value;
    set_scalar(source, PR_BOOL, source->scalar_values);
    return size == 0 ? 0 : -1;
}

static int scalar_binary(PrArrowSource *source, int kind, const uint8_t *data, uint64_t size) {
    PrNode *n = &source->scalar;
    n->large = size > INT32_MAX;
    n->data_size = size;
    n->b = data;
    if (n->large) {
        source->scalar_values[1] = (int64_t)size;
    } else {
        int32_t offsets[2] = {0, (int32_t)size};
        memcpy(source->scalar_values, offsets, sizeof offsets);
    }
    set_scalar(source, kind, source->scalar_values);
    return 0;
}

/* The narrowest column that holds it, as a writer would choose. */
static int scalar_int(PrArrowSource *source, const uint8_t *data, uint64_t size) {
    if (size == 0) return -1;
    if (size > 8) return scalar_binary(source, PR_BIGINT, data, size);
    uint64_t bits = data[size - 1] & 0x80 ? UINT64_MAX : 0;
    for (uint64_t i = size; i-- > 0;) bits = bits << 8 | data[i];
    int64_t value = (int64_t)bits;
    int kind = value >= INT8_MIN && value <= INT8_MAX     ? PR_INT8
               : value >= INT16_MIN && value <= INT16_MAX ? PR_INT16
               : value >= INT32_MIN && value <= INT32_MAX ? PR_INT32
                                                          : PR_INT64;
    source->scalar_values[0] = value; /* little-endian: the low bytes come first */
    set_scalar(source, kind, source->scalar_values);
    return 0;
}

static int scalar_float(PrArrowSource *source, const uint8_t *data, uint64_t size) {
    if (size != 8) return -1;
    memcpy(source->scalar_values, data, 8);
    set_scalar(source, PR_FLOAT64, source->scalar_values);
    return 0;
}

/* Describes a scalar message as a columns message of one node and one row. */
static int parse_scalar(PrArrowSource *source, int tag, const uint8_t *data, uint64_t size) {
    PrMessage *m = &source->message;
    m->base = data;
    m->size = size;
    m->n_nodes = 1;
    m->nodes = &source->scalar;
    switch (tag) {
    case PR_TAG_NONE: set_scalar(source, PR_NULL, source->scalar_values); return size == 0 ? 0 : -1;
    case PR_TAG_FALSE:
    case PR_TAG_TRUE: return scalar_bool(source, size, tag == PR_TAG_TRUE);
    case PR_TAG_INT: return scalar_int(source, data, size);
    case PR_TAG_FLOAT: return scalar_float(source, data, size);
    case PR_TAG_STR: return scalar_binary(source, PR_UTF8, data, size);
    case PR_TAG_SURROGATES: return scalar_binary(source, PR_SURROGATES, data, size);
    case PR_TAG_BYTES: return scalar_binary(source, PR_BYTES, data, size);
    default: return -1;
    }
}

/* -- small columns ----------------------------------------------------------------------------- */

static void *zeroed(uint64_t count, size_t size) {
    return calloc(count ? count : 1, size);
}

/* One utf8 column of `count` texts, texts[stride * pick(i)]. */
static int join_texts(const PrText *texts, uint32_t stride, const int32_t *picks, uint32_t count,
                      int32_t **offsets, uint8_t **data) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        total += texts[(uint64_t)stride * (picks ? (uint32_t)picks[i] : i)].size;
        if (total > INT32_MAX) return PR_ARROW_TOO_LARGE;
    }
    *offsets = zeroed((uint64_t)count + 1, sizeof **offsets);
    *data = zeroed(total, 1);
    if (*offsets == NULL || *data == NULL) return PR_ARROW_NO_MEMORY;
    int32_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        const PrText *text = &texts[(uint64_t)stride * (picks ? (uint32_t)picks[i] : i)];
        if (text->size) memcpy(*data + at, text->data, text->size);
        at += (int32_t)text->size;
        (*offsets)[i + 1] = at;
    }
    return PR_ARROW_OK;
}

/* A buffer's value goes up to where the next one starts; its own size is a column beside it. */
static int make_buffer_offsets(PrArrowSource *source) {
    const PrMessage *m = &source->message;
    source->buffer_offsets = zeroed((uint64_t)m->n_buffers + 1, sizeof(int64_t));
    if (source->buffer_offsets == NULL) return PR_ARROW_NO_MEMORY;
    if (m->n_buffers == 0) return PR_ARROW_OK;
    memcpy(source->buffer_offsets, m->buffer_offsets, m->n_buffers * sizeof(int64_t));
    source->buffer_offsets[m->n_buffers] =
        m->buffer_offsets[m->n_buffers - 1] + m->buffer_sizes[m->n_buffers - 1];
    return PR_ARROW_OK;
}

/* The offsets of the lists of one row: roots, tensors, buffers, globals, memo, continued ones. */
static int make_list_bounds(PrArrowSource *source) {
    const PrMessage *m = &source->message;
    const int64_t counts[] = {m->nodes[0].rows, m->n_tensors, m->n_buffers, m->n_globals,
                              m->n_memo};
    source->list_bounds = zeroed(2 * (5 + (uint64_t)source->n_continued), sizeof(int64_t));
    if (source->list_bounds == NULL) return PR_ARROW_NO_MEMORY;
    for (uint32_t i = 0; i < 5 + source->n_continued; i++) {
        int64_t count = i < 5 ? counts[i] : m->nodes[source->continued[i - 5]].rows;
        int64_t *bounds = &source->list_bounds[2 * (size_t)i];
        if (pr_arrow_list_is_large(count)) bounds[1] = count;
        else ((int32_t *)(void *)bounds)[1] = (int32_t)count;
    }
    return PR_ARROW_OK;
}

static int make_small_columns(PrArrowSource *source) {
    const PrMessage *m = &source->message;
    int status = make_buffer_offsets(source);
    if (status == PR_ARROW_OK)
        status = join_texts(m->dtypes, 1, m->tensor_dtype, m->n_tensors, &source->dtype_offsets,
                            &source->dtype_data);
    for (int i = 0; i < 2 && status == PR_ARROW_OK; i++)
        status = join_texts(m->n_globals ? m->globals + i : NULL, 2, NULL, m->n_globals,
                            &source->global_offsets[i], &source->global_data[i]);
    return status == PR_ARROW_OK ? make_list_bounds(source) : status;
}

/* -- opening and closing ----------------------------------------------------------------------- */

static void free_source(PrArrowSource *source) {
    /* A scalar message's node is part of the source. */
    if (source->message.nodes != &source->scalar) pr_message_free(&source->message);
    free(source->head);
    free(source->depths);
    free(source->is_continued);
    free(source->continued);
    free(source->list_bounds);
    free(source->buffer_offsets);
    free(source->dtype_offsets);
    free(source->dtype_data);
    for (int i = 0; i < 2; i++) {
        free(source->global_offsets[i]);
        free(source->global_data[i]);
    }
    free(source);
}

/* What the format can hold and Arrow's types cannot. */
static int check_limits(PrArrowSource *source) {
    const PrMessage *m = &source->message;
    source->error = "more than 2**31 tensors, buffers, globals or memo entries";
    if (m->n_tensors > INT32_MAX || m->n_buffers > INT32_MAX || m->n_globals > INT32_MAX ||
        m->n_memo > INT32_MAX)
        return PR_ARROW_TOO_LARGE;
    source->error = "a column of mixed values has more than 2**31 rows";
    for (uint32_t i = 0; i < m->n_nodes; i++)
        if (m->nodes[i].kind == PR_UNION && m->nodes[i].large) return PR_ARROW_TOO_LARGE;
    return PR_ARROW_OK;
}

/* Columns must lie at multiples of 8. If they do not, they are copied, without the buffers. */
static int align_head(PrArrowSource *source) {
    PrMessage *m = &source->message;
    if ((uintptr_t)m->base % 8 == 0) return PR_ARROW_OK;
    source->head = malloc(m->head_size);
    if (source->head == NULL) return PR_ARROW_NO_MEMORY;
    memcpy(source->head, m->base, m->head_size);
    pr_message_realign(m, source->head);
    return PR_ARROW_OK;
}

static int parse(PrArrowSource *source, const uint8_t *base, uint64_t size) {
    source->error = "the message is truncated or altered";
    if (size == 0) return PR_ARROW_INVALID;
    int failed = base[0] == PR_COLUMNS_BYTE
                     ? pr_message_parse(&source->message, base, size)
                     : parse_scalar(source, base[0] & 15, base + 1, size - 1);
    if (!failed && base[0] == PR_COLUMNS_BYTE && align_head(source) != PR_ARROW_OK)
        return PR_ARROW_NO_MEMORY;
    if (failed || pr_message_validate(&source->message)) {
        if (source->message.error) source->error = source->message.error;
        return PR_ARROW_INVALID;
    }
    return check_limits(source);
}

static int prepare(PrArrowSource *source) {
    uint32_t n = source->message.n_nodes;
    source->depths = zeroed(n, 1);
    source->is_continued = zeroed(n, 1);
    source->continued = zeroed(n, sizeof *source->continued);
    source->error = "out of memory";
    if (!source->depths || !source->is_continued || !source->continued) return PR_ARROW_NO_MEMORY;
    find_depths(source);
    int status = make_small_columns(source);
    if (status == PR_ARROW_TOO_LARGE)
        source->error = "the names of globals take more than 2**31 bytes";
    return status;
}

PrArrowSource *pr_arrow_open(const uint8_t *base, uint64_t size, void (*release)(void *),
                             void *handle, int *status, const char **error) {
    PrArrowSource *source = calloc(1, sizeof *source);
    *error = "out of memory";
    *status = PR_ARROW_NO_MEMORY;
    if (source == NULL) return NULL;
    atomic_init(&source->references, 1);
    *status = parse(source, base, size);
    if (*status == PR_ARROW_OK) *status = prepare(source);
    *error = source->error;
    if (*status != PR_ARROW_OK) {
        free_source(source);
        return NULL;
    }
    source->release = release;
    source->handle = handle;
    return source;
}

void pr_arrow_retain(PrArrowSource *source) {
    atomic_fetch_add_explicit(&source->references, 1, memory_order_relaxed);
}

void pr_arrow_release(PrArrowSource *source) {
    if (atomic_fetch_sub_explicit(&source->references, 1, memory_order_acq_rel) != 1) return;
    void (*release)(void *) = source->release;
    void *handle = source->handle;
    free_source(source);
    if (release) release(handle);
}
