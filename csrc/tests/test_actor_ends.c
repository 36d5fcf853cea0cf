/* How actors end: without references, by failing, killed, with their process; what becomes of their
 * calls then, and when they are made anew. Threads play the processes; each test ends with nothing
 * left. */
#include "actors.h"

/* -- without references ------------------------------------------------------------------------ */

static void test_last_reference(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    Actor a = make_actor(&s);
    uint32_t creation = begin_actor(&w, &a);
    PrHandle unread = call(&s, &a, 1), wanted = reserve(&s);
    serve(&w, &a, 1);
    PrHandle queued = call(&s, &a, 2), held = call_after(&s, &a, 3, wanted);
    CHECK(has_value(&s, unread, 1));
    release(&s, unread);
    EQUAL(pr_actor_idle(&w, a.slot), 0);
    /* It goes on for its calls. */
    release(&s, a.object);
    CHECK(!is_gone(&s, a.object) && !pr_actor_unwanted(&w, a.slot));
    SOUND(&s);
    rebuild(&s);
    CHECK(!is_gone(&s, a.object) && !pr_actor_unwanted(&w, a.slot));
    serve(&w, &a, 2);
    expect_value(&s, queued, 2);
    CHECK(!pr_actor_unwanted(&w, a.slot));
    EQUAL(pr_actor_idle(&w, a.slot), 1);
    pr_seal(&s, wanted, 0);
    release(&s, wanted);
    serve(&w, &a, 3);
    CHECK(pr_actor_unwanted(&w, a.slot));
    EQUAL(pr_actor_idle(&w, a.slot), 0);
    end_actor(&w, creation);
    CHECK(is_gone(&s, a.object));
    expect_value(&s, held, 3); /* results stay without their actor */
    expect_code(&s, a.death, PR_ACTOR_DIED);
    leave_session(&w);
    end_session(&s);
}

/* Its process sleeps, and is told. */
static void test_told_of_the_last(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    Actor a = make_actor(&s);
    uint32_t creation = begin_actor(&w, &a);
    EQUAL(pr_actor_idle(&w, a.slot), 1);
    uint32_t seen = atomic_load(&w.self->event);
    release(&s, a.object);
    CHECK(atomic_load(&w.self->event) != seen);
    CHECK(pr_actor_unwanted(&w, a.slot));
    rebuild(&s);
    CHECK(pr_actor_unwanted(&w, a.slot));
    end_actor(&w, creation);
    expect_code(&s, a.death, PR_ACTOR_DIED);
    leave_session(&w);
    end_session(&s);
}

/* It waits for a CPU, or for its arguments. Who made it drops it, or dies, or its only call is
 * cancelled: it is not made, and another may have its name. */
static void drop_before_it_is_made(int waiting, int dies, int called) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    PrSession maker = join_session(&s, PR_CLIENT);
    PrHandle busy = submit_plain(&s, cpu_shape(&s, 1), 1), wanted = reserve(&s);
    uint32_t task = next(&w), slot = pr_slot(wanted), nobody;
    uint8_t key[24];
    name_key(key, 1);
    PrCall creation = {.shape = cpu_shape(&s, 1),
                       .retries = -1,
                       .dependencies = &slot,
                       .n_dependencies = (uint32_t)waiting};
    Actor a, other;
    EQUAL(try_actor(&maker, &a, creation, key, 0), 0);
    PrHandle h = called ? call(&maker, &a, 1) : 0;
    if (dies) {
        crash(&maker, &s);
        maker = join_session(&s, PR_CLIENT);
    } else {
        release(&maker, a.death);
        release(&maker, a.object);
        CHECK(is_gone(&s, a.object) == !called);
        if (called) EQUAL(pr_cancel(&maker, h, &nobody), 0);
        if (called) expect_code(&maker, h, PR_TASK_WAS_CANCELLED);
    }
    SOUND(&s);
    CHECK(is_gone(&s, a.object));
    EQUAL(try_actor(&maker, &other, creation, key, 0), 0);
    release(&maker, other.death);
    release(&maker, other.object);
    pr_seal(&s, wanted, 0);
    release(&s, wanted);
    finish(&w, task);
    expect_value(&s, busy, 1);
    CHECK(nothing_to_do(&w));
    CHECK(is_gone(&s, a.death) && is_gone(&s, other.object));
    leave_session(&maker);
    leave_session(&w);
    end_session(&s);
}

