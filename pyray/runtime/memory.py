"""How full the machine's memory is, and which process fills it.

Imports nothing else of pyray. Reads /proc and the control group's files, of version 1 or 2; both
roots can be given, for the tests. Nothing is written, so a crash leaves nothing.
"""

from __future__ import annotations

from typing import NamedTuple

#: Bytes a second at which memory can be filled at most, about: how often to look follows from it.
FASTEST = 4e9
#: Seconds between two looks.
SHORTEST, LONGEST = 0.05, 5.0


class Usage(NamedTuple):
    """Bytes in use, and how many there may be."""

    used: int
    limit: int

    def pause(self, threshold: float) -> float:
        """How long the threshold cannot be reached, about; bounded."""
        room = self.limit * threshold - self.used
        return min(max(room / FASTEST, SHORTEST), LONGEST)


class Memory:
    """The machine's memory, or the part of it that the control group allows."""

    def __init__(self, proc: str = "/proc", cgroup: str = "/sys/fs/cgroup") -> None:
        self.proc = proc
        self.groups = _limited_groups(proc, cgroup)

    def usage(self) -> Usage:
        """Of whichever limit is nearest."""
        fields = _fields(f"{self.proc}/meminfo")
        total = fields.get("MemTotal:", 0) * 1024
        nearest = Usage(total - fields.get("MemAvailable:", 0) * 1024, total)
        for group in self.groups:
            found = group.usage()
            if found and found.limit - found.used < nearest.limit - nearest.used:
                nearest = found
        return nearest

    def private_bytes(self, pid: int) -> int:
        """What would be free if this process ended; 0 if there is no such process."""
        return _fields(f"{self.proc}/{pid}/status").get("RssAnon:", 0) * 1024

    def largest(self, pids: list[int]) -> tuple[int, int]:
        """The pid that holds most, and how much; (0, 0) of none."""
        sizes = [(self.private_bytes(pid), pid) for pid in pids]
        size, pid = max(sizes, default=(0, 0))
        return pid, size

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
        with open(path) as file:
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
