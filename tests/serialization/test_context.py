"""SerializationContext and the functions around it behave as pyarrow 11's did."""

from __future__ import annotations

import collections
import io
import os
import pickle
import threading

import numpy as np
import pytest

from pyray.serialization import context as api
from pyray.serialization import message as codec
from pyray.serialization import reduction
from pyray.serialization.context import (
    SerializationContext,
    default_serialization_context,
    use,
)
from pyray.serialization.errors import (
    DeserializationCallbackError,
    DeserializationError,
    SerializationCallbackError,
)


class Foo:
    def __init__(self, x=1):
        self.x = x


class SubFoo(Foo):
    pass


class Slotted:
    __slots__ = ()


Pair = collections.namedtuple("Pair", "l r")


def make_context(**options):
    context = SerializationContext()
    context.register_type(Foo, "Foo", **options)
    return context


def restore(rv, context):
    """What a decoder does with a reduction value."""
    function, args, state, _, _, setter = (*rv, None, None, None, None)[:6]
    with use(context):
        obj = function(*args)
        if setter is not None:
            setter(obj, state)
    return obj


# -- what a context reduces ------------------------------------------------------------------------


def test_unregistered_types_are_not_its_business():
    context = make_context()
    assert context.reduce([1]) is NotImplemented
    assert not context.handles(list) and context.handles(Foo)
    assert reduction.reduce(len, context) == "len"


def test_registered_later_is_seen():
    context = SerializationContext()
    assert not context.handles(Foo) and not context.handles(SubFoo)
    context.register_type(Foo, "Foo")
    assert context.handles(Foo) and context.handles(SubFoo)


def test_custom_serializer_and_deserializer():
    context = make_context(
        custom_serializer=lambda foo: foo.x, custom_deserializer=lambda x: ("restored", x)
    )
    rv = context.reduce(Foo(5))
    assert rv[1] == ("Foo", 5)
    assert restore(rv, context) == ("restored", 5)


def test_attributes_travel_without_a_serializer():
    context = make_context()
    back = restore(context.reduce(Foo(5)), context)
    assert type(back) is Foo and back.x == 5


def test_namedtuples_travel_by_their_fields():
    context = SerializationContext()
    context.register_type(Pair, "Pair")
    back = restore(context.reduce(Pair(1, 2)), context)
    assert type(back) is Pair and back == (1, 2)


def test_closest_registered_class_is_used():
    context = make_context()
    assert type(restore(context.reduce(SubFoo()), context)) is Foo
    context.register_type(SubFoo, "SubFoo")
    assert type(restore(context.reduce(SubFoo()), context)) is SubFoo


def test_set_pickle():
    context = make_context(pickle=True)
    assert context.reduce(Foo()) is NotImplemented  # pyray's own reduction then
    context.set_pickle(lambda foo: foo.x, lambda x: ["unpickled", x])
    rv = context.reduce(Foo(7))
    assert restore(rv, context) == ["unpickled", 7]
    assert restore(rv, context.clone()) == ["unpickled", 7]
    with pytest.raises(DeserializationCallbackError):
        restore(rv, SerializationContext())


def test_clone_is_independent():
    context = make_context()
    clone = context.clone()
    clone.register_type(Pair, "Pair")
    assert clone.handles(Foo) and clone.handles(Pair) and not context.handles(Pair)


def test_reader_that_does_not_know_the_type_id():
    rv = make_context().reduce(Foo())
    with pytest.raises(DeserializationCallbackError, match="Foo") as error:
        restore(rv, SerializationContext())
    assert error.value.type_id == "Foo"
    assert isinstance(error.value, DeserializationError)
    copy = pickle.loads(pickle.dumps(error.value.__reduce__()[1]))
    assert copy == (str(error.value), "Foo")


def test_reader_without_a_deserializer():
    rv = make_context(custom_serializer=vars, custom_deserializer=None).reduce(Foo())
    with pytest.raises(DeserializationCallbackError):
        restore(rv, make_context())


