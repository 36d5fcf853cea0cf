/* Waiting for objects: by processes and threads, while they are sealed, and interrupted. */
#include "runtime.h"

/* -- waiting ----------------------------------------------------------------------------------- */

static void test_wait_at_once(void) {
    PrSession s = small_session();
    PrHandle handles[3] = {put(&s, 1, 1, NULL, 0), reserve(&s), reserve(&s)};
    uint32_t slots[3];
    for (int i = 0; i < 3; i++) slots[i] = pr_slot(handles[i]);
    EQUAL(pr_wait(&s, slots, 0, 0, -1, 0, 0), 0);
    EQUAL(pr_wait(&s, slots, 3, 0, -1, 0, 0), 0);
    EQUAL(pr_wait(&s, slots, 3, 1, -1, 0, 0), 0);
    int64_t before = pr_now();
    EQUAL(pr_wait(&s, slots, 3, 2, before, 0, PR_SPIN), PR_TIMEOUT);
    EQUAL(pr_wait(&s, slots, 3, 2, before + 30 * MS, 0, PR_SPIN), PR_TIMEOUT);
    CHECK(pr_now() - before >= 30 * MS);
    pr_seal(&s, handles[1], 1);
    EQUAL(pr_wait(&s, slots, 3, 2, -1, 0, 0), 0);
    EQUAL(pr_wait(&s, slots, 3, 3, pr_now(), 0, 0), PR_TIMEOUT);
    EQUAL(pr_wait(&s, slots, 3, 3, -1, 1, 0), 0); /* one has failed */
    SOUND(&s);
    pr_seal(&s, handles[2], 0);
    for (int i = 0; i < 3; i++) release(&s, handles[i]);
    end_session(&s);
}

typedef struct {
    PrSession *s;
    const PrHandle *handles;
    int n, failed; /* the failed-th fails */
    uint64_t seed;
    _Atomic int stop;
} Sealer;

static void *seal_all(void *with) {
    Sealer *sealer = with;
    int order[256];
    for (int i = 0; i < sealer->n; i++) {
        int k = (int)below(&sealer->seed, (uint64_t)i + 1);
        order[i] = order[k];
        order[k] = i;
    }
    for (int i = 0; i < sealer->n; i++) {
        if (below(&sealer->seed, 8) == 0) nap((int64_t)below(&sealer->seed, MS / 4));
        pr_seal(sealer->s, sealer->handles[order[i]], order[i] == sealer->failed);
    }
    return NULL;
}

/* One seals while another waits: for all, some, one twice, or the one that fails. */
static void wait_while_sealed(int64_t spin, int rounds) {
    enum { N = 60 };
    PrSession a = new_session(1 << 20, 4096, 64, spin), b = join_session(&a, PR_CLIENT);
    uint64_t seed = 99;
    for (int round = 0; round < rounds; round++) {
        PrHandle handles[N];
        uint32_t slots[N + 10];
        int n = 1 + (int)below(&seed, N), again = (int)below(&seed, 10);
        Sealer sealer = {.s = &b, .handles = handles, .n = n, .failed = -1, .seed = seed + 1};
        for (int i = 0; i < n; i++) {
            handles[i] = reserve(&b);
            slots[i] = pr_slot(handles[i]);
            pr_hold(&a, slots[i]);
        }
        for (int i = 0; i < again; i++) slots[n + i] = slots[below(&seed, (uint64_t)n)];
        if (round % 3 == 0) sealer.failed = (int)below(&seed, (uint64_t)n);
        pthread_t thread = start_thread(seal_all, &sealer);
        int how = random_bits(&seed) & 1 ? PR_SPIN : 0, all = n + again;
        size_t needed = 1 + below(&seed, (uint64_t)all);
        if (round % 3 == 0) {
            EQUAL(pr_wait(&a, slots, (size_t)all, (size_t)all, soon(), 1, how), 0);
        } else {
            size_t ready = 0;
            pr_wait(&a, slots, (size_t)all, needed, pr_now() + MS / 20, 0, how);
            EQUAL(pr_wait(&a, slots, (size_t)all, needed, soon(), 0, how), 0);
            for (int i = 0; i < all; i++)
                ready += pr_is_ready(atomic_load(&a.objects[slots[i]].state));
            CHECK(ready >= needed);
        }
        EQUAL(pr_wait(&a, slots, (size_t)all, (size_t)all, soon(), 0, how), 0);
        join_threads(&thread, 1);
        for (int i = 0; i < n; i++) {
            release(&a, handles[i]);
            release(&b, handles[i]);
        }
    }
    SOUND(&a);
    leave_session(&b);
    end_session(&a);
}

