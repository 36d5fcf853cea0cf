/* Two-level segregated fit, with all metadata apart from the payload.
 *
 * The payload is cut into units of 64 bytes and pages of 64 units. Each page has a record; bits of
 * the record say at which units a block starts, and which of these blocks are free. The size of a
 * block is the distance to the next start. A block of fewer than 64 units ("small") has that start
 * in its own page or in the next. A longer one ("large") has its size in the record: as no two
 * large blocks start in the same page, nor do two end there, one field a record will do, and the
 * record itself stands for the block in the list of its bin.
 *
 * Free large blocks are in lists by size: a row a power of two, 32 columns a row. Small free blocks
 * are in no list; the pages are, by the size of the largest small free block that starts there.
 * Taking the best fit in the first page whose largest is the smallest that suffices packs like best
 * fit, at no metadata for small blocks but their bits.
 *
 * From `top` on everything is new. The start bit at top is set, and not free, as if a block began
 * there: so no block before it needs to know that it is the last.
 *
 * Invariants (pr_arena_check proves them):
 * - Blocks tile the units from 0 to top. Unit 0 is a block in use that nobody owns.
 * - No two free blocks touch. A free block that ends at top is not part of the new memory.
 * - page.large != 0 if and only if the last block that starts in the page is a large one.
 * - page.most is the size of the largest small free block that starts in the page, and the page is
 *   in the list of that size unless it is 0.
 * - The page where a free large block ends names in `tail` the page where it starts. In all other
 *   pages `tail` is stale, so whoever follows it checks where it leads.
 * - Records behind the one of top are zero; they were never written.
 *
 * Crashes: no order of stores is kept. pr_arena_rebuild starts from zeroed records.
 */
#include "arena.h"
#include "crash.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    UNIT_BITS = 6,
    PAGE_BITS = 6, /* units a page */
    PAGE_UNITS = 1 << PAGE_BITS,
    COLUMN_BITS = 5,
    COLUMNS = 1 << COLUMN_BITS,
    ROWS = 40 - UNIT_BITS - PAGE_BITS + 1, /* sizes from 64 to 2^34 units */
    PATIENCE = 16
};

#define NONE UINT32_MAX
#define NOWHERE UINT64_MAX

typedef struct {
    uint64_t starts;        /* units where a block starts */
    uint64_t frees;         /* those of them that start a free block */
    uint64_t large;         /* units of the large block that starts here; 0: none does */
    uint32_t next, prev;    /* pages in the list of that block's bin, if it is free */
    uint32_t after, before; /* pages in the list of `most` */
    uint32_t tail;          /* where the free large block starts that ends here */
    uint32_t most;
} Page;

struct PrArena {
    uint64_t units, top, used, peak; /* in units */
    uint64_t blocks, free_blocks;
    uint64_t small; /* bit n: there are pages with most == n */
    uint64_t rows;  /* bit n: columns[n] != 0 */
    uint32_t columns[ROWS];
    uint32_t small_first[PAGE_UNITS];
    uint32_t large_first[ROWS * COLUMNS];
    _Alignas(64) Page pages[];
};

/* -- units and bits ---------------------------------------------------------------------------- */

static inline int lowest(uint64_t bits) {
    return __builtin_ctzll(bits);
}

static inline int highest(uint64_t bits) {
    return 63 - __builtin_clzll(bits);
}

static inline Page *page_of(const PrArena *a, uint64_t unit) {
    return (Page *)&a->pages[unit >> PAGE_BITS];
}

static inline uint32_t index_of(uint64_t unit) {
    return (uint32_t)(unit >> PAGE_BITS);
}

static inline uint64_t bit_of(uint64_t unit) {
    return (uint64_t)1 << (unit % PAGE_UNITS);
}

/* Where the last block of a page starts. */
static inline uint64_t last_start(const PrArena *a, uint32_t page) {
    return ((uint64_t)page << PAGE_BITS) + (uint64_t)highest(a->pages[page].starts);
}

