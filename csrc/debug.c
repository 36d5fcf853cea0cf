#include "debug.h"

#ifdef PYRAY_DEBUG

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "message.h"
#include "validate.h"

static _Atomic int64_t live[PR_LIVE_KINDS];

void pr_debug_written(const uint8_t *message, uint64_t size) {
    PrMessage m;
    uint8_t *aligned = aligned_alloc(64, (size + 63) & ~(uint64_t)63);
    if (!aligned) return; /* no memory to look with: nothing was found */
    memcpy(aligned, message, size);
    if (pr_message_parse(&m, aligned, size) || pr_message_validate(&m)) {
        fprintf(stderr, "pyray wrote a message that is not sound: %s\n", m.error);
        abort();
    }
    pr_message_free(&m);
    free(aligned);
}

void pr_debug_live(int kind, int change) {
    if (atomic_fetch_add(&live[kind], change) + change < 0) {
        fprintf(stderr, "pyray gave something of kind %d back twice\n", kind);
        abort();
    }
}

int64_t pr_debug_count(int kind) {
    return atomic_load(&live[kind]);
}

#else
typedef int pr_debug_is_empty; /* a C file must declare something */
#endif
