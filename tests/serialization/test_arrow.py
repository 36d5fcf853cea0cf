"""Messages as Arrow data, and back: docs/arrow.md."""

from __future__ import annotations

import gc
import io
import re
import resource
import threading
from pathlib import Path

import arro3.core
import duckdb
import nanoarrow
import numpy as np
import pytest
from arrow_samples import ALL, EXAMPLE, NATIVE, REDUCED, SHARED_LIST, TENSORS
from graphs import difference, random_graph

pa = pytest.importorskip("pyarrow")

from pyray.serialization import reference_encoder  # noqa: E402
from pyray.serialization.arrow import (  # noqa: E402
    export,
    from_arrow,
    from_arrow_ipc,
    to_arrow,
    to_arrow_ipc,
)
from pyray.serialization.arrow_import import rebuild_message  # noqa: E402
from pyray.serialization.errors import DeserializationError  # noqa: E402
from pyray.serialization.message import encode_message, serialize  # noqa: E402
from pyray.serialization.reference_format import Kind  # noqa: E402


def export_of(obj):
    return to_arrow(encode_message(obj))


def column_of(obj):
    """The Arrow array of the object's node: the root list's values."""
    return export_of(obj).column("roots").values


def through_ipc(batch):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return pa.ipc.open_stream(sink.getvalue()).read_next_batch()


def ipc_stream(obj):
    sink = io.BytesIO()
    to_arrow_ipc(encode_message(obj), sink)
    return sink.getvalue()


def assert_same(a, b):
    """Equality that looks at arrays' dtype and order too."""
    assert type(a) is type(b)
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert a.flags.f_contiguous == b.flags.f_contiguous
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            assert_same(x, y)
    else:
        assert a == b


# -- structure -------------------------------------------------------------------------------


def test_example_of_the_design():
    """`[(1, 2), 'hello', 3, 4, np.array([5.0, 6.0])]`, as design.md draws it."""
    batch = export_of(EXAMPLE)
    roots = batch.column("roots")
    assert roots.to_pylist() == [[[[1, 2], "hello", 3, 4, {"tensor": 0}]]]

    # One row, one root, whose items are the union.
    the_list = roots.values
    assert isinstance(the_list, pa.ListArray) and the_list.offsets.to_pylist() == [0, 5]
    union = the_list.values
    assert isinstance(union, pa.UnionArray) and union.type.mode == "dense"
    members = [union.type.field(i).name for i in range(union.type.num_fields)]
    assert members == ["tuple", "str", "int", "ndarray"]
    assert [members[i] for i in union.type_codes.to_pylist()] == [
        "tuple", "str", "int", "int", "ndarray",
    ]  # fmt: skip
    assert union.offsets.to_pylist() == [0, 0, 0, 1, 0]

    tuples, strings, ints, ndarrays = (union.field(i) for i in range(4))
    assert isinstance(tuples, pa.ListArray) and tuples.offsets.to_pylist() == [0, 2]
    within = tuples.values
    assert isinstance(within, pa.UnionArray) and within.type.field(0).name == "int"
    assert within.type_codes.to_pylist() == [0, 0]
    assert within.field(0).equals(pa.array([1, 2], pa.int8()))
    assert strings.equals(pa.array(["hello"]))
    assert ints.equals(pa.array([3, 4], pa.int8()))
    assert ndarrays.equals(pa.array([{"tensor": 0}], pa.struct({"tensor": pa.int32()})))

    [tensor] = batch.column("tensors")[0].as_py()
    assert tensor == {"dtype": "<f8", "shape": [2], "order": 0, "buffer": 0}
    [buffer] = batch.column("buffers")[0].as_py()
    assert buffer["size"] == 16
    assert np.frombuffer(buffer["data"][:16]).tolist() == [5.0, 6.0]


