/* A random program of everything that a process of a session may do, for the tests that let it die
 * at any point. It knows by itself whether what it reads is right: bytes tell which number they
 * belong to, and results which task. */
#ifndef PYRAY_TESTS_PROGRAM_H
#define PYRAY_TESTS_PROGRAM_H

#include "../actor.h"
#include "../lineage.h"
#include "spiller.h"

enum { HELD = 40, KEYS = 16, SHAPES = 5, FAILURE = 77 };

typedef struct {
    PrSession s;
    uint64_t seed;
    PrHandle held[HELD]; /* objects, one reference each */
    uint32_t n_held;
    PrHandle reserved; /* created and not sealed */
    uint8_t *data;     /* of it */
    uint64_t size;
    uint32_t task; /* that it runs, or 0 */
    int blocked;
    uint32_t creation; /* of the actor that it serves, or 0 */
    PrHandle pinned;   /* that it reads for a while */
} Program;

/* Of all processes: 2 CPUs, 1 GPU in parts, a license. */
static inline void program_resources(PrSession *s) {
    EQUAL(pr_resource(s, "CPU", 2 * PR_UNIT), PR_CPU);
    EQUAL(pr_resource(s, "GPU", 2 * PR_UNIT), PR_GPU);
    uint32_t license = (uint32_t)pr_resource(s, "license", PR_UNIT);
    PrNeed needs[SHAPES][2] = {{{PR_CPU, PR_UNIT}, {0, 0}},
                               {{PR_CPU, PR_UNIT / 2}, {0, 0}},
                               {{PR_CPU, PR_UNIT}, {license, PR_UNIT}},
                               {{PR_GPU, PR_UNIT * 6 / 10}, {PR_CPU, PR_UNIT / 10}},
                               {{0, 0}, {0, 0}}};
    static const uint32_t n_needs[SHAPES] = {1, 1, 2, 2, 0};
    for (int i = 0; i < SHAPES; i++) EQUAL(pr_shape(s, needs[i], n_needs[i], 0), i);
}

/* -- values ------------------------------------------------------------------------------------ */

/* Its number, or that of the size. */
static inline uint64_t check_bytes(const PrSession *s, PrObject *o) {
    const uint8_t *data = pr_message_of(s, o);
    uint64_t number = o->size;
    if (o->size < 8) {
        CHECK(has_pattern(data, o->size, o->size));
    } else {
        memcpy(&number, data, 8);
        CHECK(has_pattern(data + 8, o->size - 8, number));
    }
    for (uint32_t i = 0; i < o->n_refs; i++) {
        PrHandle h = pr_refs_in(s, o)[i];
        uint64_t word = atomic_load(&s->objects[pr_slot(h)].state);
        CHECK(pr_same(word, h) && pr_state(word) >= PR_OBJECT_RESERVED);
        CHECK(pr_state(word) != PR_OBJECT_DYING);
    }
    return number;
}

/* If its block is there. */
static inline void check_value(PrSession *s, uint32_t slot) {
    int pinned = pr_pin(s, slot);
    /* It may have been lost meanwhile, and have failed when it was made again. */
    int is_value = pr_state(atomic_load(&s->objects[slot].state)) == PR_OBJECT_SEALED;
    if (pinned != PR_AWAY && is_value) check_bytes(s, &s->objects[slot]);
    if (pinned == 1) pr_unpin(s, slot);
}

/* One that this process holds. */
static inline void check_object_of(PrSession *s, PrHandle h) {
    PrObject *o = &s->objects[pr_slot(h)];
    uint64_t word = atomic_load(&o->state);
    int state = pr_state(word);
    CHECK(pr_same(word, h));
    CHECK(state >= PR_OBJECT_RESERVED && state <= PR_OBJECT_FAILED);
    if (state == PR_OBJECT_SEALED) check_value(s, pr_slot(h));
    if (state == PR_OBJECT_FAILED && word & PR_CODE) {
        int code = pr_message_of(s, o)[0];
        CHECK(code == PR_WORKER_CRASHED || code == PR_TASK_WAS_CANCELLED ||
              code == PR_OBJECT_LOST || code == PR_STORE_FULL || code == FAILURE ||
              code == PR_ACTOR_DIED || code == PR_ACTOR_UNAVAILABLE);
    }
}

/* -- what it holds ----------------------------------------------------------------------------- */

static inline uint64_t pick(Program *p, uint64_t limit) {
    return below(&p->seed, limit);
}

