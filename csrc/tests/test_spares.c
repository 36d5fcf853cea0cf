/* References to the labels of calls that processes keep for the next ones. */
#include "actors.h"

#include "../spares.h"

enum { CALLS = 200 };

typedef struct {
    PrSession s, w;
    Actor a;
    uint32_t creation;
    PrHandle results[CALLS];
    uint32_t n, served;
} Scene;

static Scene new_scene(void) {
    Scene c = {.s = task_session(1, 0)};
    c.w = join_session(&c.s, PR_WORKER);
    c.a = make_actor(&c.s);
    c.creation = begin_actor(&c.w, &c.a);
    return c;
}

static void end_scene(Scene *c) {
    end_actor(&c->w, c->creation);
    forget(&c->s, &c->a);
    leave_session(&c->w);
    end_session(&c->s);
}

static PrHandle new_label(Scene *c) {
    return put(&c->s, 100, 1, NULL, 0);
}

static uint32_t refs(const Scene *c, PrHandle label) {
    return atomic_load(&c->s.objects[pr_slot(label)].refs);
}

static void submit_calls(Scene *c, PrHandle label, uint32_t n) {
    PrCall call = {
        .flags = PR_TASK_CALL, .actor = c->a.slot, .n_returns = 1, .label = pr_slot(label)};
    while (n--) {
        Work w = {.number = c->n};
        call.inline_arguments = &w;
        call.arguments_size = sizeof w;
        EQUAL(pr_submit(&c->s, &call, &c->results[c->n++]), 0);
    }
}

static void serve_calls(Scene *c, uint32_t n) {
    for (; n; n--, c->served++) {
        serve(&c->w, &c->a, c->served);
        expect_value(&c->s, c->results[c->served], c->served);
    }
}

/* It takes some at a time, of which the next calls have theirs. */
static void test_take(void) {
    Scene c = new_scene();
    PrHandle label = new_label(&c);
    submit_calls(&c, label, 1);
    uint32_t taken = refs(&c, label) - 1;
    CHECK(taken > 1);
    submit_calls(&c, label, taken - 1);
    EQUAL(refs(&c, label), taken + 1);
    SOUND(&c.s);
    submit_calls(&c, label, 1);
    EQUAL(refs(&c, label), 2 * taken + 1);
    SOUND(&c.s);
    /* Without the process that submits them they have what they need, and no more. */
    release(&c.s, label);
    EQUAL(refs(&c, label), taken + 1);
    SOUND(&c.s);
    serve_calls(&c, taken + 1);
    CHECK(has_no_call(&c.w, &c.a));
    EQUAL(pr_actor_idle(&c.w, c.a.slot), 1);
    CHECK(is_gone(&c.s, label));
    SOUND(&c.s);
    end_scene(&c);
}

/* Who has run calls returns what is too much, and all when it waits for more. */
static void test_give(void) {
    Scene c = new_scene();
    PrHandle label = new_label(&c);
    submit_calls(&c, label, CALLS);
    uint32_t before = refs(&c, label);
    serve_calls(&c, CALLS - 1);
    uint32_t kept = c.w.self->n_spares;
    CHECK(kept > 0 && kept < CALLS / 2);
    EQUAL(refs(&c, label), before - (CALLS - 1) + kept);
    SOUND(&c.s);
    serve_calls(&c, 1);
    EQUAL(pr_actor_idle(&c.w, c.a.slot), 1);
    EQUAL(c.w.self->n_spares, 0);
    EQUAL(refs(&c, label), before - CALLS);
    SOUND(&c.s);
    release(&c.s, label);
    CHECK(is_gone(&c.s, label));
    end_scene(&c);
}

/* Of labels that share a place, and of one that is the next object in a slot. */
static void test_places(void) {
    Scene c = new_scene();
    PrHandle labels[2] = {new_label(&c)}, others[2 * PR_SPARES];
    uint32_t n = 0;
    for (;; n++) {
        others[n] = new_label(&c);
        if (pr_slot(others[n]) % PR_SPARES == pr_slot(labels[0]) % PR_SPARES) break;
    }
    labels[1] = others[n];
    submit_calls(&c, labels[0], 1);
    submit_calls(&c, labels[1], 3);
    EQUAL(refs(&c, labels[1]), 4); /* counted one by one */
    SOUND(&c.s);
    serve_calls(&c, 4);
    release(&c.s, labels[0]);
    EQUAL(c.s.self->n_spares, 0);
    submit_calls(&c, labels[1], 1);
    CHECK(refs(&c, labels[1]) > 2);
    SOUND(&c.s);
    serve_calls(&c, 1);
    EQUAL(pr_actor_idle(&c.w, c.a.slot), 1);
    for (uint32_t i = 0; i <= n; i++) {
        release(&c.s, others[i]);
        CHECK(is_gone(&c.s, others[i]));
    }
    end_scene(&c);
}

/* A recovery counts anew, and no process has any left. */
static void test_recovery(void) {
    Scene c = new_scene();
    PrHandle label = new_label(&c);
    submit_calls(&c, label, 10);
    serve_calls(&c, 5);
    CHECK(c.s.self->n_spares && c.w.self->n_spares);
    rebuild(&c.s);
    EQUAL(c.s.self->n_spares + c.w.self->n_spares, 0);
    EQUAL(refs(&c, label), 6);
    submit_calls(&c, label, 5);
    serve_calls(&c, 5);
    release(&c.s, label);
    serve_calls(&c, 5);
    EQUAL(pr_actor_idle(&c.w, c.a.slot), 1);
    CHECK(is_gone(&c.s, label));
    end_scene(&c);
}

/* Who leaves, or dies, takes none with it. */
static void test_end(void) {
    for (int dies = 0; dies < 2; dies++) {
        Scene c = new_scene();
        PrHandle label = new_label(&c);
        submit_calls(&c, label, 10);
        serve_calls(&c, 5);
        CHECK(c.w.self->n_spares);
        if (dies) {
            crash(&c.w, &c.s);
        } else {
            end_actor(&c.w, c.creation);
            leave_session(&c.w);
        }
        SOUND(&c.s);
        for (uint32_t i = 5; i < 10; i++) expect_code(&c.s, c.results[i], PR_ACTOR_DIED);
        forget(&c.s, &c.a);
        release(&c.s, label);
        CHECK(is_gone(&c.s, label));
        end_session(&c.s);
    }
}

int main(void) {
    RUN(test_take);
    RUN(test_give);
    RUN(test_places);
    RUN(test_recovery);
    RUN(test_end);
    puts("spares ok");
    return 0;
}