static uint64_t units_of_capacity(uint64_t capacity) {
    if (capacity > PR_ARENA_MOST) capacity = PR_ARENA_MOST;
    return capacity < PR_ARENA_UNIT ? 1 : capacity >> UNIT_BITS;
}

static inline int is_paged(uint64_t size) {
    return size >= PR_ARENA_PAGED;
}

/* Units of a block for `size` bytes, size <= PR_ARENA_MOST. */
static inline uint64_t units_of_size(uint64_t size) {
    uint64_t to = is_paged(size) ? PR_ARENA_PAGE : PR_ARENA_UNIT;
    return size ? (size + to - 1) / to * (to >> UNIT_BITS) : 1;
}

/* Units from `unit` to where a block may start. */
static inline uint64_t front_of(uint64_t unit, int paged) {
    return paged ? -unit % PAGE_UNITS : 0;
}

/* -- blocks ------------------------------------------------------------------------------------ */

static inline uint64_t size_of(const PrArena *a, uint64_t unit) {
    const Page *p = page_of(a, unit);
    uint64_t above = p->starts >> (unit % PAGE_UNITS) >> 1;
    if (above) return (uint64_t)lowest(above) + 1;
    if (p->large) return p->large;
    return PAGE_UNITS - unit % PAGE_UNITS + (uint64_t)lowest(p[1].starts);
}

static inline int is_free(const PrArena *a, uint64_t unit) {
    return (page_of(a, unit)->frees & bit_of(unit)) != 0;
}

static inline int is_used(const PrArena *a, uint64_t unit) {
    const Page *p = page_of(a, unit);
    return unit > 0 && unit < a->top && (p->starts & ~p->frees & bit_of(unit)) != 0;
}

/* The next unit from `unit` on that has a start bit; `limit` if none before it. */
static uint64_t next_start(const PrArena *a, uint64_t unit, uint64_t limit) {
    while (unit < limit) {
        uint64_t bits = page_of(a, unit)->starts >> (unit % PAGE_UNITS);
        if (bits) {
            unit += (uint64_t)lowest(bits);
            return unit < limit ? unit : limit;
        }
        unit = (unit | (PAGE_UNITS - 1)) + 1;
    }
    return limit;
}

/* Start of the free block that ends at `unit`, which is a start itself and not 0; or NOWHERE. */
static uint64_t free_before(const PrArena *a, uint64_t unit) {
    uint32_t page = index_of(unit);
    uint64_t below = a->pages[page].starts & (bit_of(unit) - 1), start;
    if (below) {
        start = ((uint64_t)page << PAGE_BITS) + (uint64_t)highest(below);
        return is_free(a, start) ? start : NOWHERE;
    }
    if (a->pages[page - 1].starts) {
        start = last_start(a, page - 1);
        return is_free(a, start) ? start : NOWHERE;
    }
    page = page_of(a, unit - 1)->tail;
    if (!a->pages[page].large) return NOWHERE;
    start = last_start(a, page);
    return start + a->pages[page].large == unit && is_free(a, start) ? start : NOWHERE;
}

/* -- small free blocks: pages by their largest ------------------------------------------------- */

static void set_most(PrArena *a, uint32_t page, uint32_t most) {
    Page *p = &a->pages[page];
    if (p->most) {
        if (p->after != NONE) a->pages[p->after].before = p->before;
        if (p->before != NONE) {
            a->pages[p->before].after = p->after;
        } else {
            a->small_first[p->most] = p->after;
            if (p->after == NONE) a->small &= ~((uint64_t)1 << p->most);
        }
    }
    p->most = most;
    if (!most) return;
    p->before = NONE;
    p->after = a->small_first[most];
    if (p->after != NONE) a->pages[p->after].before = page;
    a->small_first[most] = page;
    a->small |= (uint64_t)1 << most;
}

