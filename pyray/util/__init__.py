"""Ray's `ray.util`: serializers, pools, queues. Serializers alone are imported at once."""

from __future__ import annotations

from ..serialization.inspect import inspect_serializability
from ..serialization.registry import deregister_serializer, register_serializer

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from typing import Any

    from ..runtime.named_actors import list_named_actors
    from .actor_pool import ActorPool

__all__ = [
    "ActorPool",
    "deregister_serializer",
    "inspect_serializability",
    "list_named_actors",
    "register_serializer",
]

_MODULES = (
    "actor_pool",
    "executor",
    "joblib",
    "multiprocessing",
    "queue",
    "scheduling_strategies",
    "state",
)


def __getattr__(name: str) -> Any:
    if name == "list_named_actors":
        from ..runtime.named_actors import list_named_actors

        return list_named_actors
    if name == "ActorPool":
        from .actor_pool import ActorPool

        return ActorPool
    if name in _MODULES:
        from importlib import import_module

        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
