"""Other processes that use a store: programs of their own, not forks of the test."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import contextmanager

#: Seconds after which a test gives up. Nothing takes nearly as long.
DEADLINE = 60

#: Before each program.
PRELUDE = """
import ctypes, json, os, signal, sys, threading
import numpy as np
from pyray.store import *

def tell(value):
    "Give a value to the test."
    os.write({tell}, json.dumps(value).encode() + b"\\n")

def hear():
    "Wait until the test says so."
    return os.read({hear}, 1)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def key(number):
    return ObjectID(number.to_bytes(20, "big"))
"""


class Peer:
    """A program that the test talks to through pipes."""

    def __init__(self, program: str, **options) -> None:
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
            **options,
        )
        os.close(tell)
        os.close(hear)
        self.pending = b""

    @property
    def pid(self) -> int:
        return self.process.pid

    def told(self):
        """The next value that the program gives."""
        while b"\n" not in self.pending:
            ready, _, _ = select.select([self.answers], [], [], DEADLINE)
            assert ready, "the program says nothing"
            data = os.read(self.answers, 1 << 16)
            assert data, f"the program has ended: {self.process.communicate()[1]}"
            self.pending += data
        line, _, self.pending = self.pending.partition(b"\n")
        return json.loads(line)

    def go_on(self) -> None:
        os.write(self.orders, b"x")

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """As `kill -9`; it is no zombie afterwards."""
        self.send(signal.SIGKILL)
        self.end(-signal.SIGKILL)

    def end(self, status: int | None = 0) -> str:
        """What it has printed, once it has ended with that status (None: any)."""
        out, err = self.process.communicate(timeout=DEADLINE)
        assert status is None or self.process.returncode == status, err
        return out

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        os.close(self.orders)  # whoever still listens hears that
        self.process.communicate()
        os.close(self.answers)


@contextmanager
def peer(program: str, **options):
    running = Peer(program, **options)
    try:
        yield running
    finally:
        running.close()


def run(program: str, status: int | None = 0, **options) -> str:
    """What a program prints that runs to its end."""
    with peer(program, **options) as running:
        return running.end(status)


def until(condition: Callable[[], object]) -> None:
    """Wait for something that another thread or process does and nobody tells us."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        os.sched_yield()
