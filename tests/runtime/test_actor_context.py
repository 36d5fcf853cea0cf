"""get_runtime_context() in actors: ids, names, resources, restarts, also in threads and loops."""

from __future__ import annotations

import os
import threading

import pytest

import pyray as ray

pytestmark = pytest.mark.usefixtures("session")


def context():
    return ray.get_runtime_context()


@ray.remote
class Actor:
    def __init__(self):
        self.in_constructor = context().get_actor_id(), context().get_task_name()

    def ids(self):
        found = context()
        return found.get_actor_id(), found.get_task_id(), found.get_worker_id()

    def names(self):
        found = context()
        return found.get_actor_name(), found.get_task_name(), found.get_task_function_name()

    def of_the_constructor(self):
        return self.in_constructor

    def resources(self):
        return context().get_assigned_resources()

    def gpus(self):
        found = context().get_accelerator_ids()["GPU"]
        return found, ray.get_gpu_ids(), os.environ.get("CUDA_VISIBLE_DEVICES")

    def me(self):
        return context().current_actor

    def restarted(self):
        return context().was_current_actor_reconstructed

    def in_thread(self):
        found = []

        def look():
            found.append((context().get_actor_id(), context().current_actor, os.getpid()))

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        return found[0]

    def namespace(self):
        return context().namespace

    def job(self):
        return context().get_job_id()


@ray.remote
class Async:
    async def ids(self):
        found = context()
        return found.get_actor_id(), found.get_task_id(), found.get_task_name()

    async def me(self):
        return context().current_actor

    async def resources(self):
        return context().get_assigned_resources()


def test_ids():
    actor = Actor.remote()
    own, task, worker = ray.get(actor.ids.remote())
    assert own == actor._actor_id.hex() == actor._ray_actor_id.hex()
    other_task = ray.get(actor.ids.remote())[1]
    assert task != other_task and len(task) == 32
    assert worker != context().get_worker_id()


def test_names():
    actor = Actor.options(name="known").remote()
    name, task, function = ray.get(actor.names.remote())
    assert (name, task, function) == ("known", "Actor.names", f"{__name__}.Actor.names")
    _, task, function = ray.get(actor.names.options(name="mine").remote())
    assert (task, function) == ("mine", f"{__name__}.Actor.names")
    assert ray.get(Actor.remote().names.remote())[0] == ""


def test_constructor():
    actor = Actor.remote()
    assert ray.get(actor.of_the_constructor.remote()) == (
        actor._actor_id.hex(),
        "Actor.__init__",
    )


def test_job_and_namespace():
    actor = Actor.remote()
    assert ray.get(actor.namespace.remote()) == context().namespace
    assert ray.get(actor.job.remote()) == context().get_job_id()


def test_current_actor():
    actor = Actor.remote()
    assert ray.get(actor.me.remote()) == actor


@pytest.mark.parametrize(
    ("options", "held"),
    [
        ({}, {}),
        ({"num_cpus": 1}, {"CPU": 1.0}),
        ({"num_cpus": 0.5}, {"CPU": 0.5}),
        ({"num_cpus": 0, "resources": {"Half": 0.25}}, {"Half": 0.25}),
        ({"num_gpus": 1}, {"CPU": 1.0, "GPU": 1.0}),
    ],
)
def test_assigned_resources(options, held):
    actor = Actor.options(**options).remote()
    assert ray.get(actor.resources.remote()) == held


def test_gpus(monkeypatch):
    actor = Actor.options(num_gpus=2, num_cpus=0).remote()
    for _ in range(2):
        ids, numbers, visible = ray.get(actor.gpus.remote())
        assert ids == ["0", "1"] and numbers == [0, 1] and visible == "0,1"


def test_threads_of_the_actor():
    actor = Actor.remote()
    found, me, pid = ray.get(actor.in_thread.remote())
    assert found == actor._actor_id.hex() and me == actor and pid != os.getpid()


@pytest.mark.parametrize("options", [{"max_concurrency": 4}, {"concurrency_groups": {"io": 2}}])
def test_actors_with_threads(options):
    Threaded = ray.remote(**options)(Actor.__ray_actor_class__)
    actor = Threaded.remote()
    found = ray.get([actor.ids.remote() for _ in range(20)])
    assert {own for own, _, _ in found} == {actor._actor_id.hex()}
    assert len({task for _, task, _ in found}) == 20
    assert ray.get(actor.me.remote()) == actor
    assert ray.get(actor.names.remote())[1] == "Actor.names"


def test_async_actors():
    actor = Async.options(num_cpus=1).remote()
    found = ray.get([actor.ids.remote() for _ in range(20)])
    assert {own for own, _, _ in found} == {actor._actor_id.hex()}
    assert len({task for _, task, _ in found}) == 20
    assert {name for _, _, name in found} == {"Async.ids"}
    assert ray.get(actor.me.remote()) == actor
    assert ray.get(actor.resources.remote()) == {"CPU": 1.0}


def test_restarted():
    actor = Actor.options(max_restarts=-1, max_task_retries=-1).remote()
    assert ray.get(actor.restarted.remote()) is False
    ray.kill(actor, no_restart=False)
    assert ray.get(actor.restarted.remote()) is True
    assert ray.get(actor.me.remote()) == actor


def test_tasks_of_an_actor_are_no_actors():
    @ray.remote
    def inner():
        return context().get_actor_id(), context().get_actor_name()

    @ray.remote
    class Outer:
        def f(self):
            return ray.get(inner.remote())

    assert ray.get(Outer.remote().f.remote()) == (None, None)


def test_elsewhere():
    found = context()
    assert found.get_actor_id() is None and found.get_actor_name() is None
    with pytest.raises(RuntimeError, match="only available in an actor"):
        found.current_actor
    with pytest.raises(AssertionError):
        found.was_current_actor_reconstructed

    @ray.remote
    def task():
        try:
            context().current_actor
        except RuntimeError:
            return context().get_actor_id()

    assert ray.get(task.remote()) is None
