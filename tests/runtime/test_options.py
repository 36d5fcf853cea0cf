"""Options of remote functions: what is accepted, what is refused and how, and the defaults."""

from __future__ import annotations

import warnings

import pytest

from pyray.runtime.options import (
    TASK_OPTIONS,
    task_options,
    validate_method_options,
    with_defaults,
)
from pyray.util.scheduling_strategies import (
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

NODE = NodeAffinitySchedulingStrategy("ab" * 28, soft=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_cpus", 0),
        ("num_cpus", 0.5),
        ("num_cpus", None),
        ("num_gpus", 1.5),
        ("memory", 10**9),
        ("resources", {"custom": 0.25, "other": 2}),
        ("resources", {}),
        ("num_returns", 0),
        ("num_returns", 3),
        ("num_returns", "streaming"),
        ("max_retries", -1),
        ("max_retries", 0),
        ("retry_exceptions", True),
        ("retry_exceptions", [ValueError, KeyError]),
        ("retry_exceptions", (OSError,)),
        ("max_calls", 10),
        ("name", "a name"),
        ("runtime_env", {"env_vars": {}}),
        ("scheduling_strategy", "SPREAD"),
        ("scheduling_strategy", "DEFAULT"),
        ("scheduling_strategy", NODE),
        ("scheduling_strategy", NodeLabelSchedulingStrategy({})),
        ("accelerator_type", "A100"),
        ("label_selector", {"region": "in(a, b)"}),
        ("fallback_strategy", [{"label_selector": {"region": "c"}}]),
        ("object_store_memory", None),
        ("placement_group", None),
        ("enable_task_events", False),
        ("_labels", {"a": "b"}),
        ("_metadata", {"library": {"x": 1}}),
        ("_generator_backpressure_num_objects", 5),
    ],
)
def test_accepted(name, value):
    assert task_options({name: value}, generator=True) == {name: value}


@pytest.mark.parametrize(
    ("name", "value", "error", "text"),
    [
        ("num_cpus", "2", TypeError, "'num_cpus' must be a number"),
        ("num_cpus", True, TypeError, "received True of type bool"),
        ("num_cpus", -1, ValueError, "cannot be negative"),
        ("num_cpus", float("nan"), ValueError, "cannot be negative or infinite"),
        ("num_cpus", float("inf"), ValueError, "cannot be negative or infinite"),
        ("num_gpus", 0.00001, ValueError, "cannot go beyond 0.0001"),
        ("memory", -5, ValueError, "cannot be negative"),
        ("resources", [1], TypeError, "'resources' must be dict"),
        ("resources", {"CPU": 1}, ValueError, "Use the|use the keyword 'num_cpus'"),
        ("resources", {"GPU": 1}, ValueError, "'num_gpus'"),
        ("resources", {"memory": 1}, ValueError, "keyword 'memory'"),
        ("resources", {"object_store_memory": 1}, ValueError, "must not contain"),
        ("resources", {"a": "b"}, TypeError, "'a' is 'b' of type str"),
        ("resources", {"a": -1}, ValueError, "resource a cannot be negative"),
        ("resources", {1: 1}, ValueError, "must be strings"),
        ("resources", {"": 1}, ValueError, "not empty"),
        ("resources", {"x" * 32: 1}, ValueError, "31 bytes"),
        ("num_returns", -1, ValueError, "non-negative integer"),
        ("num_returns", "all", ValueError, "'streaming'"),
        ("num_returns", 1.0, TypeError, "'num_returns' must be int"),
        ("max_retries", -2, ValueError, "-1 represents infinity"),
        ("max_retries", 1.5, TypeError, "'max_retries' must be int"),
        ("max_calls", -1, ValueError, "None, 0 or a positive integer"),
        ("retry_exceptions", [1], ValueError, "list of exceptions"),
        ("retry_exceptions", [BaseException], ValueError, "list of exceptions"),
        ("retry_exceptions", ValueError, TypeError, "list of exception classes"),
        ("retry_exceptions", None, TypeError, "list of exception classes"),
        ("name", 3, TypeError, "'name' must be str"),
        ("runtime_env", "env", TypeError, "'runtime_env' must be dict"),
        ("scheduling_strategy", "FASTEST", ValueError, "'DEFAULT', 'SPREAD'"),
        ("scheduling_strategy", 5, TypeError, "scheduling strategy"),
        ("label_selector", {"a": 1}, ValueError, "map label names to strings"),
        ("fallback_strategy", [{"num_cpus": 1}], ValueError, "label_selector"),
        ("object_store_memory", 10, ValueError, "not implemented for tasks"),
        ("_generator_backpressure_num_objects", 0, ValueError, "above 0"),
        ("_generator_backpressure_num_objects", 65536, ValueError, "at most 65535"),
        ("_num_objects_per_yield", 0, ValueError, "positive"),
        ("enable_task_events", None, TypeError, "'enable_task_events' must be bool"),
    ],
)
def test_refused(name, value, error, text):
    with pytest.raises(error, match=text):
        task_options({name: value}, generator=True)


