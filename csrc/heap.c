/* The heap of a process that runs tasks; see session.h.
 *
 * glibc gives large blocks back to the system when they are freed, and has the next ones cleared by
 * it again: for tasks on arrays that is as much work as what they do. A worker keeps what a task
 * has freed for the next one, and gives it back when it has nothing to do.
 */
#include <malloc.h>
#include <stdlib.h>

#include "session.h"

/* Bytes of the largest block that is kept, and of what is kept at the end of the heap. */
enum { BLOCK = 1 << 28, END = 1 << 29 };

void pr_keep_heap(PrSession *s) {
    /* Who sets these wants something else. */
    if (getenv("MALLOC_MMAP_THRESHOLD_") || getenv("MALLOC_TRIM_THRESHOLD_") ||
        getenv("GLIBC_TUNABLES"))
        return;
    s->keeps_heap = mallopt(M_MMAP_THRESHOLD, BLOCK) && mallopt(M_TRIM_THRESHOLD, END);
}

void pr_give_heap_back(void) {
    malloc_trim(0);
}
