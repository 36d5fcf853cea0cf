"""Options of actors and of their methods: what is accepted, what is refused and how, defaults."""

from __future__ import annotations

import pytest

import pyray as ray
from pyray.runtime.options import (
    ACTOR_OPTIONS,
    actor_options,
    actor_with_defaults,
    call_options,
)
from pyray.runtime.resources import of_actor
from pyray.util.scheduling_strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_cpus", 0),
        ("num_cpus", 0.5),
        ("num_gpus", 2),
        ("memory", 10**9),
        ("resources", {"custom": 0.25}),
        ("accelerator_type", "A100"),
        ("max_restarts", -1),
        ("max_restarts", 10**12),
        ("max_task_retries", -1),
        ("max_task_retries", 5),
        ("max_pending_calls", 100),
        ("max_concurrency", 1),
        ("max_concurrency", None),
        ("concurrency_groups", {"io": 2}),
        ("concurrency_groups", []),
        ("allow_out_of_order_execution", True),
        ("lifetime", "detached"),
        ("lifetime", "non_detached"),
        ("lifetime", None),
        ("name", "a name"),
        ("namespace", "a namespace"),
        ("get_if_exists", False),
        ("runtime_env", {"env_vars": {}}),
        ("scheduling_strategy", "SPREAD"),
        ("scheduling_strategy", NodeAffinitySchedulingStrategy("ab" * 28, soft=True)),
        ("label_selector", {"region": "in(a, b)"}),
        ("fallback_strategy", [{"label_selector": {"region": "c"}}]),
        ("placement_group", None),
        ("enable_task_events", False),
        ("_labels", {"a": "b"}),
        ("_metadata", {"library": {"x": 1}}),
    ],
)
def test_accepted(name, value):
    assert actor_options({name: value}) == {name: value}


@pytest.mark.parametrize(
    ("name", "value", "error", "text"),
    [
        ("num_cpus", "2", TypeError, "'num_cpus' must be a number"),
        ("num_cpus", -1, ValueError, "cannot be negative"),
        ("resources", {"CPU": 1}, ValueError, "'num_cpus'"),
        ("max_restarts", -2, ValueError, "'max_restarts' only accepts None, 0, -1 or a positive"),
        ("max_restarts", 1.5, TypeError, "'max_restarts' must be int"),
        ("max_restarts", True, TypeError, "'max_restarts' must be int"),
        ("max_task_retries", -2, ValueError, "-1 represents infinity"),
        ("max_pending_calls", -2, ValueError, "-1 represents infinity"),
        ("max_concurrency", 0, ValueError, "max_concurrency must be a positive integer"),
        ("max_concurrency", -1, ValueError, "max_concurrency must be a positive integer"),
        ("concurrency_groups", {"io": 0}, ValueError, "how many calls run at once"),
        ("concurrency_groups", {"io": True}, ValueError, "how many calls run at once"),
        ("concurrency_groups", {"": 1}, ValueError, "not empty"),
        ("concurrency_groups", {"a b": 1}, ValueError, "without spaces"),
        ("concurrency_groups", ["io"], ValueError, "must be a dict"),
        ("concurrency_groups", "io", TypeError, "'concurrency_groups' must be dict"),
        ("lifetime", "forever", ValueError, "actor `lifetime` argument must be one of 'detached'"),
        ("lifetime", True, TypeError, "'lifetime' must be str"),
        ("name", "", ValueError, "Actor name cannot be an empty string."),
        ("name", 3, TypeError, "'name' must be str"),
        ("namespace", "", ValueError, '"" is not a valid namespace'),
        ("namespace", 1, TypeError, "'namespace' must be str"),
        ("get_if_exists", 1, TypeError, "'get_if_exists' must be bool"),
        ("get_if_exists", True, ValueError, "name must be specified to use `get_if_exists`"),
        ("scheduling_strategy", "FASTEST", ValueError, "'DEFAULT', 'SPREAD'"),
        ("num_returns", 2, ValueError, "Invalid option keyword num_returns for actors.*max_rest"),
        ("max_retries", 2, ValueError, "Invalid option keyword max_retries for actors"),
    ],
)
def test_refused(name, value, error, text):
    with pytest.raises(error, match=text):
        actor_options({name: value})


def test_placement_groups_are_to_come():
    strategy = PlacementGroupSchedulingStrategy(object())
    with pytest.raises(NotImplementedError, match="placement groups"):
        actor_options({"scheduling_strategy": strategy})


def test_object_store_memory_reserves_nothing():
    with pytest.warns(DeprecationWarning, match="reserves nothing"):
        actor_options({"object_store_memory": 10**6})


def test_options_add_to_those_of_the_decorator():
    before = {"name": "x", "num_cpus": 1}
    found = actor_options({"get_if_exists": True, "num_cpus": 2}, before=before)
    assert found == {"name": "x", "num_cpus": 2, "get_if_exists": True}
    assert before == {"name": "x", "num_cpus": 1}
    groups = {"concurrency_groups": {"io": 1}}
    assert actor_options({}, before=groups) == groups
    with pytest.raises(ValueError, match="'concurrency_groups' is not supported in '.options"):
        actor_options(groups, before={})


