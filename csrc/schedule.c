/* Who runs what, when: resources, queues, idle workers; see task.h.
 *
 * Tasks of one shape wait in one queue. A worker acquires the shape's resources, moves a batch of
 * its tasks to its own queue, and keeps the resources while it finds more; idle workers hold none.
 * A worker's own queue may be stolen from.
 *
 * No wake-up is lost: who queues a task looks at the idle workers afterwards; a worker says that it
 * is idle before it looks at the queues for the last time.
 *
 * After a crash: `shape`, `blocked`, `gpus` and `running` of process slots, and the states of
 * tasks, are the truth, of which queues, idle bits and what is available are made.
 */
#include "futex.h"
#include "object.h"
#include "task.h"

#include <string.h>

enum {
    BATCH = 32,
    BATCH_TIME = 100000, /* ns of work that one worker takes at a time */
    PATIENCE = 100000000 /* ns that a starving shape has room left for it; doubles */
};

#define PATIENCE_MOST (100 * (int64_t)PATIENCE)

/* -- queues ------------------------------------------------------------------------------------ */

/* Under the lock, whose release orders it before what the caller looks at next. */
static void add_to_count(PrQueue *q, uint32_t n) {
    uint32_t count = atomic_load_explicit(&q->count, memory_order_relaxed);
    atomic_store_explicit(&q->count, count + n, memory_order_release);
}

void pr_queue_append(PrSession *s, PrQueue *q, uint32_t head, uint32_t tail, uint32_t n) {
    if (q->head) {
        atomic_store_explicit(&s->tasks[q->tail].next, head, memory_order_relaxed);
    } else {
        q->head = head;
    }
    pr_crash_point();
    q->tail = tail;
    add_to_count(q, n);
}

uint32_t pr_queue_detach(PrSession *s, PrQueue *q, uint32_t *n, uint32_t *tail) {
    uint32_t head = q->head, at = head, taken = 1;
    uint32_t count = atomic_load_explicit(&q->count, memory_order_relaxed);
    if (!head) return *n = 0;
    if (count <= *n) { /* all, without a look at each: they are in another core's cache */
        at = q->tail;
        taken = count;
    }
    for (; taken < *n && taken < count; taken++)
        at = atomic_load_explicit(&s->tasks[at].next, memory_order_relaxed);
    q->head = atomic_load_explicit(&s->tasks[at].next, memory_order_relaxed);
    atomic_store_explicit(&s->tasks[at].next, 0, memory_order_relaxed);
    pr_crash_point();
    if (!q->head) q->tail = 0;
    add_to_count(q, 0 - taken);
    *n = taken;
    *tail = at;
    return head;
}

/* Tasks that were submitted before those in the queue and had to wait for others: what they need
 * was made just now, lies in the caches, and can be given up after them. */
static void prepend(PrSession *s, PrQueue *q, uint32_t head, uint32_t tail, uint32_t n) {
    atomic_store_explicit(&s->tasks[tail].next, q->head, memory_order_relaxed);
    q->head = head;
    pr_crash_point();
    add_to_count(q, n);
}

void pr_queue_tasks(PrSession *s, uint32_t shape, uint32_t head, uint32_t tail, uint32_t n,
                    uint64_t epoch) {
    PrQueue *q = &s->shapes[shape].queue;
    pr_lock(s, &q->lock);
    if (pr_epoch(s) == epoch) {
        if (q->head && s->tasks[head].sequence < s->tasks[q->head].sequence) {
            prepend(s, q, head, tail, n);
        } else {
            pr_queue_append(s, q, head, tail, n);
        }
    }
    pr_unlock(&q->lock);
    pr_kick(s, shape);
    /* More at once: others wake their neighbours when they find more than they take. */
}

/* Moves tasks of a shape from one queue to another. Two locks are never held: in between the tasks
 * are in neither, which a rebuild would see to. A process' queue has tasks of one shape at a time,
 * but by now perhaps of another one than who steals from it has resources for. */
