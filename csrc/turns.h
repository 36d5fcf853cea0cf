/* Several threads of one process that take turns at the calls of its actor.
 *
 * Only one of them runs at a time, the one that has the interpreter's lock. The *leader* takes a
 * call and runs it itself, and the next one, and so on: no call passes from thread to thread.
 * Another thread *stands by*. If it gets the lock while the leader is in a call, that call waits
 * for something (or has had the lock for long), and the one that stands by takes the lead. While
 * calls wait it asks for the lock; while none does it sleeps where whoever submits the next one
 * wakes it. If it was woken in vain, as calls are short, it takes longer and longer naps, until
 * none have come meanwhile: to be woken costs the others more than a call.
 *
 * All of this is the process' own, and under the interpreter's lock, but for the sleep. Nothing is
 * left of it by a crash.
 */
#ifndef PYRAY_TURNS_H
#define PYRAY_TURNS_H

#include "session.h"

typedef struct PrTurns {
    int runs;       /* the leader is in a call */
    int sleeps;     /* one stands by and sleeps, and nobody has woken it yet */
    int counted;    /* in `sleeping` of the process: what notifies that wakes it */
    uint32_t begun; /* calls */
    uint32_t seen;  /* of those, by who stands by */
    uint32_t nap;   /* of who stands by, ns; 0: it has not been woken in vain lately */
} PrTurns;

/* The leader is about to run a call that it has taken. */
void pr_turn_begins(PrSession *s, uint32_t actor, PrTurns *turns);
/* And has run it, without having lost the lead. */
void pr_turn_ends(PrSession *s, PrTurns *turns);
/* Whether one who stands by is to take the lead. If not, it is to sleep, or nap, having read `seen`
 * of the process' events before it asked. */
int pr_turn_comes(PrSession *s, uint32_t actor, PrTurns *turns);
/* That sleep, without the interpreter's lock; and, with it again, the end of it. */
void pr_stand_by(PrSession *s, uint32_t seen, const PrTurns *turns);
void pr_stood_by(PrSession *s, PrTurns *turns);
/* Waits for the next call for a few microseconds, the interpreter's lock in hand: to give it to one
 * who stands by, and to get it back, takes longer. */
void pr_linger(PrSession *s, uint32_t actor);

#endif
