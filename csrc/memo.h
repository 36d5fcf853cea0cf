/* Which row an object became: a hash table from an address, or an address and a column, to an
 * entry. Entries are kept in the order they were made, in one array, so that their owner can walk
 * them (to drop its references, say). */
#ifndef PYRAY_MEMO_H
#define PYRAY_MEMO_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const void *key;
    void *column; /* NULL while the object has no row: in progress, or deferred */
    int64_t row;
    int32_t number; /* memo number, -1 while nobody refers to it */
} PrMemoEntry;

typedef struct {
    uint64_t hash;  /* of the key; compared before the entry is touched */
    uint32_t entry; /* index + 1; 0 is free */
} PrMemoCell;

typedef struct {
    PrMemoEntry *entries;
    PrMemoCell *cells;
    uint32_t n_entries, entries_capacity;
    uint32_t mask; /* cells - 1; 0 when there are none */
    int by_column; /* keys are an address and a column */
    int sparse;    /* how many messages in a row have had no use for so many cells */
} PrMemo;

static inline uint64_t pr_memo_hash(const void *key, const void *column) {
    uint64_t h = (uint64_t)(uintptr_t)key ^ ((uint64_t)(uintptr_t)column * 0x9e3779b97f4a7c15u);
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    return h ^ (h >> 29);
}

/* With column NULL the key alone counts, otherwise both: a table is used in one way only.
 * Entry index, or -1. */
static inline int64_t pr_memo_get(const PrMemo *m, const void *key, const void *column) {
    uint64_t hash, i;
    if (!m->n_entries) return -1;
    hash = pr_memo_hash(key, column);
    for (i = hash & m->mask; m->cells[i].entry; i = (i + 1) & m->mask) {
        if (m->cells[i].hash == hash) {
            const PrMemoEntry *e = &m->entries[m->cells[i].entry - 1];
            if (e->key == key && (!column || e->column == column)) return m->cells[i].entry - 1;
        }
    }
    return -1;
}

/* A new entry for a key that is not there: its index, or -1 when memory runs out. */
int64_t pr_memo_add(PrMemo *m, const void *key, const void *column);
/* Forgets the entries; keeps the memory unless it is more than a small message needs. */
void pr_memo_clear(PrMemo *m);
void pr_memo_free(PrMemo *m);

#endif