static uint32_t move(PrSession *s, uint32_t shape, PrQueue *from, PrQueue *to, uint32_t n) {
    uint32_t tail = 0, head = 0;
    pr_lock(s, &from->lock);
    uint64_t epoch = pr_epoch(s);
    if (from->head && s->tasks[from->head].shape == shape) {
        head = pr_queue_detach(s, from, &n, &tail);
    } else {
        n = 0;
    }
    pr_unlock(&from->lock);
    if (!n) return 0;
    pr_lock(s, &to->lock);
    if (pr_epoch(s) == epoch) {
        pr_queue_append(s, to, head, tail, n);
    } else {
        n = 0;
    }
    pr_unlock(&to->lock);
    return n;
}

/* -- resources --------------------------------------------------------------------------------- */

int pr_resource(PrSession *s, const char *name, int64_t total) {
    PrControl *c = s->control;
    uint32_t i, n;
    pr_enter(s);
    pr_lock(s, &c->resource_lock);
    n = atomic_load(&c->n_resources);
    for (i = 0; i < n && strncmp(c->resources[i].name, name, PR_NAME_SIZE); i++) {
    }
    if (i < PR_RESOURCES && strlen(name) < PR_NAME_SIZE) {
        strcpy(c->resources[i].name, name);
        if (total >= 0) {
            int64_t before = atomic_exchange(&c->resources[i].total, total);
            atomic_fetch_add(&c->resources[i].available, total - before);
            for (int g = 0; i == PR_GPU && g < PR_GPUS; g++)
                atomic_fetch_add(&c->gpu_free[g], pr_gpu_total(total, g) - pr_gpu_total(before, g));
        }
        if (i == n) atomic_store(&c->n_resources, n + 1);
    } else {
        i = PR_RESOURCES;
    }
    pr_unlock(&c->resource_lock);
    pr_leave(s);
    return i < PR_RESOURCES ? (int)i : PR_LIMIT;
}

static int same_shape(const PrShape *a, const PrNeed *needs, uint32_t n, uint32_t env) {
    if (a->env != env || a->n_needs != n) return 0;
    for (uint32_t i = 0; i < n; i++)
        if (a->needs[i].kind != needs[i].kind || a->needs[i].amount != needs[i].amount) return 0;
    return 1;
}

int pr_shape(PrSession *s, const PrNeed *needs, uint32_t n, uint32_t env) {
    PrControl *c = s->control;
    uint32_t i, n_shapes;
    if (n > PR_SHAPE_RESOURCES) return PR_LIMIT;
    pr_enter(s);
    pr_lock(s, &c->resource_lock);
    n_shapes = atomic_load(&c->n_shapes);
    for (i = 0; i < n_shapes && !same_shape(&s->shapes[i], needs, n, env); i++) {
    }
    if (i == n_shapes && i < PR_SHAPES) {
        PrShape *shape = &s->shapes[i];
        shape->env = env;
        shape->n_needs = n;
        if (n) memcpy(shape->needs, needs, n * sizeof *needs);
        atomic_store(&c->n_shapes, i + 1);
    }
    pr_unlock(&c->resource_lock);
    pr_leave(s);
    return i < PR_SHAPES ? (int)i : PR_LIMIT;
}

int64_t pr_gpu_total(int64_t total, int gpu) {
    int64_t rest = total - (int64_t)gpu * PR_UNIT;
    return rest <= 0 ? 0 : rest < PR_UNIT ? rest : PR_UNIT;
}

/* Bits of GPUs for an amount: whole ones, or a part of the fullest that has room. 0: none fit,
 * though there may be as much in parts. */
static uint64_t find_gpus(const PrControl *c, int64_t amount) {
    uint64_t bits = 0;
    int64_t left = amount, least = INT64_MAX;
    for (int g = 0; g < PR_GPUS && left > 0; g++) {
        int64_t free = atomic_load_explicit(&c->gpu_free[g], memory_order_relaxed);
        if (amount < PR_UNIT && free >= amount && free < least) {
            least = free;
            bits = (uint64_t)1 << g;
        } else if (amount >= PR_UNIT && free == PR_UNIT) {
            left -= PR_UNIT;
            bits |= (uint64_t)1 << g;
        }
    }
    return amount >= PR_UNIT && left > 0 ? 0 : bits;
}

