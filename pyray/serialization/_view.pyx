"""Lazy reading: a message's object of which only what is touched is decoded.

Numbers, strings, bytes and arrays come out as themselves; containers as the `Lazy*` classes here,
which hold no more than their place in the message. What would run code comes out as a LazyObject.
All of it is constant work, whatever the size of the message, but for looking up a key: that
compares with one key after another, as bytes, without decoding them.
"""

cimport cython
from cpython.object cimport Py_EQ, PyObject_RichCompareBool
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint32_t
from libc.string cimport memcmp

from pyray.serialization._decoder cimport (
    Message, PrMessage, PrNode, PrText, as_source, scalar, source_data, source_size,
)

from pyray.serialization.errors import DeserializationError

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    long long PyLong_AsLongLongAndOverflow(object value, int *overflow) except? -1
    str PyUnicode_DecodeUTF8(const char *data, Py_ssize_t size, const char *errors)

cdef extern from "message.h":
    int pr_message_check(PrMessage *m)
    int64_t pr_offset(const PrNode *node, const uint8_t *column, int64_t row)
    int pr_range(const PrNode *node, int64_t row, int64_t limit, int64_t *begin, int64_t *end)
    enum:
        PR_NULL, PR_INT8, PR_INT16, PR_INT32, PR_INT64, PR_UTF8, PR_DICTIONARY, PR_REF, PR_GLOBAL
        PR_LIST, PR_TUPLE, PR_SET, PR_FROZENSET, PR_DICT, PR_DICT_RECORD, PR_TUPLE_RECORD
        PR_INSTANCE, PR_REDUCE, PR_UNION, PR_PART_FUNCTION, PR_PART_ARGUMENTS
        PR_PART_LIST_ITEMS, PR_PART_DICT_ITEMS, PR_PART_STATE

cdef extern from *:
    uint32_t popcount "__builtin_popcount"(unsigned int bits)

cdef enum:
    COLUMNS = 0x1f


def view(buffer, *, context=None, bint trusted=True, allow=(), buffers=None):
    """Return the object of a message, decoded lazily.

    The parameters are those of `deserialize`; `buffer` may also be a memory-mapped file or shared
    memory, of which only what is needed is read. Scalars and arrays are returned as they are.
    Lists, tuples, dicts and sets are returned as views with the methods for reading that they
    have, and `materialize()`, which decodes all of it. Any other object is returned as a
    LazyObject. No code runs, and nothing is imported, before `materialize()`.

    Raises
    ------
    EOFError
        `buffer` is empty.
    DeserializationError
        The message is malformed. Later, also by the views: what they have to read is.

    >>> from pyray import dumps, view
    >>> v = view(dumps({'name': 'x', 'sizes': [1, 2, 3]}))
    >>> v['sizes'][-1], len(v), v['sizes'][1:].materialize()
    (3, 2, [2, 3])
    """
    cdef Message message
    source = as_source(buffer)
    if source_size(source) == 0:
        raise EOFError("Ran out of input")
    if source_data(source)[0] != COLUMNS:
        return scalar(source_data(source), source_size(source))
    message = Message.open(source, context, trusted, allow, buffers)
    return wrap(message, 0, 0)


# -- finding rows ------------------------------------------------------------------------------


cdef int malformed(str what) except -1:
    raise DeserializationError(f"malformed message: {what}")


cdef inline PrNode *node_at(Message m, uint32_t index):
    return &m.decoder.message.nodes[index]


cdef int follow_union(Message m, uint32_t *index, int64_t *row) except -1:
    cdef PrNode *node = node_at(m, index[0])
    cdef int type_id = (<const int8_t *> node.a)[row[0]]
    if type_id < 0 or <uint32_t> type_id >= node.n_children:
        malformed("a type id names no member of its union")
    index[0] = node.child + type_id
    row[0] = pr_offset(node, node.b, row[0])
    if row[0] < 0 or row[0] >= node_at(m, index[0]).rows:
        malformed("an offset points outside its column")
    return 0


cdef int follow_dictionary(Message m, uint32_t *index, int64_t *row) except -1:
    cdef PrNode *node = node_at(m, index[0])
    row[0] = (<const int32_t *> node.a)[row[0]]
    index[0] = node.child
    if row[0] < 0 or row[0] >= node_at(m, index[0]).rows:
        malformed("an index names no string")
    return 0


cdef int follow_reference(Message m, uint32_t *index, int64_t *row) except -1:
    cdef PrMessage *message = &m.decoder.message
    cdef int32_t number = (<const int32_t *> node_at(m, index[0]).a)[row[0]]
    if pr_message_check(message) < 0:
        malformed(message.error.decode())
    if number < 0 or <uint32_t> number >= message.n_numbers:
        malformed("a reference names no object")
    cdef int32_t entry = message.memo_first[number]
    index[0] = message.memo_node[entry]
    row[0] = message.memo_row[entry]
    return 0


