"""Object references, and putting, getting and waiting for objects.

A reference counts in this process only (csrc/object.h); what the counting costs is paid by the
first and the last one to an object. May import `exceptions` and `futures` when they are needed,
and the serializer.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from pyray.serialization._encoder cimport Encoder, acquire, release, write_message
from pyray.serialization.message cimport scalar_message
from pyray.store._message cimport message_value
from pyray.store._session cimport *
from pyray.store._spilled cimport await_room, describe_full, fetch_ahead

from pyray.store._session import SessionEnded
from pyray.store._spilled import Late

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident()
    bytes PyBytes_FromStringAndSize(const char *data, Py_ssize_t size)

cdef enum:
    MOST_NESTED = 64
    ON_STACK = 64

cdef Session current = None
cdef uint32_t serial = 0  # of `current`
cdef bint in_task = False  # this process is a worker, and runs a task


# -- the session of this process -----------------------------------------------------------------

def get_session():
    """The session of this process, or None."""
    return current


def set_session(session):
    """Make a session that of this process; references of an earlier one are stale from then on."""
    global current, serial
    current = session
    serial += 1
    if current is not None:
        current.lost = on_lost
        current.over = on_over
        from pyray.runtime.settings import flag
        if flag("record_ref_creation_sites"):
            from pyray.runtime.call_sites import record
            current.record_site = record


def on_over(error):
    """What is raised for SessionEnded."""
    raise ended(f"{error}: call shutdown(), then init() for a new one") from None


def on_lost(uint64_t handle, str why, int64_t deadline):
    """Has an object made again whose value is lost, or raises why that cannot be, or Late."""
    from pyray.runtime._lineage import make_again
    make_again(handle, why, deadline)


def session_number():
    """Which session this process is in: grows with each set_session()."""
    return serial


cdef Session session_now():
    return current


cdef uint32_t serial_now() noexcept:
    return serial


cdef void set_in_task(bint value) noexcept:
    global in_task
    in_task = value


cdef bint runs_task() noexcept:
    return in_task


cdef object ended(str text):
    from pyray.runtime.exceptions import RaySystemError
    return RaySystemError(text)


cdef Session open_session():
    if current is None:
        from pyray.runtime.connection import no_session
        no_session()
    if current.closed or current.dead:
        try:
            current.check()
        except SessionEnded as error:
            on_over(error)
    return current


# -- references ----------------------------------------------------------------------------------

@cython.final
@cython.no_gc
cdef class ObjectRef:
    """A reference to an object that is, or will be, in the store.

    It comes from `put`, from a remote call, or out of a message; `get` or `await` gives the value.
    """

    def __init__(self, *args):
        raise TypeError("references come from put() and remote calls")

    def __dealloc__(self):
        if self.session == serial and self.handle and current is not None:
            if not current.closed and not current.dead:
                pr_release(&current.s, pr_slot(self.handle))

    @staticmethod
    def nil():
        """The reference to nothing."""
        return new_ref(0)

    @classmethod
    def __class_getitem__(cls, item):
        return cls

    def is_nil(self):
        return self.handle == 0

    def binary(self):
        """16 bytes, unique in the session's life."""
        return self.handle.to_bytes(8, "big").rjust(16, b"\0")

    def hex(self):
        """The same as 32 hexadecimal digits."""
        return f"{self.handle:032x}"

    def task_id(self):
        """The id of the task that makes it, as bytes; zeros for what was put."""
        return self.binary()

    def job_id(self):
        """The id of the job that this process works for, 4 bytes: a reference says nothing of who
        made it."""
        from pyray.runtime._task import current_job
        return current_job().to_bytes(4, "little")

    def __eq__(self, other):
        return type(other) is ObjectRef and (
            self.handle == (<ObjectRef> other).handle and
            self.session == (<ObjectRef> other).session)

    def __hash__(self):
        return <Py_hash_t> (self.handle * 0x9E3779B97F4A7C15ULL >> 3)

    def __repr__(self):
        return f"ObjectRef({self.hex()})"

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        cdef list refs
        if self.session != serial and self.handle:
            raise ended("this reference is of a session that has ended")
        refs = collecting()
        if refs is not None:
            refs.append(self)
        elif self.handle and current is not None:
            # Nobody knows where these bytes go: the object stays until this process ends.
            pr_hold(&current.s, pr_slot(self.handle))
        return revive, (self.handle,)

    def future(self):
        """A concurrent.futures.Future of the value."""
        from pyray.runtime.futures import future_of
        return future_of(self)

    def as_future(self):
        """An asyncio.Future of the value, in the running loop."""
        import asyncio
        return asyncio.wrap_future(self.future())

    def __await__(self):
        return self.as_future().__await__()