/* Under resource_lock. */
static int take_gpus(PrControl *c, PrProcess *self, int64_t amount) {
    uint64_t bits = find_gpus(c, amount);
    self->gpu_amount = amount < PR_UNIT ? amount : PR_UNIT;
    for (int g = 0; g < PR_GPUS; g++)
        if (bits >> g & 1) atomic_fetch_sub(&c->gpu_free[g], self->gpu_amount);
    atomic_store(&self->gpus, bits);
    return bits != 0;
}

/* Whether that much of a resource is free now. */
static int is_free(const PrControl *c, PrNeed need) {
    if (need.amount > atomic_load(&c->resources[need.kind].available)) return 0;
    return need.kind != PR_GPU || need.amount <= 0 || find_gpus(c, need.amount) != 0;
}

int pr_fits(const PrSession *s, const PrShape *shape, int ever) {
    const PrControl *c = s->control;
    for (uint32_t i = 0; i < shape->n_needs; i++) {
        PrNeed need = shape->needs[i];
        if (ever ? need.amount > c->resources[need.kind].total : !is_free(c, need)) return 0;
    }
    return 1;
}

static int64_t need_of(const PrShape *shape, uint32_t kind) {
    for (uint32_t i = 0; i < shape->n_needs; i++)
        if (shape->needs[i].kind == kind) return shape->needs[i].amount;
    return 0;
}

/* -- shapes that starve ------------------------------------------------------------------------ */

/* A shape that found no room while others did has some left for it: the others take nothing of what
 * it lacks, or would lack then. But if it lacks something, they may take all else: what it waits
 * for may wait for them. And not for good, as what it lacks may be an actor's: the rule holds for a
 * while, then for three times as long it does not, then for twice the while. */

/* Nanoseconds until others need not leave room any more; <= 0: they need not now. */
static int64_t patience_left(const PrControl *c) {
    if (!atomic_load(&c->starving)) return 0;
    return atomic_load(&c->starving_since) + atomic_load(&c->patience) - pr_now();
}

static void starve(PrControl *c, uint32_t shape) {
    uint32_t now = 0;
    if (atomic_compare_exchange_strong(&c->starving, &now, shape + 1)) {
        atomic_store(&c->patience, PATIENCE);
        atomic_store(&c->starving_since, pr_now());
    } else if (now == shape + 1) {
        int64_t patience = atomic_load(&c->patience);
        if (patience_left(c) > -3 * patience) return;
        atomic_store(&c->patience, patience < PATIENCE_MOST ? 2 * patience : patience);
        atomic_store(&c->starving_since, pr_now());
    }
}

/* 1 if it was the one that starved. */
static int had_its_turn(PrControl *c, uint32_t shape) {
    uint32_t now = shape + 1;
    return atomic_compare_exchange_strong(&c->starving, &now, 0);
}

static int leaves_room(const PrSession *s, uint32_t shape) {
    const PrControl *c = s->control;
    uint32_t starving = atomic_load(&c->starving);
    if (!starving || starving == shape + 1) return 1;
    const PrShape *mine = &s->shapes[shape], *theirs = &s->shapes[starving - 1];
    int fits = pr_fits(s, theirs, 0);
    for (uint32_t i = 0; i < theirs->n_needs; i++) {
        PrNeed need = theirs->needs[i];
        int64_t taken = need_of(mine, need.kind);
        if (fits) need.amount += taken;
        if (taken > 0 && !is_free(c, need)) return patience_left(c) <= 0;
    }
    return 1;
}

/* -- taking and giving back -------------------------------------------------------------------- */

