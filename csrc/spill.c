/* Pins, copies and blocks that are given back; see spill.h.
 *
 * Order of stores, and what a crash in between leaves. pr_evict: `handles`, OUT, then `place` = 0.
 * A rebuild that finds OUT and a place finishes it if nobody reads the block, and takes the mark
 * away if somebody does; handles' blocks of objects that are not OUT are given back. pr_arrive: the
 * message, its handles, `place`, then not OUT: found half done, it is undone. A copy: `offset`,
 * then `file`; `live` is counted anew.
 */
#include "spill.h"

#include <stdlib.h>
#include <string.h>

#include "futex.h"
#include "lineage.h"
#include "recover.h"

/* -- pins -------------------------------------------------------------------------------------- */

static void set_pin(PrSession *s, uint32_t slot, PrCopy *c) {
    _Atomic uint64_t *word = &s->pins[slot >> 6];
    atomic_store_explicit(
        word, atomic_load_explicit(word, memory_order_relaxed) | (uint64_t)1 << (slot & 63),
        memory_order_relaxed);
    atomic_fetch_add(&c->pins, 1);
}

static void clear_pin(PrSession *s, uint32_t slot, PrCopy *c) {
    _Atomic uint64_t *word = &s->pins[slot >> 6];
    atomic_store_explicit(
        word, atomic_load_explicit(word, memory_order_relaxed) & ~((uint64_t)1 << (slot & 63)),
        memory_order_relaxed);
    if (atomic_fetch_sub(&c->pins, 1) == 1 && atomic_load(&s->control->n_wanting))
        pr_call_spiller(s);
}

int pr_pin(PrSession *s, uint32_t slot) {
    PrObject *o = &s->objects[slot];
    int status = 1;
    if (s->pinned[slot]) {
        s->pinned[slot]++;
        return 1;
    }
    uint64_t word = atomic_load_explicit(&o->state, memory_order_relaxed);
    if (!(word & PR_BLOCK) || word & PR_ACTOR) return 0;
    PrCopy *c = pr_copy_of(o);
    pr_enter(s);
    set_pin(s, slot, c);
    /* Away is also what failed when it was made again: that message is in the slot. */
    word = atomic_load(&o->state);
    if (word & PR_OUT || !(word & PR_BLOCK)) {
        clear_pin(s, slot, c);
        status = PR_AWAY;
    } else {
        s->pinned[slot] = 1;
        atomic_store_explicit(&c->used, pr_tick(pr_now()), memory_order_relaxed);
    }
    pr_leave(s);
    return status;
}

void pr_unpin(PrSession *s, uint32_t slot) {
    if (--s->pinned[slot]) return;
    pr_enter(s);
    clear_pin(s, slot, pr_copy_of(&s->objects[slot]));
    pr_leave(s);
}

/* -- copies ------------------------------------------------------------------------------------ */

static void leave_file(PrSession *s, uint32_t file) {
    if (atomic_fetch_sub(&s->files[file].live, 1) != 1) return;
    atomic_store(&s->control->files_done, 1);
    pr_call_spiller(s);
}

void pr_leave_file(PrSession *s, PrObject *o) {
    uint32_t file = atomic_exchange(&pr_copy_of(o)->file, 0);
    if (file) leave_file(s, file);
}

void pr_drop_copy(PrSession *s, PrObject *o) {
    pr_leave_file(s, o);
    pr_block_free(s, &pr_copy_of(o)->handles);
}

void pr_lose_copy(PrSession *s, uint32_t slot) {
    PrObject *o = &s->objects[slot];
    pr_enter(s);
    if ((atomic_load(&o->state) & (PR_BLOCK | PR_ACTOR)) == PR_BLOCK) pr_leave_file(s, o);
    pr_leave(s);
}

void pr_set_copy(PrSession *s, uint32_t slot, uint32_t file, uint64_t offset) {
    PrCopy *c = pr_copy_of(&s->objects[slot]);
    pr_enter(s);
    c->offset = offset;
    atomic_fetch_add(&s->files[file].live, 1);
    atomic_store(&c->file, file);
    atomic_store(&c->writing, 0);
    atomic_fetch_add(&s->control->n_spilled, 1);
    atomic_fetch_add(&s->control->spilled_bytes, s->objects[slot].size);
    pr_leave(s);
}

void pr_not_written(PrSession *s, uint32_t slot) {
    atomic_store(&pr_copy_of(&s->objects[slot])->writing, 0);
}

