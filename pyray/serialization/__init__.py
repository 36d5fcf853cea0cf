"""The pickle replacement: pickle's object model in Arrow's memory layout.

Imports nothing else of pyray. docs/format.md specifies the message, docs/architecture.md draws
the parts. numpy, cloudpickle and pyarrow are imported when an object of theirs is met.
"""

from __future__ import annotations

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

#: What users of `pyarrow.serialize` called it.
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
