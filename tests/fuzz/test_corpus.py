"""Replays the fuzzers' corpus on the plain build: an object or an expected exception, every time.

The corpus is kept in corpus.zip; README.md says where it is from.
"""

from __future__ import annotations

import sys
import time
import zipfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CORPUS = HERE / "corpus.zip"

# By this name the messages know the classes they are made of.
sys.path.insert(0, str(HERE))
import targets  # noqa: E402


@pytest.fixture(scope="module")
def corpus() -> dict[str, bytes]:
    with zipfile.ZipFile(CORPUS) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def unaligned(message: bytes) -> memoryview:
    return memoryview(b"?" + message)[1:]


def names_globals(message: memoryview) -> bool:
    """The second number of the description: what is called and made besides builtin types."""
    at = 16
    while at < len(message) and message[at] >= 0x80:
        at += 1
    return bytes(message[at + 1 : at + 2]) not in (b"", b"\0")


def attempt(read, source: memoryview, **options) -> None:
    """Read it; anything but an object or an ordinary exception is passed on."""
    ordinary = (Exception,) if names_globals(source) else targets.PLAIN_ERRORS
    try:
        read(source, trusted=False, allow=targets.ALLOW, **options)
    except targets.EXPECTED:
        pass
    except targets.NEVER:
        raise
    except ordinary:
        pass


@pytest.mark.parametrize("read", [targets.deserialize, targets.read_view])
@pytest.mark.parametrize("place", [memoryview, unaligned])
@pytest.mark.parametrize("buffers", [None, targets.OUT_OF_BAND], ids=["in_band", "out_of_band"])
def test_replay(corpus: dict[str, bytes], read, place, buffers) -> None:
    for name, message in corpus.items():
        start = time.process_time()
        attempt(read, place(message), buffers=buffers)
        assert time.process_time() - start < 1, name


def test_corpus_is_varied(corpus: dict[str, bytes]) -> None:
    """Enough of it is sound to be worth the time, and enough is not."""
    sound = 0
    for message in corpus.values():
        try:
            targets.deserialize(message, trusted=False, allow=targets.ALLOW)
            sound += 1
        except Exception:
            pass
    assert 100 < sound < len(corpus) - 100
