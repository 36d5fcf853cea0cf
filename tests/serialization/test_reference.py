"""The reference codec against docs/format.md: what it writes, and what it refuses to read."""

from __future__ import annotations

import collections
import copyreg
import datetime
import gc
import logging
import pickle
import random
import sys
import threading
from pickle import PickleBuffer, PicklingError
from struct import pack, pack_into, unpack_from
from typing import Any

import numpy as np
import pytest
from graphs import (
    Color,
    Holder,
    Plain,
    Point,
    Record,
    Reduced,
    Slots,
    SlotsAndDict,
    WithSetter,
    difference,
    function,
    random_graph,
)

from pyray.serialization import reference_encoder
from pyray.serialization.context import SerializationContext
from pyray.serialization.errors import DeserializationError
from pyray.serialization.reference_decoder import decode_message, describe
from pyray.serialization.reference_encoder import encode_message
from pyray.serialization.reference_format import Kind
from pyray.serialization.reference_parser import Message, parse


def parsed(obj: Any) -> Message:
    return parse(memoryview(encode_message(obj)))


def layout(obj: Any) -> str:
    """The node tree of an object's message, like LIST(UNION(INT8, UTF8))."""
    message = parsed(obj)

    def word(index: int) -> str:
        node = message.nodes[index]
        children = ", ".join(map(word, node.children))
        return f"{node.kind.name}({children})" if children else node.kind.name

    return word(0)


def round_trip(obj: Any, **options: Any) -> Any:
    return decode_message(encode_message(obj), **options)


def instance(cls: type, **attributes: Any) -> Any:
    obj = cls.__new__(cls)
    for name, value in attributes.items():
        setattr(obj, name, value)
    return obj


# -- section 1: scalars ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        (None, "10"),
        (False, "11"),
        (True, "12"),
        (0, "1300"),
        (-1, "13ff"),
        (127, "137f"),
        (128, "138000"),
        (-128, "1380ff"),
        (2**64, "13000000000000000001"),
        (1.5, "14000000000000f83f"),
        ("", "15"),
        ("é", "15c3a9"),
        ("\ud800", "16eda080"),
        (b"ab", "176162"),
    ],
)
def test_scalars(obj: Any, message: str) -> None:
    assert encode_message(obj).hex() == message
    assert difference(obj, round_trip(obj)) is None


def test_scalars_are_exact_types() -> None:
    for obj in (bytearray(b"x"), 1j, np.float64(1), Color.RED, b"x" * 4096, ()):
        assert encode_message(obj)[0] == 0x1F
        assert difference(obj, round_trip(obj)) is None


@pytest.mark.parametrize("message", ["", "13", "1400", "15ff", "1600ff", "18", "00", "2f"])
def test_malformed_scalars(message: str) -> None:
    with pytest.raises(DeserializationError):
        decode_message(bytes.fromhex(message))


def test_another_version_is_named() -> None:
    with pytest.raises(DeserializationError, match=r"version 2.*version 1"):
        decode_message(b"\x20")


# -- section 2: bytes ------------------------------------------------------------------------


def test_every_byte_of_a_small_message() -> None:
    description = bytes([2, 0, 0, 0, 0, 0, 0, Kind.LIST, 1, Kind.INT8, 3])
    columns = pack("<ii", 0, 3) + b"\x01\x02\x03" + bytes(5)
    expected = pack("<BBHIQ", 0x1F, 0, 0, len(description), 48) + description + bytes(5) + columns
    assert encode_message([1, 2, 3]) == expected


