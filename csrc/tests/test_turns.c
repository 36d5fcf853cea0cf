/* Threads of one process that take turns at the calls of its actor. A mutex plays the interpreter's
 * lock. */
#include "../turns.h"

#include <semaphore.h>

#include "actors.h"

/* Who is woken, and when. One thread plays the leader and the one that stands by. */
static void test_who_is_woken(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    Actor a = make_actor(&s);
    uint32_t creation = begin_actor(&w, &a), tasks[2];
    PrTurns turns = {0};
    PrHandle h[4];

    /* The leader waits for calls: what notifies the process does not wake the other one. */
    EQUAL(pr_turn_comes(&w, a.slot, &turns), 0);
    EQUAL(atomic_load(&w.self->sleeping), 0);

    /* It is in a call: who submits another one wakes the other thread, which takes the lead. */
    h[0] = call(&s, &a, 0);
    tasks[0] = pr_next_call(&w, a.slot);
    pr_turn_begins(&w, a.slot, &turns);
    EQUAL(atomic_load(&w.self->sleeping), 1);
    uint32_t event = atomic_load(&w.self->event);
    h[1] = call(&s, &a, 1);
    EQUAL(atomic_load(&w.self->event), event + 1);
    pr_stand_by(&w, event, &turns); /* returns */
    pr_stood_by(&w, &turns);
    EQUAL(pr_turn_comes(&w, a.slot, &turns), 1);
    EQUAL(atomic_load(&w.self->sleeping), 0);
    tasks[1] = pr_next_call(&w, a.slot);
    pr_turn_begins(&w, a.slot, &turns);
    finish(&w, tasks[0]);

    /* The other one would stand by, and naps, as calls come. */
    EQUAL(pr_turn_comes(&w, a.slot, &turns), 0);
    CHECK(turns.nap && !turns.sleeps);
    finish(&w, tasks[1]);
    pr_turn_ends(&w, &turns);
    EQUAL(pr_turn_comes(&w, a.slot, &turns), 0);
    CHECK(!turns.nap && turns.sleeps);

    /* Two wait: it is woken as the first of them begins, once. */
    for (uint32_t i = 2; i < 4; i++) h[i] = call(&s, &a, i);
    event = atomic_load(&w.self->event);
    for (uint32_t i = 2; i < 4; i++) {
        uint32_t task = pr_next_call(&w, a.slot);
        pr_turn_begins(&w, a.slot, &turns);
        EQUAL(atomic_load(&w.self->event), event + 1);
        finish(&w, task);
        pr_turn_ends(&w, &turns);
        EQUAL(atomic_load(&w.self->sleeping), 0);
    }
    pr_stood_by(&w, &turns);

    /* The more often in vain, the longer the nap. */
    for (uint32_t i = 0, before = 0; i < 20; i++, before = turns.nap) {
        turns.begun++;
        EQUAL(pr_turn_comes(&w, a.slot, &turns), 0);
        CHECK(turns.nap >= before && turns.nap <= 5 * MS);
    }
    for (uint32_t i = 0; i < 4; i++) expect_value(&s, h[i], i);
    end_actor(&w, creation);
    forget(&s, &a);
    leave_session(&w);
    end_session(&s);
}

/* -- threads ----------------------------------------------------------------------------------- */

enum { THREADS = 4, CALLS = 3000, PERIOD = 10 };

typedef struct {
    PrSession *w;
    uint32_t actor;
    PrTurns turns;
    uint64_t turn;
    uint32_t served;
    int over;
    pthread_mutex_t gil, stand;
    sem_t after;
} Team;

/* One call in ten waits for the one after it, which another thread has to run. */
static void run_call(Team *t, uint32_t task) {
    uint32_t number = number_of(t->w, task);
    if (number % PERIOD == 3) {
        pthread_mutex_unlock(&t->gil);
        while (sem_wait(&t->after)) continue;
        pthread_mutex_lock(&t->gil);
    }
    if (number % PERIOD == 4) sem_post(&t->after);
    finish(t->w, task);
    if (++t->served < CALLS) return;
    t->over = 1;
    pr_notify(t->w, t->w->self);
}

static int stand_by(Team *t) {
    while (!t->over) {
        uint32_t seen = atomic_load(&t->w->self->event);
        if (!t->turn || pr_turn_comes(t->w, t->actor, &t->turns)) {
            t->turn++;
            return 1;
        }
        pthread_mutex_unlock(&t->gil);
        pr_stand_by(t->w, seen, &t->turns);
        pthread_mutex_lock(&t->gil);
        pr_stood_by(t->w, &t->turns);
    }
    return 0;
}

static void lead(Team *t) {
    uint64_t turn = t->turn;
    while (!t->over) {
        uint32_t seen = atomic_load(&t->w->self->event);
        uint32_t task = pr_next_call(t->w, t->actor);
        if (task) {
            pr_turn_begins(t->w, t->actor, &t->turns);
            run_call(t, task);
            if (t->turn != turn) return;
            pr_turn_ends(t->w, &t->turns);
            continue;
        }
        pr_linger(t->w, t->actor);
        if (pr_actor_idle(t->w, t->actor)) {
            pthread_mutex_unlock(&t->gil);
            pr_sleep(t->w, seen, -1, 1);
            pthread_mutex_lock(&t->gil);
        }
    }
}

static void *take_turns(void *with) {
    Team *t = with;
    for (int leads = 1; leads;) {
        pthread_mutex_lock(&t->stand);
        pthread_mutex_lock(&t->gil);
        leads = stand_by(t);
        pthread_mutex_unlock(&t->stand);
        if (leads) lead(t);
        leads = !t->over;
        pthread_mutex_unlock(&t->gil);
    }
    return NULL;
}

static void test_calls_that_wait_for_later_ones(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    Actor a = actor_with(&s, 0, NULL, PR_ACTOR_UNORDERED);
    uint32_t creation = begin_actor(&w, &a);
    Team t = {.w = &w, .actor = a.slot};
    pthread_t threads[THREADS];
    static PrHandle h[CALLS];
    pthread_mutex_init(&t.gil, NULL);
    pthread_mutex_init(&t.stand, NULL);
    sem_init(&t.after, 0, 0);
    for (int i = 0; i < THREADS; i++) threads[i] = start_thread(take_turns, &t);
    for (uint32_t i = 0; i < CALLS; i++) {
        h[i] = call(&s, &a, i);
        if (i % 100 == 99) EQUAL(wait_for(&s, h[i]), 0); /* the leader waits for calls */
    }
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    EQUAL(atomic_load(&w.self->sleeping), 0);
    for (uint32_t i = 0; i < CALLS; i++) expect_value(&s, h[i], i);
    end_actor(&w, creation);
    forget(&s, &a);
    sem_destroy(&t.after);
    leave_session(&w);
    end_session(&s);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    RUN(test_who_is_woken);
    RUN(test_calls_that_wait_for_later_ones);
    printf("ok\n");
    return 0;
}
