"""The compiled decoder: where messages may lie, who keeps them alive, trust, and its fast paths.

That it decodes what was encoded is test_differential.py's subject, other people's types are
test_types_*.py's.
"""

from __future__ import annotations

import abc
import collections
import datetime
import gc
import mmap
import pickle
import subprocess
import sys
import threading
import weakref
from dataclasses import dataclass, field
from multiprocessing import shared_memory
from pathlib import Path
from pickle import PickleBuffer
from typing import Any

import numpy as np
import pytest
from graphs import Holder, Plain, Record, Reduced, SlotsAndDict, difference
from handmade import binary, column, indices, lists, message, node, union, varint

from pyray.serialization import DeserializationError, SerializationContext
from pyray.serialization._decoder import Buffer, decode_message, message_size
from pyray.serialization.message import encode_message
from pyray.serialization.reference_format import Kind


def round_trip(obj: Any, **options: Any) -> Any:
    return decode_message(encode_message(obj), **options)


# -- what is read ------------------------------------------------------------------------------

SCALARS = [None, False, True, 0, -1, 127, -128, 2**63 - 1, -(2**63), 2**64, -(2**200), 0.1, "", "a",
           "é", "\ud800", b"", b"a"]  # fmt: skip


@pytest.mark.parametrize("obj", SCALARS)
def test_scalars(obj: Any) -> None:
    decoded = round_trip(obj)
    assert decoded == obj and type(decoded) is type(obj)


def test_empty() -> None:
    for nothing in (b"", bytearray(), memoryview(b"")):
        with pytest.raises(EOFError, match="Ran out of input"):
            decode_message(nothing)


@pytest.mark.parametrize("first", [0x00, 0x05, 0x2F, 0x23, 0x80])
def test_other_version(first: int) -> None:
    with pytest.raises(DeserializationError, match=f"version {first >> 4}.* version 1"):
        decode_message(bytes([first]) + bytes(40))


def test_errors_are_unpickling_errors() -> None:
    with pytest.raises(pickle.UnpicklingError):
        decode_message(b"\x1f")


def test_no_buffer() -> None:
    with pytest.raises(TypeError, match="bytes-like"):
        decode_message("text")
    with pytest.raises(BufferError, match="contiguous"):
        decode_message(memoryview(bytes(10))[::2])


def test_padding_behind_a_message_is_ignored() -> None:
    for obj in ([1, "a"], 1.5, None):
        assert decode_message(encode_message(obj) + bytes(100)) == obj


OBJECT = {
    "list": [1, 2**40, "text", None],
    "array": np.arange(1000.0),
    "bytes": b"x" * 5000,
    "records": [{"a": i, "b": str(i)} for i in range(10)],
}
MESSAGE = encode_message(OBJECT)


def same(decoded: Any) -> bool:
    return difference(OBJECT, decoded) is None


@pytest.mark.parametrize("shift", range(8))
def test_any_alignment(shift: int) -> None:
    memory = bytearray(shift) + MESSAGE
    decoded = decode_message(memoryview(memory)[shift:])
    assert same(decoded)
    address = np.frombuffer(memory, "u1").ctypes.data
    assert address < decoded["array"].ctypes.data < address + len(memory)


def test_kinds_of_memory() -> None:
    words = np.frombuffer(MESSAGE, "u8")
    for source in (bytearray(MESSAGE), memoryview(MESSAGE), words, words.reshape(2, -1)):
        assert same(decode_message(source))
    assert same(decode_message(encode_message([decode_message(MESSAGE)]))[0])


def test_mmap(tmp_path: Path) -> None:
    path = tmp_path / "message"
    path.write_bytes(MESSAGE)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    decoded = decode_message(mapped)
    assert same(decoded)
    with pytest.raises(BufferError):
        mapped.close()  # the array is a view of it
    del decoded
    mapped.close()


def test_shared_memory() -> None:
    memory = shared_memory.SharedMemory(create=True, size=len(MESSAGE) + 1000)
    try:
        memory.buf[: len(MESSAGE)] = MESSAGE
        decoded = decode_message(memory.buf)
        assert same(decoded)
        del decoded
        memory.close()  # nothing holds it any more
    finally:
        memory.unlink()


