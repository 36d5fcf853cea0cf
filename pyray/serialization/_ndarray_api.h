/* What _ndarray.pyx offers the encoder and the decoder, through a capsule, so that neither imports
 * numpy before the first array is met. */
#ifndef PYRAY_NDARRAY_API_H
#define PYRAY_NDARRAY_API_H

#include <Python.h>
#include <stdint.h>

typedef struct {
    PyObject *owner; /* new reference: the array, or the C-ordered copy that was needed */
    PyObject *dtype; /* borrowed from owner */
    const void *data;
    int64_t nbytes;
    const int64_t *shape; /* ndim values, borrowed from owner */
    int ndim;
    int order; /* 0 C, 1 Fortran */
} PyrayArray;

typedef struct {
    PyTypeObject *ndarray;
    /* 1: filled in; 0: not an array that NDARRAY can carry (it must be reduced); -1: exception.
     * `array` is exactly numpy.ndarray. */
    int (*describe)(PyObject *array, PyrayArray *out);
    /* A view of `data`, whose memory `owner` keeps alive. New reference, NULL with an exception. */
    PyObject *(*view)(PyObject *owner, const void *data, PyObject *dtype, int ndim,
                      const int64_t *shape, int order, int writable);
    /* The dtype of a message's dtype string; DeserializationError if it is not one of format.md
     * section 5. New reference; *itemsize is set. */
    PyObject *(*dtype_from_text)(const char *text, Py_ssize_t size, int64_t *itemsize);
} PyrayNdarrayApi;

#define PYRAY_NDARRAY_CAPSULE "pyray.serialization._ndarray._api"

#endif
