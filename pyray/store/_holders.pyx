"""Which objects of a session there are, and what keeps each: csrc/holders.h for Python.

Imports nothing else of pyray. Only looks; others change the tables meanwhile, so the two lists may
not fit each other in what has just changed.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.stdint cimport int32_t, uint32_t, uint64_t

from pyray.store._session cimport *


cdef extern from "holders.h" nogil:
    ctypedef struct PrObjectEntry:
        PrHandle handle
        uint64_t word
        uint64_t size
        uint64_t block
        PrHandle task
        PrHandle site
    ctypedef struct PrHolder:
        PrHandle object
        uint64_t by
        uint32_t how
        int32_t pid
    size_t pr_list_objects(const PrSession *s, PrObjectEntry *out, size_t room)
    size_t pr_list_holders(const PrSession *s, PrHolder *out, size_t room)
    uint64_t pr_name_prefix(const PrSession *s, uint64_t name)
    size_t pr_site_text(const PrSession *s, PrHandle site, char *out, size_t room)

cdef enum:
    PR_ACTOR = 1 << 13  # of PrObject.state
    MOST_TEXT = 4096

# By the numbers of csrc/session.h (PrObjectState, PrTaskState) and csrc/holders.h (PrHeld).
cdef tuple OBJECT_STATES = ("FREE", "CACHED", "RESERVED", "PENDING", "SEALED", "FAILED", "DYING")
cdef tuple TASK_STATES = ("FREE", "CACHED", "WAITING", "READY", "RUNNING", "CANCELLED", "DYING",
                          "DONE")
cdef tuple HELD = ("", "process", "view", "result", "dependency", "arguments", "label", "object",
                   "stream", "name", "actor", "lineage")


cdef void *room_for(size_t n, size_t size) except NULL:
    cdef void *room = PyMem_RawMalloc(n * size + 1)
    if room == NULL:
        raise MemoryError
    return room


def objects(Session session):
    """Dicts of the objects that are alive: `handle`, `state`, `size` of the message, `block` (bytes
    that it takes in the arena), `task` that is to make it, `is_actor`, and `site`, where it was
    made, "" if that was not recorded."""
    cdef size_t n, i
    cdef PrObjectEntry *found
    session.check()
    n = pr_list_objects(&session.s, NULL, 0)
    found = <PrObjectEntry *> room_for(n, sizeof(PrObjectEntry))
    try:
        with nogil:
            n = min(n, pr_list_objects(&session.s, found, n))
        return [{
            "handle": found[i].handle,
            "state": OBJECT_STATES[pr_state(found[i].word)],
            "size": found[i].size,
            "block": found[i].block,
            "task": found[i].task,
            "is_actor": (found[i].word & PR_ACTOR) != 0,
            "site": site(session, found[i].site) if found[i].site else "",
        } for i in range(n)]
    finally:
        PyMem_RawFree(found)


cdef str site(Session session, PrHandle handle):
    cdef char[MOST_TEXT] text
    cdef size_t n = min(pr_site_text(&session.s, handle, text, MOST_TEXT), <size_t> MOST_TEXT)
    return PyBytes_FromStringAndSize(text, n).rstrip(b"\0").decode("utf-8", "replace")


def holders(Session session):
    """Tuples of what keeps objects: handle of the object, how, by what, and a pid or 0.

    How and by what: "process" and "view" (index of the process), "result", "dependency",
    "arguments" and "label" (handle of the task, the pid is that of who submitted it), "object" and
    "stream" (handle of the object), "name" (its first 8 bytes), "actor" (number), "lineage" (handle
    of a task that is over, and would need it to make its results again).
    """
    cdef size_t n, i
    cdef PrHolder *found
    session.check()
    n = pr_list_holders(&session.s, NULL, 0)
    found = <PrHolder *> room_for(n, sizeof(PrHolder))
    try:
        with nogil:
            n = min(n, pr_list_holders(&session.s, found, n))
        return [holder(session, &found[i]) for i in range(n)]
    finally:
        PyMem_RawFree(found)


cdef tuple holder(Session session, PrHolder *h):
    by = h.by
    how = HELD[h.how]
    if how == "name":
        by = pr_name_prefix(&session.s, h.by).to_bytes(8, "little")
    return h.object, how, by, h.pid


def task(Session session, PrHandle handle):
    """What is known of a task that is not over: a dict, or None."""
    cdef PrTaskEntry found
    session.check()
    if not pr_look_at_task(&session.s, handle, &found):
        return None
    _, _, name = (<bytes> found.label).decode("utf-8", "replace").partition(" ")
    return {
        "state": TASK_STATES[found.state],
        "name": name,
        "attempt": found.attempt,
        "pid": found.pid,  # of the worker that runs it, or 0
        "is_creation": (found.flags & PR_TASK_CREATION) != 0,
    }
