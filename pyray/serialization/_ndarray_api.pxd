# _ndarray_api.h: what _ndarray offers the rest of the codec through a capsule.
from cpython.object cimport PyTypeObject
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t


cdef extern from "_ndarray_api.h":
    const char *PYRAY_NDARRAY_CAPSULE

    ctypedef struct PyrayArray:
        PyObject *owner
        PyObject *dtype
        const void *data
        int64_t nbytes
        const int64_t *shape
        int ndim
        int order

    ctypedef struct PyrayNdarrayApi:
        PyTypeObject *ndarray
        int (*describe)(PyObject *array, PyrayArray *out) except -1
        PyObject *(*view)(PyObject *owner, const void *data, PyObject *dtype, int ndim,
                          const int64_t *shape, int order, int writable) except NULL
        PyObject *(*dtype_from_text)(const char *text, Py_ssize_t size,
                                     int64_t *itemsize) except NULL
