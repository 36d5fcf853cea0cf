"""What the programs of this folder share: who kills, and what a session has in use at rest."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from typing import Any

import pyray as ray

#: Seconds in which all must come to rest, and a result must come; a failure takes that long.
DEADLINE = 120


def get(refs: Any) -> Any:
    return ray.get(refs, timeout=DEADLINE)


class Killer(threading.Thread):
    """Kills a worker now and then until it has done so often enough, or is stopped."""

    def __init__(self, core: Any, kills: int, pause: float, seed: int) -> None:
        super().__init__(daemon=True)
        self.core, self.kills, self.pause = core, kills, pause
        self.random = random.Random(seed)
        self.done = 0
        self.killed: set[int] = set()
        self.enough = threading.Event()

    def run(self) -> None:
        while not self.enough.wait(self.random.random() * self.pause):
            workers = {p["pid"] for p in self.core.processes() if p["kind"] == "worker"}
            self.killed &= workers  # those that are not buried yet: numbers are used again
            if workers == self.killed:
                continue
            pid = self.random.choice(sorted(workers - self.killed))
            self.killed.add(pid)
            self.done += kill(pid)
            if self.done == self.kills:
                self.enough.set()


def in_use(core: Any) -> dict[str, Any]:
    core.sweep()  # functions that were published by those that died
    stats = core.stats()
    return {
        "bytes": stats["used"],
        "blocks": stats["blocks"],
        "objects": stats["objects"],
        "resources": core.available_resources(),
    }


def at_rest(core: Any) -> dict[str, Any]:
    """What is in use when nothing runs, and no worker keeps what it has learnt."""
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        workers = [p for p in core.processes() if p["kind"] == "worker"]
        if any(p["state"] != "idle" for p in workers):
            os.sched_yield()
            continue
        known = [p["pid"] for p in workers if p["finished"]]
        if not known and core.available_resources() == core.total_resources():
            return in_use(core)
        for pid in known:
            kill(pid)
    raise TimeoutError(f"the session does not come to rest: {core.processes()} {in_use(core)}")


def kill(pid: int) -> bool:
    assert pid > 0  # others are groups of processes
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False  # it has left by itself just now
    return True
