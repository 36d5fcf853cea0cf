"""Objects of a store by their ids: what is hot, but for Python values, which are `_values`.

An id is a name in the shared tables (csrc/names.c). Imports `_session` and `errors` only.
"""

import os

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from pyray.store._session cimport *
from pyray.store._session cimport pin as pin_object

from pyray.store.errors import (
    ObjectExistsError,
    ObjectNotFoundError,
    ObjectNotSealedError,
    StoreClosedError,
    StoreFullError,
)

cdef extern from "Python.h":
    bytes PyBytes_FromStringAndSize(const char *data, Py_ssize_t size)

cdef enum:
    SIZE = 20
    PREFIX = 4
    PATIENCE = 5       # so many slices, and a waiter looks for who died

cdef const char *prefix = "obj:"


# -- ids -----------------------------------------------------------------------------------------

@cython.final
cdef class ObjectID:
    """20 bytes that an object of a store is known by: `ObjectID(bytes)`, or one by chance."""

    def __cinit__(self):
        memcpy(self.key, prefix, PREFIX)

    def __init__(self, bytes binary not None):
        if len(binary) != SIZE:
            raise ValueError(f"an object id has {SIZE} bytes, not {len(binary)}")
        memcpy(self.key + PREFIX, <const char *> binary, SIZE)

    @staticmethod
    def from_random():
        """An id that nobody else has."""
        return ObjectID(os.urandom(SIZE))

    @staticmethod
    def from_hex(str text not None):
        """The id that `hex` tells."""
        return ObjectID(bytes.fromhex(text))

    def binary(self):
        """The 20 bytes."""
        return PyBytes_FromStringAndSize(<const char *> self.key + PREFIX, SIZE)

    def hex(self):
        """The same as 40 hexadecimal digits."""
        return self.binary().hex()

    def __eq__(self, other):
        return type(other) is ObjectID and memcmp(self.key, (<ObjectID> other).key,
                                                  PREFIX + SIZE) == 0

    def __hash__(self):
        return hash(self.binary())

    def __repr__(self):
        return f"ObjectID({self.hex()})"

    def __reduce__(self):
        return ObjectID, (self.binary(),)


cdef ObjectID checked(object id):
    if type(id) is not ObjectID:
        raise TypeError(f"an ObjectID is needed, not {type(id).__name__}: ObjectID(20 bytes), or "
                        "what put() returned")
    return <ObjectID> id


cdef object no_object(ObjectID id, str text=""):
    return ObjectNotFoundError(f"there is no object {id.hex()}{text}")


cdef object not_sealed(ObjectID id, str text=""):
    return ObjectNotSealedError(f"object {id.hex()} is not sealed{text}")


cdef object exists(ObjectID id):
    return ObjectExistsError(f"there is an object {id.hex()} already")


# -- objects that are being written --------------------------------------------------------------

@cython.final
cdef class Reservation:
    """The memory of an object that this process has created; writable until it is sealed.

    Whoever still has a view of it keeps the memory from being used for another object.
    """

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.data, self.size, self.sealed, flags)


# -- waiting -------------------------------------------------------------------------------------

cdef int64_t deadline_of(object timeout) except? -2:
    """Seconds from now as a time of the monotonic clock in ns; -1 for None."""
    if timeout is None:
        return -1
    if timeout < 0:
        raise ValueError(f"timeout must not be negative: {timeout}; None waits for ever")
    return pr_now() + <int64_t> (min(timeout, 1e9) * 1e9)


cdef inline bint is_sealed(PrSession *s, PrHandle handle):
    return pr_state(s.objects[pr_slot(handle)].state) == PR_OBJECT_SEALED


# -- a process in a store ------------------------------------------------------------------------

