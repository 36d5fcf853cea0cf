"""The task runtime: sessions of processes on one machine that share an object store.

Re-exports what programs use; `api` has it all in one screen. Nothing is imported before it is
asked for: the processes of a session import parts of this package, each its own.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from typing import Any

    from ._core import ObjectRef, ObjectRefGenerator
    from .actor_class import ActorClass
    from .actor_handle import ActorHandle, ActorMethod
    from .api import (
        available_resources,
        cancel,
        cluster_resources,
        error_info,
        get,
        get_gpu_ids,
        get_runtime_context,
        init,
        is_initialized,
        method,
        nodes,
        put,
        remote,
        shutdown,
        wait,
    )
    from .context import RayContext
    from .generators import DynamicObjectRefGenerator
    from .named_actors import get_actor, kill
    from .remote_function import RemoteFunction
    from .runtime_context import RuntimeContext

__all__ = [
    "ActorClass",
    "ActorHandle",
    "ActorMethod",
    "DynamicObjectRefGenerator",
    "ObjectRef",
    "ObjectRefGenerator",
    "RayContext",
    "RemoteFunction",
    "RuntimeContext",
    "available_resources",
    "cancel",
    "cluster_resources",
    "error_info",
    "get",
    "get_actor",
    "get_gpu_ids",
    "get_runtime_context",
    "init",
    "is_initialized",
    "kill",
    "method",
    "nodes",
    "put",
    "remote",
    "shutdown",
    "wait",
]

_ELSEWHERE = {
    "ActorClass": "actor_class",
    "ActorHandle": "actor_handle",
    "ActorMethod": "actor_handle",
    "DynamicObjectRefGenerator": "generators",
    "ObjectRef": "_core",
    "ObjectRefGenerator": "_core",
    "RayContext": "context",
    "RemoteFunction": "remote_function",
    "RuntimeContext": "runtime_context",
    "get_actor": "named_actors",
    "kill": "named_actors",
    # Without the rest of the API: the node starts while that is imported.
    "init": "start",
    "is_initialized": "start",
    "shutdown": "start",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_ELSEWHERE.get(name, 'api')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
