"""Python values in a store: encoded into its memory, decoded as views of it.

Loaded with the first value, as it is the one part of the store that needs the serializer.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy

from collections.abc import Iterable

from pyray.serialization._encoder cimport Encoder, acquire, release, write_message
from pyray.serialization.message cimport scalar_message
from pyray.store._client cimport Client, ObjectID, checked, deadline_of
from pyray.store._message cimport message_value
from pyray.store._session cimport *


# -- putting -------------------------------------------------------------------------------------

cdef int store_columns(Client client, object value, PrHandle *handle) except -1:
    cdef Encoder e = acquire(None, None)
    cdef uint8_t *out
    try:
        e.encode(value)
        client.check()  # code of the user's has run
        client.allocate(e.b.total_size, handle, &out)
        # Without the GIL it may be closed meanwhile: the object is ours until end_use.
        begin_use(client.session)
        try:
            write_message(e, out)
            client.check()
        except BaseException:
            if not client.session.closed:
                pr_abandon(&client.session.s, handle[0])
            raise
        finally:
            end_use(client.session)
    finally:
        release(e)
    return 0


cdef int store_message(Client client, object message, PrHandle *handle) except -1:
    cdef uint8_t *out
    client.allocate(PyBytes_GET_SIZE(message), handle, &out)
    memcpy(out, PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message))
    return 0


def put(Client client not None, value, id):
    """The id of a new object with that value. It is there for others once it is whole."""
    cdef ObjectID key
    cdef PrHandle handle = 0
    client.check()
    if id is None:
        key = ObjectID.from_random()
    else:
        key = checked(id)
        client.check_free(key)
    message = scalar_message(value)
    if message is None:
        store_columns(client, value, &handle)
    else:
        store_message(client, message, &handle)
    pr_seal(&client.session.s, handle, 0)
    try:
        client.publish(key, handle)
    finally:
        drop(client.session, pr_slot(handle))  # from now on the name alone holds it
    return key


# -- getting -------------------------------------------------------------------------------------

def get(Client client not None, ids, timeout, bint copy_on_write):
    """The value of an id, or a list of those of a list of ids."""
    cdef int64_t deadline = deadline_of(timeout)
    client.check()
    if type(ids) is ObjectID:
        return get_one(client, ids, deadline, copy_on_write)
    if not isinstance(ids, Iterable):
        checked(ids)
    return [get_one(client, checked(id), deadline, copy_on_write) for id in ids]


cdef object get_one(Client client, ObjectID id, int64_t deadline, bint copy_on_write):
    cdef uint32_t slot = pr_slot(client.take(id, deadline))
    try:
        return message_value(client.session, slot, copy_on_write, -1)
    finally:
        drop(client.session, slot)
