from libc.stdint cimport uint64_t

from pyray.store._session cimport Session


cpdef bint await_room(Session session, uint64_t size) except -1
cdef str describe_full(Session session, uint64_t size)
