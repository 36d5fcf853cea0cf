"""What can go wrong while an object is encoded: where the error says it is, and what it leaves.

Objects that change, or show themselves again, while their own code runs are here too. Where
pickle has an opinion, it is asked.
"""

from __future__ import annotations

import collections
import copyreg
import functools
import gc
import io
import os
import pickle
import subprocess
import sys
import threading
import weakref
from argparse import Namespace

import pytest

from pyray import DeserializationError, PicklingError, deregister_serializer, register_serializer
from pyray.serialization import message, reference_decoder, reference_encoder

ENCODERS = {
    "compiled": message.encode_message,
    "reference": reference_encoder.encode_message,
}
DECODERS = {
    "compiled": message.decode_message,
    "reference": reference_decoder.decode_message,
}
both = pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS)

LOCK = threading.Lock()


class Slots:
    __slots__ = ("lock", "other")


class Call:
    """Reduces to what a function says at that moment."""

    def __init__(self, function):
        self.function = function

    def __reduce__(self):
        return self.function()


def identity(x):
    return x


def raising(error):
    def function():
        raise error

    return Call(function)


# -- paths -----------------------------------------------------------------------------------


def slots():
    obj = Slots()
    obj.other = [1]
    obj.lock = LOCK
    return obj


def closure():
    lock = LOCK

    def function():
        return lock

    return function


def subclass_with_items():
    obj = collections.OrderedDict(x=1)
    obj["y"] = [LOCK]
    return obj


PATHS = [
    (lambda: LOCK, "obj"),
    (lambda: [1, [2, LOCK]], "obj[1][1]"),
    (lambda: (1, (2, LOCK)), "obj[1][1]"),
    (lambda: [(1, 2), (3, LOCK)], "obj[1][1]"),
    (lambda: {"workers": [{"a": 1}, Namespace(lock=LOCK)]}, "obj['workers'][1].lock"),
    (lambda: [{"a": 1, "b": 2}, {"a": 1, "b": LOCK}], "obj[1]['b']"),
    (lambda: Namespace(workers=[1, 2, Namespace(lock=LOCK)]), "obj.workers[2].lock"),
    (lambda: Namespace(table={"not.a.name": LOCK}), "obj.table['not.a.name']"),
    (lambda: [slots()], "obj[0].lock"),
    (lambda: {3: LOCK}, "obj[3]"),
    (lambda: collections.deque([1, LOCK]), "obj[1]"),
    (subclass_with_items, "obj['y'][0]"),
    (lambda: [functools.partial(identity, LOCK)], "obj[0]"),
    (lambda: [closure()], "obj[0]"),
    (lambda: [Call(lambda: (identity, (LOCK,)))], "obj[0].<arguments>[0]"),
    (lambda: [Call(lambda: (list, (), None, iter([0, LOCK])))], "obj[0][1]"),
    (lambda: [Call(lambda: (dict, (), None, None, iter([(1, LOCK)])))], "obj[0][1]"),
    (lambda: [Call(lambda: (Namespace, (), {"lock": LOCK}))], "obj[0].lock"),
]


@both
@pytest.mark.parametrize(
    "make, path", PATHS, ids=[f"{path} {i}" for i, (_, path) in enumerate(PATHS)]
)
def test_error_names_the_path(encode, make, path):
    with pytest.raises(TypeError) as caught:
        encode(make())
    text = str(caught.value)
    assert text.startswith(f"cannot serialize '_thread.lock' at {path}")
    assert "cannot pickle '_thread.lock' object" in text  # pickle's own words stay


@both
@pytest.mark.parametrize(
    "make, path",
    [
        (lambda: {LOCK}, "obj.<"),
        (lambda: frozenset([(1, LOCK)]), "obj.<"),
        (lambda: {(1, LOCK): 2}, "obj."),
    ],
    ids=["set", "frozenset", "key"],
)
def test_error_in_what_has_no_index_says_so(encode, make, path):
    with pytest.raises(TypeError) as caught:
        encode(make())
    assert str(caught.value).startswith(f"cannot serialize '_thread.lock' at {path}")


@both
def test_locks_sockets_and_generators_are_refused(encode):
    with io.BytesIO() as file, open(__file__, "rb") as real:
        assert encode(file)
        refused = {"_io.BufferedReader": real, "generator": (i for i in ()), "_thread.lock": LOCK}
        for name, obj in refused.items():
            with pytest.raises(TypeError) as caught:
                encode({"x": obj})
            assert f"cannot serialize '{name}' at obj['x']" in str(caught.value)


