"""CPython's own tests of executors, on ours.

They are taken from the `test` package of the Python that runs. What is left out is in LEFT_OUT,
with the reason, and must really fail.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import unittest
from unittest import mock

import pytest

from pyray.exceptions import WorkerCrashedError
from pyray.util.executor import RayExecutor

package = pytest.importorskip(
    "test.test_concurrent_futures", reason="Python came without these tests"
)
modules = [package]
if hasattr(package, "__path__"):
    modules = [
        importlib.import_module(f"{package.__name__}.{name}")
        for name in (
            "util",
            "executor",
            "test_as_completed",
            "test_deadlock",
            "test_init",
            "test_process_pool",
            "test_shutdown",
            "test_wait",
        )
    ]

PROCESSES = "looks at the processes of the executor, which are the session's here"
CONTEXT = "passes semaphores or proxies of multiprocessing, which its own children know alone"

EXIT = "SystemExit ends the worker, as in Ray"
ITSELF = "expects all calls to fail when a value cannot be decoded; the call that has it fails"

LEFT_OUT = {
    "test_error_at_task_unpickle": ITSELF,
    "test_error_during_result_pickle_on_worker": "is a TypeError that says what cannot be sent",
    "test_error_during_result_unpickle_in_result_handler": ITSELF,
    "test_exit_during_func_exec_on_worker": EXIT,
    "test_exit_during_result_pickle_on_worker": EXIT,
    "test_exit_during_result_unpickle_in_result_handler": ITSELF,
    "test_idle_process_reuse_multiple": PROCESSES,
    "test_idle_process_reuse_one": PROCESSES,
    "test_killed_child": PROCESSES,
    "test_max_tasks_early_shutdown": CONTEXT,
    "test_max_tasks_per_child": CONTEXT,
    "test_max_tasks_per_child_defaults_to_spawn_context": CONTEXT,
    "test_python_finalization_error": "wants the second thread of an executor to fail",
    "test_ressources_gced_in_workers": CONTEXT,
    "test_saturation": CONTEXT,
    "test_shutdown_deadlock_pickle": PROCESSES,
}


def original(name):
    return next(getattr(module, name) for module in modules if hasattr(module, name))


def assert_python_ok(*args, **env):
    """Runs a program with our executor; workers' lines have their names in front of them."""
    from test.support import script_helper

    program = args[-1].replace("concurrent.futures import Ray", "pyray.util.executor import Ray")
    env = {"PYTHONPATH": os.pathsep.join(sys.path), "__isolated": False, **env}
    status, out, err = script_helper.assert_python_ok(*args[:-1], program, **env)
    return status, re.sub(rb"^\(.+? pid=\d+\) ", b"", out, flags=re.M), err


class RayMixin(original("ExecutorMixin")):
    executor_type = RayExecutor

    def setUp(self):
        for module in modules:
            for name, value in {
                "assert_python_ok": assert_python_ok,
                # Of one call: the others go on.
                "BrokenProcessPool": WorkerCrashedError,
            }.items():
                if hasattr(module, name):
                    patch = mock.patch.object(module, name, value)
                    patch.start()
                    self.addCleanup(patch.stop)
        super().setUp()

    def get_context(self):
        return None


def whole(name):
    bases = original(name), RayMixin, original("BaseTestCase")
    return type("Whole" + name, bases, {"__test__": False, "__module__": __name__})


WHOLE = [
    whole(name)
    for name in (
        "AsCompletedTests",
        "ExecutorDeadlockTest",
        "ExecutorShutdownTest",
        "FailingInitializerMixin",
        "InitializerMixin",
        "ProcessPoolExecutorTest",
        "WaitTests",
    )
]


def without_left_out(cls):
    """The class with the tests of LEFT_OUT taken away, for pytest to collect."""
    out = dict.fromkeys(LEFT_OUT.keys() & set(dir(cls)))
    name = cls.__name__.replace("Whole", "Test")
    made = type(name, (cls,), {**out, "__test__": True, "__module__": __name__})
    made.__qualname__ = name
    return made


for cls in WHOLE:
    collected = without_left_out(cls)
    globals()[collected.__name__] = collected
del cls, collected


@pytest.mark.parametrize("name", sorted(LEFT_OUT))
def test_what_is_left_out_fails(name):
    """Else it need not be left out. Some tests are not there in every version of Python."""
    cases = [case for case in WHOLE if hasattr(case, name)]
    if not cases:
        pytest.skip("not a test of this Python")
    for case in cases:
        result = unittest.TestResult()
        case(name).run(result)
        assert not result.wasSuccessful()