@pytest.mark.parametrize(
    "obj, type_, kind",
    [
        (None, pa.null(), b"NULL"),
        (True, pa.bool_(), b"BOOL"),
        (5, pa.int8(), b"INT8"),
        (500, pa.int16(), b"INT16"),
        (-(2**31), pa.int32(), b"INT32"),
        (2**40, pa.int64(), b"INT64"),
        (2**64, pa.binary(), b"BIGINT"),
        (1.5, pa.float64(), b"FLOAT64"),
        (1j, pa.list_(pa.float64(), 2), b"COMPLEX128"),
        ("é", pa.string(), b"UTF8"),
        ("\ud800", pa.binary(), b"SURROGATES"),
        (b"x", pa.binary(), b"BYTES"),
        (bytearray(b"x"), pa.binary(), b"BYTEARRAY"),
        (b"x" * 5000, pa.struct({"buffer": pa.int32()}), b"BYTES_BUFFER"),
        (int, pa.struct({"global": pa.int32()}), b"GLOBAL"),
        (np.arange(3), pa.struct({"tensor": pa.int32()}), b"NDARRAY"),
        ([1.0], pa.list_(pa.float64()), b"LIST"),
        ({1.0}, pa.list_(pa.float64()), b"SET"),
        ({1: "a"}, pa.map_(pa.int8(), pa.string()), b"DICT"),
        ({}, pa.list_(pa.struct({"key": pa.null(), "value": pa.null()})), b"DICT"),
        ({None: 1}, pa.list_(pa.struct({"key": pa.null(), "value": pa.int8()})), b"DICT"),
    ],
    ids=repr,
)
def test_types(obj, type_, kind):
    field = export_of(obj).schema.field("roots").type.value_field
    assert field.metadata[b"pyray:kind"] == kind
    assert str(field.type).replace(" not null", "") == str(type_).replace(" not null", "")


def test_types_within_lists():
    assert column_of(["once", "x"]).type.value_type == pa.string()
    text = "met twice"
    strings = column_of([text, "x", text]).values
    assert strings.type == pa.dictionary(pa.int32(), pa.string())
    assert strings.dictionary.to_pylist() == [text, "x"]

    records = column_of([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]).values
    assert records.type == pa.struct({"a": pa.int8(), "b": pa.string()})
    pairs = column_of([(1, "x"), (2, "y")]).values
    assert pairs.type == pa.struct({"0": pa.int8(), "1": pa.string()})

    instances = column_of(REDUCED["instances"]).type.value_field
    assert instances.metadata[b"pyray:class"] == b"Point"
    assert instances.type.field("state").metadata[b"pyray:kind"] == b"DICT_RECORD"


def test_union_members_have_different_names():
    union = column_of([[1], ["a"], [None], 2, SHARED_LIST, SHARED_LIST]).type.value_type
    names = [union.field(i).name for i in range(union.num_fields)]
    assert names == ["list", "list_1", "list_2", "int", "ref"]


def test_tables_beside_the_roots():
    batch = export_of([SHARED_LIST, SHARED_LIST, int])
    assert batch.column("globals")[0].as_py() == [{"module": "builtins", "qualname": "int"}]
    assert [entry["number"] for entry in batch.column("memo")[0].as_py()] == [0]
    assert batch.schema.metadata[b"pyray:version"] == b"1"


def test_deep_nesting_is_cut_where_libraries_give_up():
    batch = export_of(NATIVE["deep lists"])
    assert "continued" in batch.schema.names
    assert "continued" not in export_of(EXAMPLE).schema.names
    batch.validate(full=True)


# -- the way back ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_the_same_bytes_come_back(name):
    message = bytes(encode_message(ALL[name]))
    batch = to_arrow(message)
    batch.validate(full=True)
    assert bytes(rebuild_message(batch)) == message
    assert bytes(rebuild_message(through_ipc(batch))) == message


@pytest.mark.parametrize("name", ALL)
def test_a_slice_of_several_messages(name):
    """Offsets, bitmaps and union members that do not begin at the first row."""
    message = bytes(encode_message(ALL[name]))
    batch = to_arrow(message)
    three = pa.concat_batches([batch, batch, batch])
    for i in range(3):
        assert bytes(rebuild_message(three.slice(i, 1))) == message
        assert bytes(rebuild_message(through_ipc(three.slice(i, 1)))) == message


@pytest.mark.parametrize("name", ALL)
def test_objects_come_back(name):
    assert_same(from_arrow(export_of(ALL[name])), ALL[name])
    assert_same(from_arrow_ipc(ipc_stream(ALL[name])), ALL[name])


@pytest.mark.parametrize("seed", range(300))
def test_random_graphs_come_back(seed):
    obj = random_graph(seed)
    message = bytes(encode_message(obj))
    batch = to_arrow(message)
    assert bytes(rebuild_message(through_ipc(batch))) == message
    assert not difference(obj, from_arrow(batch))


def test_identity_comes_back():
    cycle = ["cycle"]
    cycle.append(cycle)
    back = from_arrow(through_ipc(export_of([cycle, SHARED_LIST, (SHARED_LIST,)])))
    assert back[0][1] is back[0]
    assert back[1] is back[2][0]
    itself = ([],)
    itself[0].append(itself)
    back = from_arrow(export_of(itself))
    assert back[0][0] is back
    array = np.arange(3)
    a, b = from_arrow(export_of([array, array]))
    assert a is b and not a.flags.writeable