cdef int follow(Message m, uint32_t *index, int64_t *row) except -1:
    """From a row to the one that holds its object."""
    if node_at(m, index[0]).kind == PR_UNION:
        follow_union(m, index, row)
    if node_at(m, index[0]).kind == PR_REF:
        follow_reference(m, index, row)  # never to a REF, a UNION or a DICTIONARY
    if node_at(m, index[0]).kind == PR_DICTIONARY:
        follow_dictionary(m, index, row)
    return 0


cdef object wrap(Message m, uint32_t index, int64_t row):
    """The object of a row, or the view that stands for it."""
    follow(m, &index, &row)
    cdef int kind = node_at(m, index).kind
    if kind == PR_LIST:
        return sequence(LazyList.__new__(LazyList), m, index, row)
    if kind == PR_TUPLE or kind == PR_TUPLE_RECORD:
        return sequence(LazyTuple.__new__(LazyTuple), m, index, row)
    if kind == PR_DICT or kind == PR_DICT_RECORD:
        return mapping(m, index, row)
    if kind == PR_SET or kind == PR_FROZENSET:
        return sequence(LazySet.__new__(LazySet), m, index, row)
    if kind == PR_INSTANCE or kind == PR_REDUCE or kind == PR_GLOBAL:
        return place(LazyObject.__new__(LazyObject), m, index, row)
    return m.leaf(index, row)


# -- views -------------------------------------------------------------------------------------


@cython.auto_pickle(False)
cdef class Lazy:
    """A place in a message: what all views have."""

    cdef Message message
    cdef uint32_t index  # of the node
    cdef int64_t row

    def __init__(self):
        raise TypeError(f"{type(self).__name__} objects come from pyray.view()")

    cdef PrNode *node(self):
        return node_at(self.message, self.index)

    def materialize(self):
        """Decode the whole object, with all that belongs to it.

        Objects that the message holds once are one object, also over several calls, however they
        are reached.
        """
        return self.message.decode(self.index, self.row)


cdef Lazy place(Lazy self, Message m, uint32_t index, int64_t row):
    self.message = m
    self.index = index
    self.row = row
    return self


cdef class LazySequence(Lazy):
    """Items of one row, or every so many of them."""

    cdef int64_t first
    cdef int64_t step
    cdef int64_t count
    cdef bint is_slice

    cdef object item(self, int64_t i):
        cdef PrNode *node = self.node()
        i = self.first + i * self.step
        if node.kind == PR_TUPLE_RECORD:
            return wrap(self.message, node.child + <uint32_t> i, self.row)
        return wrap(self.message, node.child, i)

    cdef object materialized_item(self, int64_t i):
        cdef PrNode *node = self.node()
        i = self.first + i * self.step
        if node.kind == PR_TUPLE_RECORD:
            return self.message.decode(node.child + <uint32_t> i, self.row)
        return self.message.decode(node.child, i)

    def __len__(self):
        return self.count

    def __iter__(self):
        cdef int64_t i
        for i in range(self.count):
            yield self.item(i)

    def __contains__(self, value):
        cdef int64_t i
        for i in range(self.count):
            if PyObject_RichCompareBool(self.item(i), value, Py_EQ):
                return True
        return False

    def __repr__(self):
        return f"<{type(self).__name__} of {self.count} items>"


cdef LazySequence sequence(LazySequence self, Message m, uint32_t index, int64_t row):
    place(self, m, index, row)
    cdef PrNode *node = self.node()
    cdef int64_t end
    self.step = 1
    if node.kind == PR_TUPLE_RECORD:
        self.count = node.n_children
    elif pr_range(node, row, node_at(m, node.child).rows, &self.first, &end) < 0:
        malformed("an offset points outside its column")
    else:
        self.count = end - self.first
    return self


cdef class LazyIndexed(LazySequence):
    """What lists and tuples have in common."""

    def __getitem__(self, where):
        cdef int64_t i
        if isinstance(where, slice):
            return self.sliced(where)
        try:
            i = where
        except OverflowError:
            raise IndexError("index out of range") from None
        if i < 0:
            i += self.count
        if i < 0 or i >= self.count:
            raise IndexError(f"index {where} is out of range of {self.count} items")
        return self.item(i)

    cdef LazyIndexed sliced(self, where):
        start, _, step = where.indices(self.count)
        cdef LazyIndexed out = type(self).__new__(type(self))
        place(out, self.message, self.index, self.row)
        out.count = len(range(*where.indices(self.count)))
        out.first = self.first + start * self.step if out.count else 0
        out.step = self.step * step if out.count else 1
        out.is_slice = True
        return out

    cdef list items(self):
        cdef int64_t i
        return [self.materialized_item(i) for i in range(self.count)]

    cdef bint equals(self, other) except -1:
        cdef int64_t i = 0
        if len(other) != self.count:
            return False
        for value in other:
            if i >= self.count or not PyObject_RichCompareBool(self.item(i), value, Py_EQ):
                return False
            i += 1
        return True


