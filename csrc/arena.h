/* Where the bytes of shared objects lie: an allocator of offsets in one large mapping.
 *
 * It never touches the bytes it gives out. What it knows of them is in a region of its own (the
 * memory at PrArena): 4 KB, and 48 bytes for each 4096 of payload, which are touched only where a
 * block begins or ends. So payload can be mapped read-only, and a page of it becomes resident only
 * when its owner writes. Everything in the region is an offset or an index: processes may map it
 * anywhere.
 *
 * The caller holds a lock around every call; there are neither locks nor atomics in here. Whoever
 * dies with the lock may leave any state behind: pr_arena_rebuild makes a new one from the extents
 * that are known to be in use.
 *
 * Blocks are whole units of 64 bytes, or, from PR_ARENA_PAGED bytes on, whole pages of 4096,
 * aligned as such, so that they can be mapped by themselves (copy-on-write) or given back to the
 * kernel. That costs at most 1.6 % of such a block; the gaps that alignment leaves in front serve
 * small blocks.
 *
 * Memory that was handed out before is worth four times new memory: everything from `touched` on
 * is new, and is used only when no free block below will do. (Looking for one ends where it would
 * cost more than the new memory: only a block of 4096 bytes or more, in an arena with many free
 * blocks of nearly its size, can meet that.)
 */
#ifndef PYRAY_ARENA_H
#define PYRAY_ARENA_H

#include <stddef.h>
#include <stdint.h>

enum { PR_ARENA_UNIT = 64, PR_ARENA_PAGE = 4096, PR_ARENA_PAGED = 1 << 18 };

/* The largest arena; a larger capacity means this one. */
#define PR_ARENA_MOST ((uint64_t)1 << 40)

typedef struct PrArena PrArena;

typedef struct {
    uint64_t offset, size;
} PrExtent;

typedef struct {
    uint64_t capacity;     /* bytes, the first 64, which are never given out, among them */
    uint64_t used, peak;   /* bytes in blocks now, and the most there ever were */
    uint64_t blocks;       /* in use */
    uint64_t free_blocks;  /* the new memory counts as one, together with a free block before it */
    uint64_t largest_free; /* bytes; a block of that size fits, unless alignment prevents it */
    uint64_t touched;      /* bytes below the new memory */
} PrArenaStats;

/* Bytes of the metadata region. Most of them are never touched: map it sparsely. */
size_t pr_arena_footprint(uint64_t capacity);

/* `a`: a region of that size that is all zero, aligned to 64 (better: to a page). */
void pr_arena_init(PrArena *a, uint64_t capacity);

/* Offset of a block of at least `size` bytes; a multiple of 64 or 4096, never 0. 0: no room. */
uint64_t pr_arena_alloc(PrArena *a, uint64_t size);

/* An offset that is not that of a block in use is ignored (the debug build aborts). */
void pr_arena_free(PrArena *a, uint64_t offset);

/* Usable bytes of the block in use at that offset: what was asked for, rounded up. */
uint64_t pr_arena_size(const PrArena *a, uint64_t offset);

/* The first free block at *offset or behind it: *offset is where it starts, the result its size.
 * The last one is the new memory; 0: there is none. */
uint64_t pr_arena_next_free(const PrArena *a, uint64_t *offset);

/* Makes the arena anew, whatever the region holds now: the extents of `live` (which is sorted
 * here), rounded up as pr_arena_alloc does, are blocks in use, all else is free, and all behind the
 * last of them counts as new. -1, and nothing changed but the order of `live`: extents overlap, lie
 * outside, or are not aligned as a block of their size. */
int pr_arena_rebuild(PrArena *a, uint64_t capacity, PrExtent *live, size_t n);

/* Bytes in blocks now. */
uint64_t pr_arena_used(const PrArena *a);

void pr_arena_stats(const PrArena *a, PrArenaStats *out);

/* Checks every invariant: 0, or the line of arena.c that found one broken. Reads all of the
 * metadata below `touched`: for tests and the debug build. The capacity must be the right one; any
 * other content is survived. */
int pr_arena_check(const PrArena *a);

#endif