@both
def test_other_errors_stay_what_they_are_with_a_note(encode):
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught:
        encode([0, {"a": raising(error)}])
    assert caught.value is error
    if sys.version_info >= (3, 11):
        assert any("obj[1]['a']" in note for note in error.__notes__)


@both
def test_cause_of_a_named_error_is_the_first_error(encode):
    first = TypeError("mine")
    with pytest.raises(TypeError, match=r"at obj\[0\]: mine") as caught:
        encode([raising(first)])
    assert caught.value.__cause__ is first


@both
def test_subclass_of_type_error_stays_itself(encode):
    class Special(TypeError):
        pass

    with pytest.raises(Special):
        encode([raising(Special("x"))])


@both
def test_key_without_a_repr_does_not_hide_the_error(encode):
    with pytest.raises(TypeError, match="cannot pickle '_thread.lock'"):
        encode({Unprintable(): LOCK})


class Unprintable:
    def __repr__(self):
        raise ValueError("no repr")


@both
def test_interrupts_pass(encode):
    for kind in (KeyboardInterrupt, SystemExit):
        with pytest.raises(kind):
            encode([raising(kind())])


# -- reduction values ------------------------------------------------------------------------

BAD_VALUES = [
    lambda: 42,
    lambda: None,
    lambda: ["list", ()],
    lambda: (identity,),
    lambda: (identity, (), None, None, None, None, None),
    lambda: (42, ()),
    lambda: (identity, [1]),
    lambda: (identity, None),
    lambda: (list, (), None, [1]),
    lambda: (list, (), None, 42),
    lambda: (dict, (), None, None, {}),
    lambda: (dict, (), None, None, iter([("only",)])),
    lambda: (dict, (), None, None, iter([["a", 1]])),
    lambda: (dict, (), None, None, iter([1])),
    lambda: (identity, (), "state", None, None, 42),
    lambda: (copyreg.__newobj__, ()),
    lambda: (copyreg.__newobj__, (str,)),
    lambda: (copyreg.__newobj__, (42,)),
    lambda: (copyreg.__newobj_ex__, (Call,)),
    lambda: (copyreg.__newobj_ex__, (Call, [1], {})),
    lambda: (copyreg.__newobj_ex__, (Call, (), None)),
    lambda: "no_such_name",
    lambda: "Slots.no_such_name",
    lambda: "LOCK",
]


@both
@pytest.mark.parametrize("value", BAD_VALUES, ids=lambda value: repr(value())[:60])
def test_bad_reduction_is_refused_as_by_pickle(encode, value):
    with pytest.raises(Exception) as theirs:
        pickle.dumps(Call(value), 5)
    with pytest.raises((PicklingError, TypeError)) as ours:
        encode([Call(value)])
    assert isinstance(theirs.value, (pickle.PicklingError, TypeError, AttributeError))
    assert "at obj[0]" in str(ours.value)


@both
def test_errors_of_iterators_pass(encode):
    def items():
        yield ("a", 1)
        raise KeyError("half-way")

    for make in (
        lambda: (dict, (), None, None, items()),
        lambda: (list, (), None, items()),
    ):
        with pytest.raises(KeyError, match="half-way"):
            encode(Call(make))


# -- after an error --------------------------------------------------------------------------


@both
def test_nothing_is_left_of_a_failed_message(encode):
    """The next message knows nothing of it, and what it held is freed."""
    shared = ["shared"]
    held = Namespace()
    there = weakref.ref(held)
    for bad in (LOCK, raising(KeyError()), Call(lambda: 42)):
        with pytest.raises(Exception):
            encode([held, shared, shared, {"k": [held, bytes(5000), identity]}, bad])
        assert encode([shared, shared]) == reference_encoder.encode_message([shared, shared])
    del held
    gc.collect()
    assert there() is None


@both
def test_encoding_while_encoding(encode):
    """A reducer that serializes its content by itself, as many do."""
    inner = [1, [2, "three"], {"four": 5.0}]
    inner.append(inner[1])
    nested = Call(lambda: (message.decode_message, (encode(inner),)))
    outer = [inner, nested, inner]
    result = message.decode_message(encode(outer))
    assert result[0] == result[1] == inner and result[0] is result[2]
    assert result[1] is not result[0]