/* This worker gets the shape's resources: 1, or 0 if they are not free. It holds none. */
static int acquire(PrSession *s, uint32_t index) {
    PrControl *c = s->control;
    const PrShape *shape = &s->shapes[index];
    int64_t gpus = need_of(shape, PR_GPU);
    int fits;
    pr_lock(s, &c->resource_lock);
    fits = pr_fits(s, shape, 0) && leaves_room(s, index) && (!gpus || take_gpus(c, s->self, gpus));
    if (fits) {
        for (uint32_t i = 0; i < shape->n_needs; i++)
            atomic_fetch_sub(&c->resources[shape->needs[i].kind].available, shape->needs[i].amount);
        atomic_store(&s->self->shape, index);
        had_its_turn(c, index);
    }
    pr_unlock(&c->resource_lock);
    return fits;
}

/* Returns 1 if it held any: others may wait for them, and have to be told. */
static int release(PrSession *s) {
    PrControl *c = s->control;
    PrProcess *self = s->self;
    uint32_t index = atomic_load(&self->shape);
    if (index == PR_NO_SHAPE) return 0;
    pr_lock(s, &c->resource_lock);
    const PrShape *shape = &s->shapes[index];
    for (uint32_t i = 0; i < shape->n_needs; i++)
        if (!atomic_load(&self->blocked) || shape->needs[i].kind != PR_CPU)
            atomic_fetch_add(&c->resources[shape->needs[i].kind].available, shape->needs[i].amount);
    for (int g = 0; g < PR_GPUS; g++)
        if (atomic_load(&self->gpus) >> g & 1) atomic_fetch_add(&c->gpu_free[g], self->gpu_amount);
    atomic_store(&self->shape, PR_NO_SHAPE);
    atomic_store(&self->gpus, 0);
    atomic_store(&self->blocked, 0);
    pr_unlock(&c->resource_lock);
    return 1;
}

static void shift_cpu(PrSession *s, int blocked) {
    PrControl *c = s->control;
    uint32_t index = atomic_load(&s->self->shape);
    if (index == PR_NO_SHAPE || (int)atomic_load(&s->self->blocked) == blocked) return;
    int64_t amount = need_of(&s->shapes[index], PR_CPU);
    pr_lock(s, &c->resource_lock);
    atomic_store(&s->self->blocked, (uint32_t)blocked);
    atomic_fetch_add(&c->resources[PR_CPU].available, blocked ? amount : -amount);
    pr_unlock(&c->resource_lock);
}

/* -- idle workers ------------------------------------------------------------------------------ */

static void say_idle(PrSession *s) {
    atomic_store(&s->self->idle_since, pr_now());
    atomic_fetch_or(&s->control->idle[s->index >> 6], (uint64_t)1 << (s->index & 63));
    atomic_fetch_add(&s->control->n_idle, 1);
}

/* 1 for who takes the bit: the worker itself, or who gives it something to do. */
static int claim(PrSession *s, uint32_t process) {
    uint64_t bit = (uint64_t)1 << (process & 63);
    if (!(atomic_fetch_and(&s->control->idle[process >> 6], ~bit) & bit)) return 0;
    atomic_fetch_sub(&s->control->n_idle, 1);
    return 1;
}

/* A worker is on its way to the queues; and it, or who thought so, has found out. */
static void expect_worker(PrControl *c, PrProcess *p) {
    if (!atomic_exchange(&p->woken, 1)) atomic_fetch_add(&c->n_woken, 1);
}

static int arrived(PrControl *c, PrProcess *p) {
    if (!atomic_load_explicit(&p->woken, memory_order_relaxed) || !atomic_exchange(&p->woken, 0))
        return 0;
    atomic_fetch_sub(&c->n_woken, 1);
    return 1;
}

/* The lowest idle worker of an environment is woken: the same ones stay warm. */
static int wake_idle(PrSession *s, uint32_t env) {
    PrControl *c = s->control;
    uint32_t n = atomic_load(&c->n_processes);
    for (uint32_t word = 0; word * 64 < n; word++) {
        uint64_t bits = atomic_load(&c->idle[word]);
        for (; bits; bits &= bits - 1) {
            uint32_t i = word * 64 + (uint32_t)__builtin_ctzll(bits);
            PrProcess *p = &s->processes[i];
            if (atomic_load(&p->env) != env) continue;
            /* First: it may come by itself, and be at a task before we say that it is coming. */
            expect_worker(c, p);
            if (!claim(s, i)) {
                arrived(c, p);
                continue;
            }
            pr_notify(s, p);
            return 1;
        }
    }
    return 0;
}

