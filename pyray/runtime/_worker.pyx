"""The loop of a worker: take a task, call its function, seal its results.

A crash at any point leaves the task RUNNING with a dead worker: it is tried again, or its results
fail, by the recovery (csrc/recover.c). Results are sealed one by one before the task is finished;
one that is tried again leaves those alone that are sealed.

`hooks` does what is slow or rare (worker.py). Imports `functions` and `generators` when needed.
"""

cimport cython
from libc.stdint cimport uint32_t, uint64_t

from pyray.runtime._object cimport (
    ObjectRef,
    encode_object,
    end_task,
    ref_to,
    set_in_task,
    value_of,
    wait_for_room,
)
from pyray.runtime._task cimport set_parent
from pyray.serialization._decoder cimport decode
from pyray.store._session cimport *

from collections import deque

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1
    bytes PyBytes_FromStringAndSize(const char *data, Py_ssize_t size)

cdef enum:
    KEYWORDS = 8
    PLACED = 16
    OBJECT_LOST = 3
    CANCELLED = 2
    MOST_LOADED = 1000
    SMALL = 1000

# Failures of tasks of this process, the latest last: for error_info().
cdef object failures = deque(maxlen=256)


cdef class Function:
    """A function that this worker has loaded, and what its tasks have in common."""

    cdef PrHandle handle  # of the object it came from, which may be gone: its slot another's
    cdef object function, options
    cdef object error  # why it could not be loaded
    cdef int calls     # that count, for those with max_calls


cdef class Label:
    cdef PrHandle handle
    cdef str name
    cdef int max_calls


cdef Worker worker = None  # of this process