/* -- files ------------------------------------------------------------------------------------- */

uint32_t pr_file_new(PrSession *s, uint32_t target) {
    PrControl *c = s->control;
    uint32_t used = atomic_load(&c->n_files), i = 1;
    while (i < used && atomic_load(&s->files[i].state) != PR_FILE_FREE) i++;
    if (i == PR_FILES) return 0;
    PrFile *f = &s->files[i];
    pr_enter(s);
    if (i == used) atomic_store(&c->n_files, used + 1);
    f->number = atomic_fetch_add(&c->file_numbers, 1) + 1;
    f->target = target;
    f->size = 0;
    atomic_store(&f->live, 1);
    atomic_store(&f->state, PR_FILE_WRITING);
    pr_leave(s);
    return i;
}

void pr_file_done(PrSession *s, uint32_t file, uint64_t size) {
    pr_enter(s);
    s->files[file].size = size;
    atomic_store(&s->files[file].state, PR_FILE_WHOLE);
    leave_file(s, file);
    pr_leave(s);
}

/* Inside: a recovery counts anew how many objects need each file, and begins with none. */
uint32_t pr_file_unused(PrSession *s, uint32_t after) {
    uint32_t used, i = after + 1;
    pr_enter(s);
    used = atomic_load(&s->control->n_files);
    while (i < used &&
           (atomic_load(&s->files[i].state) != PR_FILE_WHOLE || atomic_load(&s->files[i].live)))
        i++;
    pr_leave(s);
    return i < used ? i : 0;
}

void pr_file_free(PrSession *s, uint32_t file) {
    pr_enter(s);
    atomic_store(&s->files[file].state, PR_FILE_FREE);
    pr_leave(s);
}

/* -- out --------------------------------------------------------------------------------------- */

/* It has a block that nobody needs but to read the value. */
static int may_spill(uint64_t word) {
    return pr_state(word) == PR_OBJECT_SEALED &&
           (word & (PR_BLOCK | PR_OUT | PR_ACTOR)) == PR_BLOCK;
}

/* The handles move to a block of their own. */
static int keep_handles(PrSession *s, PrObject *o, PrCopy *c) {
    if (!o->n_refs) return 0;
    if (pr_block_new(s, 8ull * o->n_refs, &c->handles)) return PR_FULL;
    memcpy(s->write_base + c->handles, pr_refs_in(s, o), 8ull * o->n_refs);
    return 0;
}

int pr_copy_is_idle(PrObject *o) {
    const PrCopy *c = pr_copy_of(o);
    return atomic_load(&c->pins) || atomic_load(&c->writing) ? PR_BUSY : 0;
}

int pr_mark_out(PrObject *o) {
    atomic_fetch_or(&o->state, PR_OUT);
    int status = pr_copy_is_idle(o);
    if (status) atomic_fetch_and(&o->state, ~(uint64_t)PR_OUT);
    return status;
}

/* Whether the session gives values back that can be made again, and this is perhaps one. */
static int is_evictable(const PrSession *s, PrObject *o) {
    return s->control->evicts && pr_maker(o);
}

/* Under the lineage's lock. The block that is to be given back. */
static int take_out(PrSession *s, uint32_t slot, uint64_t blocks[2]) {
    PrObject *o = &s->objects[slot];
    PrCopy *c = pr_copy_of(o);
    int has_copy = atomic_load(&c->file) != 0;
    if (!may_spill(atomic_load(&o->state))) return PR_STALE;
    if (!has_copy && !(is_evictable(s, o) && pr_could_reconstruct(s, slot))) return PR_STALE;
    if (has_copy && o->n_refs && !c->handles) return PR_BUSY; /* by a recovery in between */
    if (pr_mark_out(o)) return PR_BUSY;
    if (has_copy) {
        /* Once more: those of a task's arguments may have been marked meanwhile (PR_UNHELD). */
        if (o->n_refs) memcpy(s->write_base + c->handles, pr_refs_in(s, o), 8ull * o->n_refs);
        blocks[0] = o->place;
        o->place = 0;
    } else {
        pr_take_value(s, o, blocks);
    }
    atomic_fetch_add(&s->control->n_evicted, 1);
    return 0;
}

