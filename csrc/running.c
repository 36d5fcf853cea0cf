/* What each worker runs; see running.h.
 *
 * Only reads, while others write (snapshot.h). What was read counts if the task is not over, and of
 * the same generation, afterwards: until then it holds its label.
 */
#include "running.h"

#include <string.h>

#include "snapshot.h"

/* Labels are never inline. */
static void copy_label(const PrSession *s, uint32_t slot, char label[PR_LABEL_SIZE]) {
    memset(label, 0, PR_LABEL_SIZE);
    if (!pr_object_in(s, slot)) return;
    uint64_t size = PR_ONCE(s->objects[slot].size);
    if (size > PR_LABEL_SIZE - 1) size = PR_LABEL_SIZE - 1;
    const uint8_t *text = pr_span(s, PR_ONCE(s->objects[slot].place), size);
    if (text) memcpy(label, text, size);
}

static uint64_t pending_word(const PrSession *s, PrHandle task) {
    if (!task || pr_slot(task) >= atomic_load(&s->control->tasks.used)) return 0;
    uint64_t word = atomic_load(&s->tasks[pr_slot(task)].state);
    int state = pr_state(word);
    return pr_same(word, task) && state >= PR_TASK_WAITING && state <= PR_TASK_RUNNING ? word : 0;
}

int pr_look_at_task(const PrSession *s, PrHandle task, PrTaskEntry *out) {
    uint64_t word = pending_word(s, task);
    memset(out, 0, sizeof *out);
    if (!word) return 0;
    const PrTask *t = &s->tasks[pr_slot(task)];
    uint32_t worker = atomic_load(&t->worker);
    out->parent = atomic_load(&t->parent);
    out->owner = atomic_load(&t->owner);
    out->state = (uint32_t)pr_state(word);
    out->sequence = PR_ONCE(t->sequence);
    out->retries_left = PR_ONCE(t->retries_left);
    out->attempt = PR_ONCE(t->attempt);
    out->flags = atomic_load(&t->flags);
    if (out->state == PR_TASK_RUNNING && worker < s->control->max_processes)
        out->pid = atomic_load(&s->processes[worker].pid);
    copy_label(s, PR_ONCE(t->label), out->label);
    atomic_thread_fence(memory_order_acquire);
    if (pending_word(s, task)) out->task = task;
    return out->task != 0;
}

uint32_t pr_running(const PrSession *s, PrRunning *out, uint32_t room) {
    uint32_t n = 0;
    for (uint32_t i = 1; i < atomic_load(&s->control->n_processes); i++) {
        const PrProcess *p = &s->processes[i];
        if (atomic_load(&p->state) != PR_PROCESS_LIVE || p->kind != PR_WORKER) continue;
        if (n < room) {
            out[n].pid = atomic_load(&p->pid);
            out[n].began = atomic_load_explicit(&p->batch_began, memory_order_relaxed);
            pr_look_at_task(s, atomic_load(&p->running), &out[n].task);
            if (out[n].task.state != PR_TASK_RUNNING) memset(&out[n].task, 0, sizeof out[n].task);
        }
        n++;
    }
    return n;
}
