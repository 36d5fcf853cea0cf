/* Whether all that the slots of a session say, and all that was made of it, agree. */
#ifndef PYRAY_CHECK_H
#define PYRAY_CHECK_H

#include "session.h"

/* 0, or the line of check.c (of arena.c: + PR_CHECK_ARENA) that found an invariant broken. The
 * caller sees to it that it is a quiet moment: no process of the session is inside or waits for a
 * lock, and none is dead and not recovered; those that wait for tasks or objects do no harm. Costs
 * a pass over the used slots. */
int pr_check(const PrSession *s);

enum { PR_CHECK_ARENA = 1000000 };

/* How many objects, or tasks, are in that state. */
uint32_t pr_count_objects(const PrSession *s, PrObjectState state);
uint32_t pr_count_tasks(const PrSession *s, PrTaskState state);

#endif
