/* A parsed columns message: where each node's columns lie, checked against the message's size.
 *
 * The layout is docs/format.md. pr_message_parse reads the description once, in one loop, and
 * computes every position; it proves that each column lies inside the message and that the tree of
 * nodes is sound. What it does not prove is the content of columns (offsets, type ids, indices):
 * whoever follows one checks it there, with the inline functions below, so that a lazy reader pays
 * only for what it touches. pr_message_check proves the memo and the buffer table, once a reader
 * needs them. Knows nothing of Python; the caller keeps the bytes alive.
 */
#ifndef PYRAY_MESSAGE_H
#define PYRAY_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

enum { PR_VERSION = 1, PR_COLUMNS_BYTE = 0x1f, PR_LARGE = 0x40 };

/* First-byte tags of scalar messages. */
enum {
    PR_TAG_NONE = 0,
    PR_TAG_FALSE = 1,
    PR_TAG_TRUE = 2,
    PR_TAG_INT = 3,
    PR_TAG_FLOAT = 4,
    PR_TAG_STR = 5,
    PR_TAG_SURROGATES = 6,
    PR_TAG_BYTES = 7,
    PR_TAG_COLUMNS = 15
};

/* Node kinds, docs/format.md section 4. */
enum {
    PR_NULL = 0,
    PR_BOOL = 1,
    PR_INT8 = 2,
    PR_INT16 = 3,
    PR_INT32 = 4,
    PR_INT64 = 5,
    PR_FLOAT64 = 6,
    PR_COMPLEX128 = 7,
    PR_UTF8 = 8,
    PR_SURROGATES = 10,
    PR_BYTES = 11,
    PR_BYTEARRAY = 12,
    PR_BIGINT = 13,
    PR_DICTIONARY = 14,
    PR_REF = 15,
    PR_GLOBAL = 16,
    PR_BYTES_BUFFER = 17,
    PR_BYTEARRAY_BUFFER = 18,
    PR_BUFFER = 19,
    PR_NDARRAY = 20,
    PR_LIST = 21,
    PR_TUPLE = 22,
    PR_SET = 23,
    PR_FROZENSET = 24,
    PR_DICT = 25,
    PR_DICT_RECORD = 26,
    PR_TUPLE_RECORD = 27,
    PR_INSTANCE = 28,
    PR_REDUCE = 29,
    PR_UNION = 30,
    PR_BUFFER_WRITABLE = 31,
    PR_KIND_LIMIT = 32
};

/* Parts of a REDUCE, in the order of its children. */
enum {
    PR_PART_FUNCTION = 1,
    PR_PART_ARGUMENTS = 2,
    PR_PART_LIST_ITEMS = 4,
    PR_PART_DICT_ITEMS = 8,
    PR_PART_STATE = 16,
    PR_PART_SETTER = 32
};

/* Bytes that must be in-band are cut out of line from this size on. */
enum { PR_OUT_OF_LINE = 4096 };

/* A message whose description needs no more than this is parsed without an allocation. */
enum { PR_INLINE_STORAGE = 3072 };

typedef struct {
    const uint8_t *data;
    uint64_t size;
} PrText;

typedef struct {
    uint8_t kind;     /* without the LARGE bit */
    uint8_t large;    /* offsets are int64 */
    uint8_t parts;    /* REDUCE */
    uint8_t has_refs; /* it or a node below it is a REF */
    uint32_t parent;  /* node index; 0 for the root */
    uint32_t child;   /* index of the first child */
    uint32_t n_children;
    uint32_t extra; /* INSTANCE: global; REDUCE: global + 1 or 0; records: first name in
                       PrMessage.names */
    int64_t rows;
    uint64_t data_size;            /* binary layouts */
    const uint8_t *a;              /* values, bitmap, offsets, type ids */
    const uint8_t *b;              /* data of binary layouts, offsets of UNION */
    uint32_t memo_begin, memo_end; /* its entries in the memo columns */
} PrNode;

