"""Functions and classes on their way to workers: encoded once, published as an object, loaded once.

What cannot be encoded is reported with the path to it, what is large with its variables. May
import `pyray.serialization`, the core, `connection`, `options`, `warn`.
"""

from __future__ import annotations

import sys
from _blake2 import blake2b  # hashlib's, without OpenSSL's 7 ms

from . import _core, connection
from .options import options_key
from .warn import once, warn

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = [
    "GENERATORS",
    "WARN_BYTES",
    "Collected",
    "argument_error",
    "encode",
    "forget",
    "load",
    "publish",
    "published",
    "put_error",
    "result_error",
    "retries",
]

#: A function above this many bytes is worth a warning, one above the second is refused.
WARN_BYTES = 1_000_000
ERROR_BYTES = 100_000_000
#: `num_returns` of generators, as the core counts them.
GENERATORS = {"dynamic": -1, "streaming": -2}
#: So many published functions, or bytes of them, are worth a look for those that are gone.
SWEEP_COUNT, SWEEP_BYTES = 100, 1_000_000


# -- publishing ------------------------------------------------------------------------------


class _Published:
    """References to the functions of one session, by function and by what its worker does with it.

    A worker notes the handle of what it has loaded, so that a function that submits itself is not
    published again. Those that are gone are forgotten now and then: before, the same function that
    is defined once more, in a loop or in another process, is the same object.
    """

    def __init__(self, session: Any) -> None:
        from weakref import WeakKeyDictionary

        self.session = session
        self.refs: Any = WeakKeyDictionary()
        self.count = self.size = 0  # of what was published since the last sweep

    def find(self, function: Any, key: Any) -> Any:
        try:
            found = self.refs[function].get(key)
        except (KeyError, TypeError):
            return None
        return _core.own_function(found) if isinstance(found, int) else found

    def note(self, function: Any, key: Any, found: Any) -> None:
        try:
            self.refs.setdefault(function, {})[key] = found
        except TypeError:
            pass  # no weak references to it: it is published again

    def publish(self, blob: bytes) -> Any:
        if self.count >= SWEEP_COUNT or self.size >= SWEEP_BYTES:
            self.session.sweep()
            self.count = self.size = 0
        self.count += 1
        self.size += len(blob)
        return _core.publish(self.session, blake2b(blob, digest_size=16).digest(), blob)


_published: _Published | None = None


def _published_in(session: Any) -> _Published:
    global _published
    if _published is None or _published.session is not session:
        _published = _Published(session)
    return _published


def published(
    session: Any, function: Callable[..., Any], options: dict[str, Any], collect: int = 0
) -> Any:
    """A reference to the function as workers of `session` find it; it is published if need be.

    `options` are those that its worker needs; with `collect` the function is a generator whose
    first values are the results.

    Raises:
        TypeError: the function cannot be encoded.
        ValueError: it is far too large.
    """
    known = _published_in(session)
    key = (options_key(options), collect)
    ref = known.find(function, key)
    if ref is None:
        blob = encode(Collected(function, collect) if collect else function, options)
        path = connection.later_path()
        if path:
            blob = encode(Elsewhere(path, blob), options)
        ref = known.publish(blob)
    known.note(function, key, ref)
    return ref


def publish(session: Any, options: dict[str, Any]) -> Any:
    """A reference to options without a function, which `load` gives back."""
    from ..serialization import dumps

    return _published_in(session).publish(dumps((None, options)))


def load(session: Any, handle: int, blob: Any) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The function that was published as that object, and the options that its worker needs."""
    from ..serialization import deserialize

    function, options = deserialize(blob)
    if isinstance(function, Elsewhere):
        sys.path += [folder for folder in function.path if folder not in sys.path]
        function, options = deserialize(function.blob)
    collect = function.count if isinstance(function, Collected) else 0
    key = (options_key(options), collect)
    _published_in(session).note(inner_function(function), key, handle)
    return function, options


def retries(error: BaseException, options: dict[str, Any]) -> bool:
    """Whether a task with these options that raised `error` is to be run again."""
    retry = options.get("retry_exceptions", False)
    return retry if isinstance(retry, bool) else isinstance(error, retry)


def forget() -> None:
    """The session has ended."""
    global _published
    _published = None


class Elsewhere:
    """A function whose modules may be in folders that came to the driver's path after `init`."""

    def __init__(self, path: list[str], blob: bytes) -> None:
        self.path = path
        self.blob = blob


