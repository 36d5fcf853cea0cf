/* Parsing of columns messages; see message.h for what is proved here and what is left to readers.
 *
 * Bytes are hostile until proved otherwise: a size is compared with what is left of the message
 * before anything is added to or multiplied with it, and no count is believed that the bytes of
 * the description or the columns could not hold.
 */
#include "message.h"

#include "debug.h"

#include <stdlib.h>
#include <string.h>

enum { PREFIX_SIZE = 16, MAX_UNION_MEMBERS = 127 };

/* Where parsing has come to. */
typedef struct {
    PrMessage *m;
    const uint8_t *at;  /* in the description */
    const uint8_t *end; /* of the description */
    uint64_t position;  /* of the next column, from the start of the message */
    uint64_t next_child;
    uint64_t names_capacity;
    int has_refs;
} Parser;

static int fail(PrMessage *m, const char *error) {
    m->error = error;
    return -1;
}

static uint64_t align_up(uint64_t n, uint64_t to) {
    return (n + to - 1) & ~(to - 1);
}

/* ---- description: numbers and texts ---------------------------------------------------------- */

int pr_varint(const uint8_t **at, const uint8_t *end, uint64_t *value) {
    uint64_t result = 0;
    for (int shift = 0; shift < 70 && *at < end; shift += 7) {
        uint64_t byte = *(*at)++;
        if (shift == 63 && byte > 1) return -1;
        result |= (byte & 0x7f) << shift;
        if (byte < 0x80) {
            *value = result;
            return 0;
        }
    }
    return -1;
}

static int read_long_number(Parser *p, uint64_t *value) {
    if (pr_varint(&p->at, p->end, value) == 0) return 0;
    return fail(p->m, "a number in the description ends too late");
}

static inline int read_number(Parser *p, uint64_t *value) {
    if (p->at >= p->end || *p->at >= 0x80) return read_long_number(p, value);
    *value = *p->at++;
    return 0;
}

static int read_count(Parser *p, uint64_t limit, uint32_t *count) {
    uint64_t value;
    if (read_number(p, &value) < 0) return -1;
    if (value > limit || value > INT32_MAX)
        return fail(p->m, "a count in the description is larger than the message");
    *count = (uint32_t)value;
    return 0;
}

static int read_text(Parser *p, PrText *text) {
    if (read_number(p, &text->size) < 0) return -1;
    if (text->size > (uint64_t)(p->end - p->at))
        return fail(p->m, "a name in the description is cut off");
    text->data = p->at;
    p->at += text->size;
    return 0;
}

/* -- columns ---------------------------------------------------------------------------------- */

/* The next column, `count` values of `width` bytes each; NULL if it does not fit. */
static const void *take(Parser *p, uint64_t count, uint64_t width) {
    uint64_t size;
    if (__builtin_mul_overflow(count, width, &size) || size > p->m->size - p->position) {
        fail(p->m, "a column does not fit into the message");
        return NULL;
    }
    const uint8_t *column = p->m->base + p->position;
    p->position = align_up(p->position + size, 8);
    return column;
}

static int take_values(Parser *p, PrNode *node, uint64_t width) {
    return (node->a = take(p, (uint64_t)node->rows, width)) == NULL ? -1 : 0;
}

static int take_bits(Parser *p, PrNode *node) {
    return (node->a = take(p, ((uint64_t)node->rows + 7) / 8, 1)) == NULL ? -1 : 0;
}

static int take_offsets(Parser *p, PrNode *node) {
    return (node->a = take(p, (uint64_t)node->rows + 1, node->large ? 8 : 4)) == NULL ? -1 : 0;
}

static int take_binary(Parser *p, PrNode *node) {
    if (read_number(p, &node->data_size) < 0 || take_offsets(p, node) < 0) return -1;
    return (node->b = take(p, node->data_size, 1)) == NULL ? -1 : 0;
}

/* -- nodes ------------------------------------------------------------------------------------ */

static int give_children(Parser *p, PrNode *node, uint64_t count) {
    if (count > p->m->n_nodes - p->next_child)
        return fail(p->m, "a node has more children than there are nodes");
    node->child = (uint32_t)p->next_child;
    node->n_children = (uint32_t)count;
    for (uint64_t i = 0; i < count; i++) {
        p->m->nodes[p->next_child + i].parent = (uint32_t)(node - p->m->nodes);
    }
    p->next_child += count;
    return 0;
}

