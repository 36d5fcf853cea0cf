"""The process of an actor: it makes the instance, and runs the calls of its methods.

One call at a time is run by the thread that serves it; several, by threads that take turns
(actor_threads.py) or as tasks of an event loop (actor_loop.py), which ask this module for calls and
have it run them. The tables are described in csrc/actor.h. Imports `exceptions` when needed.
"""

cimport cython
from libc.stdint cimport uint32_t, uint64_t

from pyray.runtime._execution cimport Execution, Function, Label
from pyray.runtime._object cimport ObjectRef, encode_object, ref_to, set_in_task
from pyray.runtime._task cimport set_calls, set_parent
from pyray.store._session cimport *

from contextvars import ContextVar

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1
    object PyContextVar_Set(object var, object value)
    bint PyCoro_CheckExact(object value)

cdef enum:
    ACTOR_DIED = 4
    CANCELLED = 2

cdef Actor serving = None  # of this process


cdef Actor serving_now():
    return serving


cdef uint32_t call_slot():
    """The call that this thread, or coroutine, runs; 0: none."""
    cdef PrHandle call
    if serving is None:
        return 0
    if serving.calls is None:
        return serving.call
    call = serving.calls.get()
    # What a call has left behind, a coroutine, say, may run when it is over.
    return pr_slot(call) if call and serving.is_there(call) else 0


cdef str title_of(object instance, str name):
    """What its class says with __repr__, or else the name."""
    if type(instance).__repr__ is object.__repr__:
        return name
    try:
        return repr(instance)
    except Exception:
        return name


cdef str actor_title():
    """What the actor of this process is shown as."""
    return "" if serving is None else serving.title


def current_actor():
    """A reference to the object that stands for the actor of this process, or None."""
    if serving is None:
        return None
    return ref_to(serving.x.session, serving.x.session.s.actors[serving.actor].object)


cdef int serve_actor(Execution x, uint32_t creation) except -1:
    """The task makes this process that of an actor. Returns when it is to end."""
    global serving
    cdef Actor actor = Actor.__new__(Actor)
    actor.x = x
    actor.creation = creation
    actor.actor = x.session.s.tasks[creation].actor
    actor.reason = actor.title = ""
    x.serves_actor = True
    serving = actor
    set_in_task(False)  # an actor keeps its CPU while it waits
    pr_actor_begin(&x.session.s, creation)
    concurrent = x.hooks.concurrent(x.function(x.session.s.tasks[creation].function).options)
    if concurrent is not None:
        actor.calls = ContextVar("call", default=0)
        set_calls(actor.calls)
        concurrent(actor)
    elif actor.construct():
        actor.serve_one_by_one()
    actor.end()
    return 0


