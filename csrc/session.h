/* What the processes of a session share: one control segment and one arena, both memfds.
 *
 * The control segment holds the tables: process slots, resource shapes, names, object slots, task
 * slots, and three bitmaps a process. It is sparse: a table's pages exist once they are used.
 * Nothing in it is a pointer. The arena holds the bytes of objects, and is mapped twice: writable,
 * for whom fills a block, and read-only, for whom reads a sealed object.
 *
 * Truth and caches.  A slot has one state word (generation << 32 | flags | state), whose change is
 * one atomic store, the last of a transition. Slots, the bitmaps of references, the names and what
 * a process slot says it holds are the truth. Reference counts, free lists, magazines' contents,
 * ready queues, dependants' lists, counts of missing dependencies, available resources and the
 * allocator's structures are caches: recover.c makes all of them anew from the truth.
 *
 * Stopping the world.  Whoever changes anything shared is *inside* (`busy` is 1) meanwhile, for a
 * microsecond or less. When a process has died, the one that recovers sets `stopping`, waits until
 * no living process is inside, and rebuilds. A process that has to wait for a lock goes outside
 * while it waits: a recovery may come in between, which `epoch` tells it. So the rule for every
 * operation is: change the truth, then the caches that follow from it, without a lock to wait for
 * in between; or else note `epoch` before the truth changes, and leave the cache alone if it
 * differs once the lock is held, since the rebuild has taken the change into account.
 */
#ifndef PYRAY_SESSION_H
#define PYRAY_SESSION_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "crash.h"

/* generation << 32 | slot. Slot 0 is never used: 0 is nil. */
typedef uint64_t PrHandle;

enum {
    PR_MAGIC = 0x59525950,
    PR_LAYOUT = 3,
    PR_MAGAZINE = 64,       /* free slots a process keeps for itself */
    PR_SPARES = 16,         /* labels of which it keeps references */
    PR_RESOURCES = 32,      /* kinds of resources in a session */
    PR_SHAPE_RESOURCES = 8, /* kinds of them that one task may ask for */
    PR_SHAPES = 1024,
    PR_ACTORS = 1 << 16,
    PR_FILES = 1 << 16, /* with copies of objects */
    PR_GPUS = 64,
    PR_SPINNERS = 16, /* processes that may spin at a time */
    PR_UNIT = 10000,  /* a resource of 1.0 */
    PR_NAME_SIZE = 32,
    PR_INLINE_OBJECT = 80,
    PR_INLINE_ARGUMENTS = 112,
    PR_INLINE_DEPENDENCIES = 2
};

/* What functions return, beside 0 for success. */
enum {
    PR_FULL = -1,  /* no block of the size, or no slot for a task */
    PR_STALE = -2, /* the handle's slot is another's by now */
    PR_TIMEOUT = -3,
    PR_INTERRUPTED = -4, /* by a signal */
    PR_ENDED = -5,       /* the session is over */
    PR_LIMIT = -6,       /* a table is full: too many shapes, resources, processes */
    PR_SYSTEM = -7,      /* a system call failed: errno */
    PR_BUSY = -8,        /* not now: it is being read, or too many calls are not over */
    PR_AWAY = -9         /* the object's block was given back: its value is in a file, or gone */
};

typedef struct {
    _Atomic uint32_t word; /* 0, or process index + 1, with PR_LOCK_WAITED */
} PrLock;

/* -- objects, object.h ------------------------------------------------------------------------- */

typedef enum {
    PR_OBJECT_FREE = 0,     /* in the free list, or never used */
    PR_OBJECT_CACHED = 1,   /* in `owner`'s magazine */
    PR_OBJECT_RESERVED = 2, /* process `owner` writes it */
    PR_OBJECT_PENDING = 3,  /* task `owner` will make it */
    PR_OBJECT_SEALED = 4,   /* a value */
    PR_OBJECT_FAILED = 5,   /* the value is an exception, or a code of the system's */
    PR_OBJECT_DYING = 6     /* nobody refers to it; process `owner` gives its memory back */
} PrObjectState;

