"""A worker's stdin, stdout and stderr.

Imports output only. What is printed goes line by line to the pipes that the node reads. Before
the first text of a task of another name goes a mark with that name and its job (output.py), and so
it does before a task starts a process, which may print. What C code of the worker itself prints is
shown under the name of the last task that did either; so is what a process prints that goes on
after its task. A mark for every task, as Ray has it, would cost more than a small task does. What
Python prints between two tasks, in a thread, has no name.

A worker that is killed loses a line that it has begun and not ended, as any program does.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable

from .output import MARK, MARK_END


class TaskStream(io.TextIOWrapper):
    """A line-buffered text stream that notes which task prints."""

    def __init__(self, fd: int, task_name: Callable[[], str]) -> None:
        super().__init__(
            io.BufferedWriter(io.FileIO(fd, "wb", closefd=False)),
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )
        self._task_name = task_name
        self._noted = ""

    def write(self, text: str, /) -> int:
        self._note()
        return super().write(text)

    def make_way(self) -> None:
        """Somebody else is about to write into the pipe."""
        self._note()
        self.flush()

    def _note(self) -> None:
        name = self._task_name()
        if name != self._noted:
            self._noted = name
            super().write(mark(name))


#: Audit events of what starts a process.
STARTS = frozenset(
    ("os.system", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "subprocess.Popen")
)


def _on_event(event: str, arguments: object) -> None:
    if event in STARTS:
        for stream in (sys.__stdout__, sys.__stderr__):
            try:
                stream.make_way()  # type: ignore[union-attr]
            except Exception:
                pass  # closed by user code; an exception would keep the process from starting


def mark(name: str) -> str:
    """What goes before the text of a task of this name."""
    end = MARK_END.decode()
    return f"{MARK.decode()}{name.replace(end, ' ').replace(chr(10), ' ')}{end}"


def redirect(out: int, err: int, task_name: Callable[[], str]) -> None:
    """Make these pipes the standard streams of this process, for C and for Python."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for fd, standard in ((nothing, 0), (out, 1), (err, 2)):
        os.dup2(fd, standard)
        os.close(fd)
    streams = {
        "stdin": io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False))),
        "stdout": TaskStream(1, task_name),
        "stderr": TaskStream(2, task_name),
    }
    for name, stream in streams.items():
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    sys.addaudithook(_on_event)


def flush() -> None:
    """Write what is not written, whatever the program has made of its streams."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass  # closed or replaced by user code; this is the end of the process