/* Units of the small block that starts at this bit of the page; PAGE_UNITS if it is large. */
static inline uint32_t small_size(const Page *p, int bit) {
    uint64_t above = p->starts >> bit >> 1;
    if (above) return (uint32_t)lowest(above) + 1;
    if (p->large) return PAGE_UNITS;
    return (uint32_t)(PAGE_UNITS - bit + lowest(p[1].starts));
}

/* The largest small free block of the page, which is at most `bound`. */
static uint32_t find_most(const Page *p, uint32_t bound) {
    uint64_t frees = p->frees;
    uint32_t most = 0;
    for (; frees && most < bound; frees &= frees - 1) {
        uint32_t size = small_size(p, lowest(frees));
        if (size < PAGE_UNITS && size > most) most = size;
    }
    return most;
}

/* The bit of the smallest free block of the page that has `need` units; there is one. */
static int find_small(const Page *p, uint32_t need) {
    uint64_t frees = p->frees;
    uint32_t best = PAGE_UNITS;
    int found = 0;
    for (; frees && best > need; frees &= frees - 1) {
        uint32_t size = small_size(p, lowest(frees));
        if (size < need || size >= best) continue;
        best = size;
        found = lowest(frees);
    }
    return found;
}

/* -- large free blocks: lists by size ---------------------------------------------------------- */

static inline uint32_t bin_of(uint64_t units) {
    int log = highest(units);
    uint64_t column = units >> (log - COLUMN_BITS) & (COLUMNS - 1);
    return (uint32_t)(log - PAGE_BITS) * COLUMNS + (uint32_t)column;
}

/* The first bin whose blocks all have that many units. */
static inline uint32_t bin_above(uint64_t units) {
    return bin_of(units + ((uint64_t)1 << (highest(units) - COLUMN_BITS)) - 1);
}

/* The first bin from `bin` on that has a block; NONE. */
static uint32_t find_bin(const PrArena *a, uint32_t bin) {
    uint32_t row = bin / COLUMNS, columns;
    uint64_t rows;
    if (row >= ROWS) return NONE;
    columns = a->columns[row] & (UINT32_MAX << bin % COLUMNS);
    if (!columns) {
        rows = a->rows & (UINT64_MAX << row << 1);
        if (!rows) return NONE;
        row = (uint32_t)lowest(rows);
        columns = a->columns[row];
    }
    return row * COLUMNS + (uint32_t)lowest(columns);
}

static void insert_large(PrArena *a, uint64_t unit, uint64_t size) {
    uint32_t page = index_of(unit), bin = bin_of(size);
    Page *p = &a->pages[page];
    p->large = size;
    p->prev = NONE;
    p->next = a->large_first[bin];
    if (p->next != NONE) a->pages[p->next].prev = page;
    a->large_first[bin] = page;
    a->columns[bin / COLUMNS] |= 1u << bin % COLUMNS;
    a->rows |= (uint64_t)1 << bin / COLUMNS;
    page_of(a, unit + size - 1)->tail = page;
}

static void remove_large(PrArena *a, uint64_t unit, uint64_t size) {
    Page *p = page_of(a, unit);
    p->large = 0;
    if (p->next != NONE) a->pages[p->next].prev = p->prev;
    if (p->prev != NONE) {
        a->pages[p->prev].next = p->next;
        return;
    }
    uint32_t bin = bin_of(size);
    a->large_first[bin] = p->next;
    if (p->next != NONE) return;
    a->columns[bin / COLUMNS] &= ~(1u << bin % COLUMNS);
    if (!a->columns[bin / COLUMNS]) a->rows &= ~((uint64_t)1 << bin / COLUMNS);
}

/* Of the blocks whose bin does not tell whether they fit, the best among PATIENCE, or the first
 * that fits among `limit`; NONE. */
