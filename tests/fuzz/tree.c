#include "tree.h"

#include <stdlib.h>
#include <string.h>

enum { ARENA = 16 << 20 };

static uint8_t arena_bytes[ARENA];
static size_t arena_used;

void arena_reset(void) {
    arena_used = 0;
}

void *arena(size_t size) {
    size = (size + 15) & ~(size_t)15;
    if (size > ARENA - arena_used) return NULL;
    void *memory = arena_bytes + arena_used;
    arena_used += size;
    return memset(memory, 0, size);
}

Bytes bytes_copy(const void *data, size_t size) {
    Bytes copy = {arena(size), size};
    if (copy.data == NULL) copy.size = 0;
    else if (size) memcpy(copy.data, data, size);
    return copy;
}

/* -- kinds ------------------------------------------------------------------------------------ */

int node_is_binary(const Node *node) {
    return node->kind >= PR_UTF8 && node->kind <= PR_BIGINT;
}

int node_has_offsets(const Node *node) {
    return node_is_binary(node) || (node->kind >= PR_LIST && node->kind <= PR_DICT);
}

int node_width(const Node *node) {
    if (node_has_offsets(node)) return node->large ? 8 : 4;
    switch (node->kind) {
    case PR_NULL:
    case PR_BOOL: return 0;
    case PR_INT8:
    case PR_UNION: return 1;
    case PR_INT16: return 2;
    case PR_INT64:
    case PR_FLOAT64: return 8;
    case PR_COMPLEX128: return 16;
    case PR_DICT_RECORD:
    case PR_TUPLE_RECORD:
    case PR_INSTANCE:
    case PR_REDUCE: return -1;
    default: return 4;
    }
}

static int is_record(const Node *node) {
    return node_width(node) < 0;
}

static size_t column_size(const Node *node, uint64_t rows) {
    int width = node_width(node);
    if (width < 0) return 0;
    if (width == 0) return (rows + 7) / 8;
    return (rows + (node_has_offsets(node) ? 1 : 0)) * (size_t)width;
}

uint32_t node_arity(const Node *node) {
    switch (node->kind) {
    case PR_DICTIONARY:
    case PR_LIST:
    case PR_TUPLE:
    case PR_SET:
    case PR_FROZENSET:
    case PR_INSTANCE: return 1;
    case PR_DICT: return 2;
    case PR_REDUCE: return (uint32_t)__builtin_popcount(node->parts);
    case PR_DICT_RECORD:
    case PR_TUPLE_RECORD:
    case PR_UNION: return node->n_children;
    default: return 0;
    }
}

static Bytes resized(Bytes old, size_t size, size_t unit) {
    Bytes new = {arena(size), size};
    if (new.data == NULL) return old;
    for (size_t i = 0; i < size && old.size; i++)
        new.data[i] = old.data[i < old.size ? i : old.size - unit + i % unit];
    return new;
}

void node_resize(Node *node, uint64_t rows) {
    int width = node_width(node);
    if (width >= 0) {
        size_t unit = width ? (size_t)width : 1;
        if (node->a.size >= unit || node->a.size == 0)
            node->a = resized(node->a, column_size(node, rows), unit);
    }
    if (node->kind == PR_UNION) {
        size_t unit = node->large ? 8 : 4;
        if (node->b.size >= unit || node->b.size == 0)
            node->b = resized(node->b, rows * unit, unit);
    }
    node->rows = rows;
    if (!is_record(node)) return;
    for (uint32_t i = 0; i < node->n_children; i++) node_resize(node->children[i], rows);
}

/* -- reading ---------------------------------------------------------------------------------- */

static int read_node(Node *node, const PrMessage *m, const PrNode *from, Node *all) {
    node->kind = from->kind;
    node->large = from->large;
    node->parts = from->parts;
    node->rows = (uint64_t)from->rows;
    node->extra = from->extra;
    node->n_children = from->n_children;
    if (from->a != NULL) node->a = bytes_copy(from->a, column_size(node, node->rows));
    if (node_is_binary(node)) node->b = bytes_copy(from->b, from->data_size);
    if (node->kind == PR_UNION) node->b = bytes_copy(from->b, node->rows * (node->large ? 8 : 4));
    node->children = arena(node->n_children * sizeof *node->children);
    if (node->children == NULL) return -1;
    for (uint32_t i = 0; i < node->n_children; i++) node->children[i] = &all[from->child + i];
    if (node->kind != PR_DICT_RECORD) return 0;
    node->n_names = node->n_children;
    node->names = arena(node->n_names * sizeof *node->names);
    if (node->names == NULL) return -1;
    for (uint32_t i = 0; i < node->n_names; i++) {
        PrText text = m->names[from->extra + i];
        node->names[i] = bytes_copy(text.data, text.size);
    }
    return 0;
}