int pr_evict(PrSession *s, uint32_t slot) {
    PrObject *o = &s->objects[slot];
    PrCopy *c = pr_copy_of(o);
    uint64_t blocks[2] = {0, 0};
    int status = PR_STALE;
    pr_enter(s);
    if (may_spill(atomic_load(&o->state))) {
        status = atomic_load(&c->pins) ? PR_BUSY : 0;
        if (!status && atomic_load(&c->file)) status = keep_handles(s, o, c);
    }
    if (!status) {
        pr_lock(s, &s->control->lineage_lock);
        status = take_out(s, slot, blocks);
        uint64_t epoch = pr_epoch(s);
        /* Kept for nothing. One that is OUT needs them. */
        if (status && !(atomic_load(&o->state) & PR_OUT)) {
            blocks[1] = c->handles;
            c->handles = 0;
        }
        pr_unlock(&s->control->lineage_lock);
        pr_block_free(s, &blocks[0]);
        if (pr_epoch(s) == epoch) pr_block_free(s, &blocks[1]);
    }
    pr_bury(s);
    pr_leave(s);
    return status;
}

int pr_make_incoming(PrSession *s, uint32_t slot, uint8_t **data) {
    PrObject *o = &s->objects[slot];
    PrCopy *c = pr_copy_of(o);
    pr_enter(s);
    pr_lock(s, &s->control->lineage_lock);
    /* Nobody makes it again, or discards it, as long as that says so. */
    int may = atomic_load(&o->state) & PR_OUT && atomic_load(&c->file);
    if (may) atomic_store(&c->writing, 1);
    pr_unlock(&s->control->lineage_lock);
    int status = may ? pr_block_new(s, pr_block_size(o->size, o->n_refs), &c->incoming) : PR_STALE;
    if (!status) *data = s->write_base + c->incoming;
    else if (may) atomic_store(&c->writing, 0);
    pr_leave(s);
    return status;
}

/* Who watches the object looks again. */
static void end_fetch(PrSession *s, uint32_t slot, uint64_t flags) {
    uint64_t word = atomic_fetch_and(&s->objects[slot].state, ~flags);
    if (word & PR_WATCHED) pr_wake_watchers(s, slot, 1);
}

void pr_arrive(PrSession *s, uint32_t slot) {
    PrObject *o = &s->objects[slot];
    PrCopy *c = pr_copy_of(o);
    pr_enter(s);
    pr_lock(s, &s->control->lineage_lock); /* under which handles are marked */
    if (o->n_refs)
        memcpy(s->write_base + c->incoming + ((o->size + 7) & ~7ull), s->read_base + c->handles,
               8ull * o->n_refs);
    atomic_store_explicit(&c->used, pr_tick(pr_now()), memory_order_relaxed);
    o->place = c->incoming;
    pr_crash_point();
    c->incoming = 0;
    atomic_store(&c->writing, 0);
    atomic_fetch_add(&s->control->n_restored, 1);
    atomic_fetch_add(&s->control->restored_bytes, o->size);
    end_fetch(s, slot, PR_OUT | PR_FETCH);
    uint64_t handles = c->handles;
    c->handles = 0;
    pr_unlock(&s->control->lineage_lock);
    pr_block_free(s, &handles);
    pr_leave(s);
}

void pr_give_up(PrSession *s, uint32_t slot) {
    PrCopy *c = pr_copy_of(&s->objects[slot]);
    pr_enter(s);
    if (c->incoming) {
        pr_block_free(s, &c->incoming);
        atomic_store(&c->writing, 0);
    }
    atomic_fetch_add(&c->given_up, 1);
    end_fetch(s, slot, PR_FETCH);
    pr_leave(s);
}

void pr_fetch(PrSession *s, uint32_t slot) {
    PrObject *o = &s->objects[slot];
    pr_enter(s);
    uint64_t word = atomic_load(&o->state);
    while (word & PR_OUT && !(word & PR_FETCH))
        if (atomic_compare_exchange_weak(&o->state, &word, word | PR_FETCH)) {
            atomic_fetch_add(&s->control->fetches, 1);
            break;
        }
    pr_call_spiller(s);
    pr_leave(s);
}

/* -- choosing ---------------------------------------------------------------------------------- */

/* What is at a slot may die, and be another object, until it is held: look again then. */
static int hold(PrSession *s, uint32_t slot) {
    pr_enter(s);
    int held = pr_hold_if_held(s, slot);
    pr_leave(s);
    return held;
}

typedef struct {
    uint32_t slot, age;
    uint64_t size;
} Candidate;

