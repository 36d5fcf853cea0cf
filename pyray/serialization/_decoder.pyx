"""Decoding: what a message's bytes mean as Python objects.

The work is done by the `_decode_*.h` files, on top of csrc/message.c; here are the buffers that
messages come in, trust, and errors. May import `errors`, and `context` and `reduction` when a
message needs them; never numpy, whose part is `_ndarray`. The format is docs/format.md.
"""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF, PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from _thread import RLock

from pyray.serialization.errors import DeserializationError as MalformedMessage

cdef extern from "debug.h":
    enum:
        PR_LIVE_MESSAGES
        PR_LIVE_WARM_BLOCKS
    int64_t pr_debug_count(int kind)

cdef extern from "warm.h":
    enum:
        PR_WARM_SMALLEST
    void *pr_warm_take(size_t size, size_t *capacity)
    void pr_warm_give(void *block, size_t capacity)

cdef extern from "Python.h":
    object PyMemoryView_FromObject(object source)
    const Py_buffer *PyMemoryView_GET_BUFFER(object view)
    bint PyBuffer_IsContiguous(const Py_buffer *view, char order)
    object PyFloat_FromDouble(double value)
    str PyUnicode_DecodeUTF8(const char *data, Py_ssize_t size, const char *errors)
    bytes PyBytes_FromStringAndSize(const char *data, Py_ssize_t size)
    object PyLong_FromLongLong(long long value)
    void *PyMem_RawMalloc(size_t size)
    void PyMem_RawFree(void *memory)

cdef extern from "_decode_core.h":
    PyObject *DeserializationError
    PyObject *empty_tuple
    PyObject *str_setstate
    PyObject *str_extend
    PyObject *str_append
    PyObject *str_dict
    PyObject *(*make_buffer)(PyObject *owner, const void *data, Py_ssize_t size,
                             int readonly) except NULL
    void decoder_init(Decoder *d)
    void decoder_free(Decoder *d)
    int decoder_open(Decoder *d, const void *data, Py_ssize_t size) except -1
    object decode_root(Decoder *d)
    object decode_row(Decoder *d, uint32_t node, int64_t row)
    object decode_leaf(Decoder *d, uint32_t node, int64_t row)
    object int_from_bytes(const uint8_t *data, size_t size)
    str text_of(PrText text)

cdef enum:
    VERSION = 1
    COLUMNS = 0x1f
    PREFIX_SIZE = 16
    ALIGNMENT = 64

#: Functions that only make an instance of a class. The class is a global of the message, too, or
#: made by functions that are: what is not allowed cannot be instantiated through them.
cdef frozenset ALWAYS_ALLOWED = frozenset(
    ("copyreg", name) for name in ("__newobj__", "__newobj_ex__", "_reconstructor"))


#: Where the functions that restore torch's objects are.
cdef str TORCH = "pyray.serialization.adapters.torch_"


# -- memory ------------------------------------------------------------------------------------


