"""The actors' workloads of the runtime benchmark, of pyray and of Ray: the same code for both.

Imported by runtime_ray.py.  Names and workloads are those of `ray microbenchmark` where it has
them: its `n_cpu` is half of the cores, its clients and servers are actors.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from runtime_measure import Run, clock
from runtime_servers import AsyncServer, Server

PAIRS = max(1, (os.cpu_count() or 2) // 2)
TASKS = 4  # that call the actors, of "n:n"


def servers(ray: Any, cls: type, count: int = PAIRS, **options: Any) -> list[Any]:
    """So many actors, each of which has answered."""
    actor = ray.remote(cls)
    if options:
        actor = actor.options(**options)
    made = [actor.remote() for _ in range(count)]
    ray.get([server.small_value.remote() for server in made])
    return made


def client_class(ray: Any) -> Any:
    @ray.remote
    class Client:
        def __init__(self, servers: list[Any]) -> None:
            self.servers = servers

        def small_value(self) -> bytes:
            return b"ok"

        def batch(self, count: int) -> None:
            calls = []
            for server in self.servers:
                calls += [server.small_value.remote() for _ in range(count)]
            ray.get(calls)

        def batch_arg(self, count: int) -> None:
            value = ray.put(0)
            calls = []
            for server in self.servers:
                calls += [server.small_value_arg.remote(value) for _ in range(count)]
            ray.get(calls)

    return Client


def sync(ray: Any, run: Run, cls: type) -> dict:
    [server] = servers(ray, cls, 1)
    return run.rate(lambda: ray.get(server.small_value.remote()))


def one_to_one(ray: Any, run: Run, cls: type, **options: Any) -> dict:
    [server] = servers(ray, cls, 1, **options)
    return run.rate(lambda: ray.get([server.small_value.remote() for _ in range(1000)]), 1000)


def one_to_n(ray: Any, run: Run, cls: type) -> dict:
    client = client_class(ray).remote(servers(ray, cls))
    count = run.size(5000, 1000)
    return run.rate(lambda: ray.get(client.batch.remote(count)), count * PAIRS)


def n_to_n(ray: Any, run: Run, cls: type) -> dict:
    made = servers(ray, cls)
    count = run.size(5000, 1000)

    @ray.remote
    def work(actors: list[Any]) -> None:
        ray.get([actors[i % len(actors)].small_value.remote() for i in range(count)])

    return run.rate(lambda: ray.get([work.remote(made) for _ in range(TASKS)]), count * TASKS)


def actor_sync(ray: Any, run: Run) -> dict:
    return sync(ray, run, Server)


def actor_async(ray: Any, run: Run) -> dict:
    return one_to_one(ray, run, Server)


def actor_concurrent(ray: Any, run: Run) -> dict:
    return one_to_one(ray, run, Server, max_concurrency=16)


def actor_one_to_n(ray: Any, run: Run) -> dict:
    return one_to_n(ray, run, Server)


def actor_n_to_n(ray: Any, run: Run) -> dict:
    return n_to_n(ray, run, Server)


def actor_n_to_n_arg(ray: Any, run: Run) -> dict:
    made = servers(ray, Server)
    clients = [client_class(ray).remote([server]) for server in made]
    count = run.size(1000, 200)
    return run.rate(
        lambda: ray.get([client.batch_arg.remote(count) for client in clients]),
        count * len(clients),
    )


def async_actor_sync(ray: Any, run: Run) -> dict:
    return sync(ray, run, AsyncServer)


def async_actor_async(ray: Any, run: Run) -> dict:
    return one_to_one(ray, run, AsyncServer)


def async_actor_args(ray: Any, run: Run) -> dict:
    [server] = servers(ray, AsyncServer, 1)
    return run.rate(
        lambda: ray.get([server.small_value_with_arg.remote(i) for i in range(1000)]), 1000
    )


def async_actor_one_to_n(ray: Any, run: Run) -> dict:
    return one_to_n(ray, run, AsyncServer)


def async_actor_n_to_n(ray: Any, run: Run) -> dict:
    return n_to_n(ray, run, AsyncServer)


def actors_made(ray: Any, run: Run) -> dict:
    actor = ray.remote(Server)
    count = run.size(20, 5) if ray.__name__ == "pyray" else 3

    def make() -> None:
        ray.get([actor.remote().small_value.remote() for _ in range(count)])

    return run.rate(make, count)


def actor_array(ray: Any, run: Run) -> dict:
    """Microseconds of a call with an array of 100 MB by reference, beside one with an int."""
    import numpy as np

    [server] = servers(ray, Server, 1)
    array, number = ray.put(np.ones(100_000_000, np.uint8)), ray.put(b"")

    def calls(value: Any) -> Any:
        return lambda: ray.get([server.length.remote(value) for _ in range(1000)])

    return run.time(calls(array), 1e6 / 1000, limit=calls(number))


def latency(ray: Any, run: Run) -> None:
    """The time of a call and its result that one in 2, 100 and 1,000 calls exceeds."""
    [server] = servers(ray, Server, 1)
    call, get, times = server.small_value.remote, ray.get, []
    run.warm(lambda: get(call()))
    end = clock() + run.settings.budget
    for _ in range(run.size(100_000, 5_000)):
        start = clock()
        get(call())
        times.append(clock() - start)
        if times[-1] + start > end and len(times) > 2000:
            break
    times.sort()
    for one_in in (2, 100, 1000):
        run.point(one_in, {"value": 1 / times[-(len(times) // one_in)]}, 0)


def latency_busy(ray: Any, run: Run) -> None:
    """The same while another process wants a core for itself."""
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        latency(ray, run)
    finally:
        busy.kill()
        busy.wait()


ROWS = {
    "actor-sync": actor_sync,
    "actor-async": actor_async,
    "actor-concurrent": actor_concurrent,
    "actor-1-n": actor_one_to_n,
    "actor-n-n": actor_n_to_n,
    "actor-n-n-arg": actor_n_to_n_arg,
    "async-actor-sync": async_actor_sync,
    "async-actor-async": async_actor_async,
    "async-actor-args": async_actor_args,
    "async-actor-1-n": async_actor_one_to_n,
    "async-actor-n-n": async_actor_n_to_n,
    "actors-made": actors_made,
    "actor-array": actor_array,
}
CURVES = {"latency": latency, "latency-busy": latency_busy}