def test_every_byte_of_a_message_with_tables() -> None:
    description = bytes([2, 0, 1, 1, 1, 1, 1, Kind.LIST, 1, Kind.UNION, 2, 2])
    description += bytes([Kind.NDARRAY, 1, Kind.REF, 1, 3]) + b"<u2"
    array = np.array([7, 8, 9], "<u2")
    message = encode_message([array, array])
    assert message[:16] == pack("<BBHIQ", 0x1F, 0, 0, 20, len(message))
    assert message[16:36] == b"\x04" + description[1:]
    columns = [
        pack("<ii", 0, 2),  # offsets of the list
        bytes([0, 1]).ljust(8, b"\0") + pack("<ii", 0, 0),  # type ids and offsets of the union
        pack("<i", 0).ljust(8, b"\0"),  # tensor index
        pack("<i", 0).ljust(8, b"\0"),  # memo number
        pack("<i", 0).ljust(8, b"\0") * 2,  # the tensor's buffer and dtype
        bytes(8) + pack("<ii", 0, 1) + pack("<q", 3),  # order, shape offsets, shape
        pack("<qq", 0, 6),  # the buffer's offset and size
        pack("<i", 2).ljust(8, b"\0") + pack("<q", 0) + bytes(8),  # node 2, row 0 is number 0
    ]
    rest = b"".join(columns)
    assert message[40 : 40 + len(rest)] == rest
    assert message[192:256] == array.tobytes().ljust(64, b"\0")
    assert len(message) == 256


# -- section 7.1: slots and columns ----------------------------------------------------------


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        ([], "LIST(NULL)"),
        ([None], "LIST(NULL)"),
        ([1, -128], "LIST(INT8)"),
        ([128], "LIST(INT16)"),
        ([2**15], "LIST(INT32)"),
        ([-(2**31) - 1], "LIST(INT64)"),
        ([2**63 - 1, -(2**63)], "LIST(INT64)"),
        ([2**63], "LIST(BIGINT)"),
        ([1, 2**63], "LIST(UNION(INT8, BIGINT))"),
        ([True, 1], "LIST(UNION(BOOL, INT8))"),
        ([1.0, 1j], "LIST(UNION(FLOAT64, COMPLEX128))"),
        (["a", "\ud800"], "LIST(UNION(UTF8, SURROGATES))"),
        ([b"a", bytearray(b"a")], "LIST(UNION(BYTES, BYTEARRAY))"),
        ([b"a" * 4096, bytearray(4096)], "LIST(UNION(BYTES_BUFFER, BYTEARRAY_BUFFER))"),
        ([{1}, frozenset({1})], "LIST(UNION(SET(INT8), FROZENSET(INT8)))"),
        ((), "TUPLE(NULL)"),
        ((1,) * 7, "TUPLE(UNION(INT8))"),
        ((1,) * 8, "TUPLE(INT8)"),
        ([[1], ["a"], [2]], "LIST(UNION(LIST(INT8), LIST(UTF8)))"),
        ([[1], [2.0], [True], [None]],
         "LIST(UNION(LIST(INT8), LIST(FLOAT64), LIST(BOOL), LIST(NULL)))"),
        ([[1, "a"]], "LIST(LIST(UNION(INT8, UTF8)))"),
        ({1: "a"}, "DICT(INT8, UTF8)"),
        ([len, len], "LIST(GLOBAL)"),
        ([(1, 2), "hello", 3, 4, np.array([5.0, 6.0])],
         "LIST(UNION(TUPLE(UNION(INT8)), UTF8, INT8, NDARRAY))"),
    ],
)  # fmt: skip
def test_columns(obj: Any, expected: str) -> None:
    assert layout(obj) == expected
    assert difference(obj, round_trip(obj)) is None


def test_union_keeps_the_column_it_grew_from() -> None:
    union = parsed([1, 2, "a", 3]).nodes[1]
    assert union.values == (0, 0, 1, 0)
    assert union.offsets == (0, 1, 0, 2)