@pytest.mark.parametrize("form", ["batch", "table", "struct", "export", "serialized", "reader"])
def test_whatever_speaks_arrow_is_taken(form):
    serialized = serialize(EXAMPLE)
    batch = serialized.to_arrow()
    data = {
        "batch": batch,
        "table": pa.Table.from_batches([batch]),
        "struct": batch.to_struct_array(),
        "export": export(serialized.to_buffer()),
        "serialized": serialized,
        "reader": pa.RecordBatchReader.from_batches(batch.schema, [batch]),
    }[form]
    assert_same(from_arrow(data), EXAMPLE)


def test_ipc_through_files(tmp_path):
    path = tmp_path / "message.arrows"
    serialize(EXAMPLE).to_arrow_ipc(str(path))
    assert_same(from_arrow_ipc(path), EXAMPLE)
    with open(path, "rb") as file:
        assert_same(from_arrow_ipc(file), EXAMPLE)


def test_out_of_band_buffers_are_named_by_number():
    buffers = []
    array = np.arange(1000.0)
    message = encode_message([array], buffer_callback=buffers.append)
    batch = to_arrow(message)
    assert batch.column("tensors")[0].as_py()[0]["buffer"] == -1
    assert batch.column("buffers")[0].as_py() == []
    assert_same(from_arrow(batch, buffers=buffers), [array])


def test_trust_is_passed_on():
    batch = export_of(REDUCED["decimal"])
    with pytest.raises(DeserializationError):
        from_arrow(batch, trusted=False)
    assert from_arrow(batch, trusted=False, allow=["decimal.Decimal"]) == REDUCED["decimal"]


@pytest.fixture
def large_offsets(monkeypatch):
    """Let the reference encoder write 64-bit offsets everywhere, as only huge columns have them."""
    from pyray.serialization import reference_columns
    from pyray.serialization.reference_format import LARGE

    def offsets(kind, values):
        wide = kind | LARGE if kind is not Kind.UNION else kind
        return wide, reference_columns.numbers("q" if wide & LARGE else "i", values)

    monkeypatch.setattr(reference_columns, "_offsets", offsets)
    return reference_encoder.encode_message


@pytest.mark.parametrize("name", ALL)
def test_large_offsets_come_back(large_offsets, name):
    message = large_offsets(ALL[name])
    batch = to_arrow(message)
    batch.validate(full=True)
    assert bytes(rebuild_message(batch)) == message
    assert bytes(rebuild_message(through_ipc(batch))) == message
    assert_same(from_arrow(batch), ALL[name])


def test_large_types(large_offsets):
    def type_of(obj):
        return to_arrow(large_offsets(obj)).schema.field("roots").type.value_type

    assert type_of(["once", "x"]) == pa.large_list(pa.large_string())
    assert type_of([b"x"]) == pa.large_list(pa.large_binary())
    assert pa.types.is_large_list(type_of({1: 2}))
    text = "met twice"
    assert type_of([text, text]).value_type == pa.dictionary(pa.int32(), pa.large_string())


def test_large_unions_are_too_large_for_arrow(monkeypatch):
    from pyray.serialization import reference_columns
    from pyray.serialization.reference_format import LARGE

    monkeypatch.setattr(
        reference_columns,
        "_offsets",
        lambda kind, values: (kind | LARGE, reference_columns.numbers("q", values)),
    )
    with pytest.raises(OverflowError, match="more than 2"):
        to_arrow(reference_encoder.encode_message([1, "x"]))


# -- memory ----------------------------------------------------------------------------------


def test_no_column_is_copied():
    message = encode_message([list(range(10_000)), np.arange(10_000.0), "x" * 3000])
    start = np.frombuffer(message, np.uint8).ctypes.data
    batch = to_arrow(message)
    items = batch.column("roots").values.values
    for column, index in (
        (items.field(0).values, 1),
        (batch.column("buffers").values.field("data"), 2),
        (items.field(2), 2),
    ):
        address = column.buffers()[index].address
        assert start <= address < start + len(message)


def test_scalar_text_is_not_copied():
    message = encode_message("x" * 100_000)
    start = np.frombuffer(message, np.uint8).ctypes.data
    assert to_arrow(message).column("roots").values.buffers()[2].address == start + 1


def test_arrays_outlive_the_message():
    batch = export_of(list(range(1000)))
    items = batch.column("roots").values.values
    del batch
    gc.collect()
    junk = [bytes(2000) for _ in range(1000)]
    assert items.to_pylist() == list(range(1000))
    del junk


