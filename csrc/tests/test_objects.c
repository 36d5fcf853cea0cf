/* Objects: making, reading, references, names, and what is full; by one process, by threads that
 * play processes, and by forked ones. Each test ends with nothing left. */
#include <sys/mman.h>

#include "runtime.h"

/* -- making ------------------------------------------------------------------------------------ */

/* Nobody is told of a process that has no pid yet, or any more: a signal to 0 would be one to the
 * caller's own group. */
static void test_pids(void) {
    PrSession s = small_session(), other = join_session(&s, PR_WORKER);
    EQUAL(pr_live_pid(&s, other.index), getpid());
    atomic_store(&other.self->pid, 0);
    EQUAL(pr_live_pid(&s, other.index), 0);
    atomic_store(&other.self->pid, getpid());
    atomic_store(&other.self->state, PR_PROCESS_DEAD);
    EQUAL(pr_live_pid(&s, other.index), 0);
    atomic_store(&other.self->state, PR_PROCESS_LIVE);
    uint32_t index = other.index;
    leave_session(&other);
    EQUAL(pr_live_pid(&s, index), 0);
    end_session(&s);
}

static void test_sizes(void) {
    static const uint64_t sizes[] = {0,   1,    7,     8,      79,     80,      81,     100,
                                     192, 4095, 65536, 262143, 262144, 1000000, 4 << 20};
    enum { N = sizeof sizes / sizeof *sizes };
    PrSession s = small_session();
    PrHandle handles[N];
    for (size_t i = 0; i < N; i++) {
        handles[i] = put(&s, sizes[i], i, NULL, 0);
        PrObject *o = &s.objects[pr_slot(handles[i])];
        EQUAL(o->place == 0, sizes[i] <= PR_INLINE_OBJECT);
        CHECK(((uintptr_t)pr_message_of(&s, o) & 7) == 0);
        CHECK(o->place % 64 == 0);
    }
    SOUND(&s);
    for (size_t i = 0; i < N; i++) CHECK(has_value(&s, handles[i], i));
    EQUAL(live_objects(&s), N);
    for (size_t i = 0; i < N; i++) release(&s, handles[i]);
    end_session(&s);
}

static void test_abandoned(void) {
    PrSession s = small_session();
    PrHandle target = put(&s, 10, 1, NULL, 0);
    for (uint32_t n_refs = 0; n_refs < 3; n_refs++) {
        PrHandle inline_one, with_block;
        uint8_t *data;
        EQUAL(pr_create(&s, 10, n_refs, &inline_one, &data), 0);
        EQUAL(pr_create(&s, 100000, n_refs, &with_block, &data), 0);
        EQUAL(state_of(&s, with_block), PR_OBJECT_RESERVED);
        SOUND(&s);
        pr_abandon(&s, inline_one);
        pr_abandon(&s, with_block);
        SOUND(&s);
    }
    EQUAL(live_objects(&s), 1);
    release(&s, target);
    end_session(&s);
}

static void test_failed(void) {
    PrSession s = small_session();
    PrHandle h;
    uint8_t *data;
    EQUAL(pr_create(&s, 5, 0, &h, &data), 0);
    write_pattern(data, 5, 3);
    pr_seal(&s, h, 1);
    EQUAL(state_of(&s, h), PR_OBJECT_FAILED);
    EQUAL(s.objects[pr_slot(h)].size, 5);
    release(&s, h);
    /* A slot is used again under another handle. */
    PrHandle next = put(&s, 5, 4, NULL, 0);
    CHECK(next != h);
    release(&s, next);
    end_session(&s);
}

static void test_generations(void) {
    PrSession s = small_session();
    PrHandle before = 0;
    for (int i = 0; i < 1000; i++) {
        PrHandle h = put(&s, 8, 0, NULL, 0);
        CHECK(h != before && pr_slot(h) != 0);
        CHECK(!before || !pr_same(atomic_load(&s.objects[pr_slot(before)].state), before) ||
              pr_slot(h) != pr_slot(before));
        release(&s, h);
        before = h;
    }
    CHECK(atomic_load(&s.control->objects.used) < 100);
    end_session(&s);
}

/* -- objects that hold others ------------------------------------------------------------------ */

enum { CHAIN = 100000 };