static void read_tables(Tree *t, const PrMessage *m) {
    for (uint32_t i = 0; i < 2 * m->n_globals; i++)
        t->globals[i] = bytes_copy(m->globals[i].data, m->globals[i].size);
    for (uint32_t i = 0; i < m->n_dtypes; i++)
        t->dtypes[i] = bytes_copy(m->dtypes[i].data, m->dtypes[i].size);
    t->n_globals = m->n_globals;
    t->n_dtypes = m->n_dtypes;
    size_t n = m->n_tensors;
    if (n) {
        t->tensor_buffer = bytes_copy(m->tensor_buffer, n * 4);
        t->tensor_dtype = bytes_copy(m->tensor_dtype, n * 4);
        t->tensor_order = bytes_copy(m->tensor_order, n);
        t->tensor_shape_offsets = bytes_copy(m->tensor_shape_offsets, n * 4 + 4);
        t->tensor_shapes = bytes_copy(m->tensor_shapes, m->n_dims * 8);
    }
    if (m->n_buffers) {
        t->buffer_offsets = bytes_copy(m->buffer_offsets, (size_t)m->n_buffers * 8);
        t->buffer_sizes = bytes_copy(m->buffer_sizes, (size_t)m->n_buffers * 8);
        t->buffers = bytes_copy(m->buffers, (size_t)(m->base + m->size - m->buffers));
    }
}

static void read_memo(Tree *t, const PrMessage *m, Node *all) {
    for (uint32_t i = 0; i < m->n_memo; i++) {
        if (m->memo_node[i] < 0 || (uint32_t)m->memo_node[i] >= m->n_nodes) continue;
        t->memo[t->n_memo++] = (Entry){&all[m->memo_node[i]], m->memo_row[i], m->memo_number[i]};
    }
}

static int read_parsed(Tree *t, const PrMessage *m) {
    if (m->n_nodes > MOST_NODES || m->n_globals > MOST_TEXTS / 2 || m->n_dtypes > MOST_TEXTS / 2 ||
        m->n_memo > MOST_ENTRIES / 2 || m->n_tensors > MOST_TENSORS)
        return -1;
    Node *all = arena(m->n_nodes * sizeof *all);
    if (all == NULL) return -1;
    for (uint32_t i = 0; i < m->n_nodes; i++)
        if (read_node(&all[i], m, &m->nodes[i], all) < 0) return -1;
    t->root = all;
    read_tables(t, m);
    read_memo(t, m, all);
    return 0;
}

int tree_read(Tree *t, const uint8_t *data, size_t size) {
    static PrMessage m;
    memset(t, 0, sizeof *t);
    uint8_t *aligned = arena(size); /* libFuzzer's may not be */
    if (aligned == NULL) return -1;
    memcpy(aligned, data, size);
    int status = pr_message_parse(&m, aligned, size);
    if (status == 0) status = read_parsed(t, &m);
    pr_message_free(&m);
    return status;
}

/* -- writing ---------------------------------------------------------------------------------- */

typedef struct {
    uint8_t *data;
    size_t at, room;
    int full;
} Out;

static void put(Out *o, const void *data, size_t size) {
    if (o->full || size > o->room - o->at) {
        o->full = 1;
        return;
    }
    if (size) memcpy(o->data + o->at, data, size);
    o->at += size;
}

static void put_byte(Out *o, uint8_t byte) {
    put(o, &byte, 1);
}

static void put_varint(Out *o, uint64_t value) {
    for (; value >= 0x80; value >>= 7) put_byte(o, (uint8_t)(value | 0x80));
    put_byte(o, (uint8_t)value);
}

static void put_text(Out *o, Bytes text) {
    put_varint(o, text.size);
    put(o, text.data, text.size);
}

static void pad(Out *o, size_t to) {
    while (!o->full && o->at % to) put_byte(o, 0);
}

static void put_column(Out *o, Bytes column) {
    put(o, column.data, column.size);
    pad(o, 8);
}

uint32_t tree_nodes(const Tree *t, Node **out) {
    uint32_t n = 1;
    out[0] = t->root;
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t c = 0; c < out[i]->n_children && n < MOST_NODES; c++)
            out[n++] = out[i]->children[c];
    }
    return n;
}

