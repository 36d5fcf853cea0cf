/* Waiting for objects: by processes and threads, while they are sealed, and interrupted. */
#include <sys/mman.h>

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

/* -- vigils ------------------------------------------------------------------------------------ */

typedef struct {
    PrSession *s;
    const uint32_t *slots;
    uint32_t n;
    _Atomic int over;
} Other;

/* Another thread of the process waits for some of the same objects, or not long enough. */
static void *wait_besides(void *with) {
    Other *o = with;
    uint64_t seed = 3;
    while (!atomic_load(&o->over)) {
        uint32_t first = (uint32_t)below(&seed, o->n);
        pr_wait(o->s, o->slots + first, o->n - first, 1 + below(&seed, o->n - first),
                pr_now() + (int64_t)below(&seed, MS / 5), 0, 0);
    }
    return NULL;
}

static uint32_t take_ready(PrSession *s, PrVigil *v, uint8_t *found, uint32_t room) {
    uint32_t slots[7], n = 0, k;
    while ((k = (uint32_t)pr_vigil_ready(s, v, slots, room))) {
        for (uint32_t i = 0; i < k; i++) {
            CHECK(!found[slots[i]]);
            if (pr_is_ready(atomic_load(&s->objects[slots[i]].state))) {
                found[slots[i]] = 1;
                n++;
            } else {
                pr_vigil_add(s, v, slots[i]);
            }
        }
    }
    return n;
}

/* Each is found once it is sealed, and once. Some are added while others come. */
static void vigil_while_sealed(int besides, int rounds) {
    enum { N = 200 };
    PrSession a = small_session(), b = join_session(&a, PR_CLIENT);
    PrVigil v;
    EQUAL(pr_vigil_begin(&a, &v), 0);
    uint8_t *found = calloc(a.control->objects.limit, 1);
    for (int round = 0; round < rounds; round++) {
        PrHandle handles[N];
        uint32_t slots[N], n = 0, added = 0, seen;
        Sealer sealer = {.s = &b, .handles = handles, .n = N, .failed = 5, .seed = (uint64_t)round};
        Other other = {.s = &a, .slots = slots, .n = N};
        pthread_t threads[2];
        for (int i = 0; i < N; i++) {
            slots[i] = pr_slot(handles[i] = reserve(&b));
            found[slots[i]] = 0;
            pr_hold(&a, slots[i]);
        }
        threads[0] = start_thread(seal_all, &sealer);
        if (besides) threads[1] = start_thread(wait_besides, &other);
        while (n < N) {
            seen = atomic_load(&a.self->event);
            for (int k = 0; k < 20 && added < N; k++) pr_vigil_add(&a, &v, slots[added++]);
            uint32_t more = take_ready(&a, &v, found, 1 + (uint32_t)round % 7);
            n += more;
            if (!more && added == N && n < N) EQUAL(pr_vigil_sleep(&a, seen), 0);
        }
        atomic_store(&other.over, 1);
        join_threads(threads, 1 + besides);
        EQUAL(v.n, 0);
        EQUAL(atomic_load(&a.self->waiting), 0);
        for (uint32_t i = 0; !besides && i < a.control->bitmap_words; i++)
            EQUAL(atomic_load(&a.watch[i]), 0);
        for (int i = 0; i < N; i++) {
            release(&a, handles[i]);
            release(&b, handles[i]);
        }
    }
    free(found);
    pr_vigil_end(&a, &v);
    SOUND(&a);
    leave_session(&b);
    end_session(&a);
}

static void test_vigil(void) {
    vigil_while_sealed(0, 100);
    vigil_while_sealed(1, 100);
}

static void test_vigil_step_by_step(void) {
    PrSession a = small_session(), b = join_session(&a, PR_CLIENT);
    PrHandle there = put(&a, 1, 1, NULL, 0), h[3] = {reserve(&b), reserve(&b), reserve(&b)};
    uint32_t slots[4], seen = atomic_load(&a.self->event);
    PrVigil v;
    for (int i = 0; i < 3; i++) pr_hold(&a, pr_slot(h[i]));
    EQUAL(pr_vigil_begin(&a, &v), 0);
    EQUAL(pr_vigil_ready(&a, &v, slots, 4), 0);
    pr_vigil_add(&a, &v, pr_slot(h[0]));
    pr_vigil_add(&a, &v, pr_slot(h[0])); /* again: nothing happens */
    pr_vigil_add(&a, &v, pr_slot(h[1]));
    pr_vigil_add(&a, &v, pr_slot(h[2]));
    EQUAL(v.n, 3);
    EQUAL(atomic_load(&a.self->waiting), 1);
    EQUAL(atomic_load(&a.self->event), seen);
    EQUAL(pr_vigil_ready(&a, &v, slots, 4), 0);
    pr_seal(&b, h[1], 0);
    CHECK(atomic_load(&a.self->event) != seen);
    EQUAL(pr_vigil_sleep(&a, seen), 0);
    EQUAL(pr_vigil_ready(&a, &v, slots, 4), 1);
    EQUAL(slots[0], pr_slot(h[1]));
    /* One that is there: who sleeps is told. */
    seen = atomic_load(&a.self->event);
    pr_vigil_add(&a, &v, pr_slot(there));
    CHECK(atomic_load(&a.self->event) != seen);
    EQUAL(pr_vigil_sleep(&a, seen), 0);
    EQUAL(pr_vigil_ready(&a, &v, slots, 4), 1);
    EQUAL(slots[0], pr_slot(there));
    pr_vigil_remove(&a, &v, pr_slot(h[2]));
    pr_vigil_remove(&a, &v, pr_slot(h[2]));
    pr_seal(&b, h[2], 0);
    EQUAL(pr_vigil_ready(&a, &v, slots, 4), 0);
    EQUAL(v.n, 1);
    /* The one who was to seal it dies. */
    seen = atomic_load(&a.self->event);
    atomic_store(&b.self->start_time, 0);
    munmap(b.held, (uint64_t)b.control->objects.limit * sizeof(uint32_t));
    pr_recover(&a, b.index, PR_WORKER_CRASHED, "");
    CHECK(atomic_load(&a.self->event) != seen);
    EQUAL(pr_vigil_sleep(&a, seen), 0);
    EQUAL(pr_vigil_ready(&a, &v, slots, 4), 1);
    EQUAL(slots[0], pr_slot(h[0]));
    EQUAL(atomic_load(&a.self->waiting), 0);
    atomic_store(&a.control->ended, 1);
    EQUAL(pr_vigil_sleep(&a, atomic_load(&a.self->event)), PR_ENDED);
    atomic_store(&a.control->ended, 0);
    pr_vigil_end(&a, &v);
    for (int i = 0; i < 3; i++) release(&a, h[i]);
    release(&a, there);
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
    RUN(test_vigil);
    RUN(test_vigil_step_by_step);
    RUN(test_maker_dies);
    printf("ok\n");
    return 0;
}
