"""The encoder: one walk over the object graph, appending to Arrow-layout columns.

Follows docs/format.md, section 7, rule by rule; `reference_encoder.py` is the same in plain
Python. The columns themselves are csrc/column.c. May import `reduction` and `errors`; numpy comes
in with the first array, through the capsule of `_ndarray`.

An object whose only reference is its container's is not looked up in the memo: nothing else can
lead to it. Only user code that runs while we encode (a `__reduce__` that reaches for its parent)
could show it a second time, so before the first such call the walk starts again with `memo_all`.
"""

import sys
from copyreg import __newobj__ as newobj
from copyreg import dispatch_table
from types import BuiltinFunctionType, FunctionType

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_CheckExact, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.complex cimport PyComplex_CheckExact, PyComplex_ImagAsDouble, PyComplex_RealAsDouble
from cpython.dict cimport PyDict_CheckExact, PyDict_Next
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.list cimport PyList_CheckExact, PyList_GET_SIZE
from cpython.long cimport PyLong_CheckExact
from cpython.object cimport PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_SIZE
from cpython.unicode cimport PyUnicode_CheckExact
from libc.stdint cimport INT32_MAX, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset, strcmp

from pyray.serialization._column cimport *
from pyray.serialization._ndarray_api cimport PYRAY_NDARRAY_CAPSULE, PyrayArray, PyrayNdarrayApi

from pyray.serialization import reduction, registry
from pyray.serialization.errors import PicklingError


cdef extern from "_encode_compat.h":
    int pyray_int64(PyObject *o, int64_t *out)
    int64_t pyray_int_size(PyObject *o)
    int pyray_int_bytes(PyObject *o, uint8_t *out, int64_t size) except -1
    PyObject *pyray_instance_dict(PyObject *o)
    unsigned int pyray_type_version(void *kind)
    bint pyray_is_heap_type(PyObject *o)
    void *PYRAY_TYPE(PyObject *o)
    Py_ssize_t PYRAY_REFCNT(PyObject *o)
    PyObject **pyray_list_items(PyObject *o)
    PyObject **pyray_tuple_items(PyObject *o)
    int _PySet_NextEntry(PyObject *s, Py_ssize_t *position, PyObject **key, Py_hash_t *hash)

cdef extern from "debug.h" nogil:
    void pr_debug_written(const uint8_t *message, uint64_t size)

cdef extern from "Python.h":
    PyObject *Py_None
    PyObject *Py_True
    PyObject *Py_False
    int Py_GetRecursionLimit()
    Py_ssize_t PySet_GET_SIZE(PyObject *o)
    Py_ssize_t PyDict_GET_SIZE(PyObject *o)
    bint PyAnySet_CheckExact(PyObject *o)
    bint PyFrozenSet_CheckExact(PyObject *o)
    bint PyPickleBuffer_Check(PyObject *o)
    const Py_buffer *PyPickleBuffer_GetBuffer(object o) except NULL
    bint PyBuffer_IsContiguous(const Py_buffer *view, char order)
    bint PyUnicode_IS_COMPACT_ASCII(PyObject *o)
    int PyUnicode_READY(object o) except -1
    int PyUnicode_KIND(PyObject *o)
    void *PyUnicode_DATA(PyObject *o)
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject *o)
    bint is_type "PyType_Check" (PyObject *o)
    bint is_python_function "PyFunction_Check" (PyObject *o)
    bint is_builtin_function "PyCFunction_CheckExact" (PyObject *o)
    object pickle_buffer "PyPickleBuffer_FromObject" (object o)
    void PyErr_Fetch(PyObject **kind, PyObject **value, PyObject **traceback)
    void PyErr_Restore(PyObject *kind, PyObject *value, PyObject *traceback)
    void *PyCapsule_Import(const char *name, int no_block) except NULL

# Called through these, a function's exception is left to the caller.
ctypedef int (*Dispatch)(Encoder, PyObject *, PrSlot *, int64_t, bint) noexcept
ctypedef int (*Walk)(Encoder, object) noexcept

# Rows of memo entries that have no column.
cdef enum:
    DEFERRED = -1  # its turn will come; until then it counts as remembered
    BEGUN = -2     # a tuple, frozenset or reduction that is being encoded, and may not be deferred

# For put_list: the list is a reduction's items, and no object.
cdef enum:
    NO_IDENTITY = -2

# Steps of the path to an object, for errors.
cdef enum:
    ITEM, VALUE, KEY, MEMBER, STATE, FUNCTION, ARGUMENT, SETTER, SILENT