enum {
    PR_STATE_MASK = 0xff,
    PR_WATCHED = 1 << 8, /* a process may have this object's bit in its watch bitmap */
    PR_STREAM = 1 << 9,  /* object: of a streaming task; inline bytes are a PrStream */
    PR_CODE = 1 << 10,   /* FAILED: inline bytes are a code and a text, not a message */
    PR_CANCEL = 1 << 11, /* task: RUNNING: asked to stop; CANCELLED: its results have failed */
    PR_POPPED = 1
        << 12, /* task: CANCELLED, and in no queue and no list any more; RUNNING: has heard */
    PR_ACTOR = 1 << 13,   /* object: stands for the actor whose slot is in the inline bytes */
    PR_ENDING = 1 << 14,  /* actor: LIVE, and who set this makes it DEAD */
    PR_KILLED = 1 << 15,  /* actor: LIVE, and on purpose not to be made anew */
    PR_OUT = 1 << 15,     /* object: SEALED, and its block was given back; see spill.h */
    PR_FETCH = 1 << 16,   /* object: OUT, and somebody waits for its value */
    PR_BLOCK = 1 << 17,   /* object: ready, and its message was, or is, in a block */
    PR_LINEAGE = 1 << 18, /* object: was once, or is, the result of a task that is DONE: its PrCopy
                             stays, whatever comes; see lineage.h */
    PR_CANCELLER = 16 /* task: CANCELLED: from this bit on, the process that fails the results */
};

#define PR_CLOSED UINT64_MAX /* PrObject.dependants once it is sealed */

typedef struct {
    _Alignas(64) _Atomic uint64_t state;
    _Atomic uint32_t refs;       /* processes, tasks, objects, names and streams that hold it */
    _Atomic uint32_t owner;      /* see PrObjectState */
    _Atomic uint64_t dependants; /* edges: task << 32 | (dependency + 1); 0; PR_CLOSED */
    uint64_t size;               /* of the message */
    uint64_t place;              /* of the block in the arena; 0: the message is inline */
    uint32_t n_refs;             /* handles at the end of the block, which it holds */
    _Atomic uint32_t next;       /* the next return of the task; in lists of free or dying slots */
    uint8_t bytes[PR_INLINE_OBJECT];
} PrObject;

typedef struct {
    uint32_t first, last; /* objects that were yielded and not taken, linked by `next` */
    _Atomic uint32_t produced, taken;
    _Atomic uint32_t closed; /* the consumer wants no more */
    uint32_t reserved;       /* a message behind it is aligned to 8 */
} PrStream;

/* Of an object with a block, that is OUT, or with PR_LINEAGE: in its inline bytes. */
typedef struct {
    _Atomic uint32_t pins;     /* processes that read the block: a cache of their bitmaps */
    _Atomic uint32_t used;     /* when it was made, or last read: pr_tick */
    _Atomic uint32_t file;     /* that has a copy of the message; 0: none has */
    _Atomic uint32_t verified; /* a number of the state in which the file was when it was read */
    _Atomic uint16_t writing;  /* by the spiller, into a file, or from one into memory */
    _Atomic uint16_t given_up; /* how often it could not be read */
    _Atomic uint16_t why;      /* it cannot be made again: PrWhy */
    uint16_t item;             /* of a generator: its number */
    uint32_t next_item;        /* and the item that was linked before */
    uint32_t wanted;           /* DONE tasks that need it to run again; under the lineage's lock */
    uint64_t offset;           /* of the message in that file; stored before `file` */
    uint64_t handles;          /* OUT: place of the handles that were behind the message */
    uint64_t incoming;         /* OUT: place of the block into which it is read again */
} PrCopy;

_Static_assert(sizeof(PrStream) + sizeof(PrCopy) <= PR_INLINE_OBJECT, "a stream that has failed");

typedef enum {
    PR_FILE_FREE = 0,
    PR_FILE_WRITING = 1, /* by the spiller; no object's copy yet */
    PR_FILE_WHOLE = 2
} PrFileState;

/* A file with copies of objects. Written by the spiller alone, but for `live`. */
typedef struct {
    _Atomic uint32_t state;
    _Atomic uint32_t live; /* objects whose copy it has: a cache; 1 more while WRITING */
    uint64_t number;       /* of its name: never used again */
    uint64_t size;         /* bytes */
    uint32_t target;       /* which of the session's directories or URLs it is in */
    uint32_t reserved;
} PrFile;