@cython.final
cdef class Client:
    """What this process does in a store."""

    def __init__(self, Session session not None):
        self.session = session
        self.reservations = {}

    cdef int check(self) except -1:
        if self.session.dead:
            raise StoreClosedError("this process was forked from the one that opened the store; "
                                   "it has to connect itself: Store.connect(name)")
        if self.session.closed:
            raise StoreClosedError("this process has closed the store")
        return 0

    def close(self):
        """Leave. Views stay as they are; objects that are not sealed go."""
        if self.session.closed:
            return
        for id in list(self.reservations):
            self.abort(id)
        self.session.interrupt()
        self.session.close()

    def forget(self):
        """In a forked child: what there is belongs to the parent, but for inherited views."""
        self.reservations.clear()
        self.session.dead = True
        self.session.close()
        if not self.session.pins:
            pr_session_unmap(&self.session.s)

    # -- making ---------------------------------------------------------------------------------

    cdef int allocate(self, uint64_t size, PrHandle *handle, uint8_t **data) except -1:
        """An object to be written, which this process holds. Memory of the dead counts as free."""
        cdef int status = pr_create(&self.session.s, size, 0, handle, data)
        if status and pr_recover_dead(&self.session.s):
            status = pr_create(&self.session.s, size, 0, handle, data)
        if status:
            stats = self.stats()
            raise StoreFullError(
                f"there is no room for an object of {size} bytes: {stats['used']} of "
                f"{stats['capacity']} bytes are used, and at most {stats['largest_free']} are free "
                "in one piece. Delete objects and drop views, or make the store larger")
        return 0

    cdef int publish(self, ObjectID id, PrHandle handle) except -1:
        """Gives the object its name, unless another has it. Its hold is the caller's still."""
        cdef PrHandle found = 0
        cdef int status = pr_name_set(&self.session.s, id.key, handle, &found)
        if status:
            raise StoreFullError("there are as many objects in the store as it can have names for")
        if found != handle:
            drop(self.session, pr_slot(found))
            raise exists(id)
        return 0

    cdef int check_free(self, ObjectID id) except -1:
        """An object that is not sealed, and whose maker is dead, does not count."""
        cdef PrHandle found = self.find(id)
        if not found:
            return 0
        sealed = is_sealed(&self.session.s, found)
        drop(self.session, pr_slot(found))
        if not sealed and pr_recover_dead(&self.session.s):
            return self.check_free(id)
        raise exists(id)

    def create(self, id, Py_ssize_t size):
        """A writable view of a new object."""
        cdef ObjectID key = checked(id)
        cdef Reservation r = Reservation.__new__(Reservation)
        cdef uint8_t *data
        cdef PrHandle handle
        self.check()
        if size < 0:
            raise ValueError(f"an object cannot have {size} bytes")
        self.check_free(key)
        self.allocate(size, &handle, &data)
        try:
            self.publish(key, handle)
        except BaseException:
            pr_abandon(&self.session.s, handle)
            raise
        r.pin = pin_object(self.session, pr_slot(handle))
        r.handle = handle
        r.data = data
        r.size = size
        self.reservations[key] = r
        return memoryview(r)

    cdef Reservation reservation(self, object id):
        cdef PrHandle found
        cdef ObjectID key = checked(id)
        self.check()
        r = self.reservations.pop(key, None)
        if r is not None:
            return <Reservation> r
        found = self.find(key)
        if not found:
            raise no_object(key)
        sealed = is_sealed(&self.session.s, found)
        drop(self.session, pr_slot(found))
        if sealed:
            raise ObjectExistsError(f"object {key.hex()} is sealed already")
        raise ObjectNotFoundError(f"object {key.hex()} was not created through this Store")

    def seal(self, id):
        cdef Reservation r = self.reservation(id)
        r.sealed = True
        pr_seal(&self.session.s, r.handle, 0)
        drop(self.session, pr_slot(r.handle))

    def abort(self, id):
        cdef Reservation r = self.reservation(id)
        pr_name_remove(&self.session.s, (<ObjectID> id).key, r.handle)
        pr_abandon(&self.session.s, r.handle)

    # -- finding --------------------------------------------------------------------------------

    cdef PrHandle find(self, ObjectID id) except? 0:
        """The object of that id, held by this process once more; or 0."""
        cdef PrHandle handle = pr_name_find(&self.session.s, id.key)
        if handle and pr_state(self.session.s.objects[pr_slot(handle)].state) == PR_OBJECT_FAILED:
            # It lost its name a moment ago.
            drop(self.session, pr_slot(handle))
            handle = 0
        return handle

    cdef PrHandle wait(self, ObjectID id, int64_t deadline) except? 0:
        """As `find`, but waits until the object is there and sealed, or until the deadline."""
        cdef PrSession *s = &self.session.s
        cdef PrHandle handle
        cdef uint32_t named, slot
        cdef int64_t until
        cdef int status, slices = 0
        while True:
            named = s.control.named
            handle = self.find(id)
            if handle and is_sealed(s, handle) or 0 <= deadline <= pr_now():
                return handle
            slot = pr_slot(handle)
            until = pr_now() + SLICE
            if 0 <= deadline < until:
                until = deadline
            begin_use(self.session)
            with nogil:
                if slot:
                    status = pr_wait(s, &slot, 1, 1, until, 1, PR_SPIN | PR_ONCE)
                else:
                    status = pr_name_wait(s, named, until, PR_SPIN | PR_ONCE)
            try:
                PyErr_CheckSignals()
                self.check()
                if slot and is_sealed(s, handle):
                    pr_hold(s, slot)  # though it may have been deleted since
                    return handle
            finally:
                if slot:
                    drop(self.session, slot)
                end_use(self.session)
            slices += status == PR_TIMEOUT
            if slices == PATIENCE:
                slices = 0
                pr_recover_dead(s)

    cdef PrHandle take(self, ObjectID id, int64_t deadline) except 0:
        """A sealed object, held by this process once more."""
        cdef PrHandle handle = self.find(id)
        if not handle or not is_sealed(&self.session.s, handle):
            if handle:
                drop(self.session, pr_slot(handle))
            handle = self.wait(id, deadline)
        if not handle:
            raise no_object(id, ", and none came in time")
        if not is_sealed(&self.session.s, handle):
            drop(self.session, pr_slot(handle))
            raise not_sealed(id, ", and was not in time")
        return handle

    cdef object view(self, PrHandle handle):
        """The bytes of an object."""
        cdef PrObject *o = &self.session.s.objects[pr_slot(handle)]
        if not pr_is_inline(o):
            return memoryview(pin_object(self.session, pr_slot(handle)))
        # In its slot, which is not mapped read-only.
        return memoryview(PyBytes_FromStringAndSize(
            <const char *> pr_message_of(&self.session.s, o), o.size))

    def get_buffers(self, ids, timeout):
        """Views of the objects; None for those that are not there in time."""
        cdef PrHandle handle
        cdef int64_t deadline = deadline_of(timeout)
        cdef list views = []
        self.check()
        for id in ids:
            handle = self.wait(checked(id), deadline)
            if handle:
                views.append(self.view(handle) if is_sealed(&self.session.s, handle) else None)
                drop(self.session, pr_slot(handle))
            else:
                views.append(None)
        return views

    def contains(self, id):
        cdef ObjectID key = checked(id)
        self.check()
        cdef PrHandle handle = self.find(key)
        if not handle:
            return False
        sealed = is_sealed(&self.session.s, handle)
        drop(self.session, pr_slot(handle))
        return sealed

    def delete(self, id):
        cdef ObjectID key = checked(id)
        cdef PrHandle handle
        self.check()
        handle = self.find(key)
        if not handle:
            raise no_object(key)
        sealed = is_sealed(&self.session.s, handle)
        if sealed and pr_name_remove(&self.session.s, key.key, handle):
            drop(self.session, pr_slot(handle))
            raise no_object(key)
        drop(self.session, pr_slot(handle))
        if not sealed:
            if pr_recover_dead(&self.session.s):
                return self.delete(id)
            raise not_sealed(key, ": who created it can abort() it")

    # -- looking --------------------------------------------------------------------------------

    def list(self):
        """A dict of what is known of each object, by id."""
        cdef PrSession *s = &self.session.s
        cdef PrName *names
        cdef PrObject *o
        cdef ObjectID id
        cdef size_t room, n, i
        cdef uint64_t word
        self.check()
        room = pr_name_list(s, prefix, PREFIX, NULL, 0)
        names = <PrName *> PyMem_Malloc((room + 1) * sizeof(PrName))
        if names == NULL:
            raise MemoryError
        found = {}
        try:
            n = pr_name_list(s, prefix, PREFIX, names, room)
            for i in range(min(n, room)):
                o = &s.objects[pr_slot(names[i].handle)]
                word = o.state
                if (pr_handle(word, pr_slot(names[i].handle)) != names[i].handle
                        or pr_state(word) == PR_OBJECT_FAILED):
                    continue  # it has gone meanwhile
                id = ObjectID.__new__(ObjectID)
                memcpy(id.key, names[i].key, PREFIX + SIZE)
                found[id] = {
                    "size": o.size,
                    "state": "sealed" if pr_state(word) == PR_OBJECT_SEALED else "created",
                    "references": max(<int64_t> o.refs - 1, 0),
                    "creator": names[i].pid,
                }
        finally:
            PyMem_Free(names)
        return found

    def stats(self):
        """What the store has, in bytes and in numbers."""
        cdef PrSession *s = &self.session.s
        cdef PrArenaStats a
        cdef uint32_t i, processes = 0
        self.check()
        pr_block_stats(s, &a)
        for i in range(1, s.control.n_processes):
            processes += s.processes[i].state == PR_PROCESS_LIVE
        return {
            "capacity": a.capacity, "used": a.used, "peak": a.peak,
            "largest_free": a.largest_free, "touched": a.touched,
            "objects": pr_name_list(s, prefix, PREFIX, NULL, 0), "blocks": a.blocks,
            "processes": processes, "deaths": s.control.deaths, "recoveries": s.control.epoch}