@both
def test_failing_inside_of_a_failing(encode):
    def try_inside():
        with pytest.raises(TypeError, match=r"at obj\[1\]"):
            encode([1, LOCK])
        return identity, ("fine",)

    assert message.decode_message(encode([0, Call(try_inside)])) == [0, "fine"]
    with pytest.raises(TypeError, match=r"at obj\[2\]"):
        encode([0, Call(try_inside), LOCK])


# -- objects that change while they are encoded ----------------------------------------------


def outcome(encode, decode, obj):
    """What becomes of an object: the copy, or the error's type."""
    try:
        return decode(encode(obj))
    except Exception as error:
        return type(error), str(error)


def changing(make, change):
    """A container with something in it that changes it, while that is encoded."""
    container = make(Call(lambda: (change(container), (identity, ("changed",)))[1]))
    return container


CHANGES = {
    "list cleared": (lambda c: [1, c, "tail"], lambda x: x.clear()),
    "list grown": (lambda c: [c, 1], lambda x: x.extend(range(1000))),
    "list shrunk": (lambda c: [c, 1, "x" * 3], lambda x: x.pop()),
    "dict cleared at a value": (lambda c: {"a": c, "b": [1]}, lambda x: x.clear()),
    "dict cleared at a key": (lambda c: {c: "a", "b": [1]}, lambda x: x.clear()),
    "dict grown": (lambda c: {"a": c}, lambda x: x.update({str(i): i for i in range(100)})),
    "dict shrunk": (lambda c: {"a": c, "b": [1], "c": 3}, lambda x: x.pop("b")),
    "set cleared": (lambda c: {c}, lambda x: x.clear()),
    "set grown": (lambda c: {c}, lambda x: x.update(range(100))),
}


@both
@pytest.mark.parametrize("name", CHANGES)
def test_container_that_changes_its_size(encode, name):
    """RuntimeError in pickle's words, or the object as it was at some moment."""
    make, change = CHANGES[name]
    result = outcome(encode, message.decode_message, changing(make, change))
    if isinstance(result, tuple):
        assert result[0] is RuntimeError
        assert "changed size during iteration" in result[1] or "mutated during" in result[1]
    else:
        assert type(result) is type(make(None))
        assert len(result) <= 1000 + 2


@both
@pytest.mark.parametrize("name", [name for name in CHANGES if name.startswith(("dict", "set"))])
def test_container_that_changes_its_size_in_a_record(encode, name):
    """As before, for rows of a record and of a column, and after others like them."""
    make, change = CHANGES[name]
    before = [make(1), make(2)]
    result = outcome(encode, message.decode_message, [*before, changing(make, change)])
    if isinstance(result, tuple):
        assert result[0] is RuntimeError
    else:
        assert result[:2] == before


@both
def test_dict_whose_values_are_replaced(encode):
    """The old values have no owner any more while they are encoded."""

    def replace():
        for key in list(d):
            d[key] = [key, "new"]
        gc.collect()
        return identity, ("changed",)

    d = {}
    d.update(a=["old"], b=Call(replace), c=["old" * 100], d="old" * 100)
    for obj in (d, [{"a": 1, "b": 2, "c": 3, "d": 4}, {"a": 1, "b": 2, "c": 3, "d": 4}, d]):
        d.update(a=["old"], b=Call(replace), c=["old" * 100], d="old" * 100)
        result = message.decode_message(encode(obj))
        result = result if obj is d else result[2]
        assert result["b"] == "changed" and list(result) == list(d)
        assert result["c"] in (["old" * 100], ["c", "new"])


@both
def test_keys_on_the_path_may_be_gone_when_it_is_named(encode):
    def vanish():
        d.clear()
        d.update({str(i): i for i in range(100)})  # where the key was is something else now
        raise KeyError("gone")

    d = {}
    for obj in (d, [d], Namespace(d=d)):
        d.clear()
        d["".join(["a", "key"])] = [Call(vanish)]
        with pytest.raises(KeyError) as caught:
            encode(obj)
        if sys.version_info >= (3, 11):
            assert "akey" in caught.value.__notes__[0]


# -- objects that are shown again while they are encoded -------------------------------------

ROOT = None


class ByReduce:
    def __reduce__(self):
        return identity, (ROOT[0],)


class ByState:
    def __getstate__(self):
        return [ROOT[0]]

    def __setstate__(self, state):
        self.shown = state[0]


