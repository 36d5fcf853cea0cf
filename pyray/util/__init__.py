"""Ray's `ray.util`. May import `pyray.serialization`, and the runtime when it is asked for."""

from __future__ import annotations

from ..serialization.inspect import inspect_serializability
from ..serialization.registry import deregister_serializer, register_serializer

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from typing import Any

    from ..runtime.named_actors import list_named_actors

__all__ = [
    "deregister_serializer",
    "inspect_serializability",
    "list_named_actors",
    "register_serializer",
]


def __getattr__(name: str) -> Any:
    if name == "list_named_actors":
        from ..runtime.named_actors import list_named_actors

        return list_named_actors
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
