"""Functions on their way to workers: what is published, what is refused, what is warned of."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest

from pyray.runtime import functions


class Session:
    """What was published in it: the same key has the same number."""

    def __init__(self):
        self.blobs = {}


@pytest.fixture(autouse=True)
def publish(monkeypatch):
    """In place of the core's: a reference is a text with the number of the blob."""

    def publish(session, key, blob):
        assert len(key) == 16
        session.blobs.setdefault(key, bytes(blob))
        return f"reference {1 + list(session.blobs).index(key)}"

    monkeypatch.setattr(functions._core, "publish", publish)
    functions.forget()
    yield
    functions.forget()


def made(source, **variables):
    """The function `f` of a module that cannot be imported, so that it travels by value."""
    namespace = {"__name__": "made_at_run_time", **variables}
    exec(source, namespace)
    return namespace["f"]


def test_published_once():
    session = Session()
    f = made("def f(x): return x + 1")
    number = functions.published(session, f, {})
    assert functions.published(session, f, {}) == number
    assert functions.published(session, made("def f(x): return x + 1"), {}) == number
    (blob,) = session.blobs.values()
    function, options = functions.load(session, 1, blob)
    assert function(1) == 2 and options == {}


def test_new_code_has_a_new_id():
    session = Session()
    one = functions.published(session, made("def f(x): return x + 1"), {})
    two = functions.published(session, made("def f(x): return x + 2"), {})
    assert one != two


def test_each_session_has_its_own():
    f = made("def f(): return 1")
    first, second = Session(), Session()
    functions.published(first, f, {})
    functions.published(second, f, {})
    assert len(first.blobs) == len(second.blobs) == 1
    functions.forget()
    functions.published(second, f, {})


def test_options_of_the_worker_are_part_of_it():
    session = Session()
    f = made("def f(): return 1")
    numbers = {
        functions.published(session, f, {}),
        functions.published(session, f, {"retry_exceptions": True}),
        functions.published(session, f, {"retry_exceptions": (ValueError,)}),
        functions.published(session, f, {}, collect=2),
    }
    assert len(numbers) == 4


def test_retries():
    assert not functions.retries(ValueError(), {})
    assert functions.retries(ValueError(), {"retry_exceptions": True})
    assert functions.retries(ValueError(), {"retry_exceptions": (KeyError, ValueError)})
    assert not functions.retries(OSError(), {"retry_exceptions": (KeyError,)})


def test_collected_generator():
    session = Session()
    f = made("def f(n):\n    yield from range(n)")
    functions.published(session, f, {}, collect=2)
    function, _ = functions.load(session, 1, *session.blobs.values())
    assert function(2) == (0, 1)
    assert function(5) == (0, 1)
    assert function(1) == (0,)
    assert functions.Collected(f, 1)(3) == 0


def test_captured_variable_that_cannot_be_sent():
    f = made("def f(): return lock", lock=threading.Lock())
    with pytest.raises(TypeError) as caught:
        functions.encode(f, {})
    text = str(caught.value)
    assert text.startswith("Could not serialize the function made_at_run_time.f: ")
    assert "f -> global 'lock'" in text
    assert "What to do about each" in text


def test_argument_that_cannot_be_sent():
    lock = threading.Lock()
    error = functions.argument_error(TypeError("x"), (1, [lock]), {}, "m.f")
    assert str(error).startswith("Could not serialize the argument 1 of m.f")
    assert "[0]" in str(error) and isinstance(error, TypeError)
    error = functions.argument_error(TypeError("x"), (), {"key": lock}, "m.f")
    assert "the argument key of m.f" in str(error)
    original = TypeError("x")
    assert functions.argument_error(original, (1,), {}, "f") is original


def test_put_and_result_that_cannot_be_sent():
    lock = threading.Lock()
    assert "Could not serialize the put value <unlocked" in str(
        functions.put_error(TypeError(), lock)
    )
    text = str(functions.result_error(TypeError(), lock, "f"))
    assert "Could not serialize the result <unlocked" in text and "of the task f" in text


def test_large_function_names_its_variables():
    f = made(
        "def f(): return len(table) + small + len(words)",
        table=np.zeros(300_000),
        small=3,
        words=["word"] * 10,
    )
    with pytest.warns(UserWarning, match="made_at_run_time.f is 2.4 MB") as told:
        functions.encode(f, {})
    text = str(told[0].message)
    assert "table (2.4 MB)" in text
    assert text.index("table") < text.index("words")
    assert "put()" in text and "f.remote(ref)" in text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        functions.encode(f, {})  # once is enough


def test_variables_around_a_function_and_its_defaults():
    big = np.zeros(200_000)

    def make():
        def f(data=np.ones(250_000)):
            return big, data

        return f

    sizes = functions.captured_sizes(make())
    assert sizes["big"] > 1_600_000 and sizes["default 0"] > 2_000_000


def test_function_that_is_far_too_large(monkeypatch):
    monkeypatch.setattr(functions, "ERROR_BYTES", 2_000_000)
    f = made("def f(): return table", table=np.zeros(300_000))
    with pytest.raises(ValueError, match=r"too large \(the limit is 2.0 MB\).*table \(2.4 MB\)"):
        functions.encode(f, {})


def test_small_functions_are_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        functions.encode(made("def f(): return table", table=np.zeros(100_000)), {})
