"""numpy arrays of every dtype and order come back as read-only views of the message."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from pyray.serialization.message import dumps, loads


def trip(obj):
    return loads(dumps(obj))


def assert_same(back, value):
    assert type(back) is type(value)
    assert back.dtype == value.dtype
    assert back.shape == value.shape
    assert repr(back.tolist()) == repr(value.tolist())


class Tagged(np.ndarray):
    """A subclass with an attribute, as numpy's manual describes it."""

    def __array_finalize__(self, source):
        self.tag = getattr(source, "tag", None)


class OwnReduce(np.ndarray):
    def __reduce__(self):
        return make_own, (self.tolist(),)


def make_own(items):
    return np.array([*items, 99.0]).view(OwnReduce)


class OwnState(np.ndarray):
    def __setstate__(self, state):
        super().__setstate__(state)
        self.restored = True


STRUCT = [("a", "<i4"), ("b", ">f8", (2,)), ("c", "U3"), ("d", "M8[s]")]
RECORDS = np.array([(1, (1.5, 2.5), "x", 5), (2, (0, 1), "yz", 6)], dtype=STRUCT)

ARRAYS = {
    **{
        f"dtype {code}": np.array([0, 1, 0, 1, 1, 0]).astype(code)
        for code in "? i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 g c8 c16 G S3 U3 V5 O M8[ns] m8[D]".split()
    },
    **{
        f"swapped {code}": np.arange(6).astype(code) for code in (">i4", ">f8", ">c8", ">u2", ">U3")
    },
    "swapped datetime": np.arange(3).astype(">M8[s]"),
    "not a time": np.array(["NaT", "2020-01-01"], "M8[D]"),
    "generic datetime": np.array([1, 2], "m8"),
    "0-d": np.array(5.0),
    "0-d object": np.array(None),
    "0-d struct": RECORDS[0:1].reshape(()),
    "empty": np.zeros(0),
    "empty 2-d": np.zeros((3, 0, 2), "i4"),
    "empty struct": np.zeros(0, STRUCT),
    "empty object": np.zeros(0, object),
    "no bytes": np.zeros(3, "S0"),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "transposed 3-d": np.arange(24).reshape(2, 3, 4).transpose(1, 2, 0),
    "strided": np.arange(20)[::3],
    "reversed": np.arange(5)[::-1],
    "inner slice": np.arange(24).reshape(4, 6)[1:3, 2:5],
    "broadcast": np.broadcast_to(np.arange(3), (4, 3)),
    "struct": RECORDS,
    "struct strided": RECORDS[::-1],
    "struct 2-d": RECORDS.reshape(2, 1),
    "struct aligned": np.zeros(2, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    "struct of objects": np.array([(1, [2]), (3, None)], [("a", "i4"), ("b", "O")]),
    "struct titles": np.zeros(1, [(("title", "name"), "i4")]),
    "nested struct": np.zeros(2, [("p", [("x", "i1"), ("y", "f4")]), ("q", "i2", (2, 2))]),
    "objects": np.array([[1, "a"], [None, 2.5]], object),
    "objects fortran": np.array([[1, "a"], [None, 2.5]], object).T,
    "objects that are sequences": np.array([None, [1, 2], (3,)], object),
    "text": np.array(["a", "long text", "é"]),
    "large": np.arange(100_000.0),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS.keys())
def test_array(array):
    back = trip(array)
    assert_same(back, array)
    first, second = trip([array, {"k": array}])
    assert_same(first, array)
    assert second["k"] is first


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS.keys())
def test_array_is_a_read_only_view_of_the_message_and_its_copy_writable(array):
    data = dumps([array])
    (back,) = loads(data)
    if array.dtype.hasobject or not array.nbytes:
        return  # Python objects and nothing at all are not in the message's memory
    assert np.shares_memory(back, np.frombuffer(data, np.uint8))
    assert not back.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        back[...] = back
    assert back.flags.aligned
    copy = back.copy()
    copy[...] = back
    assert copy.flags.writeable