static inline void drop_one(Program *p) {
    if (!p->n_held) return;
    uint32_t i = (uint32_t)pick(p, p->n_held);
    PrHandle h = p->held[i];
    p->held[i] = p->held[--p->n_held];
    check_object_of(&p->s, h);
    release(&p->s, h);
}

static inline void keep(Program *p, PrHandle h) {
    if (!h) return;
    if (p->n_held == HELD) drop_one(p);
    p->held[p->n_held++] = h;
}

static inline PrHandle any_held(Program *p) {
    return p->n_held ? p->held[pick(p, p->n_held)] : 0;
}

/* One that holds no other, and will not if it is made again: results hold such only, as there must
 * be no circles. */
static inline PrHandle any_leaf(Program *p) {
    PrHandle h = any_held(p);
    const PrObject *o = &p->s.objects[pr_slot(h)];
    uint64_t word = atomic_load(&o->state);
    return h && pr_is_ready(word) && !(word & (PR_BLOCK | PR_LINEAGE)) && !o->n_refs ? h : 0;
}

static inline uint32_t some_held(Program *p, uint32_t *slots, uint32_t most) {
    uint32_t n = p->n_held ? (uint32_t)pick(p, most + 1) : 0;
    for (uint32_t i = 0; i < n; i++) slots[i] = pr_slot(any_held(p));
    return n;
}

static inline uint64_t any_size(Program *p) {
    static const uint64_t most[] = {100, 100, 200, 8000, 300000};
    return pick(p, most[pick(p, 5)]);
}

/* -- reading and room -------------------------------------------------------------------------- */

static inline void unpin(Program *p) {
    if (!p->pinned) return;
    check_bytes(&p->s, &p->s.objects[pr_slot(p->pinned)]);
    pr_unpin(&p->s, pr_slot(p->pinned));
    release(&p->s, p->pinned);
    p->pinned = 0;
}

/* Reads one until it does so again, and has it brought back before if need be. */
static inline void read_one(Program *p) {
    PrHandle h = any_held(p);
    uint32_t slot = pr_slot(h);
    unpin(p);
    if (!h || state_of(&p->s, h) != PR_OBJECT_SEALED) return;
    int status = pr_pin(&p->s, slot);
    if (status == PR_AWAY && !pick(p, 20)) pr_lose_copy(&p->s, slot); /* its file is no good */
    if (status == PR_AWAY && pick(p, 4)) {
        pr_fetch(&p->s, slot);
        status = pr_await_fetch(&p->s, slot, pr_now() + (int64_t)pick(p, MS / 5));
        CHECK(status == 0 || status == PR_TIMEOUT);
        status = pr_pin(&p->s, slot);
    }
    if (status != 1) return;
    pr_hold(&p->s, slot);
    p->pinned = h;
}

/* Loses one that can be made again, if it holds such, or has one made again that is lost. */
static inline void lose_one(Program *p) {
    PrHandle culprit;
    PrWhy why;
    int status, lose = pick(p, 3) == 0;
    for (uint32_t i = 0; i < p->n_held; i++) {
        PrHandle h = p->held[(pick(p, HELD) + i) % p->n_held];
        PrObject *o = &p->s.objects[pr_slot(h)];
        if (!pr_maker(o) || pr_is_gone(o) == lose) continue;
        if (lose) status = pr_discard(&p->s, pr_slot(h));
        else status = pr_reconstruct(&p->s, h, &culprit, &why);
        CHECK(status == 0 || status == PR_STALE || status == PR_BUSY);
        return;
    }
}

/* Whether there is perhaps room now for a block that there was none for. */
static inline int wait_for_room(Program *p, uint64_t bytes) {
    if (pick(p, 2) || pr_want_room(&p->s, bytes, pr_now())) return 0;
    int status = pr_await_room(&p->s, pr_now() + (int64_t)pick(p, MS / 5));
    CHECK(status == 0 || status == PR_TIMEOUT || status == PR_FULL);
    if (status || pick(p, 10) == 0) pr_forget_room(&p->s);
    return !status;
}

/* -- objects ----------------------------------------------------------------------------------- */

/* Some of what this process holds, for an object to refer to: how many. */
static inline uint32_t any_parts(Program *p, PrHandle parts[3]) {
    uint32_t n = p->n_held ? (uint32_t)pick(p, 4) : 0;
    for (uint32_t i = 0; i < n; i++) parts[i] = any_held(p);
    return n;
}

