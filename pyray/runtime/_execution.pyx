"""Running one task: its function, its arguments, its results, its failure.

What the loops of workers (_worker.pyx) and of actors (_actor.pyx) have in common. Results are
sealed one by one before the task is finished; an attempt that comes later leaves those alone that
are sealed. Imports `exceptions`, `functions` and `generators` when needed.
"""

from libc.stdint cimport uint32_t, uint64_t

from pyray.runtime._object cimport ObjectRef, encode_object, value_of, wait_for_room
from pyray.serialization._decoder cimport decode
from pyray.store._session cimport *
from pyray.store._spilled cimport LOOK_AHEAD, fetch_ahead

from collections import deque

cdef extern from "Python.h":
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


def task_errors():
    """The latest failures of tasks that ran in this process."""
    return list(failures)


cdef int shorten(dict loaded) except -1:
    """Of too many, the half that was loaded first goes: functions may be made for ever."""
    if len(loaded) >= MOST_LOADED:
        for key in list(loaded)[:MOST_LOADED // 2]:
            del loaded[key]
    return 0


cdef bint is_small(object value):
    """Whether a value is sealed, and can be given up, at once and without any user code."""
    cdef type cls = type(value)
    if cls is bytes or cls is str:
        return len(value) < SMALL
    return value is None or cls is bool or cls is int or cls is float


cdef Label read_label(bytes data):
    """What _task.pyx, Call, has written."""
    cdef Label label = Label.__new__(Label)
    about, label.name = data.rstrip(b"\0").decode().split(" ", 1)
    if about.isdigit():
        label.max_calls = int(about)
        return label
    label.method, _, label.group = about.partition("@")
    if label.method in ("__ray_ready__", "__ray_terminate__", "__ray_call__"):
        label.special = label.method.strip("_")
    return label


cdef class Execution:
    """What a process that runs tasks knows of their functions. `hooks`: worker.py."""

    cdef PrHandle handle_of(self, uint32_t slot):
        """Of an object that the task holds."""
        return pr_handle(self.session.s.objects[slot].state, slot)

    cdef Label label(self, uint32_t number):
        cdef PrHandle handle = self.handle_of(number)
        cdef Label label
        if number == self.latest_number and self.latest.handle == handle:
            return self.latest
        label = self.labels.get(number)
        if label is None or label.handle != handle:
            shorten(self.labels)
            label = read_label(bytes(self.session.function(number)))
            label.handle = handle
            self.labels[number] = label
        self.latest = label
        self.latest_number = number
        return label

    cdef list gpu_ids(self):
        cdef uint64_t bits = self.session.s.self.gpus
        return [i for i in range(64) if bits >> i & 1]

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

    # -- arguments ------------------------------------------------------------------------------

    cdef tuple arguments(self, PrTask *t):
        """Positional arguments, and keyword ones or None."""
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
        values = self.dependencies(t)
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

    cdef list dependencies(self, PrTask *t):
        cdef PrSession *s = &self.session.s
        cdef uint32_t k, i, n
        cdef uint32_t[LOOK_AHEAD] slots
        cdef list values = []
        for k in range(t.n_dependencies):
            slots[0] = pr_dependency(s, t, k)
            if s.objects[slots[0]].state & PR_OUT:
                n = min(t.n_dependencies - k, <uint32_t> LOOK_AHEAD)
                for i in range(1, n):
                    slots[i] = pr_dependency(s, t, k + i)
                fetch_ahead(self.session, slots, n)
            values.append(value_of(self.session, slots[0], False))
        return values

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
        if t.flags & PR_TASK_ITEMS:
            return 0  # they are there
        if t.n_returns == 1:
            if t.flags & PR_TASK_DYNAMIC:
                from pyray.runtime.generators import DynamicObjectRefGenerator
                result = DynamicObjectRefGenerator(
                    [encode_object(self.session, value, 0, False) for value in result])
            if not self.serves_actor and is_small(result):
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

    cdef int stream(self, uint32_t task, PrTask *t, object result) except -1:
        """What a generator yields, one by one; what an earlier attempt has made is skipped. The
        generator goes on when there is room for more."""
        cdef PrSession *s = &self.session.s
        cdef uint32_t stream = t.first_return
        cdef uint32_t done
        cdef ObjectRef ref
        if not hasattr(result, "__next__"):
            raise TypeError(
                "a task with num_returns='streaming' must be a generator: it returned "
                f"{type(result).__name__}")
        if t.flags & PR_TASK_ITEMS:
            return self.stream_again(t, result)
        done = (<PrStream *> s.objects[stream].bytes).produced
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
            if t.backlog and not wait_for_room(self.session, task):
                result.close()
                break
        return 0

    cdef int stream_again(self, PrTask *t, object result) except -1:
        """The items of a generator that were lost; the others are skipped."""
        cdef uint32_t number = 0, slot
        cdef str name = self.label(t.label).name
        for value in result:
            slot = pr_item(&self.session.s, t, number)
            number += 1
            if slot:
                self.seal_one(slot, value, name)
            if not self.has_pending(t):
                result.close()
                return 0
        raise ValueError(
            f"the generator has yielded {number} values this time, fewer than when it ran before")

    cdef bint has_pending(self, PrTask *t):
        cdef uint32_t slot = pr_first_result(t)
        while slot and not self.is_pending(slot):
            slot = pr_next_result(&self.session.s, t, slot)
        return slot != 0

    # -- failures -------------------------------------------------------------------------------

    cdef bint tries_again(self, uint32_t task, PrTask *t, object error) except -1:
        """Whether a task that raised is to be run once more, as it is by now."""
        cdef Function f
        if not (t.flags & PR_TASK_RETRY_EXCEPTIONS and t.retries_left):
            return False
        f = self.function(t.function)
        if f.options is None or not self.hooks.retry(error, f.options):
            return False
        return pr_retry(&self.session.s, task)

    cdef int raised(self, uint32_t task, PrTask *t, Label label, object error) except -1:
        """The task is over: it raised."""
        failure = self.hooks.failure(error, label.name)
        failures.append(failure)
        return self.store_failure(task, t, failure, error)

    cdef int store_failure(self, uint32_t task, PrTask *t, object failure, object error) except -1:
        """The failure is the value of all results that are not sealed yet."""
        cdef uint32_t slot = pr_first_result(t), next_slot
        while slot:
            next_slot = pr_next_result(&self.session.s, t, slot)
            if self.is_pending(slot):
                try:
                    encode_object(self.session, failure, slot, True)
                except Exception as problem:
                    text = f"{type(error).__name__}: {error} ({problem})"
                    pr_fail(&self.session.s, slot, OBJECT_LOST, text.encode()[:75])
            slot = next_slot
        pr_finish(&self.session.s, task)
        return 0
