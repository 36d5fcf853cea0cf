/* Invariants of a session at a quiet moment; see check.h.
 *
 * What refers to what is counted anew from the truth (session.h) and compared with the counts; each
 * slot must be in the one list, magazine or queue that its state says, and in no other; each block
 * of the arena belongs to one slot.
 */
#include "check.h"

#include <stdlib.h>
#include <string.h>

#include "actor.h"
#include "lineage.h"
#include "spill.h"

#define REQUIRE(x) \
    if (!(x)) return __LINE__

/* A check that calls others passes their lines on. */
#define PASS(call)               \
    do {                         \
        int line_ = (call);      \
        if (line_) return line_; \
    } while (0)

enum { IN_LIST = 1, IN_MAGAZINE = 2, IN_QUEUE = 4, IN_RETURNS = 8, IN_LINEAGE = 16 };

typedef struct {
    const PrSession *s;
    uint32_t n_objects, n_tasks, n_actors, n_processes;
    uint32_t *refs;           /* of each object, counted */
    uint32_t *edges;          /* of each task: dependencies that it waits for, counted */
    uint32_t *calls;          /* of each actor, counted */
    uint32_t *pins;           /* of each object, counted */
    uint32_t *wanted;         /* of each object: DONE tasks, counted */
    uint32_t *files;          /* copies in each file, counted */
    uint8_t *objects, *tasks; /* where the slot was found */
    uint8_t *follows;         /* tasks that wait for an earlier call */
    uint64_t blocks, units;   /* of the arena, counted */
} Check;

static PrObject *object_at(const Check *c, uint32_t slot) {
    return &c->s->objects[slot];
}

static uint64_t object_word(const Check *c, uint32_t slot) {
    return atomic_load(&c->s->objects[slot].state);
}

static uint64_t task_word(const Check *c, uint32_t slot) {
    return atomic_load(&c->s->tasks[slot].state);
}

static int is_live(const Check *c, uint32_t process) {
    return process && process < c->n_processes &&
           atomic_load(&c->s->processes[process].state) == PR_PROCESS_LIVE;
}

/* Something refers to that slot. */
static int count_slot(Check *c, uint32_t slot) {
    REQUIRE(slot && slot < c->n_objects);
    int state = pr_state(object_word(c, slot));
    REQUIRE(state >= PR_OBJECT_RESERVED && state <= PR_OBJECT_FAILED);
    c->refs[slot]++;
    return 0;
}

static int count_handle(Check *c, PrHandle h) {
    PASS(count_slot(c, pr_slot(h)));
    REQUIRE(pr_same(object_word(c, pr_slot(h)), h));
    return 0;
}

static int note_block(Check *c, uint64_t place, uint64_t size) {
    uint64_t to = size >= PR_ARENA_PAGED ? PR_ARENA_PAGE : PR_ARENA_UNIT, has;
    REQUIRE(place % to == 0 && place < c->s->control->arena_size);
    size = size ? (size + to - 1) / to * to : to;
    has = pr_arena_size(c->s->arena, place);
    REQUIRE(has == size);
    c->blocks++;
    c->units += has / PR_ARENA_UNIT;
    return 0;
}

/* -- locks and processes ----------------------------------------------------------------------- */

static int check_locks(const Check *c) {
    PrControl *control = c->s->control;
    REQUIRE(control->magic == PR_MAGIC && control->layout == PR_LAYOUT);
    REQUIRE(atomic_load(&control->stopping) == 0);
    REQUIRE(atomic_load(&control->objects.lock.word) == 0);
    REQUIRE(atomic_load(&control->tasks.lock.word) == 0);
    REQUIRE(atomic_load(&control->names.lock.word) == 0);
    REQUIRE(atomic_load(&control->arena_lock.word) == 0);
    REQUIRE(atomic_load(&control->stream_lock.word) == 0);
    REQUIRE(atomic_load(&control->resource_lock.word) == 0);
    REQUIRE(atomic_load(&control->lineage_lock.word) == 0);
    for (uint32_t i = 0; i < atomic_load(&control->n_shapes); i++)
        REQUIRE(atomic_load(&c->s->shapes[i].queue.lock.word) == 0);
    for (uint32_t i = 1; i < c->n_processes; i++)
        REQUIRE(atomic_load(&c->s->processes[i].queue.lock.word) == 0);
    REQUIRE(atomic_load(&control->actors.lock.word) == 0);
    for (uint32_t i = 1; i < c->n_actors; i++)
        REQUIRE(atomic_load(&c->s->actors[i].queue.lock.word) == 0);
    return 0;
}