/* -- tasks, task.h ----------------------------------------------------------------------------- */

typedef enum {
    PR_TASK_FREE = 0,
    PR_TASK_CACHED = 1,    /* in `owner`'s magazine, or being filled by it */
    PR_TASK_WAITING = 2,   /* for its dependencies */
    PR_TASK_READY = 3,     /* in a queue */
    PR_TASK_RUNNING = 4,   /* by process `worker` */
    PR_TASK_CANCELLED = 5, /* while READY: still in a queue, and given back when it is popped */
    PR_TASK_DYING = 6,     /* over; process `worker` gives back what it held */
    PR_TASK_DONE = 7       /* over, and kept to make its results again: lineage.h */
} PrTaskState;

typedef struct {
    PrHandle object;
    _Atomic uint64_t next; /* edge; of a DONE task: PR_WEAK, if it does not hold the object */
} PrDependency;

#define PR_WEAK 1 /* no edge */
/* In a handle behind the arguments of a DONE task: these do not hold that object. */
#define PR_UNHELD ((uint64_t)1 << 31)

enum {
    PR_TASK_STREAMING = 1,
    PR_TASK_DYNAMIC = 2,
    PR_TASK_RETRY_EXCEPTIONS = 4,
    /* 8 and 16 are pyray/runtime/_task.pyx's */
    PR_TASK_CREATION = 32, /* makes `actor`: RUNNING as long as that lives */
    PR_TASK_CALL = 64,     /* of a method of `actor` */
    PR_TASK_PUT_OFF = 128, /* WAITING: for pr_resume alone */
    PR_TASK_OVER = 256,    /* a call that was ended while it waited: no pending one any more */
    PR_TASK_EARLY = 512,   /* DONE, and holds results of tasks that are not over yet */
    PR_TASK_ITEMS = 1024   /* a generator that is, or was, DONE: its items are its results */
};

typedef struct {
    _Alignas(64) _Atomic uint64_t state;
    _Atomic uint32_t owner; /* the process that submitted it */
    _Atomic uint32_t worker;
    /* Dependencies that are not sealed, and PR_FOLLOWS. DONE: the task before it in their list. */
    _Atomic uint32_t missing;
    uint32_t n_dependencies;
    uint64_t dependencies; /* place of PrDependency[]; 0: inline */
    uint32_t function;     /* slot of the object that holds it, which the label keeps */
    uint16_t shape;
    _Atomic uint16_t n_returns;
    _Atomic uint32_t first_return; /* object slot; the others follow by `next` */
    _Atomic uint32_t next;         /* in a queue, a free list, or that of DONE tasks */
    PrHandle arguments;            /* an object; 0: the message is inline */
    uint64_t sequence;             /* order of submission, for the rebuild of queues */
    _Atomic PrHandle parent;       /* task that submitted it */
    int32_t retries_left;          /* < 0: no limit */
    uint32_t attempt;
    _Atomic uint32_t flags;
    uint32_t label; /* slot of the object that says its name and limits; 0: none */
    uint16_t arguments_size;
    uint16_t backlog; /* streaming: it waits while so many items are not taken; 0: it never does */
    union {
        _Atomic uint32_t actor; /* slot, with PR_TASK_CREATION or PR_TASK_CALL */
        _Atomic uint32_t items; /* of other generators: the latest item that can be made again */
    };
    /* generation << 32 | the caller's next call of that actor, which waits until this one is in the
     * actor's queue; 0: none yet; PR_RELEASED: this one is no obstacle to it any more. Of a DONE
     * task: bytes that it counts. */
    _Atomic uint64_t follower;
    _Atomic uint32_t job;
    uint32_t caller; /* PrSession.caller of `owner`, whose slot may be another process' by now */
    PrDependency inline_dependencies[PR_INLINE_DEPENDENCIES];
    uint8_t inline_arguments[PR_INLINE_ARGUMENTS];
} PrTask;

#define PR_RELEASED UINT32_MAX
#define PR_FOLLOWS ((uint32_t)1 << 31) /* it is the follower of a call that has not let it go */

