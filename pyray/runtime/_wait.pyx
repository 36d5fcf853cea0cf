"""`wait`: which of many references are ready, without waiting for all of them."""

from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free

from pyray.runtime._object cimport (
    ObjectRef,
    deadline_of,
    open_session,
    serial_now,
    session_now,
    slot_of,
    wait_for,
    waited_slot,
)
from pyray.store._session cimport *


cdef inline bint is_ready(Session session, uint32_t slot):
    return pr_is_ready(session.s.objects[slot].state)


cdef bint is_there(Session session, object waitable) except -1:
    cdef uint32_t slot = waited_slot(waitable)
    if slot & PR_NEXT:
        slot &= ~PR_NEXT
        return is_ready(session, slot) or pr_stream_length(&session.s, slot) > 0
    return is_ready(session, slot)


# Slots met in the current look at a list: a mark a slot, the number of the look.
cdef uint32_t *marks = NULL
cdef uint32_t look_number = 0
cdef uint32_t marks_session = 0


def check_unique(list refs):
    """0 if these are different references, 1 if one is there twice, 2 if one is something else."""
    global marks, look_number, marks_session
    cdef Session session = open_session()
    cdef Py_ssize_t i
    cdef uint32_t slot
    if marks_session != serial_now():
        free(marks)
        # Zero pages that are never touched cost nothing.
        marks = <uint32_t *> calloc(session.s.control.objects.limit, sizeof(uint32_t))
        marks_session, look_number = serial_now(), 0
        if marks == NULL:
            marks_session = 0
            raise MemoryError
    look_number += 1
    if look_number == 0:  # after four thousand million looks: begin anew
        marks_session = 0
        return check_unique(refs)
    for i in range(PyList_GET_SIZE(refs)):
        if type(<object> PyList_GET_ITEM(refs, i)) is not ObjectRef:
            return 2
        slot = slot_of(<object> PyList_GET_ITEM(refs, i))
        if marks[slot] == look_number:
            return 1
        marks[slot] = look_number
    return 0


cdef object split(Session session, list refs, Py_ssize_t num_returns):
    """The first num_returns references that are ready, and the others."""
    cdef Py_ssize_t n = PyList_GET_SIZE(refs), i, begin = 0
    cdef list ready = [], rest = []
    for i in range(n):
        if len(ready) == num_returns:
            break
        if is_there(session, <object> PyList_GET_ITEM(refs, i)):
            ready.append(<object> PyList_GET_ITEM(refs, i))
            if i > begin:
                rest += refs[begin:i]
            begin = i + 1
    if begin < n:
        rest += refs[begin:n] if begin else refs
    return ready, rest


def wait(list refs, Py_ssize_t num_returns, timeout):
    """Waits until so many of the references are ready: (ready ones, the others), in order.

    A generator is ready when its next reference is there, or when there is none any more.
    `timeout` is in seconds; None waits for ever, 0 only looks.
    """
    cdef Session session = session_now()
    cdef Py_ssize_t n = PyList_GET_SIZE(refs), i
    cdef uint32_t *slots
    if session is None or session.closed or session.dead:
        session = open_session()
    ready, rest = split(session, refs, num_returns)
    if len(ready) >= num_returns or (timeout is not None and timeout <= 0):
        return ready, rest
    slots = <uint32_t *> PyMem_Malloc(n * sizeof(uint32_t) + 1)
    if slots == NULL:
        raise MemoryError
    try:
        for i in range(n):
            slots[i] = waited_slot(<object> PyList_GET_ITEM(refs, i))
        wait_for(session, slots, n, num_returns, deadline_of(timeout), False)
    finally:
        PyMem_Free(slots)
    return split(session, refs, num_returns)


def ready(ref):
    """Whether the object is there."""
    return is_ready(open_session(), slot_of(ref))