cdef ObjectRef new_ref(PrHandle handle):
    """Takes over one reference that this process has to the object."""
    cdef ObjectRef ref = ObjectRef.__new__(ObjectRef)
    ref.handle = handle
    ref.session = serial
    return ref


def publish(Session session, bytes key, blob):
    """A reference to bytes, which every process that has the same publishes as the same object.

    `Session.function` reads them, `Session.sweep` forgets those that nobody refers to.
    """
    return new_ref(session.name(b"function" + key, blob))


cdef ObjectRef put_label(Session session, object blob, ObjectRef target):
    """Bytes for `Session.function` that keep the object `target`."""
    cdef const uint8_t[::1] data = memoryview(blob).cast("B")
    cdef Py_ssize_t n = data.shape[0]
    # Never inline: readers take views of it.
    cdef uint64_t size = max(n, PR_INLINE_OBJECT + 1)
    cdef PrHandle handle
    cdef uint8_t *out
    session.check()
    room(session, 0, size, 1, &handle, &out)
    memset(out, 0, PR_INLINE_OBJECT + 1)
    if n:
        memcpy(out, &data[0], n)
    (<uint64_t *> (out + ((size + 7) & ~<uint64_t> 7)))[0] = target.handle
    pr_seal(&session.s, handle, 0)
    return new_ref(handle)


cdef ObjectRef ref_to(Session session, uint32_t slot):
    """One more reference to an object that something else holds."""
    pr_hold(&session.s, slot)
    return new_ref(pr_handle(session.s.objects[slot].state, slot))


def revive(uint64_t handle):
    """The reference that a message holds."""
    cdef Session session = open_session()
    cdef PrSession *s = &session.s
    if not handle:
        return new_ref(0)
    if (pr_slot(handle) >= s.control.objects.used
            or pr_handle(s.objects[pr_slot(handle)].state, pr_slot(handle)) != handle):
        from pyray.runtime.exceptions import from_code
        raise from_code(3, "it was freed, or is of another session", f"{handle:032x}")
    pr_hold(s, pr_slot(handle))
    return new_ref(handle)


cdef uint32_t slot_of(object ref) except 0:
    """The slot of a reference of this session."""
    if type(ref) is not ObjectRef:
        raise TypeError(
            f"an ObjectRef is needed, not {type(ref).__name__}: what remote() and put() return")
    if (<ObjectRef> ref).session != serial:
        raise ended("this reference is of a session that has ended")
    if not (<ObjectRef> ref).handle:
        raise ValueError("this is the reference to nothing (ObjectRef.nil())")
    return pr_slot((<ObjectRef> ref).handle)


# -- references inside of what is being encoded --------------------------------------------------

# Encoding may run user code, which may encode in turn, or let other threads do so.
cdef struct Collector:
    unsigned long thread
    PyObject *refs

cdef Collector collectors[MOST_NESTED]
cdef list collected = []  # keeps the lists alive, in the same order
cdef int n_collectors = 0