static int parse_dict_record(Parser *p, PrNode *node) {
    uint64_t fields;
    PrMessage *m = p->m;
    if (read_number(p, &fields) < 0) return -1;
    if (fields < 1 || fields > p->names_capacity - m->n_names)
        return fail(m, "a record has an impossible number of fields");
    node->extra = m->n_names;
    for (uint64_t i = 0; i < fields; i++) {
        if (read_text(p, &m->names[m->n_names++]) < 0) return -1;
    }
    return give_children(p, node, fields);
}

static int parse_tuple_record(Parser *p, PrNode *node) {
    uint64_t arity;
    if (read_number(p, &arity) < 0) return -1;
    if (arity < 1) return fail(p->m, "a tuple record has no fields");
    return give_children(p, node, arity);
}

static int parse_instance(Parser *p, PrNode *node) {
    uint64_t global;
    if (read_number(p, &global) < 0) return -1;
    if (global >= p->m->n_globals)
        return fail(p->m, "an instance names a class that is not listed");
    node->extra = (uint32_t)global;
    return give_children(p, node, 1);
}

static int parse_reduce(Parser *p, PrNode *node) {
    uint64_t function;
    if (p->at >= p->end) return fail(p->m, "the description is cut off");
    node->parts = *p->at++;
    if (read_number(p, &function) < 0) return -1;
    if (node->parts > 63 || !(node->parts & PR_PART_ARGUMENTS))
        return fail(p->m, "a reduction has impossible parts");
    if (function > p->m->n_globals || (function == 0) != ((node->parts & PR_PART_FUNCTION) != 0)) {
        return fail(p->m, "a reduction names a function that is not listed");
    }
    node->extra = (uint32_t)function;
    return give_children(p, node, (uint64_t)__builtin_popcount(node->parts));
}

static int parse_union(Parser *p, PrNode *node) {
    uint64_t members;
    if (read_number(p, &members) < 0) return -1;
    if (members > MAX_UNION_MEMBERS) return fail(p->m, "a union has too many members");
    if (take_values(p, node, 1) < 0) return -1;
    if ((node->b = take(p, (uint64_t)node->rows, node->large ? 8 : 4)) == NULL) return -1;
    return give_children(p, node, members);
}

/* What the parent demands of a node. */
static int check_place(Parser *p, const PrNode *node) {
    const PrNode *parent = &p->m->nodes[node->parent];
    if (node == p->m->nodes) return node->rows > 0 ? 0 : fail(p->m, "the message holds no object");
    if (pr_is_record(parent->kind) && node->rows != parent->rows)
        return fail(p->m, "fields of a record differ in length");
    if (parent->kind == PR_UNION && node->kind == PR_UNION)
        return fail(p->m, "a union is a member of a union");
    if (parent->kind == PR_DICTIONARY && node->kind != PR_UTF8)
        return fail(p->m, "values of a dictionary are not strings");
    return 0;
}

static int has_offsets(int kind) {
    return (kind >= PR_UTF8 && kind <= PR_BIGINT) || (kind >= PR_LIST && kind <= PR_DICT) ||
           kind == PR_UNION;
}

/* The columns, the children and the rest of the description of one node. */
static int parse_columns(Parser *p, PrNode *node) {
    switch (node->kind) {
    case PR_NULL:
    case PR_BOOL: return take_bits(p, node);
    case PR_INT8: return take_values(p, node, 1);
    case PR_INT16: return take_values(p, node, 2);
    case PR_INT64:
    case PR_FLOAT64: return take_values(p, node, 8);
    case PR_COMPLEX128: return take_values(p, node, 16);
    case PR_UTF8:
    case PR_SURROGATES:
    case PR_BYTES:
    case PR_BYTEARRAY:
    case PR_BIGINT: return take_binary(p, node);
    case PR_DICTIONARY: return take_values(p, node, 4) < 0 ? -1 : give_children(p, node, 1);
    case PR_REF: p->has_refs = node->has_refs = 1; return take_values(p, node, 4);
    case PR_INT32:
    case PR_GLOBAL:
    case PR_BYTES_BUFFER:
    case PR_BYTEARRAY_BUFFER:
    case PR_BUFFER:
    case PR_BUFFER_WRITABLE:
    case PR_NDARRAY: return take_values(p, node, 4);
    case PR_LIST:
    case PR_TUPLE:
    case PR_SET:
    case PR_FROZENSET: return take_offsets(p, node) < 0 ? -1 : give_children(p, node, 1);
    case PR_DICT: return take_offsets(p, node) < 0 ? -1 : give_children(p, node, 2);
    case PR_DICT_RECORD: return parse_dict_record(p, node);
    case PR_TUPLE_RECORD: return parse_tuple_record(p, node);
    case PR_INSTANCE: return parse_instance(p, node);
    case PR_REDUCE: return parse_reduce(p, node);
    case PR_UNION: return parse_union(p, node);
    default: return fail(p->m, "a node is of no known kind");
    }
}

