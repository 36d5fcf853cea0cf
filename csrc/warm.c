#include "warm.h"

#include "debug.h"

#include <stdint.h>
#include <sys/mman.h>

enum { BLOCKS = 16, HUGE = 1 << 21 };

typedef struct {
    void *block;
    size_t capacity;
} Idle;

static Idle idle[BLOCKS]; /* oldest first */
static int n_idle;
static size_t idle_bytes;

static void forget(int i) {
    idle_bytes -= idle[i].capacity;
    n_idle--;
    for (; i < n_idle; i++) idle[i] = idle[i + 1];
}

void *pr_warm_take(size_t size, size_t *capacity) {
    int i, best = -1;
    void *block;
    for (i = 0; i < n_idle; i++) {
        /* Not one much too large: it would be missed by the message that fits it. */
        if (idle[i].capacity >= size && idle[i].capacity / 4 <= size &&
            (best < 0 || idle[i].capacity < idle[best].capacity))
            best = i;
    }
    if (best >= 0) {
        block = idle[best].block;
        *capacity = idle[best].capacity;
        forget(best);
        pr_debug_live(PR_LIVE_WARM_BLOCKS, 1);
        return block;
    }
    if (size > (size_t)-1 - HUGE) return NULL;
    size = size >= HUGE ? (size + HUGE - 1) & ~(size_t)(HUGE - 1) : (size + 4095) & ~(size_t)4095;
    block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) return NULL;
    if (size >= HUGE) madvise(block, size, MADV_HUGEPAGE); /* fewer faults where it is allowed */
    *capacity = size;
    pr_debug_live(PR_LIVE_WARM_BLOCKS, 1);
    return block;
}

void pr_warm_give(void *block, size_t capacity) {
    pr_debug_live(PR_LIVE_WARM_BLOCKS, -1);
    if (capacity > PR_WARM_LIMIT) {
        munmap(block, capacity);
        return;
    }
    while (n_idle == BLOCKS || idle_bytes + capacity > PR_WARM_LIMIT) {
        munmap(idle[0].block, idle[0].capacity);
        forget(0);
    }
    idle[n_idle].block = block;
    idle[n_idle++].capacity = capacity;
    idle_bytes += capacity;
}

void pr_warm_expect(void *memory, size_t size) {
    uintptr_t begin = ((uintptr_t)memory + 4095) & ~(uintptr_t)4095;
    uintptr_t end = ((uintptr_t)memory + size) & ~(uintptr_t)4095;
    if (end > begin && end - begin >= 2 * HUGE)
        madvise((void *)begin, end - begin, MADV_HUGEPAGE); /* advice: a refusal is no error */
}

size_t pr_warm_idle(void) {
    return idle_bytes;
}
