"""Each test has stores of its own: they are in a directory that is the test's alone."""

import pytest

from pyray.store import Store


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Where the stores of this test are."""
    monkeypatch.setenv("PYRAY_TMPDIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def store():
    """A store of 64 MB, which must be empty in the end if the test leaves nothing in it."""
    with Store.create("test", capacity=1 << 26) as made:
        yield made