static void *release_chain(void *with) {
    PrSession *s = with;
    PrHandle last = 0;
    for (uint32_t i = 0; i < CHAIN; i++) {
        PrHandle next = put(s, 16, i, &last, last ? 1 : 0);
        CHECK(next);
        if (last) release(s, last);
        last = next;
    }
    EQUAL(live_objects(s), CHAIN);
    SOUND(s);
    release(s, last);
    EQUAL(live_objects(s), 0);
    return NULL;
}

static void test_chain(void) {
    PrSession s = new_session(1 << 26, 1 << 18, 64, 0);
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 1 << 18); /* a few bytes an object */
    EQUAL(pthread_create(&thread, &attributes, release_chain, &s), 0);
    join_threads(&thread, 1);
    pthread_attr_destroy(&attributes);
    end_session(&s);
}

static void test_contents(void) {
    enum { N = 5000 };
    PrSession s = small_session();
    static PrHandle parts[N];
    for (uint32_t i = 0; i < N; i++) parts[i] = put(&s, i % 200, i, NULL, 0);
    PrHandle whole = put(&s, 33, 7, parts, N), same[2] = {parts[0], parts[0]};
    PrHandle twice = put(&s, 0, 0, same, 2), nested = put(&s, 1, 1, &twice, 1);
    for (uint32_t i = 0; i < N; i++) release(&s, parts[i]);
    SOUND(&s);
    PrObject *o = &s.objects[pr_slot(whole)];
    for (uint32_t i = 0; i < N; i++) {
        EQUAL(pr_refs_in(&s, o)[i], parts[i]);
        CHECK(has_value(&s, parts[i], i));
    }
    pr_hold(&s, pr_slot(parts[9]));
    release(&s, whole);
    EQUAL(live_objects(&s), 4); /* parts 0 and 9, twice, nested */
    release(&s, twice);
    SOUND(&s);
    CHECK(has_value(&s, parts[0], 0));
    release(&s, nested);
    EQUAL(live_objects(&s), 1);
    CHECK(has_value(&s, parts[9], 9));
    release(&s, parts[9]);
    end_session(&s);
}

/* -- several processes ------------------------------------------------------------------------- */

static void test_held_by_two(void) {
    PrSession a = small_session(), b = join_session(&a, PR_WORKER);
    PrHandle h = put(&a, 1000, 5, NULL, 0);
    pr_hold(&a, pr_slot(h));
    pr_hold(&b, pr_slot(h));
    EQUAL(atomic_load(&a.objects[pr_slot(h)].refs), 2);
    release(&a, h);
    EQUAL(atomic_load(&a.objects[pr_slot(h)].refs), 2);
    release(&a, h);
    EQUAL(atomic_load(&a.objects[pr_slot(h)].refs), 1);
    CHECK(has_value(&b, h, 5));
    SOUND(&a);
    release(&b, h);
    EQUAL(live_objects(&a), 0);
    leave_session(&b);
    end_session(&a);
}

/* Who leaves gives back what it holds, what it has not sealed, and its slots. */
static void test_detached(void) {
    PrSession a = small_session();
    for (int round = 0; round < 100; round++) {
        PrSession b = join_session(&a, PR_CLIENT);
        PrHandle h, kept = put(&b, 300, 1, NULL, 0);
        uint8_t *data;
        for (int i = 0; i < 50; i++) put(&b, (uint64_t)i * 10, 2, &kept, 1);
        EQUAL(pr_create(&b, 500, 0, &h, &data), 0);
        pr_hold(&a, pr_slot(kept));
        leave_session(&b);
        SOUND(&a);
        EQUAL(live_objects(&a), 1);
        CHECK(has_value(&a, kept, 1));
        release(&a, kept);
    }
    CHECK(atomic_load(&a.control->n_processes) < 4);
    CHECK(atomic_load(&a.control->objects.used) < 200);
    end_session(&a);
}

static void test_all_processes(void) {
    PrSession a = small_session(), others[64];
    int n = 0;
    while (pr_session_attach_thread(&others[n], &a, PR_CLIENT) == 0) n++;
    EQUAL(n, 62); /* slot 0 is nobody's */
    PrSession none;
    EQUAL(pr_session_attach_thread(&none, &a, PR_CLIENT), PR_LIMIT);
    SOUND(&a);
    while (n) leave_session(&others[--n]);
    end_session(&a);
}

typedef struct {
    PrSession of;
    uint64_t seed;
    _Atomic uint64_t *counter;
} Part;