# C frames are a few hundred bytes a level; beyond this a thread's stack might not do.
cdef Py_ssize_t DEEPEST = 12000
cdef size_t KEPT = 48 << 20
# Below so many bytes other threads may as well wait.
cdef size_t GIL_WORTH = 1 << 16
cdef Py_ssize_t MOST_INFOS = 1024
cdef PyrayNdarrayApi *ndarray_api = NULL
cdef Encoder spare = None  # the last one used, for the next message
cdef dict type_infos = {}  # address of a type -> TypeInfo
cdef dict static_types = {}  # address of a type in C without a name -> its reduce value
cdef dict modules = sys.modules


class Restart(Exception):
    """User code is about to run: start again, remembering every object."""


cdef int no_memory() except -1:
    raise MemoryError()


cdef inline int check(int status) except -1:
    return no_memory() if status else 0


cdef class TypeInfo:
    """What is known of a type while it has its version tag, and the registry its version."""


@cython.final
cdef class Encoder:
    """A builder of one message at a time, used again for the next."""

    def __cinit__(self):
        pr_builder_init(&self.b)
        self.reductions = {}
        self.dtype_indices = {}
        self.pinned = []
        self.queue = []

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.memo.n_entries):
            Py_DECREF(<object> <PyObject *> self.memo.entries[i].key)
        pr_memo_free(&self.memo)
        pr_memo_free(&self.homes)
        pr_memo_free(&self.globals)
        pr_builder_free(&self.b)
        free(self.path)

    cdef int forget(self) except -1:
        """Empty again: nothing of the message stays but memory."""
        cdef uint32_t i, n = self.memo.n_entries
        pr_builder_reset(&self.b, KEPT)
        pr_memo_clear(&self.homes)
        if n:
            for i in range(n):
                Py_DECREF(<object> <PyObject *> self.memo.entries[i].key)
            pr_memo_clear(&self.memo)
        if self.globals.n_entries:
            pr_memo_clear(&self.globals)
        if self.reductions:
            self.reductions.clear()
        if self.dtype_indices:
            self.dtype_indices.clear()
        if self.pinned:
            self.pinned = []
        if self.queue:
            self.queue = []
        if self.in_message:
            self.in_message = False
            reduction.end_message()
        self.culprit = self.culprit_path = None
        self.has_deferred = False
        self.postorder = 0
        self.depth = self.open_base = 0
        self.n_out_of_band = 0
        return 0

    cdef int encode(self, object o) except -1:
        """Walk `o` and lay the message out; on an error nothing is kept."""
        self.memo_all = self.buffer_callback is not None
        self.depth_limit = min(<Py_ssize_t> Py_GetRecursionLimit(), DEEPEST)
        self.path_limit = min(self.path_capacity, self.depth_limit + 1)
        if (<Walk> walk)(self, o):
            recover(self, o)
        return check(pr_plan(&self.b))


include "_encode_memo.pxi"
include "_encode_containers.pxi"
include "_encode_reductions.pxi"


# -- the value's own column ----------------------------------------------------------------


cdef int put(Encoder e, PyObject *o, PrSlot *slot) except -1:
    return 0 if put_scalar(e, o, slot) else put_object(e, o, slot, 1)


cdef inline int put_scalar(Encoder e, PyObject *o, PrSlot *slot) except -1:
    """1 if the value was a scalar and is in its column; 0 and nothing done if it is not."""
    cdef PrColumn *c
    if PyUnicode_CheckExact(<object> o):
        put_str(e, o, slot)
    elif PyLong_CheckExact(<object> o):
        put_int(e, o, slot)
    elif PyFloat_CheckExact(<object> o):
        c = scalar_column(e, slot, PR_FLOAT64)
        check(pr_float_row(slot, c, PyFloat_AS_DOUBLE(<object> o)))
    elif o == Py_None:
        c = scalar_column(e, slot, PR_NULL)
        check(pr_row(slot, c))
        c.rows += 1
    elif o == Py_True or o == Py_False:
        c = scalar_column(e, slot, PR_BOOL)
        check(pr_row(slot, c))
        c.rows += 1
        check(pr_bytes_push8(&c.a, o == Py_True))
    else:
        return 0
    return 1


cdef inline PrColumn *scalar_column(Encoder e, PrSlot *slot, int kind) except NULL:
    cdef PrColumn *c = slot.column
    if c != NULL and c.kind == kind:
        return c
    return column(e, slot, kind, 0, 0, 0, False)


