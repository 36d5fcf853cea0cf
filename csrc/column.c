/* Slots, keys and promotion; the memory behind the columns. */
#include "column.h"

#include <stdlib.h>

struct PrArenaChunk {
    PrArenaChunk *next;
    size_t size, used;
};

enum { CHUNK = 16384 };

/* --- memory --- */

void *pr_arena(PrBuilder *b, size_t size) {
    PrArenaChunk *k = b->chunk;
    size = (size + 15) & ~(size_t)15;
    while (!k || k->size - k->used < size) {
        if (k && k->next) {
            k = k->next;
            k->used = 0;
        } else {
            size_t room = size > CHUNK ? size : CHUNK;
            PrArenaChunk *fresh = malloc(sizeof *fresh + 16 + room);
            if (!fresh) return NULL;
            fresh->next = NULL;
            fresh->size = room;
            fresh->used = 0;
            if (k) k->next = fresh;
            else b->first_chunk = fresh;
            k = fresh;
        }
        b->chunk = k;
    }
    k->used += size;
    return (uint8_t *)(((uintptr_t)(k + 1) + 15) & ~(uintptr_t)15) + (k->used - size);
}

static void free_chunks(PrArenaChunk *k) {
    while (k) {
        PrArenaChunk *next = k->next;
        free(k);
        k = next;
    }
}

static PrColumn *new_column(PrBuilder *b) {
    PrColumn *c;
    if (b->n_columns == b->n_made) {
        if (b->n_made == b->capacity) {
            uint32_t capacity = b->capacity ? b->capacity * 2 : 64;
            PrColumn **columns = realloc(b->columns, capacity * sizeof *columns);
            if (!columns) return NULL;
            b->columns = columns;
            b->capacity = capacity;
        }
        c = calloc(1, sizeof *c);
        if (!c) return NULL;
        b->columns[b->n_made++] = c;
    }
    c = b->columns[b->n_columns++];
    memset(c, 0, offsetof(PrColumn, a));
    c->a.size = c->b.size = c->c.size = 0;
    return c;
}

static void reset_slot(PrSlot *slot, uint8_t level) {
    slot->column = NULL;
    slot->level = level;
    slot->always_union = 0;
}

int pr_builder_init(PrBuilder *b) {
    memset(b, 0, sizeof *b);
    reset_slot(&b->root, PR_LEVEL_UNSET);
    return 0;
}

static void each_table(PrBuilder *b, void (*f)(PrBytes *)) {
    PrBytes *tables[] = {&b->memo,
                         &b->globals,
                         &b->dtypes,
                         &b->tensor_buffer,
                         &b->tensor_dtype,
                         &b->tensor_order,
                         &b->tensor_shape_offsets,
                         &b->tensor_shapes,
                         &b->blobs,
                         &b->nodes,
                         &b->description};
    size_t i;
    for (i = 0; i < sizeof tables / sizeof *tables; i++) f(tables[i]);
}

static void free_column(PrColumn *c) {
    pr_bytes_free(&c->a);
    pr_bytes_free(&c->b);
    pr_bytes_free(&c->c);
}

void pr_builder_free(PrBuilder *b) {
    uint32_t i;
    for (i = 0; i < b->n_made; i++) {
        free_column(b->columns[i]);
        free(b->columns[i]);
    }
    free(b->columns);
    free_chunks(b->first_chunk);
    each_table(b, pr_bytes_free);
    pr_builder_init(b);
}

static void empty(PrBytes *bytes) {
    if (bytes->capacity > 1 << 20) pr_bytes_free(bytes);
    bytes->size = 0;
}

/* Gives back what is more than `kept` bytes of columns, large tables, and odd numbers of columns.
 */
static void trim(PrBuilder *b, size_t kept) {
    uint32_t i;
    size_t total = 0;
    for (i = 0; i < b->n_columns; i++) {
        PrColumn *c = b->columns[i];
        size_t size = c->a.capacity + c->b.capacity + c->c.capacity;
        if (total + size > kept) free_column(c);
        else total += size;
    }
    /* Columns past this message's are counted by the message that used them last; their number
     * is bounded here, so that one odd message does not keep thousands. */
    while (b->n_made > 4 * PR_MAX_COLUMNS) {
        PrColumn *c = b->columns[--b->n_made];
        free_column(c);
        free(c);
    }
    each_table(b, empty);
}