def test_unknown_option_names_the_known():
    with pytest.raises(
        ValueError, match="Invalid option keyword num_cpu for remote functions.*num_cpus"
    ):
        task_options({"num_cpu": 1})


def test_actor_options_are_not_for_functions():
    with pytest.raises(ValueError, match="Invalid option keyword max_restarts"):
        task_options({"max_restarts": 1})


@pytest.mark.parametrize(
    "options",
    [
        {"placement_group": object()},
        {"scheduling_strategy": PlacementGroupSchedulingStrategy(object())},
    ],
)
def test_placement_groups_are_to_come(options):
    with pytest.raises(NotImplementedError, match="placement groups"):
        task_options(options)


def test_old_spelling():
    with pytest.warns(
        DeprecationWarning, match="'num_return_vals' is now called 'num_returns'"
    ) as told:
        assert task_options({"num_return_vals": 2}) == {"num_returns": 2}
    assert told[0].filename == __file__


def test_max_calls_is_not_for_options():
    with pytest.raises(ValueError, match="'max_calls' is not supported in '.options\\(\\)'"):
        task_options({"max_calls": 1}, in_options=True)


@pytest.mark.parametrize("num_returns", ["streaming", "dynamic"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_generators_only(num_returns):
    with pytest.raises(ValueError, match="can only be used with generator functions"):
        task_options({"num_returns": num_returns}, generator=False)
    assert task_options({"num_returns": num_returns}, generator=True)
    assert task_options({"num_returns": num_returns}, generator=None)


def test_dynamic_is_deprecated():
    with pytest.warns(DeprecationWarning, match="num_returns='streaming'"):
        task_options({"num_returns": "dynamic"}, generator=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task_options({"num_returns": "streaming"}, generator=True)


def test_defaults():
    full = with_defaults({}, generator=False)
    assert set(full) == set(TASK_OPTIONS)
    assert (full["num_cpus"], full["num_gpus"], full["resources"]) == (1, None, None)
    assert (full["num_returns"], full["max_retries"], full["max_calls"]) == (1, 3, 0)
    assert (full["retry_exceptions"], full["name"]) == (False, None)


def test_generator_functions_stream():
    assert with_defaults({}, generator=True)["num_returns"] == "streaming"
    assert with_defaults({"num_returns": 2}, generator=True)["num_returns"] == 2


def test_gpu_tasks_give_their_worker_back():
    assert with_defaults({"num_gpus": 1}, generator=False)["max_calls"] == 1
    assert with_defaults({"num_gpus": 1, "max_calls": 0}, generator=False)["max_calls"] == 0


def test_default_retries_of_the_environment(monkeypatch):
    monkeypatch.setenv("RAY_TASK_MAX_RETRIES", "7")
    assert with_defaults({}, generator=False)["max_retries"] == 7
    assert with_defaults({"max_retries": 1}, generator=False)["max_retries"] == 1


def test_method_options():
    given = {"num_returns": 2, "concurrency_group": "io", "max_task_retries": -1}
    assert validate_method_options(given) == given
    with pytest.raises(ValueError, match="Unexpected keyword argument to @method: 'num_cpus'"):
        validate_method_options({"num_cpus": 1})
    with pytest.raises(ValueError, match="non-negative"):
        validate_method_options({"num_returns": -1})


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("zz", True), "Invalid node_id 'zz'"),
        (("", True), "Invalid node_id ''"),
        (("ab", False, True), "soft=True"),
        (("ab", True, False, True), "soft=False"),
    ],
)
def test_node_affinity(args, text):
    with pytest.raises(ValueError, match=text):
        NodeAffinitySchedulingStrategy(*args)


def test_node_affinity_of_bytes():
    assert NodeAffinitySchedulingStrategy(b"\x12\xab", soft=False).node_id == "12ab"
