"""What the machine has, what tasks ask for, and the variables that follow from it."""

from __future__ import annotations

import os

import pytest

from pyray.runtime import resources
from pyray.runtime.options import with_defaults


@pytest.fixture(autouse=True)
def no_gpus_named(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_defaults_of_this_machine():
    found = resources.node_resources()
    assert 1 <= found["CPU"] <= len(os.sched_getaffinity(0))
    assert 0 < found["memory"] <= resources.total_memory()
    assert found["node:127.0.0.1"] == found["node:__internal_head__"] == 1.0
    assert all(isinstance(value, float) for value in found.values())


def test_what_init_is_given():
    found = resources.node_resources(4, 2, {"custom": 1.5}, memory=1000, object_store=500)
    assert found["CPU"] == 4.0 and found["GPU"] == 2.0 and found["custom"] == 1.5
    assert found["memory"] == 1000.0 and found["object_store_memory"] == 500.0


def test_no_cpus_at_all():
    assert resources.node_resources(num_cpus=0)["CPU"] == 0.0


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"num_cpus": "2"}, TypeError, "num_cpus must be a number, got '2'"),
        ({"num_cpus": True}, TypeError, "num_cpus must be a number"),
        ({"num_cpus": -1}, ValueError, "num_cpus cannot be negative"),
        ({"num_cpus": 1.5}, ValueError, "num_cpus must be a whole number"),
        ({"num_gpus": 0.5}, ValueError, "num_gpus must be a whole number"),
        ({"resources": [1]}, TypeError, "resources must be a dict"),
        ({"resources": {"CPU": 1}}, ValueError, "num_cpus"),
        ({"resources": {"a": -1}}, ValueError, "resource a cannot be negative"),
        ({"resources": {"a": "b"}}, TypeError, "must be numbers"),
        ({"memory": "x"}, TypeError, "_memory must be a number"),
    ],
)
def test_refused(arguments, error, text):
    with pytest.raises(error, match=text):
        resources.node_resources(**arguments)


def test_gpus_that_the_user_named(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert resources.node_resources()["GPU"] == 2.0
    assert resources.node_resources(num_gpus=1)["GPU"] == 1.0
    with pytest.raises(ValueError, match="CUDA_VISIBLE_DEVICES names 2"):
        resources.node_resources(num_gpus=3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "GPU" not in resources.node_resources()


def test_size_of_the_object_store():
    default = resources.object_store_bytes(None)
    assert abs(default - 0.3 * resources.total_memory()) < 2
    assert resources.object_store_bytes(100 << 20) == 100 << 20
    with pytest.raises(ValueError, match="minimum is"):
        resources.object_store_bytes(1000)
    with pytest.raises(TypeError, match="object_store_memory must be a number"):
        resources.object_store_bytes("1GB")


def demand(**options):
    return resources.of_task(with_defaults(options, generator=False))


def test_of_a_task():
    assert demand() == {"CPU": 1.0}
    assert demand(num_cpus=0) == {}
    assert demand(num_cpus=None) == {}
    assert demand(num_cpus=0.5, num_gpus=2) == {"CPU": 0.5, "GPU": 2.0}
    assert demand(memory=100.7, resources={"a": 0.1}) == {"CPU": 1.0, "memory": 100.0, "a": 0.1}
    assert demand(accelerator_type="A100") == {"CPU": 1.0, "accelerator_type:A100": 0.001}
    assert len(next(iter(demand(num_cpus=0, accelerator_type="A" * 50)))) == 31
    assert demand(resources={"a": 0}) == {"CPU": 1.0}


@pytest.mark.parametrize(
    ("expression", "label", "fits"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("a", None, False),
        ("!a", "b", True),
        ("!a", "a", False),
        ("in(a, b)", "b", True),
        ("in(a, b)", "c", False),
        ("!in(a, b)", "c", True),
        ("!in(a, b)", "a", False),
        ("", "anything", True),
    ],
)
def test_labels(expression, label, fits):
    labels = {} if label is None else {"key": label}
    assert resources.matches({"key": expression}, labels) is fits


def test_no_selector_fits_every_node():
    assert resources.matches(None, {}) and resources.matches({}, {"a": "b"})


# -- variables -------------------------------------------------------------------------------


def task(gpu_ids=(), **amounts):
    return {"resources": amounts, "gpu_ids": list(gpu_ids), "name": "f"}


def test_threads_follow_the_cpus():
    environ = {}
    variables = resources.TaskEnvironment(environ)
    assert environ == {"OMP_NUM_THREADS": "1"}
    for amounts, threads in (
        ({"CPU": 3.0}, "3"),
        ({"CPU": 0.5}, "1"),
        ({}, "1"),
        ({"CPU": 2}, "2"),
    ):
        variables.before(task(**amounts))
        assert environ["OMP_NUM_THREADS"] == threads
        variables.after(task(**amounts))


def test_threads_that_the_user_set():
    environ = {"OMP_NUM_THREADS": "8"}
    variables = resources.TaskEnvironment(environ)
    variables.before(task(CPU=2))
    assert environ["OMP_NUM_THREADS"] == "8"


def test_threads_that_a_runtime_environment_set():
    environ = {}
    variables = resources.TaskEnvironment(environ)
    environ["OMP_NUM_THREADS"] = "6"
    variables.before(task(CPU=2))
    assert environ["OMP_NUM_THREADS"] == "6"


@pytest.mark.parametrize(
    ("visible", "ids", "seen"),
    [(None, [1, 0], "1,0"), ("4,GPU-abc", [1], "GPU-abc"), ("4,5", [0, 1], "4,5")],
)
def test_gpus_of_a_task(visible, ids, seen):
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    before = dict(environ)
    variables = resources.TaskEnvironment(environ)
    variables.before(task(ids, GPU=len(ids)))
    assert environ["CUDA_VISIBLE_DEVICES"] == seen
    variables.after(task(ids))
    del environ["OMP_NUM_THREADS"]
    assert environ == before
    variables.before(task())
    assert environ.get("CUDA_VISIBLE_DEVICES") == visible


def test_names_of_gpus():
    assert resources.gpu_names([1, 0], None) == [1, 0]
    assert resources.gpu_names([1], ["a", "b"]) == ["b"]
    assert resources.gpu_names([5], ["a", "b"]) == ["a", "b"]  # a runtime environment named fewer