/* A first-in, first-out list of READY tasks. */
typedef struct {
    PrLock lock;
    uint32_t head, tail;
    _Atomic uint32_t count;
} PrQueue;

/* -- actors, actor.h --------------------------------------------------------------------------- */

typedef enum {
    PR_ACTOR_FREE = 0,
    PR_ACTOR_LIVE = 1, /* `creation` is a task that is not over; 0: process `owner` is at it */
    PR_ACTOR_DEAD = 2  /* its calls fail as `death` did */
} PrActorState;

enum {
    PR_ACTOR_UNORDERED = 1, /* calls need not run in the order of their submission */
    PR_ACTOR_DETACHED = 2   /* lives without references */
};

typedef struct {
    _Alignas(64) _Atomic uint64_t state; /* generation << 32 | flags | state */
    uint32_t owner;                      /* process that made it */
    uint32_t object;                     /* slot of the object that stands for it */
    _Atomic PrHandle creation;           /* task */
    PrHandle death;                      /* that task's result, which this holds */
    _Atomic uint32_t worker;             /* process that serves it, or 0 */
    _Atomic uint32_t job;
    _Atomic uint32_t flags;
    uint32_t next;   /* in the free list */
    uint8_t key[24]; /* of its name; zeros: it has none */
    _Alignas(64) PrQueue queue;
    _Atomic uint32_t calls;   /* submitted */
    _Atomic uint32_t idle;    /* its process waits for calls */
    _Atomic uint32_t cancels; /* calls that were asked to stop while they ran, so far */
    /* Of the process that serves it, apart from what those write who call it. */
    _Alignas(64) _Atomic uint32_t over; /* of the calls */
} PrActor;

/* -- scheduling, schedule.h -------------------------------------------------------------------- */

typedef struct {
    uint32_t kind; /* index into PrControl.resources */
    int64_t amount;
} PrNeed;

/* Tasks that want the same resources in the same environment wait in one queue. */
typedef struct {
    _Alignas(64) PrQueue queue;
    uint32_t env;
    uint32_t n_needs;
    PrNeed needs[PR_SHAPE_RESOURCES];
    _Atomic uint32_t reported; /* as infeasible */
} PrShape;

typedef struct {
    char name[PR_NAME_SIZE];
    _Atomic int64_t total;
    _Atomic int64_t available; /* may be negative: a worker that was blocked takes its CPU back */
} PrResource;

/* -- processes --------------------------------------------------------------------------------- */

typedef enum {
    PR_PROCESS_FREE = 0,
    PR_PROCESS_LIVE = 1,
    PR_PROCESS_DEAD = 2 /* not recovered yet */
} PrProcessState;

typedef enum {
    PR_DRIVER = 1,
    PR_WORKER = 2,
    PR_NODE = 3,
    PR_CLIENT = 4,
    PR_SPILLER = 5 /* makes room: spill.h */
} PrProcessKind;

#define PR_NO_SHAPE UINT32_MAX

/* References to an object that are no task's. */
typedef struct {
    uint32_t object, n;
} PrSpare;