class Collected:
    """A generator function whose first values are the `count` results of a task."""

    def __init__(self, function: Callable[..., Any], count: int) -> None:
        self.function = function
        self.count = count

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from itertools import islice

        values = self.function(*args, **kwargs)
        found = tuple(islice(values, self.count))
        values.close()
        return found[0] if self.count == 1 and found else found


def encode(function: Any, options: dict[str, Any]) -> bytes:
    """The message of a function and of the options that its worker needs.

    Raises:
        TypeError: something that the function uses cannot be serialized; the text says what.
        ValueError: it is far too large.
    """
    from ..serialization import dumps

    try:
        blob = dumps((function, options))
    except Exception as error:
        what = f"the {_kind(function)} {full_name(function)}"
        raise unserializable(error, function, what) from error
    if len(blob) > WARN_BYTES:
        _complain(inner_function(function), len(blob))
    return blob


def inner_function(function: Any) -> Any:
    return function.function if isinstance(function, Collected) else function


def _kind(function: Any) -> str:
    return "class" if isinstance(function, type) else "function"


def full_name(function: Any) -> str:
    """Module and name, as Ray writes them."""
    function = inner_function(function)
    return f"{function.__module__}.{function.__name__}"


# -- what is too large -----------------------------------------------------------------------


def _complain(function: Any, size: int) -> None:
    name = full_name(function)
    what = f"The {_kind(function)} {name} is {_text_of_size(size)} with what it uses"
    largest = sorted(captured_sizes(function).items(), key=lambda item: -item[1])[:5]
    used = ", ".join(f"{variable} ({_text_of_size(bytes_)})" for variable, bytes_ in largest)
    used = f" Its largest variables: {used}." if used else ""
    advice = " put() them and pass the references as arguments: ref = put(x); f.remote(ref)."
    if size > ERROR_BYTES:
        raise ValueError(
            f"{what}: it is too large (the limit is {_text_of_size(ERROR_BYTES)}).{used}{advice}"
        )
    if once(f"large function {name} {size}"):
        warn(f"{what}, and is sent to every worker.{used}{advice}")


def captured_sizes(function: Any) -> dict[str, int]:
    """What a function, or a class, carries with it, by name, in bytes of its message."""
    from types import FunctionType

    from ..serialization.inspect import _function_groups

    inside = [function]
    sizes: dict[str, int] = {}
    if isinstance(function, type):
        values = {name: getattr(v, "__func__", v) for name, v in function.__dict__.items()}
        inside = [value for value in values.values() if isinstance(value, FunctionType)]
        for name, value in values.items():
            if not isinstance(value, FunctionType) and not name.startswith("__"):
                sizes[name] = _size(value)
    for part in inside:
        for _, parts in _function_groups(part):
            for name, _, value in parts:
                if value is not function and getattr(value, "_function", None) is not function:
                    sizes[name] = max(sizes.get(name, 0), _size(value))
    return sizes


def _size(value: Any) -> int:
    from ..serialization import dumps

    try:
        return len(dumps(value))
    except Exception:
        return 0


def _text_of_size(size: int) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


# -- what cannot be serialized ---------------------------------------------------------------


def unserializable(error: BaseException, value: Any, what: str) -> TypeError:
    """What to raise when `value` could not be serialized: the report names the culprit."""
    from io import StringIO

    from ..serialization import inspect_serializability

    report = StringIO()
    try:
        inspect_serializability(value, print_file=report)
    except Exception:
        pass  # the value fails to be looked at, too: its own error has to do
    return TypeError(f"Could not serialize {what}: {error}\n{report.getvalue()}".rstrip())


def argument_error(
    error: BaseException, args: tuple[Any, ...], kwargs: dict[str, Any], name: str
) -> BaseException:
    """What to raise when the arguments of a call could not be serialized."""
    from ..serialization import dumps

    for position, value in [*enumerate(args), *kwargs.items()]:
        try:
            dumps(value)
        except Exception as problem:
            return unserializable(problem, value, f"the argument {position} of {name}")
    return error


def put_error(error: BaseException, value: Any) -> TypeError:
    """What to raise when a value of `put` could not be serialized."""
    return unserializable(error, value, f"the put value {_shown(value)}")


def result_error(error: BaseException, value: Any, name: str) -> TypeError:
    """What to raise when the result of a task could not be serialized."""
    return unserializable(error, value, f"the result {_shown(value)} of the task {name}")


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        text = object.__repr__(value)
    return text if len(text) <= 200 else text[:197] + "..."
