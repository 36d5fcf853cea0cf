/* Names, waiting for them, and deaths in a session without a node, where anybody recovers. */
#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../check.h"
#include "../futex.h"
#include "../object.h"
#include "../task.h"

enum { SECOND = 1000000000 };

static PrSession s;

static void begin(void) {
    PrConfig config = {
        .arena_size = 1 << 20, .max_objects = 1 << 12, .max_tasks = 1 << 8, .max_processes = 16};
    assert(pr_session_create(&s, &config, PR_CLIENT) == 0);
}

static uint64_t used(void) {
    PrArenaStats stats;
    pr_arena_stats(s.arena, &stats);
    return stats.used;
}

static void end(void) {
    assert(used() == 0 && pr_check(&s) == 0);
    pr_session_detach(&s, 1);
}

static const uint8_t *key(int number) {
    static uint8_t bytes[24];
    snprintf((char *)bytes, sizeof bytes, "name %d", number);
    return bytes;
}

static PrHandle reserve(PrSession *of, int number) {
    PrHandle handle, found;
    uint8_t *data;
    assert(pr_create(of, 1000, 0, &handle, &data) == 0);
    memset(data, number, 1000);
    assert(pr_name_set(of, key(number), handle, &found) == 0 && found == handle);
    return handle;
}

static PrHandle make(PrSession *of, int number) {
    PrHandle handle = reserve(of, number);
    pr_seal(of, handle, 0);
    pr_release(of, pr_slot(handle));
    return handle;
}

static int has(int number) {
    PrHandle handle = pr_name_find(&s, key(number));
    if (handle) pr_release(&s, pr_slot(handle));
    return handle != 0;
}

/* Runs in another process, which joins the session and is killed at the end; its exit is awaited.
 */
