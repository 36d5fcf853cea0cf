"""Whole messages: pickle's functions, and the serialized object that is written later.

The layout is docs/format.md; the walking is done by `_encoder` and `_decoder`, or by the
plain-Python reference codec when PYRAY_PICKLE_VERBOSE_DEBUG=2 is in the environment at import.
"""

import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.float cimport PyFloat_AS_DOUBLE
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memset

from pyray.serialization._column cimport (
    PR_COLUMNS_BYTE,
    PrBlob,
    pr_padded_head,
    pr_write_blobs,
    pr_write_head,
)
from pyray.serialization._encoder cimport Encoder, acquire, release, write_message
from pyray.serialization._decoder cimport Buffer
from pyray.serialization._decoder cimport decode as decode_compiled

from pyray.serialization._decoder import message_size
from pyray.serialization.errors import DeserializationError

cdef extern from "_encode_compat.h":
    int pyray_int64(PyObject *o, int64_t *out)
    int64_t pyray_int_size(PyObject *o)
    int pyray_int_bytes(PyObject *o, uint8_t *out, int64_t size) except -1

cdef extern from "warm.h":
    void pr_warm_expect(void *memory, size_t size)

cdef extern from "Python.h":
    bint PyUnicode_IS_COMPACT_ASCII(PyObject *o)
    void *PyUnicode_DATA(PyObject *o)
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject *o)

cdef enum:
    OUT_OF_LINE = 4096
    PREFIX = 16

#: Whether the reference codec stands in for the compiled one, and logs what it does.
VERBOSE_DEBUG = os.environ.get("PYRAY_PICKLE_VERBOSE_DEBUG") == "2"

cdef bint verbose = VERBOSE_DEBUG
cdef object NONE_MESSAGE = b"\x10"
cdef object FALSE_MESSAGE = b"\x11"
cdef object TRUE_MESSAGE = b"\x12"


cdef bytes tagged(int tag, const void *data, Py_ssize_t size):
    cdef bytes message = PyBytes_FromStringAndSize(NULL, size + 1)
    cdef char *out = PyBytes_AS_STRING(message)
    out[0] = <char> tag
    memcpy(out + 1, data, size)
    return message


cdef bytes int_message(object o):
    cdef int64_t size = pyray_int_size(<PyObject *> o)
    cdef bytes message = PyBytes_FromStringAndSize(NULL, size + 1)
    cdef char *out = PyBytes_AS_STRING(message)
    out[0] = 0x13
    pyray_int_bytes(<PyObject *> o, <uint8_t *> out + 1, size)
    return message


cdef bytes str_message(object o):
    if PyUnicode_IS_COMPACT_ASCII(<PyObject *> o):
        return tagged(0x15, PyUnicode_DATA(<PyObject *> o), PyUnicode_GET_LENGTH(<PyObject *> o))
    try:
        return b"\x15" + (<str> o).encode()
    except UnicodeEncodeError:
        return b"\x16" + (<str> o).encode("utf-8", "surrogatepass")


cdef bytes scalar_message(object o):
    """The message of a scalar, format.md section 1; None for anything else."""
    cdef double number
    kind = type(o)
    if kind is int:
        return int_message(o)
    if kind is str:
        return str_message(o)
    if kind is float:
        number = PyFloat_AS_DOUBLE(o)
        return tagged(0x14, &number, 8)
    if o is None:
        return NONE_MESSAGE
    if o is True:
        return TRUE_MESSAGE
    if o is False:
        return FALSE_MESSAGE
    if kind is bytes and len(<bytes> o) < OUT_OF_LINE:
        return tagged(0x17, PyBytes_AS_STRING(o), len(<bytes> o))
    return None


cdef bytes new_bytes(uint64_t size):
    """A bytes object to be filled."""
    cdef bytes message = PyBytes_FromStringAndSize(NULL, size)
    pr_warm_expect(PyBytes_AS_STRING(message), size)
    return message


cdef bytes columns_message(object o, object context, object buffer_callback):
    cdef Encoder e = acquire(context, buffer_callback)
    cdef bytes message
    try:
        e.encode(o)
        message = new_bytes(e.b.total_size)
        write_message(e, <uint8_t *> PyBytes_AS_STRING(message))
    finally:
        release(e)
    return message


