/* From columns to bytes: numbering the nodes, the description, the columns in their order. */
#include "column.h"
#include "copy.h"

#include <stdlib.h>

/* What stands at one node. A UTF8 column that repeats is two nodes: indices, then values. */
typedef struct {
    PrColumn *column; /* NULL: a slot that stayed empty */
    int values;       /* the second of the two */
    int kind;         /* on the wire; set by describe_node */
} Node;

static uint64_t pad8(uint64_t n) {
    return (n + 7) & ~(uint64_t)7;
}

static uint64_t pad64(uint64_t n) {
    return (n + 63) & ~(uint64_t)63;
}

static int int_width(uint64_t bits) {
    return bits <= INT8_MAX ? 1 : bits <= INT16_MAX ? 2 : bits <= INT32_MAX ? 4 : 8;
}

static int wire_kind(Node n) {
    if (!n.column) return PR_NULL;
    if (n.column->repeated && !n.values) return PR_DICTIONARY;
    if (n.column->kind == PR_INT64) {
        switch (int_width(n.column->bits)) {
        case 1: return PR_INT8;
        case 2: return PR_INT16;
        case 4: return PR_INT32;
        default: return PR_INT64;
        }
    }
    return n.column->kind;
}

static int64_t wire_rows(Node n) {
    if (!n.column) return 0;
    return n.column->repeated && !n.values ? (int64_t)(n.column->c.size / 4) : n.column->rows;
}

/* --- plan --- */

static int push_node(PrBuilder *b, PrColumn *column, int values) {
    Node n = {column, values, 0};
    return pr_bytes_append(&b->nodes, &n, sizeof n);
}

static int push_children(PrBuilder *b, Node n) {
    uint32_t i;
    PrColumn *c = n.column;
    if (!c) return 0;
    if (c->repeated && !n.values) return push_node(b, c, 1);
    for (i = 0; i < c->n_slots; i++) {
        PrColumn *child = c->kind == PR_UNION ? c->members[i] : c->slots[i].column;
        if (push_node(b, child, 0)) return -1;
    }
    return 0;
}

/* The two columns' sizes, unpadded. */
static void column_sizes(Node n, int kind, uint64_t *first, uint64_t *second) {
    const PrColumn *c = n.column;
    *second = 0;
    switch (kind) {
    case PR_NULL:
    case PR_BOOL: *first = ((uint64_t)wire_rows(n) + 7) / 8; break;
    case PR_INT8:
    case PR_INT16:
    case PR_INT32:
    case PR_INT64: *first = (uint64_t)c->rows * (uint64_t)int_width(c->bits); break;
    case PR_DICTIONARY: *first = c->c.size; break;
    default: *first = c->a.size; *second = c->b.size;
    }
}

static int describe_extras(PrBytes *d, Node n, int kind) {
    const PrColumn *c = n.column;
    uint32_t i;
    switch (kind) {
    case PR_UTF8:
    case PR_SURROGATES:
    case PR_BYTES:
    case PR_BYTEARRAY:
    case PR_BIGINT: pr_bytes_varint(d, c->b.size); break;
    case PR_TUPLE_RECORD:
    case PR_INSTANCE: pr_bytes_varint(d, c->extra); break;
    case PR_UNION: pr_bytes_varint(d, c->n_slots); break;
    case PR_REDUCE:
        d->data[d->size++] = c->sub;
        pr_bytes_varint(d, c->extra);
        break;
    case PR_DICT_RECORD:
        pr_bytes_varint(d, c->n_slots);
        for (i = 0; i < c->n_slots; i++) {
            if (pr_bytes_reserve(d, c->texts[i].size + 16)) return -1;
            pr_bytes_varint(d, c->texts[i].size);
            pr_bytes_append(d, c->texts[i].data, c->texts[i].size);
        }
        break;
    default: break;
    }
    return 0;
}

/* What decides the size of the part before the buffers. */
typedef struct {
    uint64_t columns;     /* padded */
    uint64_t record_rows; /* a byte each, at least */
} Sizes;

static int describe_node(PrBytes *d, Node *node, Sizes *sizes) {
    Node n = *node;
    int kind = node->kind = wire_kind(n);
    uint64_t first, second;
    if (pr_bytes_reserve(d, 64)) return -1;
    d->data[d->size++] =
        (uint8_t)(kind | (n.column && n.column->large && kind != PR_DICTIONARY ? PR_LARGE : 0));
    pr_bytes_varint(d, (uint64_t)wire_rows(n));
    if (describe_extras(d, n, kind)) return -1;
    column_sizes(n, kind, &first, &second);
    sizes->columns += pad8(first) + pad8(second);
    if (pr_is_record(kind)) sizes->record_rows += (uint64_t)n.column->rows;
    return 0;
}