cdef inline int put_int(Encoder e, PyObject *o, PrSlot *slot) except -1:
    cdef int64_t value
    if not pyray_int64(o, &value):
        return put_bigint(e, o, slot)
    return check(pr_int_row(slot, scalar_column(e, slot, PR_INT64), value))


cdef int put_bigint(Encoder e, PyObject *o, PrSlot *slot) except -1:
    cdef int64_t size = pyray_int_size(o)
    cdef PrColumn *c = column(e, slot, PR_BIGINT, 0, 0, 0, False)
    check(pr_row(slot, c))
    check(pr_bytes_reserve(&c.b, size))
    pyray_int_bytes(o, c.b.data + c.b.size, size)
    c.b.size += size
    return check(pr_end(c, c.b.size))


cdef int put_index(Encoder e, int kind, int64_t index, PrSlot *slot) except -1:
    cdef PrColumn *c = column(e, slot, kind, 0, 0, 0, False)
    if index > INT32_MAX:
        raise OverflowError("more than 2**31 - 1 shared objects, globals or buffers in a message")
    return check(pr_index_row(slot, c, <int32_t> index))

# -- strings: format.md, section 7.4 -------------------------------------------------------


cdef inline int put_str(Encoder e, PyObject *o, PrSlot *slot) except -1:
    cdef PrColumn *c = slot.column
    if not PyUnicode_IS_COMPACT_ASCII(o):
        PyUnicode_READY(<object> o)
        if PyUnicode_KIND(o) != 1 and has_surrogates(o):
            return put_surrogates(e, o, slot)
    if c == NULL or c.kind != PR_UTF8:
        c = column(e, slot, PR_UTF8, 0, 0, 0, False)
    return put_str_value(e, o, slot, c)


cdef inline int put_str_value(Encoder e, PyObject *o, PrSlot *slot, PrColumn *c) except -1:
    """A str without surrogates into the UTF8 column of its slot."""
    cdef int64_t entry
    if PyUnicode_GET_LENGTH(o) <= 1 or (
            PYRAY_REFCNT(o) == 1 and not e.memo_all and e.postorder == 0):
        return put_text(e, o, slot, c)
    entry = pr_memo_get(&e.memo, o, NULL)
    if entry >= 0:
        return put_met_str(e, o, entry, slot, c)
    entry = new_entry(e, o)
    e.memo.entries[entry].column = c
    e.memo.entries[entry].row = c.rows
    return put_text(e, o, slot, c)


cdef inline int put_text(Encoder e, PyObject *o, PrSlot *slot, PrColumn *c) except -1:
    """Append a value, and an index if the column has indices."""
    cdef Py_ssize_t n = PyUnicode_GET_LENGTH(o)
    cdef int width
    check(pr_row(slot, c))
    if c.repeated:
        check(pr_bytes_push32(&c.c, <int32_t> c.rows))
    if PyUnicode_IS_COMPACT_ASCII(o):
        check(pr_bytes_append(&c.b, PyUnicode_DATA(o), n))
    else:
        width = PyUnicode_KIND(o)
        check(pr_bytes_reserve(&c.b, (2 if width == 1 else 3 if width == 2 else 4) * n))
        c.b.size += pr_utf8_encode(c.b.data + c.b.size, PyUnicode_DATA(o), n, width, 0)
    return check(pr_end(c, c.b.size))


cdef int put_met_str(Encoder e, PyObject *o, int64_t entry, PrSlot *slot, PrColumn *c) except -1:
    cdef int64_t home, row
    cdef int32_t number
    if e.memo.entries[entry].column == c:
        row = e.memo.entries[entry].row
    else:
        home = pr_memo_get(&e.homes, o, c)
        if home < 0:
            home = pr_memo_add(&e.homes, o, c)
            if home < 0:
                no_memory()
            e.homes.entries[home].row = c.rows
            number = number_of(e, entry)
            memo_row(e, c, c.rows, number)
            return put_text(e, o, slot, c)
        row = e.homes.entries[home].row
    check(pr_make_repeated(c))
    check(pr_row(slot, c))
    return check(pr_bytes_push32(&c.c, <int32_t> row))


