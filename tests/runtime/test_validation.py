"""Wrong arguments: Ray's exception, and a message that says what to do."""

from __future__ import annotations

import inspect
import threading
import warnings

import numpy as np
import pytest

import pyray as ray

pytestmark = pytest.mark.usefixtures("session")

LOCK = threading.Lock()


@ray.remote
def f(a, b=2, *c, d=4):
    return a


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: f(1), TypeError, r"cannot be called directly.*try '.*\.f\.remote\(\)'"),
        (lambda: f.remote(), TypeError, "missing a required argument: 'a'"),
        (lambda: f.remote(1, e=5), TypeError, "unexpected keyword argument 'e'"),
        (lambda: f.remote(1, a=5), TypeError, "multiple values for argument 'a'"),
        (lambda: f.nothing, AttributeError, "no attribute 'nothing'"),
        (lambda: ray.get(1), ValueError, "Invalid type of object refs, <class 'int'>"),
        (lambda: ray.get((ray.put(1),)), ValueError, "<class 'tuple'>.*list"),
        (lambda: ray.get(None), ValueError, "'object_refs' must either be an ObjectRef or a list"),
        (lambda: ray.get([1]), TypeError, "call `get` on the value 1, which is not an ObjectRef"),
        (lambda: ray.get([ray.put(1), "x"]), TypeError, "on the value 'x'"),
        (lambda: ray.get(f), ValueError, "Invalid type"),
        (lambda: ray.get(ray.ObjectRef.nil()), ValueError, "nil|nothing"),
        (lambda: ray.get(ray.put(1), timeout=-2), ValueError, "must be nonnegative. Received -2"),
        (lambda: ray.get(ray.put(1), timeout="1"), TypeError, "number of seconds"),
        (lambda: ray.get(ray.put(1), 5), TypeError, "positional"),
        (lambda: ray.put(ray.put(1)), TypeError, "'put' on an ObjectRef is not allowed"),
        (lambda: ray.put(LOCK), TypeError, "Could not serialize the put value <unlocked"),
        (lambda: ray.put({"a": [LOCK]}), TypeError, r"\['a'\]\[0\]"),
        (lambda: f.remote(LOCK), TypeError, "Could not serialize the argument 0"),
        (lambda: f.remote(1, d=[LOCK]), TypeError, "Could not serialize the argument d"),
        (lambda: ray.wait(ray.put(1)), TypeError, "expected a list of ObjectRef.*got a single one"),
        (lambda: ray.wait((ray.put(1),)), TypeError, "<class 'tuple'>"),
        (lambda: ray.wait([1]), TypeError, "list containing <class 'int'>"),
        (lambda: ray.wait([ray.put(1), None]), TypeError, "list containing <class 'NoneType'>"),
        (lambda: ray.wait([ray.put(1)] * 2), ValueError, "unique"),
        (lambda: ray.wait([ray.put(1)], num_returns=0), ValueError, "Invalid number of objects"),
        (lambda: ray.wait([ray.put(1)], num_returns=-1), ValueError, "Invalid number of objects"),
        (lambda: ray.wait([ray.put(1)], num_returns=2), ValueError, "cannot be greater"),
        (lambda: ray.wait([ray.put(1)], num_returns=1.0), TypeError, "must be an integer"),
        (lambda: ray.wait([ray.put(1)], timeout=-1), ValueError, "must be nonnegative"),
        (lambda: ray.wait([ray.put(1)], timeout="1"), TypeError, "number of seconds"),
        (lambda: ray.cancel(1), TypeError, "only supported for object refs"),
        (lambda: ray.cancel([ray.put(1)]), TypeError, "only supported for object refs"),
        (lambda: ray.cancel(ray.put(1), force=1), TypeError, "force must be True or False"),
        (lambda: ray.remote(), TypeError, "no arguments and no parentheses"),
        (lambda: ray.remote(1), TypeError, "no arguments and no parentheses"),
        (lambda: ray.remote(f, num_cpus=1), TypeError, "no arguments and no parentheses"),
        (lambda: ray.remote(num_cpus=1)(5), TypeError, "either a function or a class"),
        (lambda: ray.remote(len), TypeError, "either a function or a class"),
        (lambda: ray.remote(f), TypeError, "either a function or a class"),
        (lambda: ray.remote(nonsense=1)(f), (TypeError, ValueError), "nonsense|function"),
        (lambda: f.options(nonsense=1), ValueError, "Invalid option keyword nonsense"),
        (lambda: f.options(num_cpus="x"), TypeError, "num_cpus"),
        (lambda: f.options(max_calls=1), ValueError, "'max_calls' is not supported"),
        (lambda: f.options(num_returns="streaming"), ValueError, "generator functions"),
        (lambda: f.options(runtime_env={"x": 1}), ValueError, "no field 'x'"),
        (lambda: ray.method(nonsense=1), ValueError, "nonsense"),
    ],
)
def test_refused(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_async_functions():
    with pytest.raises(
        ValueError, match="'async def' should not be used for remote tasks.*asyncio.run"
    ):

        @ray.remote
        async def f():
            pass

    with pytest.raises(ValueError, match="'async def'"):

        @ray.remote
        async def g():
            yield 1


def test_nothing_is_sent_when_the_arguments_do_not_fit(tmp_path):
    marker = tmp_path / "ran"

    @ray.remote
    def touch(a):
        marker.touch()

    with pytest.raises(TypeError):
        touch.remote()
    assert not marker.exists()


def test_captured_variable_that_cannot_be_sent():
    @ray.remote
    def uses():
        return LOCK

    with pytest.raises(TypeError) as caught:
        uses.remote()
    text = str(caught.value)
    assert "Could not serialize the function" in text and "'LOCK'" in text
    assert "What to do about each" in text


def test_result_that_cannot_be_sent():
    @ray.remote
    def makes():
        return {"key": threading.Lock()}

    with pytest.raises(TypeError, match="Could not serialize the result") as caught:
        ray.get(makes.remote())
    assert isinstance(caught.value, ray.exceptions.RayTaskError)
    assert "['key']" in str(caught.value)


def test_large_function():
    table = np.zeros(200_000)

    @ray.remote
    def uses():
        return table.sum()

    with pytest.warns(UserWarning, match=r"uses is 1.6 MB.*table \(1.6 MB\)") as told:
        ref = uses.remote()
    assert told[0].filename == __file__
    assert ray.get(ref) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ray.get(uses.remote())


def test_functions_tell_what_they_are():
    for name in ("get", "put", "wait", "remote", "cancel", "init"):
        function = getattr(ray, name)
        assert function.__name__ == name and function.__doc__.strip()[0].isupper()
    assert str(inspect.signature(ray.get)).startswith("(object_refs, *, timeout=None")
    assert str(inspect.signature(f)) == "(a, b=2, *c, d=4)"


def test_old_spellings():
    with pytest.warns(DeprecationWarning, match="num_return_vals"):

        @ray.remote(num_return_vals=2)
        def two():
            return 1, 2

    assert ray.get(two.remote()) == [1, 2]
    with pytest.warns(DeprecationWarning, match="num_return_vals"):
        assert ray.get(two.options(num_return_vals=1).remote()) == (1, 2)


def test_method():
    class Plain:
        @ray.method(num_returns=2)
        def two(self):
            return 1, 2

        @ray.method
        def one(self):
            return 1

    assert Plain().two() == (1, 2) and Plain.two.__ray_num_returns__ == 2
    assert Plain().one() == 1
