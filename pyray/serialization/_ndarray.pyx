"""What the codec needs of numpy's C API, behind the capsule of `_ndarray_api.h`.

Importing this imports numpy, so the encoder and the decoder do it when they meet the first array.
"""

from cpython.pycapsule cimport PyCapsule_New
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdint cimport int64_t

cimport numpy
from numpy cimport (
    NPY_ARRAY_ALIGNED, NPY_ARRAY_C_CONTIGUOUS, NPY_ARRAY_F_CONTIGUOUS, NPY_ARRAY_WRITEABLE,
    NPY_CORDER, npy_intp,
)

import numpy as np

from pyray.serialization.errors import DeserializationError

from pyray.serialization._ndarray_api cimport PYRAY_NDARRAY_CAPSULE, PyrayArray, PyrayNdarrayApi

cdef extern from "Python.h":
    ctypedef struct PyTypeObject:
        pass

cdef extern from "numpy/arrayobject.h":
    ctypedef struct PyArrayObject:
        pass
    ctypedef struct PyArray_Descr:
        pass
    enum:
        NPY_MAXDIMS
    bint PyTypeNum_ISUSERDEF(int type_num)
    PyArray_Descr *PyArray_DescrFromType(int type_num) except NULL
    PyArray_Descr *descr_of "PyArray_DESCR"(PyArrayObject *array)
    int type_of "PyArray_TYPE"(PyArrayObject *array)
    int flags_of "PyArray_FLAGS"(PyArrayObject *array)
    int ndim_of "PyArray_NDIM"(PyArrayObject *array)
    npy_intp *shape_of "PyArray_DIMS"(PyArrayObject *array)
    void *data_of "PyArray_DATA"(PyArrayObject *array)
    npy_intp nbytes_of "PyArray_NBYTES"(PyArrayObject *array)
    PyObject *copy_of "PyArray_NewCopy"(PyArrayObject *array, int order) except NULL
    object new_array "PyArray_NewFromDescr"(PyTypeObject *cls, PyArray_Descr *dtype, int ndim,
                                            npy_intp *shape, npy_intp *strides, void *data,
                                            int flags, PyObject *obj)
    int set_base "PyArray_SetBaseObject"(PyArrayObject *array, PyObject *base) except -1
    void update_flags "PyArray_UpdateFlags"(PyArrayObject *array, int which)
    npy_intp PyDataType_ELSIZE(PyArray_Descr *dtype)
    PyTypeObject PyArray_Type

numpy.import_array()

cdef enum:
    CONTIGUOUS = NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_F_CONTIGUOUS
    FIRST_FLEXIBLE = 17  # numpy's type numbers below are those of bools and numbers

#: Kinds of dtypes whose arrays travel as NDARRAY, docs/format.md section 5.
cdef str KINDS = "biufcmMSUV"


# -- encoding ----------------------------------------------------------------------------------


cdef bint is_carried(object dtype) except -1:
    """Whether the text that a message has for a dtype says all there is to say about it."""
    return (
        dtype.kind in KINDS
        and not PyTypeNum_ISUSERDEF(dtype.num)
        and not dtype.hasobject
        and dtype.names is None
        and dtype.subdtype is None
        and dtype.metadata is None
    )


cdef bint is_plain_number(PyArrayObject *array) except -1:
    """Whether the dtype is numpy's own object for a bool or number, which says no more."""
    cdef int type_num = type_of(array)
    cdef PyArray_Descr *plain
    if type_num < 0 or type_num >= FIRST_FLEXIBLE:
        return False
    plain = PyArray_DescrFromType(type_num)
    Py_DECREF(<object> <PyObject *> plain)
    return plain == descr_of(array)