void pr_kick(PrSession *s, uint32_t index) {
    PrControl *c = s->control;
    const PrShape *shape = &s->shapes[index];
    if (!atomic_load(&shape->queue.count)) return;
    if (!pr_fits(s, shape, 0)) {
        if (!pr_fits(s, shape, 1) && !atomic_load(&shape->reported)) pr_call_node(s);
        return;
    }
    if (!leaves_room(s, index)) return;
    /* One that is on its way wakes the next if it finds more than it takes: who submits many tasks
     * pays for one wake-up, not for one a worker. */
    if (atomic_load(&c->n_woken) > 0) return;
    if (atomic_load(&c->n_idle) && wake_idle(s, shape->env)) return;
    pr_call_node(s);
}

static void kick_all(PrSession *s) {
    uint32_t n = atomic_load(&s->control->n_shapes);
    for (uint32_t i = 0; i < n; i++)
        if (atomic_load(&s->shapes[i].queue.count)) pr_kick(s, i);
}

void pr_rescue(PrSession *s) {
    uint32_t n = atomic_load(&s->control->n_processes);
    if (!atomic_load(&s->control->n_idle)) return;
    pr_enter(s);
    for (uint32_t i = 1; i < n; i++) {
        const PrProcess *p = &s->processes[i];
        uint32_t shape = atomic_load(&p->shape);
        if (!atomic_load(&p->queue.count) || shape == PR_NO_SHAPE) continue;
        if (pr_fits(s, &s->shapes[shape], 0)) wake_idle(s, s->shapes[shape].env);
    }
    pr_leave(s);
}

/* Tasks in other environments than this worker's, which it was perhaps woken in vain for. */
static void kick_others(PrSession *s) {
    uint32_t n = atomic_load(&s->control->n_shapes), env = atomic_load(&s->self->env);
    for (uint32_t i = 0; i < n; i++)
        if (s->shapes[i].env != env && atomic_load(&s->shapes[i].queue.count)) pr_kick(s, i);
}

/* Of tasks that wait in a process' own queue: 0, or that process, if they are of the environment
 * and their resources are free. */
static uint32_t find_victim(const PrSession *s, uint32_t but, uint32_t env, int any_env) {
    uint32_t n = atomic_load(&s->control->n_processes);
    for (uint32_t i = 1; i < n; i++) {
        const PrProcess *victim = &s->processes[i];
        if (i == but || !atomic_load(&victim->queue.count)) continue;
        uint32_t shape = atomic_load(&victim->shape);
        if (shape == PR_NO_SHAPE || (!any_env && s->shapes[shape].env != env)) continue;
        if (pr_fits(s, &s->shapes[shape], 0) && leaves_room(s, shape)) return i;
    }
    return 0;
}

/* An idle worker is told of tasks that it may steal. */
static void kick_thief(PrSession *s) {
    if (!atomic_load(&s->control->n_idle)) return;
    uint32_t victim = find_victim(s, 0, 0, 1);
    uint32_t shape = victim ? atomic_load(&s->processes[victim].shape) : PR_NO_SHAPE;
    if (shape != PR_NO_SHAPE) wake_idle(s, s->shapes[shape].env);
}

void pr_coming(PrSession *s) {
    pr_enter(s);
    expect_worker(s->control, s->self);
    pr_leave(s);
}

/* Who waits for the last result of our task may queue another one as soon as it is sealed, before
 * we are idle: for us, not for one who would be woken in vain. */
void pr_returning(PrSession *s) {
    const PrControl *c = s->control;
    if (atomic_load_explicit(&s->self->queue.count, memory_order_relaxed)) return;
    if (atomic_load_explicit(&c->n_idle, memory_order_relaxed)) pr_coming(s);
}

