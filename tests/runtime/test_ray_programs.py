"""Programs such as the introductions to Ray's tasks and objects show, run as they stand."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

PROGRAMS = {
    "squares": """
        import pyray as ray
        ray.init()

        @ray.remote
        def f(x):
            return x * x

        futures = [f.remote(i) for i in range(4)]
        print(ray.get(futures))  # [0, 1, 4, 9]
        """,
    "passing references": """
        import numpy as np
        import pyray as ray

        @ray.remote
        def total(matrix):
            return np.sum(matrix)

        # By value, small.
        print(ray.get(total.remote(np.ones((100, 100)))))

        # Large: once into the store, then by reference.
        matrix = ray.put(np.ones((1000, 1000)))
        print(ray.get(total.remote(matrix)))
        """,
    "chained": """
        import pyray as ray

        @ray.remote
        def my_function():
            return 1

        @ray.remote
        def function_with_an_argument(value):
            return value + 1

        obj_ref1 = my_function.remote()
        assert ray.get(obj_ref1) == 1

        # A reference among the arguments: the second task waits for the first.
        obj_ref2 = function_with_an_argument.remote(obj_ref1)
        assert ray.get(obj_ref2) == 2
        """,
    "waiting for some": """
        import time
        import pyray as ray

        @ray.remote
        def slow_function(i):
            time.sleep(i / 10)
            return i

        object_refs = [slow_function.remote(i) for i in range(2)]
        ready_refs, remaining_refs = ray.wait(object_refs, num_returns=1, timeout=None)
        assert len(ready_refs) == 1 and len(remaining_refs) == 1
        assert ray.get(object_refs) == [0, 1]
        """,
    "several results": """
        import pyray as ray

        @ray.remote
        def return_single():
            return 0, 1, 2

        object_ref = return_single.remote()
        assert ray.get(object_ref) == (0, 1, 2)

        @ray.remote(num_returns=3)
        def return_multiple():
            return 0, 1, 2

        ref0, ref1, ref2 = return_multiple.remote()
        assert ray.get(ref0) == 0
        assert ray.get([ref1, ref2]) == [1, 2]

        @ray.remote(num_returns=3)
        def return_multiple_as_generator():
            for i in range(3):
                yield i

        a, b, c = return_multiple_as_generator.remote()
        assert ray.get([a, b, c]) == [0, 1, 2]
        """,
    "cancelling": """
        import time
        import pyray as ray

        @ray.remote
        def blocking_operation():
            time.sleep(10e6)

        obj_ref = blocking_operation.remote()
        ray.cancel(obj_ref)

        try:
            ray.get(obj_ref)
        except ray.exceptions.TaskCancelledError:
            print("Object reference was cancelled.")
        """,
    "nested": """
        import pyray as ray

        @ray.remote
        def f():
            return 1

        @ray.remote
        def g():
            # Four tasks, and references to what they will return.
            return [f.remote() for _ in range(4)]

        @ray.remote
        def h():
            # Waits for four tasks.
            return ray.get([f.remote() for _ in range(4)])

        assert ray.get(ray.get(g.remote())) == [1, 1, 1, 1]
        assert ray.get(h.remote()) == [1, 1, 1, 1]
        """,
    "references in arguments": """
        import pyray as ray

        @ray.remote
        def echo_and_get(x_list):
            return ray.get(x_list)

        @ray.remote
        def echo(a, b, c):
            return a, b, c

        a, b, c = ray.put(1), ray.put(2), ray.put(3)
        # As values ...
        assert ray.get(echo.remote(a, b, c)) == (1, 2, 3)
        # ... and inside of a list as references.
        assert ray.get(echo_and_get.remote([a, b, c])) == [1, 2, 3]
        """,
    "objects": """
        import pyray as ray

        y = 1
        object_ref = ray.put(y)
        assert ray.get(object_ref) == 1
        assert ray.get([ray.put(i) for i in range(3)]) == [0, 1, 2]

        @ray.remote
        def long_running_function():
            import time
            time.sleep(8)

        from pyray.exceptions import GetTimeoutError
        obj_ref = long_running_function.remote()
        try:
            ray.get(obj_ref, timeout=0.1)
        except GetTimeoutError:
            print("`get` timed out.")
        """,
    "closure over a reference": """
        import pyray as ray

        a = ray.put(1)

        @ray.remote
        def func():
            return ray.get(a)

        assert ray.get(func.remote()) == 1
        """,
    "fault tolerance": """
        import os
        import pyray as ray

        @ray.remote(max_retries=1, retry_exceptions=True)
        def potentially_fail(path):
            if not os.path.exists(path):
                open(path, "w").close()
                os._exit(0)
            return 0

        import tempfile
        path = os.path.join(tempfile.mkdtemp(), "was here")
        assert ray.get(potentially_fail.remote(path)) == 0

        @ray.remote(max_retries=0)
        def always():
            os._exit(0)

        try:
            ray.get(always.remote())
        except ray.exceptions.WorkerCrashedError:
            print("FAILURE")
        """,
    "generator": """
        import pyray as ray

        @ray.remote
        def task():
            for i in range(5):
                yield i

        for i, ref in enumerate(task.remote()):
            assert ray.get(ref) == i
        """,
    "limiting what is pending": """
        import pyray as ray

        @ray.remote
        def process(i):
            return i

        results, pending = [], []
        for i in range(200):
            if len(pending) >= 10:
                (ready,), pending = ray.wait(pending, num_returns=1)
                results.append(ray.get(ready))
            pending.append(process.remote(i))
        results += ray.get(pending)
        assert sorted(results) == list(range(200))
        """,
    "resources": """
        import pyray as ray
        ray.init(num_cpus=2, num_gpus=1, resources={"special_hardware": 1})

        @ray.remote(num_cpus=2, num_gpus=0.5)
        def func():
            return ray.get_gpu_ids()

        @ray.remote(resources={"special_hardware": 1})
        def special():
            return ray.get_runtime_context().get_assigned_resources()

        print(ray.get(func.remote()), ray.get(special.remote()))
        print(ray.get(func.options(num_cpus=1).remote()))
        """,
    "pi": """
        import random
        import pyray as ray

        @ray.remote
        def sample(n, seed):
            r = random.Random(seed)
            return sum(r.random() ** 2 + r.random() ** 2 <= 1 for _ in range(n))

        inside = sum(ray.get([sample.remote(10_000, i) for i in range(10)]))
        assert 3.1 < 4 * inside / 100_000 < 3.2
        """,
    "quick sort": """
        import random
        import pyray as ray

        def quick_sort(items):
            if len(items) <= 1:
                return items
            pivot, *rest = items
            return (quick_sort([x for x in rest if x < pivot]) + [pivot]
                    + quick_sort([x for x in rest if x >= pivot]))

        @ray.remote
        def quick_sort_distributed(items):
            if len(items) <= 2_000:
                return quick_sort(items)
            pivot, *rest = items
            lesser = quick_sort_distributed.remote([x for x in rest if x < pivot])
            greater = quick_sort_distributed.remote([x for x in rest if x >= pivot])
            return ray.get(lesser) + [pivot] + ray.get(greater)

        items = [random.randint(0, 10**6) for _ in range(20_000)]
        assert ray.get(quick_sort_distributed.remote(items)) == sorted(items)
        """,
    "tree reduction": """
        import pyray as ray

        @ray.remote
        def add(x, y):
            return x + y

        values = [ray.put(i) for i in range(64)]
        while len(values) > 1:
            values = values[2:] + [add.remote(values[0], values[1])]
        assert ray.get(values[0]) == sum(range(64))
        """,
    "older tutorial": """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        import numpy as np
        import pyray as ray
        ray.init(num_cpus=2, redis_address=None)

        @ray.remote(num_return_vals=2)
        def split(array):
            half = len(array) // 2
            return array[:half], array[half:]

        @ray.remote
        def bad():
            raise Exception("this one fails")

        first, second = split.remote(np.arange(10))
        print(ray.get([first, second]))
        ray.wait([bad.remote()], timeout=5.0)
        (error,) = ray.error_info()
        assert error["message"] == "this one fails" and error["task"] == "bad"
        """,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(PROGRAMS[name]))
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
