/* What keeps objects: at quiet moments of random programs each reference that is counted is listed;
 * while others change everything, listing does no harm. */
#include "../holders.h"

#include <sys/mman.h>

#include "program.h"

enum { PROGRAMS = 4, ROOM = 1 << 16 };

static PrObjectEntry entries[ROOM];
static PrHolder holders[ROOM];

static size_t list(const PrSession *s) {
    size_t n = pr_list_holders(s, holders, ROOM);
    CHECK(n <= ROOM);
    return n;
}

static int holds(const PrSession *s, PrHandle object, PrHeld how, uint64_t by) {
    size_t n = list(s);
    int found = 0;
    for (size_t i = 0; i < n; i++)
        found +=
            holders[i].object == object && holders[i].how == (uint32_t)how && holders[i].by == by;
    return found;
}

static PrObjectEntry entry_of(const PrSession *s, PrHandle object) {
    size_t n = pr_list_objects(s, entries, ROOM);
    for (size_t i = 0; i < n; i++)
        if (entries[i].handle == object) return entries[i];
    return (PrObjectEntry){0};
}

/* -- each kind --------------------------------------------------------------------------------- */

static void test_processes(void) {
    PrSession s = small_session(), t = join_session(&s, PR_WORKER);
    PrHandle small = put(&s, 10, 1, NULL, 0), large = put(&s, 5000, 2, &small, 1);
    PrObjectEntry e = entry_of(&s, small);
    CHECK(e.size == 10 && e.block == 0 && pr_state(e.word) == PR_OBJECT_SEALED && !e.task);
    e = entry_of(&s, large);
    CHECK(e.size == 5000 && e.block == 5008);
    EQUAL(holds(&s, small, PR_HELD_BY_PROCESS, s.index), 1);
    EQUAL(holds(&s, small, PR_HELD_BY_OBJECT, large), 1);
    EQUAL(list(&s), 3);
    EQUAL(holders[0].pid, getpid());
    pr_hold(&t, pr_slot(large));
    EQUAL(holds(&s, large, PR_HELD_BY_PROCESS, t.index), 1);
    for (int i = 0; i < 2; i++) EQUAL(pr_pin(&t, pr_slot(large)), 1); /* views, too */
    EQUAL(holds(&s, large, PR_HELD_BY_PROCESS, t.index), 0);
    EQUAL(holds(&s, large, PR_HELD_BY_VIEW, t.index), 1);
    pr_unpin(&t, pr_slot(large));
    EQUAL(holds(&s, large, PR_HELD_BY_VIEW, t.index), 1);
    pr_unpin(&t, pr_slot(large));
    EQUAL(holds(&s, large, PR_HELD_BY_PROCESS, t.index), 1);
    release(&t, large);
    release(&s, small);
    release(&s, large);
    EQUAL(list(&s), 0);
    leave_session(&t);
    end_session(&s);
}

/* Whoever comes after a process that died with views has none. */
static void test_views_of_the_dead(void) {
    PrSession s = small_session(), t = join_session(&s, PR_WORKER);
    PrHandle h = put(&s, 5000, 1, NULL, 0);
    uint32_t index = t.index;
    pr_hold(&t, pr_slot(h));
    EQUAL(pr_pin(&t, pr_slot(h)), 1);
    atomic_store(&t.self->start_time, 0);
    munmap(t.held, (uint64_t)t.control->objects.limit * 2 * sizeof(uint32_t));
    pr_recover(&s, index, PR_WORKER_CRASHED, "");
    t = join_session(&s, PR_WORKER);
    EQUAL(t.index, index);
    pr_hold(&t, pr_slot(h));
    EQUAL(holds(&s, h, PR_HELD_BY_PROCESS, index), 1);
    EQUAL(holds(&s, h, PR_HELD_BY_VIEW, index), 0);
    release(&t, h);
    release(&s, h);
    leave_session(&t);
    end_session(&s);
}

