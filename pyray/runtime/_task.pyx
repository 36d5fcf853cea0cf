"""Submitting tasks: what happens behind `f.remote(...)`.

A call without arguments is a slot in shared memory and nothing else; small arguments are inline in
the slot, others an object. References at the top level of the arguments are what the task waits
for: None stands in the message in their place, and the message begins with where they belong.

Imports `functions` when arguments cannot be encoded, and `exceptions`.
"""

cimport cython
from cpython.dict cimport PyDict_Size
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memset

from pyray.runtime._object cimport (
    ObjectRef,
    begin_collecting,
    deadline_of,
    end_collecting,
    give_cpu,
    new_ref,
    open_session,
    put_label,
    serial_now,
    session_now,
    slot_of,
    take_cpu,
    write_object,
)
from pyray.serialization._encoder cimport Encoder, acquire, release, write_message
from pyray.store._session cimport *

import os
import signal

cdef enum:
    DYNAMIC = -1
    STREAMING = -2
    MOST_RETURNS = 60000
    KEYWORDS = 8  # a flag of tasks: the message is of (args, kwargs)
    PLACED = 16   # a flag of tasks: the message begins with the places of the dependencies

# The task, or call, that this process runs; its children note it. Of an actor that runs several
# calls at a time, those are in a ContextVar.
cdef PrHandle parent = 0
cdef object calls = None


# The job, that is the driver, for which this process works; its tasks and actors note it.
cdef uint32_t job = 0


cdef void set_parent(PrHandle task, uint32_t number) noexcept:
    """This process runs that task, of the job of that number."""
    global parent, job
    parent = task
    job = number


cdef void set_calls(object variable):
    """This process runs several calls at a time: this ContextVar says which, or 0."""
    global calls
    calls = variable


cdef PrHandle parent_now() except? 0:
    cdef PrHandle call
    if calls is None:
        return parent
    call = calls.get()
    return call or parent


def set_job(uint32_t number):
    """This process is the driver of that job."""
    global job
    job = number


def current_job():
    """The number of the job that this process works for; 0: none."""
    return job & ~PR_DETACHED_JOB


@cython.final
cdef class Call:
    """What a remote function, with its options, is in one session.

    It holds its label, an object with name and limits, which refers to the function. So does each
    task until it is over: when the last goes, both are freed.
    """

    def __init__(self, session, *, function, shape, str name, int num_returns, int max_retries,
                 bint retry_exceptions, int max_calls=0, int backlog=0, actor=None, str method="",
                 str group="", int max_pending=-1):
        about = str(max_calls)
        self.name = name
        self.num_returns = num_returns
        self.serial = serial_now()
        if num_returns > MOST_RETURNS:
            raise ValueError(f"num_returns is {num_returns}, but may be at most {MOST_RETURNS}")
        memset(&self.call, 0, sizeof(PrCall))
        if actor is not None:
            about = f"{method}@{group}"
            self.actor = actor
            self.call.actor = pr_actor_of(&open_session().s, slot_of(actor))
            self.call.flags = PR_TASK_CALL
            self.call.limit = max(max_pending, 0)
        self.label = put_label(session, f"{about} {name}".encode("utf-8", "replace"), function)
        self.call.function = slot_of(function)
        self.call.label = slot_of(self.label)
        self.call.shape = shape
        self.call.n_returns = 1 if num_returns < 0 else num_returns
        self.call.retries = max_retries
        if num_returns == STREAMING:
            self.call.flags |= PR_TASK_STREAMING
        elif num_returns == DYNAMIC:
            self.call.flags |= PR_TASK_DYNAMIC
        if num_returns == STREAMING:
            self.call.backlog = backlog
        if retry_exceptions:
            self.call.flags |= PR_TASK_RETRY_EXCEPTIONS


@cython.final
cdef class Submitter:
    """`f.remote`: calling it submits a task.

    `prepare()` gives the Call, or another callable that is called in its stead; it is asked again
    in each session. `check(args, kwargs)` raises TypeError for arguments that do not fit; it is not
    asked about `least` to `most` positional ones.
    """

    def __init__(self, prepare, check, Py_ssize_t min_args, Py_ssize_t max_args):
        self.prepare = prepare
        self.check = check
        self.least = min_args
        self.most = max_args

    def __call__(self, *args, **kwargs):
        cdef Call call = self.call
        cdef Py_ssize_t n = PyTuple_GET_SIZE(args)
        if PyDict_Size(kwargs) or not self.least <= n <= self.most:
            self.check(args, kwargs)
        cdef Session session = session_now()
        # A call does not hold its session: functions would keep the memory of one that has ended.
        if (call is None or session is None or call.serial != serial_now()
                or session.closed or session.dead):
            prepared = self.prepare()
            if type(prepared) is not Call:
                return prepared(*args, **kwargs)
            call = self.call = prepared
            session = open_session()
        return submit(session, call, args, kwargs)


