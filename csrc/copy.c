#include "copy.h"

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    uint8_t *to;
    const uint8_t *from;
    size_t size;
} Part;

static void *copy_part(void *argument) {
    const Part *part = argument;
    memcpy(part->to, part->from, part->size);
    return NULL;
}

static int usable_cores(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
}

void pr_copy(void *to, const void *from, size_t size) {
    Part parts[PR_COPY_THREADS];
    pthread_t threads[PR_COPY_THREADS];
    int started[PR_COPY_THREADS] = {0};
    size_t n = size < PR_COPY_ALONE ? 1 : size / (PR_COPY_ALONE / 2);
    if (n > PR_COPY_THREADS) n = PR_COPY_THREADS;
    if (n > 1 && n > (size_t)usable_cores()) n = (size_t)usable_cores();
    size_t each = size / n & ~(size_t)4095, at = 0;
    for (size_t i = 0; i < n; i++, at += each) {
        parts[i] =
            (Part){(uint8_t *)to + at, (const uint8_t *)from + at, i + 1 < n ? each : size - at};
        if (i) started[i] = !pthread_create(&threads[i], NULL, copy_part, &parts[i]);
    }
    copy_part(&parts[0]);
    for (size_t i = 1; i < n; i++) {
        if (started[i]) {
            pthread_join(threads[i], NULL);
        } else {
            copy_part(&parts[i]);
        }
    }
}
