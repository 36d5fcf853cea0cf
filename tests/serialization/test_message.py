"""The functions and the class of `message`: pickle's signatures, files, components, buffers."""

from __future__ import annotations

import array
import inspect
import io
import mmap
import os
import pickle
import subprocess
import sys
from argparse import Namespace
from pickle import PickleBuffer

import numpy as np
import pytest
from graphs import difference

import pyray
from pyray import (
    DeserializationError,
    SerializedObject,
    deserialize,
    dump,
    dumps,
    load,
    loads,
    serialize,
)
from pyray.serialization import message
from pyray.serialization.context import deserialize_from
from pyray.serialization.reference_decoder import decode_message as reference_decode

OBJECTS = {
    "none": None,
    "true": True,
    "int": -(10**30),
    "float": 1.5,
    "str": "text",
    "surrogates": "\ud800",
    "bytes": b"bytes",
    "large bytes": b"x" * 5000,
    "list": [1, "two", [3.0, None]],
    "arrays": {"a": np.arange(1000), "b": [np.zeros((2, 3)), b"y" * 4096, np.zeros(0)]},
    "instance": Namespace(x=[1], y="z"),
}
objects = pytest.mark.parametrize("obj", OBJECTS.values(), ids=OBJECTS)


def same(a, b):
    return difference(a, b) is None


# -- pickle's functions ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dumps", "loads", "dump", "load"])
def test_signatures_are_those_of_pickle(name):
    theirs = inspect.signature(getattr(pickle, name)).parameters
    ours = inspect.signature(getattr(pyray, name)).parameters
    assert list(ours) == list(theirs)
    for parameter in theirs:
        assert ours[parameter].kind == theirs[parameter].kind
        if parameter != "buffers":  # None, in pickle's C code () stands for it
            assert ours[parameter].default == theirs[parameter].default


@objects
def test_dumps_and_loads(obj):
    data = dumps(obj)
    assert type(data) is bytes
    assert same(obj, loads(data))
    for protocol in (0, 5, -1):
        assert dumps(obj, protocol, fix_imports=False) == data
    assert same(obj, loads(data, fix_imports=False, encoding="bytes", errors="ignore"))


@objects
@pytest.mark.parametrize("kind", [bytearray, memoryview, PickleBuffer, io.BytesIO])
def test_loads_takes_what_is_like_bytes(obj, kind):
    data = kind(dumps(obj))
    assert same(obj, loads(data.getbuffer() if kind is io.BytesIO else data))


def test_loads_takes_arrays_and_maps(tmp_path):
    data = dumps([1, "two"])
    padded = data + bytes(-len(data) % 8)
    assert loads(array.array("q", padded)) == [1, "two"]
    assert loads(np.frombuffer(data, "u1")) == [1, "two"]
    (tmp_path / "message").write_bytes(data)
    with open(tmp_path / "message", "rb") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
            assert loads(memory) == [1, "two"]


@pytest.mark.parametrize("data", ["text", 5, None, [1]])
def test_loads_refuses_what_is_not_bytes_as_pickle_does(data):
    for function in (pickle.loads, loads, deserialize):
        with pytest.raises(TypeError):
            function(data)


def test_loads_of_nothing_is_the_end_as_in_pickle():
    for function in (pickle.loads, loads):
        with pytest.raises(EOFError):
            function(b"")


def test_loads_of_scattered_memory_is_refused():
    with pytest.raises(BufferError):
        loads(memoryview(dumps([1, 2]))[::2])


def test_protocol_is_checked_as_in_pickle():
    for function in (pickle.dumps, dumps):
        with pytest.raises(TypeError):
            function([1], "5")
        with pytest.raises(ValueError, match="protocol >= 5"):
            function([1], 4, buffer_callback=lambda buffer: None)


def test_arrays_are_read_only_views_of_the_message():
    data = bytearray(dumps({"a": np.arange(1000)}))
    result = loads(data)["a"]
    assert not result.flags.writeable
    before = result.copy()
    position = bytes(data).index(np.arange(1000).tobytes())
    data[position] = 255
    assert result[0] != before[0]
    copy = result.copy()
    copy[0] = 7
    with pytest.raises(BufferError):
        data.extend(b"more")  # the array still looks at it


# -- buffers out of band ---------------------------------------------------------------------