cdef int describe(PyObject *obj, PyrayArray *out) except -1:
    cdef PyArrayObject *array = <PyArrayObject *> obj
    if not is_plain_number(array) and not is_carried(<object> <PyObject *> descr_of(array)):
        return 0
    if flags_of(array) & CONTIGUOUS:
        Py_INCREF(<object> obj)
    else:
        obj = copy_of(array, NPY_CORDER)
        array = <PyArrayObject *> obj
    out.owner = obj
    out.dtype = <PyObject *> descr_of(array)
    out.data = data_of(array)
    out.nbytes = nbytes_of(array)
    out.shape = <const int64_t *> shape_of(array)
    out.ndim = ndim_of(array)
    out.order = 0 if flags_of(array) & NPY_ARRAY_C_CONTIGUOUS else 1
    if type_of(array) in (numpy.NPY_DATETIME, numpy.NPY_TIMEDELTA):
        # numpy exports no buffer of dates; whoever gets the owner out of band will ask for one.
        exported = (<object> obj).view("i8")
        Py_INCREF(exported)
        out.owner = <PyObject *> exported
        Py_DECREF(<object> obj)
    return 1


# -- decoding ----------------------------------------------------------------------------------


cdef PyObject *view(PyObject *owner, const void *data, PyObject *dtype, int ndim,
                    const int64_t *shape, int order, int writable) except NULL:
    cdef npy_intp dims[NPY_MAXDIMS]
    cdef int i, flags = NPY_ARRAY_F_CONTIGUOUS if order else NPY_ARRAY_C_CONTIGUOUS
    if ndim > NPY_MAXDIMS:
        raise DeserializationError(f"this numpy has no arrays of {ndim} dimensions")
    for i in range(ndim):
        dims[i] = shape[i]
    if writable:
        flags |= NPY_ARRAY_WRITEABLE
    Py_INCREF(<object> dtype)  # taken over
    array = new_array(&PyArray_Type, <PyArray_Descr *> dtype, ndim, dims, NULL, <void *> data,
                      flags, NULL)
    Py_INCREF(<object> owner)  # taken over
    set_base(<PyArrayObject *> <PyObject *> array, owner)
    # The memory may be unaligned, and an array of one row or column is of both orders.
    update_flags(<PyArrayObject *> <PyObject *> array, CONTIGUOUS | NPY_ARRAY_ALIGNED)
    Py_INCREF(array)
    return <PyObject *> array


cdef bint is_dtype_text(str text):
    """Whether it has the form of `dtype.str`: byte order, kind, size, perhaps a unit of time."""
    unit = text[2:].lstrip("0123456789")
    if len(text) < 2 or text[0] not in "<>|=" or text[1] not in KINDS:
        return False
    return not unit or (text[1] in "mM" and unit.startswith("[") and unit.endswith("]"))


#: The dtypes of messages so far, by their texts; few, as hostile messages could name very many.
cdef dict known_dtypes = {}


cdef object make_dtype(bytes data):
    text = data.decode("ascii", "replace")
    dtype = None
    if is_dtype_text(text):
        try:
            dtype = np.dtype(text)
        except (TypeError, ValueError):
            pass
    if dtype is None or not is_carried(dtype):
        raise DeserializationError(f"malformed message: {text!r} is not the dtype of an array")
    if len(known_dtypes) < 100:
        known_dtypes[data] = dtype
    return dtype


cdef PyObject *dtype_from_text(const char *text, Py_ssize_t size, int64_t *itemsize) except NULL:
    cdef bytes data = text[:size]
    dtype = known_dtypes.get(data)
    if dtype is None:
        dtype = make_dtype(data)
    itemsize[0] = PyDataType_ELSIZE(<PyArray_Descr *> <PyObject *> dtype)
    Py_INCREF(dtype)
    return <PyObject *> dtype


cdef PyrayNdarrayApi api
api.ndarray = &PyArray_Type
api.describe = describe
api.view = view
api.dtype_from_text = dtype_from_text

_api = PyCapsule_New(&api, PYRAY_NDARRAY_CAPSULE, NULL)