static void in_killed_process(void (*act)(PrSession *)) {
    pid_t pid = fork();
    assert(pid >= 0);
    if (!pid) {
        PrSession own;
        if (pr_session_attach(&own, dup(s.control_fd), dup(s.arena_fd), -1, PR_CLIENT)) _exit(1);
        act(&own);
        kill(getpid(), SIGKILL);
    }
    int status;
    assert(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* -- names ------------------------------------------------------------------------------------- */

static void test_names(void) {
    PrName names[4];
    PrHandle first, second, found;
    begin();
    first = make(&s, 1);
    second = make(&s, 2);
    assert(has(1) && has(2) && !has(3));
    assert(pr_name_find(&s, key(1)) == first);
    assert(pr_name_set(&s, key(2), first, &found) == 0 && found == second);
    pr_release(&s, pr_slot(first));
    pr_release(&s, pr_slot(second));
    assert(pr_name_list(&s, "name", 4, names, 4) == 2);
    assert(names[0].handle == first && memcmp(names[0].key, key(1), 24) == 0);
    assert(names[1].pid == getpid());
    assert(pr_name_list(&s, "name", 4, names, 1) == 2);
    assert(pr_name_list(&s, "other", 5, names, 4) == 0);
    assert(pr_name_remove(&s, key(1), second) == PR_STALE && has(1));
    assert(pr_name_remove(&s, key(1), first) == 0 && !has(1));
    assert(pr_name_remove(&s, key(1), 0) == PR_STALE);
    assert(pr_name_remove(&s, key(2), 0) == 0);
    end();
}

typedef struct {
    PrSession session;
    uint32_t seen;
    int status;
} Waiter;

static void *wait_for_name(void *arg) {
    Waiter *w = arg;
    w->status = pr_name_wait(&w->session, w->seen, -1, PR_SPIN);
    return NULL;
}

static void test_waiting(void) {
    Waiter w;
    pthread_t thread;
    begin();
    assert(pr_session_attach_thread(&w.session, &s, PR_CLIENT) == 0);
    assert(pr_name_wait(&w.session, 0, 0, 0) == PR_TIMEOUT);
    for (int i = 0; i < 1000; i++) {
        w.seen = atomic_load(&s.control->named);
        assert(pthread_create(&thread, NULL, wait_for_name, &w) == 0);
        /* Before, while and after it goes to sleep. */
        for (int k = 0; i % 3 && k < i * 50; k++) pr_relax();
        while (i % 3 == 2 && !atomic_load(&w.session.self->sleeping)) pr_relax();
        make(&s, 5);
        assert(pthread_join(thread, NULL) == 0);
        assert(w.status == 0 && has(5));
        assert(pr_name_remove(&s, key(5), 0) == 0);
    }
    w.seen = atomic_load(&s.control->named);
    assert(pr_name_wait(&w.session, w.seen, pr_now() + 1000, 0) == PR_TIMEOUT);
    pr_session_detach(&w.session, 0);
    end();
}

/* -- deaths ------------------------------------------------------------------------------------ */

static void reserve_and_die(PrSession *own) {
    reserve(own, 7);
    make(own, 8);
    pr_name_find(own, key(9)); /* where there is one, it is held */
}

/* What was not sealed never was, what was is there, what was held is let go. */
static void test_death_of_a_maker(void) {
    begin();
    make(&s, 9);
    in_killed_process(reserve_and_die);
    assert(has(7) && used() > 0);
    assert(pr_recover_dead(&s) == 1 && pr_recover_dead(&s) == 0);
    assert(!has(7) && has(8) && has(9));
    assert(pr_name_remove(&s, key(8), 0) == 0 && pr_name_remove(&s, key(9), 0) == 0);
    end();
}

static void *wait_for_object(void *arg) {
    Waiter *w = arg;
    w->status = pr_wait(&w->session, &w->seen, 1, 1, -1, 1, 0);
    return NULL;
}

/* Who waits for it is told that it will not come. */
static void test_waiting_for_the_dead(void) {
    Waiter w;
    pthread_t thread;
    begin();
    in_killed_process(reserve_and_die);
    assert(pr_session_attach_thread(&w.session, &s, PR_CLIENT) == 0);
    w.seen = pr_slot(pr_name_find(&w.session, key(7)));
    assert(pthread_create(&thread, NULL, wait_for_object, &w) == 0);
    while (!atomic_load(&w.session.self->sleeping)) pr_relax();
    assert(pr_recover_dead(&s) == 1);
    assert(pthread_join(thread, NULL) == 0);
    assert(w.status == 0);
    assert(pr_state(atomic_load(&s.objects[w.seen].state)) == PR_OBJECT_FAILED);
    pr_release(&w.session, w.seen);
    pr_session_detach(&w.session, 0);
    assert(pr_name_remove(&s, key(8), 0) == 0);
    end();
}

static void lock_and_die(PrSession *own) {
    pr_enter(own);
    pr_lock(own, &own->control->names.lock);
}

/* The next that wants the lock finds out. */
static void test_death_with_a_lock(void) {
    begin();
    in_killed_process(lock_and_die);
    make(&s, 3);
    assert(has(3) && atomic_load(&s.control->deaths) == 1);
    in_killed_process(lock_and_die);
    assert(pr_name_remove(&s, key(3), 0) == 0);
    assert(atomic_load(&s.control->deaths) == 2);
    end();
}

static void stop_and_die(PrSession *own) {
    atomic_store(&own->control->stopping, own->index + 1);
}

static void test_death_of_who_recovers(void) {
    begin();
    in_killed_process(stop_and_die);
    make(&s, 3);
    assert(has(3) && !atomic_load(&s.control->stopping));
    assert(pr_name_remove(&s, key(3), 0) == 0);
    end();
}

static void forget_state(PrSession *own) {
    atomic_store(&own->self->state, PR_PROCESS_FREE);
}

/* One that died while it joined leaves a slot for the next. */
static void test_death_while_joining(void) {
    begin();
    for (int i = 0; i < 40; i++) {
        in_killed_process(i % 2 ? forget_state : reserve_and_die);
        pr_recover_dead(&s);
        pr_name_remove(&s, key(8), 0);
    }
    end();
}

/* A process that cannot open files does not take the others for dead. */
static void test_no_descriptors(void) {
    PrSession other;
    struct rlimit limit, none;
    begin();
    assert(pr_session_attach_thread(&other, &s, PR_CLIENT) == 0);
    assert(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    none = limit;
    none.rlim_cur = 0;
    assert(setrlimit(RLIMIT_NOFILE, &none) == 0);
    int alive = pr_is_alive(other.self) && pr_find_dead(&s) == 0;
    assert(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    assert(alive);
    pr_session_detach(&other, 0);
    end();
}

static void hold_and_die(PrSession *own) {
    for (int i = 0; i < 100; i++) pr_name_find(own, key(i % 10));
}

/* Several find out at once. */
static void *recover_too(void *arg) {
    pr_recover_dead(arg);
    return NULL;
}

static void test_recovering_at_once(void) {
    PrSession others[3];
    pthread_t threads[3];
    begin();
    for (int i = 0; i < 3; i++) assert(pr_session_attach_thread(&others[i], &s, PR_CLIENT) == 0);
    for (int i = 0; i < 10; i++) make(&s, i);
    for (int round = 0; round < 30; round++) {
        in_killed_process(hold_and_die);
        for (int i = 0; i < 3; i++)
            assert(pthread_create(&threads[i], NULL, recover_too, &others[i]) == 0);
        pr_recover_dead(&s);
        for (int i = 0; i < 3; i++) assert(pthread_join(threads[i], NULL) == 0);
        assert(pr_find_dead(&s) == 0);
    }
    assert(atomic_load(&s.control->deaths) == 30);
    for (int i = 0; i < 3; i++) {
        assert(atomic_load(&others[i].self->state) == PR_PROCESS_LIVE);
        pr_session_detach(&others[i], 0);
    }
    for (int i = 0; i < 10; i++) assert(pr_name_remove(&s, key(i), 0) == 0);
    end();
}

/* -- deaths at any instant --------------------------------------------------------------------- */

static uint64_t random_state;

static uint32_t random_below(uint32_t limit) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % limit;
}

static void do_anything(PrSession *of) {
    PrHandle handle, found;
    uint8_t *data;
    int number = (int)random_below(16);
    uint64_t size = random_below(3) ? random_below(2000) : random_below(100000);
    switch (random_below(4)) {
    case 0:
    case 1:
        if (pr_create(of, size, 0, &handle, &data)) {
            pr_recover_dead(of);
            break;
        }
        if (random_below(2)) memset(data, number, size);
        if (random_below(2)) {
            pr_seal(of, handle, 0);
            pr_name_set(of, key(number), handle, &found);
            if (found != handle) pr_release(of, pr_slot(found));
            pr_release(of, pr_slot(handle));
        } else if (pr_name_set(of, key(number), handle, &found) == 0 && found == handle) {
            pr_seal(of, handle, 0);
            pr_release(of, pr_slot(handle));
        } else {
            pr_release(of, pr_slot(found));
            pr_abandon(of, handle);
        }
        break;
    case 2:
        if (!(handle = pr_name_find(of, key(number)))) break;
        for (int i = 0; i < 3; i++) pr_hold(of, pr_slot(handle));
        for (int i = 0; i < 4; i++) pr_release(of, pr_slot(handle));
        break;
    default: pr_name_remove(of, key(number), 0);
    }
}

static pid_t start_process(uint64_t seed) {
    pid_t pid = fork();
    assert(pid >= 0);
    if (pid) return pid;
    PrSession own;
    if (pr_session_attach(&own, dup(s.control_fd), dup(s.arena_fd), -1, PR_CLIENT)) _exit(1);
    random_state = seed;
    for (;;) do_anything(&own);
}

static void test_random_deaths(int deaths) {
    enum { PROCESSES = 3 };
    pid_t pids[PROCESSES];
    uint64_t seed = 1;
    int status;
    begin();
    random_state = 7;
    for (int i = 0; i < PROCESSES; i++) pids[i] = start_process(seed++);
    for (int n = 0; n < deaths + PROCESSES; n++) {
        int i = n < deaths ? (int)random_below(PROCESSES) : n - deaths;
        for (uint32_t k = random_below(200); k; k--) do_anything(&s);
        kill(pids[i], SIGKILL);
        assert(waitpid(pids[i], &status, 0) == pids[i] && WIFSIGNALED(status));
        assert(WTERMSIG(status) == SIGKILL); /* not by a check of its own */
        /* No slot is left for the next one after some: somebody has to look. */
        if (n % 8 == 0) pr_recover_dead(&s);
        if (n < deaths) pids[i] = start_process(seed++);
    }
    pr_recover_dead(&s);
    assert(pr_check(&s) == 0);
    for (int i = 0; i < 16; i++) pr_name_remove(&s, key(i), 0);
    assert(pr_name_list(&s, "", 0, NULL, 0) == 0);
    for (uint32_t i = 1; i < atomic_load(&s.control->objects.used); i++) {
        int state = pr_state(atomic_load(&s.objects[i].state));
        assert(state == PR_OBJECT_FREE || state == PR_OBJECT_CACHED);
    }
    end();
}

int main(int argc, char **argv) {
    if (argc > 1) {
        test_random_deaths(atoi(argv[1]));
        return 0;
    }
    test_names();
    test_waiting();
    test_death_of_a_maker();
    test_waiting_for_the_dead();
    test_death_with_a_lock();
    test_death_of_who_recovers();
    test_death_while_joining();
    test_no_descriptors();
    test_recovering_at_once();
    test_random_deaths(300);
    printf("names ok\n");
    return 0;
}
