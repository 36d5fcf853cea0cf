"""pyray: a pickle replacement in Arrow's memory layout, and what is built on it.

The public API in one screen; everything is defined in the subpackages.
"""

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
