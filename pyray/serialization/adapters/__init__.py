"""How the types of the standard library and of other packages reduce without copying buffers.

One module a package, imported when the first object of that package is met; each offers
`reducer_for(cls)`. An adapter may import its package and `reduction`'s results, nothing else.
"""

from __future__ import annotations

from importlib import import_module

from . import stdlib

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["reducer_for"]

#: Top-level package of a type or of one of its bases -> the adapter module that knows it.
_ADAPTERS = {
    "numpy": "numpy_",
    "polars": "polars_",
    "pyarrow": "pyarrow_",
    "torch": "torch_",
}


def reducer_for(cls: type) -> Callable[[Any], Any] | None:
    """The adapter's reducer for instances of exactly `cls`, or None if no adapter wants them."""
    reducer = stdlib.reducer_for(cls)
    if reducer is not None:
        return reducer
    for base in cls.__mro__:
        module = base.__module__
        if type(module) is not str:
            continue
        name = _ADAPTERS.get(module.partition(".")[0])
        if name is not None:
            reducer = import_module(f".{name}", __name__).reducer_for(cls)
            if reducer is not None:
                return reducer
    return None
