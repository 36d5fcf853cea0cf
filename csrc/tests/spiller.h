/* What the spiller of the random programs does. Its files are none: an object's number, which is at
 * the beginning of its message, is kept as the offset of its copy, and tells all of its bytes. */
#ifndef PYRAY_TESTS_SPILLER_H
#define PYRAY_TESTS_SPILLER_H

#include "../spill.h"
#include "runtime.h"

static inline void write_value(uint8_t *data, uint64_t size, uint64_t number) {
    if (size < 8) {
        write_pattern(data, size, size);
    } else {
        memcpy(data, &number, 8);
        write_pattern(data + 8, size - 8, number);
    }
}

static inline void release_all(PrSession *s, const PrHandle *handles, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) release(s, handles[i]);
}

/* Of objects that this process holds, none of which anybody else gives back. */
static inline void write_copies(PrSession *s, const PrHandle *handles, uint32_t n) {
    uint32_t file = pr_file_new(s, 0);
    CHECK(file);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t number;
        memcpy(&number, pr_message_of(s, &s->objects[pr_slot(handles[i])]), 8);
        pr_set_copy(s, pr_slot(handles[i]), file, number);
    }
    pr_file_done(s, file, n);
}

static inline void read_copy(PrSession *s, PrHandle h, uint64_t chance) {
    PrObject *o = &s->objects[pr_slot(h)];
    PrCopy *c = pr_copy_of(o);
    uint8_t *data;
    if (chance == 0) pr_lose_copy(s, pr_slot(h));
    if (!atomic_load(&c->file) || pr_make_incoming(s, pr_slot(h), &data)) {
        pr_give_up(s, pr_slot(h));
    } else if (chance == 1) {
        pr_give_up(s, pr_slot(h));
    } else {
        write_value(data, o->size, c->offset);
        pr_arrive(s, pr_slot(h));
    }
}

static inline void answer_wish(PrSession *s, uint64_t chance) {
    uint64_t bytes;
    uint32_t process = pr_first_wanting(s, &bytes);
    if (!process) return;
    if (pr_grant(s, process) && (chance < 3 || !pr_may_free(s, process))) pr_deny(s, process);
}

static inline void remove_files(PrSession *s) {
    for (uint32_t file; (file = pr_file_unused(s, 0));) pr_file_free(s, file);
}

static inline void spill_some(PrSession *s, uint64_t *seed) {
    PrHandle chosen[8];
    uint64_t bytes = below(seed, 1 << 20);
    uint32_t n = 0;
    uint32_t spiller = atomic_load(&s->control->spiller);
    if (spiller && spiller != s->index) return; /* it is dead, which has to be recovered from */
    if (!spiller) pr_begin_spilling(s);
    switch (below(seed, 5)) {
    case 0:
        n = pr_choose(s, 1, bytes, chosen, 8);
        if (n && below(seed, 8)) write_copies(s, chosen, n);
        else
            for (uint32_t i = 0; i < n; i++) pr_not_written(s, pr_slot(chosen[i]));
        break;
    case 1:
        n = pr_choose(s, 0, bytes, chosen, 8);
        for (uint32_t i = 0; i < n; i++) pr_evict(s, pr_slot(chosen[i]));
        break;
    case 2:
        n = pr_fetched(s, chosen, 8);
        for (uint32_t i = 0; i < n; i++) read_copy(s, chosen[i], below(seed, 20));
        break;
    case 3: answer_wish(s, below(seed, 10)); break;
    default: remove_files(s);
    }
    release_all(s, chosen, n);
}

#endif
