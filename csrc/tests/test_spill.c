/* Pins, copies, blocks that are given back and come again, and waiting for room. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "../spill_file.h"
#include "spiller.h"

enum { SIZE = 5000 };

/* -- values ------------------------------------------------------------------------------------ */

static PrHandle put_value(PrSession *s, uint64_t size, uint64_t number, const PrHandle *handles,
                          uint32_t n) {
    PrHandle h;
    uint8_t *data;
    EQUAL(pr_create(s, size, n, &h, &data), 0);
    write_value(data, size, number);
    if (n) memcpy(data + ((size + 7) & ~7ull), handles, 8ull * n);
    pr_seal(s, h, 0);
    return h;
}

static int holds_value(PrSession *s, PrHandle h, uint64_t number) {
    PrObject *o = &s->objects[pr_slot(h)];
    uint64_t found;
    EQUAL(pr_pin(s, pr_slot(h)), 1);
    memcpy(&found, pr_message_of(s, o), 8);
    int right = found == number && has_pattern(pr_message_of(s, o) + 8, o->size - 8, number);
    pr_unpin(s, pr_slot(h));
    return right;
}

static PrCopy *copy_of(PrSession *s, PrHandle h) {
    return pr_copy_of(&s->objects[pr_slot(h)]);
}

static PrSession spiller_of(const PrSession *s) {
    PrSession spiller = join_session(s, PR_SPILLER);
    pr_begin_spilling(&spiller);
    return spiller;
}

/* All that can be. How many objects have lost their blocks. */
static uint32_t spill_all(PrSession *spiller) {
    PrHandle chosen[64];
    uint32_t n = pr_choose(spiller, 1, UINT64_MAX, chosen, 64), evicted = 0;
    if (n) write_copies(spiller, chosen, n);
    release_all(spiller, chosen, n);
    n = pr_choose(spiller, 0, UINT64_MAX, chosen, 64);
    for (uint32_t i = 0; i < n; i++) evicted += !pr_evict(spiller, pr_slot(chosen[i]));
    release_all(spiller, chosen, n);
    return evicted;
}

static uint32_t bring_back(PrSession *spiller) {
    PrHandle chosen[64];
    uint32_t n = pr_fetched(spiller, chosen, 64);
    for (uint32_t i = 0; i < n; i++) read_copy(spiller, chosen[i], 9);
    release_all(spiller, chosen, n);
    return n;
}

/* -- out and in -------------------------------------------------------------------------------- */

static void test_round_trip(void) {
    PrSession s = small_session(), spiller = spiller_of(&s);
    PrHandle small = put_value(&s, 20, 1, NULL, 0);
    PrHandle parts[2] = {small, small};
    PrHandle h = put_value(&s, SIZE, 2, parts, 2);
    uint64_t clean, dirty, before = used_memory(&s);
    pr_spillable(&spiller, &clean, &dirty);
    EQUAL(clean, 0);
    EQUAL(dirty, pr_block_size(SIZE, 2));
    EQUAL(spill_all(&spiller), 1);
    SOUND(&s);
    CHECK(used_memory(&s) <= before - SIZE + 64); /* its handles stay */
    EQUAL(pr_pin(&s, pr_slot(h)), PR_AWAY);
    EQUAL(pr_refs_in(&s, &s.objects[pr_slot(h)])[1], small);
    EQUAL(bring_back(&spiller), 0); /* nobody has asked for it */
    pr_fetch(&s, pr_slot(h));
    EQUAL(pr_await_fetch(&s, pr_slot(h), pr_now()), PR_TIMEOUT);
    EQUAL(bring_back(&spiller), 1);
    EQUAL(pr_await_fetch(&s, pr_slot(h), soon()), 0);
    EQUAL(used_memory(&s), before);
    CHECK(holds_value(&s, h, 2));
    EQUAL(pr_refs_in(&s, &s.objects[pr_slot(h)])[0], small);
    SOUND(&s);
    /* One that is being written is not chosen again. */
    PrHandle more = put_value(&s, SIZE, 3, NULL, 0), chosen[2];
    EQUAL(pr_choose(&spiller, 1, UINT64_MAX, chosen, 2), 1);
    EQUAL(pr_choose(&spiller, 1, UINT64_MAX, chosen, 2), 0);
    pr_not_written(&spiller, pr_slot(more));
    EQUAL(pr_choose(&spiller, 1, UINT64_MAX, chosen, 2), 1);
    pr_not_written(&spiller, pr_slot(more));
    release(&spiller, more);
    release(&spiller, more);
    release(&s, more);
    /* Its copy is still good. */
    EQUAL(pr_evict(&spiller, pr_slot(h)), 0);
    EQUAL(atomic_load(&s.control->n_spilled), 1);
    EQUAL(atomic_load(&s.control->n_restored), 1);
    EQUAL(atomic_load(&s.control->n_evicted), 2);
    release(&s, small);
    EQUAL(live_objects(&s), 2);
    release(&s, h); /* what it refers to goes with it */
    EQUAL(live_objects(&s), 0);
    leave_session(&spiller);
    end_session(&s);
}

