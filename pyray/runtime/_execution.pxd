from libc.stdint cimport uint32_t

from pyray.store._session cimport PrHandle, PrTask, Session


cdef class Function:
    """A function that this worker has loaded, and what its tasks have in common."""

    cdef PrHandle handle  # of the object it came from, which may be gone: its slot another's
    cdef object function, options
    cdef object error  # why it could not be loaded
    cdef int calls     # that count, for those with max_calls


cdef class Label:
    cdef PrHandle handle
    cdef str name
    cdef int max_calls        # of a function
    cdef str method, group    # of an actor's method
    cdef str special          # the method of Actor that stands for it, or None


cdef class Execution:
    cdef Session session
    cdef object hooks
    cdef dict functions, labels  # by slot
    cdef Label latest            # of the labels
    cdef uint32_t latest_number
    cdef bint serves_actor       # it takes no tasks any more
    cdef bint runs_still         # calls, though the actor has ended

    cdef PrHandle handle_of(self, uint32_t slot)
    cdef Label label(self, uint32_t number)
    cdef list gpu_ids(self)
    cdef Function function(self, uint32_t number)
    cdef tuple arguments(self, PrTask *t)
    cdef list dependencies(self, PrTask *t)
    cdef bint is_pending(self, uint32_t slot)
    cdef int seal_one(self, uint32_t slot, object value, str name) except -1
    cdef int seal(self, PrTask *t, object result, str name) except -1
    cdef object several(self, object result, uint32_t n, str name)
    cdef int stream(self, uint32_t task, PrTask *t, object result) except -1
    cdef int stream_again(self, PrTask *t, object result) except -1
    cdef bint has_pending(self, PrTask *t)
    cdef bint tries_again(self, uint32_t task, PrTask *t, object error) except -1
    cdef int raised(self, uint32_t task, PrTask *t, Label label, object error) except -1
    cdef int store_failure(self, uint32_t task, PrTask *t, object failure, object error) except -1
