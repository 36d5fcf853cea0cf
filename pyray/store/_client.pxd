from libc.stdint cimport int64_t, uint8_t, uint64_t

from pyray.store._session cimport PrHandle, Session


cdef class ObjectID:
    cdef uint8_t key[24]  # what the object is named by in the shared tables: a prefix, the id


cdef class Reservation:
    cdef object pin
    cdef PrHandle handle
    cdef void *data
    cdef Py_ssize_t size
    cdef bint sealed


cdef class Client:
    cdef readonly Session session
    cdef dict reservations  # what this process has created and not sealed, by id

    cdef int check(self) except -1
    cdef int allocate(self, uint64_t size, PrHandle *handle, uint8_t **data) except -1
    cdef int publish(self, ObjectID id, PrHandle handle) except -1
    cdef int check_free(self, ObjectID id) except -1
    cdef Reservation reservation(self, object id)
    cdef object view(self, PrHandle handle)
    cdef PrHandle find(self, ObjectID id) except? 0
    cdef PrHandle wait(self, ObjectID id, int64_t deadline) except? 0
    cdef PrHandle take(self, ObjectID id, int64_t deadline) except 0


cdef ObjectID checked(object id)
cdef int64_t deadline_of(object timeout) except? -2
