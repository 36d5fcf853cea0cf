/* Making, mapping and leaving a session's two segments; see session.h.
 *
 * The header is written before the descriptors are handed to anybody. A process slot is claimed by
 * its pid; all else is written before the state says LIVE. One that died before that leaves a slot
 * that is FREE and has a pid, which the recovery makes 0.
 */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actor.h"
#include "object.h"
#include "spares.h"
#include "spill.h"
#include "task.h"

enum { PAGE = 4096, N_NAMES = 1 << 20 };

static uint64_t pages(uint64_t size) {
    return (size + PAGE - 1) & ~(uint64_t)(PAGE - 1);
}

/* -- layout ------------------------------------------------------------------------------------ */

static uint64_t place(uint64_t *end, uint64_t size) {
    uint64_t at = *end;
    *end += pages(size);
    return at;
}

static void lay_out(PrControl *c, const PrConfig *config) {
    uint64_t end = pages(sizeof(PrControl));
    uint32_t objects = config->max_objects ? config->max_objects : 1u << 23;
    uint32_t tasks = config->max_tasks ? config->max_tasks : 1u << 22;
    c->max_processes = config->max_processes ? config->max_processes : 1u << 10;
    c->objects.limit = objects;
    c->tasks.limit = tasks;
    c->names.limit = N_NAMES;
    c->actors.limit = PR_ACTORS;
    c->bitmap_words = (objects + 63) / 64;
    c->arena_size = pages(config->arena_size);
    c->processes_at = place(&end, c->max_processes * sizeof(PrProcess));
    c->shapes_at = place(&end, PR_SHAPES * sizeof(PrShape));
    c->names_at = place(&end, N_NAMES * sizeof(PrName));
    c->buckets_at = place(&end, N_NAMES * sizeof(uint32_t));
    c->objects_at = place(&end, (uint64_t)objects * sizeof(PrObject));
    c->tasks_at = place(&end, (uint64_t)tasks * sizeof(PrTask));
    c->actors_at = place(&end, PR_ACTORS * sizeof(PrActor));
    c->refs_at = place(&end, (uint64_t)c->max_processes * c->bitmap_words * 8);
    c->watch_at = place(&end, (uint64_t)c->max_processes * c->bitmap_words * 8);
    c->pins_at = place(&end, (uint64_t)c->max_processes * c->bitmap_words * 8);
    c->sites_at = place(&end, (uint64_t)objects * sizeof(uint64_t));
    c->files_at = place(&end, PR_FILES * sizeof(PrFile));
    c->arena_at = place(&end, pr_arena_footprint(c->arena_size));
    c->control_size = end;
}

static void fill_header(PrControl *c, const PrConfig *config) {
    static const char *const known[] = {"CPU", "GPU", "memory"};
    lay_out(c, config);
    c->magic = PR_MAGIC;
    c->layout = PR_LAYOUT;
    c->spin = config->spin;
    c->n_cpus = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
    c->objects.used = c->tasks.used = c->actors.used = c->names.used = c->n_processes = 1;
    c->n_files = 1;
    c->spill_at = config->spill_at ? config->spill_at : UINT64_MAX;
    c->call_at = c->spill_at;
    c->max_lineage_bytes = config->max_lineage_bytes;
    c->evicts = config->evicts;
    for (int i = 0; i < 3; i++) strcpy(c->resources[i].name, known[i]);
    c->n_resources = 3;
}

/* -- mapping ----------------------------------------------------------------------------------- */

static void *map(int fd, uint64_t size, int protection) {
    void *at = mmap(NULL, size, protection, MAP_SHARED | MAP_NORESERVE, fd, 0);
    return at == MAP_FAILED ? NULL : at;
}

static void point(PrSession *s) {
    uint8_t *base = (uint8_t *)s->control;
    s->objects = (PrObject *)(void *)(base + s->control->objects_at);
    s->tasks = (PrTask *)(void *)(base + s->control->tasks_at);
    s->actors = (PrActor *)(void *)(base + s->control->actors_at);
    s->processes = (PrProcess *)(void *)(base + s->control->processes_at);
    s->shapes = (PrShape *)(void *)(base + s->control->shapes_at);
    s->names = (PrName *)(void *)(base + s->control->names_at);
    s->files = (PrFile *)(void *)(base + s->control->files_at);
    s->buckets = (uint32_t *)(void *)(base + s->control->buckets_at);
    s->sites = (_Atomic uint64_t *)(void *)(base + s->control->sites_at);
    s->arena = (PrArena *)(void *)(base + s->control->arena_at);
}

static _Atomic uint64_t *bitmap(const PrSession *s, uint64_t at, uint32_t process) {
    uint8_t *base = (uint8_t *)s->control + at;
    return (_Atomic uint64_t *)(void *)base + (uint64_t)process * s->control->bitmap_words;
}

_Atomic uint64_t *pr_refs_of(const PrSession *s, uint32_t process) {
    return bitmap(s, s->control->refs_at, process);
}

