"""Remote functions: calls, arguments, results, options."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
from gates import Gate

import pyray as ray

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
def echo(*args, **kwargs):
    return args, kwargs


@ray.remote
def add(a, b=10, *, scale=1):
    """Adds."""
    return (a + b) * scale


@ray.remote
def pid():
    return os.getpid()


def test_call_returns_at_once(tmp_path):
    gate = Gate(tmp_path)

    @ray.remote
    def held():
        gate.pass_through()
        return "done"

    ref = held.remote()
    assert isinstance(ref, ray.ObjectRef)
    gate.until_begun()
    assert ray.wait([ref], timeout=0) == ([], [ref])
    gate.open()
    assert ray.get(ref) == "done"


def test_tasks_run_in_other_processes():
    assert ray.get(pid.remote()) != os.getpid()


def test_two_tasks_run_at_once(tmp_path):
    gates = [Gate(tmp_path, "one"), Gate(tmp_path, "two")]

    @ray.remote
    def held(gate):
        gate.pass_through()
        return os.getpid()

    refs = [held.remote(gate) for gate in gates]
    pids = [gate.until_begun() for gate in gates]
    for gate in gates:
        gate.open()
    assert ray.get(refs) == pids and pids[0] != pids[1]


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((1, "two", None), {}),
        ((), {"a": 1, "b": [2]}),
        ((1,), {"key": {"nested": (1, 2)}}),
        (tuple(range(300)), {}),
        ((b"x" * 1_000_000,), {}),
        (("x" * 119,), {"y": "z" * 200}),
    ],
)
def test_arguments(args, kwargs):
    assert ray.get(echo.remote(*args, **kwargs)) == (args, kwargs)


def test_signature():
    assert ray.get(add.remote(1)) == 11
    assert ray.get(add.remote(1, 2)) == 3
    assert ray.get(add.remote(1, b=2, scale=3)) == 9
    assert ray.get(add.remote(b=2, a=1)) == 3


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -(2**70), 1.5, "text", b"bytes", [], {}, (1, [2, {3}]), range(3), int, 1 + 2j],
)
def test_results(value):
    @ray.remote
    def same():
        return value

    assert ray.get(same.remote()) == value


def test_arrays_come_as_read_only_views():
    @ray.remote
    def array():
        return np.arange(100_000)

    ref = array.remote()
    first, second = ray.get(ref), ray.get(ref)
    assert not first.flags.writeable and not first.flags.owndata
    assert first.ctypes.data == second.ctypes.data
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1


def test_references_among_arguments_become_values():
    one, two = ray.put(1), add.remote(1, 1)
    assert ray.get(echo.remote(one, 5, two, key=one)) == ((1, 5, 2), {"key": 1})


def test_references_inside_of_arguments_stay_references():
    ref = ray.put("inner")

    @ray.remote
    def look(nested):
        (inner,) = nested["refs"]
        return isinstance(inner, ray.ObjectRef), ray.get(inner), inner

    is_ref, value, back = ray.get(look.remote({"refs": [ref]}))
    assert is_ref and value == "inner"
    assert back == ref and ray.get(back) == "inner"


def test_task_waits_for_what_it_needs(tmp_path):
    gate = Gate(tmp_path)

    @ray.remote
    def held():
        gate.pass_through()
        return 1

    first = held.remote()
    second = add.remote(first, first)
    third = add.remote(second, b=first)
    gate.until_begun()
    assert ray.wait([second, third], timeout=0) == ([], [second, third])
    gate.open()
    assert ray.get([first, second, third]) == [1, 2, 3]


def test_chain():
    ref = 0
    for _ in range(200):
        ref = add.remote(ref, 1)
    assert ray.get(ref) == 200


def test_many_references_in_one_argument():
    refs = [ray.put(i) for i in range(1000)]

    @ray.remote
    def total(items, *more):
        return sum(ray.get(items)) + sum(more)

    assert ray.get(total.remote(refs, *refs)) == 2 * sum(range(1000))


def test_result_that_is_a_reference():
    @ray.remote
    def make():
        return ray.put("inner")

    inner = ray.get(make.remote())
    assert isinstance(inner, ray.ObjectRef) and ray.get(inner) == "inner"


def test_closure_and_globals_go_with_the_function():
    offset = 5

    @ray.remote
    def shifted(x, more=[1, 2]):
        return x + offset + MODULE_CONSTANT + sum(more)

    assert ray.get(shifted.remote(1)) == 109


MODULE_CONSTANT = 100


# -- several results -------------------------------------------------------------------------


def test_several_results():
    @ray.remote(num_returns=3)
    def three():
        return "a", "b", "c"

    refs = three.remote()
    assert isinstance(refs, list) and len(refs) == 3
    assert ray.get(refs) == ["a", "b", "c"]
    assert ray.get(three.options(num_returns=1).remote()) == ("a", "b", "c")


@pytest.mark.parametrize("value", [[1, 2], (1, 2), np.array([1, 2]), {1: "x", 2: "y"}])
def test_what_several_results_come_from(value):
    @ray.remote(num_returns=2)
    def two():
        return value

    assert ray.get(two.remote()) == [1, 2]


@pytest.mark.parametrize(("value", "text"), [((1,), "returned 1 objects"), (5, "int")])
def test_wrong_number_of_results(value, text):
    @ray.remote(num_returns=2)
    def wrong():
        return value

    for ref in wrong.remote():
        with pytest.raises(ValueError, match=text) as caught:
            ray.get(ref)
        assert isinstance(caught.value, ray.exceptions.RayTaskError)


def test_no_result():
    @ray.remote(num_returns=0)
    def nothing():
        return 1

    assert nothing.remote() is None


def test_generator_function_with_a_number_of_results():
    @ray.remote
    def count(n):
        yield from range(n)

    assert ray.get(count.options(num_returns=2).remote(2)) == [0, 1]
    assert ray.get(count.options(num_returns=1).remote(5)) == 0


# -- options ---------------------------------------------------------------------------------


def test_options_change_one_call():
    renamed = echo.options(num_cpus=2, name="renamed")
    assert ray.get(renamed.remote(1)) == ((1,), {})
    assert renamed.options(num_cpus=1).remote(1)
    assert echo._default_options == {}


def test_decorator_with_options():
    @ray.remote(num_cpus=0.5, max_retries=0)
    def f():
        return 1

    assert ray.get(f.remote()) == 1


def test_remote_as_a_function():
    assert ray.get(ray.remote(len_of).remote([1, 2])) == 2
    assert ray.get(ray.remote(num_cpus=1)(lambda x: x + 1).remote(1)) == 2


def len_of(items):
    return len(items)


def test_remote_function_looks_like_the_function():
    assert (add.__name__, add.__doc__, add.__module__) == ("add", "Adds.", __name__)
    assert add.__wrapped__(1, 2) == 3
    assert repr(add) == f"<remote function {__name__}.add>"


def test_calls_from_threads():
    found = [None] * 8

    def call(i):
        found[i] = ray.get([add.remote(i, k) for k in range(100)])

    threads = [threading.Thread(target=call, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[i + k for k in range(100)] for i in range(8)]


def test_max_calls():
    @ray.remote(max_calls=1)
    def once():
        return os.getpid()

    assert len(set(ray.get([once.remote() for _ in range(5)]))) == 5


def test_many_tasks():
    assert sum(ray.get([add.remote(i, 0) for i in range(20_000)])) == sum(range(20_000))


# -- functions that change, and functions that call themselves ---------------------------------


def test_redefined_function():
    def define(value):
        @ray.remote
        def f():
            return value

        return f

    first, second = define(1), define(2)
    assert ray.get([first.remote(), second.remote(), first.remote()]) == [1, 2, 1]


def test_new_code_under_the_same_name():
    cell = {"__name__": "cell_of_a_notebook", "ray": ray}
    found = []
    for source in ("return x + 1", "return x * 10"):
        exec(f"@ray.remote\ndef f(x): {source}", cell)
        found.append(ray.get(cell["f"].remote(5)))
    assert found == [6, 50]


@ray.remote
def factorial(n):
    return 1 if n == 0 else n * ray.get(factorial.remote(n - 1))


def test_recursive():
    assert ray.get(factorial.remote(5)) == 120


def test_recursive_in_a_closure():
    @ray.remote
    def fibonacci(n):
        return n if n < 2 else sum(ray.get([fibonacci.remote(n - 1), fibonacci.remote(n - 2)]))

    assert ray.get(fibonacci.remote(10)) == 55


def test_recursive_with_options():
    @ray.remote
    def down(n):
        return [] if n == 0 else [n, *ray.get(down.options(num_cpus=0.1).remote(n - 1))]

    assert ray.get(down.remote(3)) == [3, 2, 1]


def test_remote_function_as_argument():
    @ray.remote
    def apply(f, *args):
        return ray.get(f.remote(*args))

    assert ray.get(apply.remote(add, 1, 2)) == 3
    assert ray.get(apply.remote(add.options(num_cpus=0.5), 3)) == 13