cdef int begin_collecting() except -1:
    global n_collectors
    if n_collectors == MOST_NESTED:
        raise RecursionError("too many objects are being encoded inside of each other")
    collectors[n_collectors].thread = PyThread_get_thread_ident()
    collectors[n_collectors].refs = NULL
    collected.append(None)
    n_collectors += 1
    return 0


cdef int find_collector():
    cdef unsigned long me = PyThread_get_thread_ident()
    cdef int i = n_collectors - 1
    while i >= 0 and collectors[i].thread != me:
        i -= 1
    return i


cdef object collecting():
    cdef int i = find_collector()
    if i < 0:
        return None
    if collected[i] is None:
        collected[i] = []
    return collected[i]


cdef object end_collecting():
    """The references that were met since the last begin_collecting() of this thread, or None."""
    global n_collectors
    cdef int i = find_collector(), k
    refs = collected.pop(i)
    n_collectors -= 1
    for k in range(i, n_collectors):
        collectors[k] = collectors[k + 1]
    return refs


# -- encoding ------------------------------------------------------------------------------------

cdef int room(Session session, uint32_t slot, uint64_t size, uint32_t n_refs, PrHandle *handle,
              uint8_t **out) except -1:
    """Where to write: a new object, or with `slot` the value of a pending one."""
    cdef int status = PR_FULL
    while status:
        if slot:
            status = pr_room(&session.s, slot, size, n_refs, out)
        else:
            status = pr_create(&session.s, size, n_refs, handle, out)
        if status == PR_LIMIT:
            raise too_many(session)
        if status and not await_room(session, pr_block_size(size, n_refs)):
            raise full(session, size)
    return 0


cdef object too_many(Session session):
    from pyray.runtime.exceptions import ObjectStoreFullError
    return ObjectStoreFullError(
        f"there are as many objects as a session may have: {session.s.control.objects.limit}. Put "
        "many small values together into one, a list or an array")


cdef object full(Session session, uint64_t size):
    from pyray.runtime.exceptions import ObjectStoreFullError
    return ObjectStoreFullError(
        describe_full(session, size) +
        ". Drop references and values that were got, or give init() a larger object_store_memory")


cdef int seal(Session session, uint32_t slot, PrHandle handle, bint failed) except -1:
    if slot:
        pr_enter(&session.s)
        pr_make_ready(&session.s, slot, PR_OBJECT_FAILED if failed else PR_OBJECT_SEALED)
        pr_leave(&session.s)
    else:
        pr_seal(&session.s, handle, failed)
    return 0


cdef PrHandle write_object(Session session, Encoder e, list refs, uint32_t slot) except? 0:
    """What was encoded, as a new object that is not sealed yet; with `slot`, as the value of a
    pending one, and 0."""
    cdef PrHandle handle = 0
    cdef uint8_t *out
    cdef uint64_t *targets
    cdef uint32_t n = 0 if refs is None else len(refs), i
    room(session, slot, e.b.total_size, n, &handle, &out)
    try:
        write_message(e, out)
    except BaseException:
        if handle:
            pr_abandon(&session.s, handle)
        raise
    if n:
        targets = <uint64_t *> (out + ((e.b.total_size + 7) & ~<uint64_t> 7))
        for i in range(n):
            targets[i] = (<ObjectRef> refs[i]).handle
    return handle


cdef object encode_columns(Session session, object value, uint32_t slot, bint failed):
    cdef Encoder e = acquire(None, None)
    cdef PrHandle handle = 0
    cdef bint collects = True
    begin_collecting()
    try:
        e.encode(value)
        refs = end_collecting()
        collects = False
        handle = write_object(session, e, refs, slot)
    finally:
        if collects:
            end_collecting()
        release(e)
    seal(session, slot, handle, failed)
    return None if slot else new_ref(handle)


