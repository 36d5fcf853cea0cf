/* Processes that are killed at any instant while they run a random program, some of them while they
 * recover others. At quiet moments all invariants must hold, at the end nothing may be left.
 *
 * The number of kills is the argument, or PYRAY_KILLS; the second argument is a seed. */
#include <sys/mman.h>
#include <sys/prctl.h>

#include "program.h"

enum { CHILDREN = 4 };

/* What parent and children share beside the session. */
typedef struct {
    _Atomic int pausing, draining;
    _Atomic int paused[CHILDREN], finishing;
    _Atomic int recovering; /* child + 1 that is to recover */
} Board;

static PrSession session;
static Board *board;
static pid_t children[CHILDREN];
static uint64_t chance;
static int spills; /* whether this child is the spiller */

/* -- children ---------------------------------------------------------------------------------- */

static PrSession join_as_child(const PrSession *of) {
    static const PrProcessKind kinds[] = {PR_WORKER, PR_WORKER, PR_CLIENT};
    PrSession s;
    int status;
    while ((status = pr_session_attach(&s, dup(of->control_fd), dup(of->arena_fd), dup(of->wake_fd),
                                       spills ? PR_SPILLER : kinds[getpid() % 3]))) {
        EQUAL(status, PR_LIMIT);
        pr_session_unmap(&s);
        nap(MS);
    }
    return s;
}

static void run_child(int i, uint64_t seed) {
    Program p = {.seed = seed};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(0);
    spills = i == 0;
    join_again(&p, join_as_child, &session);
    while (!atomic_load(&board->draining)) {
        if (atomic_load(&board->pausing)) {
            atomic_store(&board->paused[i], getpid());
            while (atomic_load(&board->pausing)) nap(MS / 20);
            atomic_store(&board->paused[i], 0);
        }
        if (atomic_load(&board->recovering) == i + 1) {
            atomic_store(&board->recovering, 0);
            pr_recover_dead(&p.s);
        }
        step(&p);
    }
    atomic_fetch_add(&board->finishing, 1);
    finish_program(&p);
    pr_session_detach(&p.s, 1);
    _exit(0);
}

static void start_child(int i) {
    uint64_t seed = random_bits(&chance);
    fflush(NULL);
    CHECK((children[i] = fork()) >= 0);
    if (!children[i]) run_child(i, seed);
}

/* -- the parent -------------------------------------------------------------------------------- */

/* Killed by us, and not by a check of its own. */
static void kill_child(int i) {
    int status;
    kill(children[i], SIGKILL);
    EQUAL(waitpid(children[i], &status, 0), children[i]);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void check_all(void) {
    atomic_store(&board->pausing, 1);
    for (int i = 0; i < CHILDREN; i++)
        for (int64_t end = soon(); atomic_load(&board->paused[i]) != children[i]; nap(MS / 50)) {
            int status;
            CHECK(waitpid(children[i], &status, WNOHANG) == 0);
            CHECK(pr_now() < end);
            pr_recover_dead(&session);
        }
    pr_recover_dead(&session);
    pr_fail_calls(&session); /* as the node does when it is called */
    SOUND(&session);
    atomic_store(&board->pausing, 0);
    for (int i = 0; i < CHILDREN; i++) UNTIL(!atomic_load(&board->paused[i]));
}

/* Some die while they recover from the death of another. */
static int kill_some(void) {
    int i = (int)below(&chance, CHILDREN), n = 1;
    nap((int64_t)below(&chance, MS << below(&chance, 3)));
    kill_child(i);
    if (below(&chance, 2) == 0) {
        int other = (i + 1 + (int)below(&chance, CHILDREN - 1)) % CHILDREN;
        atomic_store(&board->recovering, other + 1);
        for (int64_t end = pr_now() + MS; atomic_load(&board->recovering) && pr_now() < end;) {
        }
        for (int64_t end = pr_now() + (int64_t)below(&chance, MS / 5); pr_now() < end;) {
        }
        if (below(&chance, 2) == 0) {
            kill_child(other);
            start_child(other);
            n++;
        }
    }
    start_child(i);
    if (below(&chance, 4)) pr_recover_dead(&session);
    return n;
}

static int run_session(int most) {
    int kills = 0;
    session = new_session((uint64_t)1 << (below(&chance, 4) ? 24 : 19), 3000, 600, 3000);
    session.self->kind = PR_NODE;
    session.control->spill_at = session.control->call_at = session.control->arena_size / 2;
    program_resources(&session);
    memset((void *)board, 0, sizeof *board);
    for (int i = 0; i < CHILDREN; i++) start_child(i);
    while (kills < most) {
        alarm(120);
        kills += kill_some();
        if (below(&chance, 3) == 0) check_all();
    }
    check_all();
    atomic_store(&board->draining, 1);
    UNTIL((pr_fail_calls(&session),
           atomic_load(&board->finishing) == CHILDREN && live_tasks(&session) == 0));
    atomic_store(&session.control->ended, 1);
    for (uint32_t k = 1; k < atomic_load(&session.control->n_processes); k++)
        pr_notify(&session, &session.processes[k]);
    for (int i = 0; i < CHILDREN; i++) EQUAL(wait_child(children[i]), 0);
    pr_recover_dead(&session);
    end_programs(&session);
    return kills;
}

int main(int argc, char **argv) {
    const char *wanted = argc > 1 ? argv[1] : getenv("PYRAY_KILLS");
    int total = wanted ? atoi(wanted) : 300, kills = 0;
    int64_t began = pr_now();
    chance = argc > 2 ? (uint64_t)atoll(argv[2]) : 1;
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(board != MAP_FAILED);
    while (kills < total) kills += run_session(total - kills < 1000 ? total - kills : 1000);
    printf("%d kills, in %.1f minutes: ok\n", kills, (double)(pr_now() - began) / 60e9);
    return 0;
}
