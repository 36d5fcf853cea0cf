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
from types import BuiltinFunctionType, FunctionType

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_CheckExact, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.complex cimport PyComplex_CheckExact, PyComplex_ImagAsDouble, PyComplex_RealAsDouble
from cpython.dict cimport PyDict_CheckExact, PyDict_Next
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.list cimport PyList_CheckExact, PyList_GET_SIZE
from cpython.long cimport PyLong_CheckExact
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_SIZE
from cpython.unicode cimport PyUnicode_CheckExact
from libc.stdint cimport INT32_MAX, int8_t, int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset, strcmp

from pyray.serialization._column cimport *

from pyray.serialization import reduction
from pyray.serialization.errors import PicklingError


cdef extern from "_encode_compat.h":
    int pyray_int64(PyObject *o, int64_t *out)
    int64_t pyray_int_size(PyObject *o)
    int pyray_int_bytes(PyObject *o, uint8_t *out, int64_t size) except -1
    PyObject *pyray_instance_dict(PyObject *o)
    bint PYRAY_EMPTY_DICT_IS_STATE
    void *PYRAY_TYPE(PyObject *o)
    Py_ssize_t PYRAY_REFCNT(PyObject *o)
    PyObject **pyray_list_items(PyObject *o)
    PyObject **pyray_tuple_items(PyObject *o)
    int _PySet_NextEntry(PyObject *s, Py_ssize_t *position, PyObject **key, Py_hash_t *hash)

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
    object pickle_buffer "PyPickleBuffer_FromObject" (object o)
    void PyErr_Fetch(PyObject **kind, PyObject **value, PyObject **traceback)
    void PyErr_Restore(PyObject *kind, PyObject *value, PyObject *traceback)
    void *PyCapsule_Import(const char *name, int no_block) except NULL
    ctypedef struct PyTypeObject:
        const char *tp_name
        unsigned long tp_flags

cdef extern from "_ndarray_api.h":
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

ctypedef int (*Dispatch)(Encoder, PyObject *, PrSlot *, int64_t, bint) noexcept

# Steps of the path to an object, for errors.
cdef enum:
    ITEM, VALUE, KEY, MEMBER, STATE, FUNCTION, ARGUMENT, SETTER, SILENT

# C frames are a few hundred bytes a level; beyond this a thread's stack might not do.
cdef Py_ssize_t DEEPEST = 12000
cdef size_t KEPT = 48 << 20
cdef PyrayNdarrayApi *ndarray_api = NULL
cdef list idle = []



class Restart(Exception):
    """User code is about to run: start again, remembering every object."""


cdef int no_memory() except -1:
    raise MemoryError()


cdef inline int check(int status) except -1:
    return no_memory() if status else 0


cdef class TypeInfo:
    """What is known of a type while a message lasts."""