# -- section 7.2: records --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        ([{"a": 1}, {"a": 2}], "LIST(DICT_RECORD(INT8))"),
        ([{"a": 1}], "LIST(DICT(UTF8, INT8))"),  # a single item promises nothing
        ([{"a": 1}, [1], {"a": 1}], "LIST(UNION(DICT(UTF8, INT8), LIST(INT8)))"),
        ([{"a": 1, "b": 2}, {"b": 1, "a": 2}],
         "LIST(UNION(DICT_RECORD(INT8, INT8), DICT(UTF8, INT8)))"),
        ([{1: 1}, {"a": 1}, {}], "LIST(UNION(DICT(INT8, INT8), DICT_RECORD(INT8)))"),
        ([{"\ud800": 1}] * 2, "LIST(UNION(DICT(SURROGATES, INT8), REF))"),
        ([(1, "a"), (2, "b")], "LIST(TUPLE_RECORD(INT8, UTF8))"),
        ([(), ()], "LIST(TUPLE(NULL))"),
        ({1: (1,), 2: (2,)}, "DICT(INT8, TUPLE_RECORD(INT8))"),
        ({(1,): 1, (2,): "a"}, "DICT(TUPLE_RECORD(INT8), UNION(INT8, UTF8))"),
        ([[(1,)], [(2,)]], "LIST(LIST(TUPLE_RECORD(INT8)))"),  # the level is handed down
        ([tuple(range(16)), tuple(range(17))],
         f"LIST(UNION(TUPLE_RECORD({', '.join(['INT8'] * 16)}), TUPLE(INT8)))"),
        ([dict.fromkeys(map(str, range(33)), 1), {"a": 1}],
         "LIST(UNION(DICT(UTF8, INT8), DICT_RECORD(INT8)))"),
    ],
)  # fmt: skip
def test_records(obj: Any, expected: str) -> None:
    assert layout(obj) == expected
    assert difference(obj, round_trip(obj)) is None


def test_records_end_at_level_0() -> None:
    obj = [{"a": {"a": {"a": {"a": 1}}}} for _ in range(2)]
    assert layout(obj) == "LIST(DICT_RECORD(DICT_RECORD(DICT_RECORD(DICT(UTF8, INT8)))))"
    assert difference(obj, round_trip(obj)) is None


def test_eight_arities() -> None:
    obj = [(1,), *((1,) * n for n in range(2, 12))]
    members = [member.kind.name for member in parsed(obj).nodes[2:11]]
    assert members == ["TUPLE_RECORD"] * 8 + ["TUPLE"]
    assert difference(obj, round_trip(obj)) is None


# -- section 7.3: empty lists ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        ([[], [1]], "LIST(LIST(INT8))"),  # takes the class
        ([[], [], ["a"], [1]], "LIST(UNION(LIST(UTF8), LIST(INT8)))"),
        ([[1], []], "LIST(LIST(INT8))"),
        ([1, [], [1]], "LIST(UNION(INT8, LIST(INT8)))"),
        ([[1], ["a"], []], "LIST(UNION(LIST(INT8), LIST(UTF8)))"),
    ],
)
def test_empty_lists(obj: Any, expected: str) -> None:
    assert layout(obj) == expected
    assert difference(obj, round_trip(obj)) is None


def test_empty_list_goes_where_the_last_list_went() -> None:
    assert parsed([[1], ["a"], [], [2], []]).nodes[1].values == (0, 1, 1, 0, 0)


# -- section 7.4: references -----------------------------------------------------------------


def test_unshared_values_are_repeated() -> None:
    obj = [(), b"", None, True, 2**70, 1.5, 1j, "", "a", len]
    assert parsed([*obj, *obj]).first_row == {}


def test_memo_numbers_in_order_of_reference() -> None:
    first, second = [1], [2]
    message = parsed([first, second, second, first])
    assert message.memo == {(2, 0): 1, (2, 1): 0}
    assert message.nodes[3].values == (0, 1)


def test_repeated_string_makes_a_dictionary() -> None:
    text, equal = "text!"[:4], "text?"[:4]
    assert layout([text, "x", text]) == "LIST(DICTIONARY(UTF8))"
    assert layout([text, "x", equal]) == "LIST(UTF8)"  # by identity
    message = parsed([text, "x", text, "y", text])
    assert message.nodes[1].values == (0, 1, 0, 2, 0)
    assert message.memo == {}
    result = round_trip([text, text])
    assert result[0] is result[1]


def test_string_in_several_columns() -> None:
    text = "text!"[:4]
    obj = [{"name": text}, [text, text], {text}, [text, text]]
    message = parsed(obj)
    assert sorted(message.memo.values()) == [0, 0, 0]
    result = round_trip(obj)
    assert result[0]["name"] is result[1][1] is result[3][0] is next(iter(result[2]))