static void test_dropped_before_it_is_made(void) {
    for (int i = 0; i < 2; i++) {
        drop_before_it_is_made(i, 0, 0);
        drop_before_it_is_made(i, 0, 1);
        drop_before_it_is_made(i, 1, 0);
    }
}

/* -- what becomes of its calls ----------------------------------------------------------------- */

/* Of one actor: calls one of which runs, was taken and not begun, is in the queue, waits for
 * `wanted`, and follows that one. */
typedef struct {
    PrHandle running, taken, queued, held, follows, wanted;
} Calls;

static Calls calls_of_all_kinds(PrSession *s, PrSession *w, const Actor *a) {
    Calls c;
    uint64_t epoch;
    if (w) {
        c.running = call(s, a, 1);
        CHECK(begin_call(w, a->slot));
        c.taken = call(s, a, 2);
        PrHandle other = call(s, a, 20);
        uint32_t task = pr_take_call(w, a->slot, &epoch);
        EQUAL(number_of(w, task), 2);
        CHECK(pr_begin_call(w, task, epoch));
        finish(w, task);
        expect_value(s, c.taken, 2);
        c.taken = other; /* which came out of the queue along with it */
    }
    c.queued = call(s, a, 3);
    c.wanted = reserve(s);
    c.held = call_after(s, a, 4, c.wanted);
    c.follows = call(s, a, 5);
    return c;
}

/* They fail as the actor did, though what they wait for has not come, and so do those that are
 * submitted later; their slots stay until it has. */
static void expect_dead(PrSession *s, const Actor *a, Calls *c, int taken) {
    CHECK(is_dead(s, a));
    if (taken) expect_code(s, c->taken, PR_ACTOR_DIED);
    expect_code(s, c->queued, PR_ACTOR_DIED);
    CHECK(atomic_load(&s->control->wanted)); /* the node was called */
    pr_fail_calls(s);
    SOUND(s);
    EQUAL(s->objects[pr_slot(c->held)].size, s->objects[pr_slot(a->death)].size);
    CHECK(memcmp(s->objects[pr_slot(c->held)].bytes, s->objects[pr_slot(a->death)].bytes, 8) == 0);
    expect_code(s, c->held, PR_ACTOR_DIED);
    expect_code(s, c->follows, PR_ACTOR_DIED);
    expect_code(s, call(s, a, 6), PR_ACTOR_DIED);
    expect_code(s, call_after(s, a, 7, c->wanted), PR_ACTOR_DIED);
    expect_code(s, call(s, a, 8), PR_ACTOR_DIED);
    EQUAL(pr_pending_calls(shared(s, a)), 0);
    CHECK(pr_count_tasks(s, PR_TASK_CANCELLED) > 0);
    SOUND(s);
    pr_seal(s, c->wanted, 0);
    release(s, c->wanted);
    EQUAL(atomic_load(&shared(s, a)->queue.count), 0);
    SOUND(s);
}

static void test_failed_creation(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    for (int again = 0; again < 2; again++) {
        Actor a = make_actor(&s);
        uint32_t creation = begin_actor(&w, &a);
        Calls c = calls_of_all_kinds(&s, &w, &a);
        SOUND(&s);
        if (again) rebuild(&s);
        uint32_t running = atomic_load(&s.objects[pr_slot(c.running)].owner);
        finish(&w, running);
        expect_value(&s, c.running, 1);
        atomic_store(&s.control->wanted, 0);
        end_actor(&w, creation);
        expect_dead(&s, &a, &c, 1);
        forget(&s, &a);
    }
    leave_session(&w);
    end_session(&s);
}

/* What a call waits for comes when its actor is dead, and before the node has looked. */
static void test_dead_and_not_looked_at(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    Actor a = make_actor(&s);
    uint32_t creation = begin_actor(&w, &a);
    PrHandle wanted = reserve(&s), held = call_after(&s, &a, 1, wanted), follows = call(&s, &a, 2);
    end_actor(&w, creation);
    atomic_store(&s.control->wanted, 0);
    pr_seal(&s, wanted, 0);
    CHECK(atomic_load(&s.control->wanted)); /* the node is called once more */
    EQUAL(state_of(&s, held), PR_OBJECT_PENDING);
    pr_fail_calls(&s);
    expect_code(&s, held, PR_ACTOR_DIED);
    expect_code(&s, follows, PR_ACTOR_DIED);
    release(&s, wanted);
    forget(&s, &a);
    leave_session(&w);
    end_session(&s);
}

