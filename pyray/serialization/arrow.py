"""Messages as Arrow data, and back: for other libraries, and for readers in other languages.

`export` needs no Arrow library; the other functions need pyarrow, the `arrow` extra. The types are
those of docs/arrow.md. May import `_arrow`, `arrow_import`, `message` and `errors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._arrow import export
from .errors import DeserializationError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    import pyarrow

    from .context import SerializationContext

__all__ = ["export", "from_arrow", "from_arrow_ipc", "to_arrow", "to_arrow_ipc"]


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError("this needs pyarrow: pip install pyray-runtime[arrow]") from error
    return pyarrow


def to_arrow(message: Any) -> pyarrow.RecordBatch:
    """The message in a buffer as a record batch of one row, which keeps the buffer alive.

    Columns are not copied. Arrays are the message's own: if the buffer is writable and somebody
    writes to it, they change.

    Raises:
        DeserializationError: the bytes are not a sound message.
        OverflowError: the message holds more rows than Arrow's unions can number.
    """
    return _pyarrow().record_batch(export(message))


def from_arrow(
    data: Any,
    *,
    context: SerializationContext | None = None,
    trusted: bool = True,
    allow: Collection[Any] = (),
    buffers: Iterable[Any] | None = None,
) -> Any:
    """The object that `to_arrow` made `data` of.

    `data` is a record batch, a struct array or a table of one row, or anything with
    `__arrow_c_array__` or `__arrow_c_stream__`; it may have been through IPC, as long as field
    metadata came along. The other arguments are those of `deserialize`.

    Raises:
        DeserializationError: these are other data, or altered ones.
    """
    from .arrow_import import rebuild_message
    from .message import deserialize

    message = rebuild_message(_as_batch(data))
    return deserialize(message, context=context, trusted=trusted, allow=allow, buffers=buffers)


def _as_batch(data: Any) -> Any:
    """One record batch of whatever Arrow data these are."""
    pa = _pyarrow()
    try:
        if isinstance(data, pa.StructArray):
            return pa.RecordBatch.from_struct_array(data)
        if isinstance(data, pa.RecordBatch):
            return data
        if hasattr(data, "__arrow_c_array__"):
            return pa.record_batch(data)
        if hasattr(data, "__arrow_c_stream__"):
            return _only_batch(pa.table(data).to_batches())
    except (pa.ArrowException, ValueError) as error:
        raise DeserializationError(f"these Arrow data are not a pyray message: {error}") from error
    raise TypeError(f"Arrow data expected, not {type(data).__name__!r}")


def _only_batch(batches: list[Any]) -> Any:
    batches = [batch for batch in batches if batch.num_rows]
    if len(batches) != 1:
        raise DeserializationError(
            "these Arrow data are not a pyray message: "
            f"one record batch expected, not {len(batches)}"
        )
    return batches[0]


def to_arrow_ipc(message: Any, sink: Any) -> None:
    """Write the message to a path, a file object or a pyarrow stream, as a standard IPC stream.

    Any Arrow library reads it; docs/arrow.md shows how.
    """
    pa = _pyarrow()
    batch = to_arrow(message)
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)


def from_arrow_ipc(
    source: Any,
    *,
    context: SerializationContext | None = None,
    trusted: bool = True,
    allow: Collection[Any] = (),
    buffers: Iterable[Any] | None = None,
) -> Any:
    """The object that `to_arrow_ipc` wrote to `source`: bytes, a path or a file object.

    Raises:
        DeserializationError: it is not a whole IPC stream of a message.
    """
    pa = _pyarrow()
    if isinstance(source, str) or hasattr(source, "__fspath__"):
        source = pa.memory_map(str(source))
    try:
        batch = _only_batch(list(pa.ipc.open_stream(source)))
    except (pa.ArrowException, EOFError, OSError, MemoryError) as error:
        # pyarrow has OSError for a stream that is malformed, and tries to get as much memory as an
        # altered one asks for; an error of the system has a number.
        if getattr(error, "errno", None) is not None:
            raise
        raise DeserializationError(f"not an Arrow IPC stream: {error}") from error
    return from_arrow(batch, context=context, trusted=trusted, allow=allow, buffers=buffers)