def test_message_size() -> None:
    assert message_size(MESSAGE + b"more") == len(MESSAGE)
    assert message_size(MESSAGE[:16]) == len(MESSAGE)
    assert [message_size(encode_message(obj)) for obj in (None, True, False, 1.5)] == [1, 1, 1, 9]
    assert [message_size(encode_message(obj)) for obj in (1, "a", b"a", "\ud800")] == [None] * 4
    with pytest.raises(EOFError):
        message_size(b"")
    for wrong in (MESSAGE[:15], b"\x25", b"\x18"):
        with pytest.raises(DeserializationError):
            message_size(wrong)


# -- who keeps what alive ----------------------------------------------------------------------


def test_arrays_are_readonly_views_of_the_message() -> None:
    message_ = encode_message([np.arange(10.0), PickleBuffer(bytearray(b"abc"))])
    array, buffer = decode_message(message_)
    assert array.base is message_
    assert not array.flags.writeable and array.flags.aligned
    assert memoryview(buffer).readonly
    with pytest.raises(ValueError):
        array[0] = 1
    array.copy()[0] = 1


class Memory(bytearray):
    """Memory that can be watched."""


def test_memory_lives_as_long_as_views() -> None:
    memory = Memory(MESSAGE)
    gone = weakref.ref(memory)
    array = decode_message(memory)["array"]
    del memory
    assert gone() is not None
    assert array[7] == 7.0
    del array
    assert gone() is None


def test_memory_without_views_is_given_back() -> None:
    memory = bytearray(encode_message([1, "a"]))
    decode_message(memory)
    memory.clear()


def test_buffer() -> None:
    buffer = round_trip([PickleBuffer(b"abcdef")])[0]
    assert type(buffer) is Buffer
    assert memoryview(buffer).obj is buffer
    assert len(buffer) == 6 and bytes(buffer) == b"abcdef" and buffer == b"abcdef"
    assert buffer != b"abc" and buffer != "abcdef"
    assert repr(buffer) == "<pyray.Buffer of 6 bytes, read-only>"
    assert bytes(pickle.loads(pickle.dumps(buffer))) == b"abcdef"
    assert bytes(pickle.loads(pickle.dumps(buffer, 5))) == b"abcdef"
    assert np.frombuffer(buffer, "u1").sum() == sum(b"abcdef")
    with pytest.raises(TypeError):
        hash(buffer)
    with pytest.raises(TypeError):
        Buffer()
    with pytest.raises(TypeError):
        memoryview(buffer)[0] = 1


def test_out_of_band() -> None:
    given: list[Any] = []
    obj = [np.arange(5.0), PickleBuffer(bytearray(b"abc")), PickleBuffer(b"def"), np.arange(3)]
    data = encode_message(obj, buffer_callback=given.append)
    copies = [bytearray(b.raw()) for b in given]
    array, writable, readonly, last = decode_message(data, buffers=iter(copies))
    array[0] = 9.0
    assert np.frombuffer(copies[0], "f8")[0] == 9.0
    assert writable is copies[1]
    assert readonly.obj is copies[2] and readonly.readonly
    assert last.tolist() == [0, 1, 2]
    assert not decode_message(data, buffers=[bytes(b) for b in copies])[0].flags.writeable
    with pytest.raises(DeserializationError, match="buffers="):
        decode_message(data)
    with pytest.raises(DeserializationError, match="at least 4 buffers, 3 are given"):
        decode_message(data, buffers=copies[:3])
    with pytest.raises(DeserializationError, match="shape"):
        decode_message(data, buffers=[b"", *copies[1:]])
    with pytest.raises(TypeError, match="bytes-like"):
        decode_message(data, buffers=[1, 2, 3, 4])


# -- trust -------------------------------------------------------------------------------------


calls: list[Any] = []


def touch(what: Any) -> Any:
    calls.append(what)


class Touched:
    def __reduce__(self) -> Any:
        return touch, (1,)