void pr_builder_reset(PrBuilder *b, size_t kept) {
    /* A message that was not planned may be of any size; a small one left little behind. */
    if (b->total_size == 0 || b->total_size > 65536) trim(b, kept);
    b->total_size = 0;
    b->n_columns = 0;
    if (b->first_chunk) {
        if (b->first_chunk->next) {
            free_chunks(b->first_chunk->next);
            b->first_chunk->next = NULL;
        }
        b->first_chunk->used = 0;
        b->chunk = b->first_chunk;
    }
    reset_slot(&b->root, PR_LEVEL_UNSET);
    b->n_numbers = 0;
    b->n_globals = b->n_dtypes = b->n_tensors = 0;
    b->memo.size = b->globals.size = b->dtypes.size = b->blobs.size = 0;
    b->tensor_buffer.size = b->tensor_dtype.size = b->tensor_order.size = 0;
    b->tensor_shape_offsets.size = b->tensor_shapes.size = 0;
}

/* --- keys --- */

static int matches(const PrColumn *c, int kind, int sub, uint32_t extra) {
    return c->kind == kind && c->sub == sub && c->extra == extra;
}

PrColumn *pr_find(const PrSlot *slot, int kind, int sub, uint32_t extra) {
    PrColumn *c = slot->column, *last;
    uint32_t i;
    if (!c) return NULL;
    if (c->kind != PR_UNION) return matches(c, kind, sub, extra) ? c : NULL;
    if (!c->by_kind[kind]) return NULL;
    last = c->members[c->by_kind[kind] - 1];
    if (matches(last, kind, sub, extra)) return last;
    for (i = 0; i < c->n_slots; i++) {
        if (matches(c->members[i], kind, sub, extra)) return c->members[i];
    }
    return NULL;
}

int pr_count_kind(const PrSlot *slot, int kind) {
    const PrColumn *c = slot->column;
    uint32_t i;
    int n = 0;
    if (!c) return 0;
    if (c->kind != PR_UNION) return c->kind == kind;
    for (i = 0; i < c->n_slots; i++) n += c->members[i]->kind == kind;
    return n;
}

uint32_t pr_count_members(const PrSlot *slot) {
    if (!slot->column) return 0;
    return slot->column->kind == PR_UNION ? slot->column->n_slots : 1;
}

/* --- promotion --- */

static int64_t column_rows(const PrColumn *c) {
    return c->repeated ? (int64_t)(c->c.size / 4) : c->rows;
}

static int add_member(PrBuilder *b, PrColumn *u, PrColumn *c) {
    if ((u->n_slots & (u->n_slots - 1)) == 0) { /* room runs out at 0, 1, 2, 4, 8, ... */
        PrColumn **members = pr_arena(b, (u->n_slots ? u->n_slots * 2 : 1) * sizeof *members);
        if (!members) return -1;
        if (u->n_slots) memcpy(members, u->members, u->n_slots * sizeof *members);
        u->members = members;
    }
    c->member = (int8_t)u->n_slots;
    u->members[u->n_slots++] = c;
    u->by_kind[c->kind] = (uint8_t)u->n_slots;
    return 0;
}

/* A UNION for the slot, over what stands there. */
static PrColumn *promote(PrBuilder *b, PrSlot *slot) {
    PrColumn *old = slot->column, *u = new_column(b);
    int64_t i, n;
    if (!u) return NULL;
    u->kind = PR_UNION;
    u->by_kind = pr_arena(b, PR_KIND_LIMIT);
    if (!u->by_kind) return NULL;
    memset(u->by_kind, 0, PR_KIND_LIMIT);
    if (old) {
        n = column_rows(old);
        if (add_member(b, u, old)) return NULL;
        u->large = n > INT32_MAX;
        if (pr_bytes_reserve(&u->a, (size_t)n) ||
            pr_bytes_reserve(&u->b, (size_t)n * (u->large ? 8 : 4)))
            return NULL;
        memset(u->a.data, 0, (size_t)n);
        u->a.size = (size_t)n;
        for (i = 0; i < n; i++) {
            if (u->large) ((int64_t *)(void *)u->b.data)[i] = i;
            else ((int32_t *)(void *)u->b.data)[i] = (int32_t)i;
        }
        u->b.size = (size_t)n * (u->large ? 8 : 4);
        u->rows = n;
    }
    slot->column = u;
    return u;
}