static void test_what_is_read_stays(void) {
    PrSession s = small_session(), spiller = spiller_of(&s), reader = join_session(&s, PR_WORKER);
    PrHandle h = put_value(&s, SIZE, 3, NULL, 0);
    uint32_t slot = pr_slot(h);
    pr_hold(&reader, slot);
    EQUAL(pr_pin(&reader, slot), 1);
    EQUAL(pr_pin(&reader, slot), 1);
    EQUAL(atomic_load(&copy_of(&s, h)->pins), 1); /* processes are counted */
    SOUND(&s);
    SOUND(&reader);
    EQUAL(spill_all(&spiller), 0);
    pr_unpin(&reader, slot);
    EQUAL(spill_all(&spiller), 0);
    EQUAL(pr_pin(&s, slot), 1);
    pr_unpin(&reader, slot);
    EQUAL(spill_all(&spiller), 0);
    pr_unpin(&s, slot);
    EQUAL(spill_all(&spiller), 1);
    /* Nor is what must not, or needs not. */
    PrHandle kept[] = {put_value(&s, 8, 4, NULL, 0), put_value(&s, PR_SPILL_LEAST - 1, 5, NULL, 0),
                       reserve(&s)};
    EQUAL(spill_all(&spiller), 0);
    pr_abandon(&s, kept[2]);
    release_all(&s, kept, 2);
    release(&reader, h);
    release(&s, h);
    leave_session(&reader);
    leave_session(&spiller);
    end_session(&s);
}

/* A process that leaves, or dies, reads nothing any more. */
static void test_readers_go(void) {
    PrSession s = small_session(), spiller = spiller_of(&s);
    PrHandle h = put_value(&s, SIZE, 3, NULL, 0);
    for (int dies = 0; dies < 2; dies++) {
        PrSession reader = join_session(&s, PR_WORKER);
        pr_hold(&reader, pr_slot(h));
        EQUAL(pr_pin(&reader, pr_slot(h)), 1);
        EQUAL(atomic_load(&copy_of(&s, h)->pins), 1);
        if (dies) {
            atomic_store(&reader.self->start_time, 0);
            pr_recover(&s, reader.index, PR_WORKER_CRASHED, "");
        } else {
            leave_session(&reader);
        }
        EQUAL(atomic_load(&copy_of(&s, h)->pins), 0);
        SOUND(&s);
    }
    EQUAL(spill_all(&spiller), 1);
    release(&s, h);
    leave_session(&spiller);
    end_session(&s);
}

static void test_oldest_first(void) {
    enum { N = 10 };
    PrSession s = small_session(), spiller = spiller_of(&s);
    PrHandle h[N], chosen[N];
    uint32_t now = pr_tick(pr_now());
    for (uint32_t i = 0; i < N; i++) {
        h[i] = put_value(&s, SIZE, i, NULL, 0);
        atomic_store(&copy_of(&s, h[i])->used, now - (i * 7 % N) * 1000);
    }
    EQUAL(pr_choose(&spiller, 1, 3 * SIZE, chosen, N), 3);
    for (uint32_t i = 0; i < 3; i++) EQUAL(chosen[i], h[(N - 1 - i) * 3 % N]); /* 3 * 7 = 1 */
    release_all(&spiller, chosen, 3);
    EQUAL(pr_choose(&spiller, 1, UINT64_MAX, chosen, 4), 4);
    release_all(&spiller, chosen, 4);
    EQUAL(pr_choose(&spiller, 0, UINT64_MAX, chosen, N), 0);
    release_all(&s, h, N);
    leave_session(&spiller);
    end_session(&s);
}

