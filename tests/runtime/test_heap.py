"""Memory that tasks have freed: a worker keeps it while it is busy, no longer."""

import ctypes
import mmap

import pytest
from drivers import driver
from gates import until

SIZE = 64 << 20

pytestmark = pytest.mark.skipif(
    hasattr(ctypes.CDLL(None), "__asan_init"), reason="a sanitizer's malloc keeps what it likes"
)

PROGRAM = """
    ray.init(num_cpus=1)

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1])

    def use(size):
        before = resident()
        data = b"x" * size
        del data
        return os.getpid(), before, resident()

    class Actor:
        use = staticmethod(use)

    remote = ray.remote(Actor).remote().use if os.environ["OF_TEST"] == "actor" else ray.remote(use)
    tell(ray.get(remote.remote(int(os.environ["SIZE"]))))
    hear()
"""


def pages(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1])


def used(of: str, **env: str):
    return driver(PROGRAM, {"OF_TEST": of, "SIZE": str(SIZE), **env})


@pytest.mark.parametrize("of", ["task", "actor"])
def test_it_is_kept_for_the_next_task_and_given_back_when_there_is_none(of):
    with used(of) as session:
        pid, before, after = session.told()
        assert after - before > SIZE // mmap.PAGESIZE * 0.9
        until(lambda: pages(pid) - before < SIZE // mmap.PAGESIZE / 2)


def test_who_has_settings_for_malloc_gets_them():
    with used("task", MALLOC_TRIM_THRESHOLD_="131072") as session:
        _, before, after = session.told()
        assert after - before < SIZE // mmap.PAGESIZE / 2
