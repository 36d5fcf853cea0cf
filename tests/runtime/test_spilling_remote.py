"""Spilling to a server that speaks S3: slow, failing, silent, gone, and back."""

from __future__ import annotations

import gc
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import gates
import numpy as np
import pytest
import s3

import pyray as ray
from pyray.exceptions import GetTimeoutError, ObjectLostError, ObjectStoreFullError
from pyray.runtime import session

MB = 1 << 20
STORE = 16 * MB  # so that its files have several parts (spill_targets.PART)
SIZE = 3 * MB // 2
RARER = [pytest.param(trouble, marks=pytest.mark.slow) for trouble in ("fail", "refuse")]


@pytest.fixture(scope="module")
def one_server():
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.server")
    server = s3.Server()
    yield server
    server.resume()
    server.close()


@pytest.fixture
def server(no_session, one_server, monkeypatch):
    """One that serves, with nothing in it; where it is and who asks is in the environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", one_server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    yield one_server
    one_server.resume()
    one_server.serve()
    ray.shutdown()
    assert one_server.keys() == []
    assert one_server.uploads() == []


def start(monkeypatch, timeout: float = 60) -> None:
    monkeypatch.setenv("PYRAY_object_store_full_timeout_s", str(timeout))
    ray.init(
        num_cpus=1,
        object_store_memory=STORE,
        object_spilling="s3://objects/some/prefix",
        log_to_driver=False,
    )


def array(number: int, size: int = SIZE) -> np.ndarray:
    return np.full(size // 8, number, dtype=np.int64)


def put_many(numbers) -> list[ray.ObjectRef]:
    return [ray.put(array(i)) for i in numbers]


def holds(ref: ray.ObjectRef, number: int) -> bool:
    return bool((ray.get(ref) == number).all())


def stats() -> dict[str, int]:
    return session.current().core.stats()


def fill(refs: list[ray.ObjectRef]) -> float:
    """Put until that is refused, which must name the cause; how long the last put took."""
    for _ in range(100):
        began = time.monotonic()
        try:
            refs.append(ray.put(array(len(refs))))
        except ObjectStoreFullError as error:
            assert "could not be written to files: " in str(error)
            return time.monotonic() - began
    raise AssertionError("nothing was refused")


def away(refs: list[ray.ObjectRef]) -> list[int]:
    """Which of them cannot be read now: no other error comes, and no wrong value."""

    def look(number: int) -> bool:
        try:
            assert holds(refs[number], number)
            return False
        except ObjectLostError as error:
            assert "could not be read back: " in str(error)
            assert "no room" not in str(error)
            return True

    with ThreadPoolExecutor(len(refs)) as pool:  # each waits for as long as it may
        return [i for i, lost in enumerate(pool.map(look, range(len(refs)))) if lost]


def test_five_times_the_store(server, monkeypatch):
    start(monkeypatch)
    refs = put_many(range(50))
    name = os.path.basename(session.current().directory)
    keys = server.keys()
    assert keys and all(key.startswith(f"some/prefix/{name}/") for key in keys)
    assert all(holds(ref, i) for i, ref in enumerate(refs))
    assert all(holds(refs[i], i) for i in reversed(range(50)))
    assert stats()["restored_objects"] > 40
    del refs
    gc.collect()
    gates.until(lambda: server.keys() == [])


def test_small_objects_come_back_all_at_once(server, monkeypatch):
    start(monkeypatch)
    refs = [ray.put(bytes([i % 256]) * 200_000) for i in range(150)]
    assert len(server.keys()) < 20
    for first in range(0, 150, 50):
        values = ray.get(refs[first : first + 50])
        assert [(len(v), v[0]) for v in values] == [
            (200_000, i % 256) for i in range(first, first + 50)
        ]


def test_several_are_asked_for_at_a_time(server, monkeypatch):
    start(monkeypatch)

    @ray.remote
    def add(*arrays):
        return sum(int(a[0]) for a in arrays)

    refs = [ray.put(array(i, SIZE // 4)) for i in range(120)]
    server.meet()
    assert [int(a[-1]) for a in ray.get(refs[: s3.TOGETHER])] == [0, 1, 2]
    server.meet()
    assert ray.get(add.remote(*refs[10 : 10 + s3.TOGETHER])) == 10 + 11 + 12


def test_a_get_ends_in_time_though_the_storage_is_silent(server, monkeypatch):
    start(monkeypatch)
    refs = put_many(range(25))
    server.stop()
    for asked in (refs[0], refs[1:4]):
        with pytest.raises(GetTimeoutError):
            ray.get(asked, timeout=0.1)
    with pytest.raises(GetTimeoutError):
        ray.get(refs[5], timeout=0)
    server.resume()
    assert (ray.get(refs[0], timeout=60) == 0).all()
    assert all(holds(ref, i) for i, ref in enumerate(refs))


def test_many_threads_get(server, monkeypatch):
    start(monkeypatch)
    refs = put_many(range(40))
    right = []

    def work(own):
        right.append(all(holds(refs[i], i) for i in own))

    threads = [threading.Thread(target=work, args=(range(n, 40, 4),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 4


def test_tasks_read_and_make(server, monkeypatch):
    start(monkeypatch)

    @ray.remote
    def double(a):
        return a * 2

    results = [double.remote(ref) for ref in put_many(range(30))]
    assert all(holds(ref, 2 * i) for i, ref in enumerate(results))


def test_objects_go_with_the_session(server, monkeypatch):
    start(monkeypatch)
    refs = put_many(range(30))
    assert server.keys()
    ray.shutdown()
    assert server.keys() == []
    del refs


def test_slow(server, monkeypatch):
    server.delay()
    start(monkeypatch)
    refs = put_many(range(25))
    assert all(holds(ref, i) for i, ref in enumerate(refs))


@pytest.mark.parametrize("trouble", [*RARER, "stop"])
def test_trouble_that_passes_is_waited_for(server, monkeypatch, trouble):
    start(monkeypatch)
    refs = put_many(range(20))
    getattr(server, trouble)()
    results: list[ray.ObjectRef] = []
    thread = threading.Thread(target=lambda: results.extend(put_many(range(20, 40))))
    thread.start()
    gates.until(lambda: stats()["waiting_for_room"])
    server.resume()
    server.serve()
    thread.join()
    assert all(holds(ref, i) for i, ref in enumerate(refs + results))


@pytest.mark.parametrize("trouble", [*RARER, "stop"])
def test_trouble_that_stays_is_told_and_nothing_in_memory_is_lost(server, monkeypatch, trouble):
    start(monkeypatch, timeout=2)
    refs = put_many(range(20))
    getattr(server, trouble)()
    assert fill(refs) < 20
    found = away(refs)
    assert found and len(refs) - len(found) >= STORE // SIZE // 2
    server.resume()
    server.serve()
    for i in range(len(refs), 40):
        gates.until(lambda i=i: can_put(refs, i))
    assert away(refs) == []


def can_put(refs: list[ray.ObjectRef], number: int) -> bool:
    """Whether it takes it, after trouble: it is tried again later and later."""
    try:
        refs.append(ray.put(array(number)))
    except ObjectStoreFullError:
        return False
    return True


def test_a_bucket_that_is_not_there(server, monkeypatch):
    with pytest.raises(ValueError, match="object_spilling='s3://object/x'.*does not exist"):
        ray.init(object_spilling="s3://object/x")
    assert not ray.is_initialized()
    assert server.buckets().count("object") == 0
