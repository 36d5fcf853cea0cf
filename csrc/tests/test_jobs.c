/* What becomes of a job's tasks and actors when its driver is gone. Threads play the processes;
 * what is killed are children that do nothing, whose pids these have. */
#include "../job.h"
#include "actors.h"

enum { MINE = 1, THEIRS = 2, DRIVER_PID = 1 << 30 /* no process has it */ };

/* -- processes that are killed ----------------------------------------------------------------- */

static int start_victim(void) {
    fflush(NULL);
    int pid = fork();
    CHECK(pid >= 0);
    if (pid) return pid;
    for (;;) pause();
}

/* A worker with that pid; what is said of a process that died is then true of it. */
static PrSession join_as(const PrSession *of, int pid) {
    PrSession s = join_session(of, PR_WORKER);
    s.self->start_time = pr_start_time(pid);
    atomic_store(&s.self->pid, pid);
    return s;
}

/* -- what is submitted ------------------------------------------------------------------------- */

static PrHandle submit_for(PrSession *s, uint32_t job, uint32_t number, const uint32_t *wanted) {
    Work w = {.number = number};
    PrHandle h;
    PrCall call = {.shape = cpu_shape(s, 1),
                   .n_returns = 1,
                   .dependencies = wanted,
                   .n_dependencies = wanted != NULL,
                   .inline_arguments = &w,
                   .arguments_size = sizeof w,
                   .job = job};
    EQUAL(pr_submit(s, &call, &h), 0);
    return h;
}

static Actor actor_for(PrSession *s, uint32_t job, int32_t restarts) {
    PrCall creation = {.shape = cpu_shape(s, 1), .retries = restarts, .job = job};
    Actor a;
    EQUAL(try_actor(s, &a, creation, NULL, 0), 0);
    return a;
}

/* -- actors ------------------------------------------------------------------------------------ */

static void test_actors(void) {
    int victim = start_victim();
    PrSession s = task_session(4, 0), w = join_as(&s, victim), v = join_session(&s, PR_WORKER);
    Actor served = actor_for(&s, MINE, -1);
    begin_actor(&w, &served);
    Actor other = actor_for(&s, THEIRS, 0);
    uint32_t creation = begin_actor(&v, &other);
    Actor queued = actor_for(&s, MINE, -1), detached = actor_for(&s, MINE | PR_DETACHED_JOB, 0);
    Actor dropped = actor_for(&s, MINE, 0); /* only its call keeps it */
    PrHandle calls[4] = {call(&s, &served, 1), call(&s, &queued, 2), call(&s, &other, 3),
                         call(&s, &dropped, 4)};
    release(&s, dropped.object);
    CHECK(pr_has_job(&s, MINE) && pr_has_job(&s, THEIRS) && !pr_has_job(&s, 3));
    EQUAL(pr_stop_job(&s, MINE, 0, 0), 1);
    EQUAL(wait_child(victim), -SIGKILL);
    expect_code(&s, calls[1], PR_ACTOR_DIED);
    expect_code(&s, calls[3], PR_ACTOR_DIED);
    expect_code(&s, dropped.death, PR_ACTOR_DIED);
    crash(&w, &s);
    EQUAL(pr_stop_job(&s, MINE, 0, 0), 0);
    SOUND(&s);
    expect_code(&s, calls[0], PR_ACTOR_DIED);
    forget(&s, &served);
    forget(&s, &queued);
    serve(&v, &other, 3);
    expect_value(&s, calls[2], 3);
    end_actor(&v, creation);
    forget(&s, &other);
    CHECK(pr_has_job(&s, MINE)); /* the detached one is there */
    end_actor(&v, begin_actor(&v, &detached));
    CHECK(!pr_has_job(&s, MINE) && !pr_has_job(&s, THEIRS));
    forget(&s, &detached);
    leave_session(&v);
    end_session(&s);
}

