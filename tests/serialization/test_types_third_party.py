"""pandas, scipy, pyarrow, torch and polars: equal after the trip, and no large buffer copied."""

from __future__ import annotations

import gc
import warnings

import numpy as np
import pytest

from pyray.serialization.message import dumps, loads


def trip(obj):
    return loads(dumps(obj))


def memory(data):
    return np.frombuffer(data, np.uint8)


def address_inside(data, address):
    start = memory(data).__array_interface__["data"][0]
    return start <= address < start + len(memory(data))


# -- pandas --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pd():
    return pytest.importorskip("pandas")


@pytest.fixture
def frame(pd):
    n = 1000
    return pd.DataFrame(
        {
            "f": np.arange(n) * 1.5,
            "g": np.arange(n) * 2.5,
            "i": np.arange(n),
            "s": [str(i) for i in range(n)],
            "c": pd.Categorical(["x", "y"] * (n // 2), ordered=True),
            "t": pd.date_range("2020", periods=n, freq="h"),
            "z": pd.date_range("2020", periods=n, freq="h", tz="UTC"),
            "n": pd.array([1, None] * (n // 2), dtype="Int64"),
            "o": [1, [2]] * (n // 2),
            "p": pd.period_range("2020", periods=n, freq="D"),
            "d": pd.to_timedelta(np.arange(n), "s"),
            "b": [True, False] * (n // 2),
        }
    )


def test_frame(pd, frame):
    frame.attrs["note"] = 1
    back = trip(frame)
    pd.testing.assert_frame_equal(back, frame)
    assert back.attrs == {"note": 1}
    pd.testing.assert_frame_equal(trip(frame.set_index(["i", "s"])), frame.set_index(["i", "s"]))
    pd.testing.assert_frame_equal(trip(frame.iloc[5:7]), frame.iloc[5:7])


def test_frame_can_be_worked_with(pd, frame):
    back = trip(frame)
    pd.testing.assert_series_equal(
        back.groupby("c", observed=True)["f"].mean(),
        frame.groupby("c", observed=True)["f"].mean(),
    )
    back["new"] = back["f"] + 1
    assert back.sort_values("f", ascending=False).iloc[0]["new"] == 999 * 1.5 + 1


def test_frame_blocks_are_views_of_the_message(pd):
    frame = pd.DataFrame(np.arange(3000.0).reshape(1000, 3), columns=list("abc"))
    data = dumps(frame)
    back = loads(data)
    for column in "abc":
        assert np.shares_memory(back[column].to_numpy(), memory(data))
    back_copy = back.copy()
    back_copy.iloc[0, 0] = -1.0
    assert back_copy.iloc[0, 0] == -1 and back.iloc[0, 0] == 0


def test_frame_is_not_copied_when_encoded(pd):
    frame = pd.DataFrame(np.arange(3000.0).reshape(1000, 3))
    buffers = []
    dumps(frame, buffer_callback=buffers.append)
    assert any(np.shares_memory(memory(b.raw()), frame[0].to_numpy()) for b in buffers)


def test_arrow_strings_are_not_copied(pd):
    pytest.importorskip("pyarrow")
    series = pd.Series(["some text"] * 10_000, dtype=pd.StringDtype("pyarrow"))
    data = dumps(series)
    back = loads(data)
    pd.testing.assert_series_equal(back, series)
    chunk = back.array.__arrow_array__().chunk(0)
    assert address_inside(data, chunk.buffers()[2].address)
    assert len(data) < 10_000 * (len("some text") + 8) + 5000


def test_series_indexes_and_scalars(pd):
    for index in (
        pd.Index([1, 2], name="n"),
        pd.Index(["a", "b"]),
        pd.Index([1, "a"], dtype=object),
        pd.RangeIndex(3),
        pd.MultiIndex.from_product([[1, 2], ["a"]], names=["x", "y"]),
        pd.CategoricalIndex(["a", "b", "a"]),
        pd.date_range("2020", periods=3, freq="D"),
        pd.IntervalIndex.from_breaks([1, 2, 3]),
        pd.period_range("2020", periods=3, freq="D"),
        pd.timedelta_range("1D", periods=3),
    ):
        pd.testing.assert_index_equal(trip(index), index)
        series = pd.Series(range(len(index)), index=index, name="s")
        pd.testing.assert_series_equal(trip(series), series)
    for scalar in (
        pd.Timestamp("2020", tz="UTC"),
        pd.Timedelta(1),
        pd.Period("2020", "D"),
        pd.Interval(1, 2),
        pd.offsets.MonthEnd(2),
        pd.CategoricalDtype(["a"]),
    ):
        back = trip(scalar)
        assert back == scalar and type(back) is type(scalar)
    assert trip(pd.NaT) is pd.NaT and trip(pd.NA) is pd.NA


def test_pandas_arrays(pd):
    for array in (
        pd.Categorical(["a", "b", None], categories=["b", "a"], ordered=True),
        pd.array([1, None], dtype="Int32"),
        pd.array([1.5, None], dtype="Float64"),
        pd.array([True, None], dtype="boolean"),
        pd.arrays.SparseArray([0, 0, 1]),
        pd.arrays.IntervalArray.from_breaks([1, 2, 3]),
    ):
        back = trip(array)
        assert back.dtype == array.dtype
        pd.testing.assert_series_equal(pd.Series(back), pd.Series(array))


def test_two_columns_share_one_object(pd):
    shared = [1]
    back = trip(pd.DataFrame({"a": [shared, 0], "b": [0, shared]}))
    assert back["a"][0] is back["b"][1]


# -- scipy ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr", "dia", "lil", "dok"])
@pytest.mark.parametrize("family", ["array", "matrix"])
def test_scipy_sparse(kind, family):
    sparse = pytest.importorskip("scipy.sparse")
    value = getattr(sparse, f"{kind}_{family}")(np.diag(np.arange(50.0)))
    data = dumps(value)
    back = loads(data)
    assert type(back) is type(value)
    assert back.toarray().tolist() == value.toarray().tolist()
    if kind in ("csr", "csc", "coo", "bsr", "dia"):
        assert np.shares_memory(back.data, memory(data))


# -- pyarrow -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pa():
    return pytest.importorskip("pyarrow")


def arrow_arrays(pa):
    n = 3000
    texts = pa.array([None if i % 7 == 0 else f"text {i}" for i in range(n)])
    unions = [pa.array(range(n)), pa.array(["a"] * n)]
    arrays = {
        "int64": pa.array(range(n)),
        "float with nulls": pa.array([None if i % 3 == 0 else i * 1.5 for i in range(n)]),
        "bool with nulls": pa.array([None if i % 3 == 0 else i % 2 == 0 for i in range(n)]),
        "string": texts,
        "large string": texts.cast(pa.large_string()),
        "binary": texts.cast(pa.binary()),
        "fixed binary": pa.array([b"abc"] * n, pa.binary(3)),
        "list": pa.array([[1, None], []] * (n // 2)),
        "struct": pa.array([{"a": 1, "b": "x"}, None] * (n // 2)),
        "map": pa.array([[("k", 1)]] * n, pa.map_(pa.string(), pa.int8())),
        "dictionary": pa.array(["a", "b", None] * (n // 3)).dictionary_encode(),
        "decimal": pa.array([1] * n).cast(pa.decimal128(19)),
        "timestamp": pa.array(range(n), pa.timestamp("us", "UTC")),
        "null": pa.nulls(n),
        "union": pa.UnionArray.from_dense(
            pa.array([0, 1] * (n // 2), pa.int8()), pa.array(range(n), pa.int32()), unions
        ),
        "empty": pa.array([], pa.int8()),
    }
    return arrays


def test_arrow_arrays_and_their_slices(pa):
    for name, array in arrow_arrays(pa).items():
        back = trip(array)
        back.validate(full=True)
        assert type(back) is type(array) and back.equals(array), name
        for start, length in ((0, 5), (11, 7), (1000, 13), (2999, 1), (5, 0)):
            piece = array.slice(start, length)
            back = trip(piece)
            back.validate(full=True)
            assert back.equals(piece), (name, start, length)


def test_a_slice_does_not_drag_its_parent_along(pa):
    for name, array in arrow_arrays(pa).items():
        if name not in ("dictionary", "union", "null", "empty"):  # pyarrow keeps these whole
            assert len(dumps(array.slice(1003, 10))) < min(3000, len(dumps(array))), name
    table = pa.table({"a": range(100_000), "b": [str(i) for i in range(100_000)]})
    assert trip(table.slice(5, 10)).equals(table.slice(5, 10))
    assert len(dumps(table.slice(5, 10))) < 4000


def test_arrow_buffers_are_not_copied(pa):
    array = pa.array(np.arange(10_000.0))
    for value in (array, array[5000:]):
        buffers = []
        dumps(value, buffer_callback=buffers.append)
        address = value.buffers()[1].address + value.offset * 8
        assert any(address_inside(b.raw(), address) for b in buffers)
    data = dumps(array)
    assert address_inside(data, loads(data).buffers()[1].address)


def test_arrow_buffer_outlives_the_message(pa):
    back = trip(pa.py_buffer(b"x" * 10_000))
    gc.collect()
    assert back.to_pybytes() == b"x" * 10_000


def test_arrow_tables_batches_schemas_scalars(pa):
    table = pa.table(
        {"a": pa.chunked_array([[1, 2], [3]]), "b": ["x", None, "z"]}
    ).replace_schema_metadata({"k": "v"})
    back = trip(table)
    assert back.equals(table, check_metadata=True) and back.column("a").num_chunks == 2
    batch = pa.RecordBatch.from_pydict({"a": [1, 2]})
    assert trip(batch).equals(batch)
    for value in (
        table.schema,
        table.schema.field("a"),
        pa.list_(pa.int8()),
        pa.scalar(3),
        pa.scalar([1, None]),
        pa.scalar(None, pa.string()),
        pa.chunked_array([[1], []]),
        pa.table({}),
    ):
        back = trip(value)
        assert type(back) is type(value) and back.equals(value)


def test_arrow_tensors(pa):
    for array in (np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3))):
        tensor = pa.Tensor.from_numpy(array, dim_names=["x", "y"])
        data = dumps(tensor)
        back = loads(data)
        assert back.equals(tensor) and back.dim_names == tensor.dim_names
        assert back.strides == tensor.strides
        assert np.shares_memory(back.to_numpy(), memory(data))


def test_arrow_sparse_tensors(pa):
    dense = np.diag(np.arange(1.0, 5.0))
    cube = np.zeros((2, 3, 4))
    cube[1, 2, 3] = cube[0, 0, 0] = 5
    for tensor in (
        pa.SparseCOOTensor.from_dense_numpy(dense, dim_names=["x", "y"]),
        pa.SparseCOOTensor.from_dense_numpy(cube),
        pa.SparseCSRMatrix.from_dense_numpy(dense),
        pa.SparseCSCMatrix.from_dense_numpy(dense),
        pa.SparseCSFTensor.from_dense_numpy(cube),
    ):
        data = dumps(tensor)
        back = loads(data)
        assert type(back) is type(tensor) and back.equals(tensor)
        assert list(back.dim_names) == list(tensor.dim_names) and back.shape == tensor.shape
        assert np.shares_memory(back.to_numpy()[0], memory(data))


# -- torch ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def test_tensors(torch):
    half = torch.arange(6.0).reshape(2, 3)
    tensors = [
        half,
        half.t(),
        half[:, 1],
        half[:0],
        torch.tensor(5),
        torch.zeros(1).expand(3),
        torch.arange(4).to(torch.complex64).conj(),
        (torch.arange(4) * 1j).conj().imag,
        *(
            torch.ones(3).to(dtype)
            for dtype in (torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16)
        ),
    ]
    for tensor in tensors:
        back = trip(tensor)
        assert back.dtype == tensor.dtype and back.stride() == tensor.stride()
        assert torch.equal(back, tensor), tensor
        assert back.requires_grad == tensor.requires_grad


def test_tensor_is_a_view_of_the_message_without_a_warning(torch):
    tensor = torch.arange(1000.0)
    data = dumps([tensor])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (back,) = loads(data)
    assert address_inside(data, back.data_ptr())
    del data
    gc.collect()
    assert torch.equal(back, tensor)
    assert back.clone().add_(1)[0] == 1


def test_tensor_is_not_copied_when_encoded(torch):
    tensor = torch.arange(1000.0)
    buffers = []
    dumps([tensor], buffer_callback=buffers.append)
    assert any(address_inside(b.raw(), tensor.data_ptr()) for b in buffers)


def test_views_share_their_storage_after_the_trip(torch):
    base = torch.arange(10.0)
    back, view, again = trip([base, base[2:5], base])
    assert again is back
    assert view.data_ptr() - back.data_ptr() == 2 * 4
    assert view.untyped_storage().data_ptr() == back.untyped_storage().data_ptr()
    assert len(dumps([base, base])) < 2 * 40 + 600


def test_gradients_parameters_and_attributes(torch):
    leaf = torch.ones(3, requires_grad=True)
    assert trip(leaf).requires_grad and trip(leaf).is_leaf
    computed = trip(leaf * 2)
    assert computed.requires_grad and computed.is_leaf
    parameter = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    back = trip(parameter)
    assert type(back) is torch.nn.Parameter and not back.requires_grad
    tensor = torch.ones(2)
    tensor.note = [tensor]
    back = trip(tensor)
    assert back.note[0] is back
    tensor.note = None


def test_module_and_state_dict(torch):
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3), torch.nn.ReLU())
    back = trip(model)
    sample = torch.ones(4, 2)
    model.eval(), back.eval()
    assert torch.equal(back(sample), model(sample))
    state = trip(model.state_dict())
    assert list(state) == list(model.state_dict())
    assert state._metadata == model.state_dict()._metadata
    model.load_state_dict(state)
    loss = back(sample).sum()
    loss.backward()
    assert back[0].weight.grad is not None


def test_storage_is_made_of_contiguous_bytes_only(torch):
    from pyray.serialization.adapters.torch_ import _restore_storage

    for wrong in (np.broadcast_to(np.zeros(1, "u1"), (1000,)), np.zeros(3), "text"):
        with pytest.raises(ValueError, match="bytes"):
            _restore_storage(wrong)


def test_tied_weights_stay_tied(torch):
    a, b = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    b.weight = a.weight
    back_a, back_b = trip([a, b])
    assert back_a.weight is back_b.weight


def test_sparse_and_quantized_tensors(torch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        coo = torch.sparse_coo_tensor([[0, 2]], [1.0, 2.0], (3,))
        csr = torch.eye(3).to_sparse_csr()
        quantized = torch.quantize_per_tensor(torch.tensor([0.1, 0.5]), 0.1, 0, torch.quint8)
        assert torch.equal(trip(coo).to_dense(), coo.to_dense()) and trip(coo).layout == coo.layout
        assert torch.equal(trip(csr).to_dense(), csr.to_dense()) and trip(csr).layout == csr.layout
        assert torch.equal(trip(quantized).dequantize(), quantized.dequantize())


def test_optimizer_continues_with_its_own_parameters(torch):
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    back_model, back_optimizer = trip([model, optimizer])
    assert back_optimizer.param_groups[0]["params"][0] is back_model.weight
    for key, value in optimizer.state[model.weight].items():
        assert torch.equal(back_optimizer.state[back_model.weight][key], value)


def test_tensor_that_is_not_in_memory(torch):
    back = trip(torch.ones(2, 3, device="meta"))
    assert back.device.type == "meta" and back.shape == (2, 3)


def test_small_things_of_torch(torch):
    for value in (torch.float32, torch.Size([1, 2]), torch.device("cpu"), torch.strided):
        back = trip(value)
        assert back == value and type(back) is type(value)


# -- polars --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pl():
    return pytest.importorskip("polars")


def test_polars_frame(pl):
    frame = pl.DataFrame(
        {
            "i": [1, None],
            "s": ["x", "a string that is longer than twelve bytes"],
            "l": [[1], []],
            "st": [{"q": 1}, {"q": 2}],
            "d": pl.Series([1, 2], dtype=pl.Date),
            "dt": pl.Series([1, 2], dtype=pl.Datetime("us", "UTC")),
            "dur": pl.Series([1, 2], dtype=pl.Duration),
            "dec": pl.Series(["1.5", "2"], dtype=pl.Decimal(10, 2)),
            "bin": [b"a", b"bb"],
            "b": [True, None],
            "n": [None, None],
        }
    )
    for value in (frame, frame.head(0), frame.slice(1, 1), pl.DataFrame()):
        back = trip(value)
        assert back.schema == value.schema and back.equals(value)
    assert trip(frame.lazy().select("i")).collect().equals(frame.select("i"))


def test_polars_series(pl):
    for series in (
        pl.Series("c", ["a", "b", "a"], dtype=pl.Categorical),
        pl.Series("e", ["a", "b"], dtype=pl.Enum(["a", "b"])),
        pl.Series("wide", [1, 2], dtype=pl.Int64),
        pl.Series("arr", [[1, 2], [3, 4]], dtype=pl.Array(pl.Int64, 2)),
        pl.Series("", [1.5, None]),
        pl.Series("empty", [], dtype=pl.Int8),
    ):
        back = trip(series)
        assert back.name == series.name and back.dtype == series.dtype and back.equals(series)


def test_polars_buffers_are_not_copied(pl):
    pytest.importorskip("pyarrow")
    frame = pl.DataFrame({"x": np.arange(10_000.0)})
    data = dumps(frame)
    back = loads(data)
    assert np.shares_memory(back["x"].to_numpy(), memory(data))
    buffers = []
    dumps(frame, buffer_callback=buffers.append)
    assert any(np.shares_memory(memory(b.raw()), frame["x"].to_numpy()) for b in buffers)
    assert len(dumps(frame.slice(5, 3))) < 2000


def test_polars_expressions(pl):
    expression = trip(pl.col("a") + 1)
    assert pl.DataFrame({"a": [1]}).select(expression).item() == 2
    assert trip(pl.Enum(["a"])) == pl.Enum(["a"])


def test_polars_without_pyarrow(pl, monkeypatch):
    frame = pl.DataFrame({"x": [1, 2], "s": ["a", None]})
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    back = trip(frame)
    assert back.equals(frame)