static int compare_memo(const void *left, const void *right) {
    const PrMemoRow *a = left, *b = right;
    if (a->column->node != b->column->node) return a->column->node < b->column->node ? -1 : 1;
    return a->row < b->row ? -1 : a->row > b->row;
}

static uint64_t tables_size(const PrBuilder *b) {
    uint64_t size = 0, n_blobs = b->blobs.size / sizeof(PrBlob),
             n_memo = b->memo.size / sizeof(PrMemoRow);
    if (b->n_tensors)
        size += pad8(b->tensor_buffer.size) + pad8(b->tensor_dtype.size) +
                pad8(b->tensor_order.size) + pad8(b->tensor_shape_offsets.size) +
                pad8(b->tensor_shapes.size);
    return size + 16 * n_blobs + pad8(4 * n_memo) + 8 * n_memo + pad8(4 * n_memo);
}

static int describe(PrBuilder *b, uint32_t n_nodes, Sizes *sizes) {
    PrBytes *d = &b->description;
    Node *nodes = (Node *)(void *)b->nodes.data;
    uint32_t i;
    d->size = 0;
    if (pr_bytes_reserve(d, 80)) return -1;
    pr_bytes_varint(d, n_nodes);
    pr_bytes_varint(d, b->n_globals);
    pr_bytes_varint(d, b->n_dtypes);
    pr_bytes_varint(d, b->n_tensors);
    pr_bytes_varint(d, b->tensor_shapes.size / 8);
    pr_bytes_varint(d, b->blobs.size / sizeof(PrBlob));
    pr_bytes_varint(d, b->memo.size / sizeof(PrMemoRow));
    for (i = 0; i < n_nodes; i++)
        if (describe_node(d, &nodes[i], sizes)) return -1;
    return pr_bytes_append(d, b->globals.data, b->globals.size) ||
                   pr_bytes_append(d, b->dtypes.data, b->dtypes.size)
               ? -1
               : 0;
}

int pr_plan(PrBuilder *b) {
    Sizes sizes = {0, 0};
    uint64_t i;
    uint32_t n;
    b->nodes.size = 0;
    if (push_node(b, b->root.column, 0)) return -1;
    for (n = 0; n < b->nodes.size / sizeof(Node); n++) {
        Node node = ((const Node *)(const void *)b->nodes.data)[n];
        if (node.column) node.column->node = n;
        if (push_children(b, node)) return -1;
    }
    if (describe(b, n, &sizes)) return -1;
    if (b->description.size > UINT32_MAX) return -1;
    if (b->memo.size)
        qsort(b->memo.data, b->memo.size / sizeof(PrMemoRow), sizeof(PrMemoRow), compare_memo);
    b->head_size = pad8(16 + b->description.size) + sizes.columns + tables_size(b);
    if (b->head_size < sizes.record_rows) b->head_size = pad8(sizes.record_rows);
    b->total_size = pr_padded_head(b);
    for (i = 0; i < b->blobs.size / sizeof(PrBlob); i++)
        b->total_size += pad64((uint64_t)((const PrBlob *)(const void *)b->blobs.data)[i].size);
    return 0;
}

uint64_t pr_padded_head(const PrBuilder *b) {
    return b->blobs.size ? pad64(b->head_size) : b->head_size;
}

/* --- write --- */

/* Where the next column begins. The padding is written before the n bytes are, as part of the last
 * word: small messages are many small columns, and a call of memset each would be felt. */
static uint8_t *padded(uint8_t *out, uint64_t n) {
    uint64_t full = pad8(n);
    if (full != n) memset(out + full - 8, 0, 8);
    return out + full;
}

static uint8_t *copy(uint8_t *out, const PrBytes *b) {
    uint64_t n = b->size, i = 0;
    uint8_t *next = padded(out, n);
    if (n > 64) {
        memcpy(out, b->data, n);
        return next;
    }
    for (; i + 8 <= n; i += 8) memcpy(out + i, b->data + i, 8);
    for (; i < n; i++) out[i] = b->data[i];
    return next;
}