def test_tuple_that_contains_itself() -> None:
    inner: list[Any] = []
    obj = (inner, 1)
    inner.append(obj)
    message = parsed(obj)
    assert list(message.memo.values()).count(1) == 2  # the tuple, and itself within the list
    result = round_trip(obj)
    assert result[0][0] is result and result[1] == 1


def test_reduction_that_contains_itself() -> None:
    obj = Holder([])
    obj.content.append(obj)
    result = round_trip(obj)
    assert type(result) is Holder and result.content == [result]


def test_frozenset_that_contains_itself() -> None:
    member = Plain()
    obj = frozenset({member})
    member.owner = obj
    result = round_trip(obj)
    assert next(iter(result)).owner is result


def test_mutable_cycles() -> None:
    items: list[Any] = []
    items.append({"items": items, "set": {function}})
    result = round_trip(items)
    assert result[0]["items"] is result


# -- section 7.1 and 5: arrays and buffers ---------------------------------------------------


@pytest.mark.parametrize("dtype", ["f8", ">f4", "?", "c16", "M8[ns]", ">M8[us]", "m8", "U3", "S0",
                                   "V5", "f2", "g", "u8"])  # fmt: skip
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 1)])
def test_arrays(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, dtype)
    for variant in (array, array.T, np.asfortranarray(array), array[..., ::2] if shape else array):
        result = round_trip(variant)
        assert result.dtype.str == variant.dtype.str and result.shape == variant.shape
        assert result.tobytes() == variant.tobytes()
        assert not result.flags.writeable


def test_array_order() -> None:
    orders = [tensor.order for tensor in parsed([
        np.zeros((2, 3)), np.zeros((2, 3)).T, np.zeros((1, 3)).T, np.zeros((4, 3))[::2],
    ]).tensors]  # fmt: skip
    assert orders == [0, 1, 0, 0]
    assert round_trip([np.arange(6).reshape(2, 3).T])[0].flags.f_contiguous


@pytest.mark.parametrize(
    "array",
    [
        np.array([1, None], dtype=object),
        np.zeros(2, [("a", "i4"), ("b", "f8")]),
        np.zeros(2, np.dtype("i4", metadata={"unit": "m"})),
    ],
)
def test_arrays_without_a_tensor(array: Any) -> None:
    assert layout(array).startswith("REDUCE")
    assert difference(array, round_trip(array)) is None


def test_array_is_a_view_of_the_message() -> None:
    message = bytearray(encode_message(np.arange(4)))
    result = decode_message(message)
    assert result.ctypes.data % 64 == np.frombuffer(message, "u1").ctypes.data % 64
    message[-64] = 9
    assert result[0] == 9


def test_pickle_buffers_in_band() -> None:
    obj = [PickleBuffer(b"read"), PickleBuffer(bytearray(b"write"))]
    assert layout(obj) == "LIST(UNION(BUFFER, BUFFER_WRITABLE))"
    for view in round_trip(obj):
        assert type(view) is memoryview and view.readonly
    assert [bytes(view) for view in round_trip(obj)] == [b"read", b"write"]


def test_pickle_buffer_must_be_contiguous() -> None:
    with pytest.raises(PicklingError, match=r"PickleBuffer' at obj\[0\].*non-contiguous"):
        encode_message([PickleBuffer(np.arange(8)[::2])])


def test_out_of_band() -> None:
    buffers: list[PickleBuffer] = []
    array, dates = np.arange(5), np.zeros(2, "M8[s]")
    writable = bytearray(b"writable")
    obj = [array, PickleBuffer(b"fixed"), PickleBuffer(writable), b"x" * 5000, dates, array]
    message = encode_message(obj, buffer_callback=buffers.append)
    assert [bytes(buffer) for buffer in buffers] == [
        array.tobytes(), b"fixed", b"writable", dates.tobytes()
    ]  # fmt: skip
    result = decode_message(message, buffers=buffers)
    assert (result[0] == array).all() and result[5] is result[0] and (result[4] == dates).all()
    assert result[2] is buffers[2]
    handed_in = [bytearray(buffer) for buffer in buffers]
    result = decode_message(message, buffers=iter(handed_in))
    assert result[0].flags.writeable  # as numpy's own out-of-band arrays
    assert type(result[1]) is memoryview and result[1].readonly
    assert result[2] is handed_in[2]
    for too_few in (None, [], buffers[:2]):
        with pytest.raises(DeserializationError, match="buffers"):
            decode_message(message, buffers=too_few)


