/* Which objects there are, and what keeps them; see holders.h.
 *
 * Only reads, while others write (snapshot.h). Every index, place and length is checked before it
 * is used, lists are followed for as long as they can be at most, and what was read of a task or of
 * an object counts if it is of the same generation afterwards.
 */
#include "holders.h"

#include <string.h>

#include "object.h"
#include "snapshot.h"
#include "spill.h"
#include "task.h"

enum { MOST_RESULTS = UINT16_MAX };

/* -- objects ----------------------------------------------------------------------------------- */

static PrHandle maker_of(const PrSession *s, const PrObject *o, uint64_t word) {
    uint32_t task = atomic_load(&o->owner);
    if (pr_state(word) != PR_OBJECT_PENDING || task >= atomic_load(&s->control->tasks.used))
        return 0;
    return pr_handle(atomic_load(&s->tasks[task].state), task);
}

static PrHandle site_of(const PrSession *s, PrHandle object) {
    uint64_t site = atomic_load_explicit(&s->sites[pr_slot(object)], memory_order_relaxed);
    return pr_same(site, object) ? pr_object_in(s, (uint32_t)site) : 0;
}

size_t pr_list_objects(const PrSession *s, PrObjectEntry *out, size_t room) {
    uint32_t used = atomic_load(&s->control->objects.used);
    size_t n = 0;
    for (uint32_t i = 1; i < used; i++) {
        const PrObject *o = &s->objects[i];
        uint64_t word = atomic_load(&o->state), size = PR_ONCE(o->size);
        int is_inline = !PR_ONCE(o->place);
        PrObjectEntry entry = {pr_object_in(s, i), word, size, 0, maker_of(s, o, word), 0};
        if (pr_state(word) == PR_OBJECT_PENDING) entry.size = 0;
        if (!is_inline) entry.block = pr_block_size(size, PR_ONCE(o->n_refs));
        if (!entry.handle || !pr_same(word, entry.handle)) continue;
        entry.site = site_of(s, entry.handle);
        if (n < room) out[n] = entry;
        n++;
    }
    return n;
}

/* -- holders ----------------------------------------------------------------------------------- */

typedef struct {
    const PrSession *s;
    PrHolder *out;
    size_t room, n;
} List;

static void note(List *l, uint32_t slot, PrHeld how, uint64_t by, int32_t pid) {
    PrHandle object = pr_object_in(l->s, slot);
    if (!object) return;
    if (l->n < l->room) l->out[l->n] = (PrHolder){object, by, how, pid};
    l->n++;
}

/* One that is named by its handle: of another generation it is another. */
static void note_handle(List *l, PrHandle object, PrHeld how, uint64_t by, int32_t pid) {
    if (object && pr_object_in(l->s, pr_slot(object)) == object)
        note(l, pr_slot(object), how, by, pid);
}

static void list_processes(List *l) {
    const PrSession *s = l->s;
    uint32_t used = atomic_load(&s->control->objects.used);
    for (uint32_t i = 1; i < atomic_load(&s->control->n_processes); i++) {
        const PrProcess *p = &s->processes[i];
        if (atomic_load(&p->state) != PR_PROCESS_LIVE) continue;
        int32_t pid = atomic_load(&p->pid);
        const _Atomic uint64_t *refs = pr_refs_of(s, i), *pins = pr_pins_of(s, i);
        for (uint32_t w = 0; w * 64 < used; w++) {
            uint64_t bits = atomic_load_explicit(&refs[w], memory_order_relaxed);
            uint64_t views = atomic_load_explicit(&pins[w], memory_order_relaxed);
            for (; bits; bits &= bits - 1) {
                uint32_t bit = (uint32_t)__builtin_ctzll(bits);
                PrHeld how = views >> bit & 1 ? PR_HELD_BY_VIEW : PR_HELD_BY_PROCESS;
                note(l, w * 64 + bit, how, i, pid);
            }
        }
    }
}

static int32_t pid_of(const PrSession *s, uint32_t process) {
    return process < s->control->max_processes ? atomic_load(&s->processes[process].pid) : 0;
}

static const PrDependency *dependencies(const PrSession *s, const PrTask *t, uint32_t n) {
    uint64_t place = PR_ONCE(t->dependencies);
    if (!place) return n <= PR_INLINE_DEPENDENCIES ? t->inline_dependencies : NULL;
    return (const PrDependency *)(const void *)pr_span(s, place, n * sizeof(PrDependency));
}

/* What it holds; one that is DONE holds less (lineage.h). */
static void list_task(List *l, uint32_t task, uint64_t word) {
    const PrSession *s = l->s;
    const PrTask *t = &s->tasks[task];
    PrHandle handle = pr_handle(word, task);
    int done = pr_state(word) == PR_TASK_DONE;
    int32_t pid = pid_of(s, atomic_load(&t->owner));
    uint32_t n = PR_ONCE(t->n_dependencies), slot = pr_first_result(t);
    const PrDependency *d = dependencies(s, t, n);
    for (uint32_t k = 0; d && k < n; k++) {
        if (done && atomic_load(&d[k].next) == PR_WEAK) continue;
        note_handle(l, PR_ONCE(d[k].object), done ? PR_HELD_BY_LINEAGE : PR_HELD_AS_DEPENDENCY,
                    handle, pid);
    }
    note_handle(l, PR_ONCE(t->arguments), done ? PR_HELD_BY_LINEAGE : PR_HELD_AS_ARGUMENTS, handle,
                pid);
    note(l, PR_ONCE(t->label), PR_HELD_AS_LABEL, handle, pid);
    for (uint32_t k = 0; k < MOST_RESULTS && pr_object_in(s, slot); k++) {
        if (!done || !(atomic_load(&s->objects[slot].state) & PR_LINEAGE))
            note(l, slot, done ? PR_HELD_BY_LINEAGE : PR_HELD_AS_RESULT, handle, pid);
        slot = pr_next_result(s, t, slot);
    }
}