@cython.final
@cython.freelist(16)
cdef class Buffer:
    """Bytes in memory that another object owns: a view with the buffer protocol and little else.

    `memoryview(buffer)`, `bytes(buffer)` and `numpy.frombuffer(buffer, dtype)` read it; the
    owner lives as long as any of these. Equal to any bytes-like object of the same bytes.
    """

    def __init__(self):
        raise TypeError("Buffer objects come out of messages; use memoryview() or bytes()")

    @staticmethod
    cdef Buffer view(object owner, const char *data, Py_ssize_t size, bint readonly=True):
        """A view of memory that lives as long as `owner`."""
        cdef Buffer self = Buffer.__new__(Buffer)
        self.owner = owner
        self.data = <char *> data
        self.size = size
        self.readonly = readonly
        return self

    @staticmethod
    cdef Buffer wrap(object source):
        """A read-only view of any C-contiguous bytes-like object."""
        cdef const Py_buffer *memory
        if type(source) is Buffer:
            return <Buffer> source
        if PyBytes_CheckExact(source):
            return Buffer.view(source, PyBytes_AS_STRING(source), PyBytes_GET_SIZE(source))
        view = PyMemoryView_FromObject(source)
        memory = PyMemoryView_GET_BUFFER(view)
        if not PyBuffer_IsContiguous(memory, b"C"):
            raise BufferError("a message is read from contiguous memory only")
        return Buffer.view(view, <const char *> memory.buf, memory.len)

    @staticmethod
    cdef Buffer allocate(Py_ssize_t size):
        """New writable memory, aligned to 64; its content is arbitrary."""
        cdef Buffer self = Buffer.__new__(Buffer)
        if size >= PR_WARM_SMALLEST:
            self.memory = pr_warm_take(size, &self.capacity)
        else:
            self.memory = PyMem_RawMalloc(size + ALIGNMENT)
        if self.memory == NULL:
            raise MemoryError
        self.data = <char *> self.memory + (-<uint64_t> self.memory) % ALIGNMENT
        self.size = size
        return self

    def __dealloc__(self):
        if self.capacity:
            pr_warm_give(self.memory, self.capacity)
        else:
            PyMem_RawFree(self.memory)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.data, self.size, self.readonly, flags)

    def __len__(self):
        return self.size

    def __bytes__(self):
        return PyBytes_FromStringAndSize(self.data, self.size)

    def __eq__(self, other):
        try:
            return memoryview(self) == memoryview(other)
        except TypeError:
            return NotImplemented

    __hash__ = None

    def __repr__(self):
        access = "read-only" if self.readonly else "writable"
        return f"<pyray.Buffer of {self.size} bytes, {access}>"

    def __reduce_ex__(self, int protocol):
        if protocol < 5:
            return _copied, (bytes(self),)
        from pickle import PickleBuffer

        return _copied, (PickleBuffer(self),)


def _copied(data):
    """The Buffer of what a pickled one was reduced to."""
    return Buffer.wrap(data)


cdef object as_source(object buffer):
    """What keeps a message's bytes alive: the bytes themselves, else a Buffer."""
    return buffer if PyBytes_CheckExact(buffer) else Buffer.wrap(buffer)


cdef const uint8_t *source_data(object source):
    if PyBytes_CheckExact(source):
        return <const uint8_t *> PyBytes_AS_STRING(source)
    return <const uint8_t *> (<Buffer> source).data


cdef Py_ssize_t source_size(object source):
    return PyBytes_GET_SIZE(source) if PyBytes_CheckExact(source) else (<Buffer> source).size


# -- scalars -----------------------------------------------------------------------------------


cdef object small_int(const uint8_t *data, Py_ssize_t size):
    cdef uint64_t value = 0
    if size < 1:
        raise MalformedMessage("malformed message: an int has no bytes")
    if size > 8:
        return int_from_bytes(data, size)
    memcpy(&value, data, size)
    return PyLong_FromLongLong(<int64_t> (value << 8 * (8 - size)) >> 8 * (8 - size))


cdef str text(const uint8_t *data, Py_ssize_t size, const char *errors):
    try:
        return PyUnicode_DecodeUTF8(<const char *> data, size, errors)
    except UnicodeDecodeError:
        raise MalformedMessage("malformed message: a str is not UTF-8") from None


cdef object scalar(const uint8_t *data, Py_ssize_t size):
    """The object of a message that is no columns message, format.md section 1."""
    cdef double number
    cdef int tag = data[0] & 15
    if data[0] >> 4 != VERSION:
        raise MalformedMessage(f"the message has format version {data[0] >> 4}, "
                               f"this pyray reads version {VERSION}")
    if tag == 0:
        return None
    if tag == 1:
        return False
    if tag == 2:
        return True
    if tag == 3:
        return small_int(data + 1, size - 1)
    if tag == 4:
        if size < 9:
            raise MalformedMessage("malformed message: it is cut off")
        memcpy(&number, data + 1, 8)
        return PyFloat_FromDouble(number)
    if tag == 5:
        return text(data + 1, size - 1, NULL)
    if tag == 6:
        return text(data + 1, size - 1, "surrogatepass")
    if tag == 7:
        return PyBytes_FromStringAndSize(<const char *> data + 1, size - 1)
    raise MalformedMessage(f"malformed message: unknown tag {tag}")


# -- messages ----------------------------------------------------------------------------------


