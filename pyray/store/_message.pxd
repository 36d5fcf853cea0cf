"""What an object's message is a value of: for the client of stores and for the runtime.

Inline, so that neither loads another module for it.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t

from pyray.serialization._decoder cimport Buffer, decode, private_copy, scalar
from pyray.store._session cimport (
    Pin,
    PrObject,
    Session,
    pin,
    pr_is_inline,
    pr_message_of,
)

cdef enum:
    COLUMNS = 0x1F      # the first byte of a message that is not a scalar's
    MOST_SCALAR = 4096  # bytes


cdef inline object message_value(Session session, uint32_t slot, bint copy_on_write,
                                 int64_t deadline):
    """Arrays are views of the block. Raises Late if its bytes have to be fetched, and do not come
    by the deadline (-1: none)."""
    cdef PrObject *o = &session.s.objects[slot]
    cdef const uint8_t *data
    cdef Pin bytes
    if pr_is_inline(o):
        data = pr_message_of(&session.s, o)
        if o.size and data[0] != COLUMNS:
            return scalar(data, o.size)
        return decode(PyBytes_FromStringAndSize(<const char *> data, o.size), None, True, (), None)
    bytes = pin(session, slot, deadline)
    if bytes.size < MOST_SCALAR and bytes.data[0] != COLUMNS:
        return scalar(bytes.data, bytes.size)
    view = Buffer.view(bytes, <const char *> bytes.data, bytes.size)
    view.is_shared = True
    return decode(private_copy(view) if copy_on_write else view, None, True, (), None)