def encode_message(obj, *, context=None, buffer_callback=None):
    """The message of `obj` as bytes, by the compiled encoder whatever the environment says."""
    message = scalar_message(obj)
    return columns_message(obj, context, buffer_callback) if message is None else message


def decode_message(buffer, *, context=None, trusted=True, allow=(), buffers=None):
    """The object of a message, by the compiled decoder whatever the environment says."""
    return decode_compiled(buffer, context, trusted, allow, buffers)


cdef object encode(object obj, object context, object buffer_callback):
    if verbose:
        from pyray.serialization.reference_encoder import encode_message as slowly
        return slowly(obj, context=context, buffer_callback=buffer_callback)
    message = scalar_message(obj)
    return columns_message(obj, context, buffer_callback) if message is None else message


cdef inline object decode(object buffer, object context, bint trusted, object allow,
                          object buffers):
    if verbose:
        from pyray.serialization.reference_decoder import decode_message as slowly
        return slowly(buffer, context=context, trusted=trusted, allow=allow, buffers=buffers)
    return decode_compiled(buffer, context, trusted, allow, buffers)


# -- pickle's functions --------------------------------------------------------------------------

cdef int check_protocol(object protocol, object buffer_callback) except -1:
    if protocol is not None and not isinstance(protocol, int):
        raise TypeError(f"protocol must be an integer or None, not {type(protocol).__name__!r}")
    if buffer_callback is not None and protocol is not None and 0 <= protocol < 5:
        raise ValueError("buffer_callback needs protocol >= 5")
    return 0


def dumps(obj, protocol=None, *, fix_imports=True, buffer_callback=None):
    """The message of `obj` as bytes.

    As `pickle.dumps`; `protocol` and `fix_imports` are accepted and change nothing. With
    `buffer_callback`, PickleBuffers and the buffers of arrays are handed to it and, unless it
    returns something true, left out of the message.

    Raises:
        TypeError: something in `obj` cannot be serialized; the message has the path to it.
        PicklingError: a reduction is not sound, or a global cannot be found by its name.
        RecursionError: `obj` is nested deeper than the recursion limit.
    """
    if protocol is not None:
        check_protocol(protocol, buffer_callback)
    return encode(obj, None, buffer_callback)


def loads(data, /, *, fix_imports=True, encoding="ASCII", errors="strict", buffers=None):
    """The object of a message.

    As `pickle.loads`; `fix_imports`, `encoding` and `errors` are accepted and change nothing.
    Arrays are read-only views of `data`. `buffers` gives what `buffer_callback` took, in order.

    Raises:
        DeserializationError: `data` is not a whole, sound message.
        EOFError: `data` is empty.
    """
    return decode(data, None, True, (), buffers)


def dump(obj, file, protocol=None, *, fix_imports=True, buffer_callback=None):
    """Write the message of `obj` to a binary file, so that `load` finds where it ends."""
    check_protocol(protocol, buffer_callback)
    try:
        write = file.write
    except AttributeError:
        raise TypeError("file must have a 'write' attribute") from None
    if verbose and scalar_message(obj) is None:
        write(encode(obj, None, buffer_callback))
    elif buffer_callback is not None:
        write(columns_message(obj, None, buffer_callback))
    else:
        columns_of(obj, None).write_to(file)


def load(file, *, fix_imports=True, encoding="ASCII", errors="strict", buffers=None):
    """Read one message from a binary file, and no further.

    A message that `dumps` made of a bare int, str or bytes does not say where it ends: it takes the
    rest of the file. `dump` writes these so that they do.

    Raises:
        EOFError: the file is at its end.
        DeserializationError: the message is cut short or not sound.
    """
    return decode(read_message(file), None, True, (), buffers)


cdef object read_message(object file):
    """The bytes of the next message in a file."""
    head, size = read_head(file.read)
    if size is None:
        return head + file.read()
    return head + read_exactly(file, max(size - len(head), 0))


def read_head(read):
    """The first bytes of a file's next message, and its size; None if it is the rest of the file.

    `read` is called for no more than the message has: a pipe may hold nothing after it.
    """
    head = piece = bytes(read(1))
    if head and head[0] == PR_COLUMNS_BYTE:
        while piece and len(head) < PREFIX:
            piece = bytes(read(PREFIX - len(head)))
            head += piece
    return head, message_size(head)