/* A recovery comes while a process lets a call of a dead actor fail, with more bytes than there is
 * room for in a slot. */
static void test_recovery_while_a_call_fails(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER),
              t = join_session(&s, PR_CLIENT);
    Actor a = make_actor(&s);
    PrHandle wanted = reserve(&s), held = call_after(&s, &a, 1, wanted), others[20];
    uint32_t task = atomic_load(&s.objects[pr_slot(held)].owner);
    uint8_t *data;
    end_actor(&w, begin_actor(&w, &a));
    EQUAL(pr_take_unbegun(&s, pr_handle(atomic_load(&s.tasks[task].state), task)), PR_TASK_WAITING);
    EQUAL(pr_room(&s, pr_slot(held), 500, 0, &data), 0);
    pr_recover(&t, 0, 0, "");
    for (uint64_t i = 0; i < 20; i++) others[i] = put(&t, 500, i, NULL, 0);
    write_pattern(data, 500, 77);
    pr_enter(&s);
    pr_make_ready(&s, pr_slot(held), PR_OBJECT_FAILED);
    pr_leave(&s);
    pr_end_cancelled(&s, task, 1);
    CHECK(has_pattern(pr_message_of(&s, &s.objects[pr_slot(held)]), 500, 77));
    for (uint64_t i = 0; i < 20; i++) {
        CHECK(has_value(&t, others[i], i));
        release(&t, others[i]);
    }
    SOUND(&s);
    pr_seal(&s, wanted, 0);
    release(&s, wanted);
    release(&s, held);
    forget(&s, &a);
    leave_session(&t);
    leave_session(&w);
    end_session(&s);
}

/* Nobody refers to it any more, and some calls wait. What they wait for comes when the slot is
 * another actor's. */
static void test_dead_without_references(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    for (int again = 0; again < 2; again++) {
        Actor a = make_actor(&s), later;
        uint32_t creation = begin_actor(&w, &a);
        PrHandle wanted = reserve(&s), held = call_after(&s, &a, 1, wanted), other;
        end_actor(&w, creation);
        release(&s, a.object);
        release(&s, a.death);
        CHECK(!is_gone(&s, a.object) && !is_gone(&s, a.death));
        if (again) rebuild(&s);
        else pr_fail_calls(&s);
        SOUND(&s);
        CHECK(is_gone(&s, a.object) && is_gone(&s, a.death));
        expect_code(&s, held, PR_ACTOR_DIED);
        later = make_actor(&s);
        EQUAL(later.slot, a.slot);
        other = call(&s, &later, 2);
        pr_seal(&s, wanted, 0);
        release(&s, wanted);
        EQUAL(atomic_load(&shared(&s, &later)->queue.count), 1);
        SOUND(&s);
        creation = begin_actor(&w, &later);
        serve(&w, &later, 2);
        expect_value(&s, other, 2);
        end_actor(&w, creation);
        forget(&s, &later);
    }
    leave_session(&w);
    end_session(&s);
}

/* -- the death as an object -------------------------------------------------------------------- */

typedef struct {
    PrSession of;
    PrHandle death;
    _Atomic int waits, ended;
} Mourner;

static void *wait_for_death(void *with) {
    Mourner *me = with;
    PrSession s = join_session(&me->of, PR_CLIENT);
    pr_hold(&s, pr_slot(me->death));
    atomic_store(&me->waits, 1);
    EQUAL(wait_for(&s, me->death), 0);
    CHECK(atomic_load(&me->ended));
    EQUAL(code_of(&s, me->death), PR_ACTOR_DIED);
    CHECK(strcmp((const char *)pr_inline(&s.objects[pr_slot(me->death)]) + 1, "it left") == 0);
    release(&s, me->death);
    leave_session(&s);
    return NULL;
}

static void test_death_is_waited_for(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    Actor a = make_actor(&s);
    uint32_t creation = begin_actor(&w, &a), slot = pr_slot(a.death);
    Mourner mourner = {.of = s, .death = a.death};
    pthread_t thread = start_thread(wait_for_death, &mourner);
    UNTIL(atomic_load(&mourner.waits) && atomic_load(&s.objects[slot].state) & PR_WATCHED);
    atomic_store(&mourner.ended, 1);
    end_actor(&w, creation);
    join_threads(&thread, 1);
    forget(&s, &a);
    leave_session(&w);
    end_session(&s);
}

