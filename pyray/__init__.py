"""pyray: a pickle replacement in Arrow's memory layout, and a task runtime on top of it.

The public API in one screen; everything is defined in the subpackages, and imported when it is
first asked for: a session's node process starts while the rest of its driver is imported.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from typing import Any

    from pyray import actor, exceptions, runtime, util
    from pyray.runtime import (
        DynamicObjectRefGenerator,
        ObjectRef,
        ObjectRefGenerator,
        available_resources,
        cancel,
        cluster_resources,
        error_info,
        get,
        get_actor,
        get_gpu_ids,
        get_runtime_context,
        init,
        is_initialized,
        kill,
        method,
        nodes,
        put,
        remote,
        shutdown,
        wait,
    )
    from pyray.serialization import (
        DeserializationCallbackError,
        DeserializationError,
        FailureTuple,
        PicklingError,
        SerializationCallbackError,
        SerializationContext,
        SerializedObject,
        SerializedPyObject,
        default_serialization_context,
        deregister_serializer,
        deserialize,
        deserialize_components,
        deserialize_from,
        dump,
        dumps,
        from_arrow,
        from_arrow_ipc,
        inspect_serializability,
        load,
        loads,
        read_serialized,
        register_serializer,
        serialize,
        serialize_to,
        view,
    )

__version__ = "0.1.0"

__all__ = [
    "DeserializationCallbackError",
    "DeserializationError",
    "DynamicObjectRefGenerator",
    "FailureTuple",
    "ObjectRef",
    "ObjectRefGenerator",
    "PicklingError",
    "SerializationCallbackError",
    "SerializationContext",
    "SerializedObject",
    "SerializedPyObject",
    "actor",
    "available_resources",
    "cancel",
    "cluster_resources",
    "default_serialization_context",
    "deregister_serializer",
    "deserialize",
    "deserialize_components",
    "deserialize_from",
    "dump",
    "dumps",
    "error_info",
    "exceptions",
    "from_arrow",
    "from_arrow_ipc",
    "get",
    "get_actor",
    "get_gpu_ids",
    "get_runtime_context",
    "init",
    "inspect_serializability",
    "is_initialized",
    "kill",
    "load",
    "loads",
    "method",
    "nodes",
    "put",
    "read_serialized",
    "register_serializer",
    "remote",
    "runtime",
    "serialize",
    "serialize_to",
    "shutdown",
    "util",
    "view",
    "wait",
]

_SUBPACKAGES = ("actor", "exceptions", "internal", "runtime", "serialization", "store", "util")


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        from importlib import import_module

        return import_module(f"{__name__}.{name}")
    if name in __all__:
        from pyray import runtime, serialization

        package = serialization if name in serialization.__all__ else runtime
        value = globals()[name] = getattr(package, name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
