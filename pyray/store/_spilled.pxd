from libc.stdint cimport uint32_t, uint64_t

from pyray.store._session cimport Session


cdef enum:
    LOOK_AHEAD = 64  # more slots than that fetch_ahead does not look at


cpdef bint await_room(Session session, uint64_t size) except -1
cdef int fetch_ahead(Session session, const uint32_t *slots, size_t n) except -1
cdef str describe_full(Session session, uint64_t size)