static int check_magazine(Check *c, const PrProcess *p, uint32_t index) {
    REQUIRE(p->n_objects <= PR_MAGAZINE && p->n_tasks <= PR_MAGAZINE);
    for (uint32_t i = 0; i < p->n_objects; i++) {
        uint32_t slot = p->objects[i];
        REQUIRE(slot && slot < c->n_objects && !c->objects[slot]);
        REQUIRE(pr_state(object_word(c, slot)) == PR_OBJECT_CACHED);
        REQUIRE(atomic_load(&object_at(c, slot)->owner) == index);
        c->objects[slot] = IN_MAGAZINE;
    }
    for (uint32_t i = 0; i < p->n_tasks; i++) {
        uint32_t slot = p->tasks[i];
        REQUIRE(slot && slot < c->n_tasks && !c->tasks[slot]);
        REQUIRE(pr_state(task_word(c, slot)) == PR_TASK_CACHED);
        REQUIRE(atomic_load(&c->s->tasks[slot].owner) == index);
        c->tasks[slot] = IN_MAGAZINE;
    }
    return 0;
}

static int check_spares(Check *c, const PrProcess *p) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < PR_SPARES; i++) {
        uint32_t slot = p->spares[i].object;
        n += p->spares[i].n;
        if (!p->spares[i].n) continue;
        PASS(count_slot(c, slot));
        REQUIRE(slot % PR_SPARES == i);
        c->refs[slot] += p->spares[i].n - 1;
    }
    REQUIRE(n == p->n_spares);
    return 0;
}

static int check_references(Check *c, uint32_t index) {
    const _Atomic uint64_t *refs = pr_refs_of(c->s, index);
    for (uint32_t w = 0; w * 64 < c->n_objects; w++) {
        uint64_t bits = atomic_load(&refs[w]);
        uint64_t pins = atomic_load(&pr_pins_of(c->s, index)[w]);
        REQUIRE(!bits || is_live(c, index));
        REQUIRE(!(pins & ~bits)); /* who reads an object refers to it */
        for (; bits; bits &= bits - 1)
            PASS(count_slot(c, w * 64 + (uint32_t)__builtin_ctzll(bits)));
        for (; pins; pins &= pins - 1) c->pins[w * 64 + (uint32_t)__builtin_ctzll(pins)]++;
    }
    return 0;
}

/* What it waits for, or was given. */
static int check_wish(Check *c, const PrProcess *p) {
    uint64_t want = atomic_load(&p->want), granted = atomic_load(&p->granted);
    if (want && granted > PR_DENIED) return note_block(c, granted, want);
    REQUIRE((want == 0) == (granted == 0));
    return 0;
}

static int check_process(Check *c, uint32_t index) {
    const PrProcess *p = &c->s->processes[index];
    uint32_t state = atomic_load(&p->state), shape = atomic_load(&p->shape);
    uint64_t running = atomic_load(&p->running);
    REQUIRE(state == PR_PROCESS_FREE || state == PR_PROCESS_LIVE);
    REQUIRE(atomic_load(&p->busy) == 0);
    REQUIRE(atomic_load(&p->missing) <= INT32_MAX / 2);
    PASS(check_references(c, index));
    if (state == PR_PROCESS_FREE) {
        REQUIRE(atomic_load(&p->pid) == 0);
        REQUIRE(shape == PR_NO_SHAPE && atomic_load(&p->queue.count) == 0 && running == 0);
        return 0;
    }
    REQUIRE(atomic_load(&p->pid) != 0);
    REQUIRE(shape == PR_NO_SHAPE || shape < atomic_load(&c->s->control->n_shapes));
    REQUIRE(shape != PR_NO_SHAPE || !atomic_load(&p->gpus));
    REQUIRE(shape != PR_NO_SHAPE || !atomic_load(&p->blocked));
    if (running) {
        uint32_t task = pr_slot(running);
        REQUIRE(task && task < c->n_tasks);
        REQUIRE(pr_same(task_word(c, task), running));
        REQUIRE(pr_state(task_word(c, task)) == PR_TASK_RUNNING);
        REQUIRE(atomic_load(&c->s->tasks[task].worker) == index);
    }
    PASS(check_wish(c, p));
    PASS(check_spares(c, p));
    return check_magazine(c, p, index);
}

