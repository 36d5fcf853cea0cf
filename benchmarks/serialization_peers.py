"""The serializers that are compared, and the worker process that measures one of them.

``serialization_peers.py NAME`` runs in the peer's environment and answers requests,
one JSON object a line, on standard input and output.  For each row it forks a child
that makes the object and answers until the row ends: every row starts with the heap
of a process that has only imported its libraries.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import serialization_objects as objects


@dataclass(frozen=True)
class Peer:
    """How one serializer is called; ``x`` is the object, ``m`` its message."""

    environment: str  # "project", or a folder that peers.sh makes
    setup: str
    serialize: str
    deserialize: str
    version_of: str = ""  # the distribution whose version is recorded
    serialize_small: str = ""  # where a user would call something else for a small object


FORY_LIMITS = "max_depth=1000, max_graph_memory_bytes=1 << 40, max_unbacked_container_items=1 << 40"

PEERS: dict[str, Peer] = {
    "pyray": Peer(
        "project",
        "from pyray import dumps, loads, serialize",
        "serialize(x).to_buffer()",
        "loads(m)",
        "pyray-runtime",
        # The two phases are for large buffers.
        serialize_small="dumps(x)",
    ),
    "pyray dumps": Peer(
        "project", "from pyray import dumps, loads", "dumps(x)", "loads(m)", "pyray-runtime"
    ),
    "pickle": Peer("project", "from pickle import dumps, loads", "dumps(x, 5)", "loads(m)"),
    "cloudpickle": Peer(
        "project", "from cloudpickle import dumps, loads", "dumps(x, 5)", "loads(m)", "cloudpickle"
    ),
    "marshal": Peer("project", "from marshal import dumps, loads", "dumps(x)", "loads(m)"),
    # What its documentation calls the replacement of pickle: references tracked.
    "pyfory": Peer(
        "current",
        "import pyfory\n"
        f"fory = pyfory.Fory(xlang=False, ref=True, strict=False, {FORY_LIMITS})\n"
        "dumps, loads = fory.serialize, fory.deserialize",
        "dumps(x)",
        "loads(m)",
        "pyfory",
    ),
    # Shared and recursive references are lost: for trees only.
    "pyfory (no refs)": Peer(
        "current",
        "import pyfory\n"
        f"fory = pyfory.Fory(xlang=False, ref=False, strict=False, {FORY_LIMITS})\n"
        "dumps, loads = fory.serialize, fory.deserialize",
        "dumps(x)",
        "loads(m)",
        "pyfory",
    ),
    "ormsgpack": Peer(
        "current",
        "from ormsgpack import packb, unpackb, OPT_NON_STR_KEYS, OPT_SERIALIZE_NUMPY\n"
        "write = OPT_NON_STR_KEYS | OPT_SERIALIZE_NUMPY\n"
        "read = OPT_NON_STR_KEYS",
        "packb(x, option=write)",
        "unpackb(m, option=read)",
        "ormsgpack",
    ),
    "msgspec": Peer(
        "current",
        "import msgspec\n"
        "dumps, loads = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode",
        "dumps(x)",
        "loads(m)",
        "msgspec",
    ),
    "pyarrow 11": Peer(
        "arrow11",
        "from pyarrow import serialize, deserialize",
        "serialize(x).to_buffer()",
        "deserialize(m)",
        "pyarrow",
    ),
}

TIMER = """
def timed(subject, loops, clock=clock{arguments}):
    {argument} = subject
    rounds = [None] * loops
    start = clock()
    for _ in rounds:
        result = {statement}
    return clock() - start, result