void pr_drop_cancelled(PrSession *s, PrQueue *q) {
    for (uint32_t task = 1; task;) {
        uint32_t n = 1, tail;
        task = 0;
        pr_lock(s, &q->lock);
        if (q->head && pr_state(atomic_load(&s->tasks[q->head].state)) == PR_TASK_CANCELLED)
            task = pr_queue_detach(s, q, &n, &tail);
        pr_unlock(&q->lock);
        if (task) pr_pop_cancelled(s, task);
    }
}

void pr_give_queue(PrSession *s) {
    uint32_t shape = atomic_load(&s->self->shape);
    if (shape == PR_NO_SHAPE) return;
    while (move(s, shape, &s->self->queue, &s->shapes[shape].queue, UINT32_MAX)) {
    }
    pr_kick(s, shape);
}

void pr_block(PrSession *s) {
    pr_enter(s);
    if (atomic_load(&s->self->shape) != PR_NO_SHAPE) {
        pr_give_queue(s);
        shift_cpu(s, 1);
        kick_all(s);
        kick_thief(s);
    }
    pr_leave(s);
}

void pr_unblock(PrSession *s) {
    pr_enter(s);
    shift_cpu(s, 0);
    pr_leave(s);
}

void pr_worker_rest(PrSession *s) {
    pr_enter(s);
    arrived(s->control, s->self);
    if (atomic_load(&s->self->shape) != PR_NO_SHAPE) {
        pr_give_queue(s);
        release(s);
        kick_all(s);
        kick_thief(s);
    }
    pr_leave(s);
}

/* -- the worker's next task -------------------------------------------------------------------- */

/* Out of this worker's own queue, RUNNING; 0 if it is empty. */
static uint32_t pop(PrSession *s) {
    PrQueue *q = &s->self->queue;
    while (atomic_load_explicit(&q->count, memory_order_relaxed)) {
        uint32_t n = 1, tail;
        pr_lock(s, &q->lock);
        uint32_t task = pr_queue_detach(s, q, &n, &tail);
        pr_unlock(&q->lock);
        if (!task) return 0;
        if (!pr_start_task(s, task)) continue;
        uint64_t word = atomic_load_explicit(&s->tasks[task].state, memory_order_relaxed);
        atomic_store_explicit(&s->self->running, pr_handle(word, task), memory_order_relaxed);
        if (arrived(s->control, s->self)) kick_all(s);
        return task;
    }
    return 0;
}

uint32_t pr_next_queued(PrSession *s) {
    if (!atomic_load_explicit(&s->self->queue.count, memory_order_relaxed)) return 0;
    pr_enter(s);
    uint32_t task = pop(s);
    pr_leave(s);
    return task;
}

/* How many tasks to take: what keeps a worker busy for a moment, and leaves some to the others. */
static uint32_t batch_of(PrSession *s, const PrQueue *q) {
    PrProcess *self = s->self;
    uint32_t cpus = (uint32_t)(s->control->resources[PR_CPU].total / PR_UNIT) + 1;
    uint32_t share = atomic_load(&q->count) / (2 * cpus) + 1;
    int64_t now = pr_now(), most = 1;
    int64_t began = atomic_load_explicit(&self->batch_began, memory_order_relaxed);
    if (self->batch) most = BATCH_TIME / ((now - began) / self->batch + 1) + 1;
    if (most > BATCH) most = BATCH;
    return share < most ? share : (uint32_t)most;
}

/* So many tasks have come into its own queue. */
static void begin_batch(PrProcess *self, uint32_t n) {
    self->batch = n;
    atomic_store_explicit(&self->batch_began, pr_now(), memory_order_relaxed);
}

/* More of what this worker holds resources for. */
static int refill(PrSession *s) {
    uint32_t shape = atomic_load(&s->self->shape);
    if (shape == PR_NO_SHAPE) return 0;
    PrQueue *q = &s->shapes[shape].queue;
    if (!atomic_load(&q->count)) return 0;
    uint32_t n = move(s, shape, q, &s->self->queue, batch_of(s, q));
    if (!n) return 0;
    begin_batch(s->self, n);
    if (had_its_turn(s->control, shape)) {
        kick_all(s);
    } else {
        pr_kick(s, shape);
    }
    return 1;
}