static int check_processes(Check *c) {
    PrControl *control = c->s->control;
    uint32_t n_idle = 0, n_wanting = 0;
    int32_t n_woken = 0;
    for (uint32_t i = 1; i < c->n_processes; i++) {
        PASS(check_process(c, i));
        n_wanting += is_live(c, i) && atomic_load(&c->s->processes[i].want);
        n_woken += is_live(c, i) && atomic_load(&c->s->processes[i].woken);
    }
    for (uint32_t i = 0; i < 64 * sizeof control->idle / sizeof *control->idle; i++) {
        if (!(atomic_load(&control->idle[i >> 6]) >> (i & 63) & 1)) continue;
        REQUIRE(is_live(c, i));
        n_idle++;
    }
    REQUIRE(n_idle == atomic_load(&control->n_idle) && n_woken == atomic_load(&control->n_woken));
    for (int i = 0; i < PR_SPINNERS; i++) {
        uint32_t spinner = atomic_load(&control->spinners[i]);
        REQUIRE(!spinner || is_live(c, spinner - 1));
    }
    REQUIRE(n_wanting == atomic_load(&control->n_wanting));
    /* What this process believes to hold, and to read. */
    for (uint32_t i = 0; c->s->held && i < c->n_objects; i++) {
        REQUIRE((c->s->held[i] != 0) == (atomic_load(&c->s->refs[i >> 6]) >> (i & 63) & 1));
        REQUIRE((c->s->pinned[i] != 0) == (atomic_load(&c->s->pins[i >> 6]) >> (i & 63) & 1));
    }
    return 0;
}

/* -- free lists and queues --------------------------------------------------------------------- */

static int check_free_objects(Check *c) {
    const PrTable *t = &c->s->control->objects;
    uint32_t n = 0;
    for (uint32_t slot = t->head; slot; slot = atomic_load(&object_at(c, slot)->next), n++) {
        REQUIRE(slot < c->n_objects && !c->objects[slot]);
        REQUIRE(pr_state(object_word(c, slot)) == PR_OBJECT_FREE);
        c->objects[slot] = IN_LIST;
    }
    REQUIRE(n == t->n_free && c->n_objects <= t->limit);
    return 0;
}

static int check_free_tasks(Check *c) {
    const PrTable *t = &c->s->control->tasks;
    uint32_t n = 0;
    for (uint32_t slot = t->head; slot; slot = atomic_load(&c->s->tasks[slot].next), n++) {
        REQUIRE(slot < c->n_tasks && !c->tasks[slot]);
        REQUIRE(pr_state(task_word(c, slot)) == PR_TASK_FREE);
        c->tasks[slot] = IN_LIST;
    }
    REQUIRE(n == t->n_free && c->n_tasks <= t->limit);
    return 0;
}

static int check_queue(Check *c, const PrQueue *q, uint32_t shape, uint32_t actor) {
    uint32_t n = 0, last = 0;
    for (uint32_t slot = q->head; slot; slot = atomic_load(&c->s->tasks[slot].next), n++) {
        REQUIRE(slot < c->n_tasks && !c->tasks[slot]);
        int state = pr_state(task_word(c, slot));
        REQUIRE(state == PR_TASK_READY || state == PR_TASK_CANCELLED);
        const PrTask *t = &c->s->tasks[slot];
        REQUIRE(t->flags & PR_TASK_CALL ? t->actor == actor : !actor && t->shape == shape);
        c->tasks[slot] = IN_QUEUE;
        last = slot;
    }
    REQUIRE(n == atomic_load(&q->count));
    REQUIRE(last == q->tail || !q->head);
    return 0;
}

static int check_queues(Check *c) {
    uint32_t n = atomic_load(&c->s->control->n_shapes);
    for (uint32_t i = 0; i < n; i++) PASS(check_queue(c, &c->s->shapes[i].queue, i, 0));
    for (uint32_t i = 1; i < c->n_processes; i++) {
        const PrProcess *p = &c->s->processes[i];
        PASS(check_queue(c, &p->queue, atomic_load(&p->shape), 0));
    }
    for (uint32_t i = 1; i < c->n_actors; i++)
        PASS(check_queue(c, &c->s->actors[i].queue, PR_NO_SHAPE, i));
    return 0;
}

/* -- tasks ------------------------------------------------------------------------------------- */

static int check_returns(Check *c, uint32_t task) {
    const PrTask *t = &c->s->tasks[task];
    uint32_t n = 0;
    for (uint32_t slot = pr_first_result(t); slot; slot = pr_next_result(c->s, t, slot), n++) {
        PASS(count_slot(c, slot));
        REQUIRE(!c->objects[slot]);
        c->objects[slot] = IN_RETURNS;
        int state = pr_state(object_word(c, slot));
        REQUIRE(state != PR_OBJECT_RESERVED);
        REQUIRE(state != PR_OBJECT_PENDING || atomic_load(&object_at(c, slot)->owner) == task);
    }
    REQUIRE(n == t->n_returns || t->flags & PR_TASK_ITEMS);
    return 0;
}

