/* Columns under construction: the builders behind the encoder.
 *
 * A slot is a place for a node; it holds nothing, one typed column, or a UNION of them, and
 * changes from one to the next as values arrive (docs/format.md, section 7). Columns never move:
 * promotion puts a new UNION column above the old one, so that what remembers (column, row) stays
 * right. Columns belong to the builder, which keeps them and their buffers for the next message.
 * Every function that can run out of memory returns NULL or -1.
 */
#ifndef PYRAY_COLUMN_H
#define PYRAY_COLUMN_H

#include "bytes.h"
#include "message.h"

enum {
    PR_LEVEL_UNSET = 255,
    PR_LEVEL_START = 3,
    PR_MAX_COLUMNS = 1024,
    PR_MAX_ARITIES = 8,
    PR_MAX_CALLABLES = 40
};

/* The key's second part for LIST and TUPLE: the class of the first item. */
enum { PR_OTHER = 0, PR_BOOLS = 1, PR_INTS = 2, PR_FLOATS = 3, PR_STRS = 4, PR_SHORT = 5 };

typedef struct PrColumn PrColumn;

typedef struct {
    PrColumn *column;     /* NULL while empty */
    uint8_t level;        /* record level */
    uint8_t always_union; /* the child of TUPLE, SHORT */
} PrSlot;

struct PrColumn {
    uint8_t kind;     /* ints of all widths are PR_INT64 until the message is planned */
    uint8_t sub;      /* LIST, TUPLE: item class; REDUCE: parts */
    uint8_t large;    /* offsets are int64 */
    uint8_t repeated; /* UTF8: has indices in c, and is written as a DICTIONARY */
    int8_t member;    /* index in the UNION above */
    uint32_t extra;   /* global, arity, number of fields */
    uint32_t n_slots; /* children; UNION: members */
    uint32_t node;    /* set by pr_plan; of a DICTIONARY the node of its values */
    int64_t rows;     /* values, for a UTF8 column that is repeated: c has one index a row */
    uint64_t bits;    /* INT: all magnitudes or-ed */
    PrSlot *slots;
    PrColumn **members; /* UNION */
    uint8_t *by_kind;   /* UNION: 1 + index of the member of a kind that was used last, or 0 */
    const void **names; /* DICT_RECORD: the caller's handles of the field names */
    PrText *texts;      /* DICT_RECORD: the field names */
    /* Their memory stays with the column for the next message, so they come last. */
    PrBytes a, b, c; /* fixed width values, offsets or type ids; data or offsets; indices */
};

typedef struct {
    const void *data;
    int64_t size;
} PrBlob;

typedef struct {
    PrColumn *column;
    int64_t row;
    int32_t number;
} PrMemoRow;

typedef struct PrArenaChunk PrArenaChunk;

typedef struct {
    PrColumn **columns; /* all ever made; the first n_columns belong to this message */
    uint32_t n_columns, n_made, capacity;
    PrArenaChunk *chunk, *first_chunk;
    PrSlot root;
    PrBytes memo; /* PrMemoRow */
    int32_t n_numbers;
    PrBytes globals; /* texts as in the description */
    PrBytes dtypes;
    uint32_t n_globals, n_dtypes, n_tensors;
    PrBytes tensor_buffer, tensor_dtype, tensor_order, tensor_shape_offsets, tensor_shapes;
    PrBytes blobs; /* PrBlob, in-band buffers; the caller keeps their memory alive */
    /* Set by pr_plan. */
    PrBytes nodes, description;
    uint64_t head_size; /* all before the first buffer's bytes */
    uint64_t total_size;
} PrBuilder;

int pr_builder_init(PrBuilder *b);
void pr_builder_free(PrBuilder *b);
/* Forgets the message; keeps at most `kept` bytes of buffers. */
void pr_builder_reset(PrBuilder *b, size_t kept);

/* The column of a key in the slot, or NULL. */
PrColumn *pr_find(const PrSlot *slot, int kind, int sub, uint32_t extra);
/* A new column of that key in the slot, which has none; promotes the slot to a UNION if it
 * must. The children's slots are empty. */
PrColumn *pr_add(PrBuilder *b, PrSlot *slot, int kind, int sub, uint32_t extra, uint32_t n_slots);
/* How many arities of TUPLE_RECORD, and how many members, the slot has. */
int pr_count_kind(const PrSlot *slot, int kind);
uint32_t pr_count_members(const PrSlot *slot);
void *pr_arena(PrBuilder *b, size_t size);

int pr_widen_offsets(PrColumn *c, PrBytes *offsets);
int pr_union_row(PrColumn *u, PrColumn *member);

/* Announces the next row of `column`, which stands in `slot`. Call before anything is appended. */
static inline int pr_row(PrSlot *slot, PrColumn *column) {
    return slot->column == column ? 0 : pr_union_row(slot->column, column);
}

/* Appends an end offset (the first one is preceded by 0) and counts the row. */
static inline int pr_end(PrColumn *c, int64_t end) {
    if (!c->large) {
        if (end <= INT32_MAX) {
            c->rows++;
            return pr_bytes_push32(&c->a, (int32_t)end);
        }
        if (pr_widen_offsets(c, &c->a)) return -1;
    }
    c->rows++;
    return pr_bytes_push64(&c->a, end);
}

/* Starts a row of a list-like column that has n items; its children begin at the returned row. */
static inline int pr_list_row(PrSlot *slot, PrColumn *c, int64_t n) {
    int64_t begin;
    if (pr_row(slot, c)) return -1;
    if (c->large) memcpy(&begin, c->a.data + c->a.size - 8, 8);
    else {
        int32_t narrow;
        memcpy(&narrow, c->a.data + c->a.size - 4, 4);
        begin = narrow;
    }
    return pr_end(c, begin + n);
}

static inline int pr_int_row(PrSlot *slot, PrColumn *c, int64_t v) {
    if (pr_row(slot, c)) return -1;
    c->bits |= (uint64_t)(v ^ (v >> 63));
    c->rows++;
    return pr_bytes_push64(&c->a, v);
}

static inline int pr_float_row(PrSlot *slot, PrColumn *c, double v) {
    if (pr_row(slot, c) || pr_bytes_reserve(&c->a, 8)) return -1;
    memcpy(c->a.data + c->a.size, &v, 8);
    c->a.size += 8;
    c->rows++;
    return 0;
}

static inline int pr_index_row(PrSlot *slot, PrColumn *c, int32_t v) {
    if (pr_row(slot, c)) return -1;
    c->rows++;
    return pr_bytes_push32(&c->a, v);
}

/* Binary layouts: the data is appended by the caller to c->b after this; size is its length. */
static inline int pr_data_row(PrSlot *slot, PrColumn *c, const void *data, int64_t size) {
    if (pr_row(slot, c)) return -1;
    if (pr_bytes_append(&c->b, data, (size_t)size)) return -1;
    return pr_end(c, (int64_t)c->b.size);
}

/* A UTF8 column gets indices, one for each row so far. */
int pr_make_repeated(PrColumn *c);

/* Lays the message out: numbers the nodes, writes the description, sets the sizes. */
int pr_plan(PrBuilder *b);
/* Writes everything before the buffers' bytes: head_size bytes. */
void pr_write_head(const PrBuilder *b, uint8_t *out);
uint64_t pr_padded_head(const PrBuilder *b);
/* The buffers' bytes, each padded to 64: what follows the padded head. */
void pr_write_blobs(const PrBlob *blobs, size_t n, uint8_t *out);

#endif
