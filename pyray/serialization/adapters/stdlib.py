"""Reductions for types of the standard library that pickle refuses or carries incompletely.

May import nothing of pyray.
"""

from __future__ import annotations

from types import BuiltinMethodType, MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["reducer_for"]


def reducer_for(cls: type) -> Callable[[Any], Any] | None:
    """The reducer for instances of exactly `cls`, or None."""
    return None
