"""Ids of objects."""

import copy
import pickle

import pytest

import pyray
from pyray.store import ObjectID


def test_is_its_bytes():
    key = ObjectID(b"0123456789abcdefghij")
    assert key.binary() == b"0123456789abcdefghij"
    assert key.hex() == "303132333435363738396162636465666768696a"
    assert repr(key) == f"ObjectID({key.hex()})"
    assert ObjectID.from_hex(key.hex()) == key


def test_compares_by_bytes():
    one, same, other = ObjectID(bytes(20)), ObjectID(bytes(20)), ObjectID(b"\1" * 20)
    assert one == same and hash(one) == hash(same) and {one: 1}[same] == 1
    assert one != other and one != bytes(20) and len({one, same, other}) == 2


def test_random_ones_differ():
    assert len({ObjectID.from_random() for _ in range(1000)}) == 1000


@pytest.mark.parametrize("carry", [copy.copy, copy.deepcopy])
def test_copies(carry):
    key = ObjectID.from_random()
    assert carry(key) == key


@pytest.mark.parametrize("module", [pickle, pyray])
def test_is_carried(module):
    key = ObjectID.from_random()
    assert module.loads(module.dumps([key, key])) == [key, key]


@pytest.mark.parametrize("wrong", [b"", b"short", bytes(19), bytes(21)])
def test_other_lengths_are_refused(wrong):
    with pytest.raises(ValueError, match=f"20 bytes, not {len(wrong)}"):
        ObjectID(wrong)


@pytest.mark.parametrize("wrong", ["a" * 20, 20, None, bytearray(20)])
def test_other_types_are_refused(wrong):
    with pytest.raises(TypeError):
        ObjectID(wrong)
