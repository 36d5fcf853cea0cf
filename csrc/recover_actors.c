/* Actors in a recovery; see recover.h. What a crash leaves of one is in docs/architecture.md. */
#include "recover.h"

#include "object.h"

/* Whether its object stands for it, and for how long it has to. */
static int is_stood_for(const PrSession *s, const PrActor *a, uint32_t actor) {
    PrObject *o = &s->objects[a->object];
    uint64_t word = atomic_load(&o->state);
    if (!(word & PR_ACTOR) || *pr_actor_in(o) != actor) return 0;
    return pr_state(word) == PR_OBJECT_SEALED ||
           (pr_state(word) == PR_OBJECT_DYING && is_live(s, pr_canceller(word)));
}

/* DEAD, if its creation is over, or its maker died before there was one; whether to keep it. */
static int settle_actor(const PrSession *s, PrActor *a, uint32_t actor) {
    PrHandle creation = atomic_load(&a->creation);
    const PrTask *t = &s->tasks[pr_slot(creation)];
    uint64_t word = atomic_load(&t->state);
    if (pr_actor_state(a) != PR_ACTOR_LIVE) return is_stood_for(s, a, actor);
    if (!creation && is_live(s, a->owner)) return 1;
    if (!creation || !pr_same(word, creation) || !is_pending(t) ||
        pr_state(word) == PR_TASK_CANCELLED) {
        pr_set_actor_state(a, PR_ACTOR_DEAD);
    } else if (pr_state(word) == PR_TASK_RUNNING) {
        atomic_store(&a->worker, atomic_load(&t->worker));
    }
    return is_stood_for(s, a, actor);
}

void pr_forget_actor(PrActor *a) {
    uint64_t word = atomic_load(&a->state);
    a->death = 0;
    atomic_store(&a->state, ((word >> 32) + 1) << 32 | PR_ACTOR_FREE);
}

void pr_settle_actors(Rebuild *r) {
    for (uint32_t i = 1; i < r->n_actors; i++) {
        PrActor *a = &r->s->actors[i];
        atomic_store(&a->worker, 0);
        atomic_store(&a->idle, 0);
        atomic_store(&a->calls, 0);
        atomic_store(&a->over, 0);
        a->queue.head = a->queue.tail = 0;
        atomic_store(&a->queue.count, 0);
        if (pr_actor_state(a) != PR_ACTOR_FREE && !settle_actor(r->s, a, i)) pr_forget_actor(a);
    }
}

int pr_may_go(const PrSession *s, PrObject *o) {
    if (!(atomic_load(&o->state) & PR_ACTOR)) return 1;
    const PrActor *a = &s->actors[*pr_actor_in(o)];
    return pr_actor_state(a) == PR_ACTOR_DEAD && !pr_pending_calls(a);
}

void pr_count_actors(Rebuild *r) {
    for (uint32_t i = 1; i < r->n_actors; i++) {
        const PrActor *a = &r->s->actors[i];
        if (pr_actor_state(a) == PR_ACTOR_FREE) continue;
        if (a->death) count(r, a->death);
        if (pr_actor_state(a) == PR_ACTOR_LIVE && atomic_load(&a->flags) & PR_ACTOR_DETACHED)
            count(r, a->object);
    }
}

void pr_drop_unwanted_actors(Rebuild *r) {
    PrSession *s = r->s;
    for (uint32_t i = 1; i < r->n_actors; i++) {
        const PrActor *a = &s->actors[i];
        uint32_t task = pr_slot(atomic_load(&a->creation));
        PrTask *t = &s->tasks[task];
        int state = pr_state(atomic_load(&t->state));
        if (pr_actor_state(a) != PR_ACTOR_LIVE || !task) continue;
        if (state != PR_TASK_WAITING && state != PR_TASK_READY) continue;
        if (atomic_load(&s->objects[a->object].refs) || pr_pending_calls(a)) continue;
        pr_set_task_state(t, PR_TASK_RUNNING);
        atomic_store(&t->worker, s->index);
        r->broken[r->n_broken++] = task;
    }
}

void pr_rebuild_actors(Rebuild *r) {
    PrTable *table = &r->s->control->actors;
    table->head = table->n_free = 0;
    for (uint32_t i = r->n_actors - 1; i >= 1; i--) {
        PrActor *a = &r->s->actors[i];
        if (pr_actor_state(a) != PR_ACTOR_FREE) continue;
        a->next = table->head;
        table->head = i;
        table->n_free++;
    }
}