def test_callback_that_keeps_buffers_in_band() -> None:
    seen: list[Any] = []
    array = np.arange(5)
    message = encode_message([array], buffer_callback=lambda buffer: seen.append(buffer) or True)
    assert len(seen) == 1 and (decode_message(message)[0] == array).all()


def test_strided_array_of_foreign_byte_order() -> None:
    array = np.arange(6, dtype=">i2")[::2]
    assert difference(array, round_trip(array)) is None


# -- section 7.5: reductions -----------------------------------------------------------------


class MadeByClass(list):
    def __reduce_ex__(self, protocol: Any) -> Any:
        return MadeByClass, ([1],), None, iter(["a"]), iter([(0, "b")])


class SetterOnly:
    def __reduce__(self) -> Any:
        return copyreg.__newobj__, (SetterOnly,), None, None, None, print


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (instance(Plain, a=1), "INSTANCE(DICT(UTF8, INT8))"),
        (instance(Slots, left=1), "INSTANCE(TUPLE(UNION(NULL, DICT(UTF8, INT8))))"),
        (instance(SlotsAndDict, left=1, x=2),
         "INSTANCE(TUPLE(UNION(DICT_RECORD(INT8), DICT(UTF8, INT8))))"),
        ([Record(1, 2, 3), Record(4, 5, 6)],
         "LIST(INSTANCE(DICT_RECORD(INT8, INT8, INT8)))"),
        (Point(1, 2), "REDUCE(TUPLE_RECORD(GLOBAL, INT8, INT8))"),
        (collections.OrderedDict(a=1), "REDUCE(TUPLE(NULL), DICT(UTF8, INT8))"),
        (collections.deque([1]), "REDUCE(TUPLE(NULL), LIST(INT8))"),
        (MadeByClass(),
         "REDUCE(TUPLE_RECORD(LIST(INT8)), LIST(UTF8), DICT(INT8, UTF8))"),
        (SetterOnly(), "REDUCE(TUPLE_RECORD(GLOBAL))"),
        (datetime.date(2020, 1, 1), "REDUCE(TUPLE_RECORD(BYTES))"),
        (Ellipsis, "GLOBAL"),
        (dict, "GLOBAL"),
    ],
)  # fmt: skip
def test_reductions(obj: Any, expected: str) -> None:
    assert layout(obj) == expected


def test_setter() -> None:
    obj = WithSetter()
    obj.content = [obj]
    assert layout(obj) == "REDUCE(TUPLE(NULL), LIST(REF), GLOBAL)"
    result = round_trip(obj)
    assert result.content == [result]


def test_all_parts() -> None:
    obj = Reduced("tag")
    obj.items, obj.pairs, obj.state = [1, obj], [("a", 1), ("a", 2), ([], 3)], {"x": obj}
    result = round_trip(obj)
    assert result.items == [1, result] and result.pairs == obj.pairs
    assert result.state == {"x": result}


def test_globals_are_numbered_as_they_are_needed() -> None:
    assert parsed([Plain(), Point(1, 2), Plain(), len]).globals == [
        (Plain.__module__, "Plain"), ("copyreg", "__newobj__"), (Point.__module__, "Point"),
        ("builtins", "len"),
    ]  # fmt: skip