/* -- files ------------------------------------------------------------------------------------- */

static void test_files_go_with_their_objects(void) {
    PrSession s = small_session(), spiller = spiller_of(&s);
    PrHandle a = put_value(&s, SIZE, 1, NULL, 0), b = put_value(&s, SIZE, 2, NULL, 0), both[2];
    uint32_t file = pr_file_new(&spiller, 3);
    EQUAL(s.files[file].target, 3);
    SOUND(&s);
    EQUAL(pr_file_unused(&spiller, 0), 0); /* it is being written */
    pr_file_done(&spiller, file, 100);
    EQUAL(pr_file_unused(&spiller, 0), file);
    uint64_t number = s.files[file].number;
    pr_file_free(&spiller, file);
    EQUAL(pr_choose(&spiller, 1, UINT64_MAX, both, 2), 2);
    write_copies(&spiller, both, 2);
    release_all(&spiller, both, 2);
    file = atomic_load(&copy_of(&s, a)->file);
    EQUAL(atomic_load(&copy_of(&s, b)->file), file);
    CHECK(s.files[file].number > number);
    release(&s, a);
    EQUAL(pr_file_unused(&spiller, 0), 0);
    SOUND(&s);
    atomic_store(&s.control->called, 0);
    release(&s, b);
    EQUAL(atomic_load(&s.control->called), 1);
    EQUAL(pr_file_unused(&spiller, 0), file);
    /* One that could not be removed is no obstacle to others, and is not forgotten. */
    uint32_t next = pr_file_new(&spiller, 0);
    pr_file_done(&spiller, next, 100);
    EQUAL(pr_file_unused(&spiller, file), next);
    EQUAL(pr_file_unused(&spiller, next), 0);
    pr_file_free(&spiller, next);
    EQUAL(pr_file_unused(&spiller, 0), file);
    leave_session(&spiller);
    end_session(&s);
}

typedef struct {
    PrSession *spiller;
    _Atomic int stop;
    uint32_t found;
} Search;

static void *search_always(void *with) {
    Search *search = with;
    while (!atomic_load(&search->stop) && !search->found)
        search->found = pr_file_unused(search->spiller, 0);
    return NULL;
}

/* Which files are needed is not known in the middle of a recovery. */
static void test_files_while_they_are_counted(void) {
    PrSession s = small_session(), spiller = spiller_of(&s);
    Search seen = {.spiller = &spiller};
    PrHandle h = put_value(&s, SIZE, 1, NULL, 0);
    EQUAL(spill_all(&spiller), 1);
    pthread_t thread = start_thread(search_always, &seen);
    for (int i = 0; i < 2000; i++) pr_recover(&s, 0, 0, "");
    atomic_store(&seen.stop, 1);
    join_threads(&thread, 1);
    EQUAL(seen.found, 0);
    SOUND(&s);
    release(&s, h);
    leave_session(&spiller);
    end_session(&s);
}

/* What workers cannot do without is small, has a name, and stays. */
static void test_what_has_a_name_stays(void) {
    PrSession s = small_session(), spiller = spiller_of(&s);
    uint64_t sizes[] = {PR_SPILL_NAMED - 1, PR_SPILL_NAMED}, clean, dirty;
    for (uint8_t i = 0; i < 2; i++) {
        PrHandle h = put_value(&s, sizes[i], i, NULL, 0), found;
        EQUAL(pr_name_set(&s, (uint8_t[24]){i + 1}, h, &found), 0);
        release(&s, h);
    }
    pr_spillable(&spiller, &clean, &dirty);
    EQUAL(dirty, pr_block_size(PR_SPILL_NAMED, 0));
    EQUAL(spill_all(&spiller), 1);
    for (uint8_t i = 0; i < 2; i++) pr_name_remove(&s, (uint8_t[24]){i + 1}, 0);
    leave_session(&spiller);
    end_session(&s);
}

/* Past the system's cache where the file system of the working directory has that. */
static int new_file(int flags) {
    int fd = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC | flags, 0600);
    if (fd < 0 && errno == EINVAL) fd = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    return fd;
}

