/* The arena against a model: every unit has one owner, sizes and alignment are as promised, free
 * space comes back whole, new memory is used last, and rebuilding trusts nothing.
 *
 * With the argument "timing" it measures in place of testing; build it with -O2 for that. */
#include "../arena.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define CHECK(x)                                                    \
    do {                                                            \
        if (!(x)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
            abort();                                                \
        }                                                           \
    } while (0)

enum { UNIT = PR_ARENA_UNIT, PAGE = PR_ARENA_PAGE };

static uint64_t state;

static void seed(uint64_t n) {
    state = n * 0x9e3779b97f4a7c15u + 1;
}

static uint64_t random_bits(void) { /* splitmix64 */
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t below(uint64_t limit) {
    return random_bits() % limit;
}

/* Sizes of every magnitude are equally likely. */
static uint64_t random_size(uint64_t most) {
    int magnitudes = 64 - __builtin_clzll(most);
    uint64_t size = 1 + below((uint64_t)1 << (1 + below((uint64_t)magnitudes)));
    return size < most ? size : most;
}

static uint64_t rounded(uint64_t size) {
    uint64_t to = size >= PR_ARENA_PAGED ? PAGE : UNIT;
    return size ? (size + to - 1) / to * to : UNIT;
}

/* -- the model --------------------------------------------------------------------------------- */

/* An arena in an allocation of just its footprint, and who owns each unit of it. */
typedef struct {
    PrArena *arena;
    uint64_t capacity, used;
    uint8_t *owned; /* a unit each */
    PrExtent *live;
    size_t n, room;
} Model;

static Model model(uint64_t capacity) {
    Model m = {.capacity = capacity / UNIT * UNIT};
    size_t size = pr_arena_footprint(capacity);
    m.arena = aligned_alloc(64, (size + 63) / 64 * 64);
    m.owned = calloc(capacity / UNIT + 1, 1);
    CHECK(m.arena && m.owned);
    memset(m.arena, 0, size);
    pr_arena_init(m.arena, capacity);
    m.owned[0] = 1;
    return m;
}

static void model_free(Model *m) {
    free(m->arena);
    free(m->owned);
    free(m->live);
}

static PrArenaStats stats(const Model *m) {
    PrArenaStats s;
    pr_arena_stats(m->arena, &s);
    CHECK(s.capacity == m->capacity && s.used == m->used && s.blocks == m->n);
    CHECK(s.peak >= s.used && s.touched <= s.capacity && s.used < s.touched);
    return s;
}

/* The free blocks, one after another, are the units that nobody owns. */
static void verify_free(const Model *m) {
    uint64_t at = 0, size, found = 0;
    for (; (size = pr_arena_next_free(m->arena, &at)); at += size) {
        for (uint64_t u = at / UNIT; u < (at + size) / UNIT; u++) CHECK(!m->owned[u]);
        found += size;
    }
    CHECK(found == m->capacity - m->used - UNIT);
}

static void verify(const Model *m) {
    int line = pr_arena_check(m->arena);
    if (line) fprintf(stderr, "arena.c:%d\n", line);
    CHECK(line == 0);
    stats(m);
    verify_free(m);
}

/* Sets the owner of a block's units, each of which must have had the other one. */
static void own(Model *m, uint64_t offset, uint64_t size, uint8_t owner) {
    CHECK(offset + size <= m->capacity);
    for (uint64_t u = offset / UNIT; u < (offset + size) / UNIT; u++) {
        CHECK(m->owned[u] == !owner);
        m->owned[u] = owner;
    }
}

/* The end of the free units that begin at `offset`, at most `limit`. */
static uint64_t free_end(const Model *m, uint64_t offset, uint64_t limit) {
    while (offset < limit && !m->owned[offset / UNIT]) offset += UNIT;
    return offset;
}

/* Whether free units below `limit` hold a block of that (rounded) size. */
static int would_fit(const Model *m, uint64_t size, uint64_t limit) {
    uint64_t to = size >= PR_ARENA_PAGED ? PAGE : UNIT;
    for (uint64_t at = UNIT, end; at < limit; at = end + UNIT) {
        end = free_end(m, at, limit);
        at = (at + to - 1) / to * to;
        if (at < end && end - at >= size) return 1;
    }
    return 0;
}

static uint64_t model_alloc(Model *m, uint64_t size) {
    uint64_t touched = stats(m).touched;
    uint64_t offset = pr_arena_alloc(m->arena, size);
    if (!offset) {
        CHECK(!would_fit(m, rounded(size), m->capacity));
        return 0;
    }
    CHECK(offset % (size >= PR_ARENA_PAGED ? PAGE : UNIT) == 0);
    size = rounded(size);
    CHECK(pr_arena_size(m->arena, offset) == size);
    if (offset + size > touched) CHECK(!would_fit(m, size, touched));
    own(m, offset, size, 1);
    if (m->n == m->room) {
        m->room = m->room * 2 + 64;
        m->live = realloc(m->live, m->room * sizeof *m->live);
        CHECK(m->live);
    }
    m->live[m->n++] = (PrExtent){offset, size};
    m->used += size;
    CHECK(stats(m).touched >= touched && stats(m).touched >= offset + size);
    return offset;
}

static void model_release(Model *m, size_t i) {
    PrExtent e = m->live[i];
    pr_arena_free(m->arena, e.offset);
    own(m, e.offset, e.size, 0);
    m->live[i] = m->live[--m->n];
    m->used -= e.size;
}

static void release_all(Model *m) {
    while (m->n) model_release(m, below(m->n));
    verify(m);
    PrArenaStats s = stats(m);
    CHECK(s.blocks == 0 && s.used == 0);
    CHECK(s.free_blocks == 1 && s.largest_free == m->capacity - UNIT);
}

/* -- tests ------------------------------------------------------------------------------------- */

static void test_random(uint64_t capacity, uint64_t most, int steps, int every) {
    Model m = model(capacity);
    for (int i = 0; i < steps; i++) {
        /* A target that wanders makes the arena fill up and drain. */
        uint64_t target = m.capacity / 100 * (uint64_t)(20 + 90 * (i / 2000 % 2));
        if (m.n && (m.used > target || below(5) == 0)) {
            model_release(&m, below(m.n));
        } else if (!model_alloc(&m, random_size(most)) && m.n) {
            model_release(&m, below(m.n));
        }
        if (i % every == 0) verify(&m);
    }
    release_all(&m);
    model_free(&m);
}

/* Every size there is, into an empty arena. */
static void test_each_size(void) {
    enum { CAPACITY = 1 << 20 };
    Model m = model(CAPACITY);
    for (uint64_t size = 1; size < CAPACITY; size += 1 + size / 16) {
        uint64_t fits = size <= CAPACITY - UNIT && size < PR_ARENA_PAGED;
        fits |= size <= CAPACITY - PAGE;
        CHECK((model_alloc(&m, size) != 0) == fits);
        verify(&m);
        release_all(&m);
    }
    CHECK(model_alloc(&m, CAPACITY - PAGE) == PAGE);
    CHECK(model_alloc(&m, PAGE - UNIT) == UNIT && pr_arena_alloc(m.arena, 1) == 0);
    release_all(&m);
    CHECK(pr_arena_alloc(m.arena, CAPACITY) == 0 && pr_arena_alloc(m.arena, CAPACITY + 1) == 0);
    CHECK(pr_arena_alloc(m.arena, UINT64_MAX) == 0);
    model_free(&m);
}

/* Arenas of odd and tiny capacity. */
static void test_capacities(void) {
    for (uint64_t capacity = 0; capacity < 3 * PAGE; capacity += 37) {
        Model m = model(capacity < UNIT ? UNIT : capacity);
        uint64_t n = 0;
        while (model_alloc(&m, 1)) n++;
        CHECK(n == m.capacity / UNIT - 1);
        verify(&m);
        while (m.n) model_release(&m, below(m.n));
        verify(&m);
        if (n) CHECK(model_alloc(&m, m.capacity - UNIT) == UNIT);
        verify(&m);
        model_free(&m);
    }
}

/* Full to the last unit, every other block freed and taken again, then all freed. */
static void test_exhaustion(uint64_t size) {
    Model m = model(1 << 20);
    uint64_t n = 0;
    while (model_alloc(&m, size)) n++;
    CHECK(n == (m.capacity - (size < PR_ARENA_PAGED ? UNIT : PAGE)) / rounded(size));
    verify(&m);
    for (uint64_t i = n; i >= 2; i -= 2) model_release(&m, i - 2);
    verify(&m);
    while (model_alloc(&m, size)) continue;
    CHECK(m.n == n);
    verify(&m);
    release_all(&m);
    model_free(&m);
}

static void test_new_memory_is_last(void) {
    Model m = model(64 << 20);
    uint64_t large = model_alloc(&m, 5 << 20), touched;
    CHECK(large == PAGE && model_alloc(&m, PAGE) > large);
    CHECK(model_alloc(&m, 1) == UNIT); /* in the gap that alignment left */
    touched = stats(&m).touched;
    model_release(&m, 0); /* the large one; then of what is left of it */
    for (int i = 0; i < 1000; i++) model_alloc(&m, 5000);
    CHECK(stats(&m).touched == touched);
    while (m.n) model_release(&m, m.n - 1);
    /* The same size again fits exactly, though its bin could hold smaller ones. */
    CHECK(model_alloc(&m, 5 << 20) == large && stats(&m).touched == touched);
    /* More than is free below: the free end of the touched memory is part of it. */
    CHECK(model_alloc(&m, 20 << 20) < touched);
    verify(&m);
    release_all(&m);
    model_free(&m);
}

/* A block just given back is the next one of that size. */
static void test_reuse(void) {
    static const uint64_t sizes[] = {1, 64, 100, 4000, 4096, 70000, 1 << 18, 3000000, 20 << 20};
    Model m = model(256 << 20);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (int k = 0; k < 3; k++) model_alloc(&m, sizes[i]);
        PrExtent middle = m.live[m.n - 2];
        model_release(&m, m.n - 2);
        CHECK(model_alloc(&m, sizes[i]) == middle.offset);
    }
    verify(&m);
    release_all(&m);
    model_free(&m);
}