def test_forty_members() -> None:
    classes = [type(f"Class{i}", (), {"__module__": __name__}) for i in range(60)]
    try:
        for cls in classes:
            setattr(sys.modules[__name__], cls.__name__, cls)
        obj = [instance(cls, value=i) for i, cls in enumerate(classes)] * 2
        nodes = parsed(obj).nodes
        kinds = [nodes[member].kind for member in nodes[1].children]
        assert kinds == [Kind.INSTANCE] * 40 + [Kind.REDUCE, Kind.REF]
        result = round_trip(obj)
        assert [type(item) for item in result] == classes * 2
        assert [item.value for item in result] == [*range(60)] * 2
    finally:
        for cls in classes:
            delattr(sys.modules[__name__], cls.__name__)


def test_functions_by_value() -> None:
    offset = 5
    add = lambda x: x + offset
    result = round_trip([add, add])
    assert result[0](1) == 6 and result[0] is result[1]


def test_context() -> None:
    class Local:
        pass

    context = SerializationContext()
    context.register_type(Local, "local", custom_serializer=lambda obj: obj.x,
                          custom_deserializer=lambda x: ("local", x))  # fmt: skip
    message = encode_message([instance(Local, x=3)], context=context)
    assert decode_message(message, context=context, trusted=False) == [("local", 3)]


# -- section 7.6: many columns ---------------------------------------------------------------


@pytest.fixture
def few_columns(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(reference_encoder, "MANY_COLUMNS", request.param)
    monkeypatch.setattr(reference_encoder, "MANY_MEMBERS", 3)


@pytest.mark.parametrize("few_columns", [0, 2, 5, 12, 30], indirect=True)
def test_deferral_keeps_graphs(few_columns: None) -> None:
    for seed in range(150):
        graph = random_graph(seed, 60)
        assert difference(graph, round_trip(graph)) is None, seed


@pytest.mark.parametrize("few_columns", [1], indirect=True)
def test_deferred_objects_are_rows_of_the_root(few_columns: None) -> None:
    assert layout([[[1]]]) == "UNION(LIST(REF), LIST(INT8))"
    message = parsed([[[1]]])
    assert message.nodes[0].rows == 3
    # the middle list, then what lies on the way to it, then the innermost
    assert message.memo == {(1, 0): 1, (1, 1): 0, (2, 0): 2}
    assert parsed([(), ()]).nodes[0].rows == 1  # () is never deferred


@pytest.mark.parametrize("few_columns", [0], indirect=True)
def test_cycles_between_deferred_tuples(few_columns: None) -> None:
    middle: list[Any] = []
    outer = ("outer", ("inner", middle))
    middle.append((outer, middle))
    result = round_trip([{"x": outer}, outer])
    assert result[1] is result[0]["x"]
    assert result[1][1][1][0][0] is result[1]


def test_state_is_whole_when_it_is_set() -> None:
    """A reader that comes to a tuple again must not make its instances again."""
    obj = Plain()
    wide = [{f"key {i}": {i: (i, str(i), [i])}} for i in range(600)]
    pair = (obj, wide)
    obj.first, obj.again, obj.last = 1, [{"pair": pair}, (pair,)], 2
    result = round_trip([wide, pair])
    assert vars(result[1][0]).keys() == {"first", "again", "last"}
    assert result[1][0].again[1][0] is result[1]


# -- section 7.7 and errors ------------------------------------------------------------------


def nested(depth: int) -> list[Any]:
    obj: list[Any] = []
    for _ in range(depth):
        obj = [obj]
    return obj


def test_depth() -> None:
    limit = sys.getrecursionlimit()
    round_trip(nested(limit - 10))
    with pytest.raises(RecursionError):
        encode_message(nested(limit + 10))
    assert sys.getrecursionlimit() == limit


def test_path_in_errors() -> None:
    obj = instance(Plain, workers=[1, 2, instance(Slots, left={"key": threading.Lock()})])
    with pytest.raises(TypeError) as caught:
        encode_message(obj)
    assert str(caught.value).startswith(
        "cannot serialize '_thread.lock' at obj.workers[2].left['key']: cannot pickle"
    )
    assert isinstance(caught.value.__cause__, TypeError)


def test_path_of_what_is_in_a_reduction() -> None:
    lock = threading.Lock()
    reduced = Reduced()
    reduced.pairs = [("a", 1), ("b", lock)]
    for obj, path in (
        (Holder([lock]), r"obj.<arguments>\[0\]\[0\]"),
        (collections.deque([lock]), r"obj\[0\]"),
        (reduced, r"obj\['b'\]"),
        ({1, Point(lock, 2)}, r"obj.<item \d>.<arguments>\[1\]"),
        ({lock: 1}, r"obj.key\(<unlocked.*\)"),
    ):
        with pytest.raises(TypeError, match=path):
            encode_message(obj)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes are newer")
def test_other_errors_get_a_note() -> None:
    class Broken:
        def __reduce__(self) -> Any:
            raise KeyError("broken")

    with pytest.raises(KeyError) as caught:
        encode_message({"a": [Broken()]})
    (note,) = caught.value.__notes__
    assert note.endswith("Broken' at obj['a'][0]")


def test_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "pyray.serialization"):
        encode_message(instance(Plain, a=[1]))
    text = caplog.text
    assert "obj.a[0]: int" in text and "obj.a: list" in text


