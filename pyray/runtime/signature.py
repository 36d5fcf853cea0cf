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

__all__ = [
    "NO_LIMIT",
    "ArgumentCheck",
    "Parameters",
    "is_asynchronous",
    "is_generator",
    "parameters_of",
    "yields",
]

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


def yields(function: Any) -> bool:
    """Whether calling the function gives a generator, or an asynchronous one."""
    return bool(_flags(function) & (_GENERATOR | _ASYNC_GENERATOR))


def is_asynchronous(function: Any) -> bool:
    """Whether it is an `async def`."""
    return bool(_flags(function) & (_COROUTINE | _ASYNC_GENERATOR))


# -- parameters ------------------------------------------------------------------------------


class Parameters:
    """What may be passed to a function: its signature without defaults and annotations.

    It says that a parameter has a default, not which, so it can be sent where the function's
    modules are not.
    """

    __slots__ = ("keywords", "n_only_positional", "n_required", "positional", "required", "rests")

    def __init__(
        self,
        positional: tuple[str, ...],
        n_only_positional: int,
        n_required: int,
        keywords: tuple[str, ...],
        required: tuple[str, ...],
        rests: tuple[str, str],
    ) -> None:
        self.positional = positional
        self.n_only_positional = n_only_positional  # the first so many
        self.n_required = n_required  # of the positional ones, the first so many
        self.keywords = keywords  # that can be passed by name only
        self.required = required  # of these
        self.rests = rests  # what `*args` and `**kwargs` are called, or ""

    def __reduce__(self) -> tuple[Any, ...]:
        positional = self.positional, self.n_only_positional, self.n_required
        return Parameters, (*positional, self.keywords, self.required, self.rests)

    def without_first(self) -> Parameters:
        """Those of a method that is bound to its object."""
        if not self.positional:
            return self  # *args has it
        return Parameters(
            self.positional[1:],
            max(self.n_only_positional - 1, 0),
            max(self.n_required - 1, 0),
            self.keywords,
            self.required,
            self.rests,
        )

    def signature(self) -> Signature:
        """As `inspect` has it, with `...` in place of every default."""
        from inspect import Parameter, Signature

        found = []
        for i, name in enumerate(self.positional):
            first = i < self.n_only_positional
            kind = Parameter.POSITIONAL_ONLY if first else Parameter.POSITIONAL_OR_KEYWORD
            default = Parameter.empty if i < self.n_required else _Some()
            found.append(Parameter(name, kind, default=default))
        if self.rests[0]:
            found.append(Parameter(self.rests[0], Parameter.VAR_POSITIONAL))
        for name in self.keywords:
            default = Parameter.empty if name in self.required else _Some()
            found.append(Parameter(name, Parameter.KEYWORD_ONLY, default=default))
        if self.rests[1]:
            found.append(Parameter(self.rests[1], Parameter.VAR_KEYWORD))
        return Signature(found)


class _Some:
    """A default that is not known here."""

    def __repr__(self) -> str:
        return "..."


def parameters_of(function: Callable[..., Any]) -> Parameters:
    """The parameters of a function; of one that was compiled without a signature: any."""
    if not hasattr(function, "__wrapped__") and not hasattr(function, "__signature__"):
        try:
            return _of_code(function)
        except (AttributeError, IndexError):
            pass  # compiled
    return _of_signature(_signature_of(function))


def _of_code(function: Any) -> Parameters:
    code = function.__code__
    count = code.co_argcount
    names = code.co_varnames[: count + code.co_kwonlyargcount + 2]
    keywords = names[count : count + code.co_kwonlyargcount]
    rests = list(names[count + code.co_kwonlyargcount :])
    known = function.__kwdefaults__ or ()
    return Parameters(
        names[:count],
        code.co_posonlyargcount,
        count - len(function.__defaults__ or ()),
        keywords,
        tuple(name for name in keywords if name not in known),
        (
            rests.pop(0) if code.co_flags & _VAR_POSITIONAL else "",
            rests.pop(0) if code.co_flags & _VAR_KEYWORD else "",
        ),
    )


def _of_signature(signature: Signature) -> Parameters:
    from inspect import Parameter

    kinds: dict[Any, list[Any]] = {}
    for parameter in signature.parameters.values():
        kinds.setdefault(parameter.kind, []).append(parameter)
    first = kinds.get(Parameter.POSITIONAL_ONLY, [])
    positional = first + kinds.get(Parameter.POSITIONAL_OR_KEYWORD, [])
    keywords = kinds.get(Parameter.KEYWORD_ONLY, [])
    any_number = kinds.get(Parameter.VAR_POSITIONAL)
    any_name = kinds.get(Parameter.VAR_KEYWORD)
    empty = Parameter.empty
    return Parameters(
        tuple(p.name for p in positional),
        len(first),
        sum(p.default is empty for p in positional),
        tuple(p.name for p in keywords),
        tuple(p.name for p in keywords if p.default is empty),
        (any_number[0].name if any_number else "", any_name[0].name if any_name else ""),
    )


def _signature_of(function: Any) -> Signature:
    from inspect import Parameter, Signature, signature

    try:
        return signature(function)
    except (TypeError, ValueError):
        return Signature(
            [
                Parameter("args", Parameter.VAR_POSITIONAL),
                Parameter("kwargs", Parameter.VAR_KEYWORD),
            ]
        )


# -- calls -----------------------------------------------------------------------------------


class ArgumentCheck:
    """The parameters of one function.

    `min_args` to `max_args` positional arguments fit when there are no keywords; any other call
    is to be checked by calling this. A function that needs a keyword has no such range.

    Made of a function, or of the parameters of one that may be elsewhere; `what` it is to those
    who call it.
    """

    def __init__(
        self, function: Callable[..., Any] | Parameters, name: str, what: str = "remote function"
    ) -> None:
        self.name = name
        self._what = what
        self._function = None if isinstance(function, Parameters) else function
        self._parameters = found = (
            function if isinstance(function, Parameters) else parameters_of(function)
        )
        self._seen: set[tuple[Any, ...]] = set()
        self._required = {*found.positional[: found.n_required], *found.required}
        self._by_name = {*found.positional[found.n_only_positional :], *found.keywords}
        self._most = NO_LIMIT if found.rests[0] else len(found.positional)
        self.min_args, self.max_args = found.n_required, self._most
        if found.required:
            self.min_args, self.max_args = 1, 0

    @property
    def signature(self) -> Signature:
        """As `inspect` has it; that of a function compiled without one takes everything."""
        if self._function is None:
            return self._parameters.signature()
        return _signature_of(self._function)

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
        found = self._parameters
        if found.n_only_positional or len(args) > self._most:
            return False
        given = kwargs.keys()
        if not found.rests[1] and not given <= self._by_name:
            return False
        filled = found.positional[: len(args)]
        return given.isdisjoint(filled) and self._required <= given | set(filled)

    def _explain(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        signature = self.signature
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            problem = str(error)
        else:
            return
        raise TypeError(f"{problem}: the {self._what} is {self.name}{signature}")
