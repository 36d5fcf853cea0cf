"""Each test has stores of its own: they are in a directory that is the test's alone."""

import leaks
import pytest

from pyray.store import Store


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Where the stores of this test are."""
    monkeypatch.setenv("PYRAY_TMPDIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def store(request):
    """A store of 64 MB. With PYRAY_DEBUG its memory must be free once its objects are deleted."""
    with Store.create("test", capacity=1 << 26) as made:
        yield made
        if leaks.wanted() and not made.closed and not leaks.has_failed(request.node):
            made.delete(list(made.list()))
            leaks.check({}, lambda: {name: f"{n} {name}" for name, n in in_use(made).items() if n})


def in_use(store: Store) -> dict[str, int]:
    return {name: store.stats()[name] for name in ("objects", "blocks", "used")}
