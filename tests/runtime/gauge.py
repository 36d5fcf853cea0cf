"""A control group whose memory is as full as a test says: a folder in place of /sys/fs/cgroup.

How much is in use stands in a named pipe: whoever looks waits for the answer of a thread here. So
what the node sees is what the test says at that moment, and nobody sleeps. Each look has a pipe of
its own: before one is answered the next one takes its name.
"""

from __future__ import annotations

import os
import threading

#: Bytes that there may be, and what is in use when it is full, or nearly empty.
LIMIT, FULL, EMPTY = 10**9, 990 * 10**6, 10**8


class Gauge:
    """How full the memory is; `stop` ends it, when nobody will look any more."""

    def __init__(self, folder) -> None:
        self.folder = os.path.join(folder, "cgroup")
        files = ("memory.max", "memory.current")
        here = self.folder
        if not _unified():
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes")
            here = os.path.join(here, "memory")
        os.makedirs(here)
        with open(os.path.join(here, files[0]), "w") as file:
            file.write(f"{LIMIT}\n")
        self.path = os.path.join(here, files[1])
        self._renew()
        self.watched: list[int] = []
        self.full = False
        self.asked = 0
        self.stopped = False
        self.thread = threading.Thread(target=self._answer)
        self.thread.start()

    def fill_until_one_dies(self, *pids: int) -> None:
        """The memory is full until one of these processes is gone."""
        self.watched = list(pids)
        self.full = True

    def stop(self) -> None:
        self.stopped = True
        os.close(os.open(self.path, os.O_RDONLY))
        self.thread.join()

    def _used(self) -> int:
        if self.full and self.watched and not all(map(lives, self.watched)):
            self.full = False
        return FULL if self.full else EMPTY

    def _answer(self) -> None:
        while True:
            with open(self.path, "w") as pipe:
                if self.stopped:
                    return
                self._renew()
                self.asked += 1
                pipe.write(f"{self._used()}\n")

    def _renew(self) -> None:
        new = f"{self.path}.new"
        os.mkfifo(new)
        os.rename(new, self.path)


def _unified() -> bool:
    with open("/proc/self/cgroup") as file:
        return any(line.startswith("0::") for line in file)


def lives(pid: int) -> bool:
    """Whether that process runs; one that is not reaped yet does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