cdef int put_surrogates(Encoder e, PyObject *o, PrSlot *slot) except -1:
    cdef int64_t entry = pr_memo_get(&e.memo, o, NULL)
    cdef Py_ssize_t n = PyUnicode_GET_LENGTH(o)
    cdef PrColumn *c
    if entry >= 0:
        return put_ref(e, entry, slot)
    c = column(e, slot, PR_SURROGATES, 0, 0, 0, False)
    if n > 1:
        remember_row(e, new_entry(e, o), c, c.rows)
    check(pr_row(slot, c))
    check(pr_bytes_reserve(&c.b, 4 * n))
    c.b.size += pr_utf8_encode(c.b.data + c.b.size, PyUnicode_DATA(o), n, PyUnicode_KIND(o), 1)
    return check(pr_end(c, c.b.size))

# -- objects with identity -----------------------------------------------------------------


cdef int put_object(Encoder e, PyObject *o, PrSlot *slot, Py_ssize_t own) except -1:
    """`own` references to `o` are its container's and ours; others make it shared."""
    cdef int64_t entry = -1
    cdef int32_t g
    cdef double number[2]
    cdef PrColumn *c
    cdef bint shared
    if PyComplex_CheckExact(<object> o):
        number[0] = PyComplex_RealAsDouble(<object> o)
        number[1] = PyComplex_ImagAsDouble(<object> o)
        c = scalar_column(e, slot, PR_COMPLEX128)
        check(pr_row(slot, c))
        c.rows += 1
        return check(pr_bytes_append(&c.a, number, 16))
    shared = PYRAY_REFCNT(o) > own or e.memo_all or e.postorder != 0
    if shared:
        if PyTuple_CheckExact(<object> o) and PyTuple_GET_SIZE(<object> o) == 0:
            return put_tuple(e, o, slot, -1, False)
        if PyBytes_CheckExact(<object> o) and PyBytes_GET_SIZE(<object> o) == 0:
            return put_bytes(e, o, slot, -1)
        entry = pr_memo_get(&e.memo, o, NULL)
        if entry >= 0 and (e.memo.entries[entry].column != NULL
                           or e.memo.entries[entry].row == DEFERRED):
            return put_ref(e, entry, slot)
        if entry < 0 and (is_type(o) or is_function(o)):
            g = known_global(e, o)
            if g >= 0:
                return put_index(e, PR_GLOBAL, g, slot)
    enter(e)
    Py_INCREF(<object> o)
    if (<Dispatch> dispatch)(e, o, slot, entry, shared):
        note_failure(e, o)
        Py_DECREF(<object> o)
        return -1
    Py_DECREF(<object> o)
    e.depth -= 1
    return 0


cdef int put_data(Encoder e, int kind, PyObject *o, const void *data, Py_ssize_t size,
                  PrSlot *slot, int64_t entry) except -1:
    cdef PrColumn *c = column(e, slot, kind, 0, 0, 0, False)
    remember_row(e, entry, c, c.rows)
    return check(pr_data_row(slot, c, data, size))


cdef int put_bytes(Encoder e, PyObject *o, PrSlot *slot, int64_t entry) except -1:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(<object> o)
    cdef const char *data = PyBytes_AS_STRING(<object> o)
    cdef PrColumn *c
    if size < PR_OUT_OF_LINE:
        return put_data(e, PR_BYTES, o, data, size, slot, entry)
    c = column(e, slot, PR_BYTES_BUFFER, 0, 0, 0, False)
    remember_row(e, entry, c, c.rows)
    return put_index(e, PR_BYTES_BUFFER, pin(e, <object> o, data, size), slot)


cdef int put_bytearray(Encoder e, PyObject *o, PrSlot *slot, int64_t entry) except -1:
    cdef Py_ssize_t size = PyByteArray_GET_SIZE(<object> o)
    cdef PrColumn *c
    if size < PR_OUT_OF_LINE:
        return put_data(e, PR_BYTEARRAY, o, PyByteArray_AS_STRING(<object> o), size, slot,
                        entry)
    c = column(e, slot, PR_BYTEARRAY_BUFFER, 0, 0, 0, False)
    remember_row(e, entry, c, c.rows)
    # A memoryview, so that the bytearray cannot be resized before it is written.
    owner = memoryview(<object> o)
    return put_index(e, PR_BYTEARRAY_BUFFER,
                     pin(e, owner, PyByteArray_AS_STRING(<object> o), size), slot)


