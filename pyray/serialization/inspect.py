"""Why an object cannot be serialized: the innermost culprits, and the way to each.

May import the serializer only inside functions, and the standard library's `inspect` likewise.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

__all__ = ["FailureTuple", "inspect_serializability"]

#: A culprit, what it is called, and the object that holds it.
FailureTuple = namedtuple("FailureTuple", ["obj", "name", "parent"])


def inspect_serializability(
    obj: Any, name: str | None = None, depth: int = 3, print_file: Any = None
) -> tuple[bool, set[FailureTuple]]:
    """Find what keeps `obj` from being serialized and print a report."""
    raise NotImplementedError