typedef struct {
    _Alignas(64) _Atomic uint32_t state;
    uint32_t kind;
    _Atomic int32_t pid;         /* not 0: the slot is taken, or about to be */
    _Atomic uint64_t start_time; /* of the pid, clock ticks after boot: pids are used again */
    /* Whether it is inside: written by the process alone, read by who stops the world. */
    _Alignas(64) _Atomic uint32_t busy;
    /* Counts what happened; a waiter sleeps on it. Anyone adds to it, then wakes if sleeping. */
    _Alignas(64) _Atomic uint32_t event;
    _Atomic uint32_t sleeping;      /* threads in a futex */
    _Atomic uint32_t waiting;       /* threads that watch objects */
    _Atomic uint32_t spin_failures; /* in a row */
    _Atomic int32_t missing;        /* watched objects to be sealed before it is worth waking */
    /* Scheduling; written by the process alone, but for the queue. */
    _Alignas(64) _Atomic uint32_t shape; /* whose resources it holds, or PR_NO_SHAPE */
    _Atomic uint32_t blocked;            /* its CPU is given back */
    _Atomic uint64_t running;            /* task handle */
    _Atomic uint32_t env;
    _Atomic uint32_t leave;      /* it shall end when it is idle */
    _Atomic uint64_t gpus;       /* bits */
    int64_t gpu_amount;          /* of each */
    _Atomic uint64_t finished;   /* tasks */
    _Atomic int64_t batch_began; /* when the queue was last filled, with so many: */
    uint32_t batch;
    _Atomic int64_t idle_since;
    _Atomic uint32_t woken; /* claimed by another, and not looked at the queues since */
    PrQueue queue;          /* its batch: owner pops, others may steal */
    /* Waiting for room, room.c. */
    _Alignas(64) _Atomic uint64_t want; /* bytes; 0: it does not wait */
    int64_t since; /* ns: when it began to wait, which gives its turn; stored before `want` */
    _Atomic uint64_t granted; /* place of a block; PR_WAITING and others; 0: it wants none */
    /* Magazines; the slots say CACHED and this process, whatever stands here. */
    _Alignas(64) uint32_t n_objects, n_tasks;
    _Atomic uint32_t n_spares; /* in all; spares.h */
    PrSpare spares[PR_SPARES];
    uint32_t objects[PR_MAGAZINE], tasks[PR_MAGAZINE];
} PrProcess;

/* A table of slots: those above `used` were never used; the others that are free are a list. */
typedef struct {
    PrLock lock;
    uint32_t head, n_free;
    _Atomic uint32_t used;
    uint32_t limit;
} PrTable;

/* A name for an object, which keeps it alive: functions, environments, objects of the store API. */
typedef struct {
    _Atomic uint64_t handle; /* 0: the slot is free */
    uint8_t key[24];
    uint32_t next; /* in the bucket, or the free list */
    int32_t pid;   /* of the process that gave it */
} PrName;

typedef struct {
    uint32_t magic, layout;
    uint64_t control_size, arena_size;
    uint64_t objects_at, tasks_at, actors_at, processes_at, shapes_at, names_at, buckets_at,
        refs_at, watch_at, pins_at, sites_at, files_at, arena_at;
    uint32_t max_processes, bitmap_words, n_cpus;
    int64_t spin; /* nanoseconds */
    _Atomic uint32_t ended;
    _Atomic uint32_t n_processes; /* slots ever used */
    _Atomic uint32_t n_callers;   /* processes that have joined so far */
    _Alignas(64) _Atomic uint32_t stopping;
    _Atomic uint64_t epoch; /* rebuilds there were */
    _Alignas(64) PrTable objects;
    _Alignas(64) PrTable tasks;
    _Atomic uint64_t sequence;
    PrTable actors;
    _Alignas(64) PrLock arena_lock;
    uint64_t spill_at;           /* bytes in use from which on objects are to be in files */
    _Atomic uint64_t call_at;    /* and at which the spiller is called next */
    _Atomic uint32_t n_wanting;  /* processes that wait for room */
    _Atomic uint32_t spiller;    /* its process, or 0 */
    _Atomic uint32_t called;     /* the spiller was, and has not looked since */
    _Atomic uint32_t fetches;    /* objects that were asked for, so far */
    _Atomic uint32_t files_done; /* a file may have lost its last object */
    _Atomic uint32_t n_files;    /* slots ever used */
    _Atomic uint64_t file_numbers;
    _Atomic uint64_t spilled_bytes, n_spilled, restored_bytes, n_restored, n_evicted;
    /* DONE tasks, the oldest first: under the lock, and caches. */
    _Alignas(64) PrLock lineage_lock;
    uint32_t lineage_first, lineage_last, n_lineage, n_early; /* with PR_TASK_EARLY */
    uint64_t lineage_bytes, max_lineage_bytes;                /* 0: none are kept */
    uint32_t evicts; /* values that can be made again are given back when there is no room */
    _Atomic uint64_t n_reconstructed, n_lineage_dropped;
    _Alignas(64) PrTable names;
    _Atomic uint32_t named; /* names given so far */
    PrLock stream_lock;
    _Alignas(64) PrLock resource_lock;
    _Atomic uint32_t n_resources, n_shapes;
    _Atomic uint32_t starving; /* shape + 1 that others leave room for; 0: none */
    _Atomic int64_t starving_since, patience;
    PrResource resources[PR_RESOURCES];
    _Atomic int64_t gpu_free[PR_GPUS];      /* of each */
    _Alignas(64) _Atomic uint64_t idle[64]; /* bits of processes that wait for a task */
    _Atomic uint32_t n_idle;
    _Atomic int32_t n_woken;                /* processes with `woken` */
    _Alignas(64) _Atomic uint32_t wanted;   /* the node was told to look */
    _Atomic uint32_t asked;                 /* a task that runs is to stop, and may not know */
    _Atomic uint32_t spinners[PR_SPINNERS]; /* process index + 1, or 0 */
    _Atomic uint64_t deaths, retries, put_bytes, n_put;
} PrControl;