cdef int put_pickle_buffer(Encoder e, PyObject *o, PrSlot *slot, int64_t entry) except -1:
    cdef const Py_buffer *view = PyPickleBuffer_GetBuffer(<object> o)
    cdef int kind = PR_BUFFER if view.readonly else PR_BUFFER_WRITABLE
    cdef int64_t index
    cdef PrColumn *c
    if not PyBuffer_IsContiguous(view, b"A"):
        raise PicklingError(
            "PickleBuffer can not be pickled when pointing to a non-contiguous buffer")
    e.calls += e.buffer_callback is not None
    if e.buffer_callback is not None and not e.buffer_callback(<object> o):
        e.n_out_of_band += 1
        index = -e.n_out_of_band
    else:
        index = pin(e, <object> o, view.buf, view.len)
    c = column(e, slot, kind, 0, 0, 0, False)
    remember_row(e, entry, c, c.rows)
    return put_index(e, kind, index, slot)


cdef int put_ndarray(Encoder e, PyObject *o, PrSlot *slot, int64_t entry) except -1:
    """1 if the array has a tensor's dtype, else 0 and nothing done."""
    cdef PyrayArray a
    cdef int64_t index
    cdef PrBuilder *b = &e.b
    cdef PrColumn *c
    cdef object owner
    if not ndarray_api.describe(o, &a):
        return 0
    owner = <object> a.owner
    Py_DECREF(owner)
    e.calls += e.buffer_callback is not None
    if e.buffer_callback is not None and not e.buffer_callback(pickle_buffer(owner)):
        e.n_out_of_band += 1
        index = -e.n_out_of_band
    else:
        index = pin(e, owner, a.data, a.nbytes)
    if b.n_tensors == 0:
        check(pr_bytes_push32(&b.tensor_shape_offsets, 0))
    check(pr_bytes_push32(&b.tensor_buffer, <int32_t> index))
    check(pr_bytes_push32(&b.tensor_dtype, dtype_index(e, <object> a.dtype)))
    check(pr_bytes_push8(&b.tensor_order, <uint8_t> a.order))
    check(pr_bytes_append(&b.tensor_shapes, a.shape, 8 * a.ndim))
    check(pr_bytes_push32(&b.tensor_shape_offsets, <int32_t> (b.tensor_shapes.size // 8)))
    b.n_tensors += 1
    c = column(e, slot, PR_NDARRAY, 0, 0, 0, False)
    remember_row(e, entry, c, c.rows)
    put_index(e, PR_NDARRAY, b.n_tensors - 1, slot)
    return 1


cdef int64_t pin(Encoder e, object owner, const void *data, int64_t size) except -1:
    """A buffer of the message, not copied: its index."""
    cdef PrBlob blob
    blob.data = data
    blob.size = size
    e.pinned.append(owner)
    check(pr_bytes_append(&e.b.blobs, &blob, sizeof(PrBlob)))
    return <int64_t> (e.b.blobs.size // sizeof(PrBlob)) - 1


cdef int dispatch(Encoder e, PyObject *o, PrSlot *slot, int64_t entry, bint shared) except -1:
    cdef bint may_defer = not is_begun(e, entry)
    if shared and entry < 0:
        if is_type(o) or is_function(o):
            return put_by_reducer(e, o, slot, -1)
        entry = new_entry(e, o)
    if PyDict_CheckExact(<object> o):
        return put_dict(e, o, slot, entry)
    if PyList_CheckExact(<object> o):
        return put_list(e, o, slot, entry, True)
    if PyTuple_CheckExact(<object> o):
        return put_tuple(e, o, slot, entry, may_defer)
    if PyBytes_CheckExact(<object> o):
        return put_bytes(e, o, slot, entry)
    if PyAnySet_CheckExact(o):
        return put_set(e, o, slot, entry,
                       PR_FROZENSET if PyFrozenSet_CheckExact(o) else PR_SET, may_defer)
    if PyByteArray_CheckExact(<object> o):
        return put_bytearray(e, o, slot, entry)
    if PyPickleBuffer_Check(o):
        return put_pickle_buffer(e, o, slot, entry)
    if is_ndarray(o) and put_ndarray(e, o, slot, entry):
        return 0
    return put_by_reducer(e, o, slot, entry)


cdef inline bint is_ndarray(PyObject *o):
    """Whether the type is exactly numpy.ndarray; loads the numpy side at the first one."""
    global ndarray_api
    if ndarray_api != NULL:
        return PYRAY_TYPE(o) == ndarray_api.ndarray
    if strcmp((<PyTypeObject *> PYRAY_TYPE(o)).tp_name, b"numpy.ndarray"):
        return False
    __import__("pyray.serialization._ndarray")
    ndarray_api = <PyrayNdarrayApi *> PyCapsule_Import(PYRAY_NDARRAY_CAPSULE, 0)
    return PYRAY_TYPE(o) == ndarray_api.ndarray


cdef inline int class_of(PyObject *o):
    """Class of a list's first item, format.md section 7.1."""
    if PyUnicode_CheckExact(<object> o):
        return PR_STRS
    if PyLong_CheckExact(<object> o):
        return PR_INTS
    if PyFloat_CheckExact(<object> o):
        return PR_FLOATS
    if o == Py_True or o == Py_False:
        return PR_BOOLS
    return PR_OTHER


cdef inline bint is_function(PyObject *o):
    return is_python_function(o) or is_builtin_function(o)


cdef inline bint has_surrogates(PyObject *o):
    return pr_has_surrogates(PyUnicode_DATA(o), PyUnicode_GET_LENGTH(o), PyUnicode_KIND(o))


cdef inline int bit_count(int parts):
    cdef int n = 0
    while parts:
        n += parts & 1
        parts >>= 1
    return n


cdef int32_t dtype_index(Encoder e, object dtype) except -1:
    """Index in the message's dtypes; looked up by identity, then by text."""
    key = <size_t> <PyObject *> dtype
    index = e.dtype_indices.get(key)
    if index is None:
        name = dtype.str
        index = e.dtype_indices.get(name)
        if index is None:
            index = e.b.n_dtypes
            e.b.n_dtypes += 1
            text = name.encode()
            check(pr_bytes_reserve(&e.b.dtypes, len(text) + 10))
            pr_bytes_varint(&e.b.dtypes, len(text))
            pr_bytes_append(&e.b.dtypes, PyBytes_AS_STRING(text), len(text))
            e.dtype_indices[name] = index
        e.dtype_indices[key] = index
        e.pinned.append(dtype)
    return index


cdef int recover(Encoder e, object o) except -1:
    """After walk failed: once more if that is what it asked for, else the error with its path.

    Apart from `encode`, so that a message without an error does not pay for a handler of one."""
    try:
        try:
            pending_error()
        except Restart:
            e.forget()
            e.memo_all = True
            walk(e, o)
    except BaseException as error:
        named = located(error, e)
        if named is error:
            raise
        raise named from error
    return 0


cdef int pending_error() except -1:
    """Raises the exception that is set."""
    return -1


cdef int walk(Encoder e, object o) except -1:
    """The object into row 0 of the root, then what had to be deferred, in order."""
    cdef PyObject *p = <PyObject *> o
    cdef int64_t entry
    cdef Py_ssize_t i = 0
    enter(e)  # so that there is a path
    if (PyUnicode_CheckExact(o) or PyLong_CheckExact(o) or PyFloat_CheckExact(o)
            or o is None or o is True or o is False):
        return put(e, p, &e.b.root)
    put_object(e, p, &e.b.root, 0)
    while i < len(e.queue):
        deferred, rv, e.depth = e.queue[i]
        e.open_base = e.depth
        p = <PyObject *> deferred
        entry = pr_memo_get(&e.memo, p, NULL)
        e.memo.entries[entry].row = 0
        enter(e)
        if rv is None:
            dispatch(e, p, &e.b.root, entry, True)
        else:
            put_reduced(e, p, rv, &e.b.root, entry)
        i += 1
    return 0


cdef Encoder acquire(object context, object buffer_callback):
    """An idle encoder; give it back with release."""
    global spare
    cdef Encoder e = spare
    if e is None:
        e = Encoder()
    spare = None
    e.context = context
    e.buffer_callback = buffer_callback
    return e


cdef void release(Encoder e):
    global spare
    e.forget()
    e.context = e.buffer_callback = None
    spare = e  # of several at a time, the last is kept


cdef int write_message(Encoder e, uint8_t *out) except -1:
    """The whole message to `out`, which has room for b.total_size bytes."""
    if e.b.total_size < GIL_WORTH:
        write_all(&e.b, out)
    else:
        with nogil:
            write_all(&e.b, out)
    return 0


cdef void write_all(const PrBuilder *b, uint8_t *out) noexcept nogil:
    cdef size_t head = pr_padded_head(b)
    pr_write_head(b, out)
    memset(out + b.head_size, 0, head - b.head_size)
    pr_write_blobs(<const PrBlob *> b.blobs.data, b.blobs.size // sizeof(PrBlob), out + head)
    pr_debug_written(out, b.total_size)