static void test_tasks(void) {
    PrSession s = small_session(), w = join_session(&s, PR_WORKER);
    program_resources(&s);
    PrHandle objects[5], result;
    for (uint32_t i = 0; i < 5; i++) objects[i] = put(&s, 100, i, NULL, 0);
    /* Two dependencies are in the slot, three in a block of their own. */
    for (uint32_t n = 2; n <= 3; n++) {
        uint32_t slots[3] = {pr_slot(objects[0]), pr_slot(objects[1]), pr_slot(objects[2])};
        PrCall call = {.n_returns = 1,
                       .dependencies = slots,
                       .n_dependencies = n,
                       .arguments = objects[3],
                       .label = pr_slot(objects[4])};
        EQUAL(pr_submit(&s, &call, &result), 0);
        PrHandle task = entry_of(&s, result).task;
        CHECK(task);
        for (uint32_t k = 0; k < n; k++)
            EQUAL(holds(&s, objects[k], PR_HELD_AS_DEPENDENCY, task), 1);
        EQUAL(holds(&s, objects[3], PR_HELD_AS_ARGUMENTS, task), 1);
        EQUAL(holds(&s, objects[4], PR_HELD_AS_LABEL, task), 1);
        EQUAL(holds(&s, result, PR_HELD_AS_RESULT, task), 1);
        EQUAL(holds(&s, result, PR_HELD_BY_PROCESS, s.index), 1);
        uint32_t slot;
        EQUAL(pr_next_task(&w, &slot, soon()), 0);
        EQUAL(slot, pr_slot(task));
        pr_fail_task(&w, slot, 77, "");
        EQUAL(holds(&s, result, PR_HELD_AS_RESULT, task), 0);
        EQUAL(entry_of(&s, result).task, 0);
        release(&s, result);
    }
    for (uint32_t i = 0; i < 5; i++) release(&s, objects[i]);
    EQUAL(list(&s), 0);
    leave_session(&w);
    end_session(&s);
}

static void test_names_and_sites(void) {
    PrSession s = small_session();
    uint8_t key[24] = "callsite and 16 bytes...";
    static const char text[] =
        "(put object) program.py:main:17, and what else there is of it: more "
        "than fits into a slot";
    PrHandle site, object = put(&s, 10, 1, NULL, 0), found;
    uint8_t *data;
    char said[200] = "";
    EQUAL(pr_create(&s, sizeof text, 0, &site, &data), 0);
    memcpy(data, text, sizeof text);
    pr_seal(&s, site, 0);
    EQUAL(pr_name_set(&s, key, site, &found), 0);
    size_t n = list(&s), named = 0;
    for (size_t i = 0; i < n; i++) {
        if (holders[i].how != PR_HELD_BY_NAME) continue;
        uint64_t prefix = pr_name_prefix(&s, holders[i].by);
        CHECK(memcmp(&prefix, "callsite", 8) == 0);
        CHECK(holders[i].object == site && holders[i].pid == getpid());
        named++;
    }
    EQUAL(named, 1);
    EQUAL(entry_of(&s, object).site, 0);
    pr_note_site(&s, object, pr_slot(site));
    EQUAL(entry_of(&s, object).site, site);
    EQUAL(pr_site_text(&s, site, said, 20), sizeof text);
    CHECK(strcmp(said, "(put object) program") == 0);
    EQUAL(pr_site_text(&s, site, said, sizeof said), sizeof text);
    CHECK(strcmp(said, text) == 0);
    /* The next object in the slot was made elsewhere. */
    release(&s, object);
    object = put(&s, 10, 1, NULL, 0);
    EQUAL(entry_of(&s, object).site, 0);
    release(&s, object);
    EQUAL(pr_name_remove(&s, key, 0), 0);
    EQUAL(pr_name_prefix(&s, 1), 0);
    release(&s, site);
    EQUAL(pr_site_text(&s, site, said, sizeof said), 0);
    end_session(&s);
}