cdef object encode_object(Session session, object value, uint32_t slot, bint failed):
    """A new object with that value; with `slot`, the value of a pending object, and None."""
    cdef PrHandle handle = 0
    cdef uint8_t *out
    message = scalar_message(value)
    if message is None:
        return encode_columns(session, value, slot, failed)
    if slot and pr_seal_small(&session.s, slot, PyBytes_AS_STRING(message),
                              PyBytes_GET_SIZE(message), failed):
        return None
    room(session, slot, PyBytes_GET_SIZE(message), 0, &handle, &out)
    memcpy(out, PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message))
    seal(session, slot, handle, failed)
    return None if slot else new_ref(handle)


def put(value):
    """Store an object, which cannot be changed any more, and return a reference to it.

    Starts a session if there is none.

    Raises:
        TypeError: it cannot be serialized, or is itself a reference.
        ObjectStoreFullError: there is no room for it.
    """
    cdef Session session = current
    if session is None:
        from pyray.runtime.connection import ensure
        session = ensure()
    if session.closed or session.dead:
        session = open_session()
    if type(value) is ObjectRef:
        raise TypeError(
            "Calling 'put' on an ObjectRef is not allowed: it refers to an object in the store "
            "already. If you really want to do this, wrap the ObjectRef in a list and call 'put' "
            "on that")
    try:
        ref = encode_object(session, value, 0, False)
    except (MemoryError, RecursionError, KeyboardInterrupt):
        raise
    except Exception as error:
        from pyray.runtime.exceptions import RayError
        if isinstance(error, RayError):
            raise
        from pyray.runtime.functions import put_error
        raise put_error(error, value) from error
    if session.record_site is not None:
        session.record_site(session, (<ObjectRef> ref).handle, "(put object)")
    return ref


def store(value, bint failed=False):
    """A new object, as a task's result would be: with `failed`, `get` raises the value."""
    return encode_object(open_session(), value, 0, failed)


# -- decoding ------------------------------------------------------------------------------------

cdef object failure_of(Session session, uint32_t slot):
    """What a failed object raises."""
    cdef PrObject *o = &session.s.objects[slot]
    cdef const uint8_t *data
    from pyray.runtime import exceptions
    open_session()  # at the end of a session its tasks fail of that
    if o.state & PR_CODE:
        data = pr_message_of(&session.s, o)
        text = PyBytes_FromStringAndSize(<const char *> data + 1, o.size - 1)
        return exceptions.from_code(data[0], text.decode("utf-8", "replace"),
                                    f"{pr_handle(o.state, slot):032x}")
    return exceptions.as_raised(message_value(session, slot, False, -1))


cdef object value_of(Session session, uint32_t slot, bint copy_on_write, int64_t deadline=-1):
    """Raises Late if its bytes have to be fetched, and do not come by the deadline."""
    cdef uint64_t word = session.s.objects[slot].state
    if pr_state(word) == PR_OBJECT_FAILED:
        raise failure_of(session, slot)
    if not word & PR_BLOCK:
        return message_value(session, slot, copy_on_write, deadline)
    # What was lost meanwhile, and failed when it was made again, has other bytes now.
    try:
        value = message_value(session, slot, copy_on_write, deadline)
    except Exception:
        if pr_state(session.s.objects[slot].state) == PR_OBJECT_FAILED:
            raise failure_of(session, slot) from None
        raise
    if pr_state(session.s.objects[slot].state) == PR_OBJECT_FAILED:
        raise failure_of(session, slot)
    return value


# -- waiting -------------------------------------------------------------------------------------

cdef int64_t deadline_of(object timeout) except? -2:
    """Seconds from now as a time of the monotonic clock in ns; -1 for None."""
    if timeout is None:
        return -1
    if timeout < 0:
        raise ValueError(f"timeout must not be negative: {timeout}")
    return pr_now() + <int64_t> (min(timeout, 1e9) * 1e9)


cdef int look_around(Session session) except -1:
    PyErr_CheckSignals()
    if session.dead or session.closed or session.s.control.ended:
        open_session()
        raise ended("the session has ended")
    return 0


