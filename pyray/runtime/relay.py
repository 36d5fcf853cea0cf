"""The node's end of its workers' output: pipes in, log files and messages to drivers out.

Imports output and channel. Used by the node alone, which has one thread.

A driver gets what the tasks and actors of its job print, and what nobody knows the job of. Nothing
is lost while it lives: when it reads more slowly than workers print, the pipes are left alone until
it has caught up, and workers wait in their print, as in a shell pipe (but see drivers.py). A log
file that cannot be written (a full disk) is given up with one warning; drivers still get all.

A worker that dies leaves its last lines in its pipes; they are read to the end. A node that dies
takes what is in the pipes with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from .channel import CHUNK, Outbox
from .output import LineSplitter, line_text, name_and_job

#: Bytes that may wait for a driver before pipes are left alone, and at which that ends.
MOST_WAITING = 1 << 20
RESUME = 1 << 18
#: A log file that is longer is moved to *.1, in place of that of before.
LONGEST_LOG = 64 << 20

OUT, ERR = "stdout", "stderr"


class LogFile:
    """A worker's log, made when there is something to write."""

    def __init__(self, path: str, complain: Callable[[str], None]) -> None:
        self.path = path
        self.complain = complain
        self.fd = -1
        self.size = 0
        self.broken = False

    def write(self, lines: list[bytes]) -> None:
        if self.broken:
            return
        data = b"\n".join(lines) + b"\n"
        try:
            if self.size > LONGEST_LOG:
                self.close()
                os.replace(self.path, f"{self.path}.1")
            if self.fd < 0:
                flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
                self.fd = os.open(self.path, flags, 0o600)
                self.size = 0
            self.size += os.write(self.fd, data)
        except OSError as error:
            self.broken = True
            self.close()
            self.complain(
                f"The log {self.path} cannot be written ({error.strerror}); it is given up."
                " Lines are still printed by the drivers."
            )

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Stream:
    """One pipe: of one worker's stdout or stderr."""

    def __init__(self, fd: int, pid: int, kind: str, log: LogFile) -> None:
        self.fd = fd
        self.pid = pid
        self.kind = kind
        self.log = log
        self.splitter = LineSplitter()


class Relay:
    """All workers' pipes.

    `watch(fd, on)` says whether the node is to wait for a pipe; `warn(text)` tells the user.
    `listeners` are the drivers that show what workers print, by job.
    """

    def __init__(
        self,
        logs: str,
        watch: Callable[[int, bool], None],
        warn: Callable[[str], None],
    ) -> None:
        self.listeners: dict[int, Outbox] = {}
        self.logs = logs
        self.watch = watch
        self.warn = warn
        self.streams: dict[int, Stream] = {}
        self.paused = False
        self.complained = False

    def add(self, fd: int, pid: int, kind: str) -> None:
        os.set_blocking(fd, False)
        name = f"worker-{pid}.{'out' if kind == OUT else 'err'}"
        log = LogFile(os.path.join(self.logs, name), self._complain)
        self.streams[fd] = Stream(fd, pid, kind, log)
        if not self.paused:
            self.watch(fd, True)

    def read(self, fd: int) -> bool:
        """Pass on what a pipe holds, one piece of it; whether there may be more."""
        stream = self.streams[fd]
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if data:
            self._pass_on(stream, stream.splitter.feed(data))
        else:
            self._end(stream)
        self._pause_or_resume()
        return bool(data)

    def drain(self) -> None:
        """Pass on all that has been printed until now; a pipe holds no more than a chunk."""
        for fd in list(self.streams):
            if self.read(fd) and fd in self.streams:
                self.read(fd)

    def finish(self) -> None:
        """Pass on all there is, unfinished lines included, and close the pipes."""
        for fd, stream in list(self.streams.items()):
            while self.read(fd):
                pass
            if fd in self.streams:
                self._end(stream)

    def written(self) -> None:
        """A driver has taken something, or is gone."""
        self._pause_or_resume()

    def _end(self, stream: Stream) -> None:
        self._pass_on(stream, stream.splitter.finish())
        if not self.paused:
            self.watch(stream.fd, False)
        del self.streams[stream.fd]
        os.close(stream.fd)
        stream.log.close()

    def _pass_on(self, stream: Stream, runs: list[tuple[str, list[bytes]]]) -> None:
        for name, lines in runs:
            stream.log.write(lines)
            if self.listeners:
                self._show(stream, *name_and_job(name), lines)

    def _show(self, stream: Stream, name: str, job: int, lines: list[bytes]) -> None:
        log = {
            "pid": stream.pid,
            "name": name,
            "stream": stream.kind,
            "lines": [line_text(line) for line in lines],
        }
        for number, outbox in self.listeners.items():
            if job in (0, number):
                outbox.put({"log": log})

    def _pause_or_resume(self) -> None:
        waiting = max(map(len, self.listeners.values()), default=0)
        if not self.paused and waiting > MOST_WAITING:
            self.paused = True
        elif self.paused and waiting < RESUME:
            self.paused = False
        else:
            return
        for fd in self.streams:
            self.watch(fd, not self.paused)

    def _complain(self, text: str) -> None:
        if not self.complained:
            self.complained = True
            self.warn(text)
