"""How full memory is, read from files that the tests write."""

import os

import pytest

from pyray.runtime.memory import LONGEST, SHORTEST, Memory, Usage

GB = 1 << 30


@pytest.fixture
def system(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    write("proc/meminfo", f"MemTotal: {16 * GB // 1024} kB\nMemAvailable: {12 * GB // 1024} kB\n")
    write("proc/self/cgroup", "0::/a/b\n")
    write("proc/vmstat", "nr_free 1\noom_kill 3\n")
    write("proc/11/status", "Name: x\nRssAnon:\t 2048 kB\n")
    write("proc/12/status", "Name: y\nRssAnon:\t 4096 kB\n")
    return write, lambda: Memory(str(tmp_path / "proc"), str(tmp_path / "cgroup"))


def test_the_machine(system):
    _, memory = system
    assert memory().usage() == Usage(4 * GB, 16 * GB)
    assert memory().kills() == 3


def test_the_nearest_limit_of_the_control_groups(system):
    write, memory = system
    write("cgroup/a/memory.max", f"{2 * GB}\n")
    write("cgroup/a/memory.current", f"{GB + 100}\n")
    write("cgroup/a/memory.stat", "anon 5\ninactive_file 100\n")
    write("cgroup/a/b/memory.max", "max\n")
    assert memory().usage() == Usage(GB, 2 * GB)


def test_version_1(system):
    write, memory = system
    write("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/x\n")
    write("cgroup/memory/x/memory.limit_in_bytes", f"{GB}\n")
    write("cgroup/memory/x/memory.usage_in_bytes", f"{GB // 2}\n")
    write("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert memory().usage() == Usage(GB // 2, GB)


def test_the_largest_process(system):
    _, memory = system
    assert memory().largest([11, 12, 13]) == (12, 4096 * 1024)
    assert memory().largest([]) == (0, 0)


def test_the_fuller_the_sooner_it_is_looked_at_again():
    assert Usage(0, 64 * GB).pause(0.95) == LONGEST
    assert Usage(64 * GB, 64 * GB).pause(0.95) == SHORTEST
    assert SHORTEST < Usage(60 * GB, 64 * GB).pause(0.95) < LONGEST


def test_this_machine():
    usage = Memory().usage()
    assert 0 < usage.used < usage.limit
    assert Memory().private_bytes(os.getpid()) > 0