def test_nothing_to_serialize():
    context = SerializationContext()
    context.register_type(Slotted, "Slotted")
    slotted = Slotted()
    with pytest.raises(SerializationCallbackError) as error:
        context.reduce(slotted)
    assert error.value.example_object is slotted
    assert isinstance(error.value, pickle.PicklingError)


def test_errors_of_a_serializer_are_its_own():
    with pytest.raises(ZeroDivisionError):
        make_context(custom_serializer=lambda foo: 1 / 0).reduce(Foo())


def test_type_id_is_a_string():
    with pytest.raises(TypeError, match="type_id"):
        SerializationContext().register_type(Foo, 3)


def test_default_context_is_a_new_one_each_time():
    context = default_serialization_context()
    context.register_type(Foo, "Foo")
    assert not default_serialization_context().handles(Foo)


def test_context_in_use_is_a_matter_of_the_thread():
    rv = make_context().reduce(Foo())
    errors = []

    def other():
        try:
            rv[0](*rv[1])
        except DeserializationCallbackError as error:
            errors.append(error)

    with use(make_context()):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert type(rv[0](*rv[1])) is Foo
        with use(None):
            with pytest.raises(DeserializationCallbackError):
                rv[0](*rv[1])
        assert type(rv[0](*rv[1])) is Foo
    assert len(errors) == 1


# -- through the codec -----------------------------------------------------------------------------


def test_round_trip_with_a_context():
    context = make_context(custom_serializer=lambda f: f.x, custom_deserializer=Foo)
    foo = Foo([1])
    message = codec.serialize([foo, {"k": foo}, foo.x], context=context)
    for back in (message.deserialize(context), context.deserialize(message.to_buffer())):
        assert type(back[0]) is Foo and back[1]["k"] is back[0] and back[0].x is back[2]
    with pytest.raises(DeserializationCallbackError) as error:
        message.deserialize()
    assert error.value.type_id == "Foo"


def test_context_s_own_methods():
    context = make_context()
    back = context.deserialize(context.serialize([Foo(3)]).to_buffer())
    assert type(back[0]) is Foo and back[0].x == 3
    sink = io.BytesIO()
    context.serialize_to(Foo(4), sink)
    assert context.deserialize(sink.getvalue()).x == 4
    parts = context.serialize(Foo(5)).to_components()
    assert context.deserialize_components(parts).x == 5


def test_instance_that_refers_to_itself():
    context = make_context()
    foo = Foo()
    foo.x = [foo]
    back = codec.serialize(foo, context=context).deserialize(context)
    assert back.x[0] is back


def test_context_comes_before_every_other_reduction():
    context = SerializationContext()
    context.register_type(
        ValueError, "E", custom_serializer=lambda e: e.args, custom_deserializer=lambda args: args
    )
    back = codec.serialize([ValueError(1)], context=context).deserialize(context)
    assert back == [(1,)]


def test_reader_that_trusts_nobody_may_use_its_own_context():
    context = make_context()
    data = codec.serialize([Foo(3)], context=context).to_buffer()
    assert codec.deserialize(data, context=context, trusted=False)[0].x == 3


def test_reader_that_trusts_nobody_runs_no_pickle():
    context = make_context(pickle=True)
    context.set_pickle(lambda foo: b"anything", lambda data: pytest.fail("called"))
    data = codec.serialize([Foo(3)], context=context).to_buffer()
    with pytest.raises(DeserializationError, match="allow"):
        codec.deserialize(data, context=context, trusted=False)


def test_attributes_of_other_objects_cannot_be_changed():
    rv = make_context().reduce(Foo())
    with use(make_context()):
        with pytest.raises(DeserializationError, match="not a registered type"):
            rv[5](threading.Thread(), {"x": 1})


def test_message_of_an_unregistered_type_is_carried():
    assert codec.serialize(Foo(2)).deserialize().x == 2