/* As long as a worker finds more of its own shape, it looks at no other: does one starve? */
static void look_at_others(PrSession *s, uint32_t mine) {
    uint32_t n = atomic_load(&s->control->n_shapes);
    for (uint32_t k = 1; k < n; k++) {
        uint32_t i = (mine + k) % n;
        const PrShape *shape = &s->shapes[i];
        if (!atomic_load(&shape->queue.count) || pr_fits(s, shape, 0) || !pr_fits(s, shape, 1))
            continue;
        starve(s->control, i);
        return;
    }
}

/* A shape with tasks whose resources are free; they are this worker's then. */
static int find_shape(PrSession *s) {
    PrControl *c = s->control;
    uint32_t n = atomic_load(&c->n_shapes), first = atomic_load(&c->starving);
    for (uint32_t k = 0; k < n; k++) {
        uint32_t i = (k + (first ? first - 1 : 0)) % n;
        const PrShape *shape = &s->shapes[i];
        if (!atomic_load(&shape->queue.count) || shape->env != atomic_load(&s->self->env)) continue;
        if (acquire(s, i)) return 1;
        if (pr_fits(s, shape, 1)) starve(c, i);
    }
    if (first && !atomic_load(&s->shapes[first - 1].queue.count)) {
        had_its_turn(c, first - 1);
        return atomic_load(&c->starving) ? 0 : find_shape(s);
    }
    return 0;
}

/* Half of the tasks of one who is busy with something long, with the resources they want. */
static int steal(PrSession *s) {
    uint32_t found = find_victim(s, s->index, atomic_load(&s->self->env), 0);
    PrProcess *victim = &s->processes[found];
    if (!found) return 0;
    uint32_t shape = atomic_load(&victim->shape), count = atomic_load(&victim->queue.count);
    if (!count || shape == PR_NO_SHAPE || s->shapes[shape].env != atomic_load(&s->self->env) ||
        !acquire(s, shape))
        return 0;
    uint32_t n = move(s, shape, &victim->queue, &s->self->queue, (count + 1) / 2);
    if (n) {
        begin_batch(s->self, n);
        kick_thief(s);
        return 1;
    }
    release(s);
    return -1;
}

/* Who gives resources back tells those who may steal; not so if it had none, or two who find
 * nothing would wake each other for ever. */
static int look(PrSession *s) {
    uint32_t shape = atomic_load(&s->self->shape);
    if (shape != PR_NO_SHAPE) {
        look_at_others(s, shape);
        if (leaves_room(s, shape) && refill(s)) return 1;
    }
    int gave = release(s), found = 0;
    while (!found && find_shape(s)) {
        found = refill(s);
        if (!found) gave = release(s);
    }
    if (!found) found = steal(s);
    if (found < 0) gave = 1;
    if (found > 0) {
        arrived(s->control, s->self);
        kick_all(s);
    } else if (gave) {
        kick_thief(s);
    }
    return found > 0;
}

/* Whether there is something to take, without taking anything: resources that are held for a moment
 * would keep others from being told of a task. */
static int is_something(PrSession *s) {
    uint32_t n = atomic_load(&s->control->n_shapes);
    for (uint32_t i = 0; i < n; i++) {
        const PrShape *shape = &s->shapes[i];
        if (atomic_load(&shape->queue.count) && shape->env == atomic_load(&s->self->env) &&
            pr_fits(s, shape, 0) && leaves_room(s, i))
            return 1;
    }
    return find_victim(s, s->index, atomic_load(&s->self->env), 0) != 0;
}

/* Out of this worker's queue, or others: 0 if there is none. Inside. */
static uint32_t find_task(PrSession *s) {
    uint32_t task = pop(s);
    while (!task && !atomic_load(&s->self->leave) && look(s)) task = pop(s);
    return task;
}

