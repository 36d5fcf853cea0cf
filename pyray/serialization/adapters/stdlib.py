"""Reductions for types of the standard library that pickle refuses or carries incompletely.

May import nothing of pyray.
"""

from __future__ import annotations

import copyreg

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from collections.abc import Callable
    from pickle import PickleBuffer
    from typing import Any
else:
    from _pickle import PickleBuffer

__all__ = ["reducer_for"]


def reducer_for(cls: type) -> Callable[[Any], Any] | None:
    """The reducer for instances of exactly `cls`, or None."""
    if issubclass(cls, BaseException):
        return reduce_exception
    if cls is memoryview:
        return reduce_memoryview
    return None


# -- exceptions ------------------------------------------------------------------------------


def reduce_exception(exc: BaseException) -> Any:
    """The exception's own reduction, plus cause, context and the text of the traceback.

    Only an exception that has any of these pays for them. They travel in the state, after the
    exception itself is known, because a chain of contexts may come back to where it began.
    """
    reducer = copyreg.dispatch_table.get(type(exc))
    rv = exc.__reduce_ex__(5) if reducer is None else reducer(exc)
    cause, context, suppress = exc.__cause__, exc.__context__, exc.__suppress_context__
    if exc.__traceback__ is None and cause is None and context is None and not suppress:
        return rv
    if not isinstance(rv, tuple) or not 2 <= len(rv) <= 6:
        return rv
    func, args, state, listitems, dictitems, setter = rv + (None,) * (6 - len(rv))
    extended = (state, setter, cause, context, suppress, _traceback_text(exc))
    return func, args, extended, listitems, dictitems, _set_exception_state


def _traceback_text(exc: BaseException) -> str | None:
    """What the interpreter would print for `exc` alone, after what earlier processes printed."""
    earlier: str | None = getattr(exc, "__traceback_text__", None)
    if exc.__traceback__ is None:
        return earlier
    from traceback import format_exception

    text = "".join(format_exception(type(exc), exc, exc.__traceback__, chain=False))
    return text if earlier is None else earlier + "\n" + text


def _set_exception_state(exc: BaseException, extended: tuple[Any, ...]) -> None:
    state, setter, cause, context, suppress, traceback_text = extended
    if setter is not None:
        setter(exc, state)
    elif state is not None:
        exc.__setstate__(state)
    # Setting the cause sets the flag, so the flag comes last.
    exc.__cause__, exc.__context__ = cause, context
    exc.__suppress_context__ = suppress
    if traceback_text is not None:
        exc.__traceback_text__ = traceback_text  # type: ignore[attr-defined]


# -- memoryview ------------------------------------------------------------------------------


def reduce_memoryview(view: memoryview) -> tuple[Any, ...]:
    """The bytes as a buffer of the message, to be cast to the view's format and shape again."""
    # cast() knows neither formats such as '<d' nor shapes such as (2, 0).
    castable = len(view.format.lstrip("@")) == 1 and (view.nbytes > 0 or view.ndim == 1)
    if not castable or (view.contiguous and not view.c_contiguous):
        return memoryview, (_as_array(view),)
    buffer = PickleBuffer(view) if view.contiguous else view.tobytes()
    return _cast_memoryview, (buffer, view.format, view.shape)


def _as_array(view: memoryview) -> Any:
    """An array over the same memory: numpy carries formats and shapes that `cast` refuses."""
    from numpy import asarray

    return asarray(view)


def _cast_memoryview(buffer: Any, format: str, shape: tuple[int, ...]) -> memoryview:
    flat = PickleBuffer(buffer).raw()
    return flat.cast(format) if len(shape) == 1 else flat.cast(format, shape)  # type: ignore[call-overload]