cdef class LazyList(LazyIndexed):
    """A list that decodes what is asked for: indexing, slices, iteration, `len`, `in`, `==`."""

    def materialize(self):
        """Decode the whole list, or the items of a slice of it."""
        return self.items() if self.is_slice else self.message.decode(self.index, self.row)

    def __eq__(self, other):
        return self.equals(other) if isinstance(other, (list, LazyList)) else NotImplemented

    __hash__ = None


cdef class LazyTuple(LazyIndexed):
    """A tuple that decodes what is asked for: indexing, slices, iteration, `len`, `in`, `==`."""

    def materialize(self):
        """Decode the whole tuple, or the items of a slice of it."""
        return tuple(self.items()) if self.is_slice else self.message.decode(self.index, self.row)

    def __eq__(self, other):
        return self.equals(other) if isinstance(other, (tuple, LazyTuple)) else NotImplemented

    __hash__ = None


cdef class LazySet(LazySequence):
    """A set or frozenset that decodes what is asked for: iteration, `len`, `in`, `==`."""

    def __eq__(self, other):
        if not isinstance(other, (set, frozenset, LazySet)):
            return NotImplemented
        if len(other) != self.count:
            return False
        for value in other:
            if value not in self:
                return False
        return True

    __hash__ = None


# -- dicts -------------------------------------------------------------------------------------


cdef class LazyDict(Lazy):
    """A dict that decodes what is asked for: `[key]`, `get`, `in`, `len`, `==`, iteration.

    Keys that are objects of classes are found by iteration, or by what `materialize()` returns.
    """

    cdef int64_t first
    cdef int64_t count

    cdef object key(self, int64_t i):
        cdef PrNode *node = self.node()
        if node.kind == PR_DICT_RECORD:
            return record_name(self.message, node, i)
        return wrap(self.message, node.child, self.first + i)

    cdef object value(self, int64_t i):
        cdef PrNode *node = self.node()
        if node.kind == PR_DICT_RECORD:
            return wrap(self.message, node.child + <uint32_t> i, self.row)
        return wrap(self.message, node.child + 1, self.first + i)

    cdef int64_t find(self, key) except -2:
        """Which pair has that key; -1 for none."""
        cdef PrNode *node = self.node()
        cdef Py_ssize_t size
        cdef const char *text
        cdef int64_t number
        cdef int overflow = 0
        if type(key) is str:
            try:
                text = PyUnicode_AsUTF8AndSize(key, &size)
            except UnicodeEncodeError:
                return self.find_any(key)
            if node.kind == PR_DICT_RECORD:
                return find_name(self.message, node, text, size)
            return find_text(self.message, node.child, self.first, self.count, text, size)
        if type(key) is int and node.kind == PR_DICT and is_int(node_at(self.message, node.child)):
            number = PyLong_AsLongLongAndOverflow(key, &overflow)
            if overflow:
                return -1
            return find_int(node_at(self.message, node.child), self.first, self.count, number)
        return self.find_any(key)

    cdef int64_t find_any(self, key) except -2:
        cdef int64_t i
        for i in range(self.count):
            if PyObject_RichCompareBool(self.key(i), key, Py_EQ):
                return i
        return -1

    def __len__(self):
        return self.count

    def __getitem__(self, key):
        cdef int64_t i = self.find(key)
        if i < 0:
            raise KeyError(key)
        return self.value(i)

    def get(self, key, default=None):
        """The value of a key, or `default`."""
        cdef int64_t i = self.find(key)
        return default if i < 0 else self.value(i)

    def __contains__(self, key):
        return self.find(key) >= 0

    def __iter__(self):
        return self.keys()

    def keys(self):
        """Iterate over the keys."""
        cdef int64_t i
        for i in range(self.count):
            yield self.key(i)

    def values(self):
        """Iterate over the values."""
        cdef int64_t i
        for i in range(self.count):
            yield self.value(i)

    def items(self):
        """Iterate over pairs of key and value."""
        cdef int64_t i
        for i in range(self.count):
            yield self.key(i), self.value(i)

    def __eq__(self, other):
        if not isinstance(other, (dict, LazyDict)):
            return NotImplemented
        if len(other) != self.count:
            return False
        for key, value in other.items():
            i = self.find(key)
            if i < 0 or not PyObject_RichCompareBool(self.value(i), value, Py_EQ):
                return False
        return True

    __hash__ = None

    def __repr__(self):
        return f"<LazyDict of {self.count} items>"


