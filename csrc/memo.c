#include "memo.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_CELLS = 256, KEPT_CELLS = 1 << 18, SPARSE = 8 };

static int grow_cells(PrMemo *m) {
    uint32_t n = m->mask ? (m->mask + 1) * 2 : FIRST_CELLS, i;
    PrMemoCell *cells;
    if (n == 0 || n > (1u << 31)) return -1;
    cells = calloc(n, sizeof *cells);
    if (!cells) return -1;
    for (i = 0; m->mask && i <= m->mask; i++) {
        if (m->cells[i].entry) {
            uint64_t j = m->cells[i].hash & (n - 1);
            while (cells[j].entry) j = (j + 1) & (n - 1);
            cells[j] = m->cells[i];
        }
    }
    free(m->cells);
    m->cells = cells;
    m->mask = n - 1;
    return 0;
}

int64_t pr_memo_add(PrMemo *m, const void *key, const void *column) {
    uint64_t hash = pr_memo_hash(key, column), i;
    PrMemoEntry *e;
    m->by_column = column != NULL;
    if ((uint64_t)m->n_entries * 2 >= m->mask && grow_cells(m)) return -1;
    if (m->n_entries == m->entries_capacity) {
        uint32_t capacity = m->entries_capacity ? m->entries_capacity * 2 : FIRST_CELLS / 2;
        PrMemoEntry *entries = realloc(m->entries, capacity * sizeof *entries);
        if (!entries) return -1;
        m->entries = entries;
        m->entries_capacity = capacity;
    }
    for (i = hash & m->mask; m->cells[i].entry; i = (i + 1) & m->mask) {
    }
    e = &m->entries[m->n_entries++];
    e->key = key;
    e->column = (void *)(uintptr_t)column;
    e->row = 0;
    e->number = -1;
    m->cells[i].hash = hash;
    m->cells[i].entry = m->n_entries;
    return m->n_entries - 1;
}

void pr_memo_clear(PrMemo *m) {
    if (!m->n_entries) return;
    m->sparse = m->n_entries < m->mask / 16 && m->mask >= FIRST_CELLS ? m->sparse + 1 : 0;
    /* What is looked up in a table beyond need is in no cache. */
    if (m->mask >= KEPT_CELLS || m->sparse == SPARSE) {
        pr_memo_free(m);
        return;
    }
    if (m->n_entries < m->mask / 16) {
        uint32_t k;
        for (k = 0; k < m->n_entries; k++) { /* each entry has a cell: the walk finds it */
            uint64_t i = (m->by_column ? pr_memo_hash(m->entries[k].key, m->entries[k].column)
                                       : pr_memo_hash(m->entries[k].key, NULL)) &
                         m->mask;
            while (m->cells[i].entry != k + 1) i = (i + 1) & m->mask;
            m->cells[i].entry = 0;
        }
    } else {
        memset(m->cells, 0, (m->mask + 1) * sizeof *m->cells);
    }
    m->n_entries = 0;
}

void pr_memo_free(PrMemo *m) {
    free(m->entries);
    free(m->cells);
    memset(m, 0, sizeof *m);
}