def test_the_buffer_is_released_with_the_last_array():
    buffer = bytearray(encode_message([1, 2, 3]))
    exported = export(buffer)
    batch = pa.record_batch(exported)
    del exported
    gc.collect()
    with pytest.raises(BufferError):
        buffer.append(0)
    items = batch.column("roots")
    del batch
    gc.collect()
    with pytest.raises(BufferError):
        buffer.append(0)
    del items
    gc.collect()
    buffer.append(0)


def test_capsules_that_nobody_takes_are_released():
    buffer = bytearray(encode_message(EXAMPLE))
    exported = export(buffer)
    for _ in range(10):
        exported.__arrow_c_array__(None)
        exported.__arrow_c_schema__()
    del exported
    gc.collect()
    buffer.append(0)


def test_release_on_another_thread():
    buffer = bytearray(encode_message(list(range(100))))
    batches = [to_arrow(buffer)]
    thread = threading.Thread(target=batches.clear)
    thread.start()
    thread.join()
    gc.collect()
    buffer.append(0)


@pytest.mark.parametrize("shift", range(1, 8))
def test_a_message_at_any_address(shift):
    message = encode_message(EXAMPLE)
    moved = memoryview(bytes(shift) + message)[shift:]
    assert_same(from_arrow(to_arrow(moved)), EXAMPLE)


def test_memory_does_not_grow():
    message = encode_message([EXAMPLE, REDUCED["instances"], NATIVE["everything"]])
    stream = ipc_stream([EXAMPLE, REDUCED["instances"]])

    def once():
        from_arrow(export(message))
        from_arrow_ipc(stream)
        with pytest.raises(DeserializationError):
            export(message[:100])

    for _ in range(20):
        once()
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(200):
        once()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096


# -- other libraries -------------------------------------------------------------------------

RECORDS = [{"id": i, "name": f"n{i}", "score": i / 2} for i in range(100)]


def test_nanoarrow_reads_the_stream():
    stream = nanoarrow.ArrayStream.from_readable(ipc_stream([RECORDS, np.array([5.0, 6.0])]))
    [batch] = [chunk for chunk in stream]
    row = next(iter(batch.iter_py()))
    records, tensor = row["roots"][0]
    assert records == RECORDS
    described = row["tensors"][tensor["tensor"]]
    assert (described["dtype"], described["shape"]) == ("<f8", [2])
    buffer = row["buffers"][described["buffer"]]
    assert np.frombuffer(buffer["data"][: buffer["size"]]).tolist() == [5.0, 6.0]


def test_nanoarrow_takes_the_capsule():
    array = nanoarrow.c_array(export(encode_message(RECORDS)))
    assert array.length == 1 and array.child(0).child(0).child(0).child(0).length == 100
    assert nanoarrow.Array(array).to_pylist()[0]["roots"] == [RECORDS]


def test_arro3_reads_the_stream():
    reader = arro3.core.RecordBatchReader.from_arrow(
        pa.ipc.open_stream(ipc_stream([{"weights": np.arange(4.0)}, 1.5]))
    )
    [batch] = list(reader)
    tensors = batch.column("tensors")[0].as_py()
    buffers = batch.column("buffers")[0].as_py()
    assert [tensor["shape"] for tensor in tensors] == [[4]]
    data = buffers[tensors[0]["buffer"]]
    assert np.frombuffer(data["data"][: data["size"]]).tolist() == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("name", ALL)
def test_arro3_takes_every_message(name):
    batch = arro3.core.RecordBatch.from_arrow(export(encode_message(ALL[name])))
    assert batch.num_rows == 1
    assert_same(from_arrow(batch), ALL[name])


def test_duckdb_queries_records():
    message = pa.ipc.open_stream(ipc_stream(RECORDS)).read_all()
    query = """
        with records as (select unnest(roots[1]) as record from message)
        select sum(record.id), max(record.name), sum(record.score) from records
    """
    assert duckdb.sql(query).fetchall() == [(4950, "n99", 2475.0)]
    assert message.num_rows == 1


def test_duckdb_queries_tensors():
    """DuckDB has no dense unions, but the columns beside the roots never have any."""
    message = pa.ipc.open_stream(ipc_stream(EXAMPLE)).read_all().select(["tensors", "buffers"])
    query = "with t as (select unnest(tensors) as t from message) select t.dtype, t.shape from t"
    assert duckdb.sql(query).fetchall() == [("<f8", [2])]
    query = "with b as (select unnest(buffers) as b from message) select b.data, b.size from b"
    [(data, size)] = duckdb.sql(query).fetchall()
    assert np.frombuffer(data[:size]).tolist() == [5.0, 6.0]
    assert message.num_rows == 1


