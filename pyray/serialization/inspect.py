"""Why an object cannot be serialized: the innermost culprits, and the way to each.

An object that fails is taken apart (variables of a function, items of a container, parts of a
reduction) and each part is tried by itself; a part that fails with no failing part is a culprit.
May import `reduction`, and the codec inside functions only.
"""

from __future__ import annotations

from types import CodeType, FunctionType, MethodType

from . import reduction

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    # Name, step of the path, object.
    _Part = tuple[str, str, Any]

__all__ = ["FailureTuple", "inspect_serializability"]

_RULE = "=" * 80
_ADVICE = """\
What to do about each:
  * make it where it is used, inside the function or method, instead of outside;
  * pass what it is made from (a path, an address, the data) instead of the object;
  * leave it out: define __getstate__ and __setstate__, or __reduce__, on the class that holds it;
  * teach pyray the type: register_serializer(cls, serializer=..., deserializer=...).
Only what was found is listed: mend it and check again."""


class FailureTuple:
    """A culprit: the object, the name its parent has for it, the parent, the path from the root.

    Two are equal if they are about the same object by the same name in the same parent.
    """

    __slots__ = ("name", "obj", "parent", "path")

    def __init__(self, obj: Any, name: str, parent: Any, path: str = "") -> None:
        self.obj = obj
        self.name = name
        self.parent = parent
        self.path = path or name

    def _key(self) -> tuple[int, str, int]:
        return id(self.obj), self.name, id(self.parent)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FailureTuple) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __iter__(self) -> Iterator[Any]:
        return iter((self.obj, self.name, self.parent))

    def __repr__(self) -> str:
        return f"FailTuple({self.name} [obj={_text(self.obj)}, parent={_text(self.parent)}])"


def inspect_serializability(
    obj: Any, name: str | None = None, depth: int = 3, print_file: Any = None
) -> tuple[bool, set[FailureTuple]]:
    """Find what keeps `obj` from being serialized, and print a report.

    Args:
        obj: The object to check.
        name: What to call it in the report; by default its own text.
        depth: How many levels to take apart; what fails at the last one is reported as it is.
        print_file: A file to print to instead of standard output.

    Returns:
        Whether `obj` can be serialized, and a `FailureTuple` for each innermost culprit.
    """
    search = _Search(print_file)
    search.print(f"{_RULE}\nChecking Serializability of {_text(obj)}\n{_RULE}")
    root = name or getattr(obj, "__name__", None) or _text(obj)
    serializable = search.check(obj, name or _text(obj), None, str(root), depth)
    if not serializable:
        search.print_culprits()
    search.print(_RULE)
    return serializable, search.culprits


