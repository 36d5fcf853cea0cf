from libc.stdint cimport uint32_t

from pyray.runtime._object cimport ObjectRef
from pyray.store._session cimport PrCall, PrHandle, Session


cdef class Call:
    cdef PrCall call
    cdef uint32_t serial  # of the session
    cdef readonly str name
    cdef readonly int num_returns
    cdef ObjectRef label
    cdef ObjectRef actor  # whose method it calls, or None
    cdef tuple making     # of an actor: description, key, flags; or None


cdef class Creation:
    cdef Call call


cdef class Submitter:
    cdef object prepare, check
    cdef Py_ssize_t least, most
    cdef Call call


cdef class ObjectRefGenerator:
    cdef ObjectRef ref
    cdef bint told

    cdef object take(self)
    cdef bint take_is_empty(self)


cdef void set_parent(PrHandle task, uint32_t number) noexcept
cdef void set_calls(object variable)
