"""Whether arguments fit a function, decided before anything is sent.

Most calls pass positional arguments, so how many there may be decides without calling anything
here; keywords are checked by name, and `inspect` only writes the message. Imports nothing of pyray.
"""

from __future__ import annotations

from inspect import Parameter, Signature, signature

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["NO_LIMIT", "ArgumentCheck"]

#: `max_args` of a function with `*args`.
NO_LIMIT = (1 << 31) - 1

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


class ArgumentCheck:
    """The parameters of one function.

    `min_args` to `max_args` positional arguments fit when there are no keywords; any other call
    is to be checked by calling this. A function that needs a keyword has no such range.
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.name = name
        self.signature = _signature(function)
        parameters = self.signature.parameters.values()
        kinds = {p.kind for p in parameters}
        self._positional = [p.name for p in parameters if p.kind in _POSITIONAL]
        self._only_positional = {p.name for p in parameters if p.kind == Parameter.POSITIONAL_ONLY}
        self._by_name = {p.name for p in parameters if p.kind in _BY_NAME}
        self._any_name = Parameter.VAR_KEYWORD in kinds
        required = [p for p in parameters if p.default is Parameter.empty]
        self._required = {p.name for p in required if p.kind in (*_POSITIONAL, *_BY_NAME)}
        self.min_args = sum(p.kind in _POSITIONAL for p in required)
        any_number = Parameter.VAR_POSITIONAL in kinds
        self.max_args = NO_LIMIT if any_number else len(self._positional)
        if any(p.kind == Parameter.KEYWORD_ONLY for p in required):
            self.min_args, self.max_args = 1, 0
        self._most = NO_LIMIT if any_number else len(self._positional)

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise TypeError unless the function can be called so."""
        if not self._fits(args, kwargs):
            self._explain(args, kwargs)

    def _fits(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """By names alone; False where it takes a closer look."""
        if self._only_positional or len(args) > self._most:
            return False
        given = kwargs.keys()
        if not self._any_name and not given <= self._by_name:
            return False
        filled = self._positional[: len(args)]
        return given.isdisjoint(filled) and self._required <= given | set(filled)

    def _explain(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            problem = str(error)
        else:
            return
        raise TypeError(f"{problem}: the remote function is {self.name}{self.signature}")


def _signature(function: Callable[..., Any]) -> Signature:
    try:
        return signature(function)
    except (TypeError, ValueError):
        # Compiled without a signature: the worker will find out.
        anything = [
            Parameter("args", Parameter.VAR_POSITIONAL),
            Parameter("kwargs", Parameter.VAR_KEYWORD),
        ]
        return Signature(anything)