cdef object read_exactly(object file, uint64_t size):
    """So many bytes, asked for in pieces: a hostile size allocates no more than the file has."""
    cdef list pieces = []
    cdef uint64_t left = size
    while left:
        piece = file.read(min(left, <uint64_t> 1 << 30))
        if not piece:
            raise DeserializationError(f"the file ends {left} bytes before the message does")
        pieces.append(piece)
        left -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


# -- serialized objects --------------------------------------------------------------------------

def serialize(obj, *, context=None):
    """The message of `obj`, with its large buffers not copied yet.

    Arrays, bytes of 4096 bytes and more and PickleBuffers are held, and copied by `to_buffer` or
    `write_to`: until then they must not be changed. `context` is a SerializationContext.
    """
    if verbose:
        return SerializedObject.from_buffer(encode(obj, context, None))
    message = scalar_message(obj)
    return columns_of(obj, context) if message is None else SerializedObject.from_buffer(message)


def deserialize(buffer, *, context=None, trusted=True, allow=(), buffers=None):
    """The object of a message in any bytes-like `buffer`; arrays are read-only views of it.

    With `trusted=False` the message may name no global that is not in `allow`, a collection of
    objects (classes, functions) and of "module.qualname" strings; nothing is imported or called
    before that is known.

    Raises:
        DeserializationError: the message is not whole and sound, or names what is not allowed.
    """
    return decode(buffer, context, trusted, allow, buffers)


cdef SerializedObject columns_of(object obj, object context):
    cdef Encoder e = acquire(context, None)
    cdef SerializedObject s = SerializedObject.__new__(SerializedObject)
    cdef uint64_t head
    try:
        e.encode(obj)
        head = pr_padded_head(&e.b)
        message = new_bytes(head)
        pr_write_head(&e.b, <uint8_t *> PyBytes_AS_STRING(message))
        memset(PyBytes_AS_STRING(message) + e.b.head_size, 0, head - e.b.head_size)
        s.head = message
        s.total_bytes = e.b.total_size
        if e.b.blobs.size:
            s.blobs = PyBytes_FromStringAndSize(<char *> e.b.blobs.data, e.b.blobs.size)
            s.owners = e.pinned
            e.pinned = []
    finally:
        release(e)
    return s


