"""How full the machine's memory is, and which processes fill it.

Imports settings. Reads /proc and the control group's files, of version 1 or 2; both
roots can be given. Nothing is written, so a crash leaves nothing.

What counts as used is what the system cannot take back: anonymous memory, and the pages of shared
memory, those of the object store among them. What a process holds is its anonymous memory alone:
that is what would be free without it, while objects stay.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from .settings import setting

#: Bytes a second at which memory can be filled at most, about: how often to look follows from it.
FASTEST = 4e9
#: Seconds between two looks at most.
LONGEST = 5.0


class Usage(NamedTuple):
    """Bytes in use, and how many there may be."""

    used: int
    limit: int

    def pause(self, full: float, shortest: float) -> float:
        """Seconds for which no more than `full` bytes can be in use, about; bounded."""
        return max(min((full - self.used) / FASTEST, LONGEST), shortest)


class Process(NamedTuple):
    """One of the system's, and the anonymous memory that it holds, in bytes."""

    pid: int
    group: int
    size: int


class Memory:
    """The machine's memory, or the part of it that the control group allows."""

    def __init__(self, proc: str = "/proc", cgroup: str | None = None) -> None:
        self.proc = proc
        self.groups = _limited_groups(proc, cgroup or setting("CGROUP_ROOT", "/sys/fs/cgroup"))

    def total(self) -> int:
        """The lowest of the limits."""
        return min([self._machine().limit, *(group.limit for group in self.groups)])

    def _machine(self) -> Usage:
        fields = _fields(f"{self.proc}/meminfo")
        total = fields.get("MemTotal:", 0) * 1024
        return Usage(total - fields.get("MemAvailable:", 0) * 1024, total)

    def usage(self) -> Usage:
        """Of whichever limit is nearest."""
        nearest = self._machine()
        for group in self.groups:
            found = group.usage()
            if found and found.limit - found.used < nearest.limit - nearest.used:
                nearest = found
        return nearest

    def processes(self) -> list[Process]:
        """All that can be seen; those without memory of their own, of the kernel, are left out."""
        found = []
        for name in os.listdir(self.proc):
            if name.isdigit():
                fields = _fields(f"{self.proc}/{name}/status")
                size = fields.get("RssAnon:", 0) * 1024
                if size:
                    group = fields.get("NSpgid:", int(name))
                    found.append(Process(int(name), group, size))
        return found

    def command(self, pid: int) -> str:
        """What that process was started as; the name that it has if nothing is known of that."""
        line = " ".join(_lines(f"{self.proc}/{pid}/cmdline")).replace("\0", " ").strip()
        return line or " ".join(_lines(f"{self.proc}/{pid}/comm"))

    def kills(self) -> int:
        """How often the system has ended a process because memory was full."""
        return _fields(f"{self.proc}/vmstat").get("oom_kill", 0)


class _Group:
    def __init__(self, limit: int, current: str, statistics: str, inactive: str) -> None:
        self.limit = limit
        self.current = current
        self.statistics = statistics
        self.inactive = inactive

    def usage(self) -> Usage | None:
        current = _number(self.current)
        if current is None:
            return None
        # Cached pages of files that nobody uses go when memory is wanted.
        return Usage(current - _fields(self.statistics).get(self.inactive, 0), self.limit)


def _limited_groups(proc: str, cgroup: str) -> list[_Group]:
    """The control groups of this process that have a limit."""
    groups = []
    for line in _lines(f"{proc}/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, files = cgroup, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = f"{cgroup}/memory"
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        path = path.rstrip("/")
        while True:
            folder = root + path
            limit = _number(f"{folder}/{files[0]}")
            if limit is not None and limit < 1 << 60:
                statistics = f"{folder}/memory.stat"
                groups.append(_Group(limit, f"{folder}/{files[1]}", statistics, files[2]))
            if not path:
                break
            path = path.rpartition("/")[0]
    return groups


def _lines(path: str) -> list[str]:
    try:
        with open(path, errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []


def _fields(path: str) -> dict[str, int]:
    """Files of lines `name number …`."""
    fields = {}
    for line in _lines(path):
        parts = line.split()
        if len(parts) >= 2 and parts[1].isdigit():
            fields[parts[0]] = int(parts[1])
    return fields


def _number(path: str) -> int | None:
    """A file of one number; None if it is missing or says `max`."""
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].isdigit() else None