"""


def names_of(peer: Peer) -> dict[str, Any]:
    """What the setup of a peer defines."""
    names: dict[str, Any] = {}
    exec(peer.setup, names)
    return {k: v for k, v in names.items() if not k.startswith("__")}


def timer(names: dict[str, Any], statement: str, argument: str) -> Callable:
    """A function that runs a statement in a loop and gives the seconds and the result.

    The names of the setup are its defaults, thus locals: a lookup less in loops of
    tens of nanoseconds.
    """
    arguments = "".join(f", {name}={name}" for name in names)
    source = TIMER.format(arguments=arguments, argument=argument, statement=statement)
    scope = {**names, "clock": time.perf_counter}
    exec(source, scope)
    return scope["timed"]


def loops_for(timed: Callable, subject: Any, target: float) -> int:
    """How many loops take about ``target`` seconds."""
    loops = 1
    while True:
        seconds, _ = timed(subject, loops)
        if seconds > target / 4:
            return max(1, round(loops * target / seconds))
        loops *= 4


def status(field: str) -> int:
    """A size from /proc/self/status, in bytes."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise RuntimeError(f"{field} is not in /proc/self/status")


def peak_growth(action: Callable[[], Any]) -> int:
    """By how much the resident memory of a process grows while it does something.

    The process is a fork of this one, with its free memory returned to the system
    and the kernel's high-water mark reset.  (tracemalloc would miss memory that does
    not come from Python's allocators, and slow everything down.)
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:  # whatever happens, the fork must not go on in its parent's place
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
            before = status("VmRSS")
            kept = action()
            os.write(writer, str(max(0, status("VmHWM") - before)).encode())
            del kept
        finally:
            os._exit(0)
    os.close(writer)
    answer = os.read(reader, 100)
    os.close(reader)
    os.waitpid(pid, 0)
    return int(answer) if answer else 0


class RowSession:
    """The measurements of one row by one peer, in a process of their own."""

    def __init__(self, peer: Peer, name: str, target: float):
        self.row = objects.ROWS[name]
        self.object = self.row.make()
        # One setup for both directions: a reader that knows what its writer knows is
        # what serves pyfory best, which finds some classes in no other case.
        names = names_of(peer)
        call = peer.serialize_small if self.row.small else ""
        self.serialize = timer(names, call or peer.serialize, "x")
        self.deserialize = timer(names, peer.deserialize, "m")
        self.target = target

    def start(self) -> dict:
        """Serialize and deserialize once; is it the same object?"""
        answer: dict[str, Any] = {}
        if not self.row.small:
            answer["serialize_peak"] = peak_growth(lambda: self.serialize(self.object, 1)[1])
        self.message = self.serialize(self.object, 1)[1]
        if not self.row.small:
            answer["deserialize_peak"] = peak_growth(lambda: self.deserialize(self.message, 1)[1])
        answer["size"] = memoryview(self.message).nbytes
        copy = self.deserialize(self.message, 1)[1]
        try:
            answer["same"] = bool((self.row.same or objects.same)(self.object, copy))
        except Exception as error:  # a comparison that raises has found a difference
            answer["same"] = False
            answer["difference"] = str(error).strip().splitlines()[0][:200]
        del copy
        self.loops = (1, 1)
        if self.row.small:
            self.loops = (
                loops_for(self.serialize, self.object, self.target),
                loops_for(self.deserialize, self.message, self.target),
            )
        return answer

    def time(self) -> dict:
        """One measurement each way; what was made is freed after the clock stopped."""
        if not self.row.small:
            gc.collect()
        there, message = self.serialize(self.object, self.loops[0])
        del message
        if not self.row.small:
            gc.collect()
        back, copy = self.deserialize(self.message, self.loops[1])
        del copy
        return {"serialize": there / self.loops[0], "deserialize": back / self.loops[1]}


def array_measurements(rounds: int) -> dict:
    """What is asked of arrays: no cost a byte except one copy, no cost a message to look inside."""
    import numpy as np

    pyray = importlib.import_module("pyray")
    clock = time.perf_counter

    def median(action: Callable[[], Any], loops: int) -> float:
        taken = []
        for _ in range(rounds):
            start = clock()
            for _ in range(loops):
                action()
            taken.append((clock() - start) / loops)
        return statistics.median(taken)

    many, one = objects.array_list(), objects.array_list(1)
    pinned = pyray.serialize(many)
    message_many = pinned.to_buffer()
    message_one = pyray.serialize(one).to_buffer()
    more = len(many) - 1
    per_array = {
        "serialize": median(lambda: pyray.serialize(many), 50)
        - median(lambda: pyray.serialize(one), 500),
        "deserialize": median(lambda: pyray.deserialize(message_many), 50)
        - median(lambda: pyray.deserialize(message_one), 500),
    }

    # Copies: the same number of bytes by numpy into memory that has been written before,
    # by to_buffer, and by write_to into such memory, in turn.
    size = pinned.total_bytes
    source = np.ones(size, np.uint8)
    touched = np.zeros(size, np.uint8)
    touched[:] = 1
    copies: dict[str, list[float]] = {"memcpy": [], "to_buffer": [], "write_to": []}
    for _ in range(max(rounds, 5)):
        start = clock()
        np.copyto(touched, source)
        copies["memcpy"].append(clock() - start)
        start = clock()
        made = pinned.to_buffer()
        copies["to_buffer"].append(clock() - start)
        del made
        start = clock()
        pinned.write_to(memoryview(touched))
        copies["write_to"].append(clock() - start)

    table = objects.array_dict()
    wide = {f"weight-{i}": np.ones(2) for i in range(10_000)}
    view = {}
    for name, subject in (("100 arrays, 40 MB", table), ("10,000 arrays", wide)):
        message = pyray.serialize(subject).to_buffer()
        if not np.array_equal(pyray.view(message)["weight-42"], subject["weight-42"]):
            raise AssertionError("view gives another array")
        view[name] = median(lambda message=message: pyray.view(message)["weight-42"], 200)
    return {
        "seconds_per_array": {k: v / more for k, v in per_array.items()},
        "bytes": size,
        "copy_seconds": {k: statistics.median(v) for k, v in copies.items()},
        "view_item_seconds": view,
    }


def versions(peer: Peer) -> dict:
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": sys.version.split()[0]}
    for name in dict.fromkeys([peer.version_of, "numpy", "pandas", "torch", "pyarrow"]):
        try:
            if name:
                found[name] = version(name)
        except PackageNotFoundError:
            pass
    return found


def brief(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160] if lines else ''}"


def answer_requests(peer: Peer, requests, reply: Callable[[dict], None]) -> None:
    """Serve rows until standard input ends; a row is served by a fork."""
    for line in requests:
        request = json.loads(line)
        if request["command"] == "start":
            pid = os.fork()
            if pid:
                if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
                    reply({"error": "the process died"})
                continue
            serve_row(peer, request, requests, reply)
        if request["command"] == "arrays":
            try:
                reply(array_measurements(request["rounds"]))
            except Exception as error:
                reply({"error": brief(error)})


def serve_row(peer: Peer, request: dict, requests, reply: Callable[[dict], None]) -> None:
    """Answer the requests about one row, then end this process."""
    try:
        session = RowSession(peer, request["row"], request["target"])
        reply(session.start())
        for line in requests:
            if json.loads(line)["command"] == "end":
                break
            reply(session.time())
    except BaseException as error:
        reply({"error": brief(error)})
    finally:
        os._exit(0)


def lines(descriptor: int):
    """Lines of a pipe, never read ahead: parent and fork share the descriptor."""
    line = b""
    while byte := os.read(descriptor, 1):
        line += byte
        if byte == b"\n":
            yield line
            line = b""


def main() -> None:
    warnings.simplefilter("ignore")
    peer = PEERS[sys.argv[1]]
    # What libraries print goes to standard error; the answers have the pipe to themselves.
    output = os.dup(1)
    os.dup2(2, 1)

    def reply(answer: dict) -> None:
        os.write(output, json.dumps(answer).encode() + b"\n")

    try:
        exec(peer.setup, {})
    except Exception as error:
        reply({"error": brief(error)})
        return
    for library in ("pandas", "torch"):  # imported once, not by each row's fork
        try:
            importlib.import_module(library)
        except ImportError:
            pass
    reply({"versions": versions(peer)})
    answer_requests(peer, lines(0), reply)


if __name__ == "__main__":
    main()