def test_untrusted_message_runs_nothing() -> None:
    data = encode_message([datetime.date(2020, 1, 1), Touched()])
    with pytest.raises(DeserializationError, match=r"datetime\.date, .*touch.*allow=\["):
        decode_message(data, trusted=False)
    with pytest.raises(DeserializationError, match=r"names [a-z_.]*touch, which"):
        decode_message(data, trusted=False, allow=[datetime.date])
    assert calls == []
    decode_message(data)
    assert calls == [1]
    calls.clear()


def test_allowed() -> None:
    day = datetime.date(2020, 1, 1)
    for allow in ([datetime.date], ["datetime.date"], {"datetime.date", "os.system"}):
        assert round_trip([day], trusted=False, allow=allow) == [day]
    assert same(decode_message(MESSAGE, trusted=False))


def test_making_an_instance_of_an_allowed_class_needs_no_other_name() -> None:
    class_by_name = [SlotsAndDict.__new__(SlotsAndDict), Plain()]
    class_by_name[0].left = 1
    decoded = round_trip(class_by_name, trusted=False, allow=[SlotsAndDict, Plain])
    assert decoded[0].left == 1


def test_context_is_in_use_while_decoding() -> None:
    context = SerializationContext()
    context.register_type(
        Holder, "holder", custom_serializer=lambda o: o.content, custom_deserializer=list
    )
    data = encode_message([Holder("ab")], context=context)
    assert decode_message(data, context=context) == [["a", "b"]]
    assert decode_message(data, context=context, trusted=False) == [["a", "b"]]
    with pytest.raises(DeserializationError, match="holder"):
        decode_message(data)


# -- garbage collection ------------------------------------------------------------------------


class Watcher:
    """Notes whether the collector runs while it is restored."""

    seen: list[bool] = []

    def __setstate__(self, state: Any) -> None:
        Watcher.seen.append(gc.isenabled())
        if state == "fail":
            raise ZeroDivisionError


class Failing(Watcher):
    def __getstate__(self) -> str:
        return "fail"


def test_collector_is_paused_and_restored() -> None:
    watcher = Watcher()
    watcher.x = 1  # type: ignore[attr-defined]
    Watcher.seen.clear()
    round_trip([watcher])
    assert Watcher.seen == [False] and gc.isenabled()
    data = encode_message([Failing()])
    with pytest.raises(ZeroDivisionError):
        decode_message(data)
    assert gc.isenabled()
    gc.disable()
    try:
        round_trip([watcher])
        assert not gc.isenabled()
    finally:
        gc.enable()


def blocks_used(run: Any, times: int) -> int:
    before = sys.getallocatedblocks()
    for _ in range(times):
        run()
    gc.collect()
    return sys.getallocatedblocks() - before


def test_nothing_leaks() -> None:
    """Neither from messages that decode nor from those that fail half-way."""
    shared = ["shared"]
    obj = [
        {"a": 1, "b": [1.5], "c": ("x", None)}, {"a": 2, "b": [], "c": ("y", 7)}, shared, shared,
        {"set"}, frozenset(["frozen"]), {1: 2, "k": {}}, Record("a", 1000, []), Record("b", 1, [3]),
        np.arange(3), b"x" * 5000, PickleBuffer(b"abc"), datetime.date(2020, 1, 1), 2**90, 1j, int,
        Reduced("tag"), collections.OrderedDict(a=1), "\ud800", bytearray(b"b"),
    ]  # fmt: skip
    whole = encode_message(obj)
    fails = [encode_message([*obj[:i], Failing(), *obj[i:]]) for i in range(len(obj))]

    def run() -> None:
        decode_message(whole)
        for data in fails:
            with pytest.raises(ZeroDivisionError):
                decode_message(data)
        for at in range(20, len(whole) - 5000, 40):
            try:
                decode_message(whole[:at] + b"\xff" + whole[at + 1 :])
            except Exception:
                pass

    run(), run()
    assert blocks_used(run, 5) < 50


# -- identity ----------------------------------------------------------------------------------


def test_strings() -> None:
    column_of_strings = ["a", "b", "", "long enough", "é", "日本", "a"]
    decoded = round_trip(column_of_strings)
    assert decoded == column_of_strings
    assert decoded[0] is decoded[6] is chr(97)  # as any str of one character is
    text = "".join(["sha", "red"])
    first, second, other = round_trip([text, text, {"key": text}])
    assert first is second is other["key"]