/* One that is not over: what it holds. */
static int check_pending(Check *c, uint32_t task) {
    const PrTask *t = &c->s->tasks[task];
    const PrDependency *d = pr_dependencies(c->s, t);
    if (t->flags & PR_TASK_CALL) c->calls[t->actor] += !(t->flags & PR_TASK_OVER);
    else REQUIRE(t->shape < atomic_load(&c->s->control->n_shapes));
    REQUIRE((t->dependencies != 0) == (t->n_dependencies > PR_INLINE_DEPENDENCIES));
    if (t->dependencies)
        PASS(note_block(c, t->dependencies, t->n_dependencies * sizeof(PrDependency)));
    for (uint32_t k = 0; k < t->n_dependencies; k++) PASS(count_handle(c, d[k].object));
    if (t->arguments) PASS(count_handle(c, t->arguments));
    if (t->label) PASS(count_slot(c, t->label));
    return check_returns(c, task);
}

/* -- lineage ----------------------------------------------------------------------------------- */

static void count_wanted(const Check *c, PrHandle h) {
    if (pr_same(object_word(c, pr_slot(h)), h)) c->wanted[pr_slot(h)]++;
}

/* One that is DONE: it holds what has no lineage of its own. */
static int check_done(Check *c, uint32_t task) {
    const PrTask *t = &c->s->tasks[task];
    const PrDependency *d = pr_dependencies(c->s, t);
    uint32_t wanted = 0, n;
    const uint64_t *nested = pr_nested(c->s, t, &n);
    REQUIRE((t->dependencies != 0) == (t->n_dependencies > PR_INLINE_DEPENDENCIES));
    if (t->dependencies)
        PASS(note_block(c, t->dependencies, t->n_dependencies * sizeof(PrDependency)));
    for (uint32_t k = 0; k < t->n_dependencies; k++) {
        if (pr_is_weak(&d[k])) count_wanted(c, d[k].object);
        else PASS(count_handle(c, d[k].object));
    }
    for (uint32_t k = 0; k < n; k++)
        if (nested[k] & PR_UNHELD) count_wanted(c, nested[k] & ~PR_UNHELD);
    if (t->arguments) PASS(count_handle(c, t->arguments));
    if (t->label) PASS(count_slot(c, t->label));
    for (uint32_t slot = pr_first_result(t); slot; slot = pr_next_result(c->s, t, slot)) {
        PrObject *o = object_at(c, slot);
        REQUIRE(slot < c->n_objects && !c->objects[slot]);
        REQUIRE(pr_state(object_word(c, slot)) == PR_OBJECT_SEALED);
        c->objects[slot] = IN_RETURNS;
        if (object_word(c, slot) & PR_LINEAGE) {
            REQUIRE(pr_maker(o) == task);
            REQUIRE(atomic_load(&o->refs) || pr_is_gone(o)); /* nobody holds it: no value */
            wanted |= atomic_load(&o->refs) || pr_copy_of(o)->wanted;
        } else {
            PASS(count_slot(c, slot));
        }
    }
    REQUIRE(wanted);
    return 0;
}

static int check_lineage(Check *c) {
    const PrControl *control = c->s->control;
    uint32_t n = 0, n_early = 0, before = 0;
    uint64_t bytes = 0;
    for (uint32_t i = control->lineage_first; i; i = atomic_load(&c->s->tasks[i].next), n++) {
        REQUIRE(i < c->n_tasks && !c->tasks[i] && pr_is_done(&c->s->tasks[i]));
        REQUIRE(atomic_load(&c->s->tasks[i].missing) == before);
        c->tasks[i] = IN_LINEAGE;
        bytes += atomic_load(&c->s->tasks[i].follower);
        n_early += (c->s->tasks[i].flags & PR_TASK_EARLY) != 0;
        PASS(check_done(c, i));
        before = i;
    }
    REQUIRE(control->lineage_last == before && control->n_lineage == n);
    REQUIRE(control->n_early == n_early);
    REQUIRE(control->lineage_bytes == bytes);
    return 0;
}

/* -- tasks, and what waits for them ------------------------------------------------------------ */

/* It holds back no other. */
static int is_released(const PrTask *t) {
    return (uint32_t)atomic_load(&t->follower) == PR_RELEASED;
}

/* A call that its actor's process has taken out of the queue, and knows by itself. */
static int is_taken(const Check *c, const PrTask *t) {
    if (!(t->flags & PR_TASK_CALL)) return 0;
    return is_live(c, atomic_load(&c->s->actors[t->actor].worker)) && is_released(t);
}

static int actor_lives(const Check *c, uint32_t actor) {
    return pr_state(atomic_load(&c->s->actors[actor].state)) == PR_ACTOR_LIVE;
}

