/* Copies of large buffers, by several threads where there are cores for them.
 *
 * One thread does not saturate the memory of most machines, and page faults of new memory are
 * served by as many cores as cause them.
 */
#ifndef PYRAY_COPY_H
#define PYRAY_COPY_H

#include <stddef.h>

enum { PR_COPY_ALONE = 1 << 23, PR_COPY_THREADS = 8 };

/* As memcpy. From PR_COPY_ALONE bytes on, up to PR_COPY_THREADS threads share the work; they are
 * gone when it returns. */
void pr_copy(void *to, const void *from, size_t size);

#endif