/* -- killed ------------------------------------------------------------------------------------ */

static void kill_before_it_is_made(int waiting, int again) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    PrHandle busy = submit_plain(&s, cpu_shape(&s, 1), 1), wanted = reserve(&s);
    uint32_t task = next(&w), slot = pr_slot(wanted);
    PrCall creation = {.shape = cpu_shape(&s, 1),
                       .retries = -1,
                       .dependencies = &slot,
                       .n_dependencies = (uint32_t)waiting};
    Actor a;
    EQUAL(try_actor(&s, &a, creation, NULL, 0), 0);
    Calls c = calls_of_all_kinds(&s, NULL, &a);
    EQUAL(kill_actor(&s, &a, 1), 0); /* it is to be made: nothing to be done */
    CHECK(!is_dead(&s, &a));
    EQUAL(kill_actor(&s, &a, 0), 0);
    EQUAL(kill_actor(&s, &a, 0), 0);
    EQUAL(kill_actor(&s, &a, 1), 0);
    if (again) rebuild(&s);
    expect_dead(&s, &a, &c, 0);
    release(&s, a.object);
    expect_code(&s, a.death, PR_ACTOR_DIED);
    CHECK(is_gone(&s, a.object));
    pr_seal(&s, wanted, 0);
    release(&s, wanted);
    SOUND(&s);
    finish(&w, task);
    expect_value(&s, busy, 1);
    CHECK(nothing_to_do(&w));
    EQUAL(live_tasks(&s), 0);
    leave_session(&w);
    end_session(&s);
}

static void test_kill_before_it_is_made(void) {
    for (int i = 0; i < 4; i++) kill_before_it_is_made(i / 2, i % 2);
}

static void test_kill_detached(void) {
    PrSession s = task_session(1, 0);
    uint8_t key[24];
    name_key(key, 1);
    Actor a = actor_with(&s, 0, key, PR_ACTOR_DETACHED);
    EQUAL(kill_actor(&s, &a, 0), 0);
    EQUAL(pr_actor_find(&s, key), 0);
    expect_code(&s, a.death, PR_ACTOR_DIED);
    release(&s, a.object);
    CHECK(is_gone(&s, a.object));
    PrSession w = join_session(&s, PR_WORKER);
    CHECK(nothing_to_do(&w));
    CHECK(is_gone(&s, a.death));
    leave_session(&w);
    end_session(&s);
}

static void test_kill(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    Actor a = actor_with(&s, -1, NULL, 0);
    begin_actor(&w, &a);
    Calls c = calls_of_all_kinds(&s, &w, &a);
    EQUAL(kill_actor(&s, &a, 0), w.index);
    EQUAL(kill_actor(&s, &a, 0), w.index);
    crash(&w, &s);
    SOUND(&s);
    EQUAL(kill_actor(&s, &a, 0), 0);
    expect_code(&s, c.running, PR_ACTOR_DIED);
    expect_dead(&s, &a, &c, 1);
    CHECK(strstr((const char *)pr_inline(&s.objects[pr_slot(a.death)]) + 1, "kill()") != NULL);
    forget(&s, &a);
    end_session(&s);
}

/* And again before it has been made anew. */
static void test_kill_with_restart(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    Actor a = actor_with(&s, 3, NULL, 0);
    begin_actor(&w, &a);
    EQUAL(kill_actor(&s, &a, 1), w.index);
    crash(&w, &s);
    CHECK(!is_dead(&s, &a));
    EQUAL(kill_actor(&s, &a, 1), 0);
    PrSession v = join_session(&s, PR_WORKER);
    uint32_t creation = begin_actor(&v, &a);
    EQUAL(v.tasks[creation].attempt, 1);
    PrHandle h = call(&s, &a, 1);
    serve(&v, &a, 1);
    expect_value(&s, h, 1);
    EQUAL(kill_actor(&s, &a, 1), v.index);
    crash(&v, &s);
    h = call(&s, &a, 2);
    EQUAL(kill_actor(&s, &a, 0), 0); /* while nobody serves it */
    CHECK(is_dead(&s, &a));
    expect_code(&s, h, PR_ACTOR_DIED);
    release(&s, a.object);
    w = join_session(&s, PR_WORKER);
    CHECK(nothing_to_do(&w));
    expect_code(&s, a.death, PR_ACTOR_DIED);
    leave_session(&w);
    end_session(&s);
}