static int check_task(Check *c, uint32_t task) {
    const PrTask *t = &c->s->tasks[task];
    uint64_t word = task_word(c, task);
    uint32_t missing = atomic_load(&t->missing), put_off = (t->flags & PR_TASK_PUT_OFF) != 0;
    uint32_t follows = c->follows[task] ? PR_FOLLOWS : 0;
    uint32_t waits = c->edges[task] + follows + put_off;
    uint8_t in = c->tasks[task];
    switch (pr_state(word)) {
    case PR_TASK_FREE: REQUIRE(in == IN_LIST && !t->dependencies); return 0;
    case PR_TASK_CACHED: REQUIRE(in == IN_MAGAZINE && !t->dependencies); return 0;
    case PR_TASK_WAITING:
        REQUIRE(!in && missing && missing == waits);
        REQUIRE(!(t->flags & PR_TASK_CALL) || actor_lives(c, t->actor));
        break;
    case PR_TASK_READY: REQUIRE((in == IN_QUEUE || is_taken(c, t)) && !c->edges[task]); break;
    case PR_TASK_RUNNING:
        REQUIRE(!in && !c->edges[task] && is_live(c, atomic_load(&t->worker)));
        break;
    case PR_TASK_CANCELLED:
        REQUIRE(word & PR_CANCEL && !(word & PR_POPPED));
        if (waits) {
            REQUIRE(!in && missing == waits);
            REQUIRE(!(t->flags & PR_TASK_CALL) || follows || is_released(t));
        } else {
            REQUIRE(!(t->flags & PR_TASK_OVER) && (in == IN_QUEUE || is_taken(c, t)));
        }
        break;
    case PR_TASK_DONE: REQUIRE(in == IN_LINEAGE); return 0;
    default: REQUIRE(0);
    }
    PASS(check_pending(c, task));
    /* It need not wait for what was lost, and is made again, since it was submitted. */
    uint32_t pending = 0, again = 0;
    for (uint32_t k = 0; k < t->n_dependencies; k++) {
        uint64_t dependency = object_word(c, pr_dependency(c->s, t, k));
        pending += !pr_is_ready(dependency);
        again += !pr_is_ready(dependency) && dependency & PR_LINEAGE;
    }
    missing -= follows + put_off;
    REQUIRE(pr_state(word) != PR_TASK_WAITING ||
            (missing <= pending && missing + again >= pending));
    REQUIRE(!put_off || pr_state(word) == PR_TASK_WAITING || pr_state(word) == PR_TASK_CANCELLED);
    return 0;
}

/* Calls that wait until others are in the queue. */
static int check_followers(Check *c) {
    for (uint32_t i = 1; i < c->n_tasks; i++) {
        const PrTask *t = &c->s->tasks[i];
        int state = pr_state(task_word(c, i));
        uint32_t follower = (uint32_t)atomic_load(&t->follower);
        if (state < PR_TASK_WAITING || state > PR_TASK_CANCELLED || !(t->flags & PR_TASK_CALL))
            continue;
        REQUIRE(state != PR_TASK_READY || follower == PR_RELEASED);
        if (follower == PR_RELEASED || !follower) continue;
        REQUIRE(follower < c->n_tasks && !c->follows[follower]);
        int theirs = pr_state(task_word(c, follower));
        REQUIRE(theirs == PR_TASK_WAITING || theirs == PR_TASK_CANCELLED);
        REQUIRE(c->s->tasks[follower].actor == t->actor);
        c->follows[follower] = 1;
    }
    return 0;
}

/* Those who wait for an object. */
static int check_dependants(Check *c, uint32_t slot) {
    uint64_t edge = atomic_load(&object_at(c, slot)->dependants);
    while (edge) {
        uint32_t task = (uint32_t)(edge >> 32), k = (uint32_t)edge - 1;
        REQUIRE(edge != PR_CLOSED && task && task < c->n_tasks);
        int state = pr_state(task_word(c, task));
        REQUIRE(state == PR_TASK_WAITING || state == PR_TASK_CANCELLED);
        const PrTask *t = &c->s->tasks[task];
        REQUIRE(k < t->n_dependencies && c->edges[task] < t->n_dependencies);
        const PrDependency *d = &pr_dependencies(c->s, t)[k];
        REQUIRE(d->object == pr_handle(object_word(c, slot), slot));
        c->edges[task]++;
        edge = atomic_load(&d->next);
    }
    return 0;
}

/* -- objects ----------------------------------------------------------------------------------- */

