/* For the tests of the runtime's core: sessions of a test, threads as processes, and what must be
 * so at the end. */
#ifndef PYRAY_TESTS_RUNTIME_H
#define PYRAY_TESTS_RUNTIME_H

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../check.h"
#include "../futex.h"
#include "../object.h"
#include "../task.h"

#define CHECK(x)                                                    \
    do {                                                            \
        if (!(x)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
            abort();                                                \
        }                                                           \
    } while (0)

#define EQUAL(x, y)                                                                           \
    do {                                                                                      \
        long long x_ = (long long)(x), y_ = (long long)(y);                                   \
        if (x_ != y_) {                                                                       \
            fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #x, x_, y_); \
            abort();                                                                          \
        }                                                                                     \
    } while (0)

/* The thread sanitizer does not follow processes that are forked off threads. */
#if defined(__SANITIZE_THREAD__)
#define MAY_FORK 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MAY_FORK 0
#endif
#endif
#ifndef MAY_FORK
#define MAY_FORK 1
#endif

enum { MS = 1000000 };

/* -- time -------------------------------------------------------------------------------------- */

/* What never comes is a failure, not a test that hangs. */
static inline int64_t soon(void) {
    return pr_now() + (getenv("PYRAY_SOON") ? atoi(getenv("PYRAY_SOON")) : 60000) * (int64_t)MS;
}

static inline void nap(int64_t ns) {
    struct timespec t = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    nanosleep(&t, NULL);
}

