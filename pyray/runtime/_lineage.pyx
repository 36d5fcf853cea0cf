"""Objects whose values were lost: made again by the tasks that made them (csrc/lineage.h), or what
is raised if they cannot be. Also giving values back on purpose.

Imported when the first value is missed. Imports `exceptions` when needed.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free as c_free, malloc

from pyray.runtime._object cimport (
    failure_of, give_cpu, open_session, runs_task, slot_of, take_cpu, wait_for)
from pyray.store._session cimport *

from pyray.store._spilled import Late

cdef enum:
    LOST = 3         # PR_OBJECT_LOST
    PAUSE = 2000000  # ns until a task that is about to end is asked about again
    TRIES = 500      # so often, a second, of a generator that may go on for ever

#: Why one cannot be made again.
cdef dict REASONS = {
    PR_WHY_PUT: "what put() has stored cannot be computed again",
    PR_WHY_ACTOR: "results of actors cannot be computed again",
    PR_WHY_NO_RETRIES: "its task has max_retries=0, or has used them up",
    PR_WHY_GENERATOR: "only the first 1024 values that a generator yields can be computed again",
    PR_WHY_DROPPED: "how it was made is not known any more: see PYRAY_max_lineage_bytes",
    PR_WHY_FAILED: "its task failed when it was run again, or its process died too early",
    PR_WHY_UNDECIDED: "its task is not over",
    PR_WHY_GONE: "it is not there any more, as nobody referred to it, and how it was made is not "
                 "known any more: see PYRAY_max_lineage_bytes",
}


cdef object lost(PrHandle handle, str why, PrHandle culprit, uint32_t reason):
    from pyray.runtime import exceptions
    cdef uint32_t kind = reason & ~<uint32_t> PR_WHY_FREED
    kinds = {
        PR_WHY_PUT: exceptions.ObjectLostError,
        PR_WHY_DROPPED: exceptions.ObjectReconstructionFailedLineageEvictedError,
        PR_WHY_GONE: exceptions.ObjectReconstructionFailedLineageEvictedError,
    }
    cls = kinds.get(kind, exceptions.ObjectReconstructionFailedError)
    text = REASONS[kind]
    if culprit != handle:
        text = f"its task needs the object {culprit:032x}: {text}"
        cls = exceptions.ObjectReconstructionFailedError if kind == PR_WHY_PUT else cls
    elif reason & PR_WHY_FREED:
        cls = exceptions.ObjectFreedError if kind == PR_WHY_PUT else cls
        why = "its value was freed"
    error = cls(f"{handle:032x}")
    error._why = f"It is lost: {why}; and {text}."
    return error


cdef int pause(Session session) except -1:
    """A moment, for a task that is about to end."""
    cdef uint32_t seen = session.s.self.event
    begin_use(session)
    try:
        with nogil:
            pr_sleep(&session.s, seen, PAUSE, 0)
    finally:
        end_use(session)
    return 0


cdef object try_again(Session session, PrHandle handle, str why, int64_t deadline):
    """None: its value is there, or will be; else what is to be raised. Raises Late.

    Its task may be about to end, or run again already, or its file is just read.
    """
    cdef PrHandle culprit = 0
    cdef PrWhy reason = PR_WHY_PUT
    cdef int status = PR_BUSY, tries = 0
    cdef uint32_t number = 0
    cdef bint gives = False  # the CPU of the task that waits here
    try:
        while True:
            status = pr_reconstruct(&session.s, handle, &culprit, &reason)
            if status != PR_BUSY or (reason == PR_WHY_UNDECIDED and tries == TRIES):
                break
            if 0 <= deadline <= pr_now():
                raise Late
            if not tries and runs_task():
                gives = True
                number = give_cpu(session)
            tries += 1
            pause(session)
            PyErr_CheckSignals()
            session.check()
    finally:
        if gives:
            take_cpu(session, number)
    if status == PR_STALE:
        return lost(handle, why, culprit, reason)
    if status == PR_FULL:
        return MemoryError("no memory to find out how a lost object was made")
    if status == PR_BUSY:
        return lost(handle, why, handle, PR_WHY_UNDECIDED)
    return None


def make_again(PrHandle handle, str why, int64_t deadline):
    """Returns when the value of a lost object is there again, though it may be lost by then.

    Raises ObjectLostError, or what its task raised this time, or Late.
    """
    cdef Session session = open_session()
    cdef uint32_t slot = pr_slot(handle)
    if pr_copy_of(&session.s.objects[slot]).file:  # it may be had later
        from pyray.runtime.exceptions import from_code
        raise from_code(LOST, why, f"{handle:032x}")
    error = try_again(session, handle, why, deadline)
    if error is not None:
        raise error
    if not wait_for(session, &slot, 1, 1, deadline, False):
        raise Late
    if pr_state(session.s.objects[slot].state) == PR_OBJECT_FAILED:
        raise failure_of(session, slot)


def make_all_again(list slots, int64_t deadline):
    """Those of the objects in these slots whose values are gone, and that can be: whether they are
    ready in time. Of the others who reads them will hear."""
    cdef Session session = open_session()
    cdef uint32_t *waited = <uint32_t *> malloc(len(slots) * sizeof(uint32_t))
    cdef size_t n = 0
    cdef uint32_t slot
    if waited == NULL:
        raise MemoryError
    try:
        for slot in slots:
            handle = pr_handle(session.s.objects[slot].state, slot)
            if not pr_is_gone(&session.s.objects[slot]):
                continue
            if try_again(session, handle, "", deadline) is None:
                waited[n] = slot
                n += 1
        return n == 0 or wait_for(session, waited, n, n, deadline, True) == 1
    except Late:
        return False
    finally:
        c_free(waited)


def free(list refs):
    """Gives the values of these objects back, in memory and in files; how many. Those that are
    being read, or small, stay."""
    cdef Session session = open_session()
    cdef int status, _i
    cdef uint32_t slot
    n = 0
    for ref in refs:
        slot = slot_of(ref)
        status = PR_BUSY
        for _i in range(TRIES):
            status = pr_discard(&session.s, slot)
            if status != PR_BUSY or session.s.pinned[slot]:
                break
            pause(session)
        n += status == 0
    return n