static int is_there(uint64_t word) {
    int state = pr_state(word);
    return (state >= PR_TASK_WAITING && state <= PR_TASK_CANCELLED) || state == PR_TASK_DONE;
}

static void list_tasks(List *l) {
    for (uint32_t i = 1; i < atomic_load(&l->s->control->tasks.used); i++) {
        uint64_t word = atomic_load(&l->s->tasks[i].state), after;
        size_t before = l->n;
        if (!is_there(word)) continue;
        list_task(l, i, word);
        after = atomic_load(&l->s->tasks[i].state);
        if (!is_there(after) || !pr_same(after, word)) l->n = before;
    }
}

static void list_stream(List *l, PrObject *o, PrHandle handle) {
    const PrStream *st = (const PrStream *)(const void *)o->bytes;
    uint32_t slot = PR_ONCE(st->first), used = atomic_load(&l->s->control->objects.used);
    uint32_t left = atomic_load(&st->produced) - atomic_load(&st->taken);
    for (left = left < used ? left : used; left && pr_object_in(l->s, slot); left--) {
        note(l, slot, PR_HELD_BY_STREAM, handle, 0);
        slot = atomic_load(&l->s->objects[slot].next);
    }
}

static void list_contents(List *l, PrObject *o, uint64_t word, PrHandle handle) {
    uint64_t size = PR_ONCE(o->size), n = PR_ONCE(o->n_refs), place = PR_ONCE(o->place);
    if (!n || size > l->s->control->arena_size) return;
    size = (size + 7) & ~(uint64_t)7;
    if (word & PR_OUT) { /* its handles have a block of their own */
        place = PR_ONCE(pr_copy_of(o)->handles);
        size = 0;
    }
    const uint8_t *block = pr_span(l->s, place, size + n * sizeof(PrHandle));
    const PrHandle *targets = (const PrHandle *)(const void *)(block + size);
    for (uint64_t k = 0; block && k < n; k++)
        note_handle(l, PR_ONCE(targets[k]), PR_HELD_BY_OBJECT, handle, 0);
}

static void list_objects(List *l) {
    for (uint32_t i = 1; i < atomic_load(&l->s->control->objects.used); i++) {
        PrObject *o = &l->s->objects[i];
        PrHandle handle = pr_object_in(l->s, i);
        uint64_t word = atomic_load(&o->state);
        size_t before = l->n;
        if (!handle || !pr_same(word, handle)) continue;
        if (word & PR_STREAM) list_stream(l, o, handle);
        if (pr_is_ready(word)) list_contents(l, o, word, handle);
        if (pr_object_in(l->s, i) != handle) l->n = before;
    }
}

static void list_names(List *l) {
    const PrSession *s = l->s;
    uint32_t used = atomic_load(&s->control->names.used);
    for (uint32_t i = 1; i < used && i < s->control->names.limit; i++) {
        PrHandle handle = atomic_load(&s->names[i].handle);
        note_handle(l, handle, PR_HELD_BY_NAME, i, PR_ONCE(s->names[i].pid));
    }
}

static void list_actors(List *l) {
    const PrSession *s = l->s;
    for (uint32_t i = 1; i < atomic_load(&s->control->actors.used) && i < PR_ACTORS; i++) {
        const PrActor *a = &s->actors[i];
        int state = pr_state(atomic_load(&a->state));
        if (state == PR_ACTOR_FREE) continue;
        note_handle(l, PR_ONCE(a->death), PR_HELD_BY_ACTOR, i, 0);
        if (state == PR_ACTOR_LIVE && atomic_load(&a->flags) & PR_ACTOR_DETACHED)
            note(l, PR_ONCE(a->object), PR_HELD_BY_ACTOR, i, 0);
    }
}

size_t pr_list_holders(const PrSession *s, PrHolder *out, size_t room) {
    List l = {s, out, room, 0};
    list_processes(&l);
    list_tasks(&l);
    list_objects(&l);
    list_names(&l);
    list_actors(&l);
    return l.n;
}

size_t pr_site_text(const PrSession *s, PrHandle site, char *out, size_t room) {
    if (pr_object_in(s, pr_slot(site)) != site) return 0;
    uint64_t size = PR_ONCE(s->objects[pr_slot(site)].size);
    const uint8_t *text = pr_span(s, PR_ONCE(s->objects[pr_slot(site)].place), size);
    if (!text) return 0;
    memcpy(out, text, size < room ? size : room);
    return size;
}

uint64_t pr_name_prefix(const PrSession *s, uint64_t name) {
    uint64_t prefix = 0;
    if (name >= atomic_load(&s->control->names.used) || name >= s->control->names.limit) return 0;
    if (!atomic_load(&s->names[name].handle)) return 0;
    for (int i = 0; i < 8; i++) prefix |= (uint64_t)PR_ONCE(s->names[name].key[i]) << (8 * i);
    return prefix;
}