cdef object submit(Session session, Call call, tuple args, dict kwargs):
    """Queue a task; its reference, or references."""
    cdef PrCall c = call.call
    cdef PrHandle[1] one
    cdef int status
    if c.limit and pr_may_call(&session.s, c.actor, c.limit) == PR_BUSY:
        raise too_many_pending(call)
    if PyTuple_GET_SIZE(args) or PyDict_Size(kwargs):
        return submit_with_arguments(session, call, args, kwargs)
    c.parent = parent_now()
    c.job = job
    if c.n_returns == 1:
        status = pr_submit(&session.s, &c, one)
        if status:
            raise full(session, call)
        if session.record_site is not None:
            record_sites(session, call, one, 1)
        return wrap(call, one[0])
    return submit_many(session, call, &c)


cdef int record_sites(Session session, Call call, PrHandle *handles, uint32_t n) except -1:
    cdef uint32_t i
    what = "(task call)" if call.actor is None else "(actor call)"
    for i in range(n):
        session.record_site(session, handles[i], what)
    return 0


cdef object wrap(Call call, PrHandle handle):
    ref = new_ref(handle)
    if call.num_returns == STREAMING:
        return ObjectRefGenerator(ref)
    return ref


cdef object submit_many(Session session, Call call, PrCall *c):
    cdef uint32_t i
    cdef bytearray room
    cdef PrHandle *handles
    if call.making is not None:
        return create_actor(session, call, c)
    room = bytearray(8 * c.n_returns + 8)
    handles = <PrHandle *> <char *> room
    if pr_submit(&session.s, c, handles):
        raise full(session, call)
    if session.record_site is not None:
        record_sites(session, call, handles, c.n_returns)
    if c.n_returns == 0:
        return None
    if c.n_returns == 1:
        return wrap(call, handles[0])
    return [new_ref(handles[i]) for i in range(c.n_returns)]


cdef object full(Session session, Call call):
    from pyray.runtime.exceptions import ObjectStoreFullError
    return ObjectStoreFullError(
        f"there is no room for another task {call.name}: the session's tables or its object store "
        f"are full ({session.stats()})")


cdef object dependencies_of(tuple args, dict kwargs):
    """References at the top level, and where they are; (None, None) if there are none."""
    cdef Py_ssize_t i
    places = None
    for i in range(PyTuple_GET_SIZE(args)):
        if type(<object> PyTuple_GET_ITEM(args, i)) is ObjectRef:
            if places is None:
                places, refs = [], []
            places.append(i)
            refs.append(<object> PyTuple_GET_ITEM(args, i))
    for key, value in kwargs.items():
        if type(value) is ObjectRef:
            if places is None:
                places, refs = [], []
            places.append(key)
            refs.append(value)
    if places is None:
        return None, None
    return places, refs


cdef object without(list places, tuple args, dict kwargs):
    """The arguments, with None for the references."""
    values = list(args)
    kwargs = dict(kwargs)
    for place in places:
        if type(place) is int:
            values[place] = None
        else:
            kwargs[place] = None
    return tuple(values), kwargs


cdef object submit_with_arguments(Session session, Call call, tuple args, dict kwargs):
    cdef PrCall c = call.call
    cdef bytearray room = None
    cdef Py_ssize_t i
    cdef ObjectRef _large = None
    cdef uint8_t[PR_INLINE_ARGUMENTS] small
    places, refs = dependencies_of(args, kwargs)
    c.parent = parent_now()
    c.job = job
    if places is None:
        value = args
        if kwargs:
            c.flags |= KEYWORDS
            value = (args, kwargs)
    else:
        room = bytearray(4 * len(refs))
        c.n_dependencies = len(refs)
        c.dependencies = <const uint32_t *> <char *> room
        for i in range(len(refs)):
            (<uint32_t *> <char *> room)[i] = slot_of(refs[i])
        c.flags |= PLACED
        stripped, keywords = without(places, args, kwargs)
        if kwargs:
            c.flags |= KEYWORDS
            value = (tuple(places), stripped, keywords)
        elif len(args) == 1:
            value = None  # f.remote(ref): nothing but the reference
        else:
            value = (tuple(places), stripped)
    if value is not None:
        try:
            _large = encode_arguments(session, value, small, &c)
        except (MemoryError, RecursionError, KeyboardInterrupt):
            raise
        except Exception as error:
            from pyray.runtime.exceptions import RayError
            if isinstance(error, RayError):
                raise
            from pyray.runtime.functions import argument_error
            raise argument_error(error, args, kwargs, call.name) from error
    return submit_many(session, call, &c)  # `_large` and `refs` are held until then


