from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

from cpython.ref cimport PyObject

from pyray.serialization._column cimport PrBuilder, PrColumn, PrMemo, PrSlot


cdef struct PathStep:
    int kind
    Py_ssize_t index
    PyObject *key  # borrowed: what stands on the path is alive


cdef class TypeInfo:
    cdef object reducer        # None: a plain instance
    cdef object global_index   # of the class, -1 by value, None not asked yet
    cdef bint runs_user_code   # so that any object may turn up again


cdef class Encoder:
    cdef PrBuilder b
    cdef PrMemo memo      # object -> row; the memo owns a reference to each key
    cdef PrMemo homes     # (string, column) -> value, beyond a string's first column
    cdef object context
    cdef object buffer_callback
    cdef dict infos
    cdef dict global_indices
    cdef dict dtype_indices
    cdef list pinned      # owners of buffers and of names
    cdef list queue       # deferred objects
    cdef bint memo_all    # no object is taken for unshared because of its reference count
    cdef bint in_message  # reduction.begin_message was called
    cdef int postorder    # shared tuples, frozensets and reductions in progress
    cdef Py_ssize_t n_out_of_band
    cdef PathStep *path
    cdef object culprit, culprit_path  # the innermost object that failed, and where it is
    cdef Py_ssize_t depth, path_capacity, depth_limit

    cdef int encode(self, object o) except -1
    cdef int put(self, PyObject *o, PrSlot *slot) except -1
    cdef int put_str(self, PyObject *o, PrSlot *slot) except -1
    cdef int put_str_value(self, PyObject *o, PrSlot *slot, PrColumn *c) except -1
    cdef int put_text(self, PyObject *o, PrSlot *slot, PrColumn *c) except -1
    cdef int put_met_str(self, PyObject *o, int64_t entry, PrSlot *slot, PrColumn *c) except -1
    cdef int put_surrogates(self, PyObject *o, PrSlot *slot) except -1
    cdef int put_int(self, PyObject *o, PrSlot *slot) except -1
    cdef int put_bigint(self, PyObject *o, PrSlot *slot) except -1
    cdef int put_scalar_row(self, int kind, const void *data, size_t size, PrSlot *slot) except -1
    cdef int put_index(self, int kind, int64_t index, PrSlot *slot) except -1
    cdef int put_object(self, PyObject *o, PrSlot *slot, Py_ssize_t own) except -1
    cdef int put_data(self, int kind, PyObject *o, const void *data, Py_ssize_t size,
                      PrSlot *slot, int64_t entry) except -1
    cdef int put_bytes(self, PyObject *o, PrSlot *slot, int64_t entry) except -1
    cdef int put_bytearray(self, PyObject *o, PrSlot *slot, int64_t entry) except -1
    cdef int put_pickle_buffer(self, PyObject *o, PrSlot *slot, int64_t entry) except -1
    cdef int put_ndarray(self, PyObject *o, PrSlot *slot, int64_t entry) except -1
    cdef int put_list(self, PyObject *o, PrSlot *slot, int64_t entry, bint may_defer) except -1
    cdef PrColumn *list_column(self, PrSlot *slot, int item_class, Py_ssize_t n,
                               bint may_defer) except? NULL
    cdef int put_tuple(self, PyObject *o, PrSlot *slot, int64_t entry, bint may_defer) except -1
    cdef int put_tuple_items(self, PyObject *o, PrColumn *c, Py_ssize_t n) except -1
    cdef int put_dict(self, PyObject *o, PrSlot *slot, int64_t entry) except -1
    cdef int put_pairs(self, PyObject *o, PrColumn *c, Py_ssize_t n) except -1
    cdef int put_fields(self, PyObject *o, PrColumn *c, Py_ssize_t n) except -1
    cdef int record_column(self, PyObject *o, PrSlot *slot, PrColumn **out) except -1
    cdef int new_record(self, PyObject *o, PrSlot *slot, PrColumn **out) except -1
    cdef int put_set(self, PyObject *o, PrSlot *slot, int64_t entry, int kind,
                     bint may_defer) except -1
    cdef int put_sequence(self, PyObject *o, bint is_list, Py_ssize_t n, PrSlot *slot) except -1
    cdef Py_ssize_t put_run(self, PyObject **items, Py_ssize_t n, PrSlot *slot) except -1
    cdef Py_ssize_t put_str_run(self, PyObject **items, Py_ssize_t n, PrSlot *slot) except -1
    cdef int put_reduced(self, PyObject *o, object rv, PrSlot *slot, int64_t entry) except -1
    cdef int put_by_reducer(self, PyObject *o, PrSlot *slot, int64_t entry) except -1
    cdef int put_plain(self, PyObject *o, TypeInfo info, PrSlot *slot, int64_t entry) except -1
    cdef int put_instance(self, PyObject *o, object cls, int32_t g, object state, PrSlot *slot,
                          int64_t entry, Py_ssize_t own) except -1
    cdef int put_reduce(self, PyObject *o, object func, object args, object state,
                        object listitems, object dictitems, object setter, PrSlot *slot,
                        int64_t entry) except -1
    cdef int put_reduce_parts(self, PrColumn *c, int parts, object func, object args, object state,
                              object listitems, object dictitems, object setter, int64_t entry,
                              int64_t row) except -1
    cdef int put_arguments(self, object args, PrSlot *slot) except -1
    cdef int put_state(self, object state, PrSlot *slot, Py_ssize_t own) except -1
    cdef int begin_message(self) except -1
    cdef int put_dict_items(self, object items, PrSlot *slot) except -1
    cdef TypeInfo info_of(self, PyObject *o)
    cdef int32_t global_of(self, object o) except -2
    cdef int32_t add_global(self, object o, object name) except -2
    cdef PrColumn *column(self, PrSlot *slot, int kind, int sub, uint32_t extra, uint32_t n_slots,
                          bint may_defer) except? NULL
    cdef int defer(self, PyObject *o, object rv, PrSlot *slot, int64_t entry) except -1
    cdef int64_t new_entry(self, PyObject *o) except -1
    cdef int remember(self, int64_t entry, PrColumn *c, int64_t row) except -1
    cdef int finish(self, int64_t entry, PrColumn *c, int64_t row) except -1
    cdef int32_t number_of(self, int64_t entry) except -1
    cdef int memo_row(self, PrColumn *c, int64_t row, int32_t number) except -1
    cdef int64_t pin(self, object owner, const void *data, int64_t size) except -1
    cdef int note_pair(self, PrSlot *slot, PyObject *first, PyObject *second) except -1
    cdef int enter(self) except -1
    cdef int step(self, int kind, Py_ssize_t index, PyObject *key) except -1
    cdef int note_failure(self, PyObject *o) except -1
    cdef int require_memo(self) except -1
    cdef int forget(self) except -1


cdef Encoder acquire(object context, object buffer_callback)
cdef void release(Encoder e)
cdef int write_message(Encoder e, uint8_t *out) except -1