enum { PR_CPU = 0, PR_GPU = 1, PR_MEMORY = 2 }; /* indices of PrControl.resources */

/* One process' view of a session; in tests, a thread's. Not for two threads at a time, but for
 * pr_wait and reads of sealed objects (in Python, the GIL sees to it). */
typedef struct {
    PrControl *control;
    PrObject *objects;
    PrTask *tasks;
    PrActor *actors;
    PrProcess *processes, *self;
    PrShape *shapes;
    PrName *names;
    PrFile *files;
    uint32_t *buckets; /* hash of a key -> name; as many as there may be names */
    PrArena *arena;
    uint8_t *write_base;                   /* the arena, writable */
    const uint8_t *read_base;              /* the arena, read-only */
    _Atomic uint64_t *refs, *watch, *pins; /* this process' bitmaps */
    uint32_t *held, *pinned; /* a slot: references and pins of this process; private */
    int keeps_heap;
    _Atomic uint64_t *sites; /* an object: see pr_note_site */
    uint32_t index;          /* of self */
    uint32_t caller;         /* which process of the session: not used again */
    uint32_t dying;          /* slots that wait for pr_bury, linked by `next` */
    uint32_t buried;         /* those of them that were dying when there was a recovery */
    uint64_t dying_epoch;
    uint32_t over;    /* DONE tasks that were ended by this process, DYING, linked by `next` */
    PrHandle *unheld; /* results of DONE tasks, and actors, whose last reference it dropped */
    uint32_t n_unheld, unheld_room;
    /* Calls that this actor's process has taken out of its queue, linked by `next`: READY, and in
     * the queue again if there was a recovery. */
    uint32_t calls;
    uint32_t ahead, n_taken, n_streamed, n_gathered, longer; /* actor.c: look_ahead, gather */
    uint64_t calls_epoch;
    PrHandle *held_calls; /* an actor: the latest call of this process that had to wait; or NULL */
    struct PrOwnCalls **own_calls; /* an actor: its calls, if their number is limited; or NULL */
    int depth;                     /* of pr_enter */
    int control_fd, arena_fd, wake_fd;
} PrSession;

typedef struct {
    uint64_t arena_size;
    uint32_t max_objects, max_tasks, max_processes; /* 0: the default */
    int64_t spin;
    uint64_t spill_at;          /* bytes in use; 0: objects are never spilled */
    uint64_t max_lineage_bytes; /* 0: no lineage is kept */
    uint32_t evicts;            /* see PrControl */
} PrConfig;

/* -- session.c --------------------------------------------------------------------------------- */

/* Makes both memfds and attaches. 0, PR_SYSTEM, PR_LIMIT. */
int pr_session_create(PrSession *s, const PrConfig *config, PrProcessKind kind);
/* Attaches to a session through its descriptors, which it takes over (closed by pr_session_detach).
 * 0, PR_SYSTEM, PR_LIMIT (no process slot), PR_STALE (other layout). */
int pr_session_attach(PrSession *s, int control_fd, int arena_fd, int wake_fd, PrProcessKind kind);
/* The same for another thread of a process, in tests: shares the mappings of `of`. */
int pr_session_attach_thread(PrSession *s, const PrSession *of, PrProcessKind kind);
/* Gives back all that this process holds, and the mappings if `unmap`. */
void pr_session_detach(PrSession *s, int unmap);
void pr_session_unmap(PrSession *s);
/* Of a running process, or 0 if there is none: clock ticks after boot. Zombies count as none. */
uint64_t pr_start_time(int pid);
/* The pid of the process that has a slot; 0 if none has, or if that one comes or goes just now.
 * What is read of the slot between two calls that give the same pid is that process'. */
