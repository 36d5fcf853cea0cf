"""Lazy reading: the same as the decoded object where they can be compared, and nothing runs."""

from __future__ import annotations

import collections
import datetime
import gc
import mmap
import pickle
import threading
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import Holder, Plain, Record, Reduced, SlotsAndDict, difference, random_graph
from handmade import binary, indices, lists, message, node

from pyray.serialization import DeserializationError, SerializationContext
from pyray.serialization._view import LazyDict, LazyList, LazyObject, LazySet, LazyTuple, view
from pyray.serialization.message import encode_message
from pyray.serialization.reference_format import Kind


def viewed(obj: Any, **options: Any) -> Any:
    return view(encode_message(obj), **options)


@pytest.mark.parametrize("obj", [None, True, 0, -5, 2**80, 1.5, "text", "\ud800", b"bytes", ""])
def test_scalars_come_out(obj: Any) -> None:
    assert viewed(obj) == obj and type(viewed(obj)) is type(obj)
    # Also where they are items.
    assert viewed([obj, [obj]])[0] == obj and viewed({"key": obj, "other": []})["key"] == obj


def test_empty_and_malformed() -> None:
    with pytest.raises(EOFError):
        view(b"")
    with pytest.raises(DeserializationError, match="version 2"):
        view(b"\x2f" + bytes(20))
    with pytest.raises(DeserializationError, match="cut off"):
        view(encode_message([1])[:-1])
    with pytest.raises(TypeError):
        view("text")


# -- sequences ---------------------------------------------------------------------------------

SEQUENCES: list[Any] = [
    [],
    [1, 2, 3],
    ["a", None, 2.5, ["b"], (1,)],
    (),
    (1, "two", [3.0]),
    tuple(range(100)),
    [(i, str(i)) for i in range(5)],
    [{"a": i} for i in range(5)],
    ["same" * 2] * 5,
]


@pytest.mark.parametrize("obj", SEQUENCES)
def test_sequences(obj: Any) -> None:
    v = viewed([obj, obj])[1]
    assert type(v) is (LazyList if type(obj) is list else LazyTuple)
    assert v == obj and obj == v and not v != obj
    assert len(v) == len(obj) and list(v) == list(obj)
    assert v.materialize() == obj and type(v.materialize()) is type(obj)
    for i in range(-len(obj), len(obj)):
        assert v[i] == obj[i]
    for i in (len(obj), -len(obj) - 1, 2**70):
        with pytest.raises(IndexError):
            v[i]
    for item in obj:
        assert item in v
    assert "absent" not in v
    assert v != [*obj, 1] and v != (*obj, 1) and v != "other"
    with pytest.raises(TypeError):
        v["a"]
    assert repr(v) == f"<{type(v).__name__} of {len(obj)} items>"


@pytest.mark.parametrize("obj", [list(range(10)), tuple(range(10)), (1, "a", None, [2])])
def test_slices(obj: Any) -> None:
    v = viewed(obj)
    bounds = [None, 0, 1, 3, 9, 10, 99, -1, -3, -99]
    for start in bounds:
        for stop in bounds:
            for step in (None, 1, 2, -1, -3):
                part = slice(start, stop, step)
                assert v[part] == obj[part] and type(v[part]) is type(v)
                assert v[part].materialize() == obj[part]
                assert v[part][::-2] == obj[part][::-2]
    with pytest.raises(ValueError):
        v[::0]


def test_lists_and_tuples_differ() -> None:
    assert viewed([1]) != (1,) and viewed((1,)) != [1]
    assert viewed([1]) == viewed([1]) and viewed([1]) != viewed((1,))


def test_views_are_not_hashable_and_do_not_pickle() -> None:
    for v in (viewed([1]), viewed({"a": 1}), viewed({1})):
        with pytest.raises(TypeError):
            hash(v)
        with pytest.raises(TypeError):
            pickle.dumps(v)
        with pytest.raises(TypeError):
            type(v)()


def test_sets() -> None:
    for obj in ({1, "a", None, (1, 2)}, frozenset([2.5, "b"]), set()):
        v = viewed([obj])[0]
        assert type(v) is LazySet
        assert v == obj and len(v) == len(obj)
        assert all(item in v for item in obj) and "absent" not in v
        assert v.materialize() == obj and type(v.materialize()) is type(obj)
        assert v != {*obj, 7} and v != {object(): 1}


# -- dicts -------------------------------------------------------------------------------------

