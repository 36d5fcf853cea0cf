"""The compiled codec against the reference codec, and both against pickle, on random graphs."""

from __future__ import annotations

import itertools
import pickle
import random
from collections.abc import Callable, Iterator
from pickle import PickleBuffer
from typing import Any

import pytest
from graphs import Holder, Plain, difference, graphs, random_graph
from hypothesis import HealthCheck, given, settings

from pyray.serialization import message as compiled
from pyray.serialization import reference_decoder, reference_encoder
from pyray.serialization.reference_parser import describe, parse

reference_encode = reference_encoder.encode_message
reference_decode = reference_decoder.decode_message
compiled_encode = compiled.encode_message
compiled_decode = compiled.decode_message

DECODERS = {"reference": reference_decode, "compiled": compiled_decode}

on_graphs = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def check_codecs(obj: Any) -> None:
    """Both encoders write the same bytes, and both decoders read them."""
    message = reference_encode(obj)
    ours = compiled_encode(obj)
    if message != ours:
        assert describe(ours) == describe(message)
        raise AssertionError("same description, other bytes")
    for name, decode in DECODERS.items():
        assert (name, difference(obj, decode(message))) == (name, None)


def pickled(obj: Any) -> Any:
    return pickle.loads(pickle.dumps(obj, 5))


@on_graphs
@given(graphs())
def test_graphs(obj: Any) -> None:
    check_codecs(obj)
    assert difference(obj, pickled(obj)) is None


@on_graphs
@given(graphs(), graphs())
def test_comparison_finds_differences(first: Any, second: Any) -> None:
    """What pickle tells apart, `difference` does too: it is what all these tests rest on."""
    same = pickle.dumps(first, 5) == pickle.dumps(second, 5)
    assert same or difference([first, first], [first, pickled(first)]) or _is_constant(first)


def _is_constant(obj: Any) -> bool:
    """Whether a copy of the object may be the object, or need not be told from it."""
    return obj is pickled(obj) or difference([obj, obj], [obj, pickled(obj)]) is None


@pytest.mark.parametrize("part", range(10))
def test_many_graphs(part: int) -> None:
    for seed in range(part * 100, part * 100 + 100):
        check_codecs(random_graph(seed))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_very_many_graphs(part: int) -> None:
    for seed in range(1000 * (part + 1), 1000 * (part + 2)):
        check_codecs(random_graph(seed))


def wide_graph(seed: int, n_graphs: int = 50) -> list[Any]:
    """A graph of more than 1024 columns, whose parts refer to one another."""
    parts = [random_graph(seed * 1000 + number, 40) for number in range(n_graphs)]
    generator = random.Random(seed)
    lists = [part for part in parts if type(part) is list]
    for container in lists:
        container.append(generator.choice(parts))
    return parts


@pytest.mark.parametrize("seed", range(20))
def test_wide_graphs(seed: int) -> None:
    check_codecs(wide_graph(seed))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_many_wide_graphs(part: int) -> None:
    for seed in range(100 * (part + 1), 100 * (part + 1) + 30):
        check_codecs(wide_graph(seed, 60))


def many_columns() -> list[Any]:
    """More columns than a message has without deferring anything: records of records."""
    return [tuple(tuple((n,) * 16 for n in range(16)) for _ in range(8)) for _ in range(2)]


def test_reduction_that_is_being_encoded_is_not_deferred() -> None:
    holder = Holder([])
    holder.content.append(holder)
    check_codecs([Holder([None]), many_columns(), holder])


def test_leaves_are_not_on_the_way_to_a_reference() -> None:
    shared = [1]
    check_codecs([[[b"leaf"], shared], many_columns(), [[b"leaf", shared], {1: [shared]}]])


def test_empty_instances() -> None:
    check_codecs([Plain(), Plain()])


# -- records, whose rows take a byte each ----------------------------------------------------


def flags(count: int) -> list[Any]:
    return [{"a": True} for _ in range(count)]


def with_attribute(value: Any) -> Plain:
    obj = Plain()
    obj.a = value
    return obj


@pytest.mark.parametrize(
    "obj",
    [
        flags(100_000),
        [({"a": None}, {"b": {"c": True}}) for _ in range(1000)],  # records in records
        [with_attribute(None) for _ in range(1000)],  # INSTANCE and its state
        [Holder(None) for _ in range(1000)],
        [flags(1000), b"behind" * 1000, bytearray(5000)],  # before buffers
        [flags(999), *[flags(2)] * 50],  # behind a memo
    ],
    ids=["flags", "nested", "instances", "reductions", "buffers", "memo"],
)
def test_padded_records(obj: Any) -> None:
    check_codecs(obj)
    message = compiled_encode(obj)
    parsed = parse(memoryview(message))
    size = len(message) - sum(len(buffer) + -len(buffer) % 64 for buffer in parsed.buffers)
    alignment = 64 if parsed.buffers else 8
    assert size == parsed.record_rows + -parsed.record_rows % alignment


@pytest.mark.parametrize("count", range(2, 200))
def test_where_padding_begins(count: int) -> None:
    """Few records take less than their description and columns, which are not padded then."""
    obj = flags(count)
    check_codecs(obj)
    message = compiled_encode(obj)
    columns = (32 if count < 128 else 40) + 8 + (count + 7) // 8
    assert len(message) == max(columns + -columns % 8, count + -count % 8)


# -- out of band -----------------------------------------------------------------------------


class EverySecond:
    """A buffer_callback that takes every second buffer."""

    def __init__(self) -> None:
        self.taken: list[PickleBuffer] = []
        self._turns: Iterator[int] = itertools.cycle((0, 1))

    def __call__(self, buffer: PickleBuffer) -> bool:
        if next(self._turns):
            return True
        self.taken.append(buffer)
        return False


@pytest.mark.parametrize("seed", range(100))
def test_out_of_band(seed: int) -> None:
    obj = [random_graph(seed * 10 + number) for number in range(10)]
    for callback in (EverySecond, _TakeAll):
        messages = []
        for encode in (reference_encode, compiled_encode):
            taker = callback()
            messages.append((encode(obj, buffer_callback=taker), taker.taken))
        assert messages[0][0] == messages[1][0]
        for (message, buffers), decode in zip(messages, reversed(DECODERS.values())):
            assert difference(obj, decode(message, buffers=buffers)) is None


class _TakeAll(EverySecond):
    def __call__(self, buffer: PickleBuffer) -> bool:
        self.taken.append(buffer)
        return False


# -- what nobody wrote -----------------------------------------------------------------------


def outcome(decode: Callable[..., Any], message: bytes) -> tuple[str, Any]:
    """What a decoder makes of a message that may run nothing."""
    try:
        return "object", decode(message, trusted=False)
    except (pickle.UnpicklingError, RecursionError) as error:
        return "error", error


@pytest.mark.parametrize("seed", range(200))
def test_altered_messages(seed: int) -> None:
    """Neither decoder fails in another way than it should; what both read is the same.

    They need not refuse the same messages: the reference checks all of a message, the compiled
    decoder what it comes to.
    """
    message = reference_encode(random_graph(seed))
    generator = random.Random(seed)
    for _ in range(20):
        altered = bytearray(message)
        for _ in range(generator.randint(1, 3)):
            altered[generator.randrange(len(altered))] = generator.randrange(256)
        results = [outcome(decode, bytes(altered)) for decode in DECODERS.values()]
        if all(kind == "object" for kind, _ in results):
            assert difference(results[0][1], results[1][1]) is None
