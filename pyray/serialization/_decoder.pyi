"""Decoding of whole messages."""

from collections.abc import Collection, Iterable
from typing import Any

from .context import SerializationContext

class Buffer:
    """A view of bytes that another object owns."""

    def __len__(self) -> int: ...
    def __bytes__(self) -> bytes: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    __hash__: None  # type: ignore[assignment]

def decode_message(
    buffer: Any,
    *,
    context: SerializationContext | None = None,
    trusted: bool = True,
    allow: Collection[Any] = (),
    buffers: Iterable[Any] | None = None,
) -> Any:
    """Return the object of a message."""

def live_counts() -> dict[str, int]:
    """In a debug build, how many large parsed messages and warm blocks there are; else zeros."""

def message_size(buffer: Any) -> int | None:
    """Return how many bytes the message at the start of `buffer` has; None if all of it."""