cdef class SerializedObject:
    """A message that is not written yet.

    `total_bytes` is its size. `head` is all of it but the large buffers.
    """

    cdef readonly uint64_t total_bytes
    cdef object head    # bytes-like; the whole message if there are no blobs
    cdef bytes blobs    # PrBlob[]: the large buffers, in order
    cdef list owners    # what keeps them alive

    @staticmethod
    def from_buffer(buffer):
        """The message in a bytes-like object, as it stands."""
        cdef SerializedObject s = SerializedObject.__new__(SerializedObject)
        s.head = buffer
        s.total_bytes = memoryview(buffer).nbytes
        return s

    def to_buffer(self):
        """The whole message in one bytes-like object (aligned to 64; shared by repeated calls
        when the message has no large buffers)."""
        cdef Buffer out
        if self.blobs is None:
            return Buffer.wrap(self.head)
        out = Buffer.allocate(self.total_bytes)
        self.write(<uint8_t *> out.data)
        return out

    cdef int write(self, uint8_t *out) except -1:
        cdef const PrBlob *blobs = NULL
        cdef const unsigned char[::1] head = self.head
        cdef size_t n = 0
        if self.blobs is not None:
            blobs = <const PrBlob *> PyBytes_AS_STRING(self.blobs)
            n = len(self.blobs) // sizeof(PrBlob)
        with nogil:
            memcpy(out, &head[0], head.shape[0])
            pr_write_blobs(blobs, n, out + head.shape[0])
        return 0

    def write_to(self, sink):
        """Write the message into a writable buffer, at its start, or to a file or stream.

        Returns the number of bytes, `total_bytes`.

        Raises:
            ValueError: the buffer is read-only or too small.
            TypeError: `sink` is neither a buffer nor a file.
        """
        cdef unsigned char[::1] out
        if hasattr(sink, "write") and not is_buffer(sink):
            for piece in self.pieces():
                sink.write(piece)
            return self.total_bytes
        view = memoryview(sink)
        if view.readonly:
            raise ValueError("the buffer to write to is read-only")
        if view.nbytes < self.total_bytes:
            raise ValueError(
                f"the buffer has {view.nbytes} bytes, the message {self.total_bytes}")
        if self.total_bytes:
            out = view.cast("B")
            self.write(&out[0])
        return self.total_bytes

    cdef list pieces(self):
        """The message as consecutive bytes-like objects; no large buffer is copied."""
        cdef list out = [self.head]
        cdef const PrBlob *blobs
        cdef size_t i
        cdef int64_t rest
        if self.blobs is not None:
            blobs = <const PrBlob *> PyBytes_AS_STRING(self.blobs)
            for i in range(len(self.blobs) // sizeof(PrBlob)):
                if blobs[i].size:
                    out.append(memoryview(Buffer.view(self, <char *> blobs[i].data, blobs[i].size)))
                rest = -blobs[i].size & 63
                if rest:
                    out.append(bytes(rest))
        return out

    def to_components(self, memory_pool=None):
        """A dict: `num_buffers` large ones, and `data`, the head and then each of them.

        None is copied; `from_components` takes it, also when each of `data` was sent apart.
        `memory_pool` is accepted for pyarrow's sake.
        """
        cdef const PrBlob *blobs
        cdef size_t i, n = 0
        cdef list data = [Buffer.wrap(self.head)]
        if self.blobs is not None:
            blobs = <const PrBlob *> PyBytes_AS_STRING(self.blobs)
            n = len(self.blobs) // sizeof(PrBlob)
            for i in range(n):
                data.append(Buffer.view(self, <char *> blobs[i].data, blobs[i].size))
        return {"num_buffers": n, "data": data}

    @staticmethod
    def from_components(components):
        """The serialized object whose `to_components` gave these.

        Raises:
            DeserializationError: they are not of one message.
        """
        cdef SerializedObject s
        cdef PrBlob blob
        cdef uint64_t total
        cdef const unsigned char[::1] view
        data = list(components["data"])
        if len(data) != components["num_buffers"] + 1:
            raise DeserializationError(
                f"num_buffers is {components['num_buffers']}, but data has {len(data)} parts")
        s = SerializedObject.from_buffer(data[0])
        total = s.total_bytes
        s.owners = data
        blobs = bytearray()
        for part in data[1:]:
            view = memoryview(part).cast("B")
            blob.data = &view[0] if view.shape[0] else NULL
            blob.size = view.shape[0]
            total += (<uint64_t> blob.size + 63) & ~(<uint64_t> 63)
            blobs += (<char *> &blob)[:sizeof(PrBlob)]
        if len(data) > 1:
            s.blobs = bytes(blobs)
            head = memoryview(data[0]).cast("B")
            if len(head) < PREFIX or message_size(head) != total:
                raise DeserializationError("the components are not those of one message")
            s.total_bytes = total
        return s

    def deserialize(self, context=None):
        """The object again; arrays are views of a copy made now, if there are large buffers."""
        return deserialize(self.to_buffer(), context=context)

    def to_arrow(self):
        """The message as a pyarrow.RecordBatch of one row: docs/arrow.md."""
        from pyray.serialization import arrow
        return arrow.to_arrow(self.to_buffer())

    def __arrow_c_array__(self, requested_schema=None):
        """The same through the Arrow C data interface, for any Arrow library."""
        from pyray.serialization import arrow
        return arrow.export(self.to_buffer()).__arrow_c_array__(requested_schema)

    def to_arrow_ipc(self, sink):
        """Write the message as an Arrow IPC stream, for readers in other languages."""
        from pyray.serialization import arrow
        return arrow.to_arrow_ipc(self.to_buffer(), sink)

    def __len__(self):
        return self.total_bytes

    def __repr__(self):
        return f"<pyray.SerializedObject of {self.total_bytes} bytes>"


cdef bint is_buffer(object o):
    try:
        memoryview(o)
    except TypeError:
        return False
    return True
