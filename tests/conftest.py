"""What all tests share: a debug build must end with nothing left behind; Ctrl-C interrupts."""

import gc
import signal

import pytest


def pytest_configure(config):
    # A shell starts what runs in its background with SIGINT ignored.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if outcome.get_result().failed:
        item.has_failed = True  # for leaks.py


def pytest_sessionfinish(session, exitstatus):
    from pyray.serialization import _decoder

    gc.collect()
    left = {name: count for name, count in _decoder.live_counts().items() if count}
    # A test that failed may hold what it was looking at.
    if left and exitstatus == 0:
        session.exitstatus = 1
        print(f"\nleft behind at the end of the tests: {left}")
