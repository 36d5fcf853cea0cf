/* Waiting for another process: Linux futexes on words of shared memory, and short spins.
 *
 * A futex round trip between two processes costs about 11 us, a spin that succeeds 0.25 us.
 */
#ifndef PYRAY_FUTEX_H
#define PYRAY_FUTEX_H

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static inline void pr_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* CLOCK_MONOTONIC, nanoseconds. */
static inline int64_t pr_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Sleeps while *word is `expected`, for at most timeout nanoseconds (< 0: no limit). 0, or EINTR,
 * EAGAIN (it was not), ETIMEDOUT; a caller looks at what it waits for in each case. */
static inline int pr_futex_wait(_Atomic uint32_t *word, uint32_t expected, int64_t timeout) {
    struct timespec t = {.tv_sec = timeout / 1000000000, .tv_nsec = timeout % 1000000000};
    return syscall(SYS_futex, word, FUTEX_WAIT, expected, timeout < 0 ? NULL : &t, NULL, 0) ? errno
                                                                                            : 0;
}

static inline void pr_futex_wake(_Atomic uint32_t *word, int n) {
    syscall(SYS_futex, word, FUTEX_WAKE, n, NULL, NULL, 0);
}

#endif