/* Which objects have names: a bitmap, to be freed; NULL if there is no memory. */
static uint64_t *find_named(const PrSession *s) {
    uint32_t used = atomic_load(&s->control->names.used);
    uint64_t *named = calloc(s->control->bitmap_words, sizeof *named);
    for (uint32_t i = 1; named && i < used; i++) {
        uint32_t slot = pr_slot(atomic_load(&s->names[i].handle));
        named[slot >> 6] |= 1ull << (slot & 63);
    }
    return named;
}

/* Bytes of the block of an object that this process holds, if that could be given back: at once, or
 * with `dirty` after a copy is made. */
static uint64_t spillable(const PrSession *s, uint32_t slot, const uint64_t *named, int dirty) {
    PrObject *o = &s->objects[slot];
    uint64_t word = atomic_load(&o->state);
    if (!may_spill(word) || o->size < PR_SPILL_LEAST) return 0;
    if (o->size < PR_SPILL_NAMED && named[slot >> 6] >> (slot & 63) & 1) return 0;
    PrCopy *c = pr_copy_of(o);
    int clean = atomic_load(&c->file) || is_evictable(s, o);
    if (atomic_load(&c->pins) || clean == dirty) return 0;
    if (dirty && atomic_load(&c->writing)) return 0;
    return pr_block_size(o->size, o->n_refs);
}

static int by_age(const void *a, const void *b) {
    uint32_t left = ((const Candidate *)a)->age, right = ((const Candidate *)b)->age;
    return left > right ? -1 : left < right;
}

/* Held, by their age. NULL if there are none. */
static Candidate *find_candidates(PrSession *s, int dirty, uint32_t *n) {
    uint32_t used = atomic_load(&s->control->objects.used), room = 0;
    uint32_t now = pr_tick(pr_now());
    uint64_t *named = find_named(s);
    Candidate *found = NULL;
    *n = 0;
    for (uint32_t i = 1; named && i < used; i++) {
        PrObject *o = &s->objects[i];
        if (!may_spill(atomic_load(&o->state)) || !hold(s, i)) continue;
        uint64_t size = spillable(s, i, named, dirty);
        if (size && *n == room) {
            room = room ? 2 * room : 1024;
            Candidate *more = realloc(found, room * sizeof *found);
            if (more) found = more;
            else size = room = 0;
        }
        if (size) {
            uint32_t age = now - atomic_load(&pr_copy_of(o)->used);
            found[(*n)++] = (Candidate){i, age, size};
        } else {
            pr_release(s, i);
        }
    }
    free(named);
    if (*n) qsort(found, *n, sizeof *found, by_age);
    return found;
}

/* The mark first: who discards the value marks it OUT, then looks whether it is being written. */
static int begin_writing(PrObject *o) {
    PrCopy *c = pr_copy_of(o);
    atomic_store(&c->writing, 1);
    if (may_spill(atomic_load(&o->state))) return 1;
    atomic_store(&c->writing, 0);
    return 0;
}

uint32_t pr_choose(PrSession *s, int dirty, uint64_t bytes, PrHandle *chosen, uint32_t room) {
    uint32_t n, n_chosen = 0;
    Candidate *found = find_candidates(s, dirty, &n);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t slot = found[i].slot;
        if (n_chosen < room && sum < bytes && (!dirty || begin_writing(&s->objects[slot]))) {
            chosen[n_chosen++] = pr_handle(atomic_load(&s->objects[slot].state), slot);
            sum += found[i].size;
        } else {
            pr_release(s, slot);
        }
    }
    free(found);
    return n_chosen;
}

void pr_spillable(PrSession *s, uint64_t *clean, uint64_t *dirty) {
    uint32_t used = atomic_load(&s->control->objects.used);
    uint64_t *named = find_named(s);
    *clean = *dirty = 0;
    for (uint32_t i = 1; named && i < used; i++) {
        if (!may_spill(atomic_load(&s->objects[i].state)) || !hold(s, i)) continue;
        *clean += spillable(s, i, named, 0);
        *dirty += spillable(s, i, named, 1);
        pr_release(s, i);
    }
    free(named);
}

uint32_t pr_fetched(PrSession *s, PrHandle *chosen, uint32_t room) {
    uint32_t used = atomic_load(&s->control->objects.used), n = 0;
    for (uint32_t i = 1; i < used && n < room; i++) {
        if (!(atomic_load(&s->objects[i].state) & PR_FETCH) || !hold(s, i)) continue;
        uint64_t word = atomic_load(&s->objects[i].state);
        if (pr_state(word) == PR_OBJECT_SEALED && word & PR_FETCH && word & PR_OUT) {
            chosen[n++] = pr_handle(word, i);
        } else {
            pr_release(s, i);
        }
    }
    return n;
}