DICTS: list[dict[Any, Any]] = [
    {},
    {"a": 1, "b": [2]},
    {"": 0, "é": 1, "\ud800": 2},
    {1: "one", -(2**40): "low", 300: "x"},
    {(1, 2): "pair", None: "none", 2.5: "half", b"x": "bytes", True: "true"},
    {"a": 1, 1: "a", (): [], 2**70: "large", frozenset([1]): "set"},
    {f"key{i}": i for i in range(100)},
]


@pytest.mark.parametrize("obj", DICTS)
@pytest.mark.parametrize("in_list", [False, True])
def test_dicts(obj: dict[Any, Any], in_list: bool) -> None:
    v = viewed([obj, {"other": 0}])[0] if in_list else viewed(obj)
    assert type(v) is LazyDict
    assert v == obj and obj == v and len(v) == len(obj)
    for key, value in obj.items():
        assert v[key] == value and v.get(key) == value and key in v
    assert list(v) == list(v.keys()) == list(obj)
    assert list(v.values()) == list(obj.values())
    assert list(v.items()) == list(obj.items())
    assert v.materialize() == obj
    for key in ("absent", 77, -1, 2**80, (9, 9), 0.25, "abs\ud800ent", b"absent"):
        assert key not in v and v.get(key) is None and v.get(key, 5) == 5
        with pytest.raises(KeyError):
            v[key]
    assert v != {**obj, "more": 1} and v != 5
    assert repr(v) == f"<LazyDict of {len(obj)} items>"


def test_equal_numbers_are_one_key() -> None:
    v = viewed({1: "one", 0: "zero"})
    assert v[True] == v[1.0] == "one" and v[False] == "zero"
    assert viewed({1.0: "x"})[1] == "x"


def test_record() -> None:
    v = viewed([{"name": i, "size": {"a": i}} for i in range(10)])[7]
    assert v["name"] == 7 and v["size"]["a"] == 7 and "a" not in v and 7 not in v
    assert next(iter(v.items())) == ("name", 7) and dict(v) == {"name": 7, "size": {"a": 7}}


# -- what is not touched -----------------------------------------------------------------------

ran: list[str] = []


def run(*arguments: Any) -> str:
    ran.append("call")
    return "made"


class Running:
    def __reduce__(self) -> Any:
        return run, (1, [2]), {"state": 3}, None, None


def test_nothing_runs_before_materialize() -> None:
    v = viewed([Running.__new__(Running), 1])
    assert v[1] == 1 and 1 in v and "made" not in v
    obj = v[0]
    assert type(obj) is LazyObject and obj.name == f"{__name__}.run"
    assert obj.arguments == (1, [2]) and obj.state == {"state": 3}
    assert obj.list_items is None and obj.dict_items is None
    assert f"{__name__}.run" in repr(obj)
    assert ran == []


def test_objects() -> None:
    slots = SlotsAndDict.__new__(SlotsAndDict)
    slots.left, slots.x = 1, 2  # type: ignore[attr-defined]
    ordered = collections.OrderedDict(a=[1])
    v = viewed([Record("name", 5, [1]), slots, ordered, Plain(), int, datetime.date(2020, 1, 2)])
    assert v[0].name == "graphs.Record" and v[0].state["items"] == [1]
    assert v[0].arguments is None and v[0].materialize() == Record("name", 5, [1])
    assert v[1].materialize().left == 1
    assert v[2].dict_items == {"a": [1]} and v[2].materialize() == ordered
    assert not v[3].state  # None, or an empty dict
    assert v[4].name == "builtins.int" and v[4].state is None and v[4].materialize() is int
    assert v[5].name == "datetime.date" and v[5].materialize() == datetime.date(2020, 1, 2)


def test_function_that_is_no_global() -> None:
    v = viewed([Holder(1)])
    data = message(
        node(Kind.REDUCE, 1, extras=bytes([3, 0])),
        indices(Kind.GLOBAL, 0),
        lists(Kind.TUPLE, 0, 0),
        node(Kind.NULL, 0, b""),
        names=[("builtins", "list")],
    )
    assert view(data).name is None and "function of the message" in repr(view(data))
    assert view(data).materialize() == [] and v[0].materialize().content == 1


def test_faults_elsewhere_are_not_seen() -> None:
    """Only what is touched is read, and read with care."""
    data = message(
        lists(Kind.LIST, 0, 3),
        node(Kind.UNION, 3, b"\0\1\0", bytes(12), extras=b"\2"),
        node(Kind.INT8, 1, b"\7"),
        indices(Kind.REF, 5),
    )
    v = view(data)
    assert v[0] == 7 and v[2] == 7
    with pytest.raises(DeserializationError, match="reference"):
        v[1]
    with pytest.raises(DeserializationError, match="reference"):
        v.materialize()


