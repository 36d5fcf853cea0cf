"""The workloads of the store benchmark.

    store_peers.py pyray|plasma|copies ROW [SETTINGS]

is run by store.py in their environment. A peer is a class with the few calls that the rows need; a
row is a function of it and of what to measure with.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime_measure import Memcpy, Run, pss, serve

SMALL = [1, 2, "three"]
READERS = 10
#: Of int64 items: one in each hundredth page.
ONE_PERCENT = 100 * 4096 // 8


class Pyray:
    """A store that this process makes; others join it by name."""

    name = "benchmark"

    def __init__(self, capacity: int = 0) -> None:
        from pyray.store import ObjectID, Store

        self.key = ObjectID
        if capacity:
            self.store = Store.create(self.name, capacity=capacity)
        else:
            self.store = Store.connect(self.name)
        self.put = self.store.put
        self.get = self.store.get
        self.delete = self.store.delete
        self.close = self.store.close
        self.helpers: list[int] = []

    def writable(self, key: Any) -> Any:
        return self.get(key, copy_on_write=True)


class Copies(Pyray):
    """The same, by readers that copy what they will write to."""

    def writable(self, key: Any) -> Any:
        return self.get(key).copy()


class Plasma:
    """pyarrow.plasma, with its server. Who will write has to copy."""

    def __init__(self, capacity: int = 0) -> None:
        warnings.simplefilter("ignore")
        from pyarrow import plasma

        socket = os.path.join(tempfile.gettempdir(), "plasma")
        self.server = None
        self.helpers: list[int] = []
        if capacity:
            server = Path(plasma.__file__).with_name("plasma-store-server")
            self.server = subprocess.Popen(
                [server, "-s", socket, "-m", str(capacity)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            self.helpers.append(self.server.pid)
        self.client = plasma.connect(socket)
        self.key = plasma.ObjectID
        self.put = self.client.put
        self.get = self.client.get

    def delete(self, key: Any) -> None:
        self.client.delete([key])

    def close(self) -> None:
        self.client.disconnect()
        if self.server is not None:
            self.server.terminate()
            self.server.wait()

    def writable(self, key: Any) -> Any:
        return self.get(key).copy()


PEERS: dict[str, type] = {"pyray": Pyray, "copies": Copies, "plasma": Plasma}
ROWS: dict[str, Callable[[type, Run], dict]] = {}


def row(name: str) -> Callable[[Callable[[type, Run], dict]], Callable[[type, Run], dict]]:
    def register(function: Callable[[type, Run], dict]) -> Callable[[type, Run], dict]:
        ROWS[name] = function
        return function

    return register


# -- one process ---------------------------------------------------------------------------------


@row("put-small")
def put_small(peer: type, run: Run) -> dict:
    """What is put is deleted again: a store holds so much."""
    store = peer(1 << 28)
    try:
        return run.rate(lambda: store.delete(store.put(SMALL)))
    finally:
        store.close()


@row("get-small")
def get_small(peer: type, run: Run) -> dict:
    store = peer(1 << 28)
    try:
        key = store.put(SMALL)
        return run.rate(lambda: store.get(key))
    finally:
        store.close()


@row("put-gigabyte")
def put_gigabyte(peer: type, run: Run) -> dict:
    """Gigabytes a second into memory that was used before; the limit is a copy by all cores."""
    import numpy as np

    array = np.ones(run.size(125_000_000, 12_500_000))
    store = peer(3 * array.nbytes)
    try:
        limit = Memcpy(array, os.cpu_count() or 1)
        return run.rate(
            lambda: store.delete(store.put(array)), units=array.nbytes / 1e9, limit=limit
        )
    finally:
        store.close()


@row("get-gigabyte")
def get_gigabyte(peer: type, run: Run) -> dict:
    import numpy as np

    array = np.ones(run.size(125_000_000, 12_500_000))
    store = peer(3 * array.nbytes)
    try:
        key = store.put(array)
        return run.time(lambda: store.get(key), scale=1e6)
    finally:
        store.close()


@row("get-to-write")
def get_to_write(peer: type, run: Run) -> dict:
    """An array of a gigabyte that may be written, of which one item in a hundred pages is."""
    import numpy as np

    array = np.ones(run.size(125_000_000, 12_500_000))
    store = peer(3 * array.nbytes)
    try:
        key = store.put(array)

        def write() -> None:
            store.writable(key)[::ONE_PERCENT] = 7

        return run.time(write, scale=1000)
    finally:
        store.close()


# -- several processes ---------------------------------------------------------------------------


class Others:
    """Processes that run a function of this module on a store of this peer."""

    def __init__(self, peer: type, count: int, function: str, argument: str = "") -> None:
        name = next(key for key, value in PEERS.items() if value is peer)
        self.processes = [
            subprocess.Popen(
                [sys.executable, __file__, "--other", name, function, argument],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(count)
        ]

    def say(self) -> None:
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write("go on\n")
            process.stdin.flush()

    def await_all(self) -> None:
        for process in self.processes:
            assert process.stdout is not None
            if process.stdout.readline() != "done\n":
                raise RuntimeError("another process has died")

    def end(self) -> None:
        for process in self.processes:
            process.communicate()

    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]


def done() -> None:
    print("done", flush=True)
    sys.stdin.readline()


def key_of(number: int) -> bytes:
    return number.to_bytes(20, "big")


@row("round-trip")
def round_trip(peer: type, run: Run) -> dict:
    """A value to a process that waits for it, and its answer, which is waited for."""
    store = peer(1 << 28)
    others = Others(peer, 1, "answer")
    number = 0

    def ask() -> None:
        nonlocal number
        store.put(number, store.key(key_of(2 * number)))
        if store.get(store.key(key_of(2 * number + 1))) != number:
            raise AssertionError("another answer")
        store.delete(store.key(key_of(2 * number)))
        store.delete(store.key(key_of(2 * number + 1)))
        number += 1

    try:
        others.await_all()
        others.say()
        found = run.time(ask, scale=1e6)
        store.put(None, store.key(key_of(2 * number)))
        others.end()
        return found
    finally:
        store.close()


def answer(store: Any, _argument: str) -> None:
    done()
    number = 0
    while True:
        asked = store.get(store.key(key_of(2 * number)))
        if asked is None:
            return
        store.put(asked, store.key(key_of(2 * number + 1)))
        number += 1


@row("readers")
def readers(peer: type, run: Run) -> dict:
    """Megabytes of all processes (PSS) that an array costs which ten read, then write 1 % of."""
    import numpy as np

    megabytes = run.size(1000, 100)
    store = peer(3 * megabytes << 20)
    others = Others(peer, READERS, "read_and_write")

    def memory() -> float:
        pids = [os.getpid(), *others.pids(), *store.helpers]
        return sum(pss(pid)["Pss"] for pid in pids) / 1e6

    try:
        others.await_all()
        before = memory()
        array = np.ones(megabytes * 125_000, np.int64)
        key = store.put(array, store.key(key_of(0)))
        del array
        stored = memory()
        others.say()
        others.await_all()
        read = memory()
        others.say()
        others.await_all()
        written = memory()
        if store.get(key).sum() != megabytes * 125_000:
            raise AssertionError("the object has changed")
        others.say()
        others.end()
        return {
            "value": written - before,
            "stored": stored - before,
            "read": read - before,
            "array": megabytes,
            "readers": READERS,
        }
    finally:
        store.close()


def read_and_write(store: Any, _argument: str) -> None:
    import numpy as np

    np.ones(1000).sum()
    store.get(store.put(np.ones(10)))  # everything is loaded
    done()
    array = store.writable(store.key(key_of(0)))
    if array.sum() != len(array):
        raise AssertionError("what a reader wrote is seen by another")
    done()
    array[::ONE_PERCENT] = os.getpid()
    done()


OTHERS = {"answer": answer, "read_and_write": read_and_write}


def versions(name: str) -> dict:
    from importlib.metadata import version

    found = {"python": sys.version.split()[0], "numpy": version("numpy")}
    if name == "plasma":
        found["pyarrow"] = version("pyarrow")
    return found


def main() -> None:
    if sys.argv[1] == "--other":
        OTHERS[sys.argv[3]](PEERS[sys.argv[2]](), sys.argv[4])
        return
    name = sys.argv[1]
    peer = PEERS[name]

    def bound(function: Callable[[type, Run], dict]) -> Callable[[Run], dict]:
        return lambda run: function(peer, run)

    serve({key: bound(function) for key, function in ROWS.items()}, lambda: versions(name))


if __name__ == "__main__":
    main()