def test_gc_is_paused_and_goes_on() -> None:
    assert gc.isenabled()
    round_trip([[], {}])
    assert gc.isenabled()


# -- reading what is not honest --------------------------------------------------------------


def test_describe() -> None:
    text = describe(encode_message([Plain(), np.zeros(3), {"a": 1}]))
    assert "INSTANCE rows 1 graphs.Plain" in text and "tensor 0: <f8 (3,) C, buffer 0" in text
    assert describe(encode_message(5)) == "INT, 2 bytes"


def test_allow() -> None:
    message = encode_message([Plain(), datetime.date(2020, 1, 1)])
    with pytest.raises(DeserializationError, match=r"graphs\.Plain"):
        decode_message(message, trusted=False, allow=[datetime.date])
    result = decode_message(message, trusted=False, allow=[Plain, "datetime.date"])
    assert type(result[0]) is Plain


runs: list[int] = []


def note_run() -> None:
    runs.append(1)


class Runs:
    def __reduce__(self) -> Any:
        return note_run, ()


def test_nothing_runs_before_all_globals_are_checked() -> None:
    message = encode_message([Runs(), Plain()])
    with pytest.raises(DeserializationError, match=r"graphs\.Plain"):
        decode_message(message, trusted=False, allow=[note_run])
    assert not runs
    decode_message(message, trusted=False, allow=[note_run, Plain])
    assert runs == [1]


def expect_refusal(message: bytes) -> None:
    """A message that must not be read, or must be read without harm."""
    try:
        decode_message(message, trusted=False, allow=[Plain, Point, "copyreg.__newobj__"])
    except (DeserializationError, RecursionError):
        pass
    except (TypeError, AttributeError) as error:
        # A class that is allowed, called with arguments of another shape, may say so itself.
        assert "Point" in str(error) or "__new__" in str(error) or "attribute" in str(error)


SAMPLES = [
    [1, "text", (1, 2), {"a": 1, "b": [2.5]}, {1, 2}, b"x", 2**70, "\ud800", None, True, 1j],
    [{"a": i, "b": (i, str(i))} for i in range(3)],
    [np.arange(3), np.zeros((2, 2), order="F"), b"z" * 5000, PickleBuffer(b"q")],
    [instance(Plain, a=1), instance(Plain, b=[2]), Point(1, 2), Point(3, 4)],
]


@pytest.mark.parametrize("obj", SAMPLES, ids=range(len(SAMPLES)))
def test_truncated(obj: Any) -> None:
    message = encode_message(obj)
    for size in range(len(message)):
        with pytest.raises(DeserializationError):
            decode_message(message[:size])
    assert difference(obj, decode_message(message + bytes(8))) is None  # not of this message


@pytest.mark.parametrize("obj", SAMPLES, ids=range(len(SAMPLES)))
def test_altered(obj: Any) -> None:
    message = encode_message(obj)
    generator = random.Random(1)
    for _ in range(1500):
        altered = bytearray(message)
        for _ in range(generator.randint(1, 3)):
            altered[generator.randrange(min(len(message), 600))] = generator.randrange(256)
        expect_refusal(bytes(altered))