/* -- all of them ------------------------------------------------------------------------------- */

/* References to labels that are no call's: nobody is told of them, as they come and go. */
static void count_spares(const PrSession *s, uint32_t *counts) {
    for (uint32_t i = 1; i < atomic_load(&s->control->n_processes); i++)
        for (uint32_t k = 0; k < PR_SPARES; k++)
            counts[s->processes[i].spares[k].object] += s->processes[i].spares[k].n;
}

/* As many are listed of each object as are counted. */
static void verify(const PrSession *s) {
    static uint32_t counts[ROOM];
    uint32_t used = atomic_load(&s->control->objects.used);
    size_t n = list(s), n_objects = pr_list_objects(s, NULL, 0), alive = 0;
    memset(counts, 0, sizeof counts);
    CHECK(used <= ROOM);
    for (size_t i = 0; i < n; i++) {
        uint32_t slot = pr_slot(holders[i].object);
        CHECK(pr_same(atomic_load(&s->objects[slot].state), holders[i].object));
        counts[slot]++;
    }
    count_spares(s, counts);
    for (uint32_t i = 1; i < used; i++) {
        int state = pr_state(atomic_load(&s->objects[i].state));
        if (state < PR_OBJECT_RESERVED || state > PR_OBJECT_FAILED) continue;
        EQUAL(counts[i], atomic_load(&s->objects[i].refs));
        alive++;
    }
    EQUAL(n_objects, alive);
}

static PrSession join_as_worker(const PrSession *of) {
    return join_session(of, PR_WORKER);
}

static void end_random(PrSession *s, Program *programs) {
    for (int64_t end = soon(); live_tasks(s);) {
        CHECK(pr_now() < end);
        for (int i = 0; i < PROGRAMS; i++) {
            while (programs[i].n_held) drop_one(&programs[i]);
            work_on(&programs[i]);
        }
        pr_enter(s);
        pr_fail_calls(s);
        pr_leave(s);
    }
    atomic_store(&s->control->ended, 1);
    for (int i = 0; i < PROGRAMS; i++) {
        finish_program(&programs[i]);
        leave_session(&programs[i].s);
    }
    end_programs(s);
}

static void test_random(void) {
    PrSession s = new_session(1 << 24, 3000, 600, 0);
    Program programs[PROGRAMS] = {{.seed = 1}};
    program_resources(&s);
    for (int i = 0; i < PROGRAMS; i++) {
        programs[i].seed = (uint64_t)i + 1;
        join_again(&programs[i], join_as_worker, &s);
    }
    for (int i = 0; i < 6000; i++) {
        step(&programs[i % PROGRAMS]);
        if (i % 10 == 0) verify(&s);
    }
    end_random(&s, programs);
}

/* -- while others change it -------------------------------------------------------------------- */

typedef struct {
    PrSession of;
    _Atomic int ended;
    uint64_t looks;
} Looker;

static void *look(void *with) {
    Looker *me = with;
    PrSession s = join_session(&me->of, PR_CLIENT);
    PrObjectEntry *objects = malloc(ROOM * sizeof *objects);
    PrHolder *found = malloc(ROOM * sizeof *found);
    char text[100];
    while (!atomic_load(&me->ended)) {
        size_t room = me->looks % 2 ? ROOM : 100;
        size_t n = pr_list_objects(&s, objects, room);
        for (size_t i = 0; i < n && i < room; i++) pr_site_text(&s, objects[i].handle, text, 100);
        pr_list_holders(&s, found, room);
        me->looks++;
    }
    free(objects);
    free(found);
    leave_session(&s);
    return NULL;
}

