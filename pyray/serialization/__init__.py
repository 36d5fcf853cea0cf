"""The pickle replacement: pickle's object model in Arrow's memory layout.

Imports nothing else of pyray. docs/format.md specifies the message, docs/architecture.md draws
the parts. Nothing is imported before it is asked for: who uses one module pays for no other. numpy,
cloudpickle and pyarrow are imported when an object of theirs is met.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from typing import Any

    from ._view import view
    from .arrow import from_arrow, from_arrow_ipc
    from .context import (
        SerializationContext,
        default_serialization_context,
        deserialize_components,
        deserialize_from,
        read_serialized,
        serialize_to,
    )
    from .errors import (
        DeserializationCallbackError,
        DeserializationError,
        PicklingError,
        SerializationCallbackError,
    )
    from .inspect import FailureTuple, inspect_serializability
    from .message import (
        SerializedObject,
        deserialize,
        dump,
        dumps,
        load,
        loads,
        serialize,
    )
    from .registry import deregister_serializer, register_serializer

    SerializedPyObject = SerializedObject

__all__ = [
    "DeserializationCallbackError",
    "DeserializationError",
    "FailureTuple",
    "PicklingError",
    "SerializationCallbackError",
    "SerializationContext",
    "SerializedObject",
    "SerializedPyObject",
    "default_serialization_context",
    "deregister_serializer",
    "deserialize",
    "deserialize_components",
    "deserialize_from",
    "dump",
    "dumps",
    "from_arrow",
    "from_arrow_ipc",
    "inspect_serializability",
    "load",
    "loads",
    "read_serialized",
    "register_serializer",
    "serialize",
    "serialize_to",
    "view",
]

#: Where the names are.
_ELSEWHERE = {
    "DeserializationCallbackError": "errors",
    "DeserializationError": "errors",
    "FailureTuple": "inspect",
    "PicklingError": "errors",
    "SerializationCallbackError": "errors",
    "SerializationContext": "context",
    "SerializedObject": "message",
    "default_serialization_context": "context",
    "deregister_serializer": "registry",
    "deserialize": "message",
    "deserialize_components": "context",
    "deserialize_from": "context",
    "dump": "message",
    "dumps": "message",
    "from_arrow": "arrow",
    "from_arrow_ipc": "arrow",
    "inspect_serializability": "inspect",
    "load": "message",
    "loads": "message",
    "read_serialized": "context",
    "register_serializer": "registry",
    "serialize": "message",
    "serialize_to": "context",
    "view": "_view",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    # What users of `pyarrow.serialize` called it.
    own = "SerializedObject" if name == "SerializedPyObject" else name
    value = getattr(import_module(f"{__name__}.{_ELSEWHERE[own]}"), own)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
