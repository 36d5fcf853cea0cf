"""What a task raises is raised by get: both RayTaskError and the user's class, whatever that is."""

from __future__ import annotations

import builtins
import json
import os
import pickle
import subprocess
import sys
import threading

import cloudpickle
import pytest

import pyray
from pyray import exceptions
from pyray.runtime import causes
from pyray.runtime.exceptions import (
    ActorExit,
    RayTaskError,
    actor_failure,
    as_raised,
    from_code,
    task_failure,
)


class OddInit(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")
        self.first = first
        self.second = second


class Unpicklable(Exception):
    code = None

    def __init__(self, message):
        super().__init__(message)
        self.lock = threading.Lock()
        self.code = 7


class Slots(Exception):
    __slots__ = ("number",)

    def __init__(self, number):
        self.number = number


class Final(Exception):
    def __init_subclass__(cls, **kwargs):
        raise TypeError("this class is final")


class OwnReduce(Exception):
    def __init__(self, *, text):
        super().__init__(text)
        self.text = text

    def __reduce__(self):
        return _own_reduce, (self.text,)


def _own_reduce(text):
    return OwnReduce(text=text)


class BrokenReduce(Exception):
    def __reduce__(self):
        raise RuntimeError("not today")


class ArgsProperty(Exception):
    args = property(lambda self: ("mine",))


class SetattrRefused(Exception):
    def __setattr__(self, name, value):
        raise AttributeError("frozen")


class Hidden(Exception):
    pid = 12
    _cause = "mine"

    def __init__(self, message):
        super().__init__(message)
        self.pid = 13
        self.function_name = "mine"


class Abnormal(BaseException):
    pass


class MyOSError(OSError):
    pass


class MyKeyError(KeyError):
    def __init__(self, key):
        super().__init__(key)


def failed(error, name="f"):
    """The failure of a task that raised this, as the caller has it after the journey."""
    try:
        raise error
    except BaseException as raised:
        failure = task_failure(raised, name)
    return pyray.loads(pyray.dumps(failure))


CAUSES = [
    ValueError("wrong"),
    KeyError("key"),
    StopIteration(5),
    GeneratorExit(),
    FileNotFoundError(2, "No such file", "name"),
    UnicodeDecodeError("utf8", b"x", 0, 1, "bad"),
    SyntaxError("bad", ("file", 1, 2, "text")),
    ImportError("no", name="module", path="path"),
    subprocess.CalledProcessError(3, ["ls"]),
    json.JSONDecodeError("bad", "text", 2),
    TimeoutError("late"),
    OddInit(1, 2),
    Unpicklable("lock"),
    Slots(9),
    Final("end"),
    OwnReduce(text="own"),
    BrokenReduce("broken"),
    ArgsProperty("hidden"),
    SetattrRefused("frozen"),
    Hidden("hidden"),
    Abnormal("not an Exception"),
    MyOSError(5, "input"),
    MyKeyError("key"),
    exceptions.TaskCancelledError(),
    exceptions.GetTimeoutError("late"),
]


@pytest.mark.parametrize("error", CAUSES, ids=lambda error: type(error).__name__)
def test_raised_as_both_classes(error):
    raised = as_raised(failed(error))
    assert isinstance(raised, RayTaskError)
    assert isinstance(raised, type(error))
    assert type(raised.cause) is type(error)
    assert raised.cause_cls is type(error)
    assert type(raised).__name__ == f"RayTaskError({type(error).__name__})"
    with pytest.raises(type(error)):
        raise raised


@pytest.mark.parametrize("error", CAUSES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("codec", [pyray, pickle, cloudpickle], ids=lambda codec: codec.__name__)
def test_raised_error_travels_again(error, codec):
    raised = as_raised(failed(error))
    again = codec.loads(codec.dumps(raised))
    assert type(again).__name__ == type(raised).__name__
    assert isinstance(again, type(error))
    assert str(again) == str(raised)


def test_attributes_of_the_cause():
    raised = as_raised(failed(OddInit(1, 2)))
    assert (raised.first, raised.second) == (1, 2)
    assert raised.cause.args == ("1 and 2",)
    raised = as_raised(failed(Unpicklable("lock")))
    assert raised.code == 7  # not that of the class
    assert not hasattr(raised, "lock") and not hasattr(raised.cause, "lock")
    assert as_raised(failed(Slots(9))).number == 9
    raised = as_raised(failed(FileNotFoundError(2, "No such file", "name")))
    assert (raised.errno, raised.strerror, raised.filename) == (2, "No such file", "name")
    assert RayTaskError.of(SystemExit(3), "f").cause.code == 3
    assert as_raised(failed(StopIteration(5))).value == 5
    assert as_raised(failed(ImportError("no", name="module"))).name == "module"


def test_args_are_the_cause_as_in_ray():
    raised = as_raised(failed(ValueError("a", 2)))
    assert raised.args == (raised.cause,)
    assert raised.cause.args == ("a", 2)
    assert repr(raised) == "RayTaskError(ValueError)(ValueError('a', 2))"


def test_own_attributes_do_not_hide_those_of_the_user():
    raised = as_raised(failed(Hidden("x")))
    assert (raised.pid, raised.function_name, raised._cause) == (13, "mine", "mine")
    assert f"(pid={os.getpid()}, ip=127.0.0.1)" in str(raised)


def test_arguments_that_cannot_be_sent_become_text():
    raised = as_raised(failed(ValueError("lock", threading.Lock(), 3)))
    text, lock, number = raised.cause.args
    assert (text, number) == ("lock", 3)
    assert lock.startswith("<unlocked _thread.lock object")


def test_class_that_cannot_be_sent_becomes_its_base():
    lock = threading.Lock()

    class Local(KeyError):
        held = lock

    raised = as_raised(failed(Local("key")))
    assert isinstance(raised, KeyError)
    assert type(raised.cause) is KeyError
    assert "Local: 'key'" in str(raised)


def test_class_of_main_goes_by_value():
    program = (
        "import pyray, sys\n"
        "from pyray.runtime.exceptions import task_failure\n"
        "class Mine(Exception):\n"
        "    def __init__(self, a, b): super().__init__(a + b)\n"
        "try: raise Mine('a', 'b')\n"
        "except Mine as error: sys.stdout.buffer.write(pyray.dumps(task_failure(error, 'f')))\n"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
    raised = as_raised(pyray.loads(out))
    assert type(raised).__name__ == "RayTaskError(Mine)"
    assert type(raised.cause).__name__ == "Mine" and raised.cause.args == ("ab",)


def test_class_that_the_reader_does_not_have():
    blob = pyray.dumps(failed(ValueError("text of it")))
    failure = pyray.loads(blob)
    failure._ray_packed = pyray.dumps((1, "no exception", (), {}, {}))
    raised = as_raised(failure)
    assert type(raised) is RayTaskError
    assert isinstance(raised.cause, exceptions.UnserializableException)
    assert "text of it" in str(raised) and "text of it" in str(raised.cause)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with 3.11")
def test_exception_group():
    group = builtins.ExceptionGroup("several", [ValueError(1), OddInit(1, 2), Unpicklable("x")])
    raised = as_raised(failed(group))
    assert isinstance(raised, builtins.ExceptionGroup)
    assert raised.message == "several"
    assert [type(part) for part in raised.exceptions] == [ValueError, OddInit, Unpicklable]
    assert raised.subgroup(OddInit) is not None


def test_nobody_is_interrupted_or_ended_by_a_failure():
    raised = as_raised(failed(KeyboardInterrupt()))
    assert type(raised) is RayTaskError
    assert type(raised.cause) is KeyboardInterrupt
    assert type(as_raised(RayTaskError.of(SystemExit(3), "f"))) is RayTaskError


def test_task_that_exits():
    raised = as_raised(failed(SystemExit(3)))
    assert type(raised) is exceptions.WorkerCrashedError
    assert "status 3" in str(raised)


def test_builtin_that_task_error_is_already():
    assert type(as_raised(failed(Exception("plain")))) is RayTaskError
    assert type(as_raised(failed(exceptions.RayError("ours")))) is RayTaskError


def test_text_has_the_remote_traceback_without_our_frames():
    def inner():
        raise ValueError("deep")

    def outer():
        try:
            inner()
        except ValueError as error:
            raise RuntimeError("on top") from error

    try:
        outer()
    except RuntimeError as error:
        text = str(as_raised(task_failure(error, "work")))
    lines = text.splitlines()
    assert lines[0] == f"ray::work() (pid={os.getpid()}, ip=127.0.0.1)"
    assert "in inner" in text and "in outer" in text
    assert "ValueError: deep" in text
    assert "The above exception was the direct cause" in text
    assert lines[-1] == "RuntimeError: on top"
    assert "pyray/runtime" not in text


def test_failure_of_a_task_in_a_task_keeps_the_first_cause():
    try:
        raise as_raised(failed(KeyError("first"), "inner"))
    except KeyError as error:
        failure = task_failure(error, "outer")
    raised = as_raised(pyray.loads(pyray.dumps(failure)))
    assert type(raised).__name__ == "RayTaskError(KeyError)"
    assert type(raised.cause) is KeyError
    assert "ray::outer()" in str(raised) and "ray::inner()" in str(raised)


def test_error_whose_text_fails():
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    text = str(task_failure(Mute(), "f"))
    assert text.startswith("ray::f() ")
    assert "Mute" in text


def test_task_error_as_ray_makes_it():
    cause = ValueError("x")
    error = RayTaskError("f", "Traceback (most recent call last):\nValueError: x", cause, pid=5)
    assert (error.function_name, error.pid, error.ip) == ("f", 5, "127.0.0.1")
    assert error.cause is cause
    assert isinstance(error.as_instanceof_cause(), ValueError)
    assert str(error) == "ray::f() (pid=5, ip=127.0.0.1)\nValueError: x"


def test_packing_never_calls_the_constructor():
    calls = []

    class Counted(Exception):
        def __init__(self):
            calls.append(1)
            super().__init__("arguments it does not take")

    blob = causes.pack(Counted())
    assert causes.unpack(blob).args == ("arguments it does not take",)
    assert calls == [1]


# -- failures by the system ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "cls"),
    [
        (1, "WorkerCrashedError"),
        (2, "TaskCancelledError"),
        (3, "ObjectLostError"),
        (4, "ActorDiedError"),
        (5, "OutOfMemoryError"),
        (6, "RuntimeEnvSetupError"),
        (7, "ObjectStoreFullError"),
        (8, "OwnerDiedError"),
        (9, "ReferenceCountingAssertionError"),
        (10, "ActorUnavailableError"),
        (99, "RaySystemError"),
    ],
)
def test_codes(code, cls):
    for text in ("", "it exited with status 3."):
        error = from_code(code, text, "abcd")
        assert type(error) is getattr(exceptions, cls)
        assert text in str(error) and len(str(error)) > 20
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error) and str(again) == str(error)
        assert str(pyray.loads(pyray.dumps(error))) == str(error)


def test_lost_objects_say_which():
    for code in (3, 8, 9):
        assert "abcd" in str(from_code(code, "", "abcd"))
        assert from_code(code, "", "abcd").object_ref_hex == "abcd"


MADE = {
    "RayTaskError": ("f", "Traceback", ValueError("x")),
    "TaskUnschedulableError": ("why",),
    "ActorUnschedulableError": ("why",),
    "ActorUnavailableError": ("why", b"\x12"),
    "UnserializableException": ("trace",),
    "RaySystemError": ("why",),
}


@pytest.mark.parametrize("cls", exceptions.RAY_EXCEPTION_TYPES, ids=lambda cls: cls.__name__)
def test_every_exception(cls):
    args = MADE.get(cls.__name__, ("abcd",) if issubclass(cls, exceptions.ObjectLostError) else ())
    error = cls(*args)
    assert isinstance(error, exceptions.RayError)
    assert cls.__module__ == "pyray.exceptions"
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls and str(again) == str(error)
    assert isinstance(str(error), str)
    assert cls.__doc__


def test_classes_go_by_name():
    program = (
        "import sys, pyray\n"
        "from pyray.runtime.exceptions import WorkerCrashedError\n"
        "assert 'cloudpickle' not in sys.modules\n"
        "pyray.dumps(WorkerCrashedError('x'))\n"
        "assert 'cloudpickle' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_families():
    assert issubclass(exceptions.GetTimeoutError, TimeoutError)
    assert issubclass(exceptions.ActorDiedError, exceptions.RayActorError)
    assert issubclass(exceptions.ActorUnavailableError, exceptions.RayActorError)
    assert issubclass(exceptions.OwnerDiedError, exceptions.ObjectLostError)
    assert issubclass(exceptions.ObjectReconstructionFailedError, exceptions.ObjectLostError)
    assert issubclass(exceptions.ReferenceCountingAssertionError, AssertionError)


def test_actor_that_died_in_its_constructor():
    error = exceptions.ActorDiedError(as_raised(failed(ValueError("bad"), "A.__init__")))
    assert error.actor_init_failed
    assert "ValueError: bad" in str(error)
    assert not exceptions.ActorDiedError().actor_init_failed


def test_actor_failures_say_which_actor():
    error = exceptions.ActorDiedError("it was killed.", "ab" * 16)
    assert error.actor_id == "ab" * 16 and "it was killed." in str(error)
    try:
        raise ValueError("bad")
    except ValueError as cause:
        failed_call = task_failure(cause, "A.f", ("<A object>", "ab" * 16))
        failed_actor = actor_failure(cause, "A.__init__", ("A", "ab" * 16))
    assert f"actor_id={'ab' * 16}, repr=<A object>" in str(failed_call)
    assert failed_actor.actor_id == "ab" * 16 and failed_actor.actor_init_failed
    for error in (error, failed_call, failed_actor):
        again = pickle.loads(pickle.dumps(error))
        assert str(again) == str(error)
        assert getattr(again, "actor_id", None) == getattr(error, "actor_id", None)


def test_actor_whose_constructor_leaves():
    for leaving, text in ((SystemExit(3), "status 3"), (ActorExit(), "exit_actor")):
        error = actor_failure(leaving, "A.__init__")
        assert type(error) is exceptions.ActorDiedError and text in str(error)
        assert not error.actor_init_failed
