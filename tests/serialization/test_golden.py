"""Golden messages: what was once written is read for ever, by both codecs."""

from __future__ import annotations

import hashlib
import json

import make_golden
import pytest
from graphs import difference

from pyray import DeserializationError
from pyray.serialization import message, reference_decoder, reference_encoder
from pyray.serialization.reference_format import BINARY_KINDS, SEQUENCE_KINDS, Kind, Part, Tag
from pyray.serialization.reference_parser import parse

MANIFEST = json.loads(make_golden.MANIFEST.read_text())
BY_ENCODER = [name for name, entry in MANIFEST.items() if entry["by"] == "encoder"]
DECODERS = {
    "compiled": message.decode_message,
    "reference": reference_decoder.decode_message,
}
ENCODERS = {
    "compiled": message.encode_message,
    "reference": reference_encoder.encode_message,
}


def read(name):
    """A message and its out-of-band buffers, None if it has none."""
    count = MANIFEST[name]["buffers"]
    buffers = [(make_golden.DATA / f"{name}.{i}").read_bytes() for i in range(count)]
    return (make_golden.DATA / name).read_bytes(), buffers or None


def parsed():
    """All golden messages that are columns messages."""
    for name in MANIFEST:
        data, _ = read(name)
        if data[0] == 0x1F:
            yield parse(memoryview(data))


# -- for ever --------------------------------------------------------------------------------


@pytest.mark.parametrize("decode", DECODERS.values(), ids=DECODERS)
@pytest.mark.parametrize("name", MANIFEST)
def test_is_decoded(name, decode):
    data, buffers = read(name)
    result = decode(data, buffers=buffers)
    assert difference(make_golden.expected(name), result) is None


@pytest.mark.parametrize("name", MANIFEST)
def test_is_decoded_wherever_it_lies(name):
    """At addresses that no column is aligned to."""
    data, buffers = read(name)
    for shift in (1, 4, 7):
        moved = memoryview(bytearray(shift) + data)[shift:]
        result = message.decode_message(moved, buffers=buffers)
        assert difference(make_golden.expected(name), result) is None


@pytest.mark.parametrize("name", MANIFEST)
def test_file_is_what_it_was(name):
    data, _ = read(name)
    assert len(data) == MANIFEST[name]["bytes"]
    assert hashlib.sha256(data).hexdigest() == MANIFEST[name]["sha256"]


def test_every_file_is_in_the_manifest_and_can_be_made():
    files = {path.name for path in make_golden.DATA.iterdir()} - {make_golden.MANIFEST.name}
    listed = set(MANIFEST)
    for name, entry in MANIFEST.items():
        listed.update(f"{name}.{i}" for i in range(entry["buffers"]))
    assert files == listed
    assert set(MANIFEST) == set(make_golden.names())


# -- today -----------------------------------------------------------------------------------


@pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS)
@pytest.mark.parametrize("name", BY_ENCODER)
def test_is_still_written_so(name, encode):
    """May change only together with section 7 of docs/format.md."""
    data, buffers = read(name)
    assert make_golden.write(name, encode) == (data, buffers or [])


@pytest.mark.parametrize("name", make_golden.HAND_WRITTEN)
def test_hand_written_is_no_copy_of_what_is_written(name):
    data, _ = read(name)
    assert data == make_golden.HAND_WRITTEN[name][1]()
    assert data != message.encode_message(make_golden.expected(name))


# -- all of the format is there --------------------------------------------------------------


def test_every_tag_and_kind_is_there():
    tags = {read(name)[0][0] for name in MANIFEST}
    assert tags == {0x10 | tag for tag in Tag}
    kinds = {node.kind for m in parsed() for node in m.nodes}
    assert kinds == set(Kind)


def test_every_kind_with_offsets_is_there_in_large():
    large = {node.kind for m in parsed() for node in m.nodes if node.large}
    assert large == BINARY_KINDS | SEQUENCE_KINDS | {Kind.UNION}


def test_every_part_of_a_reduction_is_there():
    parts = [Part(node.parts) for m in parsed() for node in m.nodes if node.kind is Kind.REDUCE]
    assert all(any(part & p for p in parts) and any(not part & p for p in parts)
               for part in Part if part is not Part.ARGUMENTS)  # fmt: skip


def test_every_kind_of_dtype_and_order_is_there():
    dtypes = {m.dtypes[t.dtype] for m in parsed() for t in m.tensors}
    assert {text[1] for text in dtypes} == set("biufcmMSUV")
    assert {text[0] for text in dtypes} == set("<>|")
    tensors = [t for m in parsed() for t in m.tensors]
    assert {t.order for t in tensors} == {0, 1}
    assert min(len(t.shape) for t in tensors) == 0
    assert any(t.buffer < 0 for t in tensors) and any(t.buffer >= 0 for t in tensors)


def test_padding_for_records_is_there():
    """Before buffers, and at the end of a message."""
    padded = [m for m in parsed() if m.record_rows and len(m.view) < 1.5 * m.record_rows]
    assert [bool(m.buffers) for m in padded] == [False, True]


def test_references_of_every_kind_are_there():
    referred, aliases = set(), set()
    deferred = False
    for m in parsed():
        entries = list(m.memo.items())
        for (node, row), number in entries:
            referred.add(m.nodes[node].kind)
            if sum(other == number for _, other in entries) > 1:
                aliases.add(m.nodes[node].kind)
            deferred = deferred or (node == 0 and row > 0) or m.nodes[0].rows > 1
    # Numbers, constants, globals and references are never referred to; DICT_RECORD and the others
    # are, each by itself.
    assert {Kind.LIST, Kind.DICT, Kind.DICT_RECORD, Kind.BYTES, Kind.BYTEARRAY, Kind.UTF8,
            Kind.SURROGATES, Kind.BYTES_BUFFER, Kind.NDARRAY, Kind.INSTANCE, Kind.REDUCE,
            Kind.TUPLE, Kind.FROZENSET} <= referred  # fmt: skip
    assert {Kind.UTF8, Kind.TUPLE, Kind.FROZENSET, Kind.REDUCE} <= aliases
    assert deferred


# -- versions --------------------------------------------------------------------------------


@pytest.mark.parametrize("decode", DECODERS.values(), ids=DECODERS)
@pytest.mark.parametrize("version", [0, 2, 15])
@pytest.mark.parametrize("tag", range(16))
def test_other_versions_are_refused(decode, version, tag):
    for rest in (b"", b"\0" * 7, read("dict_records")[0][1:]):
        with pytest.raises(DeserializationError) as caught:
            decode(bytes([version << 4 | tag]) + rest)
        assert f"version {version}," in str(caught.value)
        assert "version 1" in str(caught.value)


@pytest.mark.parametrize("decode", DECODERS.values(), ids=DECODERS)
def test_other_versions_in_files_are_refused(decode, tmp_path):
    """The whole file of a newer writer, not just its first byte."""
    data, _ = read("records_in_records")
    with pytest.raises(DeserializationError, match="version 2, .*version 1"):
        decode(b"\x2f" + data[1:])
