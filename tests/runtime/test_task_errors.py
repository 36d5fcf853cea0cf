"""What a failing task leaves: the error of get, of its dependants, and the list of errors."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest

import pyray as ray
from pyray.exceptions import RayTaskError, WorkerCrashedError

pytestmark = pytest.mark.usefixtures("session")


class Odd(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first}/{second}")
        self.first = first


class Unpicklable(Exception):
    def __init__(self):
        super().__init__("holds a lock")
        self.lock = threading.Lock()


@ray.remote
def fail(error=None):
    raise error or ValueError("failed")


@ray.remote
def odd(first, second):
    raise Odd(first, second)


@ray.remote
def same(x):
    return x


def raised(ref):
    with pytest.raises(RayTaskError) as caught:
        ray.get(ref)
    return caught.value


def test_error_is_both():
    error = raised(fail.remote())
    assert isinstance(error, ValueError) and isinstance(error, RayTaskError)
    assert type(error.cause) is ValueError and error.cause.args == ("failed",)
    assert error.function_name == "fail"
    with pytest.raises(ValueError, match="failed"):
        ray.get([ray.put(1), fail.remote()])


def test_text():
    error = raised(fail.remote(KeyError("key")))
    lines = str(error).splitlines()
    assert lines[0] == f"ray::fail() (pid={error.pid}, ip=127.0.0.1)"
    assert lines[-1] == "KeyError: 'key'"
    assert f'File "{__file__}"' in str(error)
    assert error.pid != os.getpid()


def test_classes_of_the_module():
    error = raised(odd.remote(1, 2))
    assert isinstance(error, Odd) and error.first == 1 and str(error.cause) == "1/2"


def test_unpicklable():
    @ray.remote
    def f():
        raise Unpicklable

    assert isinstance(raised(f.remote()), Unpicklable)


def test_class_by_value():
    class Local(Exception):
        pass

    @ray.remote
    def f():
        raise Local("x")

    assert isinstance(raised(f.remote()), Local)


def test_cause_and_context_are_in_the_text():
    @ray.remote
    def f():
        try:
            1 / 0
        except ZeroDivisionError as error:
            raise RuntimeError("on top") from error

    text = str(raised(f.remote()))
    assert "ZeroDivisionError" in text and "direct cause" in text and text.endswith("on top")


def test_failure_of_every_result():
    refs = fail.options(num_returns=3).remote()
    for ref in refs:
        assert isinstance(raised(ref), ValueError)


def test_dependants_fail_with_the_first_cause():
    first = fail.remote(KeyError("first"))
    second = same.remote(first)
    third = same.remote(second)
    error = raised(third)
    assert isinstance(error, KeyError) and "first" in str(error)


def test_dependant_does_not_run(tmp_path):
    marker = tmp_path / "ran"

    @ray.remote
    def touch(x):
        marker.touch()

    raised(touch.remote(fail.remote()))
    assert not marker.exists()


def test_failure_of_a_task_in_a_task():
    @ray.remote
    def outer():
        return ray.get(odd.remote(3, 4))

    error = raised(outer.remote())
    assert isinstance(error, Odd) and type(error.cause) is Odd
    assert "ray::outer()" in str(error) and "ray::odd()" in str(error)


def test_caught_in_a_task():
    @ray.remote
    def outer():
        try:
            ray.get(fail.remote(KeyError("x")))
        except KeyError as error:
            return type(error).__name__

    assert ray.get(outer.remote()) == "RayTaskError(KeyError)"


def test_get_twice():
    ref = fail.remote()
    assert str(raised(ref)) == str(raised(ref))


def test_exception_as_a_value():
    assert type(ray.get(same.remote(ValueError("value")))) is ValueError
    assert type(ray.get(ray.put(KeyError("k")))) is KeyError


def test_function_that_cannot_be_loaded():
    class Breaks:
        def __reduce__(self):
            return exec, ("raise ImportError('not here')",)

    broken = Breaks()

    @ray.remote
    def f():
        return broken

    assert isinstance(raised(f.remote()), ImportError)


def test_argument_that_cannot_be_loaded():
    class Breaks:
        def __reduce__(self):
            return exec, ("raise ImportError('not here')",)

    assert isinstance(raised(same.remote([Breaks()])), ImportError)


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit, BaseException])
def test_not_quite_exceptions(error):
    @ray.remote(max_retries=0)
    def f():
        raise error("x")

    with pytest.raises(ray.exceptions.RayError):
        ray.get(f.remote())
    assert ray.get(same.remote(1)) == 1


# -- tries -----------------------------------------------------------------------------------


@ray.remote
def count(path, error, until):
    """Fails until it was called so often."""
    with open(path, "a") as file:
        file.write("x")
    if os.path.getsize(path) < until:
        raise error
    return os.path.getsize(path)


@pytest.mark.parametrize(
    ("options", "until", "tries"),
    [
        ({}, 2, 1),
        ({"retry_exceptions": True}, 3, 3),
        ({"retry_exceptions": True, "max_retries": 2}, 5, 3),
        ({"retry_exceptions": True, "max_retries": 0}, 5, 1),
        ({"retry_exceptions": True, "max_retries": -1}, 10, 10),
        ({"retry_exceptions": [OSError]}, 3, 1),
        ({"retry_exceptions": [OSError, ValueError]}, 3, 3),
        ({"retry_exceptions": (Exception,)}, 3, 3),
        ({"retry_exceptions": False}, 3, 1),
    ],
)
def test_tries(tmp_path, options, until, tries):
    path = str(tmp_path / "tries")
    ref = count.options(**options).remote(path, ValueError("again"), until)
    if tries == until:
        assert ray.get(ref) == until
    else:
        assert isinstance(raised(ref), ValueError)
    assert os.path.getsize(path) == tries


# -- workers that end -------------------------------------------------------------------------


@ray.remote
def end(path, how):
    with open(path, "a") as file:
        file.write("x")
    if how == "exit":
        os._exit(3)
    elif how == "system exit":
        sys.exit(3)
    elif how == "system exit 0":
        raise SystemExit
    else:
        os.kill(os.getpid(), getattr(signal, how))


@pytest.mark.parametrize("how", ["exit", "SIGKILL", "SIGSEGV"])
def test_worker_that_dies(tmp_path, how):
    path = str(tmp_path / "tries")
    with pytest.raises(WorkerCrashedError) as caught:
        ray.get(end.options(max_retries=1).remote(path, how))
    assert "died unexpectedly" in str(caught.value)
    assert os.path.getsize(path) == 2
    assert ray.get(same.remote(1)) == 1


@pytest.mark.parametrize("how", ["system exit", "system exit 0"])
def test_task_that_exits(tmp_path, how):
    with pytest.raises(WorkerCrashedError, match=r"end ended it: SystemExit, status [03]"):
        ray.get(end.remote(str(tmp_path / "tries"), how))
    assert os.path.getsize(tmp_path / "tries") == 1  # it meant to
    assert ray.get(same.remote(1)) == 1


def test_dependants_of_a_dead_worker(tmp_path):
    with pytest.raises(WorkerCrashedError):
        ray.get(same.remote(end.options(max_retries=0).remote(str(tmp_path / "t"), "exit")))


# -- the list of errors ----------------------------------------------------------------------


def test_error_info():
    refs = [fail.options(name=f"named {i}").remote(KeyError(f"key {i}")) for i in range(3)]
    ray.wait(refs, num_returns=3)
    with pytest.warns(DeprecationWarning, match="error_info"):
        errors = ray.error_info()
    mine = {error["task"]: error for error in errors if error["task"].startswith("named")}
    assert sorted(mine) == ["named 0", "named 1", "named 2"]
    assert mine["named 1"]["type"] == "KeyError"
    assert mine["named 1"]["message"] == "'key 1'"
    assert "ray::named 1()" in mine["named 1"]["traceback"]


def test_what_is_written_down_is_bounded(session, monkeypatch):
    from pyray.runtime import error_log

    monkeypatch.setattr(error_log, "LIMIT", 3000)
    for i in range(100):
        error_log.note(RayTaskError.of(ValueError(f"{i} {'x' * 100}"), "noted"), "noted")
    logs = os.path.join(session.address_info["session_dir"], "logs")
    files = [name for name in os.listdir(logs) if name.startswith("errors.jsonl")]
    assert sum(os.path.getsize(os.path.join(logs, name)) for name in files) < 8000
    noted = [error["message"].split()[0] for error in error_log.recent()]
    assert noted[-3:] == ["97", "98", "99"]