cdef object encode_arguments(Session session, object value, uint8_t *small, PrCall *c):
    """Into `small`, or an object, which is returned."""
    cdef Encoder e = acquire(None, None)
    cdef PrHandle handle = 0
    cdef list refs = None
    cdef bint collects = True
    begin_collecting()
    try:
        e.encode(value)
        refs = end_collecting()
        collects = False
        if refs is None and e.b.total_size <= PR_INLINE_ARGUMENTS:
            write_message(e, small)
            c.inline_arguments = small
            c.arguments_size = e.b.total_size
            return None
        handle = write_object(session, e, refs, 0)
    finally:
        if collects:
            end_collecting()
        release(e)
    pr_seal(&session.s, handle, 0)
    c.arguments = handle
    if session.record_site is not None:
        session.record_site(session, handle, "(arguments)")
    return new_ref(handle)


# -- actors --------------------------------------------------------------------------------------

class NameTaken(ValueError):
    """There is an actor of that name."""


@cython.final
cdef class Creation:
    """How actors of a class, with its options, are made in one session.

    `description`, which holds references, is the value of the object that stands for the actor;
    `key` (24 bytes) is that of its name. `submit` returns a reference to that object.
    """

    def __init__(self, session, *, function, shape, str name, int max_restarts, tuple description,
                 key=None, bint detached=False, bint ordered=True):
        self.call = Call(session, function=function, shape=shape, name=name, num_returns=0,
                         max_retries=max_restarts, retry_exceptions=False)
        flags = (PR_ACTOR_DETACHED if detached else 0) | (0 if ordered else PR_ACTOR_UNORDERED)
        self.call.making = (description, key, flags)

    def submit(self, tuple args, dict kwargs):
        """Make an actor; raises NameTaken."""
        return submit(open_session(), self.call, args, kwargs)


cdef object create_actor(Session session, Call call, PrCall *c):
    cdef Encoder e = acquire(None, None)
    cdef PrHandle handle = 0, death = 0
    cdef const uint8_t *key = NULL
    cdef bint collects = True
    cdef int status
    description, name_key, flags = call.making
    begin_collecting()
    try:
        e.encode(description)
        refs = end_collecting()
        collects = False
        handle = write_object(session, e, refs, 0)
    finally:
        if collects:
            end_collecting()
        release(e)
    if name_key is not None:
        key = <const uint8_t *> <const char *> <bytes> name_key
    if flags & PR_ACTOR_DETACHED:
        c.job |= PR_DETACHED_JOB  # it outlives the driver, and so does what it starts
    status = pr_actor_create(&session.s, handle, key, flags, c, &death)
    if status == PR_STALE:
        raise NameTaken(f"there is an actor of the name of this one: {call.name}")
    if status == PR_LIMIT:
        raise RuntimeError("this session has as many actors as it may have: drop handles of some")
    if status:
        raise full(session, call)
    pr_release(&session.s, pr_slot(death))
    if session.record_site is not None:
        session.record_site(session, handle, "(actor creation)")
    return new_ref(handle)


cdef object too_many_pending(Call call):
    from pyray.runtime.exceptions import PendingCallsLimitExceeded
    return PendingCallsLimitExceeded(
        f"{call.call.limit} calls of this process to the actor are not over, as many as "
        f"max_pending_calls allows: {call.name} was not called. Get results before you call again")


# -- generators ----------------------------------------------------------------------------------