static inline void make_object(Program *p) {
    PrHandle parts[3], h;
    uint64_t size = any_size(p);
    uint8_t *data;
    uint32_t n = any_parts(p, parts);
    int status = pr_create(&p->s, size, n, &h, &data);
    if (status == PR_FULL && wait_for_room(p, pr_block_size(size, n)))
        status = pr_create(&p->s, size, n, &h, &data);
    if (status) {
        pr_forget_room(&p->s);
        drop_one(p);
        return;
    }
    write_value(data, size, pick(p, 1 << 20));
    if (n) memcpy(data + ((size + 7) & ~7ull), parts, 8ull * n);
    if (pick(p, 8) == 0) {
        pr_abandon(&p->s, h);
    } else {
        pr_seal(&p->s, h, pick(p, 10) == 0);
        keep(p, h);
    }
}

/* One that stays unsealed for a while, where others may wait for it. */
static inline void reserve_or_seal(Program *p) {
    PrHandle found;
    uint8_t key[24];
    if (!p->reserved) {
        p->size = any_size(p);
        if (pr_create(&p->s, p->size, 0, &p->reserved, &p->data)) {
            p->reserved = 0;
            return;
        }
        name_key(key, pick(p, KEYS));
        if (pick(p, 2) && !pr_name_set(&p->s, key, p->reserved, &found) && found != p->reserved)
            keep(p, found);
        return;
    }
    PrHandle h = p->reserved;
    p->reserved = 0;
    if (pick(p, 4) == 0) {
        pr_abandon(&p->s, h);
        return;
    }
    write_value(p->data, p->size, pick(p, 1 << 20));
    pr_seal(&p->s, h, 0);
    keep(p, h);
}

static inline void use_name(Program *p) {
    uint8_t key[24];
    PrHandle h = any_held(p), found;
    name_key(key, pick(p, KEYS));
    switch (pick(p, 4)) {
    case 0:
        if (h && !pr_name_set(&p->s, key, h, &found) && found != h) keep(p, found);
        break;
    case 1: pr_name_remove(&p->s, key, pick(p, 4) ? 0 : h); break;
    default: keep(p, pr_name_find(&p->s, key));
    }
}

static inline void hold_again(Program *p) {
    PrHandle h = any_held(p);
    if (!h) return;
    pr_hold(&p->s, pr_slot(h));
    keep(p, h);
}

static inline void wait_a_bit(Program *p) {
    uint32_t slots[8], n = some_held(p, slots, 8);
    int64_t deadline = pr_now() + (int64_t)pick(p, MS / 10);
    if (!n) return;
    for (uint32_t i = 0; i < n; i++)
        if (atomic_load(&p->s.objects[slots[i]].state) & PR_STREAM && pick(p, 2))
            slots[i] |= PR_NEXT;
    int status = pr_wait(&p->s, slots, n, 1 + pick(p, n), deadline, pick(p, 2) != 0,
                         pick(p, 2) ? PR_SPIN : 0);
    CHECK(status == 0 || status == PR_TIMEOUT);
}

static inline void use_stream(Program *p) {
    PrHandle h = any_held(p);
    if (!h || !(atomic_load(&p->s.objects[pr_slot(h)].state) & PR_STREAM)) return;
    uint32_t slot = pr_slot(h);
    switch (pick(p, 8)) {
    case 0: pr_stream_close(&p->s, slot); break;
    case 1: pr_stream_wait(&p->s, slot, pr_now() + MS / 20, PR_SPIN); break;
    default: keep(p, pr_stream_take(&p->s, slot));
    }
}

/* -- tasks ------------------------------------------------------------------------------------- */

static inline PrHandle running_handle(Program *p) {
    return p->task ? pr_handle(atomic_load(&p->s.tasks[p->task].state), p->task) : 0;
}

/* Arguments, which are the task's alone; perhaps there are none, or no room. */
static inline PrHandle make_arguments(Program *p) {
    PrHandle parts[3], h;
    uint64_t size = any_size(p);
    uint8_t *data;
    uint32_t n = any_parts(p, parts);
    if (pick(p, 4) || pr_create(&p->s, size, n, &h, &data)) return 0;
    write_value(data, size, pick(p, 1 << 20));
    if (n) memcpy(data + ((size + 7) & ~7ull), parts, 8ull * n);
    pr_seal(&p->s, h, 0);
    return h;
}