def decode_message(buffer, *, context=None, bint trusted=True, allow=(), buffers=None):
    """Return the object of a message.

    Parameters
    ----------
    buffer
        The message, C-contiguous and bytes-like. Arrays and buffers in the result are read-only
        views of it and keep it alive. Bytes behind the end of a message are ignored.
    context
        The `SerializationContext` to restore registered types with; by default the one in use.
    trusted
        Whether the message may name any global. What it names is imported, and called with
        whatever arguments it likes: pass False for bytes from a stranger.
    allow
        The globals that a message which is not trusted may name: objects, or strings like
        "datetime.date". Classes that instances are of count, and functions that reductions call,
        such as `decimal.Decimal`. What is allowed can be called with any arguments, so allow
        nothing that could do harm with some. Functions that do no more than make an instance of
        an allowed class (`copyreg.__newobj__` and its like) need not be named.
    buffers
        What `buffer_callback` was given, in that order.

    Raises
    ------
    EOFError
        `buffer` is empty.
    DeserializationError
        The message is truncated, altered, of a newer format, or names what is not allowed.
    RecursionError
        Its objects are nested too deeply for the stack.
    Exception
        Whatever functions that the message calls raise.

    >>> from pyray import dumps
    >>> decode_message(dumps([1, 'two']))
    [1, 'two']
    """
    return decode(buffer, context, trusted, allow, buffers)


cdef object decode(object buffer, object context, bint trusted, object allow, object buffers):
    """decode_message for C callers."""
    cdef const uint8_t *data
    source = as_source(buffer)
    data = source_data(source)
    if source_size(source) == 0:
        raise EOFError("Ran out of input")
    if data[0] != COLUMNS:
        return scalar(data, source_size(source))
    if context is None:
        return decode_columns(source, trusted, allow, buffers)
    from pyray.serialization.context import use

    with use(context):
        return decode_columns(source, trusted, allow, buffers)


cdef object decode_columns(object source, bint trusted, object allow, object buffers):
    cdef Decoder decoder
    cdef list given = None if buffers is None else list(buffers)
    decoder_init(&decoder)
    try:
        open_decoder(&decoder, source, given)
        if not trusted:
            check_globals(&decoder, allow)
        if type(source) is Buffer and (<Buffer> source).is_shared and has_tensors(&decoder):
            return decode_columns(private_copy(source), trusted, allow, buffers)
        return decode_root(&decoder)
    finally:
        decoder_free(&decoder)


cdef bint has_tensors(Decoder *decoder):
    """Whether torch tensors are restored, which cannot be made read-only."""
    cdef uint32_t i
    for i in range(decoder.message.n_globals):
        if text_of(decoder.message.globals_[2 * i]) == TORCH:
            return True
    return False


cdef Buffer private_copy(Buffer shared):
    """The same bytes in memory that may be written; nothing is copied but what is written."""
    cdef object view = PyMemoryView_FromObject(shared.owner.private_copy())
    cdef const Py_buffer *memory = PyMemoryView_GET_BUFFER(view)
    cdef Buffer result = Buffer.view(view, <const char *> memory.buf, memory.len, False)
    result.is_private = True
    return result


cdef int open_decoder(Decoder *decoder, object source, list given) except -1:
    decoder.source = keep(source)
    decoder.writable = type(source) is Buffer and (<Buffer> source).is_private
    if given is not None:
        decoder.out_of_band = keep(given)
    return decoder_open(decoder, source_data(source), source_size(source))


def live_counts():
    """In a debug build, how many large parsed messages and warm blocks there are; else zeros."""
    return {"messages": pr_debug_count(PR_LIVE_MESSAGES),
            "warm blocks": pr_debug_count(PR_LIVE_WARM_BLOCKS)}


