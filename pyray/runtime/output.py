"""What workers print: bytes of their pipes into lines, repeated lines folded, lines with a prefix.

Imports settings only. Nothing here knows of processes, files or clocks: bytes, lines and the
time come as arguments, so that all of it is tested without them. design.md, section 4.

A worker's stream carries, beside what was printed, *marks*: MARK + name + MARK_END before the
first text that a task of another name prints, so that each line is shown under the task that
printed it, however late it is read. A mark ends a line that was left unfinished. Behind the name is
the number of the task's job (`of_job`), so that a line is shown by the driver whose task it was.

A crash leaves nothing here to repair: an unfinished line is shown as far as it came (`finish`),
and an unfinished mark is dropped.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .settings import flag, number, setting

MARK = b"\x1epyray:"
MARK_END = b"\x1e"
JOB = "\x1d"

#: A line of which so much has come without its end is shown in parts.
LONGEST_LINE = 1 << 20


class LineSplitter:
    """Complete lines from the pieces in which a stream arrives."""

    def __init__(self) -> None:
        self.name = ""
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[str, list[bytes]]]:
        """Lines that data completes, in order, in runs of one name."""
        head, newline, tail = data.rpartition(b"\n")
        if newline:
            complete, self._rest = self._rest + head, tail
            return self._runs(complete.split(b"\n"))
        self._rest += tail
        if len(self._rest) < LONGEST_LINE:
            return []
        return self.finish()

    def finish(self) -> list[tuple[str, list[bytes]]]:
        """The line that has no end yet, at the end of the stream."""
        rest, self._rest = self._rest, b""
        return self._runs([rest], ended=False) if rest else []

    def _runs(self, lines: list[bytes], ended: bool = True) -> list[tuple[str, list[bytes]]]:
        """Lines in runs of one name; ended: whether the last has its end."""
        if not any(MARK in line for line in lines):
            return [(self.name, lines)]
        runs: list[tuple[str, list[bytes]]] = []
        run: list[bytes] = []
        for index, line in enumerate(lines):
            text, *marked = line.split(MARK)
            for part in marked:
                if text:  # left unfinished by the task before
                    run.append(text)
                name, end, text = part.partition(MARK_END)
                if not end:  # the process died while it wrote the mark
                    continue
                if run:
                    runs.append((self.name, run))
                    run = []
                self.name = name.decode("utf-8", "replace")
            if text or not marked or (ended or index < len(lines) - 1):
                run.append(text)
        if run:
            runs.append((self.name, run))
        return runs


def of_job(name: str, job: int) -> str:
    """The name of a task with its job, as it stands in a mark."""
    return f"{name}{JOB}{job}" if job else name


def name_and_job(text: str) -> tuple[str, int]:
    """What `of_job` has put together; 0: no job is known."""
    name, _, job = text.partition(JOB)
    return name, int(job) if job.isdecimal() else 0


def line_text(line: bytes) -> str:
    """A line as it is shown."""
    return line.removesuffix(b"\r").decode("utf-8", "replace")


class Source(NamedTuple):
    """Who printed: the task's or actor's name, and the worker's pid."""

    name: str
    pid: int


class _Pattern:
    """Lines that differ in numbers only."""

    __slots__ = ("count", "line", "pids", "repeats", "since", "source")

    def __init__(self, since: float, line: str, source: Source) -> None:
        self.since = since  # when the first of this window was shown
        self.count = 0  # lines held back
        self.line = line  # the latest
        self.source = source  # who printed that
        self.pids = {source.pid}
        self.repeats = True  # those held back are the very line that was shown

    def hold(self, line: str, source: Source) -> None:
        self.repeats = self.repeats and line == self.line
        self.count += 1
        self.line = line
        self.source = source


