"""A session for the tests of each module."""

from __future__ import annotations

import sys
from pathlib import Path

import leaks
import pytest

import pyray

# The gates that tasks wait at.
sys.path.append(str(Path(__file__).resolve().parent.parent / "runtime"))


def pytest_configure(config):
    for name in ("no_cover", "thread_unsafe"):
        config.addinivalue_line("markers", f"{name}: of joblib's tests")


@pytest.fixture(scope="module", autouse=True)
def session():
    with pyray.init(num_cpus=2, object_store_memory=300 << 20, log_to_driver=False) as context:
        # Threads that live as long as the session are there before any test looks at threads.
        pyray.put(None).future().result()
        yield context


@pytest.fixture(autouse=True)
def nothing_left(request, session):
    """What looks whether the test has left anything in its session, and does so at its end."""
    yield from leaks.watch(request)


@pytest.fixture
def gate(tmp_path):
    from gates import Gate

    return Gate(tmp_path)