cdef int wait_slowly(Session session, const uint32_t *slots, size_t n, size_t needed,
                     int64_t deadline, bint any_failure) except -1:
    cdef int status
    cdef int64_t until
    while True:
        until = pr_now() + SLICE
        if 0 <= deadline < until:
            until = deadline
        with nogil:
            status = pr_wait(&session.s, slots, n, needed, until, any_failure,
                             0 if in_task else PR_SPIN)
        if status == 0 and not session.closed:
            return 1
        look_around(session)
        if status == PR_TIMEOUT and until == deadline:
            return 0
        if status == PR_TIMEOUT:
            pr_rescue(&session.s)
            pr_ask_again(&session.s, slots, n)


# Threads of this process that wait while it runs a task, and the number of that task.
cdef int n_blocked = 0
cdef uint32_t task_number = 0


cdef uint32_t give_cpu(Session session) noexcept:
    """A thread waits: the CPU of its task is for others until take_cpu() of what this returns."""
    global n_blocked
    n_blocked += 1
    if n_blocked == 1:
        pr_block(&session.s)
    return task_number


cdef void take_cpu(Session session, uint32_t number) noexcept:
    """The thread goes on; the last one takes the CPU back, if its task is still the same."""
    global n_blocked
    if number == task_number:
        n_blocked -= 1
        if n_blocked == 0:
            pr_unblock(&session.s)


cdef void end_task(Session session) noexcept:
    """The task is over; threads that it has left waiting have no CPU to give."""
    global n_blocked, task_number
    task_number += 1
    if n_blocked:
        n_blocked = 0
        pr_unblock(&session.s)


cdef int wait_for(Session session, const uint32_t *slots, size_t n, size_t needed,
                  int64_t deadline, bint any_failure) except -1:
    """1 when so many are ready, 0 when the time is over.

    A worker first waits as long as it would spin; then its CPU is for others.
    """
    cdef int status
    cdef int64_t until = 0
    cdef uint32_t number
    if not in_task:
        return wait_slowly(session, slots, n, needed, deadline, any_failure)
    until = pr_now() + session.s.control.spin
    with nogil:
        status = pr_wait(&session.s, slots, n, needed, until, any_failure, PR_SPIN)
    if status == 0:
        return 1
    look_around(session)
    number = give_cpu(session)
    try:
        return wait_slowly(session, slots, n, needed, deadline, any_failure)
    finally:
        take_cpu(session, number)


cdef int wait_for_room(Session session, uint32_t task) except -1:
    """Until so few items of the generator of this task wait to be taken that it goes on: 1, or 0
    when nobody wants more."""
    cdef int status
    cdef uint32_t number
    with nogil:
        status = pr_stream_room(&session.s, task, pr_now() + session.s.control.spin, PR_SPIN)
    if status != PR_TIMEOUT and status != PR_INTERRUPTED:
        return status == 0
    number = give_cpu(session)
    try:
        while status == PR_TIMEOUT or status == PR_INTERRUPTED:
            look_around(session)
            with nogil:
                status = pr_stream_room(&session.s, task, pr_now() + SLICE, 0)
            if status == PR_TIMEOUT:
                pr_rescue(&session.s)
    finally:
        take_cpu(session, number)
    return status == 0


cdef inline bint is_ready(Session session, uint32_t slot):
    return pr_is_ready(session.s.objects[slot].state)


cdef uint32_t waited_slot(object waitable) except 0:
    """What the core waits for: of a generator of references the next one."""
    if type(waitable) is ObjectRef:
        return slot_of(waitable)
    return slot_of(waitable.completed()) | PR_NEXT


cdef object timed_out(object timeout):
    from pyray.runtime.exceptions import GetTimeoutError
    return GetTimeoutError(
        f"Get timed out: some object(s) not ready after {timeout} s. The tasks go on; a larger "
        "timeout, or wait(), lets you wait longer")