def build(nodes: bytes, counts: list[int], columns: list[bytes], tail: bytes = b"") -> bytes:
    """A message from the parts of its description and its columns."""
    description = bytes(counts) + nodes + tail
    body = bytearray(16) + description
    body += bytes(-len(body) % 8)
    for column in columns:
        body += column + bytes(-len(column) % 8)
    pack_into("<BBHIQ", body, 0, 0x1F, 0, 0, len(description), len(body))
    return bytes(body)


def test_unions_that_repeat_rows_without_end() -> None:
    """30 levels, each of which holds the next one twice."""
    levels = 30
    nodes, columns = bytes([Kind.LIST, 1]), [pack("<ii", 0, 2)]
    for _ in range(levels):
        nodes += bytes([Kind.UNION, 2, 1, Kind.LIST, 1])
        columns += [b"\0\0", pack("<ii", 0, 0), pack("<ii", 0, 2)]
    nodes += bytes([Kind.NULL, 2])
    columns.append(b"\0")
    message = build(nodes, [2 * levels + 2, 0, 0, 0, 0, 0, 0], columns)
    with pytest.raises(DeserializationError, match="repeat"):
        decode_message(message)


def test_reference_to_itself_through_tuples() -> None:
    nodes = bytes([Kind.TUPLE, 1, Kind.REF, 1])
    memo = [pack("<i", 0), pack("<q", 0), pack("<i", 0)]
    message = build(nodes, [2, 0, 0, 0, 0, 0, 1], [pack("<ii", 0, 1), pack("<i", 0), *memo])
    with pytest.raises((RecursionError, DeserializationError)):
        decode_message(message)


def test_message_deeper_than_the_limit() -> None:
    levels = 3 * sys.getrecursionlimit()
    nodes = bytes([Kind.LIST, 1]) * levels + bytes([Kind.NULL, 1])
    count = [levels + 1 & 0x7F | 0x80, levels + 1 >> 7]
    message = build(nodes, [*count, 0, 0, 0, 0, 0, 0], [pack("<ii", 0, 1)] * levels + [b"\0"])
    with pytest.raises(RecursionError):
        decode_message(message)


@pytest.mark.parametrize("dtype", [b"|O", b"<f8,<f8", b"(2,)i4", b"object", b"<f9", b"<M8[zz]"])
def test_dtypes_that_are_no_tensors(dtype: bytes) -> None:
    nodes = bytes([Kind.NDARRAY, 1])
    tail = bytes([len(dtype)]) + dtype
    index = pack("<i", 0)
    columns = [index, index, index, b"\0", pack("<ii", 0, 1), pack("<q", 1), pack("<q", 0),
               pack("<q", 8)]  # fmt: skip
    message = bytearray(build(nodes, [1, 0, 1, 1, 1, 1, 0], columns, tail))
    message += bytes(-len(message) % 64) + bytes(64)
    pack_into("<Q", message, 8, len(message))
    with pytest.raises(DeserializationError):
        decode_message(message)


def test_unhashable_items() -> None:
    nodes = bytes([Kind.SET, 1, Kind.LIST, 1, Kind.NULL, 0])
    message = build(nodes, [3, 0, 0, 0, 0, 0, 0], [pack("<ii", 0, 1), pack("<ii", 0, 0), b""])
    with pytest.raises(DeserializationError, match="unhashable"):
        decode_message(message)


def test_sizes_beyond_the_message_allocate_nothing() -> None:
    message = bytearray(encode_message([1, 2, 3]))
    (size,) = unpack_from("<I", message, 4)
    for position in range(16, 16 + size):
        altered = message[:position] + b"\xff\xff\xff\xff\xff\x7f" + message[position + 1 :]
        altered += bytes(-len(altered) % 8)
        pack_into("<IQ", altered, 4, size + 5, len(altered))
        with pytest.raises(DeserializationError):
            decode_message(altered)


def test_pickle_agrees_on_samples() -> None:
    for obj in SAMPLES[:2] + SAMPLES[3:]:
        assert difference(pickle.loads(pickle.dumps(obj)), round_trip(obj)) is None
