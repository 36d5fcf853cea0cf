/* Large blocks of memory that keep their pages when they are given back.
 *
 * A page that was touched before takes a copy about four times faster than a new one, which the
 * kernel must find and clear first. Blocks of at least PR_WARM_SMALLEST bytes come from here;
 * given back, they wait for the next message, up to PR_WARM_LIMIT bytes a process. The caller
 * serializes calls (in Python: the GIL).
 */
#ifndef PYRAY_WARM_H
#define PYRAY_WARM_H

#include <stddef.h>

enum { PR_WARM_SMALLEST = 1 << 18, PR_WARM_LIMIT = 1 << 27 };

/* At least `size` bytes, aligned to a page; *capacity is what to give back. NULL: no memory. */
void *pr_warm_take(size_t size, size_t *capacity);
void pr_warm_give(void *block, size_t capacity);
/* For memory of somebody else's that is about to be written for the first time: large pages, where
 * the kernel gives them, cost one fault in place of five hundred. */
void pr_warm_expect(void *memory, size_t size);
/* Bytes that wait. */
size_t pr_warm_idle(void);

#endif