static inline void submit_one(Program *p) {
    static const uint32_t counts[] = {0, 1, 1, 1, 1, 2, 3, 70};
    uint32_t dependencies[6], number = (uint32_t)pick(p, 1 << 20);
    PrHandle returns[70], arguments = make_arguments(p);
    PrCall call = {.shape = (uint32_t)pick(p, SHAPES),
                   .n_returns = counts[pick(p, 8)],
                   .retries = (int32_t)pick(p, 4) - 1,
                   .dependencies = dependencies,
                   .n_dependencies = some_held(p, dependencies, 6),
                   .arguments = arguments,
                   .label = pick(p, 2) ? 0 : pr_slot(any_held(p)),
                   .inline_arguments = &number,
                   .arguments_size = sizeof number,
                   .parent = running_handle(p)};
    if (call.n_returns == 1 && pick(p, 3) == 0) {
        call.flags |= PR_TASK_STREAMING;
        call.backlog = (uint32_t)pick(p, 3);
    }
    int status = pr_submit(&p->s, &call, returns);
    if (arguments) release(&p->s, arguments);
    if (status) {
        drop_one(p);
        return;
    }
    for (uint32_t i = 0; i < call.n_returns; i++) keep(p, returns[i]);
}

/* Results one by one, or all that are left. Whether none is left. */
static inline int seal_results(Program *p, int all) {
    PrSession *s = &p->s;
    PrTask *t = &s->tasks[p->task];
    uint32_t number, i = 0;
    memcpy(&number, t->inline_arguments, sizeof number);
    for (uint32_t slot = pr_first_result(t), next; slot; slot = next, i++) {
        PrObject *o = &s->objects[slot];
        PrHandle leaf = any_leaf(p);
        uint32_t n = leaf ? (uint32_t)pick(p, 3) : 0;
        uint64_t size = any_size(p);
        uint8_t *data;
        next = pr_next_result(s, t, slot);
        if (pr_state(atomic_load(&o->state)) == PR_OBJECT_PENDING) {
            if (pr_room(s, slot, size, n, &data)) {
                pr_fail(s, slot, PR_STORE_FULL, "");
            } else {
                write_value(data, size, number + i);
                for (uint32_t k = 0; k < n; k++)
                    memcpy(data + ((size + 7) & ~7ull) + 8ull * k, &leaf, 8);
                if (pick(p, 6) == 0) return 0; /* room, and no value yet */
                pr_enter(s);
                pr_make_ready(s, slot, PR_OBJECT_SEALED);
                pr_leave(s);
            }
            if (!all) return 0;
        }
    }
    return 1;
}

static inline void cancel_child(void *with, PrHandle child) {
    uint32_t worker;
    Program *p = with;
    if (pick(p, 2)) pr_cancel(&p->s, child, &worker);
}

static inline void cancel_some(Program *p) {
    PrHandle h = any_held(p);
    uint32_t worker;
    if (h && pick(p, 4)) pr_cancel(&p->s, h, &worker);
    else if (p->task) pr_each_child(&p->s, running_handle(p), cancel_child, p);
    else pr_cancel(&p->s, pr_handle(pick(p, 50) << 32, (uint32_t)(1 + pick(p, 200))), &worker);
}

/* As the node does when the time has come. */
static inline void resume_some(PrSession *s) {
    PrHandle tasks[8];
    uint32_t n = pr_put_off(s, tasks, 8);
    for (uint32_t i = 0; i < n && i < 8; i++) pr_resume(s, tasks[i]);
}

static inline void unblock(Program *p) {
    if (p->blocked) pr_unblock(&p->s);
    p->blocked = 0;
}

/* The task is over, or is to run again. */
static inline void end_task(Program *p) {
    PrSession *s = &p->s;
    PrTask *t = &s->tasks[p->task];
    uint32_t task = p->task, failed = pr_failed_dependency(s, task);
    unblock(p);
    if (failed) {
        pr_fail_task_like(s, task, failed);
    } else if (atomic_load(&t->state) & PR_CANCEL) {
        pr_fail_task(s, task, PR_TASK_WAS_CANCELLED, "asked to");
    } else if (t->attempt < 6 && pick(p, 8) == 0 && pr_retry(s, task)) {
        p->task = 0;
        return;
    } else if (pick(p, 8) == 0) {
        pr_fail_task(s, task, FAILURE, "it failed");
    } else {
        if (!seal_results(p, 1)) return;
        pr_finish(s, task);
    }
    p->task = 0;
}