static uint8_t child_level(uint8_t level, int kind, int sub, uint32_t child) {
    switch (kind) {
    case PR_DICT_RECORD:
    case PR_TUPLE_RECORD:
        return level == PR_LEVEL_UNSET || level == 0 ? level : (uint8_t)(level - 1);
    case PR_REDUCE: /* the arguments come after the function, if that is a child */
        return child == (uint32_t)(sub & PR_PART_FUNCTION) && level == PR_LEVEL_UNSET
                   ? PR_LEVEL_START
                   : level;
    default: return level;
    }
}

static int has_offsets(int kind) {
    return (kind >= PR_UTF8 && kind <= PR_BIGINT) || (kind >= PR_LIST && kind <= PR_DICT);
}

PrColumn *pr_add(PrBuilder *b, PrSlot *slot, int kind, int sub, uint32_t extra, uint32_t n_slots) {
    PrColumn *c, *above = NULL;
    uint32_t i;
    if (slot->column || slot->always_union) {
        above = slot->column;
        if (!above || above->kind != PR_UNION) above = promote(b, slot);
        if (!above) return NULL;
    }
    c = new_column(b);
    if (!c) return NULL;
    c->kind = (uint8_t)kind;
    c->sub = (uint8_t)sub;
    c->extra = extra;
    c->n_slots = n_slots;
    if (n_slots) {
        c->slots = pr_arena(b, n_slots * sizeof *c->slots);
        if (!c->slots) return NULL;
        for (i = 0; i < n_slots; i++)
            reset_slot(&c->slots[i], child_level(slot->level, kind, sub, i));
        if (kind == PR_TUPLE && sub == PR_SHORT) c->slots[0].always_union = 1;
    }
    if (has_offsets(kind) && pr_bytes_push32(&c->a, 0)) return NULL;
    if (above) {
        if (add_member(b, above, c)) return NULL;
    } else {
        slot->column = c;
    }
    return c;
}

/* --- rows --- */

int pr_widen_offsets(PrColumn *c, PrBytes *offsets) {
    size_t n = offsets->size / 4, i;
    if (pr_bytes_reserve(offsets, n * 4 + 8)) return -1;
    for (i = n; i-- > 0;) {
        int32_t narrow;
        int64_t wide;
        memcpy(&narrow, offsets->data + 4 * i, 4);
        wide = narrow;
        memcpy(offsets->data + 8 * i, &wide, 8);
    }
    offsets->size = n * 8;
    c->large = 1;
    return 0;
}

int pr_union_row(PrColumn *u, PrColumn *member) {
    int64_t row = column_rows(member);
    u->by_kind[member->kind] = (uint8_t)(member->member + 1);
    u->rows++;
    if (pr_bytes_push8(&u->a, (uint8_t)member->member)) return -1;
    if (!u->large) {
        if (row <= INT32_MAX) return pr_bytes_push32(&u->b, (int32_t)row);
        if (pr_widen_offsets(u, &u->b)) return -1;
    }
    return pr_bytes_push64(&u->b, row);
}

int pr_make_repeated(PrColumn *c) {
    int64_t i;
    if (c->repeated) return 0;
    if (c->rows > INT32_MAX || pr_bytes_reserve(&c->c, (size_t)c->rows * 4 + 4)) return -1;
    for (i = 0; i < c->rows; i++) ((int32_t *)(void *)c->c.data)[i] = (int32_t)i;
    c->c.size = (size_t)c->rows * 4;
    c->repeated = 1;
    return 0;
}
