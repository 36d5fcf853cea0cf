from libc.stdint cimport uint32_t

from pyray.runtime._execution cimport Execution, Label
from pyray.store._session cimport PrTask


cdef class Worker(Execution):
    cdef uint32_t task      # slot of the one that runs, 0: none
    cdef bint in_user_code
    cdef uint32_t shape     # that the process is set up for
    cdef bint leaving
    cdef object env_error

    cdef int run(self) except -1
    cdef int set_up(self) except -1
    cdef int execute(self, uint32_t task) except -1
    cdef bint prepare(self, PrTask *t) except -1
    cdef int call(self, uint32_t task, PrTask *t) except -1
    cdef int fail(self, uint32_t task, PrTask *t, Label label, object error) except -1
