"""Waiting for many objects, for long: what the thread that serves futures does (futures.py).

What is ready is found without a look at the others (csrc/wait.c). Imports `exceptions` when needed.
"""

cimport cython
from libc.stdint cimport uint32_t

from pyray.runtime._object cimport give_cpu, open_session, runs_task, take_cpu, waited_slot
from pyray.store._session cimport *

from pyray.store._session import SessionEnded

cdef enum:
    ROOM = 256


@cython.final
cdef class Vigil:
    """References, and generators of them, that are waited for; by the slots of their objects.

    Who adds one holds it until it is removed or found ready. All methods raise RaySystemError when
    the session has ended.
    """

    cdef Session session
    cdef PrVigil v

    def __cinit__(self):
        self.session = open_session()
        if pr_vigil_begin(&self.session.s, &self.v):
            raise MemoryError

    def __dealloc__(self):
        cdef Session session = self.session
        if session is not None:
            gone = session.closed or session.dead
            pr_vigil_end(NULL if gone else &session.s, &self.v)

    cdef PrSession *open(self) except NULL:
        try:
            self.session.check()
        except SessionEnded as error:
            from pyray.runtime.exceptions import RaySystemError
            raise RaySystemError(
                f"{error}: call shutdown(), then init() for a new one") from None
        return &self.session.s

    def add(self, waitable):
        """Wait for it, too; its slot."""
        cdef uint32_t waited = waited_slot(waitable)
        pr_vigil_add(self.open(), &self.v, waited)
        return waited & ~PR_NEXT

    def remove(self, uint32_t slot):
        pr_vigil_remove(self.open(), &self.v, slot)

    def ready(self):
        """Slots of those that are ready, and perhaps some that are not: they are not waited for any
        more."""
        cdef PrSession *s = self.open()
        cdef uint32_t[ROOM] slots
        cdef size_t n = ROOM, i
        found = []
        while n == ROOM:
            n = pr_vigil_ready(s, &self.v, slots, ROOM)
            for i in range(n):
                found.append(slots[i])
        return found

    def events(self):
        """How often this process was notified."""
        return <uint32_t> self.open().self.event

    def sleep(self, uint32_t seen):
        """Until this process was notified since `seen`, as it is when one is ready; in a task, its
        CPU is for others meanwhile."""
        cdef PrSession *s = self.open()
        cdef bint gives = runs_task()
        cdef uint32_t number = give_cpu(self.session) if gives else 0
        begin_use(self.session)
        try:
            with nogil:
                pr_vigil_sleep(s, seen)
        finally:
            if gives:
                take_cpu(self.session, number)
            end_use(self.session)
        if s.control.ended:
            from pyray.runtime.exceptions import RaySystemError
            raise RaySystemError("the session has ended")