static int check_stream(Check *c, PrObject *o) {
    const PrStream *st = (const PrStream *)(void *)o->bytes;
    uint32_t n = 0, last = 0;
    for (uint32_t slot = st->first; slot; slot = atomic_load(&object_at(c, slot)->next), n++) {
        REQUIRE(n < c->n_objects);
        PASS(count_slot(c, slot));
        REQUIRE(pr_is_ready(object_word(c, slot)));
        last = slot;
    }
    REQUIRE(!st->first || last == st->last);
    REQUIRE(atomic_load(&st->produced) - atomic_load(&st->taken) == n);
    return 0;
}

/* One with a block, or that had one. */
static int check_copy(Check *c, PrObject *o, uint64_t word) {
    const PrCopy *copy = pr_copy_of(o);
    uint32_t file = atomic_load(&copy->file);
    REQUIRE(atomic_load(&copy->pins) == c->pins[o - c->s->objects]);
    REQUIRE(file < atomic_load(&c->s->control->n_files));
    if (file) {
        REQUIRE(atomic_load(&c->s->files[file].state) != PR_FILE_FREE);
        c->files[file]++;
    }
    if (!(word & PR_OUT)) {
        REQUIRE(o->place && !copy->handles && !copy->incoming && !(word & PR_FETCH));
        return 0;
    }
    REQUIRE(!o->place && !atomic_load(&copy->pins) && pr_state(word) == PR_OBJECT_SEALED);
    REQUIRE((o->n_refs > 0) == (copy->handles > 0));
    if (copy->handles) PASS(note_block(c, copy->handles, 8ull * o->n_refs));
    if (copy->incoming) PASS(note_block(c, copy->incoming, pr_block_size(o->size, o->n_refs)));
    return 0;
}

static int check_files(const Check *c) {
    for (uint32_t i = 1; i < atomic_load(&c->s->control->n_files); i++) {
        const PrFile *f = &c->s->files[i];
        uint32_t state = atomic_load(&f->state);
        REQUIRE(state <= PR_FILE_WHOLE);
        if (state == PR_FILE_FREE) continue;
        REQUIRE(atomic_load(&f->live) == c->files[i] + (state == PR_FILE_WRITING));
    }
    return 0;
}

static int check_contents(Check *c, PrObject *o) {
    uint64_t word = atomic_load(&o->state);
    REQUIRE(o->place || !o->n_refs || word & PR_OUT);
    REQUIRE(!(word & PR_BLOCK) == !(o->place || word & PR_OUT));
    REQUIRE(!pr_maker(o) || pr_copy_of(o)->wanted == c->wanted[o - c->s->objects]);
    if (word & PR_BLOCK && !(word & PR_ACTOR)) PASS(check_copy(c, o, word));
    for (uint32_t i = 0; i < o->n_refs; i++)
        if (!(pr_refs_in(c->s, o)[i] & PR_UNHELD)) PASS(count_handle(c, pr_refs_in(c->s, o)[i]));
    REQUIRE(atomic_load(&o->dependants) == PR_CLOSED);
    REQUIRE(o->place || word & PR_OUT || o->size <= pr_inline_room(o));
    return 0;
}

/* What it holds, and who is to make it. */
static int check_object(Check *c, uint32_t slot) {
    PrObject *o = object_at(c, slot);
    uint64_t word = object_word(c, slot);
    uint32_t owner = atomic_load(&o->owner);
    uint8_t in = c->objects[slot];
    int state = pr_state(word);
    if (state == PR_OBJECT_FREE || state == PR_OBJECT_CACHED) {
        REQUIRE(in == (state == PR_OBJECT_FREE ? IN_LIST : IN_MAGAZINE));
        REQUIRE(!o->place && !o->n_refs);
        return 0;
    }
    REQUIRE(state <= PR_OBJECT_FAILED && in != IN_LIST && in != IN_MAGAZINE);
    if (o->place) PASS(note_block(c, o->place, pr_block_size(o->size, o->n_refs)));
    if (word & PR_STREAM) PASS(check_stream(c, o));
    if (state == PR_OBJECT_SEALED || state == PR_OBJECT_FAILED) return check_contents(c, o);
    if (state == PR_OBJECT_RESERVED) {
        REQUIRE(is_live(c, owner));
        REQUIRE(atomic_load(&pr_refs_of(c->s, owner)[slot >> 6]) >> (slot & 63) & 1);
    } else {
        REQUIRE(in == IN_RETURNS && !(word & PR_CODE));
        REQUIRE(!o->place || pr_state(task_word(c, owner)) == PR_TASK_RUNNING);
    }
    return 0;
}

static int check_objects(Check *c) {
    for (uint32_t i = 1; i < c->n_objects; i++) {
        int state = pr_state(object_word(c, i));
        if (state == PR_OBJECT_PENDING || state == PR_OBJECT_RESERVED) PASS(check_dependants(c, i));
    }
    PASS(check_followers(c));
    for (uint32_t i = 1; i < c->n_tasks; i++) PASS(check_task(c, i));
    for (uint32_t i = 1; i < c->n_objects; i++) PASS(check_object(c, i));
    return 0;
}

