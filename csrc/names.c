/* Names for objects: functions, environments, and what users of the store call their objects.
 *
 * A name's slot is filled, key first, then the handle: the store that makes it a name. Buckets and
 * the list of free slots are made anew by the recovery, which also takes the names of objects whose
 * maker died before they were sealed.
 *
 * Who waits for a name watches slot 0 of the objects, which is none: whoever gives a name adds to
 * `named`, then looks whether slot 0 is watched.
 */
#include <string.h>

#include "object.h"

uint32_t pr_name_bucket(const PrSession *s, const uint8_t key[24]) {
    uint64_t h = 0, part;
    for (int i = 0; i < 24; i += 8) {
        memcpy(&part, key + i, 8);
        h = (h ^ part) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    return (uint32_t)(h % s->control->names.limit);
}

/* Where the name's slot is written down, in its bucket or the slot before it. Under the lock. */
static uint32_t *find(PrSession *s, const uint8_t key[24]) {
    uint32_t *at = &s->buckets[pr_name_bucket(s, key)];
    while (*at && memcmp(s->names[*at].key, key, 24) != 0) at = &s->names[*at].next;
    return at;
}

PrHandle pr_name_find(PrSession *s, const uint8_t key[24]) {
    PrHandle handle = 0;
    pr_enter(s);
    pr_lock(s, &s->control->names.lock);
    uint32_t name = *find(s, key);
    if (name) {
        handle = atomic_load(&s->names[name].handle);
        pr_hold(s, pr_slot(handle));
    }
    pr_unlock(&s->control->names.lock);
    pr_leave(s);
    return handle;
}

static uint32_t new_name(PrSession *s) {
    PrTable *table = &s->control->names;
    uint32_t name = table->head, used = atomic_load(&table->used);
    if (name) {
        table->head = s->names[name].next;
        pr_crash_point();
        table->n_free--;
    } else if (used < table->limit) {
        atomic_store(&table->used, used + 1);
        name = used;
    }
    return name;
}

int pr_name_set(PrSession *s, const uint8_t key[24], PrHandle handle, PrHandle *found) {
    int status = 0;
    pr_enter(s);
    pr_lock(s, &s->control->names.lock);
    uint32_t *at = find(s, key), name = *at;
    if (name) {
        *found = atomic_load(&s->names[name].handle);
        pr_hold(s, pr_slot(*found));
    } else if ((name = new_name(s))) {
        memcpy(s->names[name].key, key, 24);
        pr_crash_point();
        s->names[name].next = 0;
        pr_crash_point();
        s->names[name].pid = atomic_load(&s->self->pid);
        atomic_store(&s->names[name].handle, handle);
        atomic_fetch_add(&s->objects[pr_slot(handle)].refs, 1);
        pr_crash_point();
        *at = name;
        *found = handle;
        atomic_fetch_add(&s->control->named, 1);
    } else {
        status = PR_LIMIT;
    }
    pr_unlock(&s->control->names.lock);
    if (atomic_load(&s->objects[0].state) & PR_WATCHED) {
        atomic_fetch_and(&s->objects[0].state, ~(uint64_t)PR_WATCHED);
        pr_wake_watchers(s, 0, 1);
    }
    pr_leave(s);
    return status;
}

int pr_name_remove(PrSession *s, const uint8_t key[24], PrHandle only) {
    pr_enter(s);
    pr_lock(s, &s->control->names.lock);
    uint32_t *at = find(s, key), name = *at;
    if (name && only && atomic_load(&s->names[name].handle) != only) name = 0;
    if (name) {
        PrName *e = &s->names[name];
        PrHandle handle = atomic_exchange(&e->handle, 0);
        pr_crash_point();
        *at = e->next;
        pr_crash_point();
        e->next = s->control->names.head;
        pr_crash_point();
        s->control->names.head = name;
        pr_crash_point();
        s->control->names.n_free++;
        pr_unref(s, pr_slot(handle));
    }
    pr_unlock(&s->control->names.lock);
    pr_bury(s);
    pr_leave(s);
    return name ? 0 : PR_STALE;
}

size_t pr_name_list(PrSession *s, const void *prefix, size_t size, PrName *out, size_t room) {
    size_t n = 0;
    pr_enter(s);
    pr_lock(s, &s->control->names.lock);
    uint32_t used = atomic_load(&s->control->names.used);
    for (uint32_t i = 1; i < used; i++) {
        const PrName *e = &s->names[i];
        PrHandle handle = atomic_load(&e->handle);
        if (!handle || memcmp(e->key, prefix, size) != 0) continue;
        if (n < room) {
            out[n].handle = handle;
            memcpy(out[n].key, e->key, sizeof e->key);
            out[n].pid = e->pid;
        }
        n++;
    }
    pr_unlock(&s->control->names.lock);
    pr_leave(s);
    return n;
}