@cython.final
cdef class ObjectRefGenerator:
    """The references to what a streaming task yields, as it yields them.

    `next()` waits for the next one; `await anext()` does so in an event loop. When the task has
    failed the last reference raises its exception.
    """

    def __init__(self, ref):
        self.ref = ref

    def __dealloc__(self):
        cdef Session session = session_now()
        if self.ref is None or session is None or session.closed or session.dead:
            return
        if self.ref.session == serial_now() and self.ref.handle:
            pr_stream_close(&session.s, pr_slot(self.ref.handle))

    def __iter__(self):
        return self

    def __aiter__(self):
        return self

    cdef object take(self):
        """The next reference, None if there is none yet; at the end, StopIteration's class."""
        cdef Session session = open_session()
        cdef uint32_t slot = slot_of(self.ref)
        cdef PrHandle handle
        cdef bint over = pr_is_ready(session.s.objects[slot].state)  # looked at first
        handle = pr_stream_take(&session.s, slot)
        if handle:
            return new_ref(handle)
        if not over:
            return None
        if pr_state(session.s.objects[slot].state) == PR_OBJECT_FAILED and not self.told:
            self.told = True
            return self.ref
        return StopIteration

    def __next__(self):
        return self._next_sync()

    def _next_sync(self, timeout=None):
        """As next(); the nil reference when `timeout` seconds have passed."""
        cdef Session session = open_session()
        cdef uint32_t slot = slot_of(self.ref)
        cdef int64_t deadline = deadline_of(timeout), until
        cdef uint32_t number
        cdef int status
        while True:
            found = self.take()
            if found is StopIteration:
                raise StopIteration
            if found is not None:
                return found
            until = pr_now() + 100000000
            if 0 <= deadline < until:
                until = deadline
            number = give_cpu(session)
            with nogil:
                status = pr_stream_wait(&session.s, slot, until, PR_SPIN)
            take_cpu(session, number)
            if PyErr_CheckSignals() < 0:
                raise
            open_session()
            if status == PR_TIMEOUT:
                pr_ask_again(&session.s, &slot, 1)
            if status == PR_TIMEOUT and until == deadline and self.take_is_empty():
                return new_ref(0)

    cdef bint take_is_empty(self):
        cdef Session session = session_now()
        cdef uint32_t slot = pr_slot(self.ref.handle)
        return not (pr_stream_length(&session.s, slot)
                    or pr_is_ready(session.s.objects[slot].state))

    async def __anext__(self):
        from pyray.runtime.futures import next_of
        return await next_of(self)

    def _take(self):
        """The next reference if it is there, None if not yet; raises StopAsyncIteration."""
        found = self.take()
        if found is StopIteration:
            raise StopAsyncIteration
        return found

    def completed(self):
        """The reference that is ready when the task has ended."""
        return self.ref

    def next_ready(self):
        """Whether next() would not wait."""
        return not self.take_is_empty()

    def is_finished(self):
        """Whether the task has ended and all its references were taken."""
        cdef Session session = open_session()
        cdef uint32_t slot = slot_of(self.ref)
        return pr_is_ready(session.s.objects[slot].state) and not pr_stream_length(&session.s, slot)

    def close(self):
        """No more are wanted: the task is told when it yields the next."""
        cdef Session session = open_session()
        pr_stream_close(&session.s, slot_of(self.ref))

    def task_id(self):
        return self.ref.task_id()

    def __reduce__(self):
        raise TypeError(
            "a generator of references cannot be sent to another process: what has been taken here "
            "would be missing there. Send the references")


# -- cancellation --------------------------------------------------------------------------------

cdef void note_child(void *found, PrHandle handle) noexcept with gil:
    (<list> found).append(handle)


def cancel(ref, bint force=False, bint recursive=True):
    """Stop the task that is to make an object: `get` raises TaskCancelledError then.

    One that has not begun never will. One that runs gets KeyboardInterrupt, or with `force` its
    worker is killed. With `recursive` the tasks and calls of actors that it has submitted are
    cancelled, too.
    """
    cdef Session session = open_session()
    cdef PrObject *o
    if type(ref) is ObjectRefGenerator:
        ref = (<ObjectRefGenerator> ref).ref
    o = &session.s.objects[slot_of(ref)]
    if force and pr_state(o.state) == PR_OBJECT_PENDING:
        if session.s.tasks[o.owner].flags & PR_TASK_CALL:
            raise ValueError("force=True is not supported for actor tasks.")
    cancel_handle(session, (<ObjectRef> ref).handle, force, recursive)


cdef int cancel_handle(Session session, PrHandle handle, bint force, bint recursive) except -1:
    cdef PrObject *o = &session.s.objects[pr_slot(handle)]
    cdef uint32_t worker = 0, task = o.owner
    cdef PrHandle task_handle = pr_handle(session.s.tasks[task].state, task)
    cdef int status
    children = []
    if recursive and pr_state(o.state) == PR_OBJECT_PENDING:
        pr_each_child(&session.s, task_handle, note_child, <void *> children)
    with nogil:
        status = pr_cancel(&session.s, handle, &worker)
    if status == 1 and worker:
        try:
            os.kill(session.s.processes[worker].pid, signal.SIGKILL if force else signal.SIGINT)
        except ProcessLookupError:
            pass  # it died meanwhile, and the task with it
    for child in children:
        cancel_handle(session, child, force, recursive)
    return 0


cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1