@pytest.mark.parametrize("name", ["fortran", "objects fortran", "large"])
def test_memory_order_is_kept(name):
    array = ARRAYS[name]
    back = trip(array)
    assert back.flags.f_contiguous == array.flags.f_contiguous
    assert back.flags.c_contiguous == array.flags.c_contiguous


def test_buffers_stay_valid_when_the_message_goes():
    back = trip({"a": np.arange(1000), "b": [np.ones(1000)]})
    assert back["a"].sum() == 499_500 and back["b"][0].sum() == 1000


@pytest.mark.parametrize("dtype", ["f8", STRUCT])
def test_encoding_copies_no_large_buffer(dtype):
    array = np.zeros(10_000, dtype)
    buffers = []
    dumps([array], buffer_callback=buffers.append)
    assert any(np.shares_memory(np.frombuffer(b.raw(), np.uint8), array) for b in buffers)


def test_metadata_of_the_dtype():
    dtype = np.dtype("f4", metadata={"unit": "m"})
    back = trip(np.ones(3, dtype))
    assert back.dtype.metadata == {"unit": "m"} and back.sum() == 3


@pytest.mark.skipif(not hasattr(np, "dtypes"), reason="numpy 2")
def test_variable_width_strings():
    if not hasattr(np.dtypes, "StringDType"):
        pytest.skip("numpy 2")
    array = np.array(["a", "a much longer string than fits inline", ""], np.dtypes.StringDType())
    assert_same(trip(array), array)


# -- object arrays -------------------------------------------------------------------------------


def test_object_array_shares_with_its_surroundings():
    shared = [1]
    array = np.array([None, None], object)
    array[0], array[1] = shared, {"x": shared}
    back = trip([array, shared])
    assert back[0][0] is back[1] and back[0][1]["x"] is back[1]


def test_object_array_that_contains_itself():
    array = np.empty((1, 2), object)
    array[0, 0] = array
    back = trip(array)
    assert back[0, 0] is back
    holder = [array]
    array[0, 1] = holder
    back = trip(holder)
    assert back[0][0, 1] is back
    array[...] = None


def test_object_array_of_arrays():
    array = np.empty(2, object)
    array[0], array[1] = np.arange(3), np.arange(4)
    back = trip(array)
    assert back[0].tolist() == [0, 1, 2] and back[1].tolist() == [0, 1, 2, 3]


# -- subclasses ----------------------------------------------------------------------------------


def test_matrix_and_recarray():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        matrix = np.matrix([[1, 2], [3, 4]])
    assert_same(trip(matrix), matrix)
    records = np.rec.array([(1, "a"), (2, "b")], dtype=[("x", "i4"), ("y", "U2")])
    back = trip(records)
    assert_same(back, records)
    assert back.x.tolist() == [1, 2] and type(back[0]) is np.record


def test_memmap_comes_back_as_a_plain_array(tmp_path):
    mapped = np.memmap(tmp_path / "f", "f8", "w+", shape=(1000,))
    mapped[:] = 3
    data = dumps(mapped)
    back = loads(data)
    assert type(back) is np.ndarray and back.tolist() == [3.0] * 1000
    assert np.shares_memory(back, np.frombuffer(data, np.uint8))


def test_subclass_keeps_attributes_and_is_a_view():
    array = np.arange(1000.0).view(Tagged)
    array.tag = ["tag"]
    data = dumps([array, array.tag])
    back, tag = loads(data)
    assert type(back) is Tagged and back.tag == ["tag"] and back.tag is tag
    assert np.shares_memory(back, np.frombuffer(data, np.uint8))
    assert not back.flags.writeable


def test_subclass_that_refers_to_itself():
    array = np.array([1, None], object).view(Tagged)
    array.tag = array
    back = trip(array)
    assert back.tag is back and type(back) is Tagged
    array.tag = None
    floats = np.arange(3.0).view(Tagged)
    floats.tag = [floats]
    back = trip(floats)
    assert back.tag[0] is back
    floats.tag = None


def test_subclass_with_its_own_reduction():
    back = trip(np.array([1.0]).view(OwnReduce))
    assert type(back) is OwnReduce and back.tolist() == [1.0, 99.0]
    assert trip(np.array([1.0]).view(OwnState)).restored