static void test_wait(void) {
    wait_while_sealed(0, 400);
    wait_while_sealed(20000, 400);
}

enum { WAITERS = 4, WAIT_ROUNDS = 400 };

typedef struct {
    PrSession *s; /* one for all */
    PrHandle handles[WAIT_ROUNDS];
    _Atomic int round; /* that it waits in */
    uint64_t seed;
} Waiter;

static void *wait_in_turn(void *with) {
    Waiter *w = with;
    for (int i = 0; i < WAIT_ROUNDS; i++) {
        uint32_t slots[3] = {pr_slot(w->handles[i]), pr_slot(w->handles[i / 2]),
                             pr_slot(w->handles[(i + WAIT_ROUNDS) / 2])};
        atomic_store(&w->round, i);
        /* Of another kind: it times out. */
        if (below(&w->seed, 4) == 0) pr_wait(w->s, slots, 3, 3, pr_now() + MS / 10, 0, 0);
        EQUAL(pr_wait(w->s, slots, 1 + below(&w->seed, 2), 1, soon(), 0, PR_SPIN), 0);
    }
    atomic_store(&w->round, WAIT_ROUNDS);
    return NULL;
}

/* Threads of one process, each for something else; a seal wakes the right one. */
static void test_wait_in_threads(void) {
    PrSession a = new_session(1 << 20, 8192, 64, 20000), b = join_session(&a, PR_CLIENT);
    Waiter *waiters = calloc(WAITERS, sizeof *waiters);
    pthread_t threads[WAITERS];
    for (int k = 0; k < WAITERS; k++) {
        waiters[k].s = &a;
        waiters[k].seed = (uint64_t)k;
        for (int i = 0; i < WAIT_ROUNDS; i++) {
            waiters[k].handles[i] = reserve(&b);
            pr_hold(&a, pr_slot(waiters[k].handles[i]));
        }
        threads[k] = start_thread(wait_in_turn, &waiters[k]);
    }
    uint64_t seed = 5;
    for (int left = WAITERS * WAIT_ROUNDS, next[WAITERS] = {0}; left;) {
        int k = (int)below(&seed, WAITERS);
        if (next[k] == WAIT_ROUNDS) continue;
        /* Mostly when the thread is there, or about to sleep. */
        if (below(&seed, 4)) UNTIL(atomic_load(&waiters[k].round) >= next[k]);
        if (below(&seed, 16) == 0) nap(MS / 20);
        pr_seal(&b, waiters[k].handles[next[k]++], 0);
        left--;
    }
    join_threads(threads, WAITERS);
    EQUAL(atomic_load(&a.self->waiting), 0);
    for (int k = 0; k < WAITERS; k++)
        for (int i = 0; i < WAIT_ROUNDS; i++) {
            release(&a, waiters[k].handles[i]);
            release(&b, waiters[k].handles[i]);
        }
    free(waiters);
    leave_session(&b);
    end_session(&a);
}

static void ignore(int signal) {
    (void)signal;
}

typedef struct {
    PrSession *s;
    uint32_t slot;
    int how;
    _Atomic int status; /* 1 at first */
} Interrupted;

static void *wait_to_be_interrupted(void *with) {
    Interrupted *w = with;
    atomic_store(&w->status, pr_wait(w->s, &w->slot, 1, 1, soon(), 0, w->how));
    return NULL;
}

