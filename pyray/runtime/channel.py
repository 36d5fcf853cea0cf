"""Messages between drivers and the node: frames of plain values, over two pipes or a socket.

Imports nothing else of pyray. A frame is its length in four bytes, little-endian, and a dict of
plain values as marshal writes it, which costs no import; interpreters of other versions read it,
too. Who is on the other end, and what may be said: drivers.py.

A process that dies in the middle of a frame leaves a part of it in the pipe, which the other end
drops with the end of the pipe.
"""

from __future__ import annotations

import marshal
import os

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

#: What is read at once.
CHUNK = 1 << 16
#: Of marshal: the one that every Python 3 reads.
FORMAT = 4


def frame(message: dict[str, Any]) -> bytes:
    body = marshal.dumps(message, FORMAT)
    return len(body).to_bytes(4, "little") + body


class Inbox:
    """Messages from the pieces in which they arrive."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        self._data += data
        start = 0
        while len(self._data) - start >= 4:
            end = start + 4 + int.from_bytes(self._data[start : start + 4], "little")
            if len(self._data) < end:
                break
            body = bytes(self._data[start + 4 : end])
            start = end
            yield marshal.loads(body)
        del self._data[:start]

    def missing(self) -> int:
        """How many bytes to read at least to make progress, and at most not to pass a message."""
        have = len(self._data)
        if have < 4:
            return 4 - have
        return 4 + int.from_bytes(self._data[:4], "little") - have


class Outbox:
    """Frames that wait until a pipe, which does not block, takes them."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._data = bytearray()

    def __len__(self) -> int:
        return len(self._data)

    def put(self, message: dict[str, Any]) -> None:
        self._data += frame(message)

    def write(self) -> None:
        """Write what the pipe takes now. Raises BrokenPipeError when nobody reads it any more."""
        while self._data:
            with memoryview(self._data) as view:
                try:
                    written = os.write(self.fd, view[:CHUNK])
                except BlockingIOError:
                    return
            del self._data[:written]