class _Search:
    """One search: what it found, what it has been through, and how far its report is indented."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.culprits: set[FailureTuple] = set()
        self.seen: dict[int, Any] = {}  # the objects too, so that no id is used twice
        self.level = 0

    def print(self, text: str) -> None:
        indent = " " * 4 * self.level
        print("\n".join(indent + line for line in text.split("\n")), file=self.file)

    def check(self, obj: Any, name: str, parent: Any, path: str, depth: int) -> bool:
        """Whether `obj` can be serialized; its culprits are collected if it cannot."""
        error = _failure(obj)
        if error is None:
            return True
        self.print(f"!!! FAIL serialization: {error}")
        self.seen[id(obj)] = obj
        if depth <= 0 or not self._check_parts(obj, path, depth - 1):
            self.culprits.add(FailureTuple(obj, name, parent, path))
        return False

    def _check_parts(self, obj: Any, path: str, depth: int) -> bool:
        """Whether some part of `obj` explains its failure."""
        explained = False
        for kind, parts in _groups(obj):
            if not parts:
                continue
            self.print(f"Detected {len(parts)} {kind}. Checking serializability...")
            self.level += 1
            for name, step, part in parts:
                if id(part) in self.seen:
                    explained = explained or part is not obj
                    continue
                self.print(f"Serializing '{name}' {_text(part)}...")
                if not self.check(part, name, obj, path + step, depth):
                    explained = True
            self.level -= 1
        return explained

    def print_culprits(self) -> None:
        self.print(_RULE)
        for culprit in sorted(self.culprits, key=lambda culprit: culprit.path):
            self.print("Variable:\n")
            self.print(f"\t{culprit}\n\tfound at: {culprit.path}\n")
            self.print("was found to be non-serializable.\n")
        self.print(_ADVICE)


def _failure(obj: Any) -> str | None:
    """Why `obj` cannot be serialized, None if it can."""
    from .message import dumps

    try:
        dumps(obj)
    except Exception as error:
        return str(error) or type(error).__name__
    return None


def _text(obj: Any) -> str:
    """The text of an object, shortened: objects that fail here may fail to print, too."""
    try:
        text = repr(obj)
    except Exception:
        text = object.__repr__(obj)
    return text if len(text) <= 200 else text[:197] + "..."


# -- parts -----------------------------------------------------------------------------------


def _groups(obj: Any) -> Iterator[tuple[str, list[_Part]]]:
    """What `obj` is made of, by kind: what its serialization would enter, nothing else."""
    if isinstance(obj, FunctionType):
        yield from _function_groups(obj)
    elif isinstance(obj, MethodType):
        parts = [("__self__", ".__self__", obj.__self__), ("__func__", ".__func__", obj.__func__)]
        yield "parts of the bound method", parts
    elif isinstance(obj, type):
        yield "class attributes", _attributes(obj.__dict__)
    elif type(obj) in (dict, list, tuple, set, frozenset):
        yield "items", _items(obj)
    else:
        yield from _reduction_groups(obj)


def _function_groups(function: FunctionType) -> Iterator[tuple[str, list[_Part]]]:
    names = _global_names(function.__code__)
    variables = function.__globals__
    yield (
        "global variables",
        [
            (name, f" -> global '{name}'", variables[name])
            for name in sorted(names)
            if name in variables
        ],
    )
    nonlocals = []
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            nonlocals.append((name, f" -> nonlocal '{name}'", cell.cell_contents))
        except ValueError:
            continue  # not bound yet
    yield "nonlocal variables", nonlocals
    defaults = dict(enumerate(function.__defaults__ or ()))
    parts = [(f"default {i}", f" -> default {i}", value) for i, value in defaults.items()]
    for name, value in (function.__kwdefaults__ or {}).items():
        parts.append((name, f" -> default of '{name}'", value))
    yield "defaults of parameters", parts
    yield "function attributes", _attributes(function.__dict__)


def _global_names(code: CodeType) -> set[str]:
    """The globals that the code and the functions inside it use."""
    from dis import get_instructions

    names = {i.argval for i in get_instructions(code) if i.opname.endswith("_GLOBAL")}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _global_names(constant)
    return names


def _attributes(attributes: Any) -> list[_Part]:
    return [
        (str(name), f".{name}", value)
        for name, value in attributes.items()
        if name not in ("__dict__", "__weakref__")
    ]


def _items(container: Any) -> list[_Part]:
    if type(container) is dict:
        parts = [(f"key {_text(key)}", f" -> key {_text(key)}", key) for key in container]
        parts += [(f"[{_text(key)}]", f"[{_text(key)}]", item) for key, item in container.items()]
        return [part for part in parts if type(part[2]) is not str]
    if type(container) in (list, tuple):
        return [(f"[{i}]", f"[{i}]", item) for i, item in enumerate(container)]
    return [(_text(item), f" -> element {_text(item)}", item) for item in container]


def _goes_by_name(obj: Any) -> bool:
    return isinstance(obj, (type, FunctionType)) and isinstance(reduction.reduce(obj), str)


def _reduction_groups(obj: Any) -> Iterator[tuple[str, list[_Part]]]:
    """The parts of the object's reduction, under the names of attributes where they are such."""
    try:
        rv = reduction.reduce(obj)
        if isinstance(rv, str):
            return
        func, args, state, listitems, dictitems, _ = reduction.check_reduce_value(obj, rv)
        items, pairs = list(listitems or ()), dict(dictitems or ())
    except Exception:
        return  # it refuses by itself: no part of it is to blame
    parts = [("class" if arg is type(obj) else f"argument {i}", arg) for i, arg in enumerate(args)]
    yield (
        "parts of its reduction",
        [
            (name, f" -> {name}", part)
            for name, part in [("function", func), *parts]
            if not _goes_by_name(part)
        ],
    )
    slots = None
    if type(state) is tuple and len(state) == 2 and isinstance(state[1], dict):
        state, slots = state
    for attributes in (state, slots):
        if isinstance(attributes, dict):
            yield "attributes", _attributes(attributes)
        elif attributes is not None:
            yield "parts of its state", [("state", " -> state", attributes)]
    yield "items", _items(items) + _items(pairs)
