"""Serializers that users register for their own types, local to this process.

The deserializer travels inside the message (by name if it can be imported, else by value), so
the reader needs no registration. May import nothing of pyray.
"""

from __future__ import annotations

from _thread import allocate_lock

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["deregister_serializer", "register_serializer", "registered", "version"]

#: Exact type -> function that reduces an instance to `(deserializer, (serializer(obj),))`.
#: Written under `_lock` only; a lookup needs no lock.
registered: dict[type, Callable[[Any], tuple[Any, ...]]] = {}

#: Grows with every change of `registered`, so that what was looked up can be cached.
version: int = 0

_lock = allocate_lock()


def register_serializer(
    cls: type, *, serializer: Callable[[Any], Any], deserializer: Callable[[Any], Any]
) -> None:
    """Serialize instances of exactly `cls` as `serializer(obj)`; read them with `deserializer`.

    Takes effect at once, in this process; a second call for the same class replaces the first.
    Whoever reads the message calls `deserializer` on the value, without registering anything.
    Values that the format has a column of its own for (`int`, `str`, `list`, `dict`, ..., arrays
    of plain dtypes) do not look here.

    Raises:
        TypeError: `cls` is not a class, or one of the functions cannot be called.
    """
    if not isinstance(cls, type):
        raise TypeError(f"cls must be a class, not {cls!r}")
    if not callable(serializer):
        raise TypeError(f"serializer must be callable, not {type(serializer).__name__!r}")
    if not callable(deserializer):
        raise TypeError(f"deserializer must be callable, not {type(deserializer).__name__!r}")

    def reduce_registered(obj: Any) -> tuple[Any, ...]:
        return deserializer, (serializer(obj),)

    global version
    with _lock:
        registered[cls] = reduce_registered
        version += 1


def deregister_serializer(cls: type) -> None:
    """Forget the serializer of `cls`. Doing so twice, or without one, is no error.

    Raises:
        TypeError: `cls` is not a class.
    """
    if not isinstance(cls, type):
        raise TypeError(f"cls must be a class, not {cls!r}")
    global version
    with _lock:
        if registered.pop(cls, None) is not None:
            version += 1