def message_size(buffer):
    """Return how many bytes the message at the start of `buffer` has.

    The first 16 bytes of a message tell, if there are so many. None for an int, str or bytes
    object by itself: such a message ends where its buffer does.

    Raises
    ------
    EOFError
        `buffer` is empty.
    DeserializationError
        It does not start with a message that this version reads, or not with enough of it.
    """
    cdef uint64_t size
    source = as_source(buffer)
    cdef const uint8_t *data = source_data(source)
    if source_size(source) == 0:
        raise EOFError("Ran out of input")
    if data[0] == COLUMNS:
        if source_size(source) < PREFIX_SIZE:
            raise MalformedMessage("malformed message: it is cut off")
        memcpy(&size, data + 8, 8)
        return size
    if data[0] >> 4 != VERSION or data[0] & 15 > 7:
        scalar(data, 1)  # raises the error of its first byte
    if data[0] & 15 < 3:
        return 1
    return 9 if data[0] & 15 == 4 else None


# -- trust -------------------------------------------------------------------------------------


cdef set allowed_names(object allow):
    from pyray.serialization.context import ALWAYS_ALLOWED as restoring
    from pyray.serialization.reduction import global_name

    names = {".".join(pair) for pair in ALWAYS_ALLOWED | restoring}
    for item in (allow,) if isinstance(allow, str) else allow:
        names.add(item if isinstance(item, str) else ".".join(global_name(item)))
    return names


cdef int check_globals(Decoder *decoder, object allow) except -1:
    """Refuse a message that names anything else than what is allowed, before it is decoded."""
    cdef PrMessage *m = &decoder.message
    cdef uint32_t i
    if m.n_globals == 0:
        return 0
    names = allowed_names(allow)
    refused = []
    for i in range(m.n_globals):
        name = f"{text_of(m.globals_[2 * i])}.{text_of(m.globals_[2 * i + 1])}"
        if name not in names:
            refused.append(name)
    if refused:
        raise MalformedMessage(
            f"the message names {', '.join(refused)}, which this reader does not allow; if no "
            f"harm can come from calling them with any arguments, pass allow={refused!r}")
    return 0


# -- sessions of views -------------------------------------------------------------------------


@cython.final
cdef class Message:
    """A parsed columns message, of which rows are decoded one at a time. Views share one.

    Objects that several rows stand for are made once, as they would be by decode_message.
    """

    def __cinit__(self):
        decoder_init(&self.decoder)

    def __dealloc__(self):
        decoder_free(&self.decoder)

    @staticmethod
    cdef Message open(object buffer, object context, bint trusted, object allow, object buffers):
        cdef Message self = Message.__new__(Message)
        self.context = context
        self.allow = allow
        self.is_trusted = trusted
        self.lock = RLock()
        open_decoder(&self.decoder, as_source(buffer), None if buffers is None else list(buffers))
        return self

    cdef object decode(self, uint32_t node, int64_t row):
        """The object of a row that exists. One thread at a time: decoding may run code."""
        with self.lock:
            if not self.is_trusted:
                check_globals(&self.decoder, self.allow)
                self.is_trusted = True
            if self.context is None:
                return decode_row(&self.decoder, node, row)
            from pyray.serialization.context import use

            with use(self.context):
                return decode_row(&self.decoder, node, row)

    cdef object leaf(self, uint32_t node, int64_t row):
        """The object of a row of a node of numbers, strings, bytes or arrays: runs no code."""
        return decode_leaf(&self.decoder, node, row)

    cdef tuple global_name(self, uint32_t index):
        """Module and qualified name of a global, which is not looked up."""
        cdef PrText *globals_ = self.decoder.message.globals_
        if index >= self.decoder.message.n_globals:
            raise MalformedMessage("malformed message: an index names no global")
        return text_of(globals_[2 * index]), text_of(globals_[2 * index + 1])


# -- what the C code needs of Python -----------------------------------------------------------


cdef PyObject *keep(object value):
    """A reference that C code holds."""
    Py_INCREF(value)
    return <PyObject *> value


cdef PyObject *new_buffer(PyObject *owner, const void *data, Py_ssize_t size,
                          int readonly) except NULL:
    return keep(Buffer.view(<object> owner, <const char *> data, size, readonly))


cdef PyObject *interned(str name):
    from sys import intern

    return keep(intern(name))


DeserializationError = keep(MalformedMessage)
empty_tuple = keep(())
str_setstate = interned("__setstate__")
str_extend = interned("extend")
str_append = interned("append")
str_dict = interned("__dict__")
make_buffer = new_buffer