enum { KEYS = 40, NAME_ROUNDS = 3000 };

/* Objects found, named and unnamed by all at once: what has a name has the value of its key. */
static void *use_names(void *with) {
    Part *part = with;
    PrSession s = join_session(&part->of, PR_CLIENT);
    for (int round = 0; round < NAME_ROUNDS; round++) {
        uint64_t number = below(&part->seed, KEYS);
        uint8_t key[24];
        PrHandle h, found;
        name_key(key, number);
        switch (below(&part->seed, 4)) {
        case 0:
            h = put(&s, number * 11, number, NULL, 0);
            EQUAL(pr_name_set(&s, key, h, &found), 0);
            if (found != h) {
                CHECK(has_value(&s, found, number));
                release(&s, found);
            }
            release(&s, h);
            break;
        case 1: pr_name_remove(&s, key, 0); break;
        default:
            if (!(found = pr_name_find(&s, key))) break;
            CHECK(has_value(&s, found, number));
            /* One that holds it. */
            h = put(&s, 4, number, &found, 1);
            release(&s, found);
            CHECK(has_value(&s, found, number));
            release(&s, h);
        }
    }
    leave_session(&s);
    return NULL;
}

static void test_names_at_once(void) {
    PrSession s = small_session();
    pthread_t threads[4];
    Part parts[4];
    for (int i = 0; i < 4; i++) {
        parts[i] = (Part){.of = s, .seed = (uint64_t)i};
        threads[i] = start_thread(use_names, &parts[i]);
    }
    join_threads(threads, 4);
    SOUND(&s);
    CHECK(live_objects(&s) <= KEYS);
    for (uint64_t number = 0; number < KEYS; number++) {
        uint8_t key[24];
        name_key(key, number);
        pr_name_remove(&s, key, 0);
    }
    end_session(&s);
}

static void test_forked(void) {
    PrSession s = small_session();
    uint8_t key[24], answer[24];
    name_key(key, 1);
    name_key(answer, 2);
    PrHandle h = put(&s, 5000, 1, NULL, 0), found;
    EQUAL(pr_name_set(&s, key, h, &found), 0);
    release(&s, h);
    int pid = fork();
    if (!pid) {
        PrSession child = join_forked(&s, PR_WORKER);
        PrHandle question = pr_name_find(&child, key);
        CHECK(question && has_value(&child, question, 1));
        EQUAL(pr_name_remove(&child, key, 0), 0);
        PrHandle mine = put(&child, 50, 2, &question, 1);
        EQUAL(pr_name_set(&child, answer, mine, &found), 0);
        put(&child, 70000, 3, &mine, 1); /* not released: the detach does so */
        pr_session_detach(&child, 1);
        _exit(0);
    }
    EQUAL(wait_child(pid), 0);
    SOUND(&s);
    EQUAL(live_objects(&s), 2);
    CHECK(has_value(&s, h, 1));
    CHECK((found = pr_name_find(&s, answer)));
    CHECK(has_value(&s, found, 2));
    EQUAL(pr_refs_in(&s, &s.objects[pr_slot(found)])[0], h);
    EQUAL(pr_name_remove(&s, answer, 0), 0);
    release(&s, found);
    end_session(&s);
}

/* A reader cannot change a sealed object, whatever it does. */
static void refused(int signal) {
    (void)signal;
    _exit(42);
}

static void test_read_only(void) {
    PrSession s = small_session();
    PrHandle h = put(&s, 10000, 1, NULL, 0);
    int pid = fork();
    if (!pid) {
        PrSession child = join_forked(&s, PR_WORKER);
        const uint8_t *bytes = pr_message_of(&child, &child.objects[pr_slot(h)]);
        signal(SIGSEGV, refused);
        signal(SIGBUS, refused);
        CHECK(has_pattern(bytes, 10000, 1));
        *(volatile uint8_t *)(uintptr_t)bytes = 0;
        _exit(0);
    }
    EQUAL(wait_child(pid), 42);
    pr_recover(&s, 2, PR_WORKER_CRASHED, "");
    CHECK(has_value(&s, h, 1));
    release(&s, h);
    end_session(&s);
}

