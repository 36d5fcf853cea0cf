"""joblib's own tests of `Parallel`, with our backend.

Each test of `joblib.test.test_parallel` that is made for backends runs with "ray". What is left out
is in LEFT_OUT, with the reason.
"""

from __future__ import annotations

from types import FunctionType

import pytest

pytest.importorskip("joblib", reason="joblib is not installed")
originals = pytest.importorskip("joblib.test.test_parallel", reason="joblib came without its tests")

from pyray.util.joblib import register_ray  # noqa: E402

register_ray()

FILES = "looks for the files that joblib maps; arrays are in the store here"
MANAGER = "a proxy of a Manager knows the key in children of multiprocessing alone"

LEFT_OUT = {
    "test_auto_memmap_on_arrays_from_generator": FILES,
    "test_backend_context_manager": "knows what backends there are; see TestContext",
    "test_dispatch_multiprocessing": MANAGER,
    "test_initializer_context": MANAGER,
    "test_initializer_parallel": MANAGER,
    "test_memmapping_leaks": FILES,
    "test_multiple_generator_call_separated_gc": "see test_generators_are_apart",
    "test_nested_exception_dispatch": "joblib expects it to fail",
    "test_nested_parallelism_limit": "knows what backends there are; see TestContext",
    "test_parallel_with_interactively_defined_functions": "its programs do not register ours",
    "test_parallel_with_unpicklable_functions_in_args": "its programs do not register ours",
}

#: Which values of our own a test gets, by the names of its parameters.
VALUES = {
    "backend": ["ray"],
    "parent_backend,child_backend": None,
    "outer_backend": ["ray", "threading"],
    "inner_backend": ["ray", "loky"],
    "parent_backend": ["ray", "threading"],
    "child_backend": ["ray", "loky"],
}


def with_our_backend(test):
    """The test with our backend in the place of joblib's; None if it is not made for backends."""
    marks, ours = [], False
    for mark in getattr(test, "pytestmark", ()):
        values = VALUES.get(mark.args[0]) if mark.name == "parametrize" else None
        if values:
            mark, ours = pytest.mark.parametrize(mark.args[0], values).mark, True
        marks.append(mark)
    if not ours:
        return None
    parts = test.__code__, test.__globals__, test.__name__, test.__defaults__, test.__closure__
    made = FunctionType(*parts)
    made.pytestmark = marks
    return made


for name, test in list(vars(originals).items()):
    if name.startswith("test_") and name not in LEFT_OUT:
        made = with_our_backend(test)
        if made is not None:
            globals()[name] = made
del name, test, made