/* A fitting block among many that are in the same bin, but a unit too short. */
static void test_hidden_block(int others, int is_full) {
    Model m = model(4 << 20);
    uint64_t hidden = model_alloc(&m, PAGE + UNIT), touched;
    for (int i = 0; i < 2 * others; i++) model_alloc(&m, i % 2 ? PAGE : UNIT);
    if (is_full)
        while (model_alloc(&m, 2 * UNIT)) continue;
    model_release(&m, 0);
    for (size_t i = m.n; i-- > 0;)
        if (m.live[i].size == PAGE) model_release(&m, i);
    touched = stats(&m).touched;
    CHECK(stats(&m).free_blocks >= (uint64_t)others);
    CHECK(model_alloc(&m, PAGE + UNIT) == hidden && stats(&m).touched == touched);
    model_free(&m);
}

static void fill_region(PrArena *a, size_t size, int how) {
    uint8_t *bytes = (uint8_t *)a;
    for (size_t i = 0; i < size; i++) bytes[i] = how ? 0xff : (uint8_t)random_bits();
}

static void test_rebuild(void) {
    Model m = model(2 << 20);
    size_t size = pr_arena_footprint(m.capacity);
    for (int round = 0; round < 40; round++) {
        for (int i = 0; i < 300; i++) {
            if (m.n && below(2)) model_release(&m, below(m.n));
            model_alloc(&m, random_size(round % 2 ? 5000 : 500000));
        }
        fill_region(m.arena, size, round % 3 == 0);
        CHECK(pr_arena_rebuild(m.arena, m.capacity, m.live, m.n) == 0);
        verify(&m);
        CHECK(m.n == 0 || stats(&m).touched == m.live[m.n - 1].offset + m.live[m.n - 1].size);
        for (size_t i = 0; i < m.n; i++)
            CHECK(pr_arena_size(m.arena, m.live[i].offset) == m.live[i].size);
        if (round % 10 == 9) release_all(&m);
    }
    fill_region(m.arena, size, 0);
    CHECK(pr_arena_rebuild(m.arena, m.capacity, NULL, 0) == 0);
    m.n = 0;
    m.used = 0;
    verify(&m);
    CHECK(stats(&m).free_blocks == 1 && stats(&m).largest_free == m.capacity - UNIT);
    CHECK(model_alloc(&m, m.capacity - PAGE) == PAGE); /* to the last record */
    verify(&m);
    model_free(&m);
}