/* What is written is found where it is said to be, with nothing between but zeros. */
static void check_written_copies(int flags) {
    enum { N = 300 };
    PrSession s = new_session(1 << 26, 1 << 12, 1 << 8, 0), spiller = spiller_of(&s);
    PrHandle h[N];
    uint64_t offsets[N], end = 0;
    static _Alignas(4096) uint8_t file[1 << 26];
    for (uint32_t i = 0; i < N; i++) {
        uint64_t sizes[] = {512, 4032 - 64, 10000, 65536, 1000 + i, 1 << 18, 300000};
        h[i] = put_value(&s, sizes[i % 7], i, NULL, 0);
    }
    int fd = new_file(flags);
    int64_t size = pr_write_copies(&spiller, h, N, fd, offsets);
    EQUAL(pread(fd, file, sizeof file, 0), size);
    for (uint32_t i = 0; i < N; i++) {
        PrObject *o = &s.objects[pr_slot(h[i])];
        const PrCopyHeader *header = (void *)(file + offsets[i] - sizeof *header);
        EQUAL(offsets[i] % (o->size >= PR_COPY_MAPPED ? 4096 : 64), 0);
        CHECK(offsets[i] >= end + sizeof *header);
        for (uint64_t k = end; k < offsets[i] - sizeof *header; k++) EQUAL(file[k], 0);
        CHECK(pr_copy_is_good(header, h[i], file + offsets[i], o->size));
        CHECK(!pr_copy_is_good(header, h[i] + 1, file + offsets[i], o->size));
        CHECK(!pr_copy_is_good(header, h[i], file + offsets[i], o->size - 1));
        file[offsets[i] + o->size / 2] ^= 1;
        CHECK(!pr_copy_is_good(header, h[i], file + offsets[i], o->size));
        end = offsets[i] + o->size;
    }
    EQUAL(size, (int64_t)((end + 4095) / 4096 * 4096));
    for (uint64_t k = end; k < (uint64_t)size; k++) EQUAL(file[k], 0);
    close(fd);
    EQUAL(pr_write_copies(&spiller, h, N, fd, offsets), PR_SYSTEM);
    EQUAL(errno, EBADF);
    release_all(&s, h, N);
    leave_session(&spiller);
    end_session(&s);
}

static void test_written_copies(void) {
    check_written_copies(0);
    check_written_copies(O_DIRECT);
}

/* What it was writing is nobody's, and another spiller is to remove it. */
static void test_the_spiller_dies(void) {
    PrSession s = small_session(), spiller = spiller_of(&s);
    PrHandle h = put_value(&s, SIZE, 1, NULL, 0), chosen;
    EQUAL(pr_choose(&spiller, 1, UINT64_MAX, &chosen, 1), 1);
    uint32_t file = pr_file_new(&spiller, 0);
    atomic_store(&s.control->called, 0);
    atomic_store(&spiller.self->start_time, 0);
    pr_recover(&s, spiller.index, PR_WORKER_CRASHED, "");
    SOUND(&s);
    EQUAL(atomic_load(&s.control->called), 1);
    munmap(spiller.held, (uint64_t)s.control->objects.limit * 2 * sizeof(uint32_t));
    spiller = spiller_of(&s);
    EQUAL(pr_file_unused(&spiller, 0), file);
    EQUAL(spill_all(&spiller), 1); /* the object is not taken for one that is being written */
    release(&s, h);
    leave_session(&spiller);
    end_session(&s);
}

static void test_lost_copy(void) {
    PrSession s = small_session(), spiller = spiller_of(&s);
    PrHandle h = put_value(&s, SIZE, 1, NULL, 0);
    EQUAL(spill_all(&spiller), 1);
    pr_lose_copy(&s, pr_slot(h));
    pr_lose_copy(&s, pr_slot(h));
    SOUND(&s);
    CHECK(pr_file_unused(&spiller, 0));
    pr_fetch(&s, pr_slot(h));
    bring_back(&spiller);
    EQUAL(pr_await_fetch(&s, pr_slot(h), soon()), 0);
    EQUAL(pr_pin(&s, pr_slot(h)), PR_AWAY);
    EQUAL(state_of(&s, h), PR_OBJECT_SEALED);
    release(&s, h);
    leave_session(&spiller);
    end_session(&s);
}

/* -- room -------------------------------------------------------------------------------------- */

