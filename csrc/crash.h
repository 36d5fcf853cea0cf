/* For tests of the recovery: a process may die between any two stores to shared memory.
 *
 * With PYRAY_CRASH_POINTS, pr_crash_point is the test's (csrc/tests/test_recover.c). It is called
 * before each atomic operation that changes something, and, where the code says so, between stores
 * that are not atomic. Without, it is nothing.
 */
#ifndef PYRAY_CRASH_H
#define PYRAY_CRASH_H

#include <stdatomic.h>

#ifdef PYRAY_CRASH_POINTS

void pr_crash_point(void);

#ifdef __clang__
#define PR_STORE(p, x, order) __c11_atomic_store(p, x, order)
#else
#define PR_STORE(p, x, order)              \
    __extension__({                        \
        __auto_type p_ = (p);              \
        __typeof__((void)0, *p_) x_ = (x); \
        __atomic_store(p_, &x_, (order));  \
    })
#endif

#undef atomic_store
#undef atomic_store_explicit
#undef atomic_exchange
#undef atomic_compare_exchange_strong
#undef atomic_compare_exchange_weak
#undef atomic_fetch_add
#undef atomic_fetch_sub
#undef atomic_fetch_or
#undef atomic_fetch_and

#define PR_ORDER memory_order_seq_cst
#define atomic_store_explicit(p, x, order) (pr_crash_point(), PR_STORE(p, x, order))
#define atomic_store(p, x) (pr_crash_point(), PR_STORE(p, x, PR_ORDER))
#define atomic_exchange(p, x) (pr_crash_point(), atomic_exchange_explicit(p, x, PR_ORDER))
#define atomic_compare_exchange_strong(p, e, x) \
    (pr_crash_point(), atomic_compare_exchange_strong_explicit(p, e, x, PR_ORDER, PR_ORDER))
#define atomic_compare_exchange_weak(p, e, x) \
    (pr_crash_point(), atomic_compare_exchange_weak_explicit(p, e, x, PR_ORDER, PR_ORDER))
#define atomic_fetch_add(p, x) (pr_crash_point(), atomic_fetch_add_explicit(p, x, PR_ORDER))
#define atomic_fetch_sub(p, x) (pr_crash_point(), atomic_fetch_sub_explicit(p, x, PR_ORDER))
#define atomic_fetch_or(p, x) (pr_crash_point(), atomic_fetch_or_explicit(p, x, PR_ORDER))
#define atomic_fetch_and(p, x) (pr_crash_point(), atomic_fetch_and_explicit(p, x, PR_ORDER))

#else

static inline void pr_crash_point(void) {}

#endif

#endif