static void test_rebuild_refuses(void) {
    static const PrExtent wrong[][2] = {
        {{128, 64}, {0, 64}},                               /* the reserved unit */
        {{128, 65}, {192, 1}},                              /* overlap */
        {{128, 64}, {128, 64}},                             /* the same twice */
        {{128, 64}, {100, 64}},                             /* not aligned */
        {{128, 64}, {8192 + 64, PR_ARENA_PAGED}},           /* nor this */
        {{128, 64}, {1 << 20, 1}},                          /* behind the end */
        {{128, 64}, {(1 << 20) - 64, 65}},                  /* across it */
        {{128, 64}, {UINT64_MAX - 63, 64}},                 /* far behind */
        {{128, 64}, {192, UINT64_MAX}},                     /* sizes that overflow */
        {{128, 64}, {192, UINT64_MAX - 191}},               /* their sum does */
        {{PAGE, PR_ARENA_PAGED + 1}, {(65 << 12) + 64, 1}}, /* rounding makes them overlap */
    };
    Model m = model(1 << 20);
    uint64_t offset = model_alloc(&m, 1000);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        PrExtent live[2] = {wrong[i][0], wrong[i][1]};
        CHECK(pr_arena_rebuild(m.arena, m.capacity, live, 2) == -1);
        verify(&m); /* nothing changed */
        CHECK(pr_arena_size(m.arena, offset) == 1024);
    }
    release_all(&m);
    model_free(&m);
}