cdef int shorten(dict loaded) except -1:
    """Of too many, the half that was loaded first goes: functions may be made for ever."""
    if len(loaded) >= MOST_LOADED:
        for key in list(loaded)[:MOST_LOADED // 2]:
            del loaded[key]
    return 0


def current_task():
    """What this process is doing, if it is a worker that runs a task; else None."""
    cdef PrTask *t
    if worker is None or not worker.task:
        return None
    t = &worker.session.s.tasks[worker.task]
    return {
        "task_id": f"{pr_handle(t.state, worker.task):032x}",
        "name": worker.label(t.label).name, "attempt": t.attempt,
        "resources": worker.session.resources_of(t.shape), "gpu_ids": worker.gpu_ids(),
        "parent": f"{t.parent:032x}"}


def current_function():
    """The function of the task that this worker runs; None if it could not be loaded."""
    return worker.function(worker.session.s.tasks[worker.task].function).function


def own_function(uint64_t handle):
    """A reference to the function of the task that this worker runs if that is the object, or None.

    Any other may be gone.
    """
    cdef uint32_t slot
    if worker is None or not worker.task:
        return None
    slot = worker.session.s.tasks[worker.task].function
    return ref_to(worker.session, slot) if worker.handle_of(slot) == handle else None


def cancel_requested():
    """Whether the task that runs shall stop: it will, as it has heard of it now."""
    if worker is None or not worker.task or not worker.in_user_code:
        return False
    if not worker.session.s.tasks[worker.task].state & PR_CANCEL:
        return False
    pr_heard(&worker.session.s, worker.task)
    return True


def task_errors():
    """The latest failures of tasks that ran in this process."""
    return list(failures)


def run_worker(Session session, hooks):
    """Runs tasks until the worker shall leave."""
    global worker
    worker = Worker.__new__(Worker)
    worker.session = session
    worker.hooks = hooks
    worker.functions, worker.labels = {}, {}
    worker.shape = PR_NO_SHAPE
    set_in_task(True)
    try:
        worker.run()
    finally:
        set_in_task(False)
        pr_worker_rest(&session.s)
        worker = None


cdef bint is_small(object value):
    """Whether a value is sealed, and can be given up, at once and without any user code."""
    cdef type cls = type(value)
    if cls is bytes or cls is str:
        return len(value) < SMALL
    return value is None or cls is bool or cls is int or cls is float


@cython.final
cdef class Worker:
    cdef Session session
    cdef object hooks
    cdef dict functions, labels  # by slot
    cdef uint32_t task      # slot of the one that runs, 0: none
    cdef bint in_user_code
    cdef uint32_t shape     # that the process is set up for
    cdef bint leaving
    cdef object env_error

    cdef int run(self) except -1:
        cdef PrSession *s = &self.session.s
        cdef uint32_t task
        cdef int status
        if s.self.env:
            self.set_up()
        while not self.leaving:
            task = pr_next_queued(s)
            if not task:
                with nogil:
                    status = pr_next_task(s, &task, -1)
                if status == PR_INTERRUPTED:
                    PyErr_CheckSignals()
                if status == PR_ENDED:
                    return 0
                if status:
                    continue
            self.execute(task)
        return 0

    cdef int set_up(self) except -1:
        try:
            self.hooks.setup_env(self.session.env(self.session.s.self.env))
        except Exception as error:
            self.env_error = error
        return 0

    cdef PrHandle handle_of(self, uint32_t slot):
        """Of an object that the task holds."""
        return pr_handle(self.session.s.objects[slot].state, slot)

    cdef Label label(self, uint32_t number):
        cdef Label label = self.labels.get(number)
        cdef PrHandle handle = self.handle_of(number)
        if label is None or label.handle != handle:
            shorten(self.labels)
            label = Label.__new__(Label)
            label.handle = handle
            calls, name = bytes(self.session.function(number)).rstrip(b"\0").decode().split(" ", 1)
            label.name, label.max_calls = name, int(calls)
            self.labels[number] = label
        return label

    cdef list gpu_ids(self):
        cdef uint64_t bits = self.session.s.self.gpus
        return [i for i in range(64) if bits >> i & 1]

    # -- one task -------------------------------------------------------------------------------

    cdef int execute(self, uint32_t task) except -1:
        cdef PrSession *s = &self.session.s
        cdef PrTask *t = &s.tasks[task]
        cdef PrHandle handle = pr_handle(t.state, task)
        cdef uint32_t failed = 0
        cdef bint set_up = False
        if self.env_error is not None:
            self.store_failure(task, t, self.env_error, self.env_error)
            return 0
        if t.n_dependencies:
            failed = pr_failed_dependency(s, task)
            if failed:
                pr_fail_task_like(s, task, failed)
                return 0
        if t.state & PR_CANCEL:
            pr_fail_task(s, task, CANCELLED, b"")
            return 0
        self.task = task
        set_parent(handle)
        try:
            if t.shape != self.shape:
                set_up = self.prepare(t)
            self.call(task, t)
        finally:
            set_parent(0)
            end_task(self.session)
            if set_up:
                self.hooks.after(current_task())
            self.task = 0
        return 0

    cdef bint prepare(self, PrTask *t) except -1:
        """The environment of tasks with GPUs, or with other CPUs than the last."""
        self.shape = t.shape
        task = current_task()
        self.hooks.before(task)
        if task["gpu_ids"]:
            self.shape = PR_NO_SHAPE  # others the next time
            return True
        return False

    cdef Function function(self, uint32_t number):
        cdef Function f = self.functions.get(number)
        cdef PrHandle handle = self.handle_of(number)
        if f is None or f.handle != handle:
            shorten(self.functions)
            f = Function.__new__(Function)
            f.handle = handle
            try:
                f.function, f.options = self.hooks.load(
                    self.session, handle, self.session.function(number))
            except Exception as error:
                f.error = error
            self.functions[number] = f
        return f

    cdef int call(self, uint32_t task, PrTask *t) except -1:
        cdef Function f = self.function(t.function)
        cdef Label label = self.label(t.label)
        cdef object result
        try:
            if f.error is not None:
                raise f.error
            args, kwargs = self.arguments(t)
            self.in_user_code = True
            try:
                if kwargs is None:
                    result = f.function(*args)
                else:
                    result = f.function(*args, **kwargs)
                args = kwargs = None
                if t.flags & PR_TASK_STREAMING:
                    self.stream(t, result)
                    result = None
            finally:
                self.in_user_code = False
            if self.session.dead:
                self.hooks.end_fork(label.name, None)
            self.seal(t, result, label.name)
        except BaseException as error:
            if self.session.dead:
                self.hooks.end_fork(label.name, error)
            self.fail(task, t, f, label, error)
        else:
            pr_finish(&self.session.s, task)
        if label.max_calls:
            f.calls += 1
            if f.calls >= label.max_calls:
                self.leaving = True
        return 0

    cdef tuple arguments(self, PrTask *t):
        """Positional arguments, and keyword ones or None."""
        cdef PrSession *s = &self.session.s
        cdef uint32_t k
        cdef object value = None, args = (), kwargs = None
        if t.arguments:
            value = value_of(self.session, pr_slot(t.arguments), False)
        elif t.arguments_size:
            value = decode(PyBytes_FromStringAndSize(<char *> t.inline_arguments, t.arguments_size),
                           None, True, (), None)
        if not t.flags & PLACED:
            if value is None:
                return (), None
            return value if t.flags & KEYWORDS else (value, None)
        values = [value_of(self.session, pr_dependency(s, t, k), False)
                  for k in range(t.n_dependencies)]
        if value is None:
            return tuple(values), None
        args = list(value[1])
        kwargs = value[2] if t.flags & KEYWORDS else None
        for place, found in zip(value[0], values):
            if type(place) is int:
                args[place] = found
            else:
                kwargs[place] = found
        return tuple(args), kwargs

    # -- results --------------------------------------------------------------------------------

    cdef bint is_pending(self, uint32_t slot):
        return pr_state(self.session.s.objects[slot].state) == PR_OBJECT_PENDING

    cdef int seal_one(self, uint32_t slot, object value, str name) except -1:
        if not self.is_pending(slot):
            return 0  # by an earlier attempt
        try:
            encode_object(self.session, value, slot, False)
        except (MemoryError, RecursionError, KeyboardInterrupt):
            raise
        except Exception as error:
            from pyray.runtime.exceptions import RayError
            if isinstance(error, RayError):
                raise
            from pyray.runtime.functions import result_error
            raise result_error(error, value, name) from error
        return 0

    cdef int seal(self, PrTask *t, object result, str name) except -1:
        cdef uint32_t slot = t.first_return, i
        if t.n_returns == 1:
            if t.flags & PR_TASK_DYNAMIC:
                from pyray.runtime.generators import DynamicObjectRefGenerator
                result = DynamicObjectRefGenerator(
                    [encode_object(self.session, value, 0, False) for value in result])
            if is_small(result):
                pr_returning(&self.session.s)
            return self.seal_one(slot, result, name)
        if t.n_returns == 0:
            return 0
        values = self.several(result, t.n_returns, name)
        for i in range(t.n_returns):
            self.seal_one(slot, values[i], name)
            slot = self.session.s.objects[slot].next
        return 0

    cdef object several(self, object result, uint32_t n, str name):
        try:
            values = list(result)
        except TypeError:
            raise ValueError(
                f"task {name} has num_returns={n}, but returned {type(result).__name__}, which is "
                "not iterable") from None
        if len(values) != n:
            raise ValueError(
                f"Task {name} returned {len(values)} objects, but num_returns={n}.")
        return values

    cdef int stream(self, PrTask *t, object result) except -1:
        """What a generator yields, one by one; what an earlier attempt has made is skipped. The
        generator goes on when there is room for more."""
        cdef PrSession *s = &self.session.s
        cdef uint32_t stream = t.first_return
        cdef uint32_t done = (<PrStream *> s.objects[stream].bytes).produced
        cdef ObjectRef ref
        if not hasattr(result, "__next__"):
            raise TypeError(
                "a task with num_returns='streaming' must be a generator: it returned "
                f"{type(result).__name__}")
        for value in result:
            if self.session.dead:
                return 0  # a fork of this process: see call()
            if done:
                done -= 1
                if done:
                    continue
            else:
                ref = encode_object(self.session, value, 0, False)
                value = None
                if pr_stream_put(s, stream, ref.handle):
                    result.close()
                    break
                ref = None
            if t.backlog and not wait_for_room(self.session, self.task):
                result.close()
                break
        return 0

    # -- failures -------------------------------------------------------------------------------

    cdef int fail(self, uint32_t task, PrTask *t, Function f, Label label, object error) except -1:
        cdef PrSession *s = &self.session.s
        cdef bint leaves = isinstance(error, SystemExit)
        if t.state & PR_CANCEL and isinstance(error, KeyboardInterrupt):
            pr_fail_task(s, task, CANCELLED, b"")
            return 0
        if leaves:
            self.leaving = True
        elif t.flags & PR_TASK_RETRY_EXCEPTIONS and t.retries_left and f.options is not None:
            if self.hooks.retry(error, f.options) and pr_retry(s, task):
                return 0
        failure = self.hooks.failure(error, label.name)
        failures.append(failure)
        self.store_failure(task, t, failure, error)
        return 0

    cdef int store_failure(self, uint32_t task, PrTask *t, object failure, object error) except -1:
        """The failure is the value of all results that are not sealed yet."""
        cdef uint32_t slot = t.first_return, next_slot
        for _ in range(t.n_returns):
            next_slot = self.session.s.objects[slot].next
            if self.is_pending(slot):
                try:
                    encode_object(self.session, failure, slot, True)
                except Exception as problem:
                    text = f"{type(error).__name__}: {error} ({problem})"
                    pr_fail(&self.session.s, slot, OBJECT_LOST, text.encode()[:75])
            slot = next_slot
        pr_finish(&self.session.s, task)
        return 0
