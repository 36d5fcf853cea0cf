"""What both halves of the reference codec know of the format: kinds, parts, numbers, limits.

The names are those of docs/format.md. May import nothing of pyray.
"""

from __future__ import annotations

import logging
import sys
from _thread import allocate_lock
from contextlib import contextmanager
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger("pyray.serialization")

VERSION = 1
#: The kind byte's bit for offsets of 64 bits.
LARGE = 0x40
#: bytes and bytearray of this size and more are buffers of their own.
OUT_OF_LINE = 4096
#: dtype kinds that an NDARRAY may have.
DTYPE_KINDS = frozenset("biufcmMSUV")


class Tag(IntEnum):
    """The low four bits of a message's first byte (section 1)."""

    NONE = 0
    FALSE = 1
    TRUE = 2
    INT = 3
    FLOAT = 4
    STR = 5
    SURROGATES = 6
    BYTES = 7
    COLUMNS = 15


class Kind(IntEnum):
    """What a node's rows are (section 4)."""

    NULL = 0
    BOOL = 1
    INT8 = 2
    INT16 = 3
    INT32 = 4
    INT64 = 5
    FLOAT64 = 6
    COMPLEX128 = 7
    UTF8 = 8
    SURROGATES = 10
    BYTES = 11
    BYTEARRAY = 12
    BIGINT = 13
    DICTIONARY = 14
    REF = 15
    GLOBAL = 16
    BYTES_BUFFER = 17
    BYTEARRAY_BUFFER = 18
    BUFFER = 19
    NDARRAY = 20
    LIST = 21
    TUPLE = 22
    SET = 23
    FROZENSET = 24
    DICT = 25
    DICT_RECORD = 26
    TUPLE_RECORD = 27
    INSTANCE = 28
    REDUCE = 29
    UNION = 30
    BUFFER_WRITABLE = 31


class Part(IntFlag):
    """The parts of a REDUCE, in the order of its children (section 4.1)."""

    FUNCTION = 1
    ARGUMENTS = 2
    LIST_ITEMS = 4
    DICT_ITEMS = 8
    STATE = 16
    SETTER = 32


#: Kinds whose rows are variable stretches of a data column.
BINARY_KINDS = frozenset({Kind.UTF8, Kind.SURROGATES, Kind.BYTES, Kind.BYTEARRAY, Kind.BIGINT})

#: Kinds whose rows are stretches of the rows of their children.
SEQUENCE_KINDS = frozenset({Kind.LIST, Kind.TUPLE, Kind.SET, Kind.FROZENSET, Kind.DICT})

#: Kinds without a column, whose rows are rows of their children.
RECORD_KINDS = frozenset({Kind.DICT_RECORD, Kind.TUPLE_RECORD, Kind.INSTANCE, Kind.REDUCE})

#: Kinds whose rows are one number each, and the struct code of that number.
NUMBER_CODES = {
    Kind.INT8: "b",
    Kind.INT16: "h",
    Kind.INT32: "i",
    Kind.INT64: "q",
    Kind.FLOAT64: "d",
    Kind.DICTIONARY: "i",
    Kind.REF: "i",
    Kind.GLOBAL: "i",
    Kind.BYTES_BUFFER: "i",
    Kind.BYTEARRAY_BUFFER: "i",
    Kind.BUFFER: "i",
    Kind.BUFFER_WRITABLE: "i",
    Kind.NDARRAY: "i",
}

#: The columns of the tensor and buffer tables (section 5).
TENSOR_CODES = {"buffer": "i", "dtype": "i", "order": "b", "shape_offsets": "i", "shapes": "q"}


def padding(position: int, alignment: int) -> int:
    """How many zero bytes bring `position` to a multiple of `alignment`."""
    return -position % alignment


def record_padding(position: int, record_rows: int) -> int:
    """How many zero bytes stand between the memo and the buffers: one byte a row, at least."""
    return max(0, record_rows + padding(record_rows, 8) - position)


# -- depth -----------------------------------------------------------------------------------

_FRAMES_A_LEVEL = 6
_lock = allocate_lock()
_users = 0
_usual_limit = 0


@contextmanager
def room_to_recurse() -> Iterator[int]:
    """Let the codec nest as deep as the interpreter's limit says, and yield that limit.

    The codec takes several Python frames a level of nesting, so the interpreter's own limit is
    raised meanwhile and the codec counts levels itself.
    """
    global _users, _usual_limit
    with _lock:
        if _users == 0:
            _usual_limit = sys.getrecursionlimit()
            sys.setrecursionlimit(_usual_limit * (_FRAMES_A_LEVEL + 1))
        _users += 1
        limit = _usual_limit
    try:
        yield limit
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                sys.setrecursionlimit(_usual_limit)
