/* Reading tables that others change meanwhile, without a lock and without being inside: what is
 * read may be half of one thing and half of the next. So a value is read once, then checked, then
 * used. */
#ifndef PYRAY_SNAPSHOT_H
#define PYRAY_SNAPSHOT_H

#include "session.h"

/* A field that is not atomic: the compiler may not read it a second time after the check. */
#define PR_ONCE(field) (*(const volatile __typeof__(field) *)&(field))

/* Bytes of a block of the arena, readable; NULL if there cannot be such a block. */
static inline const uint8_t *pr_span(const PrSession *s, uint64_t place, uint64_t size) {
    uint64_t end = s->control->arena_size;
    if (!place || place % PR_ARENA_UNIT || place >= end || size > end - place) return NULL;
    return s->read_base + place;
}

/* The handle of what is in that slot now; 0: no object that is alive. */
static inline PrHandle pr_object_in(const PrSession *s, uint32_t slot) {
    if (!slot || slot >= atomic_load(&s->control->objects.used)) return 0;
    uint64_t word = atomic_load(&s->objects[slot].state);
    int state = pr_state(word);
    return state >= PR_OBJECT_RESERVED && state <= PR_OBJECT_FAILED ? pr_handle(word, slot) : 0;
}

#endif