static uint32_t search(const PrArena *a, uint64_t need, int paged, uint64_t limit) {
    uint32_t end = bin_above(need + (paged ? PAGE_UNITS - 1 : 0)), bin, page, best = NONE;
    uint64_t seen = 0;
    for (bin = find_bin(a, bin_of(need)); bin < end; bin = find_bin(a, bin + 1)) {
        for (page = a->large_first[bin]; page != NONE; page = a->pages[page].next) {
            uint64_t size = a->pages[page].large;
            if (seen++ >= (best == NONE ? limit : PATIENCE)) return best;
            if (front_of(last_start(a, page), paged) + need > size) continue;
            if (size == need) return page;
            if (best == NONE || size < a->pages[best].large) best = page;
        }
    }
    return best;
}

/* -- making and taking free blocks ------------------------------------------------------------- */

/* The start bits of a block are its caller's affair; the rest of being free is done here. */
static void attach(PrArena *a, uint64_t unit, uint64_t size) {
    Page *p = page_of(a, unit);
    p->frees |= bit_of(unit);
    pr_crash_point();
    a->free_blocks++;
    if (size >= PAGE_UNITS) {
        insert_large(a, unit, size);
    } else if (size > p->most) {
        set_most(a, index_of(unit), (uint32_t)size);
    }
}

static void detach(PrArena *a, uint64_t unit, uint64_t size) {
    Page *p = page_of(a, unit);
    p->frees &= ~bit_of(unit);
    pr_crash_point();
    a->free_blocks--;
    if (size >= PAGE_UNITS) {
        remove_large(a, unit, size);
    } else if (size == p->most) {
        uint32_t most = find_most(p, p->most);
        if (most != p->most) set_most(a, index_of(unit), most);
    }
}

/* Makes a block in use of `need` units, `front` units from the start of a detached free block, and
 * free blocks of what is left of that. Returns its offset. */
static uint64_t take(PrArena *a, uint64_t unit, uint64_t size, uint64_t need, uint64_t front) {
    uint64_t end = unit + front + need;
    if (front) {
        page_of(a, unit + front)->starts |= bit_of(unit + front);
        attach(a, unit, front);
        unit += front;
        size -= front;
    }
    if (need >= PAGE_UNITS) page_of(a, unit)->large = need;
    if (size > need) {
        page_of(a, end)->starts |= bit_of(end);
        attach(a, end, size - need);
    }
    a->blocks++;
    pr_crash_point();
    a->used += need;
    if (a->used > a->peak) a->peak = a->used;
    return unit << UNIT_BITS;
}

/* -- allocation -------------------------------------------------------------------------------- */

/* From the new memory, and the free block before it. */
static uint64_t take_new(PrArena *a, uint64_t need, int paged) {
    uint64_t old = a->top, unit = free_before(a, old), front, end;
    if (unit == NOWHERE) unit = old;
    front = front_of(unit, paged);
    if (front + need > a->units - unit) return 0;
    if (unit != old) {
        detach(a, unit, old - unit);
        page_of(a, old)->starts &= ~bit_of(old);
    }
    end = unit + front + need;
    if (end > old) a->top = end;
    page_of(a, a->top)->starts |= bit_of(a->top);
    return take(a, unit, a->top - unit, need, front);
}

static uint64_t take_large(PrArena *a, uint32_t page, uint64_t need, int paged) {
    uint64_t unit = last_start(a, page), size = a->pages[page].large;
    detach(a, unit, size);
    return take(a, unit, size, need, front_of(unit, paged));
}

static uint64_t alloc_small(PrArena *a, uint32_t need) {
    uint64_t fitting = a->small & (UINT64_MAX << need);
    uint32_t bin;
    if (fitting) {
        uint32_t page = a->small_first[lowest(fitting)], size;
        int bit = find_small(&a->pages[page], need);
        uint64_t unit = ((uint64_t)page << PAGE_BITS) + (uint64_t)bit;
        size = small_size(&a->pages[page], bit);
        detach(a, unit, size);
        return take(a, unit, size, need, 0);
    }
    bin = find_bin(a, 0);
    return bin != NONE ? take_large(a, a->large_first[bin], need, 0) : take_new(a, need, 0);
}