# -- one object --------------------------------------------------------------------------------


def test_shared_objects_are_made_once() -> None:
    shared = ["shared"]
    v = viewed([shared, {"a": shared}, (shared, 1)])
    first = v[0].materialize()
    assert first is v[1]["a"].materialize() is v[2][0].materialize()
    assert v.materialize()[0] is first


def test_circles() -> None:
    loop: list[Any] = [1]
    loop.append((loop, {"loop": loop}))
    v = viewed(loop)
    assert v[1][0][1][1]["loop"][0] == 1
    decoded = v.materialize()
    assert decoded[1][0] is decoded and v[1].materialize()[0] is decoded


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs(seed: int) -> None:
    obj = random_graph(seed)
    v = viewed(obj)
    assert difference(obj, v.materialize() if hasattr(v, "materialize") else v) is None


# -- where messages lie ------------------------------------------------------------------------

WEIGHTS = {f"weight-{i}": np.full(100, float(i)) for i in range(100)}


def test_arrays() -> None:
    data = encode_message(WEIGHTS)
    array = view(data)["weight-42"]
    assert (array == 42).all() and array.base is data and not array.flags.writeable


def test_mmap_and_shared_memory(tmp_path: Path) -> None:
    data = encode_message(WEIGHTS)
    path = tmp_path / "weights"
    path.write_bytes(data)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        v = view(mapped)
        assert v["weight-7"][0] == 7.0
        del v
        gc.collect()
    memory = shared_memory.SharedMemory(create=True, size=len(data) + 100)
    try:
        memory.buf[: len(data)] = data
        v = view(memory.buf)
        assert v["weight-9"][99] == 9.0 and len(v) == 100
        del v
        memory.close()
    finally:
        memory.unlink()


@pytest.mark.parametrize("shift", range(8))
def test_any_alignment(shift: int) -> None:
    obj = {"a": [1, 2**40], "array": np.arange(3.0), "text": "text"}
    v = view(memoryview(bytes(shift) + encode_message(obj))[shift:])
    assert v["a"][1] == 2**40 and v["array"][2] == 2.0 and v["text"] == "text"


def test_out_of_band() -> None:
    given: list[Any] = []
    data = encode_message([np.arange(3.0), "a"], buffer_callback=given.append)
    assert view(data)[1] == "a"
    assert view(data, buffers=given)[0].tolist() == [0.0, 1.0, 2.0]
    with pytest.raises(DeserializationError, match="buffers="):
        view(data)[0]


# -- trust and contexts ------------------------------------------------------------------------


def test_untrusted() -> None:
    v = viewed([datetime.date(2020, 1, 1), "a", [1]], trusted=False)
    with pytest.raises(DeserializationError, match=r"datetime\.date"):
        v[0].materialize()
    assert v[0].name == "datetime.date"
    v = viewed([datetime.date(2020, 1, 1)], trusted=False, allow=[datetime.date])
    assert v[0].materialize() == datetime.date(2020, 1, 1)


def test_data_of_an_untrusted_message_is_read() -> None:
    v = viewed([datetime.date(2020, 1, 1), "a", {"k": 5}], trusted=False)
    assert v[1] == "a" and v[2]["k"] == 5


def test_context() -> None:
    context = SerializationContext()
    context.register_type(
        Reduced, "reduced", custom_serializer=lambda o: "x", custom_deserializer=str.upper
    )
    data = encode_message([Reduced("x")], context=context)
    assert view(data, context=context)[0].materialize() == "X"


def test_several_threads() -> None:
    rows = [{"id": i, "tags": ["a", str(i)], "record": Record("r", i)} for i in range(200)]
    v = viewed(rows)
    failures: list[Any] = []

    def read(start: int) -> None:
        for i in range(start, 200, 4):
            if v[i].materialize() != rows[i] or v[i]["tags"][1] != str(i):
                failures.append(i)

    threads = [threading.Thread(target=read, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_handmade_strings() -> None:
    v = view(
        message(lists(Kind.DICT, 0, 2), binary(Kind.UTF8, b"k", b"\xff"), node(Kind.INT8, 2, b"ab"))
    )
    assert v["k"] == 97
    with pytest.raises(DeserializationError, match="UTF-8"):
        list(v)