cdef int recall(list slots, int64_t deadline, object timeout) except -1:
    """Has those of these objects that are OUT made again whose values are lost, if they can be."""
    from pyray.runtime._lineage import make_all_again
    if not make_all_again(slots, deadline):
        raise timed_out(timeout)
    return 0


cdef object get_one(Session session, object ref, object timeout, bint copy_on_write):
    cdef uint32_t slot = slot_of(ref)
    cdef int64_t deadline
    if timeout is None and is_ready(session, slot):
        return value_of(session, slot, copy_on_write)
    deadline = deadline_of(timeout)
    if not is_ready(session, slot) and not wait_for(session, &slot, 1, 1, deadline, False):
        raise timed_out(timeout)
    if session.s.objects[slot].state & PR_OUT:
        recall([slot], deadline, timeout)
    try:
        return value_of(session, slot, copy_on_write, deadline)
    except Late:
        raise timed_out(timeout) from None


cdef list get_many(Session session, list refs, object timeout, bint copy_on_write):
    cdef Py_ssize_t n = PyList_GET_SIZE(refs), i
    cdef int64_t deadline = deadline_of(timeout)
    cdef uint32_t *slots = <uint32_t *> PyMem_Malloc(n * sizeof(uint32_t) + 1)
    cdef Py_ssize_t missing = 0, k
    cdef bint recalled = False  # those that were lost
    cdef list values
    if slots == NULL:
        raise MemoryError
    try:
        for i in range(n):
            slots[i] = slot_of(<object> PyList_GET_ITEM(refs, i))
            missing += not is_ready(session, slots[i])
        if missing and not wait_for(session, slots, n, n, deadline, True):
            raise timed_out(timeout)
        if missing:  # it may have been ended by the first failure
            for i in range(n):
                if pr_state(session.s.objects[slots[i]].state) == PR_OBJECT_FAILED:
                    raise failure_of(session, slots[i])
        values = [None] * n
        for i in range(n):
            if session.s.objects[slots[i]].state & PR_OUT:
                if not recalled:
                    recall([slots[k] for k in range(i, n)
                            if session.s.objects[slots[k]].state & PR_OUT], deadline, timeout)
                    recalled = True
                fetch_ahead(session, slots + i, n - i)
            values[i] = value_of(session, slots[i], copy_on_write, deadline)
    except Late:
        raise timed_out(timeout) from None
    finally:
        PyMem_Free(slots)
    return values


def get_checked(object_refs, *, timeout=None, bint copy_on_write=False):
    """Wait for objects and return them: one for a reference, a list for a list of references.

    Arrays are views of the store's memory, not copied, and cannot be written to.

    Args:
        object_refs: A reference or a list of references.
        timeout: How many seconds to wait at most; 0: do not wait; None: as long as it takes.
        copy_on_write: Whether arrays, dataframes and tensors can be written to. Only pages that are
            written are copied, and nobody else sees it.

    Raises:
        GetTimeoutError: not all of them were there in time.
        RayTaskError: a task failed; it is also an instance of what the task raised.
        TypeError, ValueError: it is not a reference, or the timeout is negative.
    """
    cdef Session session = current
    if type(object_refs) is not ObjectRef or timeout is not None or session is None:
        from pyray.runtime.api import get_slowly
        return get_slowly(object_refs, timeout, copy_on_write)
    if session.closed or session.dead:
        session = open_session()
    return get_one(session, object_refs, None, copy_on_write)


def get(refs, timeout=None, bint copy_on_write=False):
    """The value of a reference, or a list of those of a list of references.

    `timeout` is in seconds; None waits for ever. Arrays are read-only views of shared memory; with
    `copy_on_write` they may be written, which nobody else sees.

    Raises:
        GetTimeoutError: the time is over. What the task raised, if it failed.
    """
    cdef Session session = current
    if session is None or session.closed or session.dead:
        session = open_session()
    if type(refs) is ObjectRef:
        return get_one(session, refs, timeout, copy_on_write)
    return get_many(session, refs, timeout, copy_on_write)
