/* Which objects there are, and what keeps each of them: for people who look for memory. */
#ifndef PYRAY_HOLDERS_H
#define PYRAY_HOLDERS_H

#include "session.h"

typedef struct {
    PrHandle handle;
    uint64_t word;  /* its state and flags */
    uint64_t size;  /* bytes of the message */
    uint64_t block; /* bytes that it takes in the arena; 0: none, it is in the slot */
    PrHandle task;  /* PENDING: that makes it */
    PrHandle site;  /* the object that tells where it was made; 0: not recorded */
} PrObjectEntry;

typedef enum {
    PR_HELD_BY_PROCESS = 1, /* `by`: its index; it has references */
    PR_HELD_BY_VIEW,        /* the same with views of the bytes, and perhaps references */
    PR_HELD_AS_RESULT,      /* of the task `by`, which makes it */
    PR_HELD_AS_DEPENDENCY,  /* of the task, at the top level of its arguments */
    PR_HELD_AS_ARGUMENTS,   /* they are the object */
    PR_HELD_AS_LABEL,
    PR_HELD_BY_OBJECT, /* `by` contains it */
    PR_HELD_BY_STREAM, /* `by` has yielded it, and nobody has taken it */
    PR_HELD_BY_NAME,   /* `by`: slot of the name */
    PR_HELD_BY_ACTOR,  /* `by`: its slot; what it died of, or will, or itself, as it is detached */
    PR_HELD_BY_LINEAGE /* of the task, which is over, and would need it to run again */
} PrHeld;

typedef struct {
    PrHandle object;
    uint64_t by;
    uint32_t how; /* PrHeld */
    int32_t pid;  /* of the process, of who submitted the task or gave the name; 0: none */
} PrHolder;

/* All that are alive, or all that holds one, up to `room` of them; how many there are. May be
 * called at any time by any process. What changes meanwhile may be there, or not; of what does not
 * change nothing is missing. */
size_t pr_list_objects(const PrSession *s, PrObjectEntry *out, size_t room);
size_t pr_list_holders(const PrSession *s, PrHolder *out, size_t room);
/* The first 8 bytes of a name; 0: nothing has it. */
uint64_t pr_name_prefix(const PrSession *s, uint64_t name);
/* What the object of a site says, up to `room` bytes; how many there are. */
size_t pr_site_text(const PrSession *s, PrHandle site, char *out, size_t room);

#endif