typedef struct {
    const uint8_t *base;
    uint64_t size;
    uint32_t n_nodes, n_globals, n_dtypes, n_tensors, n_buffers, n_memo, n_names;
    uint64_t n_dims;
    uint64_t record_rows; /* of all nodes without a column; at most head_size */
    PrNode *nodes;
    PrText *names;   /* field names of DICT_RECORDs, in node order */
    PrText *globals; /* module, qualified name alternately: 2 * n_globals */
    PrText *dtypes;
    const int32_t *tensor_buffer, *tensor_dtype, *tensor_shape_offsets;
    const int8_t *tensor_order;
    const int64_t *tensor_shapes;
    const int64_t *buffer_offsets, *buffer_sizes;
    const uint8_t *buffers; /* start of the buffers part */
    const int32_t *memo_node, *memo_number;
    const int64_t *memo_row;
    uint64_t head_size;  /* of everything before the buffers part, its padding included */
    uint32_t n_numbers;  /* distinct memo numbers; 0 until pr_message_check */
    int32_t *memo_first; /* number -> first entry that carries it; NULL until then */
    int checked;
    const char *error; /* what was wrong, when a function fails */
    void *storage;     /* the allocation behind nodes, names, ..., if `here` was too small */
    void *here[PR_INLINE_STORAGE / sizeof(void *)];
} PrMessage;

/* Parses a columns message (first byte 0x1f) of at least its total size at `base`; what follows
 * the message is ignored. Returns 0, or -1 with m->error set (a static text). At most one
 * allocation, proportional to the description's own size; pr_message_free gives it back (also
 * after a failure). `m` must not be moved afterwards. Any alignment of `base` will do for this
 * function and pr_message_realign; all the others want the columns aligned to 8. */
int pr_message_parse(PrMessage *m, const uint8_t *base, uint64_t size);
void pr_message_free(PrMessage *m);

/* Lets the columns be read from `head`, a copy of the first m->head_size bytes. Buffers are still
 * read from the original. */
void pr_message_realign(PrMessage *m, const uint8_t *head);

/* Proves the memo (sorted, rows that exist, numbers without gaps) and the buffer table (inside the
 * message, ascending), and makes memo_first. Takes time in proportion to both. 0 or -1. */
int pr_message_check(PrMessage *m);

/* First entry of the node whose row is not less than `row`, or its memo_end. */
uint32_t pr_memo_lower_bound(const PrMessage *m, const PrNode *node, int64_t row);

/* The in-band buffer of that index; 0, or -1 when there is none inside the message. */
int pr_message_buffer(const PrMessage *m, int64_t index, const uint8_t **data, uint64_t *size);

/* Reads an unsigned LEB128 number at *at; 0, or -1 when it is too long or ends beyond `end`. */
int pr_varint(const uint8_t **at, const uint8_t *end, uint64_t *value);

/* Records, INSTANCE and REDUCE: their rows are rows of their children. As they have no column, each
 * of their rows counts for a byte of the part before the buffers, which is padded if need be. */
static inline int pr_is_record(int kind) {
    return kind >= PR_DICT_RECORD && kind <= PR_REDUCE;
}

/* Offsets column (a for lists and binary layouts), row in [0, rows]. */
static inline int64_t pr_offset(const PrNode *n, const uint8_t *column, int64_t row) {
    return n->large ? ((const int64_t *)(const void *)column)[row]
                    : ((const int32_t *)(const void *)column)[row];
}

/* The half-open range of row's items or bytes; 0, or -1 when it leaves [0, limit]. */
static inline int pr_range(const PrNode *n, int64_t row, int64_t limit, int64_t *begin,
                           int64_t *end) {
    int64_t lo = pr_offset(n, n->a, row), hi = pr_offset(n, n->a, row + 1);
    *begin = lo;
    *end = hi;
    return (lo < 0 || hi < lo || hi > limit) ? -1 : 0;
}

#endif