class ByArguments(str):
    def __new__(cls, shown=None):
        self = super().__new__(cls, "x")
        self.shown = shown
        return self

    def __getnewargs__(self):
        return (ROOT[0],)

    def __getstate__(self):
        return None


class ByPartialMethod:
    def _reduce(self, function):
        return function, (ROOT[0],)

    __reduce__ = functools.partialmethod(_reduce, identity)


class ByStaticMethod:
    @staticmethod
    def __reduce__():
        return identity, (ROOT[0],)


class ByDescriptor:
    class Reducer:
        def __call__(self, protocol):
            return identity, (ROOT[0],)

    __reduce_ex__ = Reducer()


class ByDispatchTable:
    pass


class ByPartial:
    pass


class ByCallable:
    class Reducer:
        def __call__(self, obj):
            return identity, (ROOT[0],)


class ByItems(dict):
    def items(self):
        return [("shown", ROOT[0])]


class ByIteration(list):
    def __iter__(self):
        return iter([ROOT[0]])


class ByDequeIteration(collections.deque):
    def __iter__(self):
        return iter([ROOT[0]])


class ByOrderedItems(collections.OrderedDict):
    def items(self):
        return [("shown", ROOT[0])]


class ByException(Exception):
    def __reduce__(self):
        return identity, (ROOT[0],)


class BySerializer:
    pass


def show(obj):
    return identity, (ROOT[0],)


copyreg.pickle(ByDispatchTable, show)
copyreg.pickle(ByPartial, functools.partial(lambda extra, obj: show(obj), 1))
copyreg.pickle(ByCallable, ByCallable.Reducer())


def shown(obj):
    """What a copy of one of these shows."""
    if type(obj) in (ByItems, ByOrderedItems):
        return obj["shown"]
    if type(obj) in (ByIteration, ByDequeIteration):
        return obj[0]
    return getattr(obj, "shown", obj)


SHOWERS = [
    ByReduce, ByState, ByArguments, ByPartialMethod, ByStaticMethod, ByDescriptor,
    ByDispatchTable, ByPartial, ByCallable, ByItems, ByIteration, ByDequeIteration,
    ByOrderedItems, ByException, BySerializer,
]  # fmt: skip


@pytest.fixture
def root():
    """Sets what is shown: nothing but it refers to its parts."""
    register_serializer(BySerializer, serializer=lambda obj: ROOT[0], deserializer=identity)

    def set_root(*parts):
        global ROOT
        ROOT = list(parts)
        return ROOT

    yield set_root
    set_root()
    deregister_serializer(BySerializer)


@both
@pytest.mark.parametrize("cls", SHOWERS)
def test_object_shown_again_is_the_same_object(encode, cls, root):
    for make in (lambda: [1, "two", [3]], lambda: {"a": [1]}, lambda: ([1], 2), lambda: {1, 2},
                 lambda: bytearray(b"x"), lambda: Namespace(x=[1])):  # fmt: skip
        result = message.decode_message(encode(root(make(), cls())))
        assert shown(result[1]) is result[0]
        assert result[0] == make()


@both
@pytest.mark.parametrize("cls", SHOWERS)
def test_object_shown_by_what_it_contains(encode, cls, root):
    """The list is being encoded when it is met again: a cycle, not a recursion without end."""
    root([1])[0].append(cls())
    result = message.decode_message(encode(ROOT))
    if cls is not ByArguments:  # made by a call with what is not complete
        assert shown(result[0][1]) is result[0]


# -- depth -----------------------------------------------------------------------------------


def nested(depth, wrap):
    obj = 1
    for _ in range(depth):
        obj = wrap(obj)
    return obj


WRAPPERS = {
    "list": lambda obj: [obj],
    "tuple": lambda obj: (obj,),
    "dict": lambda obj: {"a": obj},
    "key": lambda obj: {(obj,): None} if not isinstance(obj, dict) else frozenset([1]),
    "frozenset": lambda obj: frozenset([obj]),
    "instance": lambda obj: Namespace(a=obj),
    "deque": lambda obj: collections.deque([obj]),
    "partial": lambda obj: functools.partial(identity, obj),
}


@both
@pytest.mark.parametrize("name", ["list", "tuple", "dict", "frozenset", "instance", "deque"])
def test_too_deep_is_a_recursion_error(encode, name):
    """And not a crash, though limits may be set far beyond what C stacks bear."""
    obj = nested(100_000, WRAPPERS[name])
    with pytest.raises(RecursionError):
        encode(obj)
    unwrap(obj)