static uint64_t alloc_large(PrArena *a, uint64_t need, int paged) {
    uint32_t page = search(a, need, paged, PATIENCE), bin;
    uint64_t offset;
    if (page == NONE) {
        bin = find_bin(a, bin_above(need + (paged ? PAGE_UNITS - 1 : 0)));
        if (bin != NONE) page = a->large_first[bin];
    }
    /* To look at one more block costs about what a new unit costs more than a touched one. */
    if (page == NONE) page = search(a, need, paged, need);
    if (page != NONE) return take_large(a, page, need, paged);
    offset = take_new(a, need, paged);
    if (offset) return offset;
    page = search(a, need, paged, UINT64_MAX);
    return page != NONE ? take_large(a, page, need, paged) : 0;
}

uint64_t pr_arena_alloc(PrArena *a, uint64_t size) {
    uint64_t need;
    if (size > a->units << UNIT_BITS) return 0;
    need = units_of_size(size);
    if (need < PAGE_UNITS) return alloc_small(a, (uint32_t)need);
    return alloc_large(a, need, is_paged(size));
}

void pr_arena_free(PrArena *a, uint64_t offset) {
    uint64_t unit = offset >> UNIT_BITS, size, next, before;
    if (offset % PR_ARENA_UNIT || !is_used(a, unit)) {
#ifdef PYRAY_DEBUG
        abort();
#endif
        return;
    }
    size = size_of(a, unit);
    a->blocks--;
    pr_crash_point();
    a->used -= size;
    if (size >= PAGE_UNITS) page_of(a, unit)->large = 0;
    next = unit + size;
    if (is_free(a, next)) {
        uint64_t more = size_of(a, next);
        detach(a, next, more);
        page_of(a, next)->starts &= ~bit_of(next);
        size += more;
    }
    before = free_before(a, unit);
    if (before != NOWHERE) {
        detach(a, before, unit - before);
        page_of(a, unit)->starts &= ~bit_of(unit);
        size += unit - before;
        unit = before;
    }
    attach(a, unit, size);
}

uint64_t pr_arena_size(const PrArena *a, uint64_t offset) {
    return size_of(a, offset >> UNIT_BITS) << UNIT_BITS;
}

/* -- making ------------------------------------------------------------------------------------ */

size_t pr_arena_footprint(uint64_t capacity) {
    /* One page more for the start bit at the very end. */
    return sizeof(PrArena) + ((units_of_capacity(capacity) >> PAGE_BITS) + 1) * sizeof(Page);
}

void pr_arena_init(PrArena *a, uint64_t capacity) {
    a->units = units_of_capacity(capacity);
    memset(a->small_first, 0xff, sizeof a->small_first);
    memset(a->large_first, 0xff, sizeof a->large_first);
    a->pages[0].starts = 3; /* the block nobody owns, and top */
    a->top = 1;
}

/* Zeroes the region. Whole pages are given back to the kernel where it can: to write to all of
 * them would make them resident. */
static void clear(PrArena *a, size_t size) {
    uint8_t *begin = (uint8_t *)a, *end = begin + size;
    uint8_t *first = begin + (-(uintptr_t)begin & 4095), *last = end - ((uintptr_t)end & 4095);
#ifdef MADV_REMOVE
    if (first < last && madvise(first, (size_t)(last - first), MADV_REMOVE) == 0) {
        memset(begin, 0, (size_t)(first - begin));
        memset(last, 0, (size_t)(end - last));
        return;
    }
#endif
    memset(begin, 0, size);
}

static int compare_extents(const void *x, const void *y) {
    uint64_t a = ((const PrExtent *)x)->offset, b = ((const PrExtent *)y)->offset;
    return (a > b) - (a < b);
}