@cython.final
cdef class Actor:
    """An actor as its process knows it."""

    # -- its life -------------------------------------------------------------------------------

    def construct(self):
        """Make the instance. False if that failed, of which the actor dies."""
        cdef PrTask *t = &self.x.session.s.tasks[self.creation]
        cdef Label label = self.x.label(t.label)
        cdef Function f
        try:
            f = self.x.function(t.function)
            if f.error is not None:
                raise f.error
            self.options = f.options
            args, kwargs = self.x.arguments(t)
            self.title = label.name
            self.instance = f.function(*args, **(kwargs or {}))
            self.title = title_of(self.instance, label.name)
        except BaseException as error:
            if isinstance(error, SystemExit) and self.x.session.s.self.leave:
                raise
            self.x.store_failure(self.creation, t, self.x.hooks.actor_failure(error, label.name),
                                 error)
            self.creation = 0
            return False
        return True

    def leave(self, str reason):
        """The actor is to end."""
        self.leaving = True
        self.reason = reason
        pr_notify(&self.x.session.s, self.x.session.s.self)

    def over(self):
        """Whether no more calls are to be begun."""
        return self.is_over()

    cdef bint is_there(self, PrHandle call):
        return pr_same(self.x.session.s.tasks[pr_slot(call)].state, call)

    cdef bint is_told_to_leave(self):
        cdef PrSession *s = &self.x.session.s
        return self.leaving or s.self.leave or s.control.ended or self.x.session.closed

    cdef bint is_over(self):
        return self.is_told_to_leave() or pr_actor_unwanted(&self.x.session.s, self.actor)

    cdef int end(self) except -1:
        """Calls that were not begun fail, but at the session's end, which sees to all of them.

        Those that run still, in threads perhaps, fail by the recovery from this process' end.
        """
        cdef PrSession *s = &self.x.session.s
        if self.creation and not s.self.leave and not s.control.ended:
            reason = self.reason or "all references to it are gone"
            pr_fail_task(s, self.creation, ACTOR_DIED, reason.encode()[:75])
            self.x.runs_still = pr_pending_calls(&s.actors[self.actor]) > 0
        self.instance = None
        return 0

    # -- calls ----------------------------------------------------------------------------------

    cdef uint32_t wait_for_call(self) except? 0:
        """The next call, which this process has begun; 0 when there will be none."""
        cdef PrSession *s = &self.x.session.s
        cdef uint32_t task, seen
        while not self.is_told_to_leave():
            task = pr_next_call(s, self.actor)
            if task:
                return task
            seen = s.self.event
            if self.is_over():
                break
            if pr_actor_idle(s, self.actor) and not self.is_told_to_leave():
                with nogil:
                    pr_sleep(s, seen, -1, 1)
                PyErr_CheckSignals()
        return 0

    def poll(self):
        """The next call, which this process has begun; 0 if none waits, or it begins no more."""
        return 0 if self.is_told_to_leave() else pr_next_call(&self.x.session.s, self.actor)

    def take(self):
        """The next call, which is not begun, with what `begin` wants to know; None: none waits."""
        cdef uint64_t epoch
        cdef uint32_t task = pr_take_call(&self.x.session.s, self.actor, &epoch)
        if not task:
            return None
        return task, epoch, self.x.label(self.x.session.s.tasks[task].label).group

    def begin(self, uint32_t task, uint64_t epoch):
        """Whether the call that was taken is to be run: not if it comes again, or was cancelled, or
        the actor is to end."""
        return not self.is_told_to_leave() and pr_begin_call(&self.x.session.s, task, epoch) != 0

    def events(self):
        """How often this process was notified."""
        return <uint32_t> self.x.session.s.self.event

    def sleep(self, uint32_t seen, timeout):
        """Wait for a call, or for anything that this process was notified of since `seen`; at most
        so many seconds, None: as long as it takes."""
        cdef PrSession *s = &self.x.session.s
        cdef int64_t ns = -1 if timeout is None else <int64_t> (min(timeout, 1e6) * 1e9)
        if pr_actor_idle(s, self.actor) and not self.is_over():
            with nogil:
                pr_sleep(s, seen, ns, 1)

    def interrupt(self):
        """Wake the threads that sleep in this process."""
        pr_notify(&self.x.session.s, self.x.session.s.self)

    def wait_for_event(self, uint32_t seen):
        """Until this process was notified since `seen`, without a look at what of."""
        with nogil:
            pr_sleep(&self.x.session.s, seen, -1, 0)

    # -- running one ----------------------------------------------------------------------------

    cdef int serve_one_by_one(self) except -1:
        cdef PrSession *s = &self.x.session.s
        cdef uint32_t task
        while True:
            task = self.wait_for_call()
            if not task:
                return 0
            self.call = task
            set_parent(pr_handle(s.tasks[task].state, task), s.tasks[self.creation].job)
            try:
                self.run(task)
            finally:
                set_parent(0, s.tasks[self.creation].job)
                self.call = 0

    cdef bint is_to_run(self, uint32_t task, PrTask *t):
        cdef uint32_t failed
        if t.n_dependencies:
            failed = pr_failed_dependency(&self.x.session.s, task)
            if failed:
                pr_fail_task_like(&self.x.session.s, task, failed)
                return False
        if t.state & PR_CANCEL:
            pr_fail_task(&self.x.session.s, task, CANCELLED, b"")
            return False
        return True

    cdef object invoke(self, PrTask *t, Label label):
        """Call the method: its result, or what is to be awaited or iterated."""
        args, kwargs = self.x.arguments(t)
        if label.special is not None:
            method = getattr(self, label.special)
        else:
            method = getattr(self.instance, label.method)
        if kwargs is None:
            return method(*args)
        return method(*args, **kwargs)

    def ray_ready(self):
        return True

    def ray_terminate(self):
        self.leave("__ray_terminate__() was called")

    def ray_call(self, function, *args, **kwargs):
        return function(self.instance, *args, **kwargs)

    cdef int run(self, uint32_t task) except -1:
        """A call from its begin to its end, in this thread."""
        cdef PrTask *t = &self.x.session.s.tasks[task]
        cdef Label label
        if not self.is_to_run(task, t):
            return 0
        label = self.x.label(t.label)
        try:
            result = self.invoke(t, label)
            if t.flags & PR_TASK_STREAMING:
                self.x.stream(task, t, result)
                result = None
        except BaseException as error:
            return self.failed(task, t, label, error)
        return self.returned(task, t, label, result)

    cdef int returned(self, uint32_t task, PrTask *t, Label label, object result) except -1:
        """The call is over: it has a result, which may be one that cannot be stored."""
        try:
            self.x.seal(t, result, label.name)
        except BaseException as error:
            return self.failed(task, t, label, error)
        pr_finish(&self.x.session.s, task)
        return 0

    cdef int running(self, uint32_t task) except -1:
        """The thread, or coroutine, that calls this runs that call."""
        PyContextVar_Set(self.calls, pr_handle(self.x.session.s.tasks[task].state, task))
        return 0

    def run_call(self, uint32_t task):
        """A call that was begun, run to its end."""
        self.running(task)
        try:
            self.run(task)
        finally:
            self.calls.set(0)

    cdef int failed(self, uint32_t task, PrTask *t, Label label, object error) except -1:
        if isinstance(error, SystemExit):
            self.leave("exit_actor() was called" if error.code is None else
                       f"it left with SystemExit({error.code!r})")
            pr_fail_task(&self.x.session.s, task, ACTOR_DIED, self.reason.encode()[:75])
            return 0
        if t.state & PR_CANCEL and self.x.hooks.is_cancellation(error):
            pr_fail_task(&self.x.session.s, task, CANCELLED, b"")
            return 0
        if self.x.tries_again(task, t, error):
            return 0
        return self.x.raised(task, t, label, error)

    # -- for threads ----------------------------------------------------------------------------

    def stand_by(self):
        """Until this thread leads: True. False: no more calls are to be begun."""
        cdef PrSession *s = &self.x.session.s
        cdef uint32_t seen
        while not self.is_told_to_leave():
            seen = s.self.event
            if not self.turn or pr_turn_comes(s, self.actor, &self.turns):
                self.turn += 1
                return True
            with nogil:
                pr_stand_by(s, seen, &self.turns)
            pr_stood_by(s, &self.turns)
        return False

    def lead(self):
        """Run calls until another thread has taken the lead, while this one was in a call: True.
        False: no more calls are to be begun."""
        cdef PrSession *s = &self.x.session.s
        cdef uint64_t turn = self.turn
        cdef uint32_t task
        while True:
            task = 0 if self.is_told_to_leave() else pr_next_call(s, self.actor)
            if not task:
                self.calls.set(0)
                pr_linger(s, self.actor)
                task = self.wait_for_call()
                if not task:
                    return False
            pr_turn_begins(s, self.actor, &self.turns)
            self.running(task)
            self.run(task)
            if self.turn != turn:
                self.calls.set(0)
                return True
            pr_turn_ends(s, &self.turns)

    # -- for an event loop ----------------------------------------------------------------------

    async def serve(self, uint32_t task, group, calls):
        """A call that was begun, from its start to its end: what runs in a task of its own.

        `group.running` counts it, `calls.running` knows it if it has to wait, and `calls.stream`
        takes what an asynchronous generator yields.
        """
        cdef PrTask *t = &self.x.session.s.tasks[task]
        cdef Label label = self.x.label(t.label)
        cdef dict running = calls.running
        try:
            if not self.is_to_run(task, t):
                group.running -= 1
                return
            self.running(task)
            result = self.invoke(t, label)
            if PyCoro_CheckExact(result) or hasattr(result, "__await__"):
                result = await result
            elif t.flags & PR_TASK_STREAMING:
                if hasattr(result, "__anext__"):
                    await calls.stream(task, result)
                else:
                    self.x.stream(task, t, result)
                result = None
        except BaseException as error:
            group.running -= 1
            running.pop(task, None)
            self.failed(task, t, label, error)
        else:
            group.running -= 1
            if running:
                running.pop(task, None)
            self.returned(task, t, label, result)

    def produced(self, uint32_t task):
        """How many items an earlier attempt of this call has yielded."""
        cdef uint32_t stream = self.x.session.s.tasks[task].first_return
        return (<PrStream *> self.x.session.s.objects[stream].bytes).produced

    def put_item(self, uint32_t task, value):
        """The next item of a call's results; False if nobody wants more."""
        cdef ObjectRef ref = encode_object(self.x.session, value, 0, False)
        return pr_stream_put(&self.x.session.s, self.x.session.s.tasks[task].first_return,
                             ref.handle) == 0

    def has_room(self, uint32_t task):
        """Whether the call may yield another item: 1, -1 if nobody wants more, or 0, not yet."""
        cdef PrSession *s = &self.x.session.s
        cdef int status
        if not s.tasks[task].backlog:
            return 1
        status = pr_stream_room(s, task, 0, 0)
        return 1 if status == 0 else 0 if status == PR_TIMEOUT else -1

    def cancelled(self, tasks):
        """Which of these calls were asked to stop since the last time."""
        cdef PrActor *a = &self.x.session.s.actors[self.actor]
        cdef uint32_t task
        found = []
        if self.cancels == a.cancels:
            return found
        self.cancels = a.cancels
        for task in tasks:
            if self.x.session.s.tasks[task].state & PR_CANCEL:
                pr_heard(&self.x.session.s, task)
                found.append(task)
        return found