/* -- actors ------------------------------------------------------------------------------------ */

enum { NAMED_ACTORS = 6 };

static inline void actor_key(uint8_t key[24], uint64_t number) {
    name_key(key, number);
    key[22] = 'a';
}

static inline void make_actor(Program *p) {
    PrHandle object, death, leaf = any_leaf(p);
    uint32_t dependencies[3], number = (uint32_t)pick(p, 1 << 20);
    uint8_t key[24], *data;
    uint32_t flags = (pick(p, 3) ? 0 : PR_ACTOR_UNORDERED) | (pick(p, 6) ? 0 : PR_ACTOR_DETACHED);
    PrCall creation = {.shape = (uint32_t)pick(p, SHAPES),
                       .retries = (int32_t)pick(p, 4) - 1,
                       .dependencies = dependencies,
                       .n_dependencies = some_held(p, dependencies, 3),
                       .inline_arguments = &number,
                       .arguments_size = sizeof number};
    actor_key(key, pick(p, NAMED_ACTORS));
    if (pr_create(&p->s, 100, leaf != 0, &object, &data)) return;
    write_value(data, 100, number);
    if (leaf) memcpy(data + 104, &leaf, 8);
    if (pr_actor_create(&p->s, object, pick(p, 2) ? key : NULL, flags, &creation, &death)) return;
    keep(p, object);
    keep(p, death);
}

static inline uint32_t any_actor(Program *p) {
    for (uint32_t i = 0; i < p->n_held; i++) {
        uint32_t slot = pr_slot(p->held[(pick(p, HELD) + i) % p->n_held]);
        uint32_t actor = pr_actor_of(&p->s, slot);
        if (actor) return actor;
    }
    return 0;
}

static inline void use_actor(Program *p) {
    uint32_t actor = any_actor(p), dependencies[4], number = (uint32_t)pick(p, 1 << 20);
    PrHandle returns[3];
    uint8_t key[24];
    if (!actor || pick(p, 20) == 0) {
        make_actor(p);
    } else if (pick(p, 20) == 0) {
        actor_key(key, pick(p, NAMED_ACTORS));
        keep(p, pr_actor_find(&p->s, key));
    } else if (pick(p, 40) == 0) {
        pr_actor_kill(&p->s, pr_actor_handle(&p->s, actor), (int)pick(p, 2));
    } else if (pick(p, 20) == 0) {
        pr_fail_calls(&p->s);
    } else {
        PrCall call = {.flags = PR_TASK_CALL,
                       .actor = actor,
                       .n_returns = (uint32_t)pick(p, 4),
                       .retries = (int32_t)pick(p, 4) - 1,
                       .dependencies = dependencies,
                       .n_dependencies = pick(p, 2) ? 0 : some_held(p, dependencies, 4),
                       .label = pr_slot(any_leaf(p)),
                       .inline_arguments = &number,
                       .arguments_size = sizeof number};
        if (call.n_returns == 1 && pick(p, 3) == 0) call.flags |= PR_TASK_STREAMING;
        if (pr_submit(&p->s, &call, returns)) return drop_one(p);
        for (uint32_t i = 0; i < call.n_returns; i++) keep(p, returns[i]);
    }
}

/* The process that was the actor's is anybody's again, which a real one is not. */
static inline void end_actor(Program *p) {
    pr_fail_task(&p->s, p->creation, PR_ACTOR_DIED, "it left");
    p->creation = 0;
    pr_worker_rest(&p->s);
}

static inline void begin_actor(Program *p, uint32_t creation) {
    uint32_t failed = pr_failed_dependency(&p->s, creation);
    p->creation = creation;
    pr_actor_begin(&p->s, creation);
    if (failed) {
        pr_fail_task_like(&p->s, creation, failed);
        p->creation = 0;
        pr_worker_rest(&p->s);
    } else if (pick(p, 10) == 0) {
        end_actor(p);
    }
}

static inline void serve(Program *p) {
    PrSession *s = &p->s;
    uint32_t actor = s->tasks[p->creation].actor;
    uint64_t epoch;
    uint32_t call = pr_take_call(s, actor, &epoch);
    CHECK(pr_state(atomic_load(&s->tasks[p->creation].state)) == PR_TASK_RUNNING);
    if (call && pr_begin_call(s, call, epoch)) {
        CHECK(s->tasks[call].actor == actor && s->tasks[call].flags & PR_TASK_CALL);
        p->task = call;
    } else if (pr_actor_unwanted(s, actor) || pick(p, 40) == 0) {
        end_actor(p);
    } else if (!call && pr_actor_idle(s, actor)) {
        pr_sleep(s, atomic_load(&s->self->event), (int64_t)pick(p, MS / 20), 1);
    }
}