/* -- recovery ---------------------------------------------------------------------------------- */

static void rebuild_pins(PrSession *s, uint32_t n_objects, uint32_t n_processes) {
    for (uint32_t i = 1; i < n_objects; i++) {
        PrObject *o = &s->objects[i];
        uint64_t word = atomic_load(&o->state);
        int state = pr_state(word);
        if (state >= PR_OBJECT_RESERVED && state <= PR_OBJECT_FAILED && pr_has_copy(o, word))
            atomic_store(&pr_copy_of(o)->pins, 0);
    }
    for (uint32_t i = 1; i < n_processes; i++) {
        if (!is_live(s, i)) continue;
        for (uint32_t w = 0; w * 64 < n_objects; w++) {
            uint64_t bits = atomic_load_explicit(&pr_pins_of(s, i)[w], memory_order_relaxed);
            for (; bits; bits &= bits - 1) {
                uint32_t slot = w * 64 + (uint32_t)__builtin_ctzll(bits);
                atomic_fetch_add(&pr_copy_of(&s->objects[slot])->pins, 1);
            }
        }
    }
}

/* What the spiller was at with an object when it died is finished or undone. */
static void settle_copy(PrSession *s, PrObject *o, int spiller) {
    PrCopy *c = pr_copy_of(o);
    uint64_t word = atomic_load(&o->state);
    if (!spiller) {
        c->incoming = 0;
        atomic_store(&c->writing, 0);
    }
    if (word & PR_OUT && o->place) {
        /* Without a block for the handles it was to be discarded, or made again. */
        int needed = atomic_load(&c->pins) || (o->n_refs && !c->handles);
        if (needed) atomic_fetch_and(&o->state, ~(uint64_t)PR_OUT);
        else o->place = 0;
    }
    if (!o->n_refs) c->handles = 0;
    if (!(atomic_load(&o->state) & PR_OUT)) c->handles = c->incoming = 0;
    if (!atomic_load(&c->file)) return;
    atomic_fetch_add(&s->files[atomic_load(&c->file)].live, 1);
}

static void rebuild_files(PrSession *s, int spiller) {
    uint32_t n = atomic_load(&s->control->n_files);
    for (uint32_t i = 1; i < n; i++) {
        PrFile *f = &s->files[i];
        if (atomic_load(&f->state) == PR_FILE_WRITING && !spiller)
            atomic_store(&f->state, PR_FILE_WHOLE);
        atomic_store(&f->live, atomic_load(&f->state) == PR_FILE_WRITING);
    }
    atomic_store(&s->control->files_done, 1);
}

static void rebuild_wishes(PrSession *s, uint32_t n_processes, int spiller) {
    uint32_t n = 0;
    for (uint32_t i = 1; i < n_processes; i++) {
        PrProcess *p = &s->processes[i];
        if (!is_live(s, i)) {
            atomic_store(&p->want, 0);
            atomic_store(&p->granted, 0);
        }
        if (!spiller && atomic_load(&p->granted) == PR_GRANTING)
            atomic_store(&p->granted, PR_WAITING);
        n += atomic_load(&p->want) != 0;
    }
    atomic_store(&s->control->n_wanting, n);
}

void pr_rebuild_copies(PrSession *s) {
    PrControl *c = s->control;
    uint32_t n_objects = atomic_load(&c->objects.used), n = atomic_load(&c->n_processes);
    if (!is_live(s, atomic_load(&c->spiller))) atomic_store(&c->spiller, 0);
    /* Another one has to see to what it has left. */
    if (!atomic_load(&c->spiller) && atomic_load(&c->n_files) > 1) atomic_store(&c->called, 1);
    int spiller = atomic_load(&c->spiller) != 0;
    rebuild_pins(s, n_objects, n);
    rebuild_files(s, spiller);
    for (uint32_t i = 1; i < n_objects; i++) {
        PrObject *o = &s->objects[i];
        uint64_t word = atomic_load(&o->state);
        if (pr_is_ready(word) && word & PR_BLOCK && !(word & PR_ACTOR)) settle_copy(s, o, spiller);
    }
    rebuild_wishes(s, n, spiller);
}