int32_t pr_live_pid(const PrSession *s, uint32_t process);
/* Whether the process in that slot runs; also said when it cannot be known. Not so if there is
 * none, or it is marked DEAD. */
int pr_is_alive(const PrProcess *p);
_Atomic uint64_t *pr_refs_of(const PrSession *s, uint32_t process);
_Atomic uint64_t *pr_watch_of(const PrSession *s, uint32_t process);
_Atomic uint64_t *pr_pins_of(const PrSession *s, uint32_t process);

/* -- trim.c ------------------------------------------------------------------------------------ */

/* Gives the pages of all free memory of the arena back to the system. The caller is outside. */
void pr_trim(PrSession *s);

/* -- heap.c ------------------------------------------------------------------------------------ */

/* From now on this process keeps memory that it has freed, until it sleeps for long (pr_sleep).
 * Not if the environment has settings for glibc's malloc. */
void pr_keep_heap(PrSession *s);
void pr_give_heap_back(void);

/* -- process.c --------------------------------------------------------------------------------- */

void pr_enter_slowly(PrSession *s);
void pr_lock_slowly(PrSession *s, PrLock *lock);
void pr_unlock_slowly(PrLock *lock);
/* Tells a process that something happened. */
void pr_notify(PrSession *s, PrProcess *p);
/* Has the node process look. */
void pr_call_node(PrSession *s);
/* Waits until p->event is not `seen`: spins for a while, sleeps for at most `timeout` ns (< 0: no
 * limit). 0, PR_TIMEOUT, PR_INTERRUPTED. The caller is outside. After 0.1 s a process
 * gives the heap back that it keeps. */
int pr_sleep(PrSession *s, uint32_t seen, int64_t timeout, int may_spin);

enum { PR_LOCK_WAITED = 1u << 31 };

/* Around every change of shared memory. Nests. */
static inline void pr_enter(PrSession *s) {
    if (s->depth++) return;
    atomic_store(&s->self->busy, 1);
    if (atomic_load(&s->control->stopping)) pr_enter_slowly(s);
}

static inline void pr_leave(PrSession *s) {
    if (--s->depth) return;
    atomic_store_explicit(&s->self->busy, 0, memory_order_release);
}

/* The caller is inside, and at a point where truth and caches agree (see above). */
static inline void pr_lock(PrSession *s, PrLock *lock) {
    uint32_t none = 0;
    if (!atomic_compare_exchange_strong(&lock->word, &none, s->index + 1)) pr_lock_slowly(s, lock);
}

static inline void pr_unlock(PrLock *lock) {
    if (atomic_exchange(&lock->word, 0) & PR_LOCK_WAITED) pr_unlock_slowly(lock);
}

/* Has a cache line fetched that this core is going to write: from another core's cache, and for
 * itself alone. Any address will do. */
static inline void pr_prefetch(const void *at) {
#if defined(__x86_64__)
    /* What __builtin_prefetch makes of a write is a read, unless the compiler may assume that there
     * is this instruction; a processor without it does nothing. */
    __asm__ volatile("prefetchw %0" : : "m"(*(const char *)at));
#else
    __builtin_prefetch(at, 1);
#endif
}

static inline uint64_t pr_epoch(const PrSession *s) {
    return atomic_load_explicit(&s->control->epoch, memory_order_acquire);
}

static inline uint32_t pr_slot(PrHandle h) {
    return (uint32_t)h;
}

static inline int pr_state(uint64_t word) {
    return (int)(word & PR_STATE_MASK);
}

static inline PrHandle pr_handle(uint64_t state_word, uint32_t slot) {
    return (state_word & ~(uint64_t)UINT32_MAX) | slot;
}

static inline int pr_same(uint64_t state_word, PrHandle h) {
    return state_word >> 32 == h >> 32;
}

#endif
