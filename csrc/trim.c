/* Pages of free memory, back to the system; see session.h.
 *
 * Blocks that are freed keep their pages, since those are faster to use again. That is worth less
 * than a task when memory is short. A piece at a time is given back, under the arena's lock, so
 * that nobody waits long for it; the block may be another by the next piece. A crash leaves nothing
 * to be repaired: what is free may have pages or not.
 */
#include <sys/mman.h>

#include "session.h"

enum { PIECE = 1 << 24 };

/* Whole pages between two offsets. */
static void give_back(PrSession *s, uint64_t begin, uint64_t end) {
    uint64_t first = (begin + PR_ARENA_PAGE - 1) / PR_ARENA_PAGE * PR_ARENA_PAGE;
    uint64_t last = end / PR_ARENA_PAGE * PR_ARENA_PAGE;
    if (first < last) madvise(s->write_base + first, last - first, MADV_REMOVE);
}

/* `done` bytes of the block at `at` were given back: the next piece. 0 when there is none. */
static int trim_piece(PrSession *s, uint64_t *at, uint64_t *done) {
    uint64_t start = *at, size, end;
    pr_enter(s);
    pr_lock(s, &s->control->arena_lock);
    size = pr_arena_next_free(s->arena, &start);
    if (start != *at) *done = 0;
    end = *done + PIECE - (start + *done) % PIECE; /* no page is in two pieces */
    if (end > size) end = size;
    if (*done < size) give_back(s, start + *done, start + end);
    pr_unlock(&s->control->arena_lock);
    pr_leave(s);
    *at = start;
    *done = end;
    if (end >= size) {
        *at = start + size;
        *done = 0;
    }
    return size != 0;
}

void pr_trim(PrSession *s) {
    uint64_t at = 0, done = 0;
    while (trim_piece(s, &at, &done)) {
    }
}
