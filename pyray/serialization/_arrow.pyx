"""A message as Arrow arrays, for whoever speaks the Arrow PyCapsule interface.

The work is done in C (csrc/arrow_*.c); here are the capsules, and the buffer that the arrays keep
alive. Needs no Arrow library. May import `errors`.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport calloc, free

from .errors import DeserializationError

cdef extern from "Python.h":
    bint Py_IsInitialized() nogil

cdef extern from "arrow_export.h" nogil:
    cdef enum:
        PR_ARROW_OK
        PR_ARROW_NO_MEMORY
        PR_ARROW_TOO_LARGE
        PR_VERSION

    ctypedef struct ArrowSchema "struct ArrowSchema":
        void (*release)(ArrowSchema *)

    ctypedef struct ArrowArray "struct ArrowArray":
        void (*release)(ArrowArray *)

    ctypedef struct PrArrowSource:
        pass

    PrArrowSource *pr_arrow_open(const uint8_t *base, uint64_t size,
                                 void (*release)(void *) noexcept nogil, void *handle,
                                 int *status, const char **error)
    void pr_arrow_release(PrArrowSource *source)
    int pr_arrow_schema(PrArrowSource *source, ArrowSchema *out)
    int pr_arrow_array(PrArrowSource *source, ArrowArray *out)


cdef void release_view(void *handle) noexcept nogil:
    # The last array may go on a thread of the consumer, even after Python itself has gone.
    if not Py_IsInitialized():
        return
    with gil:
        PyBuffer_Release(<Py_buffer *> handle)
        free(handle)


cdef void destroy_schema(object capsule) noexcept:
    cdef ArrowSchema *schema = <ArrowSchema *> PyCapsule_GetPointer(capsule, "arrow_schema")
    # A consumer that has moved the contents out leaves `release` empty.
    if schema.release != NULL:
        schema.release(schema)
    free(schema)


cdef void destroy_array(object capsule) noexcept:
    cdef ArrowArray *array = <ArrowArray *> PyCapsule_GetPointer(capsule, "arrow_array")
    if array.release != NULL:
        array.release(array)
    free(array)


cdef class Export:
    """A checked message that any Arrow library can import, as a struct array of one row.

    Arrays taken from it point into the message and keep it alive, whether this object lives or not.
    """

    cdef PrArrowSource *source

    def __cinit__(self, message):
        cdef Py_buffer *view = <Py_buffer *> calloc(1, sizeof(Py_buffer))
        cdef const char *error = NULL
        cdef int status = 0
        if view == NULL:
            raise MemoryError
        try:
            PyObject_GetBuffer(message, view, PyBUF_SIMPLE)
        except BaseException:
            free(view)
            raise
        with nogil:
            self.source = pr_arrow_open(<const uint8_t *> view.buf, <uint64_t> view.len,
                                        release_view, view, &status, &error)
        if self.source == NULL:
            PyBuffer_Release(view)
            free(view)
            raise failure(status, error)

    def __dealloc__(self):
        if self.source != NULL:
            pr_arrow_release(self.source)

    def __arrow_c_schema__(self):
        """The type alone, as an "arrow_schema" capsule."""
        cdef ArrowSchema *schema = <ArrowSchema *> calloc(1, sizeof(ArrowSchema))
        if schema == NULL:
            raise MemoryError
        if pr_arrow_schema(self.source, schema) != PR_ARROW_OK:
            free(schema)
            raise MemoryError
        return PyCapsule_New(schema, "arrow_schema", <void (*)(object) noexcept> destroy_schema)

    def __arrow_c_array__(self, requested_schema=None):
        """Type and data, as capsules "arrow_schema" and "arrow_array".

        `requested_schema` is not looked at: there is one type that describes the message.
        """
        schema_capsule = self.__arrow_c_schema__()
        cdef ArrowArray *array = <ArrowArray *> calloc(1, sizeof(ArrowArray))
        if array == NULL:
            raise MemoryError
        if pr_arrow_array(self.source, array) != PR_ARROW_OK:
            free(array)
            raise MemoryError
        array_capsule = PyCapsule_New(array, "arrow_array",
                                      <void (*)(object) noexcept> destroy_array)
        return schema_capsule, array_capsule


cdef object failure(int status, const char *error):
    """The exception for a message that could not be opened."""
    if status == PR_ARROW_NO_MEMORY:
        return MemoryError()
    text = error.decode()
    if status == PR_ARROW_TOO_LARGE:
        return OverflowError(f"Arrow cannot hold this message: {text}")
    return DeserializationError(f"cannot export the message to Arrow: {text}")


def export(message):
    """An object with `__arrow_c_array__` for the message in a buffer; its columns are not copied.

    In a buffer that does not start at a multiple of 8 they are copied, all but the large buffers.

    Raises:
        DeserializationError: the bytes are not a sound message.
        OverflowError: the message holds more rows than Arrow's unions can number.
    """
    view = memoryview(message)
    if not view.c_contiguous:
        raise TypeError("a message must lie in contiguous memory")
    view = view.cast("B") if view.format != "B" or view.ndim != 1 else view
    if view.nbytes == 0:
        raise DeserializationError("the message is empty")
    version = view[0] >> 4
    if version != PR_VERSION:
        raise DeserializationError(
            f"the message has format version {version}, this reader knows version {PR_VERSION}")
    return Export(view)