def test_record_names_are_interned() -> None:
    name = "an_interned_name"
    for record in round_trip([{name: 1}, {name: 2}]):
        assert next(iter(record)) is sys.intern(name)
    plain = Plain()
    setattr(plain, name, 1)
    decoded, state = round_trip([plain, plain.__dict__])
    assert next(iter(decoded.__dict__)) is sys.intern(name) and state == {name: 1}


def test_reference_before_its_object() -> None:
    """A REF may come before the row it means; the row then is the object that was made for it."""
    data = message(
        node(Kind.TUPLE_RECORD, 1, extras=varint(2)),
        indices(Kind.REF, 0),
        lists(Kind.LIST, 0, 1),
        node(Kind.INT8, 1, b"\7"),
        memo=[(2, 0, 0)],
    )
    first, second = decode_message(data)
    assert first is second and first == [7]


def test_rows_that_are_one_object() -> None:
    """Several entries of a number: the first row that is complete is the object."""
    data = message(
        lists(Kind.LIST, 0, 3),
        binary(Kind.UTF8, b"one", b"two", b"one"),
        memo=[(1, 0, 0), (1, 2, 0)],
    )
    first, second, third = decode_message(data)
    assert first is third and second == "two"


def test_memo_in_blocks_of_records() -> None:
    shared = ["shared"]
    rows = [{"n": i, "part": shared if i % 100 == 7 else ["own"]} for i in range(1000)]
    decoded = round_trip(rows)
    assert decoded == rows
    assert len({id(row["part"]) for row in decoded}) == 991


# -- instances ---------------------------------------------------------------------------------


class WithProperty:
    @property
    def size(self) -> str:
        return "property"


class Guarded:
    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("guarded")


@dataclass(frozen=True)
class Frozen:
    x: int = 0
    y: list[int] = field(default_factory=list)


class MadeByNew:
    def __new__(cls) -> Any:
        self = super().__new__(cls)
        self.__dict__["from_new"] = True
        return self