static inline void begin(Program *p, uint32_t task) {
    CHECK(pr_state(atomic_load(&p->s.tasks[task].state)) == PR_TASK_RUNNING);
    if (p->s.tasks[task].flags & PR_TASK_CREATION) begin_actor(p, task);
    else p->task = task;
}

static inline void work_on(Program *p) {
    PrSession *s = &p->s;
    if (!p->task && p->creation) return serve(p);
    if (!p->task) {
        uint32_t task = pr_next_queued(s);
        int64_t deadline = pr_now() + (int64_t)pick(p, 2) * (int64_t)pick(p, MS / 20);
        if (task || !pr_next_task(s, &task, deadline)) begin(p, task);
        return;
    }
    PrTask *t = &s->tasks[p->task];
    CHECK(pr_state(atomic_load(&t->state)) == PR_TASK_RUNNING);
    switch (pick(p, 6)) {
    case 0:
        if (p->blocked) unblock(p);
        else if (!p->creation) pr_block(s), p->blocked = 1;
        break;
    case 1:
        if ((t->flags & (PR_TASK_STREAMING | PR_TASK_ITEMS)) == PR_TASK_STREAMING) {
            uint64_t size = any_size(p);
            PrHandle item;
            uint8_t *data;
            if (!pr_create(s, size, 0, &item, &data)) {
                write_value(data, size, pick(p, 1 << 20));
                pr_seal(s, item, 0);
                pr_stream_put(s, t->first_return, item);
                release(s, item);
            }
            pr_stream_room(s, p->task, pr_now() + MS / 50, PR_SPIN);
        }
        break;
    case 2: seal_results(p, 0); break;
    default: end_task(p);
    }
}

/* -- the program ------------------------------------------------------------------------------- */

static inline void join_again(Program *p, PrSession (*join)(const PrSession *),
                              const PrSession *of) {
    p->n_held = 0;
    p->task = 0;
    p->reserved = 0;
    p->blocked = 0;
    p->creation = 0;
    p->pinned = 0;
    p->s = join(of);
}

static inline void step(Program *p) {
    if (p->s.self->kind == PR_SPILLER && pick(p, 2)) return spill_some(&p->s, &p->seed);
    switch (pick(p, 22)) {
    case 20:
    case 21: lose_one(p); break;
    case 18: read_one(p); break;
    case 19: resume_some(&p->s); break;
    case 16:
    case 17: use_actor(p); break;
    case 0:
    case 1: make_object(p); break;
    case 2: reserve_or_seal(p); break;
    case 3:
    case 4: use_name(p); break;
    case 5: hold_again(p); break;
    case 6: drop_one(p); break;
    case 7: wait_a_bit(p); break;
    case 8: use_stream(p); break;
    case 9:
    case 10: submit_one(p); break;
    case 11: cancel_some(p); break;
    case 12:
        if (p->n_held) check_object_of(&p->s, any_held(p));
        break;
    default: work_on(p);
    }
}

/* It holds nothing any more, and runs what there is to be run until it is told to leave. */
static inline void finish_program(Program *p) {
    uint32_t task;
    if (p->reserved) pr_abandon(&p->s, p->reserved);
    p->reserved = 0;
    unpin(p);
    while (p->n_held) drop_one(p);
    for (;;) {
        while (p->task) end_task(p);
        if (p->creation) end_actor(p);
        int status = pr_next_task(&p->s, &task, soon());
        if (status == PR_ENDED) break;
        EQUAL(status, 0);
        begin(p, task);
    }
}

/* Nothing is left, but the caller's process. */
static inline void end_programs(PrSession *s) {
    for (uint64_t number = 0; number < KEYS; number++) {
        uint8_t key[24];
        name_key(key, number);
        pr_name_remove(s, key, 0);
    }
    for (uint32_t i = 0; i < atomic_load(&s->control->n_resources); i++)
        EQUAL(atomic_load(&s->control->resources[i].available), s->control->resources[i].total);
    EQUAL(atomic_load(&s->control->n_idle), 0);
    EQUAL(pr_actor_list(s, NULL, 0), 0);
    end_session(s);
}

#endif
