/* Threads that play processes die at injected points: between any two stores to shared memory that
 * a crash point separates. Another thread recovers; at quiet moments all invariants must hold, and
 * at the end nothing may be left.
 *
 * The number of deaths is the argument, or PYRAY_DEATHS; the second argument is a seed. */
#include <sched.h>
#include <setjmp.h>
#include <sys/mman.h>

#include "program.h"

const char *__asan_default_options(void);

/* Who dies in a recovery leaves what it has allocated. */
const char *__asan_default_options(void) {
    return "detect_leaks=0";
}

enum { WORKERS = 4, SESSIONS_DEATHS = 4000 };

typedef struct {
    Program program;
    pthread_t thread;
    jmp_buf grave;
    uint64_t chance;   /* of what is not the program's own affair */
    int64_t countdown; /* crash points until it dies; 0: it does not */
    uint32_t deaths, steps;
    _Atomic int paused, finishing;
} Mortal;

static _Thread_local Mortal *me;
static PrSession session;           /* of the main thread */
static Mortal mortals[WORKERS + 1]; /* the last one recovers */
static _Atomic int pausing, draining, stopping_all;
static _Atomic uint32_t deaths, deaths_in_recovery;
/* Of a process slot, if its owner died and nobody has recovered: which death it was. */
static _Atomic uint32_t graves[64], graves_dug;

/* -- dying ------------------------------------------------------------------------------------- */

void pr_crash_point(void) {
    if (!me) return;
    /* Others run in the middle of things even if there is one core only. */
    if (below(&me->chance, 50) == 0) sched_yield();
    if (!me->countdown || --me->countdown) return;
    /* As if that pid were another's by now: what is there to be seen of a real death. */
    atomic_store(&me->program.s.self->start_time, 0);
    atomic_store(&graves[me->program.s.index], atomic_fetch_add(&graves_dug, 1) + 1);
    longjmp(me->grave, 1);
}

static void arm(Mortal *m, int magnitudes) {
    m->countdown =
        1 + (int64_t)below(&m->chance, (uint64_t)1 << below(&m->chance, (uint64_t)magnitudes));
}

static PrSession join_as_thread(const PrSession *of) {
    static _Atomic uint32_t n;
    PrSession s;
    PrProcessKind kind = me == &mortals[WORKERS]       ? PR_NODE
                         : me == &mortals[0]           ? PR_SPILLER
                         : atomic_fetch_add(&n, 1) % 4 ? PR_WORKER
                                                       : PR_CLIENT;
    /* There are as many slots as there are dead and not recovered. */
    while (pr_session_attach_thread(&s, of, kind)) nap(MS / 10);
    atomic_store(&graves[s.index], 0);
    return s;
}

static void rise(Mortal *m) {
    PrSession *s = &m->program.s;
    munmap(s->held, (uint64_t)s->control->objects.limit * 2 * sizeof(uint32_t));
    m->deaths++;
    atomic_fetch_add(&deaths, 1);
    join_again(&m->program, join_as_thread, &session);
}

static void pause_here(Mortal *m) {
    int64_t countdown = m->countdown;
    m->countdown = 0;
    atomic_store(&m->paused, 1);
    while (atomic_load(&pausing)) nap(MS / 50);
    atomic_store(&m->paused, 0);
    m->countdown = countdown;
}

/* -- threads ----------------------------------------------------------------------------------- */

static void *run_program(void *with) {
    Mortal *m = me = with;
    join_again(&m->program, join_as_thread, &session);
    if (setjmp(m->grave)) rise(m);
    arm(m, 14);
    while (!atomic_load(&draining)) {
        if (atomic_load(&pausing)) pause_here(m);
        step(&m->program);
        m->steps++;
    }
    m->countdown = 0;
    atomic_store(&m->finishing, 1);
    finish_program(&m->program);
    leave_session(&m->program.s);
    return NULL;
}

/* What is long lies in the arena, if there is room. */
static int recover_one(PrSession *s) {
    static const char text[] =
        "its worker died of something that takes more words than there is room for in a slot";
    uint32_t i = 1, death = 0;
    while (i < 64 && !(death = atomic_load(&graves[i]))) i++;
    if (i == 64) return 0;
    pr_recover_killed(s, i, PR_WORKER_CRASHED, text + death % 50, (PrRetry)(death % 3));
    atomic_compare_exchange_strong(&graves[i], &death, 0);
    return 1;
}

/* It recovers, and may die of it. */
static void *run_recovery(void *with) {
    Mortal *m = me = with;
    join_again(&m->program, join_as_thread, &session);
    if (setjmp(m->grave)) {
        atomic_fetch_add(&deaths_in_recovery, 1);
        rise(m);
    }
    while (!atomic_load(&stopping_all)) {
        if (atomic_load(&pausing)) pause_here(m);
        if (below(&m->chance, 3) == 0) arm(m, 14);
        if (!recover_one(&m->program.s)) nap(MS / 50);
        m->countdown = 0;
    }
    leave_session(&m->program.s);
    return NULL;
}