VALUES = [5, "a", [1, "a"], b"x", {"k": b"x" * 1000}, None, 3.5, True, (1, 2), "last"]


def test_messages_one_after_another_in_a_file():
    file = io.BytesIO()
    for value in VALUES:
        api.serialize_to(value, file)
    file.seek(0)
    assert [api.deserialize_from(file, None) for _ in VALUES] == VALUES
    with pytest.raises(DeserializationError, match="end"):
        api.deserialize_from(file, None)


def test_messages_one_after_another_in_a_pipe():
    reader, writer = os.pipe()
    with open(reader, "rb") as source, open(writer, "wb") as sink:
        for value in (True, [1, "a"], {"k": b"x" * 1000}):
            api.serialize_to(value, sink)
        sink.close()
        assert api.deserialize_from(source, None) is True
        assert api.deserialize_from(source, None) == [1, "a"]
        assert api.read_serialized(source).deserialize() == {"k": b"x" * 1000}


def test_read_from_where_the_file_stands():
    file = io.BytesIO()
    file.write(b"before")
    api.serialize_to([5], file)
    file.seek(6)
    assert api.deserialize_from(file, None) == [5]


def test_truncated_file():
    file = io.BytesIO()
    api.serialize_to([5, "x" * 1000], file)
    with pytest.raises(DeserializationError):
        api.deserialize_from(io.BytesIO(file.getvalue()[:-100]), None)


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, io.BytesIO])
def test_sources(wrap):
    file = io.BytesIO()
    api.serialize_to({"a": 1}, file)
    message = api.read_serialized(wrap(file.getvalue()))
    assert isinstance(message, api.SerializedPyObject)
    assert message.total_bytes == len(file.getvalue())
    assert message.deserialize() == {"a": 1}


def test_source_that_cannot_be_read():
    with pytest.raises(TypeError, match="int"):
        api.read_serialized(5)


def test_base_lives_as_long_as_what_lies_in_the_message():
    import gc
    import weakref

    file = io.BytesIO()
    api.serialize_to([np.arange(1000)], file)

    class Base:
        pass

    base = Base()
    watch = weakref.ref(base)
    (array,) = api.deserialize_from(file.getvalue(), base)
    del base
    gc.collect()
    assert watch() is not None and array.sum() == 499_500
    del array
    gc.collect()
    assert watch() is None


def test_pyarrow_streams_and_buffers():
    pa = pytest.importorskip("pyarrow")
    sink = pa.BufferOutputStream()
    for value in ([np.arange(1000)], "last"):
        api.serialize_to(value, sink)
    buffer = sink.getvalue()
    reader = pa.BufferReader(buffer)
    (array,) = api.deserialize_from(reader, None)
    assert np.shares_memory(array, np.frombuffer(buffer, "u1"))
    assert api.deserialize_from(reader, None) == "last"


def test_memory_mapped_file_is_not_copied(tmp_path):
    pa = pytest.importorskip("pyarrow")
    with open(tmp_path / "f", "wb") as file:
        api.serialize_to([np.arange(1000)], file)
    with pa.memory_map(str(tmp_path / "f")) as source:
        whole = np.frombuffer(source.read_buffer(), "u1")
        source.seek(0)
        (array,) = api.deserialize_from(source, None)
        assert np.shares_memory(array, whole)
        assert array.sum() == 499_500


def test_fixed_size_sink():
    pa = pytest.importorskip("pyarrow")
    room = bytearray(codec.serialize([1, "a"]).total_bytes)
    api.serialize_to([1, "a"], pa.FixedSizeBufferWriter(pa.py_buffer(room)))
    assert api.deserialize_from(room, None) == [1, "a"]


def test_components():
    parts = codec.serialize([np.arange(3), "x"]).to_components()
    assert isinstance(parts, dict)
    back = api.deserialize_components(parts)
    assert back[0].tolist() == [0, 1, 2] and back[1] == "x"