/* A kill changes nothing for a task that has the slot of the actor's creation by now. */
static void test_kill_is_of_its_actor_only(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    Actor a = actor_with(&s, 5, NULL, 0);
    begin_actor(&w, &a);
    uint32_t creation = pr_slot(atomic_load(&shared(&s, &a)->creation));
    EQUAL(kill_actor(&s, &a, 0), w.index);
    EQUAL(s.tasks[creation].retries_left, 5); /* it is the mark that counts */
    end_actor(&w, creation);
    forget(&s, &a);
    leave_session(&w);
    end_session(&s);
}

/* -- its process dies -------------------------------------------------------------------------- */

static void test_crash(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    Actor a = make_actor(&s);
    begin_actor(&w, &a);
    Calls c = calls_of_all_kinds(&s, &w, &a);
    PrHandle again = call_with(&s, &a, 7, NULL, 0, -1);
    crash(&w, &s);
    SOUND(&s);
    CHECK(strcmp((const char *)pr_inline(&s.objects[pr_slot(a.death)]) + 1, "it crashed") == 0);
    expect_code(&s, c.running, PR_ACTOR_DIED);
    expect_dead(&s, &a, &c, 1);
    expect_code(&s, again, PR_ACTOR_DIED); /* nobody can try it again */
    forget(&s, &a);
    EQUAL(atomic_load(&s.control->resources[PR_CPU].available), PR_UNIT);
    end_session(&s);
}

/* Two calls run, one of which is to be tried again: then it comes first. */
static void test_restart(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    Actor a = actor_with(&s, 1, NULL, 0);
    uint32_t before = begin_actor(&w, &a);
    PrHandle first = call_with(&s, &a, 0, NULL, 0, 1);
    CHECK(begin_call(&w, a.slot));
    Calls c = calls_of_all_kinds(&s, &w, &a);
    crash(&w, &s);
    SOUND(&s);
    CHECK(!is_dead(&s, &a));
    EQUAL(state_of(&s, a.death), PR_OBJECT_PENDING);
    expect_code(&s, c.running, PR_ACTOR_UNAVAILABLE);
    PrHandle meanwhile = call_after(&s, &a, 8, c.wanted);
    PrSession v = join_session(&s, PR_WORKER);
    uint32_t creation = begin_actor(&v, &a);
    EQUAL(creation, before);
    EQUAL(v.tasks[creation].attempt, 1);
    EQUAL(v.tasks[creation].retries_left, 0);
    serve(&v, &a, 0);
    serve(&v, &a, 20);
    serve(&v, &a, 3);
    CHECK(has_no_call(&v, &a));
    SOUND(&s);
    pr_seal(&s, c.wanted, 0);
    serve(&v, &a, 4);
    serve(&v, &a, 5);
    serve(&v, &a, 8);
    expect_value(&s, first, 0);
    expect_value(&s, c.taken, 20);
    expect_value(&s, c.queued, 3);
    expect_value(&s, c.held, 4);
    expect_value(&s, c.follows, 5);
    expect_value(&s, meanwhile, 8);
    release(&s, c.wanted);
    end_actor(&v, creation);
    forget(&s, &a);
    leave_session(&v);
    end_session(&s);
}

static void test_restarts_are_counted(void) {
    PrSession s = task_session(1, 0);
    for (int32_t restarts = 0; restarts < 4; restarts++) {
        Actor a = actor_with(&s, restarts, NULL, 0);
        for (int32_t i = 0; i <= restarts; i++) {
            PrSession w = join_session(&s, PR_WORKER);
            CHECK(!is_dead(&s, &a));
            uint32_t creation = begin_actor(&w, &a);
            EQUAL(w.tasks[creation].attempt, i);
            crash(&w, &s);
            SOUND(&s);
        }
        CHECK(is_dead(&s, &a));
        forget(&s, &a);
    }
    end_session(&s);
}

