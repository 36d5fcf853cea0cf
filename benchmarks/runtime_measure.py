"""How a row of the runtime benchmark is measured, in whatever runtime: clocks, memory, CPU.

Runs in the environments of all peers, so it needs the standard library alone.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import select
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

clock = time.perf_counter


@dataclass(frozen=True)
class Settings:
    rounds: int = 3
    seconds: float = 0.3  # of a round, where one call takes less
    warm: float = 0.3  # of calls before the first round
    budget: float = 15  # after which no further round is begun; runtime.py gives peers a third
    idle: float = 2  # seconds over which an idle session is watched
    quick: bool = True
    workers: int = os.cpu_count() or 1
    parent: int = 0  # the process below which everything belongs to this measurement

    @classmethod
    def read(cls, text: str) -> Settings:
        return cls(**json.loads(text))


class Run:
    """One row by one peer: what its function is given to measure with."""

    def __init__(self, settings: Settings, send: Callable[[dict], None]):
        self.settings = settings
        self.workers = settings.workers
        self.quick = settings.quick
        self.send = send
        self.begun = clock()

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def affordable(self, count: int, seconds: float) -> int:
        """How many tenths of so many calls fit the budget when one takes so long; one at least."""
        tenths = int(10 * self.settings.budget / (seconds * count))
        return count // 10 * max(1, min(tenths, 10))

    # Rates and times

    def warm(self, call: Callable[[], Any], seconds: float = 0) -> int:
        """Call until it is warm; how many calls a round takes."""
        count, start = 0, clock()
        least = max(seconds, self.settings.warm)
        while True:
            call()
            count += 1
            taken = clock() - start
            if taken >= least:
                return max(1, round(count * self.settings.seconds / taken))

    def rounds(self, *measurements: Callable[[], float]) -> list[list[float]]:
        """Rounds of one measurement each, in turn, until there are enough or time is up."""
        taken: list[list[float]] = [[] for _ in measurements]
        start = clock()
        for _ in range(self.settings.rounds):
            for measure, values in zip(measurements, taken, strict=True):
                values.append(measure())
            if clock() - start > self.settings.budget:
                break
        return taken

    def rate(
        self,
        call: Callable[[], Any],
        units: float = 1,
        warm: Callable[[], Any] | None = None,
        limit: Callable[[], Any] | None = None,
        warm_seconds: float = 0,
    ) -> dict:
        """Units a second, of a call that makes ``units`` of them.

        ``warm`` warms up a call that is too long to be made before it is measured;
        ``warm_seconds`` is for a call that needs longer than others to become steady;
        ``limit`` makes as many units without the runtime, and is measured in turn.
        """

        def measure(action: Callable[[], Any], loops: int) -> Callable[[], float]:
            def once() -> float:
                start = clock()
                for _ in repeat(None, loops):
                    action()
                return units * loops / (clock() - start)

            return once

        if warm is not None:
            self.warm(warm)
            loops = 1
        else:
            loops = self.warm(call, warm_seconds)
        if limit is None:
            return result(*self.rounds(measure(call, loops)))
        return result(*self.rounds(measure(call, loops), measure(limit, self.warm(limit))))

    def time(
        self,
        call: Callable[[], Any],
        scale: float = 1,
        limit: Callable[[], Any] | None = None,
    ) -> dict:
        """Seconds (times ``scale``) of a call, measured as ``rate`` does."""
        found = self.rate(call, 1 / scale, limit=limit)
        inverse = [[1 / value for value in found["rounds"]]]
        if limit is not None:
            inverse.append([1 / value for value in found["limit_rounds"]])
        return result(*inverse)

    def once(self, *calls: Callable[[], float | None]) -> dict:
        """Seconds of long calls that are made once a round and need no warming up.

        A call that returns a number has held the clock itself.  The second, if there
        is one, is the limit.
        """

        def measure(call: Callable[[], float | None]) -> Callable[[], float]:
            def measured() -> float:
                start = clock()
                own = call()
                return clock() - start if own is None else own

            return measured

        return result(*self.rounds(*map(measure, calls)))

    # Curves

    def points(self, places: Iterable[int], growing: bool = True) -> Iterator[int]:
        """The places of a curve, as long as the next is likely to be done in time.

        If ``growing``, what the last one cost is expected to grow as the places do.
        """
        self.last: tuple[int, float] | None = None
        for place in places:
            if self.last is not None:
                expected = self.last[1]
                if growing:
                    expected *= max(1.0, place / max(1, self.last[0]))
                if expected > 4 * self.settings.budget - (clock() - self.begun):
                    self.send({"stopped": {"x": place, "expected_seconds": round(expected, 1)}})
                    return
            yield place

    def point(self, place: int, found: dict, least: float) -> None:
        """Send one point of a curve: its rate and the time of one; it took at least so long."""
        self.last = (place, least)
        self.send({"point": {"x": place, "value": found["value"], "us": 1e6 / found["value"]}})

    # A session from outside

    def starts(self, script: str) -> dict:
        """Seconds from a process's start to the line it prints, and until it has ended."""
        ends = []

        def start() -> float:
            begun = clock()
            process = subprocess.Popen(
                [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
            )
            assert process.stdout is not None
            line = process.stdout.readline()
            taken = clock() - begun
            process.communicate(timeout=120)
            ends.append(clock() - begun)
            if "ok" not in line:
                raise RuntimeError(f"no result but {line!r}, status {process.returncode}")
            return taken

        start()  # files come from the disk, byte code is compiled
        ends.clear()
        return {**self.once(start), "until_ended": statistics.median(ends)}

    def memory(self) -> dict:
        """Megabytes of a session, settled, beyond the driver's own."""
        time.sleep(self.settings.idle)
        return session_memory(self.settings.parent)

    def idle_cpu(self) -> dict:
        """Percent of a core that a session and its driver use, and how often they wake."""
        time.sleep(1)
        wakes: list[float] = []

        def watch() -> float:
            # The driver, which does the watching, is looked at next to the pause on both sides.
            session = session_processes(self.settings.parent)
            others = activity(session)
            start, own = clock(), activity([os.getpid()])
            time.sleep(self.settings.idle)
            own_after, taken = activity([os.getpid()]), clock() - start
            session += session_processes(self.settings.parent)
            others_after = activity(dict.fromkeys(session))
            seconds, woken = (own_after[i] - own[i] + others_after[i] - others[i] for i in range(2))
            wakes.append(woken / taken)
            return 100 * seconds / taken

        found = result(*self.rounds(watch))
        return {**found, "wakes_per_second": statistics.median(wakes)}


def result(values: list[float], limits: list[float] | None = None) -> dict:
    """The median of the rounds, and of their ratios to the limit measured in turn."""
    found = {"value": statistics.median(values), "rounds": values}
    if limits is not None:
        found["limit"] = statistics.median(limits)
        found["limit_rounds"] = limits
        found["of_limit"] = statistics.median(
            value / limit for value, limit in zip(values, limits, strict=True)
        )
    return found


# Processes


def parents() -> dict[int, int]:
    """The parent of each process."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue  # it has ended
            fields = stat.rpartition(")")[2].split()
            if fields[0] != "Z":
                found[int(entry.name)] = int(fields[1])
    return found


def descendants(root: int) -> list[int]:
    """All processes below one.  What loses its parent falls to the benchmark's main process."""
    above = parents()
    children: dict[int, list[int]] = {}
    for pid, parent in above.items():
        children.setdefault(parent, []).append(pid)
    found, queue = [], [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def session_processes(parent: int) -> list[int]:
    """The processes of the session, without the driver, which asks."""
    return [pid for pid in descendants(parent or os.getpid()) if pid != os.getpid()]


def name_of(pid: int) -> str:
    try:
        line = (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        )
        return line.strip()[:100] or Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return f"process {pid}"


def pss(pid: int) -> dict[str, int]:
    """Proportional set size of a process by kind, in bytes."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name.startswith("Pss"):
            found[name] = int(rest.split()[0]) * 1024
    return found


SHARED_MEMORY = ("/memfd:", "/dev/shm/", "/dev/zero", "/SYSV")


def shared_bytes(pids: Iterable[int]) -> int:
    """Pages of the shared memory that processes map, each file counted once.

    Proportional sizes would leave the driver's share out, and count pages that are
    allocated and not mapped nowhere.
    """
    files: dict[tuple[int, int], int] = {}
    for pid in pids:
        folder = Path(f"/proc/{pid}")
        mapped: dict[tuple[int, int], str] = {}
        try:
            lines = (folder / "maps").read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and fields[5].startswith(
                ("/memfd:", "/dev/shm/", "/dev/zero", "/SYSV")
            ):
                major, minor = (int(part, 16) for part in fields[3].split(":"))
                mapped[os.makedev(major, minor), int(fields[4])] = fields[0]
        for key, place in mapped.items():
            if key in files:
                continue
            try:
                files[key] = os.stat(folder / "map_files" / place).st_blocks * 512
            except OSError:
                files[key] = blocks_by_descriptor(folder, key)
    return sum(files.values())


def blocks_by_descriptor(folder: Path, key: tuple[int, int]) -> int:
    """The size of a file that may not be looked at through its mapping: through a descriptor."""
    try:
        descriptors = list((folder / "fd").iterdir())
    except OSError:
        return 0
    for descriptor in descriptors:
        try:
            status = os.stat(descriptor)
        except OSError:
            continue
        if (status.st_dev, status.st_ino) == key:
            return status.st_blocks * 512
    return 0


def session_memory(parent: int) -> dict:
    """Megabytes: private ones of all processes but the driver, shared ones once."""
    pids = session_processes(parent)
    private, processes = 0.0, {}
    for pid in pids:
        try:
            sizes = pss(pid)
        except OSError:
            continue
        own = (sizes["Pss"] - sizes.get("Pss_Shmem", 0)) / 1e6
        private += own
        processes[f"{pid} {name_of(pid)}"] = round(own, 1)
    shared = shared_bytes([os.getpid(), *pids]) / 1e6
    return {
        "value": private + shared,
        "private": private,
        "shared": shared,
        "driver": pss(os.getpid())["Pss_Anon"] / 1e6,
        "processes": processes,
    }


def activity(pids: Iterable[int]) -> tuple[float, float]:
    """Seconds on a CPU and wake-ups of processes so far."""
    seconds, wakes = 0.0, 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").glob("*"):
            try:
                seconds += int((thread / "schedstat").read_text().split()[0]) / 1e9
                for line in (thread / "status").read_text().splitlines():
                    if line.startswith("voluntary_ctxt_switches"):
                        wakes += int(line.split()[1])
            except OSError:
                continue  # it has ended
    return seconds, wakes


# The limits of the machine


class Memcpy:
    """Copies an array on all cores into shared memory that has been written before."""

    def __init__(self, array: Any, threads: int):
        import ctypes
        import mmap
        from concurrent.futures import ThreadPoolExecutor

        size = array.nbytes
        self.memory = mmap.mmap(-1, size)  # shared, as the store is
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        ctypes.memset(address, 1, size)
        self.move = ctypes.memmove  # without the GIL
        self.pool = ThreadPoolExecutor(threads)
        step = -(-size // threads // 64) * 64
        self.parts = [
            (address + start, array.ctypes.data + start, min(step, size - start))
            for start in range(0, size, step)
        ]

    def __call__(self) -> None:
        list(self.pool.map(lambda part: self.move(*part), self.parts))


PLAIN = """
import sys
import numpy as np
print("ready", flush=True)
for line in sys.stdin:
    for _ in range(int(line)):
        x = np.random.normal(size=(1000, 1000))
        y = np.random.normal(size=(1000, 1000))
        z = np.dot(x, y)
    print("done", flush=True)
"""


class Wakeups:
    """Two processes that wake each other in turn: what a call and its result cost at least if
    nobody spins. The other one is a thread's worth of C through ctypes."""

    FUTEX, WAIT, WAKE = {"x86_64": 202, "aarch64": 98}[os.uname().machine], 0, 1

    def __init__(self) -> None:
        self.shared = mmap.mmap(-1, 4096)
        self.words = (ctypes.c_uint32 * 1024).from_buffer(self.shared)
        self.libc = ctypes.CDLL(None)
        self.there, self.back = (ctypes.byref(self.words, 4 * at) for at in (0, 512))
        self.turn = 0
        self.child = os.fork()
        if not self.child:
            try:
                while True:
                    self._wait(self.there, 0, self.turn)
                    self.turn += 1
                    self._wake(self.back, 512, self.turn)
            finally:
                os._exit(0)

    def _wait(self, word: Any, at: int, turn: int) -> None:
        while self.words[at] == turn:
            self.libc.syscall(self.FUTEX, word, self.WAIT, turn, None, None, 0)

    def _wake(self, word: Any, at: int, turn: int) -> None:
        self.words[at] = turn
        self.libc.syscall(self.FUTEX, word, self.WAKE, 1, None, None, 0)

    def __call__(self) -> None:
        self._wake(self.there, 0, self.turn + 1)
        self._wait(self.back, 512, self.turn)
        self.turn += 1

    def stop(self) -> None:
        os.kill(self.child, signal.SIGKILL)
        os.waitpid(self.child, 0)


class PlainProcesses:
    """The calls of the matrix program in plain processes, one a core.

    They are made before the session, and sleep while it works.
    """

    def __init__(self, count: int):
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-c", PLAIN],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(count)
        ]
        self.expect("ready")
        self.run(2 * count)

    def run(self, products: int) -> None:
        count = len(self.processes)
        for number, process in enumerate(self.processes):
            assert process.stdin is not None
            process.stdin.write(f"{products // count + (number < products % count)}\n")
            process.stdin.flush()
        self.expect("done")

    def expect(self, word: str) -> None:
        for process in self.processes:
            assert process.stdout is not None
            if process.stdout.readline().strip() != word:
                raise RuntimeError("a plain process has died")

    def stop(self) -> None:
        for process in self.processes:
            process.communicate()


# The conversation with runtime.py


def serve(rows: dict[str, Callable[[Run], dict | None]], versions: Callable[[], dict]) -> None:
    """Measure the row that the command line names; answer in lines of JSON.

    ``SCRIPT PEER ROW SETTINGS``.  What libraries print goes to standard error; the answers
    have the pipe to themselves.
    """
    name, settings = sys.argv[2], Settings.read(sys.argv[3] if len(sys.argv) > 3 else "{}")
    output = os.dup(1)
    os.dup2(2, 1)

    def send(answer: dict) -> None:
        os.write(output, json.dumps(answer).encode() + b"\n")

    try:
        send({"versions": versions()})
        found = rows[name](Run(settings, send))
        send({"result": found or {}})
    except BaseException as error:
        import traceback

        traceback.print_exc()
        lines = str(error).strip().splitlines()
        # Of a remote error the last line is the cause, the first the place.
        text = " … ".join(dict.fromkeys([*lines[:1], *lines[-1:]]))
        send({"error": f"{type(error).__name__}: {text[:300]}"})
        raise SystemExit(1) from None


def answers(descriptor: int, deadline: float) -> Iterator[dict]:
    """The lines of JSON of a process, until it ends or has answered; TimeoutError if late."""
    rest = b""
    while True:
        left = deadline - time.monotonic()
        ready, _, _ = select.select([descriptor], [], [], max(0, left))
        if not ready:
            raise TimeoutError
        read = os.read(descriptor, 1 << 16)
        if not read:
            return
        *lines, rest = (rest + read).split(b"\n")
        for line in lines:
            answer = json.loads(line)
            yield answer
            if "result" in answer or "error" in answer:
                return