static int check_refs(const Check *c) {
    for (uint32_t i = 1; i < c->n_objects; i++) {
        int state = pr_state(object_word(c, i));
        if (state < PR_OBJECT_RESERVED) continue;
        /* That of an actor stays as long as it has to, and so does what can be made again. */
        REQUIRE(c->refs[i] > 0 || object_word(c, i) & PR_ACTOR || pr_maker(object_at(c, i)));
        REQUIRE(c->refs[i] == atomic_load(&object_at(c, i)->refs));
    }
    return 0;
}

/* -- actors ------------------------------------------------------------------------------------ */

/* It holds its death; what it is called, and its object, are its own. */
static int check_actor(Check *c, uint32_t actor) {
    const PrActor *a = &c->s->actors[actor];
    PrHandle creation = atomic_load(&a->creation);
    const PrTask *t = &c->s->tasks[pr_slot(creation)];
    int state = pr_state(atomic_load(&a->state));
    if (state == PR_ACTOR_FREE) {
        REQUIRE(a->death == 0 && atomic_load(&a->queue.count) == 0);
        return 0;
    }
    uint64_t word = object_word(c, a->object);
    REQUIRE(word & PR_ACTOR && pr_state(word) == PR_OBJECT_SEALED);
    REQUIRE(*pr_actor_in(object_at(c, a->object)) == actor);
    if (a->death) PASS(count_handle(c, a->death));
    if (state == PR_ACTOR_DEAD) {
        REQUIRE(!a->death || pr_is_ready(object_word(c, pr_slot(a->death))));
        REQUIRE(atomic_load(&a->queue.count) == 0);
        return 0;
    }
    REQUIRE(pr_same(atomic_load(&t->state), creation) && t->flags & PR_TASK_CREATION);
    REQUIRE(t->actor == actor && a->death);
    if (atomic_load(&a->flags) & PR_ACTOR_DETACHED) PASS(count_slot(c, a->object));
    return 0;
}

static int check_actors(Check *c) {
    const PrTable *t = &c->s->control->actors;
    uint32_t n_free = 0, n_there = 0;
    for (uint32_t i = t->head; i; i = c->s->actors[i].next, n_free++) {
        REQUIRE(i < c->n_actors && n_free < c->n_actors);
        REQUIRE(pr_state(atomic_load(&c->s->actors[i].state)) == PR_ACTOR_FREE);
    }
    for (uint32_t i = 1; i < c->n_actors; i++) {
        PASS(check_actor(c, i));
        n_there += pr_state(atomic_load(&c->s->actors[i].state)) != PR_ACTOR_FREE;
    }
    REQUIRE(n_free == t->n_free && n_free + n_there + 1 == c->n_actors);
    return 0;
}

/* Once all tasks were looked at. */
static int check_calls(const Check *c) {
    for (uint32_t i = 1; i < c->n_actors; i++) {
        const PrActor *a = &c->s->actors[i];
        if (pr_state(atomic_load(&a->state)) == PR_ACTOR_FREE) {
            REQUIRE(c->calls[i] == 0);
        } else {
            uint32_t n = pr_pending_calls(a);
            REQUIRE(n == c->calls[i]);
            int gone = pr_state(atomic_load(&a->state)) == PR_ACTOR_DEAD && !n;
            REQUIRE(!gone || c->refs[a->object] > 0);
        }
    }
    return 0;
}

/* -- names ------------------------------------------------------------------------------------- */

static int check_names(Check *c) {
    const PrSession *s = c->s;
    const PrTable *t = &s->control->names;
    uint32_t used = atomic_load(&t->used), n_free = 0, n_named = 0;
    for (uint32_t i = t->head; i; i = s->names[i].next, n_free++) {
        REQUIRE(i < used && n_free < used);
        REQUIRE(atomic_load(&s->names[i].handle) == 0);
    }
    for (uint32_t i = 1; i < used; i++) {
        PrHandle handle = atomic_load(&s->names[i].handle);
        uint32_t found = 0, steps = 0;
        if (!handle) continue;
        n_named++;
        PASS(count_handle(c, handle));
        uint32_t at = s->buckets[pr_name_bucket(s, s->names[i].key)];
        for (; at; at = s->names[at].next, steps++) {
            REQUIRE(at < used && steps < used && atomic_load(&s->names[at].handle));
            found += at == i;
            REQUIRE(at == i || memcmp(s->names[at].key, s->names[i].key, 24) != 0);
        }
        REQUIRE(found == 1);
    }
    REQUIRE(n_free == t->n_free && n_free + n_named + 1 == used);
    return 0;
}

