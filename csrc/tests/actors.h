/* For the tests of actors: what makes one and calls it, and what plays its process. */
#ifndef PYRAY_TESTS_ACTORS_H
#define PYRAY_TESTS_ACTORS_H

#include <sys/mman.h>

#include "../actor.h"
#include "workers.h"

typedef struct {
    PrHandle object, death;
    uint32_t slot;
} Actor;

/* -- making ------------------------------------------------------------------------------------ */

static inline int try_actor(PrSession *s, Actor *a, PrCall creation, const uint8_t *key,
                            uint32_t flags) {
    uint8_t *data;
    *a = (Actor){0};
    EQUAL(pr_create(s, 100, 0, &a->object, &data), 0);
    write_pattern(data, 100, 100);
    int status = pr_actor_create(s, a->object, key, flags, &creation, &a->death);
    if (!status) a->slot = pr_actor_of(s, pr_slot(a->object));
    return status;
}

static inline Actor actor_with(PrSession *s, int32_t restarts, const uint8_t *key, uint32_t flags) {
    Actor a;
    PrCall creation = {.shape = cpu_shape(s, 1), .retries = restarts};
    EQUAL(try_actor(s, &a, creation, key, flags), 0);
    return a;
}

static inline Actor make_actor(PrSession *s) {
    return actor_with(s, 0, NULL, 0);
}

static inline PrActor *shared(const PrSession *s, const Actor *a) {
    return &s->actors[a->slot];
}

static inline int is_gone(const PrSession *s, PrHandle h) {
    return !pr_same(atomic_load(&s->objects[pr_slot(h)].state), h);
}

static inline int is_dead(const PrSession *s, const Actor *a) {
    return pr_state(atomic_load(&shared(s, a)->state)) == PR_ACTOR_DEAD;
}

static inline uint32_t kill_actor(PrSession *s, const Actor *a, int restart) {
    return pr_actor_kill(s, pr_actor_handle(s, a->slot), restart);
}

/* The slot is free, or another actor's. */
static inline void forget(PrSession *s, const Actor *a) {
    EQUAL(code_of(s, a->death), PR_ACTOR_DIED);
    release(s, a->death);
    release(s, a->object);
    CHECK(is_gone(s, a->object) && is_gone(s, a->death));
}

/* -- calling ----------------------------------------------------------------------------------- */

static inline PrHandle call_with(PrSession *s, const Actor *a, uint32_t number,
                                 const uint32_t *dependencies, uint32_t n, int32_t retries) {
    PrHandle h;
    Work w = {.number = number};
    PrCall call = {.flags = PR_TASK_CALL,
                   .actor = a->slot,
                   .n_returns = 1,
                   .retries = retries,
                   .dependencies = dependencies,
                   .n_dependencies = n,
                   .inline_arguments = &w,
                   .arguments_size = sizeof w};
    EQUAL(pr_submit(s, &call, &h), 0);
    return h;
}

static inline PrHandle call(PrSession *s, const Actor *a, uint32_t number) {
    return call_with(s, a, number, NULL, 0, 0);
}

static inline PrHandle call_after(PrSession *s, const Actor *a, uint32_t number, PrHandle wanted) {
    uint32_t slot = pr_slot(wanted);
    return call_with(s, a, number, &slot, 1, 0);
}

/* A result is what it is to be, and not needed any more. */
static inline void expect_value(PrSession *s, PrHandle h, uint32_t number) {
    CHECK(has_value(s, h, number));
    release(s, h);
}

static inline void expect_code(PrSession *s, PrHandle h, int code) {
    EQUAL(code_of(s, h), code);
    release(s, h);
}

/* -- its process ------------------------------------------------------------------------------- */

static inline uint32_t begin_actor(PrSession *w, const Actor *a) {
    uint32_t creation = next(w);
    EQUAL(w->tasks[creation].actor, a->slot);
    CHECK(w->tasks[creation].flags & PR_TASK_CREATION);
    pr_actor_begin(w, creation);
    return creation;
}

/* In two steps: the next call, RUNNING; 0: there is none. */
static inline uint32_t begin_call(PrSession *w, uint32_t actor) {
    uint64_t epoch;
    uint32_t task;
    do {
        task = pr_take_call(w, actor, &epoch);
    } while (task && !pr_begin_call(w, task, epoch));
    return task;
}

static inline void serve(PrSession *w, const Actor *a, uint32_t number) {
    uint32_t task = number % 2 ? begin_call(w, a->slot) : pr_next_call(w, a->slot);
    CHECK(task);
    EQUAL(number_of(w, task), number);
    finish(w, task);
}

static inline int has_no_call(PrSession *w, const Actor *a) {
    return begin_call(w, a->slot) == 0;
}

static inline void end_actor(PrSession *w, uint32_t creation) {
    pr_fail_task(w, creation, PR_ACTOR_DIED, "it left");
    pr_worker_rest(w);
}

/* Dies as a process does that is killed: at once, whatever it was at. */
static inline void crash(PrSession *w, PrSession *recovering) {
    atomic_store(&w->self->start_time, UINT64_MAX); /* no process has that */
    munmap(w->held, (uint64_t)w->control->objects.limit * sizeof(uint32_t));
    pr_forget_calls(w);
    pr_recover(recovering, w->index, PR_WORKER_CRASHED, "it crashed");
    memset(w, 0, sizeof *w);
}

/* All caches anew, as after the death of one who had nothing. */
static inline void rebuild(PrSession *s) {
    pr_recover(s, 0, 0, "");
    SOUND(s);
}

/* -- threads that are workers, and become actors ----------------------------------------------- */

typedef struct {
    PrSession of;
    void (*run)(void *with, PrSession *w, uint32_t call);
    void *with;
    _Atomic int ready;
    pthread_t thread;
} Player;

static inline void finish_call(void *with, PrSession *w, uint32_t call) {
    (void)with;
    finish(w, call);
}

/* Until nobody wants it, or it was killed, of which a thread has to be told. */
static inline void play_actor(Player *p, PrSession *w, uint32_t creation) {
    uint32_t actor = w->tasks[creation].actor;
    pr_actor_begin(w, creation);
    while (!pr_actor_unwanted(w, actor)) {
        uint32_t seen = atomic_load(&w->self->event);
        if (atomic_load(&w->actors[actor].state) & PR_KILLED) break;
        uint32_t call = pr_next_call(w, actor);
        if (call) p->run(p->with, w, call);
        else if (pr_actor_idle(w, actor)) pr_sleep(w, seen, -1, 1);
    }
    end_actor(w, creation);
}

static inline void *play(void *with) {
    Player *p = with;
    PrSession w = join_session(&p->of, PR_WORKER);
    uint32_t task;
    atomic_store(&p->ready, 1);
    for (;;) {
        task = pr_next_queued(&w);
        if (!task && pr_next_task(&w, &task, -1)) break;
        if (w.tasks[task].flags & PR_TASK_CREATION) play_actor(p, &w, task);
        else finish(&w, task);
    }
    leave_session(&w);
    return NULL;
}

static inline void start_players(PrSession *s, Player *players, int n,
                                 void (*run)(void *, PrSession *, uint32_t), void *with) {
    for (int i = 0; i < n; i++) {
        players[i] = (Player){.of = *s, .run = run ? run : finish_call, .with = with};
        players[i].thread = start_thread(play, &players[i]);
        UNTIL(atomic_load(&players[i].ready));
    }
}

static inline void stop_players(PrSession *s, Player *players, int n) {
    ask_to_leave(s);
    for (int i = 0; i < n; i++) join_threads(&players[i].thread, 1);
}

#endif