class Answering:
    """Has whatever it is asked for, but is made like any other."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


CLASSES = [WithProperty, Guarded, Frozen, MadeByNew, Answering, Plain]


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("count", [1, 2, 100])
def test_instances_as_pickle_makes_them(cls: type, count: int) -> None:
    objects = []
    for i in range(count):
        obj = cls()
        obj.__dict__.update({"size": i, "y": [i]})
        objects.append(obj)
    for decoded in (round_trip(objects), pickle.loads(pickle.dumps(objects, 5))):
        assert [type(obj) for obj in decoded] == [cls] * count
        assert [obj.__dict__ for obj in decoded] == [obj.__dict__ for obj in objects]


def test_instances_share_keys() -> None:
    objects = [Record("a", i) for i in range(100)]
    size = {sys.getsizeof(obj.__dict__) for obj in objects}
    assert {sys.getsizeof(obj.__dict__) for obj in round_trip(objects)} == size


def test_state_that_is_shared() -> None:
    obj, state = round_trip([plain := Plain(), plain.__dict__])
    assert obj.__dict__ == state
    plain.self = plain  # type: ignore[attr-defined]
    obj, state = round_trip([plain, plain.__dict__])
    assert obj.self is obj and state["self"] is obj


class Abstract(abc.ABC):
    @abc.abstractmethod
    def method(self) -> None: ...


def test_abstract_class() -> None:
    data = message(
        node(Kind.INSTANCE, 1, extras=varint(0)),
        node(Kind.NULL, 1, b"\0"),
        names=[(__name__, "Abstract")],
    )
    with pytest.raises(TypeError, match="abstract"):
        decode_message(data)


def test_missing_global() -> None:
    for names, error in (
        (("no_such_module", "x"), ModuleNotFoundError),
        (("collections", "nothing"), AttributeError),
        (("collections", "OrderedDict.nothing"), AttributeError),
    ):
        with pytest.raises(error):
            decode_message(message(indices(Kind.GLOBAL, 0), names=[names]))
    nested = decode_message(
        message(indices(Kind.GLOBAL, 0), names=[("collections", "deque.append")])
    )
    assert nested is collections.deque.append


# -- reductions --------------------------------------------------------------------------------

log: list[Any] = []


class Steps:
    """Notes each step of its restoration."""

    def __init__(self, *arguments: Any) -> None:
        log.append(("call", arguments))

    def extend(self, items: Any) -> None:
        log.append(("extend", list(items)))

    def __setitem__(self, key: Any, value: Any) -> None:
        log.append((key, value))

    def __setstate__(self, state: Any) -> None:
        log.append(("state", state))

    def __reduce__(self) -> Any:
        return Steps, (1, 2), "s", iter([3, 4]), iter([("k", 5), ("k", 6)])


def test_steps_of_a_reduction() -> None:
    obj = Steps.__new__(Steps)
    round_trip([obj])
    assert log == [
        ("call", (1, 2)), ("extend", [3, 4]), ("k", 5), ("k", 6), ("state", "s")
    ]  # fmt: skip
    log.clear()


def test_arguments_in_every_form() -> None:
    for count in (0, 1, 7, 16, 17, 40):
        obj = Reduced(tuple(range(count)))
        decoded = round_trip([obj, Holder(tuple(range(count)))])
        assert decoded[1].content == tuple(range(count))
    log.clear()
    data = message(
        node(Kind.REDUCE, 1, extras=bytes([3]) + varint(0)),
        indices(Kind.GLOBAL, 0),
        lists(Kind.TUPLE, 0, 2),
        union(2, [(0, 0), (1, 0)]),
        binary(Kind.UTF8, b"ff"),
        node(Kind.INT8, 1, b"\x10"),
        names=[("builtins", "int")],
    )
    assert decode_message(data) == 255


def test_errors_of_the_message_s_functions_come_through() -> None:
    class Local:
        def __reduce__(self) -> Any:
            return divmod, (1, 0)

    with pytest.raises(ZeroDivisionError):
        round_trip([Local()])


# -- other -------------------------------------------------------------------------------------


def test_blocks_of_many_rows() -> None:
    """More rows and more fields than are decoded at once."""
    wide = [{f"f{j}": i * j for j in range(32)} for i in range(300)]
    assert round_trip(wide) == wide
    tuples = [tuple(range(i, i + 16)) for i in range(300)]
    assert round_trip(tuples) == tuples
    large = {i: str(i) for i in range(1000)}
    assert list(round_trip(large).items()) == list(large.items())
    assert round_trip(set(range(1000))) == set(range(1000))


def test_record_of_very_many_fields() -> None:
    fields = 300
    data = message(
        lists(Kind.LIST, 0, 2),
        node(Kind.DICT_RECORD, 2, extras=varint(fields) + b"".join(
            varint(3) + f"{i:03}".encode() for i in range(fields))),
        *[node(Kind.INT16, 2, column("h", [i, -i])) for i in range(fields)],
    )  # fmt: skip
    decoded = decode_message(data)
    assert decoded[1] == {f"{i:03}": -i for i in range(fields)}


def test_several_threads() -> None:
    data = encode_message([OBJECT, [Record("a", i) for i in range(100)]])
    failures: list[Any] = []

    def run() -> None:
        for _ in range(50):
            if not same(decode_message(data)[0]):
                failures.append("differs")

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_decoding_within_decoding() -> None:
    inner = encode_message([Record("inner", 1), [1, 2]])
    outer = encode_message([Holder(1), Nested(inner), "after"])
    decoded = decode_message(outer)
    assert decoded[1].content[0].name == "inner" and decoded[2] == "after"


class Nested:
    def __init__(self, data: bytes) -> None:
        self.content = decode_message(data)
        self.data = data

    def __reduce__(self) -> Any:
        return Nested, (self.data,)

    def __new__(cls, data: bytes = b"") -> Any:
        return super().__new__(cls)


def test_numpy_is_not_imported_before_an_array() -> None:
    code = (
        "import sys; from pyray.serialization._decoder import decode_message as d;"
        f"d({encode_message([{'a': [1, 'b', 2.5]}])!r}); assert 'numpy' not in sys.modules;"
        f"d({encode_message([np.arange(2)])!r}); assert 'numpy' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