cdef class Encoder:
    """A builder of one message at a time, used again for the next."""

    def __cinit__(self):
        pr_builder_init(&self.b)
        self.infos = {}
        self.global_indices = {}
        self.dtype_indices = {}
        self.pinned = []
        self.queue = []

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.memo.n_entries):
            Py_DECREF(<object> <PyObject *> self.memo.entries[i].key)
        pr_memo_free(&self.memo)
        pr_memo_free(&self.homes)
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
        if self.infos:
            self.infos.clear()
        if self.global_indices:
            self.global_indices.clear()
        if self.dtype_indices:
            self.dtype_indices.clear()
        if self.pinned:
            self.pinned = []
        if self.queue:
            self.queue = []
        if self.in_message:
            self.in_message = False
            reduction.end_message()
        self.postorder = 0
        self.depth = 0
        self.n_out_of_band = 0
        return 0

    cdef int encode(self, object o) except -1:
        """Walk `o` and lay the message out; on an error nothing is kept."""
        self.memo_all = self.buffer_callback is not None
        self.depth_limit = min(<Py_ssize_t> Py_GetRecursionLimit(), DEEPEST)
        try:
            try:
                walk(self, o)
            except Restart:
                self.forget()
                self.memo_all = True
                walk(self, o)
        except BaseException as error:
            named = located(error, self)
            if named is error:
                raise
            raise named from error
        return check(pr_plan(&self.b))

    # -- the value's own column ----------------------------------------------------------------

    cdef int put(self, PyObject *o, PrSlot *slot) except -1:
        cdef double number
        cdef uint8_t truth
        if PyUnicode_CheckExact(<object> o):
            return self.put_str(o, slot)
        if PyLong_CheckExact(<object> o):
            return self.put_int(o, slot)
        if PyFloat_CheckExact(<object> o):
            number = PyFloat_AS_DOUBLE(<object> o)
            return self.put_scalar_row(PR_FLOAT64, &number, 8, slot)
        if o == Py_None:
            return self.put_scalar_row(PR_NULL, NULL, 0, slot)
        if o == Py_True or o == Py_False:
            truth = o == Py_True
            return self.put_scalar_row(PR_BOOL, &truth, 1, slot)
        return self.put_object(o, slot, 1)

    cdef int put_scalar_row(self, int kind, const void *data, size_t size, PrSlot *slot) except -1:
        cdef PrColumn *c = slot.column
        if c == NULL or c.kind != kind:
            c = self.column(slot, kind, 0, 0, 0, False)
        check(pr_row(slot, c))
        c.rows += 1
        return check(pr_bytes_append(&c.a, data, size))

    cdef int put_int(self, PyObject *o, PrSlot *slot) except -1:
        cdef int64_t value
        cdef PrColumn *c = slot.column
        if not pyray_int64(o, &value):
            return self.put_bigint(o, slot)
        if c == NULL or c.kind != PR_INT64:
            c = self.column(slot, PR_INT64, 0, 0, 0, False)
        return check(pr_int_row(slot, c, value))

    cdef int put_bigint(self, PyObject *o, PrSlot *slot) except -1:
        cdef int64_t size = pyray_int_size(o)
        cdef PrColumn *c = self.column(slot, PR_BIGINT, 0, 0, 0, False)
        check(pr_row(slot, c))
        check(pr_bytes_reserve(&c.b, size))
        pyray_int_bytes(o, c.b.data + c.b.size, size)
        c.b.size += size
        return check(pr_end(c, c.b.size))

    cdef int put_index(self, int kind, int64_t index, PrSlot *slot) except -1:
        cdef PrColumn *c = self.column(slot, kind, 0, 0, 0, False)
        if index > INT32_MAX:
            raise OverflowError("more than 2**31 - 1 shared objects, globals or buffers in a message")
        return check(pr_index_row(slot, c, <int32_t> index))

    # -- strings: format.md, section 7.4 -------------------------------------------------------

    cdef int put_str(self, PyObject *o, PrSlot *slot) except -1:
        cdef PrColumn *c = slot.column
        if not PyUnicode_IS_COMPACT_ASCII(o):
            PyUnicode_READY(<object> o)
            if PyUnicode_KIND(o) != 1 and has_surrogates(o):
                return self.put_surrogates(o, slot)
        if c == NULL or c.kind != PR_UTF8:
            c = self.column(slot, PR_UTF8, 0, 0, 0, False)
        return self.put_str_value(o, slot, c)

    cdef int put_str_value(self, PyObject *o, PrSlot *slot, PrColumn *c) except -1:
        """A str without surrogates into the UTF8 column of its slot."""
        cdef int64_t entry
        if PyUnicode_GET_LENGTH(o) <= 1 or (
                PYRAY_REFCNT(o) == 1 and not self.memo_all and self.postorder == 0):
            return self.put_text(o, slot, c)
        entry = pr_memo_get(&self.memo, o, NULL)
        if entry >= 0:
            return self.put_met_str(o, entry, slot, c)
        entry = self.new_entry(o)
        self.memo.entries[entry].column = c
        self.memo.entries[entry].row = c.rows
        return self.put_text(o, slot, c)

    cdef int put_text(self, PyObject *o, PrSlot *slot, PrColumn *c) except -1:
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

    cdef int put_met_str(self, PyObject *o, int64_t entry, PrSlot *slot, PrColumn *c) except -1:
        cdef int64_t home, row
        cdef int32_t number
        if self.memo.entries[entry].column == c:
            row = self.memo.entries[entry].row
        else:
            home = pr_memo_get(&self.homes, o, c)
            if home < 0:
                home = pr_memo_add(&self.homes, o, c)
                if home < 0:
                    no_memory()
                self.homes.entries[home].row = c.rows
                number = self.number_of(entry)
                self.memo_row(c, c.rows, number)
                return self.put_text(o, slot, c)
            row = self.homes.entries[home].row
        check(pr_make_repeated(c))
        check(pr_row(slot, c))
        return check(pr_bytes_push32(&c.c, <int32_t> row))

    cdef int put_surrogates(self, PyObject *o, PrSlot *slot) except -1:
        cdef int64_t entry = pr_memo_get(&self.memo, o, NULL)
        cdef Py_ssize_t n = PyUnicode_GET_LENGTH(o)
        cdef PrColumn *c
        if entry >= 0:
            return self.put_index(PR_REF, self.number_of(entry), slot)
        c = self.column(slot, PR_SURROGATES, 0, 0, 0, False)
        if n > 1:
            self.remember(self.new_entry(o), c, c.rows)
        check(pr_row(slot, c))
        check(pr_bytes_reserve(&c.b, 4 * n))
        c.b.size += pr_utf8_encode(c.b.data + c.b.size, PyUnicode_DATA(o), n, PyUnicode_KIND(o), 1)
        return check(pr_end(c, c.b.size))

    # -- objects with identity -----------------------------------------------------------------

    cdef int put_object(self, PyObject *o, PrSlot *slot, Py_ssize_t own) except -1:
        """`own` references to `o` are its container's and ours; others make it shared."""
        cdef int64_t entry = -1
        cdef double number[2]
        cdef bint shared
        if PyComplex_CheckExact(<object> o):
            number[0] = PyComplex_RealAsDouble(<object> o)
            number[1] = PyComplex_ImagAsDouble(<object> o)
            return self.put_scalar_row(PR_COMPLEX128, number, 16, slot)
        shared = PYRAY_REFCNT(o) > own or self.memo_all or self.postorder != 0
        if shared:
            if PyTuple_CheckExact(<object> o) and PyTuple_GET_SIZE(<object> o) == 0:
                return self.put_tuple(o, slot, -1, False)
            if PyBytes_CheckExact(<object> o) and PyBytes_GET_SIZE(<object> o) == 0:
                return self.put_bytes(o, slot, -1)
            entry = pr_memo_get(&self.memo, o, NULL)
            if entry >= 0 and (self.memo.entries[entry].column != NULL
                               or self.memo.entries[entry].row == -1):
                return self.put_index(PR_REF, self.number_of(entry), slot)
        self.enter()
        Py_INCREF(<object> o)
        if (<Dispatch> dispatch)(self, o, slot, entry, shared):
            self.note_failure(o)
            Py_DECREF(<object> o)
            return -1
        Py_DECREF(<object> o)
        self.depth -= 1
        return 0

    cdef int put_data(self, int kind, PyObject *o, const void *data, Py_ssize_t size,
                      PrSlot *slot, int64_t entry) except -1:
        cdef PrColumn *c = self.column(slot, kind, 0, 0, 0, False)
        self.remember(entry, c, c.rows)
        return check(pr_data_row(slot, c, data, size))

    cdef int put_bytes(self, PyObject *o, PrSlot *slot, int64_t entry) except -1:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(<object> o)
        cdef const char *data = PyBytes_AS_STRING(<object> o)
        cdef PrColumn *c
        if size < PR_OUT_OF_LINE:
            return self.put_data(PR_BYTES, o, data, size, slot, entry)
        c = self.column(slot, PR_BYTES_BUFFER, 0, 0, 0, False)
        self.remember(entry, c, c.rows)
        return self.put_index(PR_BYTES_BUFFER, self.pin(<object> o, data, size), slot)

    cdef int put_bytearray(self, PyObject *o, PrSlot *slot, int64_t entry) except -1:
        cdef Py_ssize_t size = PyByteArray_GET_SIZE(<object> o)
        cdef PrColumn *c
        if size < PR_OUT_OF_LINE:
            return self.put_data(PR_BYTEARRAY, o, PyByteArray_AS_STRING(<object> o), size, slot,
                                 entry)
        c = self.column(slot, PR_BYTEARRAY_BUFFER, 0, 0, 0, False)
        self.remember(entry, c, c.rows)
        # A memoryview, so that the bytearray cannot be resized before it is written.
        return self.put_index(PR_BYTEARRAY_BUFFER,
                              self.pin(memoryview(<object> o), PyByteArray_AS_STRING(<object> o),
                                       size), slot)

    cdef int put_pickle_buffer(self, PyObject *o, PrSlot *slot, int64_t entry) except -1:
        cdef const Py_buffer *view = PyPickleBuffer_GetBuffer(<object> o)
        cdef int kind = PR_BUFFER if view.readonly else PR_BUFFER_WRITABLE
        cdef int64_t index
        cdef PrColumn *c
        if not PyBuffer_IsContiguous(view, b"A"):
            raise PicklingError(
                "PickleBuffer can not be pickled when pointing to a non-contiguous buffer")
        if self.buffer_callback is not None and not self.buffer_callback(<object> o):
            self.n_out_of_band += 1
            index = -self.n_out_of_band
        else:
            index = self.pin(<object> o, view.buf, view.len)
        c = self.column(slot, kind, 0, 0, 0, False)
        self.remember(entry, c, c.rows)
        return self.put_index(kind, index, slot)

    cdef int put_ndarray(self, PyObject *o, PrSlot *slot, int64_t entry) except -1:
        """1 if the array has a tensor's dtype, else 0 and nothing done."""
        cdef PyrayArray a
        cdef int64_t index
        cdef PrBuilder *b = &self.b
        cdef PrColumn *c
        cdef object owner
        if not ndarray_api.describe(o, &a):
            return 0
        owner = <object> a.owner
        Py_DECREF(owner)
        if self.buffer_callback is not None and not self.buffer_callback(pickle_buffer(owner)):
            self.n_out_of_band += 1
            index = -self.n_out_of_band
        else:
            index = self.pin(owner, a.data, a.nbytes)
        if b.n_tensors == 0:
            check(pr_bytes_push32(&b.tensor_shape_offsets, 0))
        check(pr_bytes_push32(&b.tensor_buffer, <int32_t> index))
        check(pr_bytes_push32(&b.tensor_dtype, dtype_index(self, <object> a.dtype)))
        check(pr_bytes_push8(&b.tensor_order, <uint8_t> a.order))
        check(pr_bytes_append(&b.tensor_shapes, a.shape, 8 * a.ndim))
        check(pr_bytes_push32(&b.tensor_shape_offsets, <int32_t> (b.tensor_shapes.size // 8)))
        b.n_tensors += 1
        c = self.column(slot, PR_NDARRAY, 0, 0, 0, False)
        self.remember(entry, c, c.rows)
        self.put_index(PR_NDARRAY, b.n_tensors - 1, slot)
        return 1

    cdef int64_t pin(self, object owner, const void *data, int64_t size) except -1:
        """A buffer of the message, not copied: its index."""
        cdef PrBlob blob
        blob.data = data
        blob.size = size
        self.pinned.append(owner)
        check(pr_bytes_append(&self.b.blobs, &blob, sizeof(PrBlob)))
        return <int64_t> (self.b.blobs.size // sizeof(PrBlob)) - 1

    # -- containers ----------------------------------------------------------------------------

    cdef int put_list(self, PyObject *o, PrSlot *slot, int64_t entry, bint may_defer) except -1:
        cdef Py_ssize_t n = PyList_GET_SIZE(<object> o)
        cdef PrColumn *c = self.list_column(
            slot, class_of(pyray_list_items(o)[0]) if n else PR_OTHER, n, may_defer)
        if c == NULL:
            return self.defer(o, None, slot, entry)
        self.remember(entry, c, c.rows)
        check(pr_list_row(slot, c, n))
        if n >= 2:
            self.note_pair(&c.slots[0], pyray_list_items(o)[0], pyray_list_items(o)[1])
        return self.put_sequence(o, True, n, &c.slots[0])

    cdef PrColumn *list_column(self, PrSlot *slot, int item_class, Py_ssize_t n,
                               bint may_defer) except? NULL:
        """format.md, section 7.3; NULL without an exception: defer."""
        cdef PrColumn *top = slot.column
        cdef PrColumn *c
        cdef uint32_t i
        if top != NULL and n == 0:
            c = top.by_kind[PR_LIST] if top.kind == PR_UNION else top
            if c != NULL and c.kind == PR_LIST:
                return c
        c = pr_find(slot, PR_LIST, item_class, 0)
        if c != NULL:
            return c
        if top != NULL and top.kind == PR_LIST and top.slots[0].column == NULL:
            top.sub = item_class
            return top
        if top != NULL and top.kind == PR_UNION:
            for i in range(top.n_slots):
                c = top.members[i]
                if c.kind == PR_LIST and c.slots[0].column == NULL:
                    c.sub = item_class
                    return c
        return self.column(slot, PR_LIST, item_class, 0, 1, may_defer)

    cdef int put_tuple(self, PyObject *o, PrSlot *slot, int64_t entry, bint may_defer) except -1:
        cdef Py_ssize_t n = PyTuple_GET_SIZE(<object> o)
        cdef PrColumn *c = NULL
        cdef int64_t row
        if slot.level != PR_LEVEL_UNSET and slot.level > 0 and 1 <= n <= 16:
            c = pr_find(slot, PR_TUPLE_RECORD, 0, <uint32_t> n)
            if c == NULL and pr_count_kind(slot, PR_TUPLE_RECORD) < PR_MAX_ARITIES:
                c = self.column(slot, PR_TUPLE_RECORD, 0, <uint32_t> n, <uint32_t> n, may_defer)
                if c == NULL:
                    return self.defer(o, None, slot, entry)
        if c == NULL:
            c = self.column(slot, PR_TUPLE,
                            PR_SHORT if n < 8 else class_of(pyray_tuple_items(o)[0]), 0, 1, may_defer)
            if c == NULL:
                return self.defer(o, None, slot, entry)
        if c.kind == PR_TUPLE:
            row = c.rows
            check(pr_list_row(slot, c, n))
        else:
            check(pr_row(slot, c))
            row = c.rows
            c.rows += 1
        if entry < 0:
            return self.put_tuple_items(o, c, n)
        self.postorder += 1
        self.put_tuple_items(o, c, n)
        self.postorder -= 1
        return self.finish(entry, c, row)

    cdef int put_tuple_items(self, PyObject *o, PrColumn *c, Py_ssize_t n) except -1:
        cdef PyObject **items = pyray_tuple_items(o)
        cdef Py_ssize_t i
        if c.kind == PR_TUPLE:
            if n >= 2:
                self.note_pair(&c.slots[0], items[0], items[1])
            return self.put_sequence(o, False, n, &c.slots[0])
        for i in range(n):
            self.step(ITEM, i, NULL)
            self.put(items[i], &c.slots[i])
        return 0

    cdef int put_sequence(self, PyObject *o, bint is_list, Py_ssize_t n, PrSlot *slot) except -1:
        """The items of a list or tuple; user code may change a list while we are in it."""
        cdef Py_ssize_t i = 0, run
        cdef PyObject **items
        while i < n:
            if is_list and PyList_GET_SIZE(<object> o) != n:
                raise RuntimeError("list changed size during serialization")
            items = pyray_list_items(o) if is_list else pyray_tuple_items(o)
            run = self.put_run(items + i, n - i, slot)
            if run:
                i += run
                continue
            self.step(ITEM, i, NULL)
            self.put(items[i], slot)
            i += 1
        if is_list and PyList_GET_SIZE(<object> o) != n:
            raise RuntimeError("list changed size during serialization")
        return 0

    cdef Py_ssize_t put_run(self, PyObject **items, Py_ssize_t n, PrSlot *slot) except -1:
        """Items from the front that go into the slot's one typed column; 0 if it is not so."""
        cdef PrColumn *c = slot.column
        cdef Py_ssize_t i = 0
        cdef int64_t value
        cdef int64_t bits
        cdef double *numbers
        cdef int64_t *integers
        cdef int kind
        if PyFloat_CheckExact(<object> items[0]):
            kind = PR_FLOAT64
        elif PyLong_CheckExact(<object> items[0]):
            kind = PR_INT64
        elif PyUnicode_CheckExact(<object> items[0]):
            return self.put_str_run(items, n, slot)
        else:
            return 0
        if c == NULL:
            if slot.always_union or (kind == PR_INT64 and not pyray_int64(items[0], &value)):
                return 0
            c = self.column(slot, kind, 0, 0, 0, False)
        elif c.kind != kind:
            return 0
        if PYRAY_TYPE(items[n - 1]) != PYRAY_TYPE(items[0]) and n > 256:
            n = 256  # no more memory than a run is likely to need
        check(pr_bytes_reserve(&c.a, 8 * n))
        if kind == PR_FLOAT64:
            numbers = <double *> (c.a.data + c.a.size)
            while i < n and PyFloat_CheckExact(<object> items[i]):
                numbers[i] = PyFloat_AS_DOUBLE(<object> items[i])
                i += 1
        else:
            integers = <int64_t *> (c.a.data + c.a.size)
            bits = 0
            while i < n and PyLong_CheckExact(<object> items[i]) and pyray_int64(items[i], &value):
                integers[i] = value
                bits |= value ^ (value >> 63)
                i += 1
            c.bits |= <uint64_t> bits
        c.a.size += 8 * i
        c.rows += i
        return i

    cdef Py_ssize_t put_str_run(self, PyObject **items, Py_ssize_t n, PrSlot *slot) except -1:
        cdef PrColumn *c = slot.column
        cdef Py_ssize_t i = 0, length
        cdef bint unshared = not self.memo_all and self.postorder == 0
        cdef PyObject *o
        if c == NULL or c.kind != PR_UTF8:
            return 0
        while i < n:
            o = items[i]
            if not PyUnicode_CheckExact(<object> o) or not PyUnicode_IS_COMPACT_ASCII(o):
                break
            length = PyUnicode_GET_LENGTH(o)
            if not c.repeated and (length <= 1 or (unshared and PYRAY_REFCNT(o) == 1)):
                check(pr_bytes_append(&c.b, PyUnicode_DATA(o), length))
                check(pr_end(c, c.b.size))
            else:
                self.put_str_value(o, slot, c)
            i += 1
        return i

    cdef int put_dict(self, PyObject *o, PrSlot *slot, int64_t entry) except -1:
        cdef Py_ssize_t n = PyDict_GET_SIZE(o), position = 0
        cdef PyObject *items[4]
        cdef PrColumn *c = NULL
        if slot.level != PR_LEVEL_UNSET and slot.level > 0 and 1 <= n <= 32:
            if self.record_column(o, slot, &c) and c == NULL:
                return self.defer(o, None, slot, entry)
        if c != NULL:
            self.remember(entry, c, c.rows)
            check(pr_row(slot, c))
            c.rows += 1
            return self.put_fields(o, c, n)
        c = self.column(slot, PR_DICT, 0, 0, 2, True)
        if c == NULL:
            return self.defer(o, None, slot, entry)
        self.remember(entry, c, c.rows)
        check(pr_list_row(slot, c, n))
        if n >= 2:
            PyDict_Next(<object> o, &position, &items[0], &items[1])
            PyDict_Next(<object> o, &position, &items[2], &items[3])
            self.note_pair(&c.slots[0], items[0], items[2])
            self.note_pair(&c.slots[1], items[1], items[3])
        return self.put_pairs(o, c, n)

    cdef int put_pairs(self, PyObject *o, PrColumn *c, Py_ssize_t n) except -1:
        cdef Py_ssize_t position = 0, i = 0
        cdef PyObject *key
        cdef PyObject *value
        while i < n and PyDict_Next(<object> o, &position, &key, &value):
            self.step(KEY, i, key)
            if PyUnicode_CheckExact(<object> key):
                self.put_str(key, &c.slots[0])
            else:
                Py_INCREF(<object> value)  # the key's reduction may take it out of the dict
                kept = <object> value
                Py_DECREF(kept)
                self.put(key, &c.slots[0])
                if PyDict_GET_SIZE(o) != n:
                    break
                kept = None
            self.step(VALUE, i, key)
            self.put(value, &c.slots[1])
            i += 1
            if PyDict_GET_SIZE(o) != n:
                break
        if i != n or PyDict_GET_SIZE(o) != n:
            raise RuntimeError("dictionary changed size during serialization")
        return 0

    cdef int put_fields(self, PyObject *o, PrColumn *c, Py_ssize_t n) except -1:
        cdef Py_ssize_t position = 0, i = 0
        cdef PyObject *key
        cdef PyObject *value
        while i < n and PyDict_Next(<object> o, &position, &key, &value):
            self.step(VALUE, i, key)
            self.put(value, &c.slots[i])
            i += 1
            if PyDict_GET_SIZE(o) != n:
                break
        if i != n or PyDict_GET_SIZE(o) != n:
            raise RuntimeError("dictionary changed size during serialization")
        return 0

    cdef int record_column(self, PyObject *o, PrSlot *slot, PrColumn **out) except -1:
        """1 if the dict is a record: *out is its column, or NULL if it must be deferred."""
        cdef PrColumn *c = pr_find(slot, PR_DICT_RECORD, 0, 0)
        cdef Py_ssize_t position = 0
        cdef uint32_t i = 0
        cdef PyObject *key
        if c == NULL:
            return self.new_record(o, slot, out)
        if c.n_slots != PyDict_GET_SIZE(o):
            return 0
        while PyDict_Next(<object> o, &position, &key, NULL):
            if key != <PyObject *> c.names[i]:
                if not PyUnicode_CheckExact(<object> key):
                    return 0
                if <str> <object> key != <str> <object> <PyObject *> c.names[i]:
                    return 0
            i += 1
        out[0] = c
        return 1

    cdef int new_record(self, PyObject *o, PrSlot *slot, PrColumn **out) except -1:
        cdef Py_ssize_t position = 0
        cdef uint32_t n = <uint32_t> PyDict_GET_SIZE(o), i = 0
        cdef PyObject *key
        cdef PrColumn *c
        cdef bytes text
        while PyDict_Next(<object> o, &position, &key, NULL):
            if not PyUnicode_CheckExact(<object> key):
                return 0
            PyUnicode_READY(<object> key)
            if PyUnicode_KIND(key) != 1 and has_surrogates(key):
                return 0
        c = self.column(slot, PR_DICT_RECORD, 0, 0, n, True)
        if c == NULL:
            return 1
        c.names = <const void **> pr_arena(&self.b, n * sizeof(void *))
        c.texts = <PrText *> pr_arena(&self.b, n * sizeof(PrText))
        if c.names == NULL or c.texts == NULL:
            no_memory()
        position = 0
        while PyDict_Next(<object> o, &position, &key, NULL):
            text = (<str> <object> key).encode()
            self.pinned.append(text)
            self.pinned.append(<object> key)
            c.names[i] = key
            c.texts[i].data = <const uint8_t *> PyBytes_AS_STRING(text)
            c.texts[i].size = PyBytes_GET_SIZE(text)
            i += 1
        out[0] = c
        return 1

    cdef int put_set(self, PyObject *o, PrSlot *slot, int64_t entry, int kind,
                     bint may_defer) except -1:
        cdef Py_ssize_t n = PySet_GET_SIZE(o), position = 0, i = 0
        cdef Py_hash_t h
        cdef PyObject *item
        cdef PyObject *second
        cdef int64_t row
        cdef PrColumn *c = self.column(slot, kind, 0, 0, 1, may_defer)
        cdef bint postorder = kind == PR_FROZENSET and entry >= 0
        if c == NULL:
            return self.defer(o, None, slot, entry)
        row = c.rows
        if kind == PR_SET:
            self.remember(entry, c, row)
        check(pr_list_row(slot, c, n))
        if n >= 2 and c.slots[0].level == PR_LEVEL_UNSET:
            _PySet_NextEntry(o, &position, &item, &h)
            _PySet_NextEntry(o, &position, &second, &h)
            self.note_pair(&c.slots[0], item, second)
            position = 0
        self.postorder += postorder
        while i < n and _PySet_NextEntry(o, &position, &item, &h):
            self.step(MEMBER, i, NULL)
            self.put(item, &c.slots[0])
            i += 1
            if PySet_GET_SIZE(o) != n:
                break
        self.postorder -= postorder
        if i != n or PySet_GET_SIZE(o) != n:
            raise RuntimeError("set changed size during serialization")
        return self.finish(entry, c, row) if postorder else 0

    cdef int note_pair(self, PrSlot *slot, PyObject *first, PyObject *second) except -1:
        """Two equal types at the front of a container: records may follow."""
        if slot.level == PR_LEVEL_UNSET and PYRAY_TYPE(first) == PYRAY_TYPE(second):
            slot.level = PR_LEVEL_START
        return 0

    # -- reductions ----------------------------------------------------------------------------

    cdef int put_by_reducer(self, PyObject *o, PrSlot *slot, int64_t entry) except -1:
        cdef TypeInfo info
        cdef object rv = NotImplemented
        cdef int32_t g
        if self.global_indices and (is_type(o) or is_function(o)):
            known = self.global_indices.get(<size_t> o)
            if known is not None and known >= 0:
                return self.put_index(PR_GLOBAL, known, slot)
        if self.context is not None:
            rv = self.context.reduce(<object> o)
            if rv is not NotImplemented:
                self.require_memo()
        if rv is NotImplemented:
            info = self.info_of(o)
            if info.reducer is None:
                return self.put_plain(o, info, slot, entry)
            if info.runs_user_code:
                self.require_memo()
            rv = info.reducer(<object> o)
        if type(rv) is str:
            g = self.add_global(<object> o, rv)
            return self.put_index(PR_GLOBAL, g, slot)
        if entry < 0 and (is_type(o) or is_function(o)):
            entry = pr_memo_get(&self.memo, o, NULL)
            if entry < 0:
                entry = self.new_entry(o)
        return self.put_reduced(o, rv, slot, entry)

    cdef int put_plain(self, PyObject *o, TypeInfo info, PrSlot *slot, int64_t entry) except -1:
        """An instance that object.__reduce_ex__ would reduce to its class and its __dict__."""
        cdef PyObject *held = pyray_instance_dict(o)
        cdef object state = None
        if held != NULL:
            state = <object> held
            Py_DECREF(state)
            if not PyDict_GET_SIZE(held) and not PYRAY_EMPTY_DICT_IS_STATE:
                state = None
        cls = type(<object> o)
        if info.global_index is None:
            info.global_index = self.global_of(cls)
        if info.global_index < 0:
            return self.put_reduce(o, newobj, (cls,), state, None, None, None, slot, entry)
        return self.put_instance(o, cls, info.global_index, state, slot, entry, 2)

    cdef int put_instance(self, PyObject *o, object cls, int32_t g, object state, PrSlot *slot,
                          int64_t entry, Py_ssize_t own) except -1:
        cdef PrColumn *c = pr_find(slot, PR_INSTANCE, 0, <uint32_t> g)
        if c == NULL:
            if pr_count_members(slot) >= PR_MAX_CALLABLES:
                return self.put_reduce(o, newobj, (cls,), state, None, None, None, slot, entry)
            c = self.column(slot, PR_INSTANCE, 0, <uint32_t> g, 1, True)
            if c == NULL:
                return self.defer(o, (newobj, (cls,), state), slot, entry)
        self.remember(entry, c, c.rows)
        check(pr_row(slot, c))
        c.rows += 1
        if state is None:
            return self.put_scalar_row(PR_NULL, NULL, 0, &c.slots[0])
        self.step(STATE, 0, NULL)
        return self.put_state(state, &c.slots[0], own)

    cdef int put_reduced(self, PyObject *o, object rv, PrSlot *slot, int64_t entry) except -1:
        cdef int32_t g
        func, args, state, listitems, dictitems, setter = reduction.check_reduce_value(<object> o, rv)
        if (func is newobj and len(args) == 1 and listitems is None and dictitems is None
                and setter is None):
            g = self.global_of(args[0])
            if g >= 0:
                return self.put_instance(o, args[0], g, state, slot, entry, 2)
        return self.put_reduce(o, func, args, state, listitems, dictitems, setter, slot, entry)

    cdef int put_reduce(self, PyObject *o, object func, object args, object state,
                        object listitems, object dictitems, object setter, PrSlot *slot,
                        int64_t entry) except -1:
        cdef int parts = PR_PART_ARGUMENTS
        cdef int64_t row
        cdef int32_t g = self.global_of(func)
        cdef PrColumn *c
        if listitems is not None:
            parts |= PR_PART_LIST_ITEMS
        if dictitems is not None:
            parts |= PR_PART_DICT_ITEMS
        if state is not None:
            parts |= PR_PART_STATE
            if setter is not None:
                parts |= PR_PART_SETTER
        if g >= 0 and pr_count_members(slot) >= PR_MAX_CALLABLES and (
                pr_find(slot, PR_REDUCE, parts, <uint32_t> g + 1) == NULL):
            g = -1
        if g < 0:
            parts |= PR_PART_FUNCTION
        c = self.column(slot, PR_REDUCE, parts, <uint32_t> (g + 1), bit_count(parts), True)
        if c == NULL:
            return self.defer(o, (func, args, state, listitems, dictitems, setter), slot, entry)
        check(pr_row(slot, c))
        row = c.rows
        c.rows += 1
        return self.put_reduce_parts(c, parts, func, args, state, listitems, dictitems, setter,
                                     entry, row)

    cdef int put_reduce_parts(self, PrColumn *c, int parts, object func, object args, object state,
                              object listitems, object dictitems, object setter, int64_t entry,
                              int64_t row) except -1:
        cdef PrSlot *child = c.slots
        cdef list items
        self.postorder += entry >= 0
        if parts & PR_PART_FUNCTION:
            self.step(FUNCTION, 0, NULL)
            self.put(<PyObject *> func, child)
            child += 1
        self.step(ARGUMENT, 0, NULL)
        self.put_arguments(args, child)
        child += 1
        self.postorder -= entry >= 0
        if entry >= 0:
            self.finish(entry, c, row)
        self.step(SILENT, 0, NULL)
        if listitems is not None:
            items = list(listitems)
            self.enter()
            self.put_list(<PyObject *> items, child, -1, False)
            self.depth -= 1
            child += 1
        if dictitems is not None:
            self.enter()
            self.put_dict_items(dictitems, child)
            self.depth -= 1
            child += 1
        if state is not None:
            self.step(STATE, 0, NULL)
            self.put_state(state, child, 2)
            child += 1
        if parts & PR_PART_SETTER:
            self.step(SETTER, 0, NULL)
            self.put(<PyObject *> setter, child)
        return 0

    cdef int put_dict_items(self, object items, PrSlot *slot) except -1:
        """(key, value) pairs as a DICT row without identity."""
        cdef list pairs = list(items)
        cdef PrColumn *c = self.column(slot, PR_DICT, 0, 0, 2, False)
        for pair in pairs:
            if type(pair) is not tuple or len(pair) != 2:
                raise PicklingError("dict items iterator must return 2-tuples")
        check(pr_list_row(slot, c, len(pairs)))
        if len(pairs) >= 2:
            self.note_pair(&c.slots[0], <PyObject *> pairs[0][0], <PyObject *> pairs[1][0])
            self.note_pair(&c.slots[1], <PyObject *> pairs[0][1], <PyObject *> pairs[1][1])
        for pair in pairs:
            key, value = pair
            self.step(KEY, 0, <PyObject *> key)
            self.put(<PyObject *> key, &c.slots[0])
            self.step(VALUE, 0, <PyObject *> key)
            self.put(<PyObject *> value, &c.slots[1])
        return 0

    cdef int put_arguments(self, object args, PrSlot *slot) except -1:
        """The argument tuple: a value with identity, but never deferred."""
        cdef PyObject *o
        cdef int64_t entry = -1
        if type(args) is not tuple:
            args = tuple(args)
        o = <PyObject *> args
        if PyTuple_GET_SIZE(args) and (
                PYRAY_REFCNT(o) > 2 or self.memo_all or self.postorder != 0):
            entry = pr_memo_get(&self.memo, o, NULL)
            if entry >= 0 and (self.memo.entries[entry].column != NULL
                               or self.memo.entries[entry].row == -1):
                return self.put_index(PR_REF, self.number_of(entry), slot)
            if entry < 0:
                entry = self.new_entry(o)
        self.enter()
        self.put_tuple(o, slot, entry, False)
        self.depth -= 1
        return 0

    cdef int put_state(self, object state, PrSlot *slot, Py_ssize_t own) except -1:
        """A state is held by its reduce value and by us; a third reference makes it shared."""
        cdef PyObject *o = <PyObject *> state
        if PyDict_CheckExact(state) or PyTuple_CheckExact(state):
            return self.put_object(o, slot, own)
        return self.put(o, slot)

    cdef TypeInfo info_of(self, PyObject *o):
        cls = type(<object> o)
        cdef TypeInfo info = self.infos.get(cls)
        if info is None:
            info = TypeInfo()
            info.reducer = reduction.reducer_for(cls)
            info.runs_user_code = info.reducer is not None and runs_user_code(cls, info.reducer)
            self.infos[cls] = info
        if info.reducer is reduction.reduce_by_cloudpickle:
            self.begin_message()
        return info

    cdef int begin_message(self) except -1:
        if not self.in_message:
            reduction.begin_message()
            self.in_message = True
        return 0

    cdef int32_t global_of(self, object o) except -2:
        """Index of a function or class that can be imported by name; -1 for all else."""
        known = self.global_indices.get(<size_t> <PyObject *> o)
        if known is not None:
            return known
        cdef int32_t g = -1
        if is_type(<PyObject *> o) or is_function(<PyObject *> o):
            self.begin_message()
            name = reduction.reduce(o, self.context)
            if type(name) is str:
                return self.add_global(o, name)
        self.pinned.append(o)
        self.global_indices[<size_t> <PyObject *> o] = g
        return g

    cdef int32_t add_global(self, object o, object name) except -2:
        """Index of the global that a reduction named."""
        known = self.global_indices.get(<size_t> <PyObject *> o)
        if known is not None and known >= 0:
            return known
        cdef int32_t g = <int32_t> self.b.n_globals
        cdef bytes text
        for part in reduction.global_name(o, name):
            text = (<str?> part).encode()
            check(pr_bytes_reserve(&self.b.globals, len(text) + 10))
            pr_bytes_varint(&self.b.globals, len(text))
            pr_bytes_append(&self.b.globals, PyBytes_AS_STRING(text), len(text))
        self.b.n_globals += 1
        self.pinned.append(o)
        self.global_indices[<size_t> <PyObject *> o] = g
        return g

    cdef int require_memo(self) except -1:
        """User code is about to run, and may show us any object again."""
        if not self.memo_all:
            if self.b.n_columns:
                raise Restart
            self.memo_all = True
        return 0

    # -- columns and the memo ------------------------------------------------------------------

    cdef PrColumn *column(self, PrSlot *slot, int kind, int sub, uint32_t extra, uint32_t n_slots,
                          bint may_defer) except? NULL:
        """The slot's column of that key, made if need be; NULL without an exception: defer."""
        cdef PrColumn *c = pr_find(slot, kind, sub, extra)
        if c == NULL:
            if may_defer and self.b.n_columns >= PR_MAX_COLUMNS and slot != &self.b.root:
                return NULL
            c = pr_add(&self.b, slot, kind, sub, extra, n_slots)
            if c == NULL:
                no_memory()
        return c

    cdef int defer(self, PyObject *o, object rv, PrSlot *slot, int64_t entry) except -1:
        """The slot refers to an object that will be put into the root's slot later."""
        if entry < 0:
            entry = self.new_entry(o)
        self.memo.entries[entry].row = -1
        self.queue.append((<object> o, rv, self.depth - 1))
        return self.put_index(PR_REF, self.number_of(entry), slot)

    cdef int64_t new_entry(self, PyObject *o) except -1:
        cdef int64_t entry = pr_memo_add(&self.memo, o, NULL)
        if entry < 0:
            no_memory()
        Py_INCREF(<object> o)
        return entry

    cdef int remember(self, int64_t entry, PrColumn *c, int64_t row) except -1:
        """The object's row is known (no entry: nobody will ask)."""
        cdef PrMemoEntry *e
        if entry >= 0:
            e = &self.memo.entries[entry]
            e.column = c
            e.row = row
            if e.number >= 0:
                self.memo_row(c, row, e.number)
        return 0

    cdef int finish(self, int64_t entry, PrColumn *c, int64_t row) except -1:
        """As remember, for what exists only when complete and may have been completed inside."""
        if entry < 0 or self.memo.entries[entry].column == NULL:
            return self.remember(entry, c, row)
        return self.memo_row(c, row, self.number_of(entry))

    cdef int32_t number_of(self, int64_t entry) except -1:
        cdef PrMemoEntry *e = &self.memo.entries[entry]
        if e.number < 0:
            e.number = self.b.n_numbers
            self.b.n_numbers += 1
            if e.column != NULL:
                self.memo_row(<PrColumn *> e.column, e.row, e.number)
        return e.number

    cdef int memo_row(self, PrColumn *c, int64_t row, int32_t number) except -1:
        cdef PrMemoRow m
        memset(&m, 0, sizeof(m))
        m.column = c
        m.row = row
        m.number = number
        return check(pr_bytes_append(&self.b.memo, &m, sizeof(m)))

    # -- where we are, for errors --------------------------------------------------------------

    cdef int enter(self) except -1:
        cdef PathStep *path
        self.depth += 1
        if self.depth >= self.path_capacity:
            path = <PathStep *> realloc(self.path, (self.depth * 2 + 64) * sizeof(PathStep))
            if path == NULL:
                no_memory()
            self.path = path
            self.path_capacity = self.depth * 2 + 64
        self.path[self.depth].kind = SILENT
        if self.depth > self.depth_limit:
            raise RecursionError("maximum recursion depth exceeded while serializing an object")
        return 0

    cdef int step(self, int kind, Py_ssize_t index, PyObject *key) except -1:
        cdef PathStep *p = &self.path[self.depth]
        p.kind = kind
        p.index = index
        p.key = key
        return 0

    cdef int note_failure(self, PyObject *o) except -1:
        """The innermost object an exception comes through is the one to name; keeps the exception.

        Here and not at the top, because keys on the path may belong to temporary states."""
        cdef PyObject *kind
        cdef PyObject *value
        cdef PyObject *traceback
        if self.culprit is None:
            PyErr_Fetch(&kind, &value, &traceback)
            self.culprit = type(<object> o)
            self.culprit_path = "?"
            try:
                self.culprit_path = path_text(self)
            except Exception:  # a key's repr failed: the path is not worth an error of its own
                pass
            PyErr_Restore(kind, value, traceback)
        return 0


cdef int dispatch(Encoder self, PyObject *o, PrSlot *slot, int64_t entry, bint shared) except -1:
    # An object that has an entry but no row is being encoded: format.md, 7.4 and 7.6.
    cdef bint may_defer = entry < 0
    if shared and entry < 0:
        if is_type(o) or is_function(o):
            return self.put_by_reducer(o, slot, -1)
        entry = self.new_entry(o)
    if PyDict_CheckExact(<object> o):
        return self.put_dict(o, slot, entry)
    if PyList_CheckExact(<object> o):
        return self.put_list(o, slot, entry, True)
    if PyTuple_CheckExact(<object> o):
        return self.put_tuple(o, slot, entry, may_defer)
    if PyBytes_CheckExact(<object> o):
        return self.put_bytes(o, slot, entry)
    if PyAnySet_CheckExact(o):
        return self.put_set(o, slot, entry,
                            PR_FROZENSET if PyFrozenSet_CheckExact(o) else PR_SET, may_defer)
    if PyByteArray_CheckExact(<object> o):
        return self.put_bytearray(o, slot, entry)
    if PyPickleBuffer_Check(o):
        return self.put_pickle_buffer(o, slot, entry)
    if is_ndarray(o) and self.put_ndarray(o, slot, entry):
        return 0
    return self.put_by_reducer(o, slot, entry)


cdef inline bint is_ndarray(PyObject *o):
    """Whether the type is exactly numpy.ndarray; loads the numpy side at the first one."""
    global ndarray_api
    if ndarray_api != NULL:
        return PYRAY_TYPE(o) == ndarray_api.ndarray
    if strcmp((<PyTypeObject *> PYRAY_TYPE(o)).tp_name, b"numpy.ndarray"):
        return False
    from pyray.serialization import _ndarray  # noqa: F401
    ndarray_api = <PyrayNdarrayApi *> PyCapsule_Import(b"pyray.serialization._ndarray._api", 0)
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
    return type(<object> o) is FunctionType or type(<object> o) is BuiltinFunctionType


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


# Methods through which an object's reduction can run code of its own.
_HOOKS = ("__reduce_ex__", "__reduce__", "__getstate__", "__getnewargs__", "__getnewargs_ex__",
          "__getattribute__", "__getattr__")
# Their reductions return what the object holds, nothing that only they can reach.
_TRUSTED = frozenset(sys.stdlib_module_names) | {
    "numpy", "pandas", "scipy", "torch", "pyarrow", "polars", "pyray"}


def runs_user_code(cls, reducer):
    """Whether reducing an instance runs code that might show us an object a second time."""
    if reducer is not reduction.reduce_ex:
        return str(getattr(reducer, "__module__", None)).partition(".")[0] not in _TRUSTED
    for name in _HOOKS:
        hook = getattr(cls, name, None)
        if type(hook) is FunctionType and hook.__module__.partition(".")[0] not in _TRUSTED:
            return True
    return False


cdef int walk(Encoder e, object o) except -1:
    """The object into row 0 of the root, then what had to be deferred, in order."""
    cdef PyObject *p = <PyObject *> o
    cdef int64_t entry
    cdef Py_ssize_t i = 0
    e.enter()  # so that there is a path
    if (PyUnicode_CheckExact(o) or PyLong_CheckExact(o) or PyFloat_CheckExact(o)
            or o is None or o is True or o is False):
        return e.put(p, &e.b.root)
    e.put_object(p, &e.b.root, 0)
    while i < len(e.queue):
        deferred, rv, e.depth = e.queue[i]
        p = <PyObject *> deferred
        entry = pr_memo_get(&e.memo, p, NULL)
        e.memo.entries[entry].row = 0
        e.enter()
        if rv is None:
            dispatch(e, p, &e.b.root, entry, True)
        else:
            e.put_reduced(p, rv, &e.b.root, entry)
        i += 1
    return 0


cdef object path_text(Encoder e):
    """The path to the object that is being encoded, like obj.workers[2].lock."""
    cdef Py_ssize_t i
    cdef bint attribute = False
    cdef PathStep *p
    text = "obj"
    for i in range(1, e.depth):
        p = &e.path[i]
        key = <object> p.key if p.key != NULL else None
        if p.kind == VALUE and attribute and type(key) is str and key.isidentifier():
            text += "." + key
        elif p.kind == VALUE:
            text += f"[{key!r:.80}]"
        elif p.kind == KEY:
            text += f".<key {key!r:.80}>"
        elif p.kind == ITEM:
            text += f"[{p.index}]"
        elif p.kind == MEMBER:
            text += ".<member>"
        elif p.kind == FUNCTION:
            text += ".<function>"
        elif p.kind == ARGUMENT:
            text += ".<arguments>"
        elif p.kind == SETTER:
            text += ".<state setter>"
        attribute = p.kind == STATE or (attribute and p.kind in (ITEM, SILENT))
    return text


cdef object located(object error, Encoder e):
    """The exception with the path to what cannot be serialized; its class stays."""
    culprit, path = e.culprit, e.culprit_path
    e.culprit = e.culprit_path = None
    if culprit is None:
        return error
    if type(error) is TypeError or type(error) is PicklingError:
        module = "" if culprit.__module__ == "builtins" else culprit.__module__ + "."
        return type(error)(
            f"cannot serialize '{module}{culprit.__qualname__}' at {path}: {error}")
    if hasattr(error, "add_note") and not isinstance(error, (RecursionError, MemoryError)):
        error.add_note(f"while serializing {path}")
    return error


cdef Encoder acquire(object context, object buffer_callback):
    """An idle encoder; give it back with release."""
    cdef Encoder e = idle.pop() if idle else Encoder()
    e.context = context
    e.buffer_callback = buffer_callback
    return e


cdef void release(Encoder e):
    e.forget()
    e.context = e.buffer_callback = e.culprit = e.culprit_path = None
    if len(idle) < 8:
        idle.append(e)


cdef int write_message(Encoder e, uint8_t *out) except -1:
    """The whole message to `out`, which has room for b.total_size bytes."""
    cdef PrBuilder *b = &e.b
    cdef PrBlob *blobs = <PrBlob *> b.blobs.data
    cdef size_t i, n = b.blobs.size // sizeof(PrBlob), position = pr_padded_head(b), padded
    with nogil:
        pr_write_head(b, out)
        memset(out + b.head_size, 0, position - b.head_size)
        for i in range(n):
            if blobs[i].size:
                memcpy(out + position, blobs[i].data, blobs[i].size)
            padded = (<size_t> blobs[i].size + 63) & ~(<size_t> 63)
            memset(out + position + blobs[i].size, 0, padded - blobs[i].size)
            position += padded
    return 0