static void test_other_layout(void) {
    PrSession s = small_session(), t;
    int fd = memfd_create("no session", MFD_CLOEXEC);
    EQUAL(pr_session_attach(&t, fd, dup(s.arena_fd), -1, PR_CLIENT), PR_STALE);
    pr_session_unmap(&t);
    s.control->layout++;
    EQUAL(pr_session_attach(&t, dup(s.control_fd), dup(s.arena_fd), -1, PR_CLIENT), PR_STALE);
    pr_session_unmap(&t);
    s.control->layout--;
    end_session(&s);
}

/* -- names ------------------------------------------------------------------------------------- */

static void test_names(void) {
    PrSession s = small_session();
    uint8_t a[24], b[24];
    PrHandle x = put(&s, 10, 1, NULL, 0), y = put(&s, 10, 2, NULL, 0), found = 0;
    name_key(a, 1);
    name_key(b, 2);
    EQUAL(pr_name_find(&s, a), 0);
    EQUAL(pr_name_remove(&s, a, 0), PR_STALE);
    EQUAL(pr_name_set(&s, a, x, &found), 0);
    CHECK(found == x);
    EQUAL(pr_name_set(&s, a, y, &found), 0); /* it is taken */
    CHECK(found == x);
    release(&s, x);
    EQUAL(pr_name_set(&s, b, x, &found), 0);
    SOUND(&s);
    EQUAL(pr_name_remove(&s, a, 0), 0);
    EQUAL(pr_name_find(&s, a), 0);
    release(&s, x);
    CHECK(pr_name_find(&s, b) == x);
    release(&s, x);
    CHECK(has_value(&s, x, 1));
    EQUAL(pr_name_remove(&s, b, 0), 0);
    EQUAL(live_objects(&s), 1);
    release(&s, y);
    end_session(&s);
}

static void test_many_names(void) {
    enum { N = 20000 };
    PrSession s = small_session();
    PrHandle h = put(&s, 10, 1, NULL, 0), found;
    uint8_t key[24];
    uint64_t seed = 1;
    static uint8_t named[N];
    memset(named, 0, sizeof named);
    for (int i = 0; i < 3 * N; i++) {
        uint64_t number = below(&seed, N);
        name_key(key, number);
        if (random_bits(&seed) & 1) {
            EQUAL(pr_name_set(&s, key, h, &found), 0);
            if (named[number]) release(&s, h);
            named[number] = 1;
        } else {
            EQUAL(pr_name_remove(&s, key, 0), named[number] ? 0 : PR_STALE);
            named[number] = 0;
        }
    }
    SOUND(&s);
    for (uint64_t number = 0; number < N; number++) {
        name_key(key, number);
        EQUAL(pr_name_find(&s, key) != 0, named[number]);
        if (!named[number]) continue;
        release(&s, h);
        EQUAL(pr_name_remove(&s, key, 0), 0);
    }
    release(&s, h);
    end_session(&s);
}

static void test_all_names(void) {
    PrSession s = small_session();
    PrHandle h = put(&s, 10, 1, NULL, 0), found;
    uint8_t key[24];
    uint64_t n = 0;
    int status;
    for (;; n++) {
        name_key(key, n);
        if ((status = pr_name_set(&s, key, h, &found))) break;
    }
    EQUAL(status, PR_LIMIT);
    EQUAL(n, s.control->names.limit - 1);
    name_key(key, 7);
    EQUAL(pr_name_remove(&s, key, 0), 0);
    EQUAL(pr_name_set(&s, key, h, &found), 0);
    while (n--) {
        name_key(key, n);
        EQUAL(pr_name_remove(&s, key, 0), 0);
    }
    release(&s, h);
    end_session(&s);
}

/* -- running out ------------------------------------------------------------------------------- */

static void test_full_arena(void) {
    PrSession s = new_session(1 << 20, 1 << 14, 64, 0);
    static PrHandle handles[1 << 14];
    uint64_t seed = 1;
    for (int round = 0; round < 20; round++) {
        uint64_t most = (uint64_t)1 << (7 + round % 12);
        int n = 0;
        PrHandle none;
        uint8_t *data;
        while (
            (handles[n] = put(&s, PR_INLINE_OBJECT + 1 + below(&seed, most), (uint64_t)n, NULL, 0)))
            n++;
        EQUAL(pr_create(&s, 1 << 20, 0, &none, &data), PR_FULL);
        EQUAL(pr_create(&s, (uint64_t)1 << 40, 0, &none, &data), PR_FULL);
        EQUAL(pr_create(&s, 1 << 20, 3, &none, &data), PR_FULL);
        SOUND(&s);
        for (int i = 0; i < n; i++) CHECK(has_value(&s, handles[i], (uint64_t)i));
        CHECK(used_memory(&s) > (1 << 19));
        EQUAL(live_objects(&s), n);
        PrHandle small = put(&s, PR_INLINE_OBJECT, 5, NULL, 0);
        CHECK(small && has_value(&s, small, 5)); /* needs no block */
        release(&s, small);
        while (n) release(&s, handles[--n]);
        EQUAL(used_memory(&s), 0);
    }
    end_session(&s);
}

