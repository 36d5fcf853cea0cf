"""Drivers in processes of their own, and the processes of their sessions."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import textwrap
from contextlib import contextmanager

#: Seconds after which a test gives up. Nothing takes nearly as long.
DEADLINE = 60

#: Before the program of each driver.
PRELUDE = """
import json, os, signal, sys, threading, time
import pyray as ray
from pyray.runtime import session

# A shell starts what runs in its background with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

def tell(**values):
    "Give values to the test."
    os.write({tell}, json.dumps(values).encode() + b"\\n")

def hear():
    "Wait until the test says so."
    return os.read({hear}, 1)

def processes():
    "Everything the system must end with the session."
    running = session.current()
    return dict(
        node=running.node_pid,
        workers=[p["pid"] for p in running.core.processes() if p["kind"] == "worker"],
        directory=running.directory,
    )
"""


class Driver:
    """A program that uses a session, which the test talks to through pipes."""

    def __init__(self, program: str, env: dict[str, str] | None = None, **options) -> None:
        self.answers, tell = os.pipe()
        hear, self.orders = os.pipe()
        code = PRELUDE.format(tell=tell, hear=hear) + textwrap.dedent(program)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            pass_fds=(tell, hear),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
            **options,
        )
        os.close(tell)
        os.close(hear)
        self._reader = open(self.answers, "rb", buffering=0)

    def told(self) -> dict:
        """The next values that the program gives."""
        ready, _, _ = select.select([self.answers], [], [], DEADLINE)
        assert ready, "the driver says nothing"
        line = self._reader.readline()
        assert line, f"the driver has ended: {self.process.communicate()[1]}"
        return json.loads(line)

    def go_on(self) -> None:
        os.write(self.orders, b"x")

    def wait_until_it_sleeps(self) -> None:
        """Until its main thread waits for something."""
        while self._state() != "S":
            assert self.process.poll() is None

    def _state(self) -> str:
        pid = self.process.pid
        with open(f"/proc/{pid}/task/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)

    def end(self, status: int | None = 0) -> tuple[str, str]:
        """What it has printed, once it has ended with that status (None: any)."""
        out, err = self.process.communicate(timeout=DEADLINE)
        assert status is None or self.process.returncode == status, err
        return out, err

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        self._reader.close()
        os.close(self.orders)


@contextmanager
def driver(program: str, env: dict[str, str] | None = None, **options):
    running = Driver(program, env, **options)
    try:
        yield running
    finally:
        running.close()


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