static int extents_are_sound(const PrExtent *live, size_t n, uint64_t units) {
    uint64_t end = 1;
    for (size_t i = 0; i < n; i++) {
        uint64_t unit = live[i].offset >> UNIT_BITS;
        uint64_t to = is_paged(live[i].size) ? PR_ARENA_PAGE : PR_ARENA_UNIT;
        if (live[i].offset % to || unit < end || unit >= units) return 0;
        if (live[i].size > PR_ARENA_MOST || units_of_size(live[i].size) > units - unit) return 0;
        end = unit + units_of_size(live[i].size);
    }
    return 1;
}

int pr_arena_rebuild(PrArena *a, uint64_t capacity, PrExtent *live, size_t n) {
    if (n) qsort(live, n, sizeof *live, compare_extents);
    if (!extents_are_sound(live, n, units_of_capacity(capacity))) return -1;
    clear(a, pr_arena_footprint(capacity));
    pr_arena_init(a, capacity);
    for (size_t i = 0; i < n; i++) { /* each from the new memory, with what lies before it */
        uint64_t unit = live[i].offset >> UNIT_BITS, need = units_of_size(live[i].size);
        uint64_t old = a->top;
        a->top = unit + need;
        page_of(a, a->top)->starts |= bit_of(a->top);
        take(a, old, a->top - old, need, unit - old);
    }
    return 0;
}

/* -- figures ----------------------------------------------------------------------------------- */

/* The new memory, with the free block before it. */
static uint64_t new_units(const PrArena *a) {
    uint64_t before = free_before(a, a->top);
    return a->units - (before != NOWHERE ? before : a->top);
}

static uint64_t largest_free(const PrArena *a) {
    uint64_t most = new_units(a);
    if (a->rows) {
        int row = highest(a->rows);
        uint32_t bin = (uint32_t)row * COLUMNS + (uint32_t)highest(a->columns[row]);
        for (uint32_t p = a->large_first[bin]; p != NONE; p = a->pages[p].next)
            if (a->pages[p].large > most) most = a->pages[p].large;
    } else if (a->small && (uint64_t)highest(a->small) > most) {
        most = (uint64_t)highest(a->small);
    }
    return most;
}

uint64_t pr_arena_used(const PrArena *a) {
    return a->used << UNIT_BITS;
}

void pr_arena_stats(const PrArena *a, PrArenaStats *out) {
    int joined = free_before(a, a->top) != NOWHERE;
    out->capacity = a->units << UNIT_BITS;
    out->used = a->used << UNIT_BITS;
    out->peak = a->peak << UNIT_BITS;
    out->blocks = a->blocks;
    out->free_blocks = a->free_blocks + (!joined && a->top < a->units);
    out->largest_free = largest_free(a) << UNIT_BITS;
    out->touched = a->top << UNIT_BITS;
}

uint64_t pr_arena_next_free(const PrArena *a, uint64_t *offset) {
    uint64_t unit = (*offset + PR_ARENA_UNIT - 1) >> UNIT_BITS;
    while (unit < a->top) {
        unit = next_start(a, unit, a->top);
        if (unit == a->top || is_free(a, unit)) break;
        unit++;
    }
    *offset = unit << UNIT_BITS;
    return (unit < a->top ? size_of(a, unit) : a->units - unit) << UNIT_BITS;
}

/* -- checking ---------------------------------------------------------------------------------- */

typedef struct {
    uint64_t used, blocks, free_blocks; /* counted from the bits */
    uint64_t small_pages, large_free;   /* how many must be in lists */
    int was_free;
} Walk;

#define REQUIRE(x) \
    if (!(x)) return __LINE__