/* The node is to start a spiller if there is none. */
static void test_call(void) {
    PrSession s = small_session();
    s.control->spill_at = s.control->call_at = 10000;
    release(&s, put_value(&s, 9000, 1, NULL, 0));
    EQUAL(atomic_load(&s.control->wanted), 0);
    release(&s, put_value(&s, 11000, 1, NULL, 0));
    EQUAL(atomic_load(&s.control->wanted), 1);
    PrSession spiller = spiller_of(&s);
    uint32_t seen = atomic_load(&spiller.self->event);
    atomic_store(&s.control->called, 0);
    release(&s, put_value(&s, 11000, 1, NULL, 0));
    CHECK(atomic_load(&spiller.self->event) != seen);
    leave_session(&spiller);
    end_session(&s);
}

static void test_turns(void) {
    enum { BIG = 1 << 20 };
    PrSession s = new_session(4 * BIG, 1 << 12, 1 << 8, 0), a = join_session(&s, PR_WORKER);
    PrSession b = join_session(&s, PR_WORKER);
    PrHandle h, kept[3];
    uint8_t *data;
    uint64_t bytes = 0;
    EQUAL(pr_want_room(&a, BIG, pr_now()), PR_FULL); /* nobody makes room, or will */
    s.control->spill_at = UINT64_MAX - 1;
    PrSession spiller = spiller_of(&s);
    EQUAL(pr_want_room(&a, 5 * BIG, pr_now()), PR_FULL); /* it can never fit */
    EQUAL(pr_first_wanting(&spiller, &bytes), 0);
    for (int i = 0; i < 3; i++) kept[i] = put_value(&s, BIG, 1, NULL, 0);
    EQUAL(pr_create(&a, BIG, 0, &h, &data), PR_FULL);
    EQUAL(pr_want_room(&a, BIG, pr_now()), 0);
    EQUAL(pr_want_room(&a, BIG, pr_now()), PR_BUSY);
    EQUAL(pr_want_room(&b, BIG / 2, pr_now()), 0);
    SOUND(&s);
    EQUAL(pr_first_wanting(&spiller, &bytes), a.index);
    EQUAL(bytes, BIG);
    EQUAL(pr_grant(&spiller, a.index), PR_FULL);
    EQUAL(pr_await_room(&a, pr_now()), PR_TIMEOUT);
    /* There is room for this one, but others were first; for very small ones there always is. */
    EQUAL(pr_create(&s, BIG / 2, 0, &h, &data), PR_FULL);
    release(&s, put_value(&s, 1000, 2, NULL, 0));
    release(&s, kept[2]);
    EQUAL(pr_grant(&spiller, a.index), 0);
    SOUND(&s);
    EQUAL(pr_first_wanting(&spiller, &bytes), b.index);
    EQUAL(pr_await_room(&a, soon()), 0);
    EQUAL(pr_create(&a, BIG, 0, &h, &data), 0);
    SOUND(&s);
    pr_abandon(&a, h);
    EQUAL(pr_grant(&spiller, b.index), 0);
    pr_forget_room(&b); /* and what it was given */
    pr_forget_room(&b);
    SOUND(&s);
    EQUAL(pr_want_room(&b, BIG, pr_now()), 0);
    pr_deny(&spiller, b.index);
    EQUAL(pr_await_room(&b, soon()), PR_FULL);
    pr_forget_room(&b);
    EQUAL(pr_await_room(&b, soon()), 0); /* as if another thread had taken what was granted */
    EQUAL(atomic_load(&s.control->n_wanting), 0);
    release_all(&s, kept, 2);
    leave_session(&a);
    leave_session(&b);
    leave_session(&spiller);
    end_session(&s);
}

/* Who reads may make room, if it does not itself wait for some. */
static void test_worth_waiting(void) {
    PrSession s = small_session(), reader = join_session(&s, PR_WORKER), spiller = spiller_of(&s);
    s.control->spill_at = UINT64_MAX - 1;
    PrHandle h = put_value(&s, SIZE, 1, NULL, 0);
    pr_hold(&reader, pr_slot(h));
    EQUAL(pr_pin(&reader, pr_slot(h)), 1);
    EQUAL(pr_pinned_bytes(&s, reader.index), SIZE);
    EQUAL(pr_may_free(&spiller, s.index), 1);
    EQUAL(pr_may_free(&spiller, reader.index), 0);
    EQUAL(pr_want_room(&reader, SIZE, pr_now()), 0);
    EQUAL(pr_may_free(&spiller, s.index), 0);
    pr_forget_room(&reader);
    EQUAL(pr_want_room(&s, SIZE, pr_now()), 0);
    atomic_store(&s.control->called, 0);
    pr_unpin(&reader, pr_slot(h));
    EQUAL(atomic_load(&s.control->called), 1);
    EQUAL(pr_may_free(&spiller, s.index), 0);
    PrHandle written = reserve(&s); /* by another thread */
    EQUAL(pr_may_free(&spiller, s.index), 1);
    pr_abandon(&s, written);
    pr_forget_room(&s);
    release(&reader, h);
    release(&s, h);
    leave_session(&reader);
    leave_session(&spiller);
    end_session(&s);
}

