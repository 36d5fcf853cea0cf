"""CPython's own tests of `multiprocessing.Pool`, on ours.

They are taken from the `test` package of the Python that runs. What is left out is in LEFT_OUT,
with the reason, and must really fail.
"""

from __future__ import annotations

import unittest
from unittest import mock

import pytest

from pyray.util.multiprocessing import Pool

originals = pytest.importorskip(
    "test._test_multiprocessing", reason="Python came without its tests"
)

PROCESSES = "looks at the processes of the pool, which are the session's here"
MANAGER = "a proxy of a Manager knows the key in children of multiprocessing alone"

LEFT_OUT = {
    "test_make_pool": PROCESSES,
    "test_pool_initializer": MANAGER,
    "test_pool_worker_lifetime": PROCESSES,
    "test_release_unused_processes": PROCESSES,
    "test_unpickleable_result": "the result is a lambda, which can be sent here",
}

#: These do not use the pool that they are given.
NOT_OF_OURS = {
    "test_manager_initializer": "is about Manager",
    "test_worker_finalization_via_atexit_handler_of_multiprocessing": "imports its own Pool",
}


class Case(unittest.TestCase):
    TYPE = "processes"
    Pool = staticmethod(Pool)

    def setUp(self):
        super().setUp()
        patch = mock.patch.object(originals.multiprocessing, "Pool", Pool)
        patch.start()
        self.addCleanup(patch.stop)
        patch = mock.patch.object(originals.multiprocessing.pool, "Pool", Pool)
        patch.start()
        self.addCleanup(patch.stop)


def whole(name):
    base = getattr(originals, name)
    bases = (base, Case) if not issubclass(base, unittest.TestCase) else (Case, base)
    return type("Whole" + name.strip("_"), bases, {"__test__": False, "__module__": __name__})


WHOLE = [
    whole(name)
    for name in (
        "_TestPool",
        "_TestPoolWorkerErrors",
        "_TestPoolWorkerLifetime",
        "TestInitializers",
        "TestPoolNotLeakOnFailure",
    )
]


def without_left_out(cls):
    """The class with the tests of LEFT_OUT taken away, for pytest to collect."""
    out = dict.fromkeys((LEFT_OUT.keys() | NOT_OF_OURS.keys()) & set(dir(cls)))
    name = cls.__name__.removeprefix("Whole")
    made = type(name, (cls,), {**out, "__test__": True, "__module__": __name__})
    made.__qualname__ = name
    return made


for cls in WHOLE:
    globals()[cls.__name__] = cls
    collected = without_left_out(cls)
    globals()[collected.__name__] = collected
del cls, collected


def run(case, name):
    """The result of one test, run on its own."""
    result = unittest.TestResult()
    suite = unittest.TestSuite([case(name)])
    suite.run(result)
    return result


@pytest.mark.parametrize("name", sorted(LEFT_OUT))
def test_what_is_left_out_fails(name):
    """Else it need not be left out."""
    (case,) = [case for case in WHOLE if hasattr(case, name)]
    assert not run(case, name).wasSuccessful()
