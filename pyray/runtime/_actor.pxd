from libc.stdint cimport uint32_t, uint64_t

from pyray.runtime._execution cimport Execution, Label
from pyray.store._session cimport PrHandle, PrSession, PrTask

cdef extern from "turns.h" nogil:
    ctypedef struct PrTurns:
        pass
    void pr_turn_begins(PrSession *s, uint32_t actor, PrTurns *turns)
    void pr_turn_ends(PrSession *s, PrTurns *turns)
    int pr_turn_comes(PrSession *s, uint32_t actor, PrTurns *turns)
    void pr_stand_by(PrSession *s, uint32_t seen, const PrTurns *turns)
    void pr_stood_by(PrSession *s, PrTurns *turns)
    void pr_linger(PrSession *s, uint32_t actor)


cdef class Actor:
    cdef Execution x
    cdef uint32_t actor, creation  # slots
    cdef readonly object instance
    cdef readonly dict options
    cdef uint32_t call             # the one that runs, if one does at a time
    cdef object calls              # else: a ContextVar of their handles
    cdef readonly bint leaving
    cdef str reason                # why it leaves
    cdef str title                 # what it is shown as
    cdef uint32_t cancels          # looked at so far
    cdef PrTurns turns             # of its threads
    cdef uint64_t turn             # of the one that leads; 0: none does yet

    cdef bint is_there(self, PrHandle call)
    cdef bint is_told_to_leave(self)
    cdef bint is_over(self)
    cdef uint32_t wait_for_call(self) except? 0
    cdef int serve_one_by_one(self) except -1
    cdef bint is_to_run(self, uint32_t task, PrTask *t)
    cdef object invoke(self, PrTask *t, Label label)
    cdef int running(self, uint32_t task) except -1
    cdef int run(self, uint32_t task) except -1
    cdef int returned(self, uint32_t task, PrTask *t, Label label, object result) except -1
    cdef int failed(self, uint32_t task, PrTask *t, Label label, object error) except -1
    cdef int end(self) except -1


cdef int serve_actor(Execution x, uint32_t creation) except -1
cdef uint32_t call_slot()
cdef str actor_title()
cdef Actor serving_now()