static void put_description(Out *o, const Tree *t, Node **nodes, uint32_t n) {
    put_varint(o, (uint64_t)((int64_t)n + t->n_extra_nodes));
    put_varint(o, t->n_globals);
    put_varint(o, t->n_dtypes);
    put_varint(o, t->tensor_order.size);
    put_varint(o, t->tensor_shapes.size / 8);
    put_varint(o, t->buffer_offsets.size / 8);
    put_varint(o, t->n_memo);
    for (uint32_t i = 0; i < n; i++) {
        const Node *node = nodes[i];
        put_byte(o, node->kind | (node->large ? PR_LARGE : 0));
        put_varint(o, node->rows);
        if (node_is_binary(node)) put_varint(o, node->b.size);
        switch (node->kind) {
        case PR_DICT_RECORD:
            put_varint(o, node->n_names);
            for (uint32_t k = 0; k < node->n_names; k++) put_text(o, node->names[k]);
            break;
        case PR_TUPLE_RECORD:
        case PR_UNION: put_varint(o, node->n_children); break;
        case PR_REDUCE: put_byte(o, node->parts); /* fall through */
        case PR_INSTANCE: put_varint(o, node->extra); break;
        default: break;
        }
    }
    for (uint32_t i = 0; i < 2 * t->n_globals; i++) put_text(o, t->globals[i]);
    for (uint32_t i = 0; i < t->n_dtypes; i++) put_text(o, t->dtypes[i]);
}

static int compare_entries(const void *left, const void *right) {
    const Entry *a = left, *b = right;
    if (a->node->number != b->node->number) return a->node->number < b->node->number ? -1 : 1;
    return a->row < b->row ? -1 : a->row > b->row;
}

/* Drops entries of nodes that are no longer there, sorts the others and closes gaps. */
static void arrange_memo(Tree *t) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->n_memo; i++)
        if (t->memo[i].node->number >= 0) t->memo[n++] = t->memo[i];
    t->n_memo = n;
    if (t->keep_order) return;
    qsort(t->memo, n, sizeof *t->memo, compare_entries);
    for (int32_t next = 0;; next++) { /* each round: the least number not below next becomes it */
        int32_t least = INT32_MAX;
        for (uint32_t i = 0; i < n; i++)
            if (t->memo[i].number >= next && t->memo[i].number < least) least = t->memo[i].number;
        if (least == INT32_MAX) break;
        for (uint32_t i = 0; i < n; i++)
            if (t->memo[i].number == least) t->memo[i].number = next;
    }
}

static void put_memo(Out *o, const Tree *t) {
    for (uint32_t i = 0; i < t->n_memo; i++) put(o, &t->memo[i].node->number, 4);
    pad(o, 8);
    for (uint32_t i = 0; i < t->n_memo; i++) put(o, &t->memo[i].row, 8);
    for (uint32_t i = 0; i < t->n_memo; i++) put(o, &t->memo[i].number, 4);
    pad(o, 8);
}

static void put_columns(Out *o, const Tree *t, Node **nodes, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        if (node_width(nodes[i]) >= 0) put_column(o, nodes[i]->a);
        if (node_is_binary(nodes[i]) || nodes[i]->kind == PR_UNION) put_column(o, nodes[i]->b);
    }
    if (t->tensor_order.size) {
        put_column(o, t->tensor_buffer);
        put_column(o, t->tensor_dtype);
        put_column(o, t->tensor_order);
        put_column(o, t->tensor_shape_offsets);
        put_column(o, t->tensor_shapes);
    }
    put_column(o, t->buffer_offsets);
    put_column(o, t->buffer_sizes);
}

/* A byte for each row of a record; nothing if there are more than any message of that size has. */
static void put_record_padding(Out *o, Node **nodes, uint32_t n) {
    uint64_t rows = 0;
    for (uint32_t i = 0; i < n && rows <= o->room; i++)
        if (pr_is_record(nodes[i]->kind)) rows += nodes[i]->rows;
    if (rows > o->room) return;
    while (!o->full && o->at < rows) put_byte(o, 0);
    pad(o, 8);
}

size_t tree_write(Tree *t, uint8_t *out, size_t room) {
    static Node *nodes[MOST_NODES];
    Out o = {out, 0, room, 0};
    uint8_t prefix[16] = {PR_COLUMNS_BYTE};
    for (uint32_t i = 0; i < t->n_memo; i++) t->memo[i].node->number = -1;
    uint32_t n = tree_nodes(t, nodes);
    for (uint32_t i = 0; i < n; i++) nodes[i]->number = (int32_t)i;
    arrange_memo(t);
    put(&o, prefix, sizeof prefix);
    put_description(&o, t, nodes, n);
    uint32_t description_size = (uint32_t)(o.at - sizeof prefix);
    pad(&o, 8);
    put_columns(&o, t, nodes, n);
    put_memo(&o, t);
    put_record_padding(&o, nodes, n);
    if (t->buffer_offsets.size) {
        pad(&o, 64);
        put(&o, t->buffers.data, t->buffers.size);
    }
    pad(&o, 8);
    if (o.full) return 0;
    uint64_t total = o.at;
    memcpy(out + 4, &description_size, 4);
    memcpy(out + 8, &total, 8);
    return o.at;
}