/* Nobody refers to it, but one of its calls is to be tried again: for that it is made anew. */
static void test_restart_without_references(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    Actor a = actor_with(&s, -1, NULL, 0);
    begin_actor(&w, &a);
    PrHandle h = call_with(&s, &a, 1, NULL, 0, -1);
    CHECK(begin_call(&w, a.slot));
    release(&s, a.object);
    crash(&w, &s);
    SOUND(&s);
    w = join_session(&s, PR_WORKER);
    uint32_t creation = begin_actor(&w, &a);
    serve(&w, &a, 1);
    expect_value(&s, h, 1);
    CHECK(pr_actor_unwanted(&w, a.slot));
    end_actor(&w, creation);
    expect_code(&s, a.death, PR_ACTOR_DIED);
    leave_session(&w);
    end_session(&s);
}

/* Nobody refers to it, and it has no calls: nobody can ever call it. */
static void test_no_restart_for_nobody(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER);
    Actor a = actor_with(&s, -1, NULL, 0);
    begin_actor(&w, &a);
    release(&s, a.object);
    crash(&w, &s);
    SOUND(&s);
    CHECK(is_gone(&s, a.object));
    expect_code(&s, a.death, PR_ACTOR_DIED);
    w = join_session(&s, PR_WORKER);
    CHECK(nothing_to_do(&w));
    leave_session(&w);
    end_session(&s);
}

/* A caller dies: its calls are made all the same, and hold back nobody else's. */
static void test_crash_of_a_caller(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER),
              t = join_session(&s, PR_CLIENT);
    Actor a = make_actor(&s);
    uint32_t creation = begin_actor(&w, &a), served = 0;
    PrHandle wanted = reserve(&s), lost;
    pr_hold(&t, pr_slot(a.object));
    pr_hold(&t, pr_slot(wanted));
    lost = reserve(&t);
    call(&t, &a, 1);
    call_after(&t, &a, 2, wanted);
    call_after(&t, &a, 3, lost);
    call(&t, &a, 4);
    crash(&t, &s);
    SOUND(&s);
    serve(&w, &a, 1);
    CHECK(has_no_call(&w, &a));
    PrHandle mine = call(&s, &a, 5);
    serve(&w, &a, 5);
    expect_value(&s, mine, 5);
    pr_seal(&s, wanted, 0);
    release(&s, wanted);
    for (uint32_t task; (task = begin_call(&w, a.slot)); served++) finish(&w, task);
    EQUAL(served, 3);
    end_actor(&w, creation);
    forget(&s, &a);
    leave_session(&w);
    end_session(&s);
}

/* Who comes into the slot of one that has died does not wait for the calls of that. */
static void test_slot_of_a_caller(void) {
    PrSession s = task_session(1, 0), w = join_session(&s, PR_WORKER),
              t = join_session(&s, PR_CLIENT);
    Actor a = make_actor(&s);
    uint32_t creation = begin_actor(&w, &a), index = t.index;
    PrHandle first = reserve(&s), second = reserve(&s), h;
    pr_hold(&t, pr_slot(a.object));
    pr_hold(&t, pr_slot(first));
    call_after(&t, &a, 1, first);
    crash(&t, &s);
    t = join_session(&s, PR_CLIENT);
    EQUAL(t.index, index);
    pr_hold(&t, pr_slot(a.object));
    pr_hold(&t, pr_slot(second));
    h = call_after(&t, &a, 2, second);
    rebuild(&s);
    pr_seal(&s, second, 0);
    serve(&w, &a, 2);
    expect_value(&t, h, 2);
    CHECK(has_no_call(&w, &a));
    pr_seal(&s, first, 0);
    serve(&w, &a, 1);
    leave_session(&t);
    release(&s, first);
    release(&s, second);
    end_actor(&w, creation);
    forget(&s, &a);
    leave_session(&w);
    end_session(&s);
}

/* -- at once ----------------------------------------------------------------------------------- */

static int rounds(void) {
    return getenv("PYRAY_ROUNDS") ? atoi(getenv("PYRAY_ROUNDS")) : 3000;
}

/* The last reference goes right after a call: that is served first. */
static void test_call_and_drop(void) {
    PrSession s = task_session(2, 0);
    Player players[2];
    uint64_t seed = 1;
    start_players(&s, players, 2, NULL, NULL);
    for (int i = 0; i < rounds(); i++) {
        Actor a = make_actor(&s);
        uint32_t n = (uint32_t)below(&seed, 3);
        for (uint32_t k = 0; k < n; k++) {
            PrHandle h = call(&s, &a, k);
            EQUAL(wait_for(&s, h), 0);
            expect_value(&s, h, k);
        }
        PrHandle last = call(&s, &a, n);
        release(&s, a.object);
        EQUAL(wait_for(&s, last), 0);
        expect_value(&s, last, n);
        release(&s, a.death);
    }
    stop_players(&s, players, 2);
    end_session(&s);
}

