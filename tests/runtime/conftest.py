"""Sessions for tests that need one: of a module, or of a single test."""

from __future__ import annotations

import leaks
import pytest

import pyray


@pytest.fixture(scope="module")
def session():
    """A session with two CPUs, one GPU and some other resources, for the tests of a module."""
    with pyray.init(
        num_cpus=2,
        num_gpus=2,
        resources={"Custom": 2, "Half": 0.5},
        object_store_memory=200 << 20,
        log_to_driver=False,
        runtime_env={"env_vars": {"OF_THE_JOB": "job"}},
    ) as context:
        yield context


@pytest.fixture(autouse=True)
def nothing_left(request):
    """What looks whether the test has left anything in its session, and does so at its end."""
    yield from leaks.watch(request)


@pytest.fixture
def no_session(nothing_left):
    """No session before the test, and none after it."""
    pyray.shutdown()
    yield
    nothing_left()
    pyray.shutdown()
