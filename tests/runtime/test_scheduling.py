"""Resources: who may run at once, what a task sees of it, requests that cannot be met."""

from __future__ import annotations

import os
import re

import pytest
from gates import Gate

import pyray as ray
from pyray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

pytestmark = pytest.mark.usefixtures("session")


@ray.remote
def held(gate):
    gate.pass_through()
    return ray.get_gpu_ids(), os.environ.get("CUDA_VISIBLE_DEVICES")


@ray.remote
def same(x=None):
    return x


def test_totals():
    total = ray.cluster_resources()
    assert (total["CPU"], total["GPU"], total["Custom"], total["Half"]) == (2, 2, 2, 0.5)
    assert total["memory"] > 0 and total["object_store_memory"] == 200 << 20
    assert total["node:127.0.0.1"] == 1


def test_what_is_reserved(tmp_path):
    gate = Gate(tmp_path)
    demand = {"Custom": 1.5, "Half": 0.2}
    ref = held.options(num_cpus=0.5, num_gpus=1, memory=1000, resources=demand).remote(gate)
    gate.until_begun()
    left, total = ray.available_resources(), ray.cluster_resources()
    assert left["CPU"] == 1.5 and left["GPU"] == 1 and left["Custom"] == 0.5
    assert left["Half"] == pytest.approx(0.3)
    assert left["memory"] == total["memory"] - 1000
    gate.open()
    ray.get(ref)


def test_custom_resource_limits(tmp_path):
    gates = [Gate(tmp_path, str(i)) for i in range(3)]
    task = held.options(num_cpus=0, resources={"Custom": 1})
    refs = [task.remote(gate) for gate in gates]
    for gate in gates[:2]:
        gate.until_begun()
    assert "Custom" not in ray.available_resources()
    gates[0].open()
    gates[2].until_begun()  # the third runs only now
    for gate in gates[1:]:
        gate.open()
    ray.get(refs)


def test_fractions(tmp_path):
    gates = [Gate(tmp_path, str(i)) for i in range(5)]
    refs = [held.options(num_cpus=0.4).remote(gate) for gate in gates]
    for gate in gates:
        gate.until_begun()  # all five at once
    for gate in gates:
        gate.open()
    ray.get(refs)


def test_zero_cpus(tmp_path):
    gates = [Gate(tmp_path, str(i)) for i in range(4)]
    refs = [held.options(num_cpus=0).remote(gate) for gate in gates]
    for gate in gates:
        gate.until_begun()
    for gate in gates:
        gate.open()
    ray.get(refs)


def test_assigned_resources():
    @ray.remote
    def assigned():
        return ray.get_runtime_context().get_assigned_resources()

    assert ray.get(assigned.remote()) == {"CPU": 1}
    demand = assigned.options(num_cpus=0.5, num_gpus=1, resources={"Custom": 1})
    assert ray.get(demand.remote()) == {"CPU": 0.5, "GPU": 1, "Custom": 1}


# -- what a task sees --------------------------------------------------------------------------


def test_gpus(tmp_path):
    gates = [Gate(tmp_path, str(i)) for i in range(2)]
    refs = [held.options(num_gpus=1).remote(gate) for gate in gates]
    for gate in gates:
        gate.until_begun()
    for gate in gates:
        gate.open()
    (first, seen_first), (second, seen_second) = ray.get(refs)
    assert sorted(first + second) == [0, 1]
    assert (seen_first, seen_second) == (str(first[0]), str(second[0]))


def test_two_gpus_and_none(tmp_path):
    @ray.remote
    def gpus():
        ids = ray.get_runtime_context().get_accelerator_ids()
        return ray.get_gpu_ids(), os.environ.get("CUDA_VISIBLE_DEVICES"), ids

    ids, seen, named = ray.get(gpus.options(num_gpus=2).remote())
    assert sorted(ids) == [0, 1] and sorted(seen.split(",")) == ["0", "1"]
    assert sorted(named["GPU"]) == ["0", "1"]
    ids, seen, named = ray.get(gpus.remote())
    assert ids == [] and not seen and named == {"GPU": []}
    assert ray.get_gpu_ids() == []


def test_parts_of_a_gpu(tmp_path):
    gates = [Gate(tmp_path, str(i)) for i in range(4)]
    refs = [held.options(num_gpus=0.5, num_cpus=0).remote(gate) for gate in gates]
    for gate in gates:
        gate.until_begun()
    for gate in gates:
        gate.open()
    ids = [found for found, _ in ray.get(refs)]
    assert all(len(found) == 1 for found in ids)
    assert sorted(i for (i,) in ids) == [0, 0, 1, 1]


def test_threads_of_libraries():
    @ray.remote
    def threads():
        return os.environ["OMP_NUM_THREADS"]

    assert ray.get(threads.remote()) == "1"
    assert ray.get(threads.options(num_cpus=2).remote()) == "2"
    assert ray.get(threads.options(num_cpus=0.5).remote()) == "1"


# -- where -------------------------------------------------------------------------------------


def test_strategies():
    (node,) = ray.nodes()
    here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    for strategy in ("DEFAULT", "SPREAD", None, here):
        assert ray.get(same.options(scheduling_strategy=strategy).remote(1)) == 1
    elsewhere = NodeAffinitySchedulingStrategy("ab" * 28, soft=True)
    assert ray.get(same.options(scheduling_strategy=elsewhere).remote(1)) == 1
    elsewhere = NodeAffinitySchedulingStrategy("ab" * 28, soft=False)
    with pytest.raises(ray.exceptions.TaskUnschedulableError, match="no node abab"):
        same.options(scheduling_strategy=elsewhere).remote(1)


def test_node_resource():
    assert ray.get(same.options(resources={"node:127.0.0.1": 0.01}).remote(2)) == 2


def test_labels():
    (node,) = ray.nodes()
    selector = {"ray.io/node-id": node["NodeID"]}
    assert ray.get(same.options(label_selector=selector).remote(1)) == 1
    other = same.options(label_selector={"region": "x"}, fallback_strategy=[{"label_selector": {}}])
    assert ray.get(other.remote(1)) == 1


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"num_cpus": 100}, "100"),
        ({"resources": {"Nowhere": 1}}, "Nowhere"),
        ({"accelerator_type": "A100"}, "accelerator_type:A100"),
        ({"label_selector": {"region": "mars"}}, "region=mars"),
    ],
)
def test_infeasible_requests_warn_and_wait(session, options, what):
    import queue

    from pyray.runtime import session as sessions

    told = queue.Queue()
    sessions.on_warning(told.put)
    try:
        ref = same.options(**options).remote(1)
        assert re.search(re.escape(what), told.get(timeout=60))
        assert ray.wait([ref], timeout=0) == ([], [ref])
    finally:
        sessions.on_warning(None)
    ray.cancel(ref)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(ref)
