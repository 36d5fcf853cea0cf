/* Jobs: what one driver has started, and what becomes of it when the driver is gone.
 *
 * Tasks and actors note the number of their job. Actors that are detached, and what those start in
 * turn, have PR_DETACHED_JOB with it: that is of the driver's job and outlives it.
 */
#ifndef PYRAY_JOB_H
#define PYRAY_JOB_H

#include "session.h"

#define PR_DETACHED_JOB ((uint32_t)1 << 31)

/* The driver of that job is gone, or is the process `pid` still, which has done its last. Its
 * actors are killed. Its tasks are cancelled, but for those whose results another process, task or
 * object refers to; calls of others' actors go on. How many actors and tasks there are still: the
 * caller looks again later, and with `force` kills workers whose task does not stop. */
uint32_t pr_stop_job(PrSession *s, uint32_t job, int pid, int force);
/* Whether a task or an actor of that job, detached or not, is there. */
int pr_has_job(const PrSession *s, uint32_t job);

#endif
