"""Programs in processes of their own, not forks of the test, which it talks to through pipes."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import textwrap

#: Seconds after which a test gives up. Nothing takes nearly as long.
DEADLINE = 60

#: Before each program.
PRELUDE = """
import json, os, signal, sys, threading

# A shell starts what runs in its background with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

def tell(value=None, **values):
    "Give a value, or several by name, to the test."
    os.write({tell}, json.dumps(values or value).encode() + b"\\n")

def hear():
    "Wait until the test says so."
    return os.read({hear}, 1)
"""


class Program:
    """One that runs. What is before all programs of a kind is its `prelude`."""

    prelude = ""

    def __init__(self, program: str, env: dict[str, str] | None = None, **options) -> None:
        self.answers, tell = os.pipe()
        hear, self.orders = os.pipe()
        code = PRELUDE.format(tell=tell, hear=hear) + self.prelude + textwrap.dedent(program)
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
        self._pending = b""

    @property
    def pid(self) -> int:
        return self.process.pid

    def told(self):
        """The next value that the program gives."""
        while b"\n" not in self._pending:
            ready, _, _ = select.select([self.answers], [], [], DEADLINE)
            assert ready, "the program says nothing"
            data = os.read(self.answers, 1 << 16)
            assert data, f"the program has ended: {self.process.communicate()[1]}"
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return json.loads(line)

    def go_on(self) -> None:
        os.write(self.orders, b"x")

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, status: int | None = 0) -> tuple[str, str]:
        """What it has printed, once it has ended with that status (None: any)."""
        out, err = self.process.communicate(timeout=DEADLINE)
        assert status is None or self.process.returncode == status, err
        return out, err

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        os.close(self.orders)  # whoever still listens hears that
        self.process.communicate()
        os.close(self.answers)