def test_buffer_callback_takes_arrays_and_pickle_buffers_but_no_bytes():
    taken = []
    obj = [np.arange(5), PickleBuffer(b"abc"), b"x" * 5000, bytearray(5000)]
    data = dumps(obj, buffer_callback=taken.append)
    assert [type(buffer) for buffer in taken] == [PickleBuffer] * 2
    assert taken[1] is obj[1]
    assert np.shares_memory(np.frombuffer(taken[0], obj[0].dtype), obj[0])
    result = loads(data, buffers=taken)
    assert np.shares_memory(result[0], obj[0]) and result[0].flags.writeable
    assert result[1] is obj[1]
    assert result[2:] == obj[2:]


@pytest.mark.parametrize("answer, in_band", [(None, False), (0, False), (True, True), ("x", True)])
def test_what_the_callback_returns_decides(answer, in_band):
    taken = []

    def callback(buffer):
        taken.append(buffer)
        return answer

    obj = [np.arange(500), np.arange(500.0)]
    data = dumps(obj, buffer_callback=callback)
    assert len(taken) == 2
    assert (data == dumps(obj)) is in_band
    assert same(obj, loads(data, buffers=None if in_band else taken))


def test_buffers_may_be_any_iterable_of_anything_like_bytes():
    taken = []
    obj = [np.arange(4), PickleBuffer(b"abc"), np.ones((2, 2), order="F")]
    data = dumps(obj, buffer_callback=taken.append)
    for change in (bytes, bytearray, memoryview):
        for collect in (list, tuple, iter):
            result = loads(data, buffers=collect([change(buffer.raw()) for buffer in taken]))
            assert (result[0] == obj[0]).all() and (result[2] == obj[2]).all()
            assert result[0].flags.writeable is (change is not bytes)
            assert bytes(result[1]) == b"abc"


def test_read_only_buffer_stays_read_only():
    """Whatever is handed in for it, as in pickle."""
    data = dumps(PickleBuffer(b"abc"), buffer_callback=lambda buffer: None)
    assert memoryview(loads(data, buffers=[bytearray(b"abc")])).readonly
    data = dumps(PickleBuffer(bytearray(b"abc")), buffer_callback=lambda buffer: None)
    assert not memoryview(loads(data, buffers=[bytearray(b"abc")])).readonly


def test_missing_and_wrong_buffers():
    obj = [np.arange(4), np.arange(4)]
    data = dumps(obj, buffer_callback=lambda buffer: None)
    whole = obj[0].tobytes()
    for buffers in (None, [], [whole], [whole, whole[:-1]], [whole, whole + b"x"]):
        with pytest.raises(pickle.UnpicklingError):
            loads(data, buffers=buffers)
    with pytest.raises(TypeError):
        loads(data, buffers=[whole, 5])
    with pytest.raises(TypeError):
        loads(data, buffers=5)


def test_shared_array_is_offered_once():
    taken = []
    a = np.arange(5)
    result = loads(dumps([a, a], buffer_callback=taken.append), buffers=taken)
    assert len(taken) == 1 and result[0] is result[1]


# -- files -----------------------------------------------------------------------------------


@objects
def test_dump_and_load(obj, tmp_path):
    with open(tmp_path / "file", "w+b") as file:
        dump(obj, file)
        file.seek(0)
        assert same(obj, load(file))
        with pytest.raises(EOFError):
            load(file)


def test_many_messages_in_one_file():
    file = io.BytesIO()
    for obj in OBJECTS.values():
        dump(obj, file)
    file.seek(0)
    for obj in OBJECTS.values():
        assert same(obj, load(file))
    with pytest.raises(EOFError):
        load(file)


def test_load_asks_a_pipe_for_no_more_than_the_message():
    """More would wait for ever."""
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as source, open(writer, "wb", buffering=0) as sink:
        for obj in (None, 5, "text", [1, "two"], 1.5, b"bytes", {"a": np.arange(10)}):
            dump(obj, sink)
            assert same(obj, load(source))


def test_load_from_a_pipe_that_gives_a_few_bytes_at_a_time():
    class Pipe(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, 5))

        def seekable(self):
            return False

    message = dumps([1, "two"])
    assert load(Pipe(message + b"more")) == [1, "two"]
    assert deserialize_from(Pipe(message + b"more"), None) == [1, "two"]
    for size in (1, 8, 15, 16, len(message) - 1):
        with pytest.raises(DeserializationError):
            load(Pipe(message[:size]))
        with pytest.raises(DeserializationError):
            deserialize_from(Pipe(message[:size]), None)