# -- hostile and foreign data ----------------------------------------------------------------


@pytest.mark.parametrize("message", [b"", b"\x1f", b"\x13", b"\x15\xff", b"\x18", b"\x10\x00"])
def test_malformed_messages_are_refused(message):
    with pytest.raises(DeserializationError):
        to_arrow(message)


def test_other_versions_are_refused():
    with pytest.raises(DeserializationError, match=r"version 2.*version 1"):
        export(b"\x2f" + bytes(100))


def test_altered_messages_never_lead_outside():
    """Each byte changed: an error, or arrays that pyarrow finds sound."""
    message = encode_message([*EXAMPLE, {"a": [1, "x"]}, {1, 2.5}, "é", SHARED_LIST, SHARED_LIST])
    for at in range(len(message)):
        for change in (0x01, 0x80):
            altered = bytearray(message)
            altered[at] ^= change
            try:
                batch = to_arrow(altered)
            except (DeserializationError, OverflowError):
                continue
            batch.validate(full=True)


def test_truncated_messages_are_refused():
    message = encode_message(EXAMPLE)
    for size in range(len(message)):
        with pytest.raises(DeserializationError):
            export(message[:size])


def replaced(batch, name, column):
    index = batch.schema.get_field_index(name)
    return batch.set_column(index, name, column)


@pytest.mark.parametrize(
    "data",
    [
        pa.record_batch({"x": [1]}),
        pa.record_batch({"roots": [[1]]}),
        pa.table({"x": [1, 2]}),
        replaced(export_of(1), "roots", pa.array([[1]])),
        replaced(export_of([1]), "memo", pa.array([[1]])),
        replaced(export_of([1]), "globals", pa.array([None], pa.list_(pa.int8()))),
        pa.Table.from_batches([export_of(1), export_of(1)]),
    ],
)
def test_foreign_data_are_refused(data):
    with pytest.raises(DeserializationError):
        from_arrow(data)


def with_kind(obj, kind, **more):
    """The export of `obj` whose root claims to be of another kind."""
    batch = export_of(obj)
    field = batch.schema.field("roots").type.value_field
    metadata = {"pyray:kind": kind, **{f"pyray:{k}": v for k, v in more.items()}}
    type_ = pa.list_(field.with_metadata(metadata))
    column = pa.ListArray.from_arrays([0, 1], batch.column("roots").values, type=type_)
    index = batch.schema.get_field_index("roots")
    return batch.set_column(index, pa.field("roots", type_), column)


@pytest.mark.parametrize("kind", ["INT8", "UTF8", "LIST", "DICT", "UNION", "REF", "REDUCE", "?"])
def test_kinds_that_do_not_fit_the_type_are_refused(kind):
    with pytest.raises(DeserializationError):
        from_arrow(with_kind(1.5, kind))


def test_continued_columns_that_are_not_there():
    with pytest.raises(DeserializationError):
        from_arrow(with_kind(None, "CONTINUED", node="1"))
    with pytest.raises(DeserializationError):
        from_arrow(with_kind(None, "CONTINUED", node="x"))


def test_nulls_are_refused():
    batch = export_of([1.5, 2.5])
    field = batch.schema.field("roots").type.value_field
    items = pa.array([[1.5, None]], field.type)
    column = pa.ListArray.from_arrays([0, 1], items, type=pa.list_(field))
    index = batch.schema.get_field_index("roots")
    with pytest.raises(DeserializationError, match="null"):
        from_arrow(batch.set_column(index, pa.field("roots", column.type), column))


def test_altered_streams_raise_or_give_an_object():
    """Arrow's reader refuses most; what passes it must still be no worse than an error."""
    stream = ipc_stream([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}, [1, "z", None]])
    for at in range(0, len(stream), 3):
        altered = bytearray(stream)
        altered[at] ^= 0x41
        try:
            from_arrow_ipc(bytes(altered), trusted=False)
        except (DeserializationError, RecursionError):
            pass


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_are_read_only(name):
    back = from_arrow(export_of(TENSORS[name]))
    assert not back.flags.writeable and back.copy().flags.writeable


# -- documentation ---------------------------------------------------------------------------


def test_the_examples_of_the_documentation(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[2] / "docs" / "arrow.md").read_text()
    names = {}
    for code in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(code, names)
    assert names["people"] == [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Grace"}]
    assert names["reference"] == {"tensor": 0}