cdef LazyDict mapping(Message m, uint32_t index, int64_t row):
    cdef LazyDict self = LazyDict.__new__(LazyDict)
    place(self, m, index, row)
    cdef PrNode *node = self.node()
    cdef int64_t end
    if node.kind == PR_DICT_RECORD:
        self.count = node.n_children
        return self
    cdef int64_t limit = min(node_at(m, node.child).rows, node_at(m, node.child + 1).rows)
    if pr_range(node, row, limit, &self.first, &end) < 0:
        malformed("an offset points outside its column")
    self.count = end - self.first
    return self


cdef str record_name(Message m, PrNode *node, int64_t i):
    cdef PrText *name = &m.decoder.message.names[node.extra + i]
    try:
        return PyUnicode_DecodeUTF8(<const char *> name.data, name.size, NULL)
    except UnicodeDecodeError:
        malformed("a str is not UTF-8")


cdef int64_t find_name(Message m, PrNode *node, const char *text, Py_ssize_t size):
    cdef PrText *names = &m.decoder.message.names[node.extra]
    cdef int64_t i
    for i in range(node.n_children):
        if <Py_ssize_t> names[i].size == size and memcmp(names[i].data, text, size) == 0:
            return i
    return -1


cdef bint is_int(PrNode *node):
    return PR_INT8 <= node.kind <= PR_INT64


cdef int64_t find_int(PrNode *node, int64_t first, int64_t count, int64_t number):
    cdef int64_t i, value
    for i in range(first, first + count):
        if node.kind == PR_INT8:
            value = (<const int8_t *> node.a)[i]
        elif node.kind == PR_INT16:
            value = (<const int16_t *> node.a)[i]
        elif node.kind == PR_INT32:
            value = (<const int32_t *> node.a)[i]
        else:
            value = (<const int64_t *> node.a)[i]
        if value == number:
            return i - first
    return -1


cdef bint is_text(PrNode *node, int64_t row, const char *text, Py_ssize_t size) except -1:
    """Whether a row of a UTF8 node has these bytes."""
    cdef int64_t begin, end
    if pr_range(node, row, node.data_size, &begin, &end) < 0:
        malformed("an offset points outside its column")
    return end - begin == size and memcmp(node.b + begin, text, size) == 0


cdef int64_t find_text(Message m, uint32_t keys, int64_t first, int64_t count, const char *text,
                       Py_ssize_t size) except -2:
    cdef int64_t i, row
    cdef uint32_t index
    if node_at(m, keys).kind == PR_UTF8:
        for i in range(count):
            if is_text(node_at(m, keys), first + i, text, size):
                return i
        return -1
    for i in range(count):
        index, row = keys, first + i
        follow(m, &index, &row)
        if node_at(m, index).kind == PR_UTF8 and is_text(node_at(m, index), row, text, size):
            return i
    return -1


# -- objects -----------------------------------------------------------------------------------


cdef class LazyObject(Lazy):
    """An object that is made by calling something, or a global; not before `materialize()`.

    `name` is the class, the function that will be called, or the global, as "module.name"; None if
    the function is no global. `arguments`, `state`, `list_items` and `dict_items` are views of
    what the object is made of, and None where it has none.
    """

    cdef object part(self, int which):
        cdef PrNode *node = self.node()
        cdef unsigned int earlier = node.parts & (which - 1)
        if node.kind == PR_INSTANCE and which == PR_PART_STATE:
            return wrap(self.message, node.child, self.row)
        if node.kind != PR_REDUCE or not node.parts & which:
            return None
        return wrap(self.message, node.child + popcount(earlier), self.row)

    @property
    def name(self):
        cdef PrNode *node = self.node()
        cdef int64_t number = node.extra
        if node.kind == PR_GLOBAL:
            number = (<const int32_t *> node.a)[self.row]
        elif node.kind == PR_REDUCE:
            number = <int64_t> node.extra - 1
            if number < 0:
                return None
        if number < 0:
            malformed("an index names no global")
        return ".".join(self.message.global_name(<uint32_t> number))

    @property
    def arguments(self):
        return self.part(PR_PART_ARGUMENTS)

    @property
    def state(self):
        return self.part(PR_PART_STATE)

    @property
    def list_items(self):
        return self.part(PR_PART_LIST_ITEMS)

    @property
    def dict_items(self):
        return self.part(PR_PART_DICT_ITEMS)

    def __repr__(self):
        return f"<LazyObject {self.name or 'made by a function of the message'}>"