static uint8_t *write_ints(uint8_t *out, const PrColumn *c) {
    const int64_t *v = (const int64_t *)(const void *)c->a.data;
    int64_t i, n = c->rows;
    int width = int_width(c->bits);
    uint8_t *next;
    if (width == 8) return copy(out, &c->a);
    next = padded(out, (uint64_t)n * (uint64_t)width);
    if (width == 1)
        for (i = 0; i < n; i++) ((int8_t *)out)[i] = (int8_t)v[i];
    else if (width == 2)
        for (i = 0; i < n; i++) ((int16_t *)(void *)out)[i] = (int16_t)v[i];
    else
        for (i = 0; i < n; i++) ((int32_t *)(void *)out)[i] = (int32_t)v[i];
    return next;
}

static uint8_t *write_bools(uint8_t *out, const PrColumn *c) {
    uint64_t size = pad8(((uint64_t)c->rows + 7) / 8);
    int64_t i;
    memset(out, 0, size);
    for (i = 0; i < c->rows; i++) out[i >> 3] |= (uint8_t)(c->a.data[i] << (i & 7));
    return out + size;
}

static uint8_t *write_node(uint8_t *out, Node n) {
    uint64_t size;
    switch (n.kind) {
    case PR_NULL:
        size = pad8(((uint64_t)wire_rows(n) + 7) / 8);
        memset(out, 0, size);
        return out + size;
    case PR_BOOL: return write_bools(out, n.column);
    case PR_INT8:
    case PR_INT16:
    case PR_INT32:
    case PR_INT64: return write_ints(out, n.column);
    case PR_DICTIONARY: return copy(out, &n.column->c);
    default: return copy(copy(out, &n.column->a), &n.column->b);
    }
}

static uint8_t *write_buffer_table(uint8_t *out, const PrBuilder *b) {
    uint64_t n = b->blobs.size / sizeof(PrBlob), i;
    const PrBlob *blobs = (const PrBlob *)(const void *)b->blobs.data;
    int64_t *offsets = (int64_t *)(void *)out, position = 0;
    for (i = 0; i < n; i++) {
        offsets[i] = position;
        offsets[n + i] = blobs[i].size;
        position += (int64_t)pad64((uint64_t)blobs[i].size);
    }
    return out + 16 * n;
}

static uint8_t *write_memo(uint8_t *out, const PrBuilder *b) {
    uint64_t n = b->memo.size / sizeof(PrMemoRow), i;
    const PrMemoRow *rows = (const PrMemoRow *)(const void *)b->memo.data;
    uint8_t *node = out, *row = padded(node, 4 * n), *number = row + 8 * n;
    out = padded(number, 4 * n);
    for (i = 0; i < n; i++) {
        ((int32_t *)(void *)node)[i] = (int32_t)rows[i].column->node;
        ((int64_t *)(void *)row)[i] = rows[i].row;
        ((int32_t *)(void *)number)[i] = rows[i].number;
    }
    return out;
}

void pr_write_blobs(const PrBlob *blobs, size_t n, uint8_t *out) {
    size_t i;
    for (i = 0; i < n; i++) {
        uint64_t size = (uint64_t)blobs[i].size, full = pad64(size);
        if (size) pr_copy(out, blobs[i].data, size);
        memset(out + size, 0, full - size);
        out += full;
    }
}

void pr_write_head(const PrBuilder *b, uint8_t *out) {
    const Node *nodes = (const Node *)(const void *)b->nodes.data;
    uint32_t description_size = (uint32_t)b->description.size;
    const uint8_t *end = out + b->head_size;
    uint64_t i;
    memset(out, 0, 16);
    out[0] = PR_COLUMNS_BYTE;
    memcpy(out + 4, &description_size, 4);
    memcpy(out + 8, &b->total_size, 8);
    memcpy(out + 16, b->description.data, description_size);
    memset(out + 16 + description_size, 0, pad8(16 + description_size) - 16 - description_size);
    out += pad8(16 + description_size);
    for (i = 0; i < b->nodes.size / sizeof(Node); i++) out = write_node(out, nodes[i]);
    if (b->n_tensors) {
        out = copy(out, &b->tensor_buffer);
        out = copy(out, &b->tensor_dtype);
        out = copy(out, &b->tensor_order);
        out = copy(out, &b->tensor_shape_offsets);
        out = copy(out, &b->tensor_shapes);
    }
    out = write_memo(write_buffer_table(out, b), b);
    if (out < end) memset(out, 0, (size_t)(end - out));
}
