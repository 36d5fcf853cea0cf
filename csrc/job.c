/* Jobs; see job.h.
 *
 * Only looks at tables and asks for what any process may ask for: a crash in between leaves some of
 * it to be done, by whoever calls it again. Slots may be used again meanwhile: what was read counts
 * if the generation is the same afterwards, and is changed by comparing all of the word.
 */
#include "job.h"

#include <signal.h>

#include "actor.h"
#include "object.h"

static void send_signal(const PrSession *s, uint32_t process, int number) {
    int pid = atomic_load(&s->processes[process].pid);
    if (pid) kill(pid, number);
}

/* -- actors ------------------------------------------------------------------------------------ */

static int is_live(uint64_t word) {
    return pr_state(word) == PR_ACTOR_LIVE;
}

/* Whether it is there afterwards. Nobody may refer to it: it cannot be held. */
static int stop_actor(PrSession *s, uint32_t slot, uint32_t job) {
    const PrActor *a = &s->actors[slot];
    uint64_t word = atomic_load(&a->state);
    if (!is_live(word) || atomic_load(&a->job) != job) return 0;
    PrHandle actor = pr_handle(word, slot);
    uint32_t worker = pr_actor_kill(s, actor, 0);
    if (worker) send_signal(s, worker, SIGKILL);
    word = atomic_load(&a->state);
    return pr_same(word, actor) && is_live(word);
}

/* -- tasks ------------------------------------------------------------------------------------- */

static int is_pending(uint64_t word) {
    return pr_state(word) >= PR_TASK_WAITING && pr_state(word) <= PR_TASK_RUNNING;
}

/* References of processes of that pid. */
static uint32_t refs_of(const PrSession *s, int pid, uint32_t slot) {
    uint32_t n = 0;
    for (uint32_t i = 1; i < atomic_load(&s->control->n_processes); i++)
        if (pid && atomic_load(&s->processes[i].pid) == pid)
            n += atomic_load(&pr_refs_of(s, i)[slot >> 6]) >> (slot & 63) & 1;
    return n;
}

/* Whether anything but the task and the driver refers to one of its results. */
static int is_wanted(const PrSession *s, PrTask *t, int pid) {
    uint32_t slot = pr_first_result(t);
    for (uint32_t i = 0; i <= UINT16_MAX && slot; i++) {
        if (atomic_load(&s->objects[slot].refs) > 1 + refs_of(s, pid, slot)) return 1;
        slot = pr_next_result(s, t, slot);
    }
    return 0;
}

/* It hears of it as of any other cancellation, again and again until it has (pr_ask_all_again). */
static void stop_running(PrSession *s, PrTask *t, PrHandle task, int force) {
    uint64_t word = atomic_load(&t->state);
    pr_enter(s);
    while (pr_same(word, task) && pr_state(word) == PR_TASK_RUNNING && !(word & PR_CANCEL) &&
           !atomic_compare_exchange_weak(&t->state, &word, word | PR_CANCEL)) {
    }
    pr_leave(s);
    uint32_t worker = atomic_load(&t->worker);
    if (atomic_load(&s->processes[worker].running) != task) return;
    send_signal(s, worker, force ? SIGKILL : SIGINT);
    atomic_store(&s->control->asked, 1);
    pr_call_node(s);
}

/* Whether it is there afterwards. */
static int stop_task(PrSession *s, uint32_t slot, uint32_t job, int pid, int force) {
    PrTask *t = &s->tasks[slot];
    uint64_t word = atomic_load(&t->state);
    if (!is_pending(word) || atomic_load(&t->job) != job) return 0;
    if (t->flags & (PR_TASK_CALL | PR_TASK_CREATION)) return 0;
    PrHandle task = pr_handle(word, slot);
    if (is_wanted(s, t, pid)) return 1;
    if (!pr_same(atomic_load(&t->state), task)) return 0;
    pr_enter(s);
    int cancelled = pr_cancel_unbegun(s, task);
    pr_leave(s);
    if (cancelled) return 0;
    stop_running(s, t, task, force);
    return 1;
}

/* -- the whole --------------------------------------------------------------------------------- */

uint32_t pr_stop_job(PrSession *s, uint32_t job, int pid, int force) {
    uint32_t actors = atomic_load(&s->control->actors.used), n = 0;
    uint32_t tasks = atomic_load(&s->control->tasks.used);
    for (uint32_t i = 1; i < actors; i++) n += (uint32_t)stop_actor(s, i, job);
    for (uint32_t i = 1; i < tasks; i++) n += (uint32_t)stop_task(s, i, job, pid, force);
    return n;
}

static int is_of(uint32_t job, uint32_t wanted) {
    return (job & ~PR_DETACHED_JOB) == wanted;
}

int pr_has_job(const PrSession *s, uint32_t job) {
    for (uint32_t i = 1; i < atomic_load(&s->control->actors.used); i++)
        if (is_live(atomic_load(&s->actors[i].state)) && is_of(s->actors[i].job, job)) return 1;
    for (uint32_t i = 1; i < atomic_load(&s->control->tasks.used); i++)
        if (is_pending(atomic_load(&s->tasks[i].state)) && is_of(s->tasks[i].job, job)) return 1;
    return 0;
}