def test_dump_writes_what_has_a_write_method_only():
    written = []

    class Sink:
        def write(self, data):
            written.append(bytes(data))

    obj = OBJECTS["arrays"]
    dump(obj, Sink())
    assert same(obj, loads(b"".join(written)))
    with pytest.raises(TypeError, match="write"):
        dump(obj, [])


def test_dump_and_load_out_of_band():
    taken, file = [], io.BytesIO()
    dump([np.arange(5)], file, buffer_callback=taken.append)
    file.seek(0)
    assert same([np.arange(5)], load(file, buffers=taken)) and len(taken) == 1


def test_load_of_a_file_that_is_cut_off():
    for obj in OBJECTS.values():
        file = io.BytesIO()
        dump(obj, file)
        data = file.getvalue()
        for size in {1, len(data) // 2, len(data) - 1} - {0, len(data)}:
            with pytest.raises(DeserializationError):
                load(io.BytesIO(data[:size]))


def test_load_does_not_believe_a_size():
    head = b"\x1f" + bytes(3) + (16).to_bytes(4, "little") + (2**60).to_bytes(8, "little")
    with pytest.raises(DeserializationError):
        load(io.BytesIO(head + bytes(100)))


# -- SerializedObject ------------------------------------------------------------------------


@objects
def test_serialized_object(obj):
    s = serialize(obj)
    data = dumps(obj)
    assert type(s) is SerializedObject
    assert s.total_bytes == len(s) == len(data)
    assert bytes(s.to_buffer()) == data
    assert same(obj, s.deserialize())
    assert same(obj, deserialize(s.to_buffer()))
    assert str(len(data)) in repr(s)
    with pytest.raises(AttributeError):
        s.total_bytes = 5


def test_serialize_copies_no_large_buffer():
    a, data = np.arange(1000), bytearray(5000)
    s = serialize([a, data])
    a[0], data[0] = 77, 77
    result = s.deserialize()
    assert result[0][0] == 77 and result[1][0] == 77
    with pytest.raises(BufferError):
        data.clear()  # held until it is written
    del s
    data.clear()


def test_serialized_object_keeps_what_it_holds():
    s = serialize([np.arange(10_000), b"x" * 10_000])
    others = [np.full(10_000, i) for i in range(10)]  # where freed memory would be used again
    assert (s.deserialize()[0] == np.arange(10_000)).all()
    assert len(others) == 10


@objects
def test_write_to_a_buffer(obj):
    s = serialize(obj)
    for sink in (bytearray(s.total_bytes + 10), np.full(s.total_bytes + 10, 9, "u1")):
        assert s.write_to(sink) == s.total_bytes
        assert bytes(memoryview(sink)[: s.total_bytes]) == dumps(obj)
        assert bytes(memoryview(sink)[s.total_bytes :]) in (bytes(10), b"\t" * 10)
    with mmap.mmap(-1, s.total_bytes) as memory:
        assert s.write_to(memory) == s.total_bytes
        assert memory[:] == dumps(obj)


def test_write_to_a_buffer_that_does_not_do():
    s = serialize([1, 2, 3])
    with pytest.raises(ValueError, match="read-only"):
        s.write_to(bytes(1000))
    small = bytearray(s.total_bytes - 1)
    with pytest.raises(ValueError, match=f"{s.total_bytes - 1} bytes.*{s.total_bytes}"):
        s.write_to(small)
    assert small == bytes(s.total_bytes - 1)
    with pytest.raises(TypeError):
        s.write_to(5)
    with pytest.raises((TypeError, ValueError, BufferError)):
        s.write_to(memoryview(bytearray(10_000))[::2])


@objects
def test_write_to_a_file(obj, tmp_path):
    s = serialize(obj)
    with open(tmp_path / "file", "wb") as file:
        assert s.write_to(file) == s.total_bytes
    assert (tmp_path / "file").read_bytes() == dumps(obj)


def test_write_to_a_pyarrow_stream(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    s = serialize(OBJECTS["arrays"])
    with pyarrow.OSFile(str(tmp_path / "file"), "wb") as stream:
        assert s.write_to(stream) == s.total_bytes
    assert (tmp_path / "file").read_bytes() == dumps(OBJECTS["arrays"])


@objects
def test_components(obj):
    s = serialize(obj)
    components = s.to_components()
    assert set(components) == {"num_buffers", "data"}
    assert len(components["data"]) == components["num_buffers"] + 1
    assert same(obj, SerializedObject.from_components(components).deserialize())
    # As they come out of another process: bytes, each sent apart.
    sent = {**components, "data": [bytes(part) for part in components["data"]]}
    again = SerializedObject.from_components(sent)
    assert again.total_bytes == s.total_bytes
    assert bytes(again.to_buffer()) == dumps(obj)


def test_components_copy_nothing():
    a = np.arange(1000)
    (_, part) = serialize([a]).to_components()["data"]
    assert np.shares_memory(np.frombuffer(part, a.dtype), a)
    again = SerializedObject.from_components(serialize([a]).to_components())
    (_, part) = again.to_components()["data"]
    assert np.shares_memory(np.frombuffer(part, a.dtype), a)


def test_components_of_another_message_are_refused():
    one = serialize([np.arange(1000)]).to_components()
    two = serialize([np.arange(2000), 1]).to_components()
    with pytest.raises(DeserializationError):
        SerializedObject.from_components({**one, "data": [one["data"][0], two["data"][1]]})
    with pytest.raises(DeserializationError):
        SerializedObject.from_components({**one, "num_buffers": 2})
    with pytest.raises(DeserializationError):
        SerializedObject.from_components({"num_buffers": 1, "data": [b"\x10", b"x"]})


def test_messages_can_be_messages_parts():
    """A serialized object in an object is no more than its bytes."""
    inner = serialize([1, 2]).to_buffer()
    assert loads(loads(dumps([inner, "x"]))[0]) == [1, 2]
    assert pickle.loads(pickle.dumps(inner)) == inner


def test_serialize_again_and_again_from_threads():
    """Encoders are used again; each message has one of its own."""
    from concurrent.futures import ThreadPoolExecutor

    made = [[i, str(i) * 50, [i] * 50, {"k": [str(i)] * 3}] for i in range(200)]
    expected = [dumps(obj) for obj in made]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert list(pool.map(dumps, made)) == expected
            assert list(pool.map(loads, expected)) == made


# -- the plain-Python codec ------------------------------------------------------------------

VERBOSE = """
import logging, sys
logging.basicConfig(stream=sys.stdout, level=logging.DEBUG, format="%(name)s %(message)s")
import io
import numpy as np
import pyray
from pyray.serialization import message
assert message.VERBOSE_DEBUG
obj = {"workers": [1, {"deep": (2.5, "three")}], "array": np.arange(3)}
data = pyray.dumps(obj)
assert data == message.encode_message(obj)  # the compiled one's
for copy in (
    pyray.loads(data),
    pyray.serialize(obj).deserialize(),
    pyray.deserialize(pyray.serialize(obj).to_buffer()),
):
    assert copy["workers"] == obj["workers"] and (copy["array"] == obj["array"]).all()
file = io.BytesIO()
pyray.dump(obj, file)
pyray.dump(5, file)
file.seek(0)
assert pyray.load(file)["workers"] == obj["workers"]
assert pyray.load(file) == 5
try:
    pyray.dumps([1, {"lock": __import__("threading").Lock()}])
except TypeError as error:
    print("error:", error)
"""


def run_verbose(level):
    environment = {**os.environ, "PYRAY_PICKLE_VERBOSE_DEBUG": level}
    return subprocess.run(
        [sys.executable, "-c", VERBOSE], capture_output=True, text=True, env=environment
    )


def test_verbose_debug_logs_each_object_with_its_path():
    result = run_verbose("2")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    for path, kind in {
        "obj": "dict",
        "obj['workers']": "list",
        "obj['workers'][1]": "dict",
        "obj['workers'][1]['deep'][1]": "str",
        "obj['array']": "numpy.ndarray",
    }.items():
        assert any(line.startswith(f"pyray.serialization {path}: {kind}") for line in lines), path
    assert "error: cannot serialize '_thread.lock' at obj[1]['lock']" in result.stdout


def test_other_levels_are_not_verbose():
    result = run_verbose("1")
    assert result.returncode == 1 and "line 8" in result.stderr  # the assertion


def test_reference_decoder_reads_what_is_written():
    for obj in OBJECTS.values():
        assert same(obj, reference_decode(message.dumps(obj)))