/* In shared memory the kernel takes the pages back; neighbours of the region keep theirs. */
static void test_rebuild_shared(void) {
    size_t size = pr_arena_footprint(64 << 20), total = size + 2 * PAGE;
    uint8_t *memory = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    memset(memory, 0x5a, total);
    PrArena *a = (PrArena *)(void *)(memory + 192);
    PrExtent live[] = {{PAGE * 100, 300000}, {UNIT, 10}};
    CHECK(pr_arena_rebuild(a, 64 << 20, live, 2) == 0 && pr_arena_check(a) == 0);
    for (size_t i = 0; i < 192; i++) CHECK(memory[i] == 0x5a);
    for (size_t i = 192 + size; i < total; i++) CHECK(memory[i] == 0x5a);
    CHECK(pr_arena_alloc(a, 100) == 2 * UNIT && pr_arena_check(a) == 0);
    CHECK(pr_arena_rebuild(a, 64 << 20, NULL, 0) == 0);
    CHECK(pr_arena_alloc(a, (64 << 20) - PAGE) == PAGE && pr_arena_check(a) == 0);
    munmap(memory, total);
}

/* The check finds damage, and survives it. */
static void test_check_finds(void) {
    Model m = model(1 << 20);
    size_t size = pr_arena_footprint(m.capacity), found = 0;
    uint8_t *bytes = (uint8_t *)m.arena, *kept = malloc(size);
    CHECK(kept);
    for (int i = 0; i < 400; i++) model_alloc(&m, random_size(20000));
    for (int i = 0; i < 200; i++) model_release(&m, below(m.n));
    verify(&m);
    memcpy(kept, bytes, size);
    for (int i = 0; i < 3000; i++) { /* the first field is the capacity */
        for (int k = 0; k < 1 + i % 20; k++) bytes[8 + below(size - 8)] ^= 1 << below(8);
        found += pr_arena_check(m.arena) != 0;
        memcpy(bytes, kept, size);
    }
    for (int i = 0; i < 100; i++) {
        for (size_t k = 8; k < size; k++) bytes[k] = (uint8_t)random_bits();
        CHECK(pr_arena_check(m.arena) != 0);
    }
    CHECK(found > 1000); /* many fields mean nothing while they are not in use */
    free(kept);
    model_free(&m);
}