static int parse_node(Parser *p, uint32_t index) {
    PrMessage *m = p->m;
    PrNode *node = &m->nodes[index];
    uint64_t rows;
    if (index >= p->next_child) return fail(m, "a node has no parent");
    uint32_t parent = node->parent;
    if (p->at >= p->end) return fail(m, "the description is cut off");
    *node =
        (PrNode){.kind = *p->at & ~PR_LARGE, .large = (*p->at & PR_LARGE) != 0, .parent = parent};
    p->at++;
    if (read_number(p, &rows) < 0) return -1;
    if (node->large && !has_offsets(node->kind))
        return fail(m, "a node without offsets has large ones");
    /* A row takes a bit of a column, or a byte of the message: see finish. */
    if (rows / 8 > m->size) return fail(m, "a node has more rows than the message could hold");
    node->rows = (int64_t)rows;
    if (pr_is_record(node->kind)) m->record_rows += rows;
    if (m->record_rows > m->size)
        return fail(m, "there are more rows of records than the message could hold");
    return check_place(p, node) < 0 ? -1 : parse_columns(p, node);
}

/* A subtree with REF rows must be read in the writer's order: tell each node above one. */
static void spread_has_refs(PrMessage *m) {
    for (uint32_t i = m->n_nodes - 1; i > 0; i--) {
        m->nodes[m->nodes[i].parent].has_refs |= m->nodes[i].has_refs;
    }
}

static int parse_nodes(Parser *p) {
    PrMessage *m = p->m;
    m->nodes[0].parent = 0;
    p->next_child = 1;
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        if (parse_node(p, i) < 0) return -1;
    }
    if (p->next_child != m->n_nodes) return fail(m, "there are fewer nodes than children");
    if (p->has_refs) spread_has_refs(m);
    return 0;
}

/* -- the rest --------------------------------------------------------------------------------- */

static int parse_prefix(Parser *p, const uint8_t *base, uint64_t size) {
    PrMessage *m = p->m;
    uint32_t description_size;
    uint64_t total_size;
    if (size < PREFIX_SIZE) return fail(m, "it is cut off");
    if (base[0] != PR_COLUMNS_BYTE) return fail(m, "it does not begin as a columns message");
    if (base[1] || base[2] || base[3]) return fail(m, "reserved bytes of the prefix are not zero");
    memcpy(&description_size, base + 4, 4);
    memcpy(&total_size, base + 8, 8);
    if (total_size > size) return fail(m, "it is cut off");
    if (total_size % 8 != 0 || total_size < PREFIX_SIZE) return fail(m, "its size is impossible");
    if (description_size > total_size - PREFIX_SIZE)
        return fail(m, "its description is longer than itself");
    m->base = base;
    m->size = total_size;
    p->at = base + PREFIX_SIZE;
    p->end = p->at + description_size;
    p->position = align_up(PREFIX_SIZE + (uint64_t)description_size, 8);
    return 0;
}

static int parse_counts(Parser *p) {
    PrMessage *m = p->m;
    uint64_t description = (uint64_t)(p->end - p->at), n_dims;
    if (read_count(p, description / 2, &m->n_nodes) < 0) return -1;
    if (read_count(p, description / 2, &m->n_globals) < 0) return -1;
    if (read_count(p, description, &m->n_dtypes) < 0) return -1;
    if (read_count(p, m->size, &m->n_tensors) < 0) return -1;
    if (read_number(p, &n_dims) < 0) return -1;
    if (read_count(p, m->size, &m->n_buffers) < 0) return -1;
    if (read_count(p, m->size, &m->n_memo) < 0) return -1;
    if (m->n_nodes == 0) return fail(m, "it has no nodes");
    if (m->n_tensors == 0 && n_dims != 0) return fail(m, "it has dimensions but no tensors");
    m->n_dims = n_dims;
    return 0;
}

