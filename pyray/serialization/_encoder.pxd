from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

cimport cython
from cpython.ref cimport PyObject

from pyray.serialization._column cimport PrBuilder, PrColumn, PrMemo, PrSlot


cdef struct PathStep:
    int kind
    Py_ssize_t index
    PyObject *key     # borrowed: what stands on the path is alive
    int64_t entry     # of the container we are in, -1 if it has none
    PrColumn *column  # its row, when it is remembered; NULL before
    int64_t row


cdef class TypeInfo:
    cdef object reducer        # None: a plain instance
    cdef unsigned int tag      # version of the type; no two types, or states of one, share it
    cdef object version        # of the registry
    cdef bint runs_user_code   # so that any object may turn up again


@cython.final
cdef class Encoder:
    cdef PrBuilder b
    cdef PrMemo memo      # object -> row; the memo owns a reference to each key
    cdef PrMemo homes     # (string, column) -> value, beyond a string's first column
    cdef object context
    cdef object buffer_callback
    cdef PrMemo globals   # function or class -> its index, as row; or another that is named
    cdef dict reductions  # address of a function or class -> the reduce value instead
    cdef dict dtype_indices
    cdef list pinned      # owners of buffers and of names
    cdef list queue       # deferred objects
    cdef bint memo_all    # no object is taken for unshared because of its reference count
    cdef bint in_message  # reduction.begin_message was called
    cdef int postorder    # shared tuples, frozensets and reductions in progress
    cdef size_t calls     # how often code of the user's may have run
    cdef Py_ssize_t n_out_of_band
    cdef PathStep *path
    cdef object culprit, culprit_path  # the innermost object that failed, and where it is
    cdef Py_ssize_t depth, path_capacity, depth_limit
    cdef Py_ssize_t path_limit  # the depth at which there is no room, or no leave, for more
    cdef Py_ssize_t open_base   # the depth above the object whose turn it is
    cdef bint has_deferred

    cdef int encode(self, object o) except -1
    cdef int forget(self) except -1


cdef Encoder acquire(object context, object buffer_callback)
cdef void release(Encoder e)
cdef int write_message(Encoder e, uint8_t *out) except -1
