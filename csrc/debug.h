/* What the debug build checks: every written message, and that nothing is left behind.
 *
 * With PYRAY_DEBUG the functions do so; without, they are empty and cost nothing.
 */
#ifndef PYRAY_DEBUG_H
#define PYRAY_DEBUG_H

#include <stdint.h>

/* Things that are made and given back in pairs. */
enum { PR_LIVE_MESSAGES = 0, PR_LIVE_WARM_BLOCKS = 1, PR_LIVE_KINDS = 2 };

#ifdef PYRAY_DEBUG
/* Parses and validates a whole message; aborts the process, saying why, if it is not sound. */
void pr_debug_written(const uint8_t *message, uint64_t size);
void pr_debug_live(int kind, int change);
/* How many of a kind there are now. */
int64_t pr_debug_count(int kind);
#else
static inline void pr_debug_written(const uint8_t *message, uint64_t size) {
    (void)message;
    (void)size;
}
static inline void pr_debug_live(int kind, int change) {
    (void)kind;
    (void)change;
}
static inline int64_t pr_debug_count(int kind) {
    (void)kind;
    return 0;
}
#endif

#endif
