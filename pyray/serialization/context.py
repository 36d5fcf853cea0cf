"""What users of `pyarrow.serialize` had: contexts of registered types, and its reading functions.

The semantics are those of pyarrow 11 (docs/migrating-from-pyarrow.md says what differs). May import
`errors`, and `message` when a function that needs it is called.
"""

from __future__ import annotations

from _thread import _local

from .errors import (
    DeserializationCallbackError,
    DeserializationError,
    SerializationCallbackError,
)

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .message import SerializedObject
    from .message import SerializedObject as SerializedPyObject

__all__ = [
    "SerializationContext",
    "SerializedPyObject",
    "default_serialization_context",
    "deserialize_components",
    "deserialize_from",
    "read_serialized",
    "serialize_to",
    "use",
]

#: Functions of this module that messages name. They make and change nothing but instances of what
#: the reader registered, so a reader that trusts nobody may call them. What set_pickle was given is
#: not among them: `pickle.loads` would run anything.
ALWAYS_ALLOWED = frozenset(
    ("pyray.serialization.context", name)
    for name in ("_restore", "_new_instance", "_update_attributes")
)


class SerializationContext:
    """Types that travel under an id, with their serializers; the reader registers the same ids.

    A type that no context knows is carried as pickle would carry it.
    """

    def __init__(self) -> None:
        self._type_ids: dict[type, str] = {}
        self._types: dict[str, type] = {}
        self._pickled: set[str] = set()
        self._serializers: dict[str, Callable[[Any], Any]] = {}
        self._deserializers: dict[str, Callable[[Any], Any] | None] = {}
        self._dumps: Callable[[Any], Any] | None = None
        self._loads: Callable[[Any], Any] | None = None
        self._closest: dict[type, str | None] = {}

    # -- registering -----------------------------------------------------------------------

    def register_type(
        self,
        type_: type,
        type_id: str,
        pickle: bool = False,
        custom_serializer: Callable[[Any], Any] | None = None,
        custom_deserializer: Callable[[Any], Any] | None = None,
    ) -> None:
        """Let instances of `type_` and its subclasses travel under `type_id`.

        With `pickle` (default False) an instance goes through the functions given to `set_pickle`,
        by default as any unregistered object does. Else `custom_serializer(obj)` travels and
        `custom_deserializer` reads it; without a serializer the instance's `__dict__` travels, or
        a namedtuple's fields.

        Raises:
            TypeError: `type_id` is not a string.
        """
        if not isinstance(type_id, str):
            raise TypeError(f"type_id must be a string, not {type(type_id).__name__!r}")
        self._type_ids[type_] = type_id
        self._types[type_id] = type_
        if pickle:
            self._pickled.add(type_id)
        if custom_serializer is not None:
            self._serializers[type_id] = custom_serializer
            self._deserializers[type_id] = custom_deserializer
        self._closest = {}

    def set_pickle(
        self, serializer: Callable[[Any], Any], deserializer: Callable[[Any], Any]
    ) -> None:
        """Use these for types registered with `pickle=True`, such as `cloudpickle.dumps, loads`."""
        self._dumps = serializer
        self._loads = deserializer

    def clone(self) -> SerializationContext:
        """A copy; what is registered on one of the two later is not known to the other."""
        copy = SerializationContext()
        copy._type_ids = self._type_ids.copy()
        copy._types = self._types.copy()
        copy._pickled = self._pickled.copy()
        copy._serializers = self._serializers.copy()
        copy._deserializers = self._deserializers.copy()
        copy._dumps, copy._loads = self._dumps, self._loads
        return copy

    # -- for the codec ---------------------------------------------------------------------

    def handles(self, cls: type) -> bool:
        """Whether `cls` or a class it inherits from is registered; cheap enough for each object."""
        return self._type_id_of(cls) is not None

    def reduce(self, obj: Any) -> Any:
        """The reduction of a registered object, NotImplemented for any other.

        Raises:
            SerializationCallbackError: the type is registered without a serializer and has no
                `__dict__`.
            Exception: whatever a custom serializer raises.
        """
        type_id = self._type_id_of(type(obj))
        if type_id is None:
            return NotImplemented
        if type_id in self._pickled:
            if self._dumps is None:
                return NotImplemented
            return _restore_pickled, (self._dumps(obj),)
        serializer = self._serializers.get(type_id)
        if serializer is not None:
            return _restore, (type_id, serializer(obj))
        if _is_namedtuple(self._types[type_id]):
            return _new_instance, (type_id, tuple(obj))
        if not hasattr(obj, "__dict__"):
            raise SerializationCallbackError(
                f"type id {type_id!r} has no custom_serializer, and {obj!r} has no __dict__", obj
            )
        return _new_instance, (type_id,), obj.__dict__, None, None, _update_attributes

    def _type_id_of(self, cls: type) -> str | None:
        """The id of the closest registered class in the method resolution order of `cls`."""
        try:
            return self._closest[cls]
        except KeyError:
            pass
        found = next((self._type_ids[c] for c in cls.__mro__ if c in self._type_ids), None)
        self._closest[cls] = found
        return found

    def _registered_type(self, type_id: str) -> type:
        try:
            return self._types[type_id]
        except KeyError:
            raise DeserializationCallbackError(
                f"type id {type_id!r} is not registered in this SerializationContext", type_id
            ) from None

    # -- whole objects ---------------------------------------------------------------------

    def serialize(self, obj: Any) -> SerializedObject:
        """`pyray.serialize(obj, context=self)`."""
        from .message import serialize

        return serialize(obj, context=self)

    def serialize_to(self, value: Any, sink: Any) -> None:
        """`pyray.serialize_to(value, sink, context=self)`."""
        serialize_to(value, sink, self)

    def deserialize(self, what: Any) -> Any:
        """`pyray.deserialize(what, context=self)`."""
        from .message import deserialize

        return deserialize(what, context=self)

    def deserialize_components(self, what: Any) -> Any:
        """`pyray.deserialize_components(what, context=self)`."""
        return deserialize_components(what, self)


