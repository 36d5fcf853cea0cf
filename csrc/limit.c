/* How many calls of an actor a process may have that are not over; see actor.h.
 *
 * All of it is the process' own: a list an actor of calls that were not over when the list was last
 * looked through, which is when it is as long as it may be. So nobody has to be told of the end of
 * a call, and a crash leaves nothing.
 */
#include <stdlib.h>

#include "actor.h"
#include "object.h"

struct PrOwnCalls {
    uint64_t generation; /* of the actor */
    uint32_t n, room;
    PrHandle calls[];
};

/* Whether all results are there; of a call that is over by now it does not matter what is found. */
static int has_returned(const PrSession *s, const PrTask *t) {
    uint32_t slot = atomic_load(&t->first_return), n = atomic_load(&t->n_returns);
    for (uint32_t i = 0; i < n && slot; i++) {
        if (!pr_is_ready(atomic_load(&s->objects[slot].state))) return 0;
        slot = atomic_load(&s->objects[slot].next);
    }
    return n > 0;
}

/* Who has got the results may call again, though the call be over only in a moment. */
static int is_pending(const PrSession *s, PrHandle call) {
    const PrTask *t = &s->tasks[pr_slot(call)];
    uint64_t word = atomic_load(&t->state);
    int state = pr_state(word);
    if (!pr_same(word, call) || state < PR_TASK_WAITING || state > PR_TASK_RUNNING) return 0;
    return state != PR_TASK_RUNNING || !has_returned(s, t);
}

static void forget_those_over(const PrSession *s, PrOwnCalls *own) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < own->n; i++)
        if (is_pending(s, own->calls[i])) own->calls[n++] = own->calls[i];
    own->n = n;
}

/* Room for twice as many; 0, or PR_FULL. */
static int grow(PrOwnCalls **own) {
    uint32_t room = *own ? 2 * (*own)->room : 8;
    PrOwnCalls *more = realloc(*own, sizeof **own + room * sizeof(PrHandle));
    if (!more) return PR_FULL;
    if (!*own) more->n = 0;
    more->room = room;
    *own = more;
    return 0;
}

int pr_may_call(PrSession *s, uint32_t actor, uint32_t limit) {
    if (!s->own_calls && !(s->own_calls = calloc(PR_ACTORS, sizeof *s->own_calls))) return PR_FULL;
    PrOwnCalls **own = &s->own_calls[actor];
    uint64_t generation = atomic_load(&s->actors[actor].state) >> 32;
    if (!*own && grow(own)) return PR_FULL;
    if ((*own)->generation != generation) (*own)->n = 0;
    (*own)->generation = generation;
    if ((*own)->n < limit && (*own)->n < (*own)->room) return 0;
    forget_those_over(s, *own);
    if ((*own)->n >= limit) return PR_BUSY;
    return 2 * (*own)->n > (*own)->room ? grow(own) : 0;
}

void pr_note_call(PrSession *s, uint32_t actor, PrHandle call) {
    PrOwnCalls *own = s->own_calls[actor];
    own->calls[own->n++] = call;
}

void pr_forget_calls(PrSession *s) {
    for (uint32_t i = 0; s->own_calls && i < PR_ACTORS; i++) free(s->own_calls[i]);
    free(s->own_calls);
    free(s->held_calls);
    s->own_calls = NULL;
    s->held_calls = NULL;
}