def test_subclass_made_at_run_time():
    class Local(np.ndarray):
        def double(self):
            return self * 2

    back = trip(np.arange(3).view(Local))
    assert back.double().tolist() == [0, 2, 4]


# -- masked arrays -------------------------------------------------------------------------------


def test_masked_array():
    value = np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0], fill_value=7, hard_mask=True)
    data = dumps([value])
    (back,) = loads(data)
    assert type(back) is np.ma.MaskedArray and repr(back) == repr(value)
    assert back.mask.tolist() == [False, True, False]
    assert back.fill_value == 7 and back.hardmask
    whole = np.frombuffer(data, np.uint8)
    assert np.shares_memory(back.data, whole) and np.shares_memory(back.mask, whole)
    assert (back + 1).tolist() == [2.0, None, 4.0]


def test_masked_array_without_a_mask():
    back = trip(np.ma.array([1, 2]))
    assert back.mask is np.ma.nomask and back.filled().tolist() == [1, 2]


@pytest.mark.parametrize(
    "value",
    [
        np.ma.array(5, mask=True),
        np.ma.array([[1, 2], [3, 4]], mask=[[0, 1], [1, 0]]).T,
        np.ma.array([(1, 2.0)], mask=[(0, 1)], dtype=[("a", int), ("b", float)]),
        np.ma.array([1, None], mask=[1, 0], dtype=object),
        np.ma.array([], dtype="i4"),
    ],
    ids=["0-d", "transposed", "struct", "objects", "empty"],
)
def test_masked_arrays_of_all_sorts(value):
    back = trip(value)
    assert repr(back) == repr(value)
    assert back.shape == value.shape and back.dtype == value.dtype


def test_masked_subclass_and_attributes():
    class Marked(np.ma.MaskedArray):
        pass

    value = np.ma.array([1, 2], mask=[0, 1]).view(Marked)
    value.note = ["n"]
    back = trip(value)
    assert type(back).__name__ == "Marked" and back.note == ["n"] and back.tolist() == [1, None]
    assert trip(np.ma.masked) is np.ma.masked


def test_masked_matrix_keeps_its_base_class():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = np.ma.array(np.matrix([[1, 2]]), mask=[[0, 1]])
        assert type(trip(value).data) is np.matrix


# -- what is not an array ------------------------------------------------------------------------

SCALARS = [
    np.bool_(True),
    np.int8(-3),
    np.uint64(2**63),
    np.float16(1.5),
    np.float32(0.1),
    np.float64(0.1),
    np.longdouble("0.1"),
    np.complex64(1 + 2j),
    np.str_("text"),
    np.bytes_(b"bytes"),
    np.datetime64("2020-01-01T00:00:01"),
    np.timedelta64(3, "h"),
    np.void(b"abc"),
    RECORDS[0],
    np.array([(1, None)], [("a", "i4"), ("b", "O")])[0],
]


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda scalar: type(scalar).__name__)
def test_scalar(scalar):
    back = trip([scalar])[0]
    assert type(back) is type(scalar) and back.dtype == scalar.dtype
    assert repr(back) == repr(scalar)


@pytest.mark.parametrize(
    "dtype", ["f8", ">i4", "M8[ns]", "U5", STRUCT, "O", ("f4", (2, 3))], ids=str
)
def test_dtype(dtype):
    dtype = np.dtype(dtype)
    assert trip(dtype) == dtype
    assert trip([dtype, dtype])[1] == dtype


def test_random_generators_continue_where_they_were():
    for make in (lambda: np.random.default_rng(3), lambda: np.random.RandomState(3)):
        generator = make()
        generator.standard_normal(5)
        back = trip(generator)
        assert back.standard_normal(3).tolist() == generator.standard_normal(3).tolist()


def test_functions_of_numpy_go_by_name():
    assert trip(np.sin) is np.sin
    assert trip(np.add.reduce)([1, 2]) == 3
    assert trip(np.linspace) is np.linspace
    assert trip(np.float64) is np.float64
    assert trip(np.linalg) is np.linalg
    assert trip(type(np.dtype("f8"))) is type(np.dtype("f8"))
