"""Tasks that wait until a test lets them go on, and say when they have begun: named pipes.

Nobody sleeps: whoever opens one end of a pipe waits for who opens the other.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

#: Seconds after which a test gives up. Nothing takes nearly as long.
DEADLINE = 60


def until(condition: Callable[[], object]) -> None:
    """Wait until something is so that nothing tells of."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it never was"
        os.sched_yield()


class Gate:
    """A gate for one task at a time; it can be sent to the task."""

    def __init__(self, folder, name: str = "gate") -> None:
        self.begun = os.path.join(folder, name + ".begun")
        self.release = os.path.join(folder, name + ".release")
        os.mkfifo(self.begun)
        os.mkfifo(self.release)

    # -- in the task -------------------------------------------------------------------------

    def pass_through(self) -> None:
        """Say that the task has begun, and wait until it may go on."""
        self.say()
        self.wait()

    def say(self) -> None:
        with open(self.begun, "w") as pipe:
            pipe.write(str(os.getpid()))

    def wait(self) -> None:
        with open(self.release) as pipe:
            pipe.read()

    # -- in the test -------------------------------------------------------------------------

    def until_begun(self) -> int:
        """Wait until the task has begun; the pid of its worker."""
        with open(self.begun) as pipe:
            return int(pipe.read())

    def open(self) -> None:
        """Let the task go on."""
        with open(self.release, "w"):
            pass