_Atomic uint64_t *pr_watch_of(const PrSession *s, uint32_t process) {
    return bitmap(s, s->control->watch_at, process);
}

_Atomic uint64_t *pr_pins_of(const PrSession *s, uint32_t process) {
    return bitmap(s, s->control->pins_at, process);
}

static int map_all(PrSession *s) {
    uint64_t size = s->control->arena_size;
    point(s);
    s->write_base = map(s->arena_fd, size, PROT_READ | PROT_WRITE);
    s->read_base = map(s->arena_fd, size, PROT_READ);
    return s->write_base && s->read_base ? 0 : PR_SYSTEM;
}

/* This process' own counts: of references, and behind them of pins. */
static uint64_t held_size(const PrSession *s) {
    return (uint64_t)s->control->objects.limit * 2 * sizeof(uint32_t);
}

/* What only this process knows of the session. */
static void forget(PrSession *s) {
    if (s->held) munmap(s->held, held_size(s));
    s->held = s->pinned = NULL;
    free(s->unheld);
    s->unheld = NULL;
    s->n_unheld = s->unheld_room = 0;
    pr_forget_calls(s);
}

void pr_session_unmap(PrSession *s) {
    forget(s);
    if (s->write_base) munmap(s->write_base, s->control->arena_size);
    if (s->read_base) munmap((void *)(uintptr_t)s->read_base, s->control->arena_size);
    if (s->control) munmap(s->control, s->control->control_size);
    if (s->control_fd >= 0) close(s->control_fd);
    if (s->arena_fd >= 0) close(s->arena_fd);
    if (s->wake_fd >= 0) close(s->wake_fd);
    s->control = NULL;
    s->write_base = NULL;
    s->read_base = NULL;
    s->control_fd = s->arena_fd = s->wake_fd = -1;
}

/* -- processes --------------------------------------------------------------------------------- */

int32_t pr_live_pid(const PrSession *s, uint32_t process) {
    const PrProcess *p = &s->processes[process];
    int32_t pid = atomic_load(&p->pid);
    uint32_t state = atomic_load(&p->state);
    return state == PR_PROCESS_LIVE && atomic_load(&p->pid) == pid ? pid : 0;
}

uint64_t pr_start_time(int pid) {
    char path[32], text[512], *at, state;
    unsigned long long started = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return 0;
    text[n] = 0;
    /* The name may hold anything; state is field 3, the start field 22. */
    if (!(at = strrchr(text, ')'))) return 0;
    if (sscanf(at + 1,
               " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
               &state, &started) != 2)
        return 0;
    return state == 'Z' || state == 'X' ? 0 : started;
}

int pr_is_alive(const PrProcess *p) {
    if (atomic_load(&p->state) != PR_PROCESS_LIVE) return 0;
    int pid = atomic_load(&p->pid);
    errno = 0;
    uint64_t started = pr_start_time(pid);
    /* No file descriptor left, say: then a process is only dead if there is none of its number. */
    if (!started && errno && errno != ENOENT && errno != ESRCH)
        return kill(pid, 0) == 0 || errno != ESRCH;
    return started == p->start_time;
}

/* The caller is not inside: it has no slot to say so in. No recovery touches a slot that is FREE
 * and has the pid of a process that runs. */
static int take_process_slot(PrSession *s, PrProcessKind kind) {
    PrControl *c = s->control;
    uint32_t i;
    for (i = 1; i < c->max_processes; i++) {
        PrProcess *p = &s->processes[i];
        int32_t none = 0;
        uint32_t used = atomic_load(&c->n_processes);
        while (used <= i && !atomic_compare_exchange_weak(&c->n_processes, &used, i + 1)) {
        }
        /* The claim: a crash after it leaves a slot that a recovery gives back. */
        if (!atomic_compare_exchange_strong(&p->pid, &none, getpid())) continue;
        p->kind = kind;
        p->start_time = pr_start_time(getpid());
        atomic_store(&p->busy, 0);
        atomic_store(&p->shape, PR_NO_SHAPE);
        atomic_store(&p->blocked, 0);
        atomic_store(&p->running, 0);
        atomic_store(&p->env, 0);
        atomic_store(&p->leave, 0);
        atomic_store(&p->waiting, 0);
        atomic_store(&p->sleeping, 0);
        atomic_store(&p->spin_failures, 0);
        atomic_store(&p->woken, 0);
        atomic_store(&p->gpus, 0);
        atomic_store(&p->finished, 0);
        p->n_objects = p->n_tasks = 0;
        s->self = p;
        s->index = i;
        s->caller = atomic_fetch_add(&c->n_callers, 1) + 1;
        s->refs = pr_refs_of(s, i);
        s->watch = pr_watch_of(s, i);
        s->pins = pr_pins_of(s, i);
        atomic_store(&p->state, PR_PROCESS_LIVE);
        return 0;
    }
    return PR_LIMIT;
}

