"""What actors hold as long as they live, and who has to wait for it."""

from __future__ import annotations

import pytest

import pyray as ray
from pyray.exceptions import ActorDiedError, ActorUnschedulableError
from pyray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


@pytest.fixture(scope="module", autouse=True)
def session():
    with ray.init(
        num_cpus=2, resources={"licence": 1}, labels={"region": "here"}, log_to_driver=False
    ) as context:
        yield context


@ray.remote
class Actor:
    def f(self):
        return "f"


def end(*actors):
    """Kill them, and wait until they are dead."""
    for actor in actors:
        ray.kill(actor)
        with pytest.raises(ActorDiedError):
            ray.get(actor.f.remote())


def test_more_actors_than_cpus():
    actors = [Actor.remote() for _ in range(6)]
    assert ray.get([actor.f.remote() for actor in actors]) == ["f"] * 6
    assert ray.available_resources()["CPU"] == 2
    end(*actors)


def test_tasks_run_beside_actors():
    @ray.remote(num_cpus=2)
    def task():
        return "task"

    actor = Actor.remote()
    assert ray.get(actor.f.remote()) == "f" and ray.get(task.remote()) == "task"
    end(actor)


def test_held_for_life():
    actor = Actor.options(num_cpus=1.5).remote()
    ray.get(actor.f.remote())
    assert ray.available_resources()["CPU"] == 0.5
    end(actor)
    assert ray.available_resources()["CPU"] == 2


def test_the_next_one_waits():
    Licensed = Actor.options(num_cpus=0, resources={"licence": 1})
    first, second = Licensed.remote(), Licensed.remote()
    made, waiting = first, second
    ready, _ = ray.wait([first.f.remote(), second.f.remote()])
    assert len(ready) == 1
    refs = {actor: actor.f.remote() for actor in (first, second)}
    ready, _ = ray.wait(list(refs.values()), num_returns=1)
    made = next(actor for actor, ref in refs.items() if ref == ready[0])
    (waiting,) = {first, second} - {made}
    assert "licence" not in ray.available_resources()
    end(made)
    assert ray.get(refs[waiting]) == "f"
    end(waiting)


def test_one_that_is_dropped_before_it_is_made(tmp_path):
    Licensed = Actor.options(num_cpus=0, resources={"licence": 1})
    made = Licensed.remote()
    ray.get(made.f.remote())
    waiting = Licensed.remote()
    del waiting
    end(made)
    other = Licensed.remote()
    assert ray.get(other.f.remote()) == "f"
    end(other)


def test_one_that_is_killed_before_it_is_made():
    waiting = Actor.options(resources={"licence": 5}).remote()
    ref = waiting.f.remote()
    ray.kill(waiting)
    with pytest.raises(ActorDiedError):
        ray.get(ref)


def test_another_node():
    with pytest.raises(ActorUnschedulableError, match="there is no node"):
        Actor.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy("ab" * 28, soft=False)
        ).remote()
    node = ray.get_runtime_context().get_node_id()
    for strategy in (
        NodeAffinitySchedulingStrategy(node, soft=False),
        NodeAffinitySchedulingStrategy("ab" * 28, soft=True),
        "SPREAD",
    ):
        actor = Actor.options(scheduling_strategy=strategy).remote()
        assert ray.get(actor.f.remote()) == "f"
        end(actor)


def test_labels():
    actor = Actor.options(label_selector={"region": "here"}).remote()
    assert ray.get(actor.f.remote()) == "f"
    elsewhere = Actor.options(label_selector={"region": "there"}).remote()
    assert ray.wait([elsewhere.f.remote()], timeout=0)[0] == []
    ray.kill(elsewhere)
    end(actor)


def test_environment():
    @ray.remote(runtime_env={"env_vars": {"OF_THE_ACTOR": "yes"}})
    class Env:
        def get(self):
            import os

            return os.environ.get("OF_THE_ACTOR")

    assert ray.get(Env.remote().get.remote()) == "yes"
    other = Env.options(runtime_env={"env_vars": {"OF_THE_ACTOR": "other"}}).remote()
    assert ray.get(other.get.remote()) == "other"
