"""A worker's stdin, stdout and stderr.

Imports output only. What is printed goes line by line to the pipes that the node reads. Before
the first text of a task of another name goes a mark with that name (output.py). What is not
printed through sys.stdout or sys.stderr (a C library's, a subprocess') is shown under the name
of the last that was.

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
        name = self._task_name()
        if name != self._noted:
            self._noted = name
            super().write(mark(name))
        return super().write(text)


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


def flush() -> None:
    """Write what is not written, whatever the program has made of its streams."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass  # closed or replaced by user code; this is the end of the process