/* Pages of the region that are resident. */
static size_t resident(void *region, size_t size) {
    size_t pages = (size + PAGE - 1) / PAGE, n = 0;
    unsigned char *states = malloc(pages);
    CHECK(states && mincore(region, size, states) == 0);
    for (size_t i = 0; i < pages; i++) n += states[i] & 1;
    free(states);
    return n;
}

static PrArena *map_arena(uint64_t capacity, size_t *size) {
    void *region;
    *size = pr_arena_footprint(capacity);
    region = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE,
                  -1, 0);
    if (region == MAP_FAILED) return NULL;
    pr_arena_init(region, capacity);
    return region;
}

/* A terabyte: every row of bins, and metadata only where blocks begin and end. */
static void test_terabyte(void) {
    enum { BLOCKS = 200 };
    uint64_t offsets[BLOCKS];
    size_t size;
    PrArena *a = map_arena(PR_ARENA_MOST, &size);
    PrArenaStats s;
    if (!a) return; /* a system that lends no addresses */
    CHECK(pr_arena_footprint(UINT64_MAX) == size && size < PR_ARENA_MOST / 80);
    offsets[0] = pr_arena_alloc(a, PR_ARENA_MOST - PAGE);
    CHECK(offsets[0] == PAGE && pr_arena_alloc(a, PAGE) == 0);
    pr_arena_free(a, offsets[0]);
    for (int i = 0; i < BLOCKS; i++) offsets[i] = pr_arena_alloc(a, random_size(10000000000));
    for (int i = 0; i < BLOCKS; i += 2) pr_arena_free(a, offsets[i]);
    for (int i = 0; i < BLOCKS; i += 2) offsets[i] = pr_arena_alloc(a, random_size(10000000000));
    for (int i = 0; i < BLOCKS; i++) pr_arena_free(a, offsets[i]);
    pr_arena_stats(a, &s);
    CHECK(s.blocks == 0 && s.free_blocks == 1 && s.largest_free == PR_ARENA_MOST - UNIT);
    CHECK(resident(a, size) < 8 * BLOCKS);
    munmap(a, size);
}

/* -- measuring --------------------------------------------------------------------------------- */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* One block taken and given back, over and over; and a random one of many replaced by a new one. */
static void time_pairs(const char *what, uint64_t least, uint64_t most, size_t live) {
    enum { ROUNDS = 4000000 };
    size_t size;
    PrArena *a = map_arena((uint64_t)1 << 36, &size);
    uint64_t *offsets = malloc(live * sizeof *offsets);
    uint32_t *order = malloc(ROUNDS * sizeof *order), *sizes = malloc(ROUNDS * sizeof *sizes);
    CHECK(a && offsets && order && sizes);
    for (size_t i = 0; i < ROUNDS; i++) {
        order[i] = (uint32_t)below(live);
        sizes[i] = (uint32_t)(least + below(most - least + 1));
    }
    for (size_t i = 0; i < live; i++) offsets[i] = pr_arena_alloc(a, sizes[i]);
    double begin = now();
    for (size_t i = 0; i < ROUNDS; i++) pr_arena_free(a, pr_arena_alloc(a, sizes[i]));
    double middle = now();
    for (size_t i = 0; i < ROUNDS; i++) {
        pr_arena_free(a, offsets[order[i]]);
        offsets[order[i]] = pr_arena_alloc(a, sizes[i]);
    }
    double end = now();
    PrArenaStats s;
    pr_arena_stats(a, &s);
    printf("%-24s %7zu live  same %5.1f ns  random %6.1f ns  peak/touched %.3f\n", what, live,
           1e9 * (middle - begin) / ROUNDS, 1e9 * (end - middle) / ROUNDS,
           (double)s.peak / (double)s.touched);
    munmap(a, size);
    free(offsets), free(order), free(sizes);
}