def unwrap(obj):
    """Take a deep object apart: to free it at once is deep, too."""
    while obj != 1:
        if isinstance(obj, Namespace):
            obj.__dict__, obj = {}, obj.a
        elif isinstance(obj, dict):
            obj = obj.popitem()[1]
        elif isinstance(obj, (list, collections.deque)):
            obj = obj.pop()
        else:
            (obj,) = obj


@both
def test_as_deep_as_the_limit_allows(encode):
    limit = sys.getrecursionlimit()
    obj = nested(limit // 2, WRAPPERS["list"])
    for decode in DECODERS.values():
        assert decode(encode(obj)) == obj


@both
def test_limit_is_that_of_python(encode):
    obj = nested(500, WRAPPERS["dict"])
    limit = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(300)
        with pytest.raises(RecursionError):
            encode(obj)
    finally:
        sys.setrecursionlimit(limit)
    assert message.decode_message(encode(obj)) == obj


DEEP_WITH_A_HIGH_LIMIT = """
import sys
from pyray.serialization import message
sys.setrecursionlimit(10**6)
obj = 1
for _ in range(200_000):
    obj = [obj]
try:
    message.encode_message(obj)
except RecursionError:
    print("RecursionError")
while obj != 1:
    obj = obj.pop()
"""


def test_high_limit_does_not_overflow_the_stack():
    result = subprocess.run(
        [sys.executable, "-c", DEEP_WITH_A_HIGH_LIMIT], capture_output=True, text=True
    )
    assert (result.returncode, result.stdout.strip()) == (0, "RecursionError"), result.stderr


SMALL_THREAD = """
import threading
from pyray.serialization import message
obj = 1
for _ in range(450):
    obj = [obj]
threading.stack_size(512 * 1024)
thread = threading.Thread(
    target=lambda: print(message.decode_message(message.encode_message(obj)) == obj)
)
thread.start()
thread.join()
"""


@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="frames are larger")
def test_stack_of_a_small_thread():
    """Threads may have less stack than the main one; as deep as pickle goes there."""
    result = subprocess.run([sys.executable, "-c", SMALL_THREAD], capture_output=True, text=True)
    assert (result.returncode, result.stdout.strip()) == (0, "True"), result.stderr


# -- errors of what a message makes ----------------------------------------------------------


def explode(*args):
    raise KeyError("exploded", *args)


class Exploding:
    def __setstate__(self, state):
        raise KeyError("state")

    def __getstate__(self):
        return 1


class ExplodingItems(dict):
    def __setitem__(self, key, value):
        raise KeyError("item")


class ExplodingList(list):
    def extend(self, items):
        raise KeyError("items")


@pytest.mark.parametrize("decode", DECODERS.values(), ids=DECODERS)
@pytest.mark.parametrize(
    "make",
    [
        lambda: Call(lambda: (explode, ())),
        lambda: Call(lambda: (explode, (1, [2]))),
        Exploding,
        lambda: (
            ExplodingItems.fromkeys([])
            or Call(lambda: (ExplodingItems, (), None, None, iter([(1, 2)])))
        ),
        lambda: Call(lambda: (ExplodingList, (), None, iter([1, 2]))),
        lambda: Call(lambda: (list, (), 1, None, None, explode)),
    ],
    ids=["call", "call with arguments", "state", "dict items", "list items", "setter"],
)
def test_errors_of_called_code_pass(decode, make):
    data = message.encode_message([[1, "kept"], make(), "after"])
    with pytest.raises(KeyError):
        decode(data)
    assert decode(message.encode_message([1])) == [1]


@pytest.mark.parametrize("decode", DECODERS.values(), ids=DECODERS)
def test_global_that_is_gone(decode, monkeypatch):
    data = message.encode_message([Slots, identity])
    monkeypatch.delattr(sys.modules[__name__], "identity")
    with pytest.raises(AttributeError, match="identity"):
        decode(data)


@pytest.mark.parametrize("decode", DECODERS.values(), ids=DECODERS)
def test_cut_off_messages_are_refused(decode):
    data = message.encode_message([{"a": [1.5, "text", b"bytes", None, {2}]}, Slots])
    for size in range(1, len(data)):
        with pytest.raises(DeserializationError):
            decode(data[:size])