/* One block for all tables. Names come last: how many there are is only known afterwards. */
static int allocate_tables(Parser *p) {
    PrMessage *m = p->m;
    size_t nodes = (size_t)m->n_nodes * sizeof(PrNode);
    size_t fixed = nodes + ((size_t)m->n_globals * 2 + m->n_dtypes) * sizeof(PrText);
    /* Each of the others takes at least so many bytes of what is left of the description. */
    uint64_t others = 2 * ((uint64_t)m->n_nodes + m->n_globals) + m->n_dtypes;
    if (others > (uint64_t)(p->end - p->at)) return fail(m, "its description is cut off");
    size_t names = (size_t)((uint64_t)(p->end - p->at) - others);
    char *block = (char *)m->here;
    if (fixed + names * sizeof(PrText) > sizeof m->here) {
        block = m->storage = malloc(fixed + names * sizeof(PrText));
        if (block == NULL) return fail(m, "there is no memory for its description");
        pr_debug_live(PR_LIVE_MESSAGES, 1);
    }
    m->nodes = (PrNode *)(void *)block;
    m->globals = (PrText *)(void *)(block + nodes);
    m->dtypes = m->globals + (size_t)m->n_globals * 2;
    m->names = m->dtypes + m->n_dtypes;
    p->names_capacity = names;
    return 0;
}

static int parse_texts(Parser *p) {
    PrMessage *m = p->m;
    for (uint64_t i = 0; i < (uint64_t)m->n_globals * 2; i++) {
        if (read_text(p, &m->globals[i]) < 0) return -1;
    }
    for (uint32_t i = 0; i < m->n_dtypes; i++) {
        if (read_text(p, &m->dtypes[i]) < 0) return -1;
    }
    return p->at == p->end ? 0 : fail(m, "its description is longer than what it describes");
}

static int parse_tensors(Parser *p) {
    PrMessage *m = p->m;
    if (m->n_tensors == 0) return 0;
    if ((m->tensor_buffer = take(p, m->n_tensors, 4)) == NULL) return -1;
    if ((m->tensor_dtype = take(p, m->n_tensors, 4)) == NULL) return -1;
    if ((m->tensor_order = take(p, m->n_tensors, 1)) == NULL) return -1;
    if ((m->tensor_shape_offsets = take(p, (uint64_t)m->n_tensors + 1, 4)) == NULL) return -1;
    return (m->tensor_shapes = take(p, m->n_dims, 8)) == NULL ? -1 : 0;
}

static int32_t load_int32(const int32_t *column, uint32_t index) {
    int32_t value; /* the column may be unaligned yet */
    memcpy(&value, (const char *)column + (size_t)index * 4, 4);
    return value;
}

/* Which entries are each node's, by bisection: a wrong order is found by pr_message_check. */
static void assign_memo(PrMessage *m) {
    uint32_t begin = 0;
    for (uint32_t i = 0; i < m->n_nodes && begin < m->n_memo; i++) {
        uint32_t low = begin, high = m->n_memo;
        while (low < high) {
            uint32_t middle = low + (high - low) / 2;
            if (load_int32(m->memo_node, middle) <= (int64_t)i) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        m->nodes[i].memo_begin = begin;
        m->nodes[i].memo_end = low;
        begin = low;
    }
}

static int parse_memo(Parser *p) {
    PrMessage *m = p->m;
    if (m->n_memo == 0) return 0;
    if ((m->memo_node = take(p, m->n_memo, 4)) == NULL) return -1;
    if ((m->memo_row = take(p, m->n_memo, 8)) == NULL) return -1;
    if ((m->memo_number = take(p, m->n_memo, 4)) == NULL) return -1;
    assign_memo(m);
    return 0;
}

static int parse_buffers(Parser *p) {
    PrMessage *m = p->m;
    if (m->n_buffers == 0) return 0;
    if ((m->buffer_offsets = take(p, m->n_buffers, 8)) == NULL) return -1;
    return (m->buffer_sizes = take(p, m->n_buffers, 8)) == NULL ? -1 : 0;
}

static int finish(Parser *p) {
    PrMessage *m = p->m;
    /* Neither can exceed the message's size, which is a multiple of 8. */
    uint64_t records = align_up(m->record_rows, 8);
    m->head_size = p->position > records ? p->position : records;
    if (m->n_buffers == 0)
        return m->head_size == m->size ? 0 : fail(m, "it is longer than its columns");
    uint64_t buffers = align_up(m->head_size, 64);
    if (buffers > m->size) return fail(m, "its buffers are cut off");
    m->buffers = m->base + buffers;
    return 0;
}

int pr_message_parse(PrMessage *m, const uint8_t *base, uint64_t size) {
    Parser parser = {.m = m}, *p = &parser;
    memset(m, 0, offsetof(PrMessage, here));
    if (parse_prefix(p, base, size) < 0 || parse_counts(p) < 0 || allocate_tables(p) < 0) return -1;
    if (parse_nodes(p) < 0 || parse_texts(p) < 0 || parse_tensors(p) < 0) return -1;
    if (parse_buffers(p) < 0 || parse_memo(p) < 0) return -1;
    return finish(p);
}

void pr_message_free(PrMessage *m) {
    if (m->storage) pr_debug_live(PR_LIVE_MESSAGES, -1);
    free(m->storage);
    free(m->memo_first);
    m->storage = NULL;
    m->memo_first = NULL;
}

static const uint8_t *moved(const uint8_t *column, const uint8_t *from, const uint8_t *to) {
    return column == NULL ? NULL : to + (column - from);
}

void pr_message_realign(PrMessage *m, const uint8_t *head) {
    const uint8_t *base = m->base;
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        m->nodes[i].a = moved(m->nodes[i].a, base, head);
        m->nodes[i].b = moved(m->nodes[i].b, base, head);
    }
#define MOVE(column) column = (const void *)moved((const uint8_t *)column, base, head)
    MOVE(m->tensor_buffer);
    MOVE(m->tensor_dtype);
    MOVE(m->tensor_order);
    MOVE(m->tensor_shape_offsets);
    MOVE(m->tensor_shapes);
    MOVE(m->buffer_offsets);
    MOVE(m->buffer_sizes);
    MOVE(m->memo_node);
    MOVE(m->memo_row);
    MOVE(m->memo_number);
#undef MOVE
}