static void test_wishes_of_the_dead(void) {
    PrSession s = small_session(), dead = join_session(&s, PR_WORKER), spiller = spiller_of(&s);
    s.control->spill_at = UINT64_MAX - 1;
    EQUAL(pr_want_room(&dead, SIZE, pr_now()), 0);
    EQUAL(pr_grant(&spiller, dead.index), 0);
    CHECK(used_memory(&s) >= SIZE);
    EQUAL(pr_want_room(&s, SIZE, pr_now()), 0);
    EQUAL(pr_grant(&spiller, s.index), 0);
    atomic_store(&dead.self->start_time, 0);
    pr_recover(&s, dead.index, PR_WORKER_CRASHED, "");
    SOUND(&s);
    EQUAL(atomic_load(&s.control->n_wanting), 1);
    pr_forget_room(&s);
    EQUAL(used_memory(&s), 0);
    leave_session(&spiller);
    end_session(&s);
}

/* -- at the same time -------------------------------------------------------------------------- */

typedef struct {
    PrSession *s;
    PrHandle h;
    _Atomic uint32_t reads, fetches;
    _Atomic int stop, done; /* readers stop before the spiller */
} Race;

static void *read_always(void *with) {
    Race *race = with;
    PrSession s = join_session(race->s, PR_WORKER);
    uint32_t slot = pr_slot(race->h);
    pr_hold(&s, slot);
    while (!atomic_load(&race->stop)) {
        int status = pr_pin(&s, slot);
        if (status == PR_AWAY) {
            pr_fetch(&s, slot);
            EQUAL(pr_await_fetch(&s, slot, soon()), 0);
            atomic_fetch_add(&race->fetches, 1);
            continue;
        }
        CHECK(holds_value(&s, race->h, 7));
        pr_unpin(&s, slot);
        atomic_fetch_add(&race->reads, 1);
        nap(1000); /* else one of them reads it at any time */
    }
    pr_release(&s, slot);
    leave_session(&s);
    return NULL;
}

static void *spill_always(void *with) {
    Race *race = with;
    PrSession s = spiller_of(race->s);
    while (!atomic_load(&race->done)) {
        spill_all(&s);
        bring_back(&s);
    }
    leave_session(&s);
    return NULL;
}

static void test_readers_and_spiller(void) {
    PrSession s = small_session();
    PrHandle part = put_value(&s, 20, 1, NULL, 0);
    Race race = {.s = &s, .h = put_value(&s, SIZE, 7, &part, 1)};
    pthread_t threads[4] = {start_thread(spill_always, &race)};
    UNTIL(atomic_load(&s.control->spiller));
    for (int i = 1; i < 4; i++) threads[i] = start_thread(read_always, &race);
    UNTIL(atomic_load(&race.reads) > 3000 && atomic_load(&race.fetches) > 300);
    atomic_store(&race.stop, 1);
    join_threads(threads + 1, 3);
    atomic_store(&race.done, 1);
    join_threads(threads, 1);
    SOUND(&s);
    release(&s, part);
    release(&s, race.h);
    end_session(&s);
}

int main(void) {
    RUN(test_round_trip);
    RUN(test_what_is_read_stays);
    RUN(test_readers_go);
    RUN(test_oldest_first);
    RUN(test_files_go_with_their_objects);
    RUN(test_files_while_they_are_counted);
    RUN(test_what_has_a_name_stays);
    RUN(test_written_copies);
    RUN(test_the_spiller_dies);
    RUN(test_lost_copy);
    RUN(test_call);
    RUN(test_turns);
    RUN(test_worth_waiting);
    RUN(test_wishes_of_the_dead);
    RUN(test_readers_and_spiller);
    return 0;
}