#define UNTIL(x)                                                               \
    do {                                                                       \
        for (int64_t end_ = soon(); !(x); nap(MS / 10))                        \
            if (pr_now() > end_) {                                             \
                fprintf(stderr, "%s:%d: never: %s\n", __FILE__, __LINE__, #x); \
                abort();                                                       \
            }                                                                  \
    } while (0)

/* -- random numbers: splitmix64 ---------------------------------------------------------------- */

static inline uint64_t random_bits(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline uint64_t below(uint64_t *state, uint64_t limit) {
    return random_bits(state) % limit;
}

/* -- sessions ---------------------------------------------------------------------------------- */

static inline PrSession new_session(uint64_t arena_size, uint32_t objects, uint32_t tasks,
                                    int64_t spin) {
    PrSession s;
    PrConfig config = {.arena_size = arena_size,
                       .max_objects = objects,
                       .max_tasks = tasks,
                       .max_processes = 64,
                       .max_lineage_bytes = 1 << 20,
                       .evicts = 1,
                       .spin = spin};
    EQUAL(pr_session_create(&s, &config, PR_DRIVER), 0);
#if !MAY_FORK
    /* The thread sanitizer compares addresses: what is read has to be where it was written. */
    s.read_base = s.write_base;
#endif
    return s;
}

static inline PrSession small_session(void) {
    return new_session(1 << 24, 1 << 14, 1 << 12, 0);
}

/* Another process, played by this thread. */
static inline PrSession join_session(const PrSession *of, PrProcessKind kind) {
    PrSession s;
    EQUAL(pr_session_attach_thread(&s, of, kind), 0);
    return s;
}

/* Another process, in a child after a fork. */
static inline PrSession join_forked(const PrSession *of, PrProcessKind kind) {
    PrSession s;
    EQUAL(pr_session_attach(&s, dup(of->control_fd), dup(of->arena_fd), dup(of->wake_fd), kind), 0);
    return s;
}

static inline void leave_session(PrSession *s) {
    pr_session_detach(s, 0);
}

static inline void sound_at(const PrSession *s, const char *file, int line) {
    int broken = pr_check(s);
    if (!broken) return;
    fprintf(stderr, "%s:%d: invariant of %s.c:%d is broken\n", file, line,
            broken > PR_CHECK_ARENA ? "arena" : "check", broken % PR_CHECK_ARENA);
    abort();
}

/* All invariants hold, at this quiet moment. */
#define SOUND(s) sound_at(s, __FILE__, __LINE__)

static inline uint64_t used_memory(const PrSession *s) {
    PrArenaStats stats;
    pr_arena_stats(s->arena, &stats);
    return stats.used;
}

static inline uint32_t live_objects(const PrSession *s) {
    uint32_t n = 0;
    for (int i = PR_OBJECT_RESERVED; i <= PR_OBJECT_DYING; i++)
        n += pr_count_objects(s, (PrObjectState)i);
    return n;
}

static inline uint32_t live_tasks(const PrSession *s) {
    uint32_t n = 0;
    for (int i = PR_TASK_WAITING; i <= PR_TASK_DYING; i++) n += pr_count_tasks(s, (PrTaskState)i);
    return n;
}

/* Over, and kept: somebody, or a name, refers to a result. */
static inline uint32_t done_tasks(const PrSession *s) {
    return pr_count_tasks(s, PR_TASK_DONE);
}

/* Nothing is left: neither before the last process goes, nor after. */
static inline void end_session(PrSession *s) {
    SOUND(s);
    EQUAL(live_tasks(s) + done_tasks(s), 0);
    EQUAL(live_objects(s), 0);
    EQUAL(used_memory(s), 0);
    leave_session(s);
    SOUND(s);
    EQUAL(pr_count_objects(s, PR_OBJECT_CACHED), 0);
    EQUAL(pr_count_tasks(s, PR_TASK_CACHED), 0);
    pr_session_unmap(s);
}

/* -- objects ----------------------------------------------------------------------------------- */

/* Bytes that tell which object they belong to. */
static inline void write_pattern(uint8_t *data, uint64_t size, uint64_t number) {
    for (uint64_t i = 0; i < size; i++) data[i] = (uint8_t)(number * 31 + i * 7);
}

static inline int has_pattern(const uint8_t *data, uint64_t size, uint64_t number) {
    for (uint64_t i = 0; i < size; i++)
        if (data[i] != (uint8_t)(number * 31 + i * 7)) return 0;
    return 1;
}

/* A sealed object with that pattern, which holds the handles. */
static inline PrHandle put(PrSession *s, uint64_t size, uint64_t number, const PrHandle *handles,
                           uint32_t n) {
    PrHandle h;
    uint8_t *data;
    if (pr_create(s, size, n, &h, &data)) return 0;
    write_pattern(data, size, number);
    if (n) memcpy(data + ((size + 7) & ~7ull), handles, 8ull * n);
    pr_seal(s, h, 0);
    return h;
}

static inline int state_of(const PrSession *s, PrHandle h) {
    return pr_state(atomic_load(&s->objects[pr_slot(h)].state));
}

static inline int has_value(const PrSession *s, PrHandle h, uint64_t number) {
    PrObject *o = &s->objects[pr_slot(h)];
    return pr_state(atomic_load(&o->state)) == PR_OBJECT_SEALED &&
           has_pattern(pr_message_of(s, o), o->size, number);
}

static inline void release(PrSession *s, PrHandle h) {
    pr_release(s, pr_slot(h));
}

static inline PrHandle reserve(PrSession *s) {
    PrHandle h;
    uint8_t *data;
    EQUAL(pr_create(s, 90, 0, &h, &data), 0);
    memset(data, 1, 90);
    return h;
}

static inline int wait_for(PrSession *s, PrHandle h) {
    uint32_t slot = pr_slot(h);
    return pr_wait(s, &slot, 1, 1, soon(), 0, PR_SPIN);
}

static inline void name_key(uint8_t key[24], uint64_t number) {
    memset(key, 0, 24);
    memcpy(key, &number, 8);
    key[23] = 'k';
}

/* -- threads and children ---------------------------------------------------------------------- */

static inline pthread_t start_thread(void *(*run)(void *), void *with) {
    pthread_t thread;
    EQUAL(pthread_create(&thread, NULL, run, with), 0);
    return thread;
}

static inline void join_threads(pthread_t *threads, int n) {
    for (int i = 0; i < n; i++) EQUAL(pthread_join(threads[i], NULL), 0);
}

/* How the child ended: its exit code, or - the signal. */
static inline int wait_child(int pid) {
    int status;
    EQUAL(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* One test after another, each in less than two minutes. */
#define RUN(test)                                                              \
    do {                                                                       \
        int64_t began_ = pr_now();                                             \
        alarm(120);                                                            \
        test();                                                                \
        alarm(0);                                                              \
        if (getenv("PYRAY_TIMES"))                                             \
            printf("%8.1f ms %s\n", (double)(pr_now() - began_) / 1e6, #test); \
    } while (0)

#endif