/* -- memo and buffers ------------------------------------------------------------------------- */

static int check_entry(PrMessage *m, uint32_t i) {
    int32_t node = m->memo_node[i], number = m->memo_number[i];
    int64_t row = m->memo_row[i];
    if (node < 0 || (uint32_t)node >= m->n_nodes)
        return fail(m, "the memo names a node that does not exist");
    if (row < 0 || row >= m->nodes[node].rows)
        return fail(m, "the memo names a row that does not exist");
    if (number < 0 || (uint32_t)number >= m->n_memo) return fail(m, "a memo number is too large");
    if (m->nodes[node].kind == PR_REF || m->nodes[node].kind == PR_UNION ||
        m->nodes[node].kind == PR_DICTIONARY)
        return fail(m, "the memo names a row that is no object");
    if (i == 0) return 0;
    if (m->memo_node[i - 1] > node || (m->memo_node[i - 1] == node && m->memo_row[i - 1] >= row)) {
        return fail(m, "the memo is not sorted");
    }
    return 0;
}

static int check_memo(PrMessage *m) {
    uint32_t distinct = 0;
    int32_t largest = -1;
    if (m->n_memo == 0) return 0;
    m->memo_first = malloc((size_t)m->n_memo * sizeof *m->memo_first);
    if (m->memo_first == NULL) return fail(m, "there is no memory for its memo");
    memset(m->memo_first, 0xff, (size_t)m->n_memo * sizeof *m->memo_first);
    for (uint32_t i = 0; i < m->n_memo; i++) {
        if (check_entry(m, i) < 0) return -1;
        int32_t number = m->memo_number[i];
        if (m->memo_first[number] >= 0) continue;
        m->memo_first[number] = (int32_t)i;
        distinct++;
        if (number > largest) largest = number;
    }
    if (distinct != (uint32_t)(largest + 1)) return fail(m, "memo numbers have gaps");
    m->n_numbers = distinct;
    return 0;
}

int pr_message_buffer(const PrMessage *m, int64_t index, const uint8_t **data, uint64_t *size) {
    if (index < 0 || index >= m->n_buffers) return -1;
    int64_t offset = m->buffer_offsets[index], length = m->buffer_sizes[index];
    uint64_t part = m->size - (uint64_t)(m->buffers - m->base);
    if (offset < 0 || length < 0 || offset % 64 != 0) return -1;
    if ((uint64_t)offset > part || (uint64_t)length > part - (uint64_t)offset) return -1;
    *data = m->buffers + offset;
    *size = (uint64_t)length;
    return 0;
}

static int check_buffers(PrMessage *m) {
    const uint8_t *data, *end = m->buffers;
    uint64_t size;
    for (uint32_t i = 0; i < m->n_buffers; i++) {
        if (pr_message_buffer(m, i, &data, &size) < 0)
            return fail(m, "a buffer does not fit into the message");
        if (data < end) return fail(m, "buffers overlap");
        end = data + size;
    }
    return 0;
}

int pr_message_check(PrMessage *m) {
    if (m->checked) return 0;
    if (check_buffers(m) < 0 || check_memo(m) < 0) {
        free(m->memo_first);
        m->memo_first = NULL;
        return -1;
    }
    m->checked = 1;
    return 0;
}

uint32_t pr_memo_lower_bound(const PrMessage *m, const PrNode *node, int64_t row) {
    uint32_t low = node->memo_begin, high = node->memo_end;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (m->memo_row[middle] < row) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}
