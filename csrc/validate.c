/* The full check of a message's contents; see validate.h.
 *
 * Loops over columns gather a flag instead of leaving at the first fault, so that the compiler can
 * vectorize them: a message is almost always sound.
 */
#include "validate.h"

#include <string.h>

/* Longer than any dtype string there is ("<M8[2147483647ns]"). */
enum { LONGEST_DTYPE = 40 };

static int fail(PrMessage *m, const char *what) {
    m->error = what;
    return -1;
}

/* -- text ------------------------------------------------------------------------------------ */

/* Length of the well-formed sequence at p, at most `left` bytes; 0 if there is none. */
static unsigned sequence_length(const uint8_t *p, uint64_t left) {
    uint8_t lead = p[0];
    unsigned length = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
    if (length == 0 || left < length) return 0;
    for (unsigned i = 1; i < length; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if (lead == 0xe0 && p[1] < 0xa0) return 0; /* could be shorter */
    if (lead == 0xed && p[1] > 0x9f) return 0; /* a surrogate */
    if (lead == 0xf0 && p[1] < 0x90) return 0; /* could be shorter */
    if (lead == 0xf4 && p[1] > 0x8f) return 0; /* beyond U+10FFFF */
    return length;
}

int pr_utf8_is_valid(const uint8_t *data, uint64_t size) {
    uint64_t i = 0;
    while (i < size) {
        uint64_t eight;
        if (size - i >= sizeof eight) {
            memcpy(&eight, data + i, sizeof eight);
            if (!(eight & UINT64_C(0x8080808080808080))) {
                i += sizeof eight;
                continue;
            }
        }
        unsigned length = data[i] < 0x80 ? 1 : sequence_length(data + i, size - i);
        if (length == 0) return 0;
        i += length;
    }
    return 1;
}

int64_t pr_dtype_itemsize(PrText text) {
    uint64_t i = 0;
    if (text.size > LONGEST_DTYPE) return -1;
    if (text.size && memchr("<>|=", text.data[0], 4)) i = 1;
    if (i >= text.size || !memchr("biufcmMSUV", text.data[i], 10)) return -1;
    uint8_t kind = text.data[i++];
    uint64_t first_digit = i;
    int64_t size = 0;
    for (; i < text.size && text.data[i] >= '0' && text.data[i] <= '9'; i++) {
        size = size * 10 + (text.data[i] - '0');
        if (size > INT32_MAX) return -1;
    }
    if (i == first_digit) return -1;
    /* Only times have something behind the size: their unit, "[ns]". */
    if (i < text.size &&
        !((kind == 'm' || kind == 'M') && text.data[i] == '[' && text.data[text.size - 1] == ']'))
        return -1;
    return kind == 'U' ? size * 4 : size;
}

/* -- columns --------------------------------------------------------------------------------- */

/* Whether the offsets start at 0, never decrease and end at `end`. */
static int offsets_are_sound(const uint8_t *column, int large, int64_t rows, int64_t end) {
    int64_t decreases = 0;
    if (large) {
        const int64_t *o = (const int64_t *)(const void *)column;
        for (int64_t i = 0; i < rows; i++) decreases |= o[i] > o[i + 1];
        return o[0] == 0 && o[rows] == end && !decreases;
    }
    const int32_t *o = (const int32_t *)(const void *)column;
    for (int64_t i = 0; i < rows; i++) decreases |= o[i] > o[i + 1];
    return o[0] == 0 && o[rows] == end && !decreases;
}

/* Whether low <= value < high for each. */
static int indices_are_sound(const int32_t *values, int64_t rows, int64_t low, int64_t high) {
    int outside = 0;
    for (int64_t i = 0; i < rows; i++) outside |= values[i] < low || values[i] >= high;
    return !outside;
}

static int check_utf8(PrMessage *m, const PrNode *n) {
    if (!pr_utf8_is_valid(n->b, n->data_size)) return fail(m, "a str is not UTF-8");
    int inside = 0;
    for (int64_t i = 0; i < n->rows; i++) {
        uint64_t at = (uint64_t)pr_offset(n, n->a, i);
        if (at < n->data_size) inside |= (n->b[at] & 0xc0) == 0x80;
    }
    return inside ? fail(m, "a str begins inside a character") : 0;
}

static int check_binary(PrMessage *m, const PrNode *n) {
    if (n->data_size > INT64_MAX ||
        !offsets_are_sound(n->a, n->large, n->rows, (int64_t)n->data_size))
        return fail(m, "offsets into bytes are out of order");
    return n->kind == PR_UTF8 ? check_utf8(m, n) : 0;
}

static int check_list(PrMessage *m, const PrNode *n) {
    for (uint32_t c = 0; c < n->n_children; c++)
        if (!offsets_are_sound(n->a, n->large, n->rows, m->nodes[n->child + c].rows))
            return fail(m, "offsets into items are out of order");
    return 0;
}

static int check_record(PrMessage *m, const PrNode *n) {
    for (uint32_t c = 0; c < n->n_children; c++)
        if (m->nodes[n->child + c].rows != n->rows)
            return fail(m, "a field has another number of rows than its record");
    return 0;
}

/* Arrow wants the offsets into each member in order, which a reader of messages does not need. */
static int check_union(PrMessage *m, const PrNode *n) {
    const int8_t *type_ids = (const int8_t *)n->a;
    int64_t next[INT8_MAX + 1] = {0}; /* member -> the least offset that may follow */
    for (int64_t i = 0; i < n->rows; i++) {
        int type_id = type_ids[i];
        if (type_id < 0 || (uint32_t)type_id >= n->n_children)
            return fail(m, "a union's type id names no member");
        int64_t offset = pr_offset(n, n->b, i);
        if (offset < next[type_id] || offset >= m->nodes[n->child + (uint32_t)type_id].rows)
            return fail(m, "a union's offset is out of order or outside its member");
        next[type_id] = offset;
    }
    return 0;
}

static int check_indices(PrMessage *m, const PrNode *n) {
    int64_t low = 0, high = 0;
    switch (n->kind) {
    case PR_DICTIONARY: high = m->nodes[n->child].rows; break;
    case PR_REF: high = m->n_numbers; break;
    case PR_GLOBAL: high = m->n_globals; break;
    case PR_NDARRAY: high = m->n_tensors; break;
    default: /* Buffers: a negative index is out of band, any number of them. */
        low = INT32_MIN;
        high = m->n_buffers;
    }
    return indices_are_sound((const int32_t *)(const void *)n->a, n->rows, low, high)
               ? 0
               : fail(m, "an index names nothing");
}

static int check_node(PrMessage *m, const PrNode *n) {
    switch (n->kind) {
    case PR_UTF8:
    case PR_SURROGATES:
    case PR_BYTES:
    case PR_BYTEARRAY:
    case PR_BIGINT: return check_binary(m, n);
    case PR_DICTIONARY:
        if (m->nodes[n->child].kind != PR_UTF8) return fail(m, "a dictionary's values are no str");
        return check_indices(m, n);
    case PR_REF:
    case PR_GLOBAL:
    case PR_BYTES_BUFFER:
    case PR_BYTEARRAY_BUFFER:
    case PR_BUFFER:
    case PR_BUFFER_WRITABLE:
    case PR_NDARRAY: return check_indices(m, n);
    case PR_LIST:
    case PR_TUPLE:
    case PR_SET:
    case PR_FROZENSET:
    case PR_DICT: return check_list(m, n);
    case PR_INSTANCE:
        if (n->extra >= m->n_globals) return fail(m, "an instance's class is no global");
        return check_record(m, n);
    case PR_REDUCE:
        if (n->extra > m->n_globals) return fail(m, "a reduction's function is no global");
        return check_record(m, n);
    case PR_DICT_RECORD:
    case PR_TUPLE_RECORD: return check_record(m, n);
    case PR_UNION: return check_union(m, n);
    default: return 0; /* fixed-width values: anything goes */
    }
}

/* -- tensors and texts ------------------------------------------------------------------------- */

static int check_tensor(PrMessage *m, uint32_t t) {
    int32_t begin = m->tensor_shape_offsets[t], end = m->tensor_shape_offsets[t + 1];
    int64_t size = pr_dtype_itemsize(m->dtypes[m->tensor_dtype[t]]);
    int empty = 0, overflow = 0;
    if (size < 0) return fail(m, "a dtype is not one of the format's");
    if (m->tensor_order[t] != 0 && m->tensor_order[t] != 1)
        return fail(m, "a tensor's order is neither C nor Fortran");
    for (int32_t d = begin; d < end; d++) {
        if (m->tensor_shapes[d] < 0) return fail(m, "a tensor has a negative dimension");
        empty |= m->tensor_shapes[d] == 0;
        overflow |= __builtin_mul_overflow(size, m->tensor_shapes[d], &size);
    }
    int32_t buffer = m->tensor_buffer[t];
    if (buffer < 0) return 0;
    if (empty) size = 0;
    if ((overflow && !empty) || m->buffer_sizes[buffer] != size)
        return fail(m, "a tensor's buffer has another size than its shape says");
    return 0;
}

static int check_tensors(PrMessage *m) {
    if (m->n_tensors == 0) return 0;
    if (m->n_dims > INT32_MAX || !offsets_are_sound((const uint8_t *)m->tensor_shape_offsets, 0,
                                                    m->n_tensors, (int64_t)m->n_dims))
        return fail(m, "offsets into shapes are out of order");
    if (!indices_are_sound(m->tensor_buffer, m->n_tensors, INT32_MIN, m->n_buffers))
        return fail(m, "a tensor's buffer does not exist");
    if (!indices_are_sound(m->tensor_dtype, m->n_tensors, 0, m->n_dtypes))
        return fail(m, "a tensor's dtype does not exist");
    for (uint32_t t = 0; t < m->n_tensors; t++)
        if (check_tensor(m, t) < 0) return -1;
    return 0;
}

static int check_texts(PrMessage *m, const PrText *texts, uint64_t count) {
    for (uint64_t i = 0; i < count; i++)
        if (!pr_utf8_is_valid(texts[i].data, texts[i].size)) return fail(m, "a name is not UTF-8");
    return 0;
}

int pr_message_validate(PrMessage *m) {
    /* First the memo and the buffer table: references and tensors are checked against them. */
    if (pr_message_check(m) < 0) return -1;
    for (uint32_t i = 0; i < m->n_nodes; i++)
        if (check_node(m, &m->nodes[i]) < 0) return -1;
    if (check_tensors(m) < 0 || check_texts(m, m->names, m->n_names) < 0) return -1;
    return check_texts(m, m->globals, 2 * (uint64_t)m->n_globals);
}