static int make_held(PrSession *s) {
    void *at = mmap(NULL, held_size(s), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return PR_SYSTEM;
    s->held = at;
    s->pinned = s->held + s->control->objects.limit;
    return 0;
}

static int settle(PrSession *s, PrProcessKind kind) {
    int status = make_held(s);
    if (!status) status = take_process_slot(s, kind);
    return status;
}

/* -- the whole --------------------------------------------------------------------------------- */

int pr_session_create(PrSession *s, const PrConfig *config, PrProcessKind kind) {
    PrControl header;
    int status = PR_SYSTEM;
    memset(s, 0, sizeof *s);
    memset(&header, 0, sizeof header);
    fill_header(&header, config);
    s->control_fd = memfd_create("pyray-control", MFD_CLOEXEC);
    s->arena_fd = memfd_create("pyray-arena", MFD_CLOEXEC);
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->control_fd < 0 || s->arena_fd < 0 || s->wake_fd < 0) goto failed;
    if (ftruncate(s->control_fd, (off_t)header.control_size)) goto failed;
    if (ftruncate(s->arena_fd, (off_t)header.arena_size)) goto failed;
    if (!(s->control = map(s->control_fd, header.control_size, PROT_READ | PROT_WRITE)))
        goto failed;
    memcpy((void *)s->control, &header, sizeof header);
    if ((status = map_all(s))) goto failed;
    pr_arena_init(s->arena, header.arena_size);
    if ((status = settle(s, kind))) goto failed;
    return 0;
failed:
    pr_session_unmap(s);
    return status;
}

int pr_session_attach(PrSession *s, int control_fd, int arena_fd, int wake_fd, PrProcessKind kind) {
    PrControl *header;
    struct stat found;
    int status = PR_STALE;
    memset(s, 0, sizeof *s);
    s->control_fd = control_fd;
    s->arena_fd = arena_fd;
    s->wake_fd = wake_fd;
    if (fstat(control_fd, &found)) return PR_SYSTEM;
    if ((uint64_t)found.st_size < sizeof(PrControl)) return PR_STALE;
    if (!(header = map(control_fd, sizeof(PrControl), PROT_READ))) return PR_SYSTEM;
    uint64_t size = header->control_size;
    int known = header->magic == PR_MAGIC && header->layout == PR_LAYOUT;
    munmap(header, sizeof(PrControl));
    if (!known || (uint64_t)found.st_size != size) return PR_STALE;
    if (!(s->control = map(control_fd, size, PROT_READ | PROT_WRITE))) return PR_SYSTEM;
    status = map_all(s);
    return status ? status : settle(s, kind);
}

int pr_session_attach_thread(PrSession *s, const PrSession *of, PrProcessKind kind) {
    memset(s, 0, sizeof *s);
    s->control = of->control;
    s->write_base = of->write_base;
    s->read_base = of->read_base;
    s->control_fd = of->control_fd;
    s->arena_fd = of->arena_fd;
    s->wake_fd = of->wake_fd;
    point(s);
    return settle(s, kind);
}

/* Gives back every object that this process reads, or refers to. */
static void drop_all(PrSession *s) {
    uint32_t used = atomic_load(&s->control->objects.used);
    for (uint32_t word = 0; word * 64 < used; word++) {
        uint64_t bits;
        while ((bits = atomic_load(&s->pins[word]))) {
            uint32_t slot = word * 64 + (uint32_t)__builtin_ctzll(bits);
            s->pinned[slot] = 1;
            pr_unpin(s, slot);
        }
    }
    for (uint32_t word = 0; word * 64 < used; word++) {
        uint64_t bits;
        while ((bits = atomic_load(&s->refs[word]))) {
            uint32_t slot = word * 64 + (uint32_t)__builtin_ctzll(bits);
            s->held[slot] = 1;
            pr_release(s, slot);
        }
    }
}

void pr_session_detach(PrSession *s, int unmap) {
    if (s->self) {
        pr_worker_rest(s);
        pr_forget_room(s);
        drop_all(s);
        pr_enter(s);
        pr_return_spares(s);
        pr_bury(s);
        if (atomic_load(&s->control->spiller) == s->index) atomic_store(&s->control->spiller, 0);
        pr_flush_magazines(s);
        /* Inside: who stops the world may rely on whom it finds LIVE. */
        atomic_store(&s->self->state, PR_PROCESS_FREE);
        pr_leave(s);
        atomic_store(&s->self->pid, 0);
        /* What it held it holds no more: who waits for it to take from a stream looks again. */
        for (uint32_t i = 1; i < atomic_load(&s->control->n_processes); i++)
            if (atomic_load(&s->processes[i].state) == PR_PROCESS_LIVE)
                pr_notify(s, &s->processes[i]);
        s->self = NULL;
    }
    forget(s);
    if (unmap) pr_session_unmap(s);
}
