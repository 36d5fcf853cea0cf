"""Whether arguments fit a function, decided before anything is sent.

Most calls pass positional arguments, so how many there may be decides without calling anything
here; keywords are checked by name. `inspect` takes 10 ms to import, so it reads unusual functions
and writes messages only. Imports nothing of pyray.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from collections.abc import Callable
    from inspect import Signature
    from typing import Any

__all__ = ["NO_LIMIT", "ArgumentCheck", "is_asynchronous", "is_generator"]

#: `max_args` of a function with `*args`.
NO_LIMIT = (1 << 31) - 1

#: How many ways of calling a function are remembered to fit.
_MOST_SEEN = 100

# Flags of code objects, as in `inspect`.
_VAR_POSITIONAL, _VAR_KEYWORD, _GENERATOR, _COROUTINE, _ASYNC_GENERATOR = 4, 8, 32, 128, 512


def _flags(function: Any) -> int:
    return getattr(getattr(function, "__code__", None), "co_flags", 0)


def is_generator(function: Any) -> bool:
    """Whether calling the function gives a generator."""
    return bool(_flags(function) & _GENERATOR)


def is_asynchronous(function: Any) -> bool:
    """Whether it is an `async def`."""
    return bool(_flags(function) & (_COROUTINE | _ASYNC_GENERATOR))


class ArgumentCheck:
    """The parameters of one function.

    `min_args` to `max_args` positional arguments fit when there are no keywords; any other call
    is to be checked by calling this. A function that needs a keyword has no such range.
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.name = name
        self._function = function
        self._seen: set[tuple[Any, ...]] = set()
        if hasattr(function, "__wrapped__") or hasattr(function, "__signature__"):
            self._read_signature()
        else:
            try:
                self._read_code()
            except AttributeError:  # compiled
                self._read_signature()
        self.min_args = len(self._required & set(self._positional))
        self.max_args = self._most
        if self._required - set(self._positional):
            self.min_args, self.max_args = 1, 0

    def _read_code(self) -> None:
        function: Any = self._function
        code = function.__code__
        count = code.co_argcount
        names = code.co_varnames[: count + code.co_kwonlyargcount]
        self._positional = list(names[:count])
        self._only_positional = set(names[: code.co_posonlyargcount])
        self._by_name = set(names) - self._only_positional
        self._any_name = bool(code.co_flags & _VAR_KEYWORD)
        defaults = len(function.__defaults__ or ())
        keywords = set(names[count:]) - set(function.__kwdefaults__ or ())
        self._required = set(names[: count - defaults]) | keywords
        self._most = NO_LIMIT if code.co_flags & _VAR_POSITIONAL else count

    def _read_signature(self) -> None:
        from inspect import Parameter

        positional = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        by_name = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
        parameters = list(self.signature.parameters.values())
        kinds = {p.kind for p in parameters}
        self._positional = [p.name for p in parameters if p.kind in positional]
        self._only_positional = {p.name for p in parameters if p.kind == Parameter.POSITIONAL_ONLY}
        self._by_name = {p.name for p in parameters if p.kind in by_name}
        self._any_name = Parameter.VAR_KEYWORD in kinds
        self._required = {
            p.name
            for p in parameters
            if p.default is Parameter.empty and p.kind in (*positional, *by_name)
        }
        any_number = Parameter.VAR_POSITIONAL in kinds
        self._most = NO_LIMIT if any_number else len(self._positional)

    @property
    def signature(self) -> Signature:
        """As `inspect` has it; that of a function compiled without one takes everything."""
        from inspect import Parameter, Signature, signature

        try:
            return signature(self._function)
        except (TypeError, ValueError):
            return Signature(
                [
                    Parameter("args", Parameter.VAR_POSITIONAL),
                    Parameter("kwargs", Parameter.VAR_KEYWORD),
                ]
            )

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise TypeError unless the function can be called so."""
        call = len(args), *kwargs
        if call in self._seen:
            return
        if not self._fits(args, kwargs):
            self._explain(args, kwargs)
        if len(self._seen) < _MOST_SEEN:
            self._seen.add(call)

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
        signature = self.signature
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            problem = str(error)
        else:
            return
        raise TypeError(f"{problem}: the remote function is {self.name}{signature}")