def test_defaults():
    full = actor_with_defaults({}, asynchronous=False)
    assert set(full) == set(ACTOR_OPTIONS)
    assert full["num_cpus"] is full["name"] is full["lifetime"] is None
    assert (full["max_restarts"], full["max_task_retries"], full["max_pending_calls"]) == (0, 0, -1)
    assert full["max_concurrency"] == 1 and full["allow_out_of_order_execution"] is False
    none = dict.fromkeys(("max_restarts", "max_task_retries", "max_pending_calls"))
    assert actor_with_defaults(none, asynchronous=False) == full


def test_several_calls_at_once():
    full = actor_with_defaults({}, asynchronous=True)
    assert full["max_concurrency"] == 1000 and full["allow_out_of_order_execution"] is True
    full = actor_with_defaults({"max_concurrency": 2}, asynchronous=False)
    assert full["allow_out_of_order_execution"] is True


@pytest.mark.parametrize(
    ("asynchronous", "options", "kind"),
    [(True, {}, "async"), (False, {"max_concurrency": 2}, "multi-threaded")],
)
def test_order_and_several_calls_at_once_do_not_go_together(asynchronous, options, kind):
    options = {**options, "allow_out_of_order_execution": False}
    with pytest.raises(ValueError, match=f"{kind} actors.*`allow_out_of_order_execution=True`"):
        actor_with_defaults(options, asynchronous=asynchronous)


@pytest.mark.parametrize(
    ("options", "held"),
    [
        ({}, {}),
        ({"memory": 100}, {"memory": 100.0}),
        ({"num_cpus": 0}, {}),
        ({"num_cpus": 2}, {"CPU": 2.0}),
        ({"num_gpus": 1}, {"CPU": 1.0, "GPU": 1.0}),
        ({"num_gpus": 1, "num_cpus": 0}, {"GPU": 1.0}),
        ({"resources": {"custom": 1}}, {"CPU": 1.0, "custom": 1.0}),
        ({"resources": {}}, {}),
        ({"accelerator_type": "A100"}, {"CPU": 1.0, "accelerator_type:A100": 0.001}),
    ],
)
def test_what_an_actor_holds(options, held):
    full = actor_with_defaults(options, asynchronous=False)
    assert of_actor(full, {"CPU": 4.0}) == held


def test_an_actor_is_placed_where_there_is_a_cpu():
    full = actor_with_defaults({}, asynchronous=False)
    assert of_actor(full, {"CPU": 0.0}) == {"CPU": 1.0}
    full = actor_with_defaults({"num_cpus": 0}, asynchronous=False)
    assert of_actor(full, {"CPU": 0.0}) == {}


class TestMethods:
    def test_accepted(self):
        given = {"num_returns": 2, "name": "x", "max_task_retries": -1, "concurrency_group": "io"}
        assert call_options(given, generator=False) == given
        assert call_options({"num_returns": "streaming"}, generator=True)

    @pytest.mark.parametrize(
        ("options", "error", "text"),
        [
            ({"num_cpus": 1}, ValueError, "Invalid option keyword num_cpus for methods of actors"),
            ({"_num_objects_per_yield": 2}, ValueError, "Invalid option keyword"),
            ({"num_returns": -1}, ValueError, "non-negative"),
            ({"num_returns": "streaming"}, ValueError, "only be used with generator functions"),
            ({"max_task_retries": -2}, ValueError, "-1 represents infinity"),
            ({"retry_exceptions": ValueError}, TypeError, "list of exception classes"),
            ({"name": 1}, TypeError, "'name' must be str"),
        ],
    )
    def test_refused(self, options, error, text):
        with pytest.raises(error, match=text):
            call_options(options, generator=False)

    def test_decorator(self):
        @ray.method
        def plain(self): ...

        @ray.method()
        def also(self): ...

        @ray.method(num_returns=2, concurrency_group="io")
        def f(self): ...

        assert (f.__ray_num_returns__, f.__ray_concurrency_group__) == (2, "io")

    @pytest.mark.parametrize(
        ("arguments", "options", "error"),
        [
            ((3,), {}, TypeError),
            ((len, len), {}, TypeError),
            ((len,), {"num_returns": 2}, TypeError),
            ((), {"num_cpus": 2}, ValueError),
        ],
    )
    def test_decorator_refuses(self, arguments, options, error):
        with pytest.raises(error):
            ray.method(*arguments, **options)

    def test_streaming_is_for_methods_that_yield(self):
        with pytest.raises(ValueError, match="only be used with generator functions"):

            @ray.method(num_returns="streaming")
            def f(self): ...

        @ray.method(num_returns="streaming")
        async def g(self):
            yield 1
