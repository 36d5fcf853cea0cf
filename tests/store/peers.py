"""Other processes that use a store."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import closing

from programs import DEADLINE, Program


class Peer(Program):
    prelude = """
import ctypes
import numpy as np
from pyray.store import *

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def key(number):
    return ObjectID(number.to_bytes(20, "big"))
"""

    def kill(self) -> None:
        """As `kill -9`; it is no zombie afterwards."""
        self.send(signal.SIGKILL)
        self.end(-signal.SIGKILL)


def peer(program: str, **options) -> closing[Peer]:
    return closing(Peer(program, **options))


def run(program: str, status: int | None = 0, **options) -> str:
    """What a program prints that runs to its end."""
    with peer(program, **options) as running:
        return running.end(status)[0]


def until(condition: Callable[[], object]) -> None:
    """Wait for something that another thread or process does and nobody tells us."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        os.sched_yield()