static int check_block(const PrArena *a, uint64_t unit, uint64_t size, Walk *w) {
    const Page *p = page_of(a, unit);
    int is_last = unit % PAGE_UNITS == (uint64_t)highest(p->starts);
    REQUIRE(!is_last || p->large == (size >= PAGE_UNITS ? size : 0));
    if (is_free(a, unit)) {
        REQUIRE(unit > 0 && !w->was_free);
        REQUIRE(size < PAGE_UNITS || page_of(a, unit + size - 1)->tail == index_of(unit));
        REQUIRE(size >= PAGE_UNITS || size <= p->most);
        w->free_blocks++;
        w->large_free += size >= PAGE_UNITS;
        w->was_free = 1;
        return 0;
    }
    w->was_free = 0;
    if (unit == 0) return size == 1 ? 0 : __LINE__;
    w->blocks++;
    w->used += size;
    return 0;
}

static int check_blocks(const PrArena *a, Walk *w) {
    uint64_t unit = 0;
    REQUIRE(a->pages[0].starts & 1);
    REQUIRE((page_of(a, a->top)->starts & bit_of(a->top)) && !is_free(a, a->top));
    REQUIRE(page_of(a, a->top)->starts < bit_of(a->top) << 1 || a->top % PAGE_UNITS == 63);
    while (unit < a->top) {
        uint64_t end = next_start(a, unit + 1, a->top);
        int line = check_block(a, unit, end - unit, w);
        if (line) return line;
        unit = end;
    }
    REQUIRE(w->used == a->used && w->blocks == a->blocks && w->free_blocks == a->free_blocks);
    return 0;
}

/* What can be said of a record by itself. */
static int check_pages(const PrArena *a, Walk *w) {
    uint32_t last = index_of(a->top);
    for (uint32_t i = 0; i <= last; i++) {
        const Page *p = &a->pages[i];
        REQUIRE((p->frees & ~p->starts) == 0);
        REQUIRE(p->starts || !p->large);
        REQUIRE(p->most < PAGE_UNITS && p->most == find_most(p, PAGE_UNITS));
        w->small_pages += p->most != 0;
    }
    REQUIRE(!a->pages[last].large);
    return 0;
}

static int check_small_lists(const PrArena *a, uint64_t count) {
    REQUIRE(!(a->small & 1));
    for (uint32_t most = 1; most < PAGE_UNITS; most++) {
        uint32_t before = NONE, page = a->small_first[most];
        REQUIRE((page != NONE) == (a->small >> most & 1));
        for (; page != NONE; before = page, page = a->pages[page].after) {
            REQUIRE(count-- > 0 && page <= index_of(a->top));
            REQUIRE(a->pages[page].most == most && a->pages[page].before == before);
        }
    }
    REQUIRE(count == 0);
    return 0;
}

static int check_large_lists(const PrArena *a, uint64_t count) {
    for (uint32_t bin = 0; bin < ROWS * COLUMNS; bin++) {
        uint32_t prev = NONE, page = a->large_first[bin], row = bin / COLUMNS;
        REQUIRE((page != NONE) == (a->columns[row] >> bin % COLUMNS & 1));
        REQUIRE((a->columns[row] != 0) == (a->rows >> row & 1));
        for (; page != NONE; prev = page, page = a->pages[page].next) {
            REQUIRE(count-- > 0 && page <= index_of(a->top));
            REQUIRE(a->pages[page].large && bin_of(a->pages[page].large) == bin);
            REQUIRE(is_free(a, last_start(a, page)) && a->pages[page].prev == prev);
        }
    }
    REQUIRE(count == 0 && a->rows >> ROWS == 0);
    return 0;
}

int pr_arena_check(const PrArena *a) {
    Walk w = {0};
    int line;
    REQUIRE(a->units > 0 && a->top > 0 && a->top <= a->units);
    REQUIRE(a->used <= a->peak && a->peak < a->units);
    line = check_blocks(a, &w);
    if (!line) line = check_pages(a, &w);
    if (!line) line = check_small_lists(a, w.small_pages);
    if (!line) line = check_large_lists(a, w.large_free);
    return line;
}
