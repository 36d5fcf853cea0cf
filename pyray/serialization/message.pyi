"""Whole messages: pickle's functions, and the serialized object that is written later."""

from collections.abc import Callable, Collection, Iterable
from pickle import PickleBuffer
from typing import IO, Any

import pyarrow

from ._decoder import Buffer
from .context import SerializationContext

VERBOSE_DEBUG: bool

def encode_message(
    obj: Any,
    *,
    context: SerializationContext | None = None,
    buffer_callback: Callable[[PickleBuffer], Any] | None = None,
) -> bytes: ...
def decode_message(
    buffer: Any,
    *,
    context: SerializationContext | None = None,
    trusted: bool = True,
    allow: Collection[Any] = (),
    buffers: Iterable[Any] | None = None,
) -> Any: ...
def dumps(
    obj: Any,
    protocol: int | None = None,
    *,
    fix_imports: bool = True,
    buffer_callback: Callable[[PickleBuffer], Any] | None = None,
) -> bytes: ...
def loads(
    data: Any,
    /,
    *,
    fix_imports: bool = True,
    encoding: str = "ASCII",
    errors: str = "strict",
    buffers: Iterable[Any] | None = None,
) -> Any: ...
def dump(
    obj: Any,
    file: IO[bytes],
    protocol: int | None = None,
    *,
    fix_imports: bool = True,
    buffer_callback: Callable[[PickleBuffer], Any] | None = None,
) -> None: ...
def load(
    file: IO[bytes],
    *,
    fix_imports: bool = True,
    encoding: str = "ASCII",
    errors: str = "strict",
    buffers: Iterable[Any] | None = None,
) -> Any: ...
def serialize(obj: Any, *, context: SerializationContext | None = None) -> SerializedObject: ...
def deserialize(
    buffer: Any,
    *,
    context: SerializationContext | None = None,
    trusted: bool = True,
    allow: Collection[Any] = (),
    buffers: Iterable[Any] | None = None,
) -> Any: ...
def read_head(read: Callable[[int], Any]) -> tuple[bytes, int | None]: ...

class SerializedObject:
    @property
    def total_bytes(self) -> int: ...
    @staticmethod
    def from_buffer(buffer: Any) -> SerializedObject: ...
    @staticmethod
    def from_components(components: dict[str, Any]) -> SerializedObject: ...
    def to_buffer(self) -> Buffer: ...
    def write_to(self, sink: Any) -> int: ...
    def to_components(self, memory_pool: Any = None) -> dict[str, Any]: ...
    def deserialize(self, context: SerializationContext | None = None) -> Any: ...
    def to_arrow(self) -> pyarrow.RecordBatch: ...
    def __arrow_c_array__(self, requested_schema: Any = None) -> tuple[Any, Any]: ...
    def to_arrow_ipc(self, sink: Any) -> None: ...
    def __len__(self) -> int: ...