def _is_namedtuple(cls: type) -> bool:
    """As pyarrow decided: a direct and only subclass of tuple with `_fields` of strings."""
    fields = getattr(cls, "_fields", None)
    return (
        cls.__bases__ == (tuple,)
        and isinstance(fields, tuple)
        and all(isinstance(field, str) for field in fields)
    )


# -- the context that is in use --------------------------------------------------------------


class _InUse(_local):
    """This thread's contexts in use, innermost last."""

    def __init__(self) -> None:
        self.stack: list[SerializationContext] = []


_in_use = _InUse()
_default = SerializationContext()


class use:
    """`with use(context):` reads registered types with it on this thread; None: the empty one."""

    def __init__(self, context: SerializationContext | None) -> None:
        self.context = _default if context is None else context

    def __enter__(self) -> SerializationContext:
        _in_use.stack.append(self.context)
        return self.context

    def __exit__(self, *error: object) -> None:
        _in_use.stack.pop()


def _current() -> SerializationContext:
    return _in_use.stack[-1] if _in_use.stack else _default


def default_serialization_context() -> SerializationContext:
    """A new context. It starts empty: what pyarrow registered here, pyray carries by itself."""
    return SerializationContext()


# -- what messages name ----------------------------------------------------------------------


def _restore(type_id: str, payload: Any) -> Any:
    context = _current()
    cls = context._registered_type(type_id)
    deserializer = context._deserializers.get(type_id)
    if deserializer is None:
        raise DeserializationCallbackError(
            f"type id {type_id!r} ({cls.__qualname__}) has no custom_deserializer here", type_id
        )
    return deserializer(payload)


def _restore_pickled(payload: Any) -> Any:
    loads = _current()._loads
    if loads is None:
        raise DeserializationCallbackError(
            "the message holds an object pickled by the functions given to set_pickle; "
            "the reader's SerializationContext has none"
        )
    return loads(payload)


def _new_instance(type_id: str, fields: tuple[Any, ...] = ()) -> Any:
    cls = _current()._registered_type(type_id)
    return cls.__new__(cls, *fields)