static void test_while_it_changes(void) {
    PrSession s = new_session(1 << 24, 3000, 600, 0);
    Looker looker = {.of = s};
    Program programs[PROGRAMS];
    memset(programs, 0, sizeof programs);
    program_resources(&s);
    pthread_t thread = start_thread(look, &looker);
    for (int i = 0; i < PROGRAMS; i++) {
        programs[i].seed = (uint64_t)i + 100;
        join_again(&programs[i], join_as_worker, &s);
    }
    for (int i = 0; i < 20000; i++) step(&programs[i % PROGRAMS]);
    atomic_store(&looker.ended, 1);
    EQUAL(pthread_join(thread, NULL), 0);
    CHECK(looker.looks > 0);
    end_random(&s, programs);
}

/* Numbers that no table ever holds: none of them is followed. */
static void test_wild_tables(void) {
    static const uint64_t wild[] = {1,
                                    63,
                                    UINT32_MAX,
                                    1ull << 32,
                                    UINT64_MAX,
                                    (1 << 24) - 8,
                                    (1 << 24) - 64,
                                    UINT64_MAX - 4096};
    PrSession s = new_session(1 << 24, 1 << 10, 1 << 10, 0), w = join_session(&s, PR_WORKER);
    program_resources(&s);
    PrHandle part = put(&s, 10, 1, NULL, 0), all[3] = {part, part, part}, stream;
    PrHandle whole = put(&s, 5000, 1, all, 3);
    uint32_t slots[3] = {pr_slot(part), pr_slot(part), pr_slot(part)}, task;
    PrCall call = {.n_returns = 1,
                   .flags = PR_TASK_STREAMING,
                   .dependencies = slots,
                   .n_dependencies = 3,
                   .arguments = part};
    EQUAL(pr_submit(&s, &call, &stream), 0);
    EQUAL(pr_next_task(&w, &task, soon()), 0);
    PrObject object = s.objects[pr_slot(whole)];
    PrTask before = s.tasks[task];
    PrObject streaming = s.objects[pr_slot(stream)];
    for (size_t i = 0; i < sizeof wild / sizeof *wild; i++) {
        PrObject *o = &s.objects[pr_slot(whole)];
        PrTask *t = &s.tasks[task];
        PrStream *st = (PrStream *)(void *)s.objects[pr_slot(stream)].bytes;
        o->place = wild[i], list(&s), *o = object;
        o->size = wild[i], list(&s), *o = object;
        o->n_refs = (uint32_t)wild[i], list(&s), *o = object;
        atomic_store(&o->next, (uint32_t)wild[i]), list(&s), *o = object;
        atomic_store(&o->owner, (uint32_t)wild[i]), pr_list_objects(&s, entries, ROOM), *o = object;
        t->dependencies = wild[i], list(&s), *t = before;
        t->n_dependencies = (uint32_t)wild[i], list(&s), *t = before;
        t->dependencies = 0, t->n_dependencies = (uint32_t)wild[i], list(&s), *t = before;
        t->arguments = wild[i], list(&s), *t = before;
        t->label = (uint32_t)wild[i], list(&s), *t = before;
        atomic_store(&t->owner, (uint32_t)wild[i]), list(&s), *t = before;
        atomic_store(&t->first_return, (uint32_t)wild[i]), list(&s), *t = before;
        atomic_store(&t->n_returns, (uint16_t)wild[i]), list(&s), *t = before;
        st->first = (uint32_t)wild[i], atomic_store(&st->produced, 7), list(&s);
        st->first = pr_slot(stream), atomic_store(&st->produced, UINT32_MAX), list(&s);
        s.objects[pr_slot(stream)] = streaming;
        pr_name_prefix(&s, wild[i]);
        pr_note_site(&s, whole, (uint32_t)wild[i]), pr_list_objects(&s, entries, ROOM);
    }
    pr_fail_task(&w, task, 77, "");
    release(&s, stream);
    release(&s, whole);
    release(&s, part);
    leave_session(&w);
    end_session(&s);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    RUN(test_processes);
    RUN(test_views_of_the_dead);
    RUN(test_tasks);
    RUN(test_names_and_sites);
    RUN(test_random);
    RUN(test_while_it_changes);
    RUN(test_wild_tables);
    printf("ok\n");
    return 0;
}