static void test_full_table(void) {
    enum { SLOTS = 1000 };
    PrSession s = new_session(1 << 20, SLOTS, 64, 0), t = join_session(&s, PR_CLIENT);
    static PrHandle handles[SLOTS];
    int n = 0, mine;
    while ((handles[n] = put(&s, 1, 1, NULL, 0))) n++;
    EQUAL(n, SLOTS - 1);
    EQUAL(put(&t, 1, 1, NULL, 0), 0);
    SOUND(&s);
    for (mine = 0; mine < 500; mine++) release(&s, handles[mine]);
    /* Some of them are still in a magazine of the other's. */
    int others = 0;
    for (PrHandle h; (h = put(&t, 1, 2, NULL, 0)); others++) {
    }
    CHECK(others >= 500 - PR_MAGAZINE && others <= 500);
    SOUND(&s);
    for (; mine < n; mine++) release(&s, handles[mine]);
    leave_session(&t);
    end_session(&s);
}

static void test_stats(void) {
    PrSession s = small_session();
    PrArenaStats stats;
    pr_arena_stats(s.arena, &stats);
    EQUAL(stats.used, 0);
    EQUAL(stats.blocks, 0);
    EQUAL(stats.capacity, 1 << 24);
    PrHandle a = put(&s, 1000, 1, NULL, 0), b = put(&s, 300000, 2, &a, 1);
    pr_arena_stats(s.arena, &stats);
    EQUAL(stats.used, 1024 + 303104); /* whole units, whole pages */
    EQUAL(stats.blocks, 2);
    EQUAL(pr_count_objects(&s, PR_OBJECT_SEALED), 2);
    EQUAL(pr_count_objects(&s, PR_OBJECT_CACHED), PR_MAGAZINE / 2 - 2);
    release(&s, a);
    release(&s, b);
    pr_arena_stats(s.arena, &stats);
    EQUAL(stats.peak, 1024 + 303104);
    EQUAL(stats.blocks, 0);
    end_session(&s);
}

/* Whoever looks at the arena while another changes it sees it as it is between two changes. */
static void test_stats_of_others(void) {
    PrSession s = small_session();
    PrArenaStats stats;
    int pid = fork();
    if (!pid) {
        PrSession child = join_forked(&s, PR_WORKER);
        PrHandle kept[50] = {0};
        for (uint64_t i = 0; i < 100000; i++) {
            PrHandle *h = &kept[i * 31 % 50];
            if (*h) release(&child, *h);
            *h = put(&child, 300 + i % 20 * 7919, i, NULL, 0);
        }
        for (int i = 0; i < 50; i++) release(&child, kept[i]);
        pr_session_detach(&child, 1);
        _exit(0);
    }
    int status;
    while (!waitpid(pid, &status, WNOHANG)) {
        pr_block_stats(&s, &stats);
        CHECK(stats.used + stats.largest_free <= stats.capacity && stats.blocks <= 51);
    }
    EQUAL(status, 0);
    end_session(&s);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    RUN(test_pids);
    RUN(test_sizes);
    RUN(test_abandoned);
    RUN(test_failed);
    RUN(test_generations);
    RUN(test_chain);
    RUN(test_contents);
    RUN(test_held_by_two);
    RUN(test_detached);
    RUN(test_all_processes);
    RUN(test_names_at_once);
    RUN(test_other_layout);
    RUN(test_names);
    RUN(test_many_names);
    RUN(test_all_names);
    RUN(test_full_arena);
    RUN(test_full_table);
    RUN(test_stats);
    RUN(test_stats_of_others);
    if (MAY_FORK) {
        RUN(test_forked);
        RUN(test_read_only);
    }
    printf("ok\n");
    return 0;
}