/* -- resources and memory ---------------------------------------------------------------------- */

static int check_resources(const Check *c) {
    PrControl *control = c->s->control;
    int64_t available[PR_RESOURCES], gpus[PR_GPUS];
    for (int i = 0; i < PR_RESOURCES; i++) available[i] = control->resources[i].total;
    for (int g = 0; g < PR_GPUS; g++) gpus[g] = pr_gpu_total(available[PR_GPU], g);
    for (uint32_t i = 1; i < c->n_processes; i++) {
        const PrProcess *p = &c->s->processes[i];
        uint32_t index = atomic_load(&p->shape);
        if (!is_live(c, i) || index == PR_NO_SHAPE) continue;
        const PrShape *shape = &c->s->shapes[index];
        for (uint32_t k = 0; k < shape->n_needs; k++)
            if (shape->needs[k].kind != PR_CPU || !atomic_load(&p->blocked))
                available[shape->needs[k].kind] -= shape->needs[k].amount;
        for (int g = 0; g < PR_GPUS; g++)
            if (atomic_load(&p->gpus) >> g & 1) gpus[g] -= p->gpu_amount;
    }
    for (int i = 0; i < PR_RESOURCES; i++) {
        REQUIRE(available[i] == atomic_load(&control->resources[i].available));
        REQUIRE(i == PR_CPU || available[i] >= 0);
    }
    for (int g = 0; g < PR_GPUS; g++)
        REQUIRE(gpus[g] >= 0 && gpus[g] == atomic_load(&control->gpu_free[g]));
    REQUIRE(atomic_load(&control->starving) <= atomic_load(&control->n_shapes));
    return 0;
}

static int check_memory(const Check *c) {
    PrArenaStats stats;
    int line = pr_arena_check(c->s->arena);
    if (line) return PR_CHECK_ARENA + line;
    pr_arena_stats(c->s->arena, &stats);
    REQUIRE(stats.blocks == c->blocks);
    REQUIRE(stats.used == c->units * PR_ARENA_UNIT);
    return 0;
}

/* -- the whole --------------------------------------------------------------------------------- */

static int check_all(Check *c) {
    PASS(check_locks(c));
    PASS(check_free_objects(c));
    PASS(check_free_tasks(c));
    PASS(check_processes(c));
    PASS(check_queues(c));
    PASS(check_names(c));
    PASS(check_actors(c));
    PASS(check_lineage(c));
    PASS(check_objects(c));
    PASS(check_files(c));
    PASS(check_calls(c));
    PASS(check_refs(c));
    PASS(check_resources(c));
    return check_memory(c);
}

int pr_check(const PrSession *s) {
    Check c = {.s = s};
    int line = __LINE__;
    c.n_objects = atomic_load(&s->control->objects.used);
    c.n_tasks = atomic_load(&s->control->tasks.used);
    c.n_actors = atomic_load(&s->control->actors.used);
    c.n_processes = atomic_load(&s->control->n_processes);
    c.refs = calloc(c.n_objects, sizeof *c.refs);
    c.edges = calloc(c.n_tasks, sizeof *c.edges);
    c.calls = calloc(c.n_actors, sizeof *c.calls);
    c.pins = calloc(c.n_objects + 64, sizeof *c.pins);
    c.wanted = calloc(c.n_objects, sizeof *c.wanted);
    c.files = calloc(atomic_load(&s->control->n_files), sizeof *c.files);
    c.objects = calloc(c.n_objects, 1);
    c.tasks = calloc(c.n_tasks, 1);
    c.follows = calloc(c.n_tasks, 1);
    if (c.refs && c.edges && c.calls && c.pins && c.wanted && c.files && c.objects && c.tasks &&
        c.follows)
        line = check_all(&c);
    free(c.refs);
    free(c.edges);
    free(c.calls);
    free(c.pins);
    free(c.wanted);
    free(c.files);
    free(c.objects);
    free(c.tasks);
    free(c.follows);
    return line;
}

uint32_t pr_count_objects(const PrSession *s, PrObjectState state) {
    uint32_t n = 0, used = atomic_load(&s->control->objects.used);
    for (uint32_t i = 1; i < used; i++)
        n += pr_state(atomic_load(&s->objects[i].state)) == (int)state;
    return n;
}

uint32_t pr_count_tasks(const PrSession *s, PrTaskState state) {
    uint32_t n = 0, used = atomic_load(&s->control->tasks.used);
    for (uint32_t i = 1; i < used; i++)
        n += pr_state(atomic_load(&s->tasks[i].state)) == (int)state;
    return n;
}