/* -- the rounds -------------------------------------------------------------------------------- */

static void recover_all(void) {
    while (recover_one(&session)) {
    }
}

static void wait_for_pause(int i) {
    for (int64_t end = soon(); !atomic_load(&mortals[i].paused);) {
        CHECK(pr_now() < end);
        recover_all(); /* they may wait for one who died while it recovered */
        nap(MS / 100);
    }
}

/* Who died of a recovery, just when it gave a slot back, has left it the pid. Of a real death the
 * next recovery sees that there is no such process. */
static void free_pids(void) {
    for (uint32_t i = 1; i < atomic_load(&session.control->n_processes); i++) {
        PrProcess *p = &session.processes[i];
        if (atomic_load(&p->state) == PR_PROCESS_FREE) atomic_store(&p->pid, 0);
    }
}

/* Everybody stops between two steps. */
static void check_all(void) {
    atomic_store(&pausing, 1);
    for (int i = 0; i <= WORKERS; i++) wait_for_pause(i);
    recover_all();
    free_pids();
    pr_fail_calls(&session); /* as the node does when it is called */
    SOUND(&session);
    for (int i = 0; i < WORKERS; i++) { /* what each believes to hold */
        int line = pr_check(&mortals[i].program.s);
        CHECK(line == 0);
    }
    atomic_store(&pausing, 0);
    for (int i = 0; i <= WORKERS; i++) UNTIL(!atomic_load(&mortals[i].paused));
}

static int all_finishing(void) {
    int n = 0;
    for (int i = 0; i < WORKERS; i++) n += atomic_load(&mortals[i].finishing);
    return n == WORKERS;
}

static void run_session(uint32_t most, uint64_t seed, uint64_t arena_size) {
    session = new_session(arena_size, 3000, 600, 3000);
    session.self->kind = PR_NODE;
    session.control->spill_at = session.control->call_at = arena_size / 2;
    program_resources(&session);
    atomic_store(&draining, 0);
    atomic_store(&stopping_all, 0);
    for (int i = 0; i <= WORKERS; i++) {
        memset(&mortals[i], 0, sizeof mortals[i]);
        mortals[i].program.seed = seed * 1000 + (uint64_t)i;
        mortals[i].chance = seed * 1000 + 500 + (uint64_t)i;
        mortals[i].thread = start_thread(i < WORKERS ? run_program : run_recovery, &mortals[i]);
    }
    uint32_t until = atomic_load(&deaths) + most;
    while ((int32_t)(until - atomic_load(&deaths)) > 0) {
        uint32_t some = atomic_load(&deaths) + 1 + (uint32_t)below(&seed, 10);
        UNTIL((int32_t)(some - atomic_load(&deaths)) <= 0);
        alarm(120);
        check_all();
    }
    atomic_store(&draining, 1);
    for (int64_t end = soon(); !all_finishing() || live_tasks(&session); nap(MS / 10)) {
        recover_all();
        pr_fail_calls(&session);
        resume_some(&session);
        CHECK(pr_now() < end);
    }
    atomic_store(&session.control->ended, 1);
    for (int i = 0; i < WORKERS; i++) {
        for (uint32_t k = 1; k < atomic_load(&session.control->n_processes); k++)
            pr_notify(&session, &session.processes[k]);
        pthread_join(mortals[i].thread, NULL);
    }
    atomic_store(&stopping_all, 1);
    pthread_join(mortals[WORKERS].thread, NULL);
    recover_all();
    end_programs(&session);
}

int main(int argc, char **argv) {
    const char *wanted = argc > 1 ? argv[1] : getenv("PYRAY_DEATHS");
    uint32_t total = wanted ? (uint32_t)atoi(wanted) : 3000;
    uint64_t seed = argc > 2 ? (uint64_t)atoll(argv[2]) : 1;
    int64_t began = pr_now();
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (; atomic_load(&deaths) < total; seed++) {
        uint32_t left = total - atomic_load(&deaths);
        if (total > SESSIONS_DEATHS)
            printf("%u deaths; seed %llu\n", total - left, (unsigned long long)seed);
        /* Little memory, now and then. */
        run_session(left < SESSIONS_DEATHS ? left : SESSIONS_DEATHS, seed,
                    (uint64_t)1 << (seed % 4 ? 24 : 19));
    }
    printf("%u deaths, %u of them while recovering, in %.1f minutes: ok\n", atomic_load(&deaths),
           atomic_load(&deaths_in_recovery), (double)(pr_now() - began) / 60e9);
    return 0;
}