/* Blocks of random sizes and lifetimes, `full` bytes in use on average. */
static void measure_fragmentation(const char *what, uint64_t most, uint64_t full, int steps) {
    size_t size, n = 0, room = 1 << 22;
    PrArena *a = map_arena((uint64_t)1 << 36, &size);
    PrExtent *live = malloc(room * sizeof *live);
    PrArenaStats s;
    uint64_t used = 0;
    CHECK(a && live);
    double begin = now();
    for (int i = 0; i < steps; i++) {
        while (used > full) {
            size_t k = below(n);
            used -= live[k].size;
            pr_arena_free(a, live[k].offset);
            live[k] = live[--n];
        }
        uint64_t want = random_size(most);
        live[n++] = (PrExtent){pr_arena_alloc(a, want), want};
        used += want;
    }
    double end = now();
    pr_arena_stats(a, &s);
    printf("%-24s %7zu live  asked/touched %.3f  peak/touched %.3f  metadata %.2f %%  %.0f ns\n",
           what, n, (double)full / (double)s.touched, (double)s.peak / (double)s.touched,
           100.0 * (double)resident(a, size) * PAGE / (double)s.touched,
           1e9 * (end - begin) / steps);
    munmap(a, size);
    free(live);
}

static void measure_metadata(uint64_t block, int n) {
    size_t size;
    PrArena *a = map_arena((uint64_t)1 << 36, &size);
    CHECK(a);
    for (int i = 0; i < n; i++) pr_arena_alloc(a, block);
    printf("%d blocks of %llu bytes: %zu bytes of metadata\n", n, (unsigned long long)block,
           resident(a, size) * PAGE);
    munmap(a, size);
}

static int measure(void) {
    seed(1);
    time_pairs("128 B", 128, 128, 100000);
    time_pairs("1..1024 B", 1, 1024, 1000);
    time_pairs("1..1024 B", 1, 1024, 100000);
    time_pairs("1..4000 B", 1, 4000, 100000);
    time_pairs("4..64 KB", 4096, 65536, 10000);
    time_pairs("256 KB..4 MB", 1 << 18, 4 << 20, 1000);
    measure_metadata(128, 100000);
    measure_metadata(1 << 20, 10000);
    measure_fragmentation("every size to 1 KB", 1 << 10, 64 << 20, 3000000);
    measure_fragmentation("every size to 64 KB", 1 << 16, 256 << 20, 2000000);
    measure_fragmentation("every size to 1 MB", 1 << 20, 512 << 20, 1000000);
    measure_fragmentation("every size to 32 MB", 32 << 20, (uint64_t)4 << 30, 300000);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "timing") == 0) return measure();
    seed(argc > 1 ? strtoull(argv[1], NULL, 10) : 1);
    test_random(1 << 20, 1 << 20, 20000, 10);
    test_random(1 << 20, 1000, 20000, 10);
    test_random(3 << 20, 600000, 20000, 10);
    test_random(70000, 70000, 20000, 1);
    test_random(70000, 200, 20000, 1);
    test_each_size();
    test_capacities();
    test_exhaustion(1);
    test_exhaustion(200);
    test_exhaustion(4096);
    test_exhaustion(9000);
    test_exhaustion(PR_ARENA_PAGED + 1);
    test_new_memory_is_last();
    test_reuse();
    test_hidden_block(40, 0);
    test_hidden_block(200, 1);
    test_rebuild();
    test_rebuild_refuses();
    test_rebuild_shared();
    test_check_finds();
    test_terabyte();
    printf("arena ok\n");
    return 0;
}
