/* What workers run, and what is known of a task that is not over: for the node's memory monitor,
 * and for people who look. */
#ifndef PYRAY_RUNNING_H
#define PYRAY_RUNNING_H

#include "session.h"

enum { PR_LABEL_SIZE = 128 };

typedef struct {
    PrHandle task;   /* 0: there is none */
    PrHandle parent; /* task that submitted it; 0: none, but: */
    uint32_t owner;  /* process that did */
    uint32_t state;  /* PrTaskState */
    uint64_t sequence;
    int32_t retries_left;
    uint32_t attempt, flags;
    int32_t pid;               /* of the worker that runs it; 0: none */
    char label[PR_LABEL_SIZE]; /* cut; ends with zeros */
} PrTaskEntry;

typedef struct {
    int32_t pid;
    int64_t began;    /* pr_now() when the worker took the task, or the batch that it was in */
    PrTaskEntry task; /* that it runs; an actor's creation as long as that lives */
} PrRunning;

/* Of each worker, up to `room` of them; how many there are. May be called at any time: of a task
 * that ends meanwhile the worker is idle. */
uint32_t pr_running(const PrSession *s, PrRunning *out, uint32_t room);
/* What is known of that task, if it is not over: 1; else 0. At any time, too. */
int pr_look_at_task(const PrSession *s, PrHandle task, PrTaskEntry *out);

#endif