static void test_interrupted(void) {
    PrSession a = small_session(), b = join_session(&a, PR_CLIENT);
    PrHandle h = reserve(&b);
    pr_hold(&a, pr_slot(h));
    struct sigaction action = {.sa_handler = ignore};
    sigaction(SIGUSR1, &action, NULL);
    /* By a signal, a notice, and the end of the session. */
    for (int kind = 0; kind < 3; kind++) {
        Interrupted w = {.s = &a, .slot = pr_slot(h), .how = kind == 1 ? PR_ONCE : 0, .status = 1};
        pthread_t thread = start_thread(wait_to_be_interrupted, &w);
        UNTIL(atomic_load(&a.self->sleeping));
        if (kind != 1) {
            pr_notify(&b, a.self); /* of nothing */
            nap(MS);
            EQUAL(atomic_load(&w.status), 1);
        }
        if (kind == 2) atomic_store(&a.control->ended, 1);
        do {
            if (kind == 0) pthread_kill(thread, SIGUSR1);
            else pr_notify(&b, a.self);
            nap(MS);
        } while (atomic_load(&w.status) == 1);
        join_threads(&thread, 1);
        EQUAL(atomic_load(&w.status), kind == 2 ? PR_ENDED : PR_INTERRUPTED);
    }
    atomic_store(&a.control->ended, 0);
    pr_seal(&b, h, 0);
    release(&a, h);
    release(&b, h);
    leave_session(&b);
    end_session(&a);
}

static void *notify_or_seal(void *with) {
    Sealer *sealer = with;
    for (int i = 0; i < sealer->n; i++) {
        UNTIL(atomic_load(&sealer->stop) == i); /* it is about to wait, or does */
        if (i % 2) pr_notify(sealer->s, &sealer->s->processes[1]);
        else pr_seal(sealer->s, sealer->handles[i], 0);
    }
    return NULL;
}

/* News are what happened since the number was taken, be it before the wait began. */
static void test_wait_news(void) {
    enum { N = 300 };
    PrSession a = small_session(), b = join_session(&a, PR_CLIENT);
    PrHandle handles[N];
    uint32_t slot, seen = atomic_load(&a.self->event);
    CHECK(a.self == &a.processes[1]);
    for (int i = 0; i < N; i++) pr_hold(&a, pr_slot(handles[i] = reserve(&b)));
    slot = pr_slot(handles[0]);
    EQUAL(pr_wait_news(&a, &slot, 1, pr_now() + MS, seen), PR_TIMEOUT);
    pr_notify(&b, a.self);
    EQUAL(pr_wait_news(&a, &slot, 1, -1, seen), PR_INTERRUPTED);
    EQUAL(pr_wait_news(&a, &slot, 0, -1, seen), PR_INTERRUPTED);
    EQUAL(pr_wait_news(&a, &slot, 1, pr_now() + MS, seen + 1), PR_TIMEOUT);
    Sealer sealer = {.s = &b, .handles = handles, .n = N, .stop = -1};
    pthread_t thread = start_thread(notify_or_seal, &sealer);
    for (int i = 0; i < N; i++) {
        slot = pr_slot(handles[i]);
        seen = atomic_load(&a.self->event);
        atomic_store(&sealer.stop, i);
        EQUAL(pr_wait_news(&a, &slot, 1, soon(), seen), i % 2 ? PR_INTERRUPTED : 0);
    }
    join_threads(&thread, 1);
    for (int i = 0; i < N; i++) {
        if (i % 2) pr_seal(&b, handles[i], 0);
        release(&a, handles[i]);
        release(&b, handles[i]);
    }
    leave_session(&b);
    end_session(&a);
}

/* The one that was to seal it dies: who waits is told by the recovery, and by nobody else. */
static void test_maker_dies(void) {
    PrSession a = small_session(), b = join_session(&a, PR_CLIENT), c = join_session(&a, PR_CLIENT);
    PrHandle h = reserve(&c);
    pr_hold(&a, pr_slot(h));
    Interrupted w = {.s = &a, .slot = pr_slot(h), .status = 1};
    int64_t end = soon();
    pthread_t thread = start_thread(wait_to_be_interrupted, &w);
    UNTIL(atomic_load(&a.self->sleeping));
    atomic_store(&c.self->start_time, 0); /* as if its pid were another's by now */
    pr_recover(&b, c.index, PR_WORKER_CRASHED, "");
    join_threads(&thread, 1);
    EQUAL(atomic_load(&w.status), 0);
    CHECK(pr_now() < end); /* and not because it looked once more in the end */
    EQUAL(state_of(&a, h), PR_OBJECT_FAILED);
    release(&a, h);
    leave_session(&b);
    end_session(&a);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    RUN(test_wait_at_once);
    RUN(test_wait);
    RUN(test_wait_in_threads);
    RUN(test_interrupted);
    RUN(test_wait_news);
    RUN(test_maker_dies);
    printf("ok\n");
    return 0;
}