def _update_attributes(obj: Any, attributes: dict[str, Any]) -> None:
    if not _current().handles(type(obj)):
        raise DeserializationError(f"{type(obj).__qualname__} is not a registered type")
    obj.__dict__.update(attributes)


# -- reading and writing ---------------------------------------------------------------------


def serialize_to(value: Any, sink: Any, context: SerializationContext | None = None) -> None:
    """Write the message of `value` to `sink`: a file, a pyarrow stream or a writable buffer."""
    from .message import dump, serialize

    if type(value) in (int, str, bytes) and hasattr(sink, "write"):
        dump(value, sink)  # in the form that says where it ends
    else:
        serialize(value, context=context).write_to(sink)


def read_serialized(source: Any, base: Any = None) -> SerializedObject:
    """The message in `source` (bytes-like, file object or pyarrow NativeFile), not yet decoded.

    A file is read from where it stands and left standing after the message, so that messages
    written one after another can be read so. (A bare `int`, `str` or `bytes` that `serialize`
    wrote, not `serialize_to`, takes the rest of the file.) `base`, if any, is kept alive by all
    that is decoded and lies in the message.

    Raises:
        DeserializationError: the source ends before the message does.
        TypeError: `source` is neither bytes-like nor a file.
    """
    from .message import SerializedObject

    buffer = _message_buffer(source)
    if base is not None and base is not source:
        buffer = _pinned(buffer, base)
    return SerializedObject.from_buffer(buffer)


_PIECE = 1 << 20


def _message_buffer(source: Any) -> memoryview:
    """The bytes of the next message in `source`, in place if it is memory."""
    from .message import read_head

    try:
        return memoryview(source)
    except TypeError:
        pass
    # pyarrow's files give views of what they have in memory; any other file gives a copy.
    read = getattr(source, "read_buffer", None) or getattr(source, "read", None)
    if read is None:
        raise TypeError(f"cannot read a message from {type(source).__name__!r}")
    try:
        head, size = read_head(read)
    except EOFError:
        raise DeserializationError("there is no message: the file is at its end") from None
    if source.seekable():
        start = source.tell() - len(head)
        end = source.seek(0, 2)
        source.seek(start)
        if size is not None and size > end - start:
            raise DeserializationError(f"the message has {size} bytes, the file {end - start}")
        return memoryview(read() if size is None else read(size))
    return memoryview(head + _read_pipe(source.read, size, len(head)))


def _read_pipe(read: Callable[[int], bytes], size: int | None, done: int) -> bytes:
    """The rest of a message from a file that cannot say how much it holds."""
    parts = []
    while size is None or done < size:
        # In pieces, so that a wrong size allocates no more than there is to read.
        part = read(_PIECE if size is None else min(_PIECE, size - done))
        if not part:
            break
        parts.append(part)
        done += len(part)
    if size is not None and done < size:
        raise DeserializationError(f"the message has {size} bytes, the file {done}")
    return b"".join(parts)


def _pinned(buffer: memoryview, base: Any) -> memoryview:
    """The same memory, whose every view keeps `base` alive too."""
    from numpy import asarray

    return memoryview(asarray(_Pin(buffer, base)))  # type: ignore[arg-type]


class _Pin:
    """Memory and what has to live as long, offered to numpy as an array."""

    def __init__(self, buffer: memoryview, base: Any) -> None:
        from numpy import frombuffer

        self.array = frombuffer(buffer, "u1")
        self.base = base
        self.__array_interface__ = self.array.__array_interface__


def deserialize_from(source: Any, base: Any, context: SerializationContext | None = None) -> Any:
    """Decode the message in `source`; `base` is kept alive by arrays that are views of it."""
    return read_serialized(source, base).deserialize(context)


def deserialize_components(components: Any, context: SerializationContext | None = None) -> Any:
    """Decode what `SerializedPyObject.to_components()` returned."""
    from .message import SerializedObject

    return SerializedObject.from_components(components).deserialize(context)


def __getattr__(name: str) -> Any:
    # An alias looked up late: importing the codec here would be a cycle.
    if name == "SerializedPyObject":
        from .message import SerializedObject

        return SerializedObject
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