class Folding:
    """Folds lines that several workers print alike, as Ray's LogDeduplicator does.

    The first line of a pattern (a line without its words that hold digits) is shown at once.
    Those that other workers print within the window are held back and shown as one, the latest,
    with the count; a single one is shown as it is. A worker that repeats itself alone is never
    folded. Unlike Ray's, what is held back is shown when the window ends though nobody prints
    anything more, and before the next line of the worker that printed it, unless it says word
    for word what was shown: the lines of a worker are seen in their order.
    """

    def __init__(
        self,
        enabled: bool = True,
        window: float = 5.0,
        allow: str = "",
        skip: str = "",
    ) -> None:
        self.enabled = enabled
        self.window = window
        self.allow = re.compile(allow) if allow else None
        self.skip = re.compile(skip) if skip else None
        self._recent: dict[str, _Pattern] = {}  # the oldest window first

    @staticmethod
    def from_environment() -> Folding:
        return Folding(
            flag("DEDUP_LOGS", True),
            number("DEDUP_LOGS_AGG_WINDOW_S", 5.0),
            setting("DEDUP_LOGS_ALLOW_REGEX"),
            setting("DEDUP_LOGS_SKIP_REGEX"),
        )

    def add(self, source: Source, lines: list[str], now: float) -> list[tuple[Source, str, int]]:
        """What to show now that these lines have come: (source, line, how often it came)."""
        if not self.enabled:
            return [(source, line, 1) for line in lines]
        shown: list[tuple[Source, str, int]] = self.expire(now)
        for line in lines:
            if self.allow and self.allow.search(line):
                shown.append((source, line, 1))
            elif self.skip and self.skip.search(line):
                continue
            elif not self._hold(source, line, now):
                shown += self._release_of(source.pid)
                shown.append((source, line, 1))
        return shown

    def _hold(self, source: Source, line: str, now: float) -> bool:
        """Whether a line is held back."""
        key = pattern_of(line)
        if not key:  # numbers only: they are what it says
            return False
        pattern = self._recent.get(key)
        if pattern is None:
            self._recent[key] = _Pattern(now, line, source)
            return False
        pattern.pids.add(source.pid)
        if len(pattern.pids) == 1:
            return False
        pattern.hold(line, source)
        return True

    def _release_of(self, pid: int) -> list[tuple[Source, str, int]]:
        """What is held back of a worker that is about to be shown with a later line."""
        shown = []
        for pattern in self._recent.values():
            if pattern.count and pattern.source.pid == pid and not pattern.repeats:
                shown.append((pattern.source, pattern.line, pattern.count))
                pattern.count = 0
                pattern.repeats = True
        return shown

    def expire(self, now: float) -> list[tuple[Source, str, int]]:
        """What is to be shown because its window has ended."""
        shown = []
        for key in list(self._recent):
            pattern = self._recent[key]
            if now - pattern.since < self.window:
                break
            del self._recent[key]
            if pattern.count:
                shown.append((pattern.source, pattern.line, pattern.count))
            if pattern.count > 1:  # it goes on: the next window begins
                pattern.since = now
                pattern.count = 0
                pattern.repeats = True
                self._recent[key] = pattern
        return shown

    def flush(self) -> list[tuple[Source, str, int]]:
        """All that is held back; the next lines are shown as if they were the first."""
        patterns = list(self._recent.values())
        self._recent.clear()
        return [(p.source, p.line, p.count) for p in patterns if p.count]

    def deadline(self) -> float | None:
        """When `expire` has something to show, if ever."""
        return min((p.since + self.window for p in self._recent.values() if p.count), default=None)


_WITH_DIGITS = re.compile(r"\S*\d\S*")


def pattern_of(line: str) -> str:
    """A line without what differs between workers: its words that hold digits."""
    return " ".join(_WITH_DIGITS.sub(" ", line).split())


CYAN, GREEN, RESET = "\x1b[36m", "\x1b[32m", "\x1b[0m"
#: Magenta, cyan, green, and the light ones of black, blue and magenta.
BY_PROCESS = ("\x1b[35m", CYAN, GREEN, "\x1b[90m", "\x1b[94m", "\x1b[95m")


class Format:
    """Lines as the driver shows them: `(name pid=123) line`."""

    def __init__(self, by_process: bool = False) -> None:
        self.by_process = by_process
        self.explained = False

    def prefix(self, source: Source, coloured: bool) -> str:
        label = f"({source.name} pid={source.pid})" if source.name else f"(pid={source.pid})"
        if not coloured:
            return label
        colour = BY_PROCESS[source.pid % len(BY_PROCESS)] if self.by_process else CYAN
        return f"{colour}{label}{RESET}"

    def line(self, source: Source, line: str, count: int, coloured: bool) -> str:
        text = f"{self.prefix(source, coloured)} {line}"
        if count > 1:
            times = f" [repeated {count}x across cluster]"
            if not self.explained:
                self.explained = True
                times += (
                    " (lines that workers repeat are folded; PYRAY_DEDUP_LOGS=0 in the"
                    " environment shows each)"
                )
            text += f"{GREEN}{times}{RESET}" if coloured else times
        return text

    def text(self, shown: list[tuple[Source, str, int]], coloured: bool) -> str:
        return "".join(f"{self.line(*entry, coloured)}\n" for entry in shown)