/* Between the look at an actor and its end, another may have come into its slot. */
static void test_kill_is_of_one_actor(void) {
    PrSession s = task_session(2, 0), w = join_session(&s, PR_WORKER);
    Actor before = actor_for(&s, MINE, 0);
    PrHandle seen = pr_actor_handle(&s, before.slot);
    end_actor(&w, begin_actor(&w, &before));
    EQUAL(pr_actor_kill(&s, seen, 0), 0); /* dead already */
    forget(&s, &before);
    EQUAL(pr_actor_kill(&s, seen, 0), 0); /* nobody's */
    Actor after = actor_for(&s, THEIRS, 1);
    EQUAL(after.slot, before.slot);
    EQUAL(pr_actor_kill(&s, seen, 0), 0);
    CHECK(!is_dead(&s, &after));
    begin_actor(&w, &after);
    EQUAL(pr_actor_kill(&s, seen, 0), 0);
    EQUAL(pr_actor_kill(&s, seen, 1), 0);
    crash(&w, &s);
    w = join_session(&s, PR_WORKER);
    end_actor(&w, begin_actor(&w, &after)); /* it was made anew, as one that was not killed */
    forget(&s, &after);
    leave_session(&w);
    end_session(&s);
}

/* Actors of two jobs come and go in the same slots while one of the jobs is stopped. */
typedef struct {
    PrSession of;
    _Atomic int over;
} Stopper;

static void *stop_over_and_over(void *with) {
    Stopper *me = with;
    PrSession s = join_session(&me->of, PR_DRIVER);
    while (!atomic_load(&me->over)) {
        pr_stop_job(&s, MINE, 0, 0);
        for (uint32_t i = 1; i < atomic_load(&s.control->n_processes); i++)
            pr_notify(&s, &s.processes[i]); /* which a thread that was killed looks at */
    }
    leave_session(&s);
    return NULL;
}

static void test_at_once(void) {
    enum { ROUNDS = 3000 };
    int victim = start_victim(); /* as long as nobody has waited for it, nobody else has its pid */
    PrSession s = task_session(2, 0);
    Stopper stopper = {.of = s};
    Player players[2];
    start_players(&s, players, 2, NULL, NULL);
    for (uint32_t i = 1; i < atomic_load(&s.control->n_processes); i++)
        if (&s.processes[i] != s.self) atomic_store(&s.processes[i].pid, victim);
    pthread_t thread = start_thread(stop_over_and_over, &stopper);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        Actor mine = actor_for(&s, MINE, -1), theirs = actor_for(&s, THEIRS, 0);
        PrHandle killed = call(&s, &mine, i), alive = call(&s, &theirs, i);
        PrHandle task = submit_for(&s, THEIRS, i, NULL);
        EQUAL(wait_for(&s, killed), 0);
        CHECK(has_value(&s, killed, i) || code_of(&s, killed) == PR_ACTOR_DIED);
        EQUAL(wait_for(&s, alive), 0);
        EQUAL(wait_for(&s, task), 0);
        expect_value(&s, alive, i);
        expect_value(&s, task, i);
        release(&s, killed);
        release(&s, mine.object);
        release(&s, mine.death);
        release(&s, theirs.object);
        release(&s, theirs.death);
    }
    atomic_store(&stopper.over, 1);
    join_threads(&thread, 1);
    stop_players(&s, players, 2);
    kill(victim, SIGKILL);
    EQUAL(wait_child(victim), -SIGKILL);
    end_session(&s);
}

/* -- tasks ------------------------------------------------------------------------------------- */

