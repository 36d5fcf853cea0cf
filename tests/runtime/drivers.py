"""Drivers in processes of their own, and the processes of their sessions."""

from __future__ import annotations

import os
import select
import signal
from contextlib import closing

from programs import DEADLINE, Program


class Driver(Program):
    """A program that uses a session."""

    prelude = """
import time
import pyray as ray
from pyray.runtime import session


def processes():
    "Everything the system must end with the session."
    running = session.current()
    return dict(
        node=running.node_pid,
        workers=[p["pid"] for p in running.core.processes() if p["kind"] == "worker"],
        directory=running.directory,
    )
"""

    def wait_until_it_sleeps(self) -> None:
        """Until its main thread waits for something."""
        while self._state() != "S":
            assert self.process.poll() is None

    def _state(self) -> str:
        with open(f"/proc/{self.pid}/task/{self.pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.send(number)


def driver(program: str, env: dict[str, str] | None = None, **options) -> closing[Driver]:
    return closing(Driver(program, env, **options))


def run(program: str, env: dict[str, str] | None = None, status: int | None = 0, **options):
    """stdout and stderr of a program that runs to its end."""
    with driver(program, env, **options) as running:
        return running.end(status)


class Watch:
    """Whether processes have ended; made while they run, so that no other can be meant."""

    def __init__(self, pids: list[int]) -> None:
        self.fds = [os.pidfd_open(pid) for pid in pids]

    def ended(self, but: int = 0) -> bool:
        """Waits until all of them have, or all but so many."""
        poll = select.poll()
        for fd in self.fds:
            poll.register(fd, select.POLLIN)
        while len(self.fds) > but:
            ready = poll.poll(DEADLINE * 1000)
            if not ready:
                return False
            for fd, _ in ready:
                poll.unregister(fd)
                self.fds.remove(fd)
                os.close(fd)
        return True