/* Somebody finds it by its name while the last reference goes: who has found it can call it. */
typedef struct {
    PrSession of;
    _Atomic int over;
    uint32_t found;
} Finder;

static void *find_and_call(void *with) {
    Finder *me = with;
    PrSession s = join_session(&me->of, PR_CLIENT);
    uint8_t key[24];
    name_key(key, 1);
    while (!atomic_load(&me->over)) {
        Actor a = {.object = pr_actor_find(&s, key)};
        if (!a.object) continue;
        CHECK((a.slot = pr_actor_of(&s, pr_slot(a.object))));
        PrHandle h = call(&s, &a, ++me->found);
        if (me->found % 2) release(&s, a.object);
        EQUAL(wait_for(&s, h), 0);
        expect_value(&s, h, me->found);
        if (me->found % 2 == 0) release(&s, a.object);
    }
    leave_session(&s);
    return NULL;
}

static void test_find_and_drop(void) {
    PrSession s = task_session(2, 0);
    Player players[2];
    Finder finder = {.of = s};
    uint64_t seed = 1;
    int status;
    uint8_t key[24];
    name_key(key, 1);
    start_players(&s, players, 2, NULL, NULL);
    pthread_t thread = start_thread(find_and_call, &finder);
    for (int i = 0; i < rounds(); i++) {
        Actor a;
        PrCall creation = {.shape = cpu_shape(&s, 1)};
        /* The name is free a moment after the death was sealed. */
        while ((status = try_actor(&s, &a, creation, key, 0)) == PR_STALE) pr_relax();
        EQUAL(status, 0);
        if (below(&seed, 2)) nap((int64_t)below(&seed, MS / 20));
        release(&s, a.object);
        EQUAL(wait_for(&s, a.death), 0);
        release(&s, a.death);
    }
    atomic_store(&finder.over, 1);
    join_threads(&thread, 1);
    stop_players(&s, players, 2);
    end_session(&s);
}

/* It is killed while a process takes it out of the queue; its slot is another's at once. */
static void test_kill_at_once(void) {
    PrSession s = task_session(2, 0);
    Player players[2];
    uint64_t seed = 1;
    start_players(&s, players, 2, NULL, NULL);
    for (int i = 0; i < rounds(); i++) {
        Actor a = actor_with(&s, -1, NULL, i % 5 ? 0 : PR_ACTOR_DETACHED), b = make_actor(&s);
        PrHandle killed = call(&s, &a, 1), alive = call(&s, &b, 2);
        for (uint64_t k = below(&seed, 300); k; k--) pr_relax();
        uint32_t worker = kill_actor(&s, &a, 0);
        if (worker) pr_notify(&s, &s.processes[worker]); /* which a thread looks at */
        release(&s, a.object);
        EQUAL(wait_for(&s, killed), 0);
        CHECK(has_value(&s, killed, 1) || code_of(&s, killed) == PR_ACTOR_DIED);
        release(&s, killed);
        EQUAL(wait_for(&s, alive), 0);
        expect_value(&s, alive, 2);
        release(&s, b.object);
        release(&s, a.death);
        release(&s, b.death);
    }
    stop_players(&s, players, 2);
    end_session(&s);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    RUN(test_last_reference);
    RUN(test_told_of_the_last);
    RUN(test_dropped_before_it_is_made);
    RUN(test_failed_creation);
    RUN(test_dead_and_not_looked_at);
    RUN(test_recovery_while_a_call_fails);
    RUN(test_dead_without_references);
    RUN(test_death_is_waited_for);
    RUN(test_kill_before_it_is_made);
    RUN(test_kill_detached);
    RUN(test_kill);
    RUN(test_kill_with_restart);
    RUN(test_kill_is_of_its_actor_only);
    RUN(test_crash);
    RUN(test_restart);
    RUN(test_restarts_are_counted);
    RUN(test_restart_without_references);
    RUN(test_no_restart_for_nobody);
    RUN(test_crash_of_a_caller);
    RUN(test_slot_of_a_caller);
    RUN(test_call_and_drop);
    RUN(test_find_and_drop);
    RUN(test_kill_at_once);
    printf("ok\n");
    return 0;
}