/* Those whose results nobody but the driver that is gone refers to will not run. */
static void test_tasks_that_wait(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER),
              driver = join_session(&s, PR_DRIVER);
    PrHandle wanted = reserve(&s);
    uint32_t slot = pr_slot(wanted);
    pr_hold(&driver, slot);
    PrHandle queued = submit_for(&driver, MINE, 1, NULL),
             waiting = submit_for(&driver, MINE, 2, &slot),
             shared_one = submit_for(&driver, MINE, 3, NULL),
             contained = submit_for(&driver, MINE, 4, NULL),
             detached = submit_for(&driver, MINE | PR_DETACHED_JOB, 5, NULL),
             theirs = submit_for(&s, THEIRS, 6, NULL);
    pr_hold(&s, pr_slot(shared_one));
    PrHandle box = put(&s, 10, 1, &contained, 1);
    atomic_store(&driver.self->pid, DRIVER_PID);
    /* To a process that goes on, what the driver has is of use. */
    EQUAL(pr_stop_job(&s, MINE, 0, 0), 4);
    EQUAL(pr_stop_job(&s, MINE, DRIVER_PID, 0), 2);
    EQUAL(code_of(&s, queued), PR_TASK_WAS_CANCELLED);
    EQUAL(code_of(&s, waiting), PR_TASK_WAS_CANCELLED);
    SOUND(&s);
    leave_session(&driver);
    EQUAL(pr_stop_job(&s, MINE, 0, 0), 2);
    CHECK(pr_has_job(&s, MINE));
    for (uint32_t number = 3; number < 7; number++) {
        uint32_t task = next(&w);
        EQUAL(number_of(&w, task), number);
        finish(&w, task);
    }
    CHECK(nothing_to_do(&w));
    expect_value(&s, shared_one, 3);
    expect_value(&s, theirs, 6);
    CHECK(has_value(&s, contained, 4));
    CHECK(is_gone(&s, detached));
    EQUAL(pr_stop_job(&s, MINE, 0, 0), 0);
    CHECK(!pr_has_job(&s, MINE) && !pr_has_job(&s, THEIRS));
    release(&s, box);
    pr_seal(&s, wanted, 0);
    release(&s, wanted);
    CHECK(nothing_to_do(&w));
    leave_session(&w);
    end_session(&s);
}

/* One that runs is asked, as by cancel, until it has heard; by force its process is killed. */
static void running(int force) {
    int victim = start_victim();
    PrSession s = task_session(2, 0), w = join_as(&s, victim), v = join_session(&s, PR_WORKER);
    PrHandle mine = submit_for(&s, MINE, 1, NULL), theirs = submit_for(&s, THEIRS, 2, NULL);
    uint32_t task = next(&w), other = next(&v);
    EQUAL(number_of(&w, task), 1);
    EQUAL(pr_stop_job(&s, MINE, 0, force), 1); /* somebody wants its result */
    CHECK(!(atomic_load(&s.tasks[task].state) & PR_CANCEL));
    release(&s, mine);
    atomic_store(&s.control->wanted, 0);
    EQUAL(pr_stop_job(&s, MINE, 0, force), 1);
    CHECK(atomic_load(&s.tasks[task].state) & PR_CANCEL);
    CHECK(!(atomic_load(&s.tasks[other].state) & PR_CANCEL));
    CHECK(atomic_load(&s.control->asked) && atomic_load(&s.control->wanted));
    EQUAL(wait_child(victim), force ? -SIGKILL : -SIGINT);
    if (force) {
        crash(&w, &s);
    } else {
        pr_heard(&w, task);
        EQUAL(pr_ask_all_again(&s), 0);
        pr_fail_task(&w, task, PR_TASK_WAS_CANCELLED, "");
        leave_session(&w);
    }
    EQUAL(pr_stop_job(&s, MINE, 0, force), 0);
    finish(&v, other);
    expect_value(&s, theirs, 2);
    leave_session(&v);
    end_session(&s);
}

static void test_tasks_that_run(void) {
    running(0);
    running(1);
}

/* Calls of an actor of another job are that one's affair. */
static void test_calls(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    Actor a = actor_for(&s, THEIRS, 0);
    uint32_t creation = begin_actor(&w, &a);
    PrHandle h;
    Work work = {.number = 1};
    PrCall mine = {.flags = PR_TASK_CALL,
                   .actor = a.slot,
                   .n_returns = 1,
                   .inline_arguments = &work,
                   .arguments_size = sizeof work,
                   .job = MINE};
    EQUAL(pr_submit(&s, &mine, &h), 0);
    release(&s, h);
    EQUAL(pr_stop_job(&s, MINE, 0, 1), 0);
    CHECK(pr_has_job(&s, MINE));
    serve(&w, &a, 1);
    CHECK(!pr_has_job(&s, MINE));
    end_actor(&w, creation);
    forget(&s, &a);
    leave_session(&w);
    end_session(&s);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGINT, SIG_DFL); /* a shell starts what runs in its background without it */
    RUN(test_actors);
    RUN(test_kill_is_of_one_actor);
    RUN(test_at_once);
    RUN(test_tasks_that_wait);
    RUN(test_tasks_that_run);
    RUN(test_calls);
    printf("ok\n");
    return 0;
}
