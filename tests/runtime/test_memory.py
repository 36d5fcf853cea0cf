"""How full memory is, read from files that the tests write."""

import os

import pytest

from pyray.runtime.memory import LONGEST, Memory, Process, Usage

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
    write("proc/11/status", "Name: x\nNSpgid:\t11\t1\nRssAnon:\t 2048 kB\n")
    write("proc/11/cmdline", "/usr/bin/x\0--all\0")
    write("proc/12/status", "Name: y\nNSpgid:\t11\t1\nRssAnon:\t 4096 kB\n")
    write("proc/12/comm", "y\n")
    write("proc/13/status", "Name: z\nRssAnon:\t 1024 kB\n")
    write("proc/14/status", "Name: kernel\n")
    return write, lambda: Memory(str(tmp_path / "proc"), str(tmp_path / "cgroup"))


def test_the_machine(system):
    _, memory = system
    assert memory().usage() == Usage(4 * GB, 16 * GB)
    assert memory().total() == 16 * GB
    assert memory().kills() == 3


def test_the_nearest_limit_of_the_control_groups(system):
    write, memory = system
    write("cgroup/a/memory.max", f"{2 * GB}\n")
    write("cgroup/a/memory.current", f"{GB + 100}\n")
    write("cgroup/a/memory.stat", "anon 5\ninactive_file 100\n")
    write("cgroup/a/b/memory.max", "max\n")
    assert memory().usage() == Usage(GB, 2 * GB)
    assert memory().total() == 2 * GB


def test_where_control_groups_are_mounted(system, tmp_path, monkeypatch):
    write, _ = system
    write("elsewhere/memory.max", f"{GB}\n")
    write("elsewhere/memory.current", f"{GB // 2}\n")
    monkeypatch.setenv("PYRAY_CGROUP_ROOT", str(tmp_path / "elsewhere"))
    assert Memory(str(tmp_path / "proc")).usage() == Usage(GB // 2, GB)


def test_version_1(system):
    write, memory = system
    write("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/x\n")
    write("cgroup/memory/x/memory.limit_in_bytes", f"{GB}\n")
    write("cgroup/memory/x/memory.usage_in_bytes", f"{GB // 2}\n")
    write("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert memory().usage() == Usage(GB // 2, GB)


def test_processes(system):
    _, memory = system
    assert sorted(memory().processes()) == [
        Process(11, 11, 2048 * 1024),
        Process(12, 11, 4096 * 1024),
        Process(13, 13, 1024 * 1024),
    ]


def test_commands(system):
    _, memory = system
    assert [memory().command(pid) for pid in (11, 12, 15)] == ["/usr/bin/x --all", "y", ""]


def test_the_fuller_the_sooner_it_is_looked_at_again():
    assert Usage(0, 64 * GB).pause(60 * GB, 0.05) == LONGEST
    assert Usage(64 * GB, 64 * GB).pause(60 * GB, 0.05) == 0.05
    assert 0.05 < Usage(58 * GB, 64 * GB).pause(60 * GB, 0.05) < LONGEST
    assert Usage(0, 64 * GB).pause(60 * GB, 10) == 10


def test_this_machine():
    usage = Memory().usage()
    assert 0 < usage.used < usage.limit
    (own,) = (one for one in Memory().processes() if one.pid == os.getpid())
    assert own.group == os.getpgrp() and own.size > 0
    assert "python" in Memory().command(os.getpid())
