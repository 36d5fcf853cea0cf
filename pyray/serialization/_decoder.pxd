from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef extern from "message.h":
    ctypedef struct PrText:
        const uint8_t *data
        uint64_t size
    ctypedef struct PrNode:
        uint8_t kind
        uint8_t large
        uint8_t parts
        uint8_t has_refs
        uint32_t child
        uint32_t n_children
        uint32_t extra
        int64_t rows
        uint64_t data_size
        const uint8_t *a
        const uint8_t *b
        uint32_t memo_begin
        uint32_t memo_end
    ctypedef struct PrMessage:
        const uint8_t *base
        uint64_t size
        uint64_t head_size
        uint32_t n_nodes
        uint32_t n_globals
        uint32_t n_memo
        uint32_t n_numbers
        PrNode *nodes
        PrText *names
        PrText *globals_ "globals"
        int *memo_first
        const int *memo_node
        const int *memo_number
        const int64_t *memo_row
        const char *error


cdef extern from "_decode.h":
    ctypedef struct Decoder:
        PrMessage message
        PyObject *source
        PyObject *out_of_band
        int writable


cdef class Buffer:
    cdef object owner
    cdef char *data
    cdef Py_ssize_t size
    cdef bint readonly
    cdef bint is_private  # nobody else reads the memory: arrays of a message in it may be written
    cdef bint is_shared   # the owner's private_copy() gives the same bytes in private memory
    cdef void *memory
    cdef size_t capacity  # of memory, if it is a block of csrc/warm.h

    @staticmethod
    cdef Buffer view(object owner, const char *data, Py_ssize_t size, bint readonly=*)

    @staticmethod
    cdef Buffer wrap(object source)

    @staticmethod
    cdef Buffer allocate(Py_ssize_t size)


cdef class Message:
    cdef Decoder decoder
    cdef readonly object context
    cdef object allow
    cdef object lock
    cdef bint is_trusted

    @staticmethod
    cdef Message open(object buffer, object context, bint trusted, object allow, object buffers)

    cdef object decode(self, uint32_t node, int64_t row)
    cdef object leaf(self, uint32_t node, int64_t row)
    cdef tuple global_name(self, uint32_t index)


cdef object decode(object buffer, object context, bint trusted, object allow, object buffers)
cdef object scalar(const uint8_t *data, Py_ssize_t size)
cdef object as_source(object buffer)
cdef const uint8_t *source_data(object source)
cdef Py_ssize_t source_size(object source)
cdef Buffer private_copy(Buffer shared)