/* Whoever told us of a task has told nobody else: now others have to be. Inside. */
static void tell_others(PrSession *s) {
    kick_all(s);
    kick_thief(s);
}

int pr_look_for_task(PrSession *s, uint32_t *task, PrNap *nap) {
    PrProcess *self = s->self;
    int status = PR_TIMEOUT, again = 1;
    if (atomic_load(&s->control->ended)) return PR_ENDED;
    pr_enter(s);
    while (again) {
        again = 0;
        if ((*task = find_task(s))) {
            status = 0;
            break;
        }
        arrived(s->control, self);
        kick_others(s);
        nap->seen = atomic_load(&self->event);
        if (atomic_load(&self->leave) || atomic_load(&s->control->ended)) {
            release(s);
            tell_others(s);
            status = PR_ENDED;
            break;
        }
        say_idle(s);
        again = is_something(s);
        if (again) claim(s, s->index);
    }
    pr_leave(s);
    /* Nobody tells us when room is left no longer for those that starve. */
    nap->longest = patience_left(s->control);
    if (nap->longest <= 0) nap->longest = -1;
    return status;
}

int pr_after_nap(PrSession *s, int status) {
    pr_enter(s);
    int told = !claim(s, s->index);
    if (told && status == PR_TIMEOUT) status = 0;
    if (told && status) {
        arrived(s->control, s->self);
        tell_others(s);
    }
    pr_leave(s);
    return status;
}

int pr_next_task(PrSession *s, uint32_t *task, int64_t deadline) {
    for (;;) {
        PrNap nap;
        int status = pr_look_for_task(s, task, &nap);
        if (status != PR_TIMEOUT) return status;
        int64_t left = deadline < 0 ? -1 : deadline - pr_now();
        int early = nap.longest >= 0 && (left < 0 || nap.longest < left);
        if (deadline < 0 || left > 0) status = pr_sleep(s, nap.seen, early ? nap.longest : left, 1);
        status = pr_after_nap(s, status);
        if (early && status == PR_TIMEOUT && (deadline < 0 || left > 0)) continue;
        if (status) return status;
    }
}

/* -- for the node ------------------------------------------------------------------------------ */

/* Idle, or woken. */
static int is_coming(const PrSession *s, uint32_t i) {
    return (atomic_load(&s->control->idle[i >> 6]) >> (i & 63) & 1) ||
           (atomic_load(&s->processes[i].state) == PR_PROCESS_LIVE &&
            atomic_load(&s->processes[i].woken));
}

uint32_t pr_wanted(PrSession *s, uint32_t *envs, uint32_t *counts, uint32_t room) {
    PrControl *c = s->control;
    int64_t free[PR_RESOURCES];
    uint32_t n_shapes = atomic_load(&c->n_shapes), n = 0;
    atomic_store(&c->wanted, 0);
    for (int i = 0; i < PR_RESOURCES; i++) free[i] = atomic_load(&c->resources[i].available);
    for (uint32_t i = 0; i < n_shapes; i++) {
        const PrShape *shape = &s->shapes[i];
        uint32_t ready = atomic_load(&shape->queue.count), k;
        for (; ready; ready--) {
            for (k = 0; k < shape->n_needs && shape->needs[k].amount <= free[shape->needs[k].kind];)
                k++;
            if (k < shape->n_needs) break;
            for (k = 0; k < shape->n_needs; k++)
                free[shape->needs[k].kind] -= shape->needs[k].amount;
            for (k = 0; k < n && envs[k] != shape->env; k++) {
            }
            if (k == n) {
                if (n == room) break;
                envs[n] = shape->env;
                counts[n++] = 0;
            }
            if (++counts[k] > 64) break;
        }
    }
    /* Those who are idle, in the right environment, were woken or will find the tasks. */
    for (uint32_t k = 0; k < n; k++) {
        uint32_t last = atomic_load(&c->n_processes);
        for (uint32_t i = 1; i < last && counts[k]; i++)
            if (atomic_load(&s->processes[i].env) == envs[k] && is_coming(s, i)) counts[k]--;
    }
    return n;
}
