"""Modules that the node imports ahead of the workers that it forks out of itself.

Workers share their memory, and need no time for them. First what every worker needs, before there
is any. Later what workers have had to import of the standard library to load a function or a class:
one that is found by its module has the module imported in each worker, which makes two thirds of
the time in which an actor is made, most of it the standard library's. Other packages are not
imported here: they may start threads, and the node forks. Imports nothing else of pyray.
"""

from __future__ import annotations

import gc
import itertools
import os
import select
import sys
import warnings
from collections import deque
from types import ModuleType

#: What every worker needs for its first task.
NEEDED = ("cloudpickle.cloudpickle", "pyray.runtime.functions", "pyray.runtime.resources")
#: Of the standard library, but with an effect: on the screen, on the terminal, or by variables of
#: the environment, which a runtime environment may set.
EXCEPT = {"antigravity", "curses", "_curses", "readline", "rlcompleter", "this", "zoneinfo"}


def load_first(names: list[str]) -> None:
    """What all workers need, and these, before the first one."""
    before = os.environ.get("OPENBLAS_NUM_THREADS")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # no threads here: this process forks
    for name in (*NEEDED, *names):
        _load(name)
    if before is None:
        del os.environ["OPENBLAS_NUM_THREADS"]
    else:
        os.environ["OPENBLAS_NUM_THREADS"] = before
    gc.freeze()


def _load(name: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is deprecated: who imports it is told
            __import__(name)
    except Exception:
        pass  # a worker that needs it says what is wrong


class Wishes:
    """What workers have imported, as the node hears of it.

    A pipe, into which they write lines, each the name of a module: at most PIPE_BUF at a time, so
    that those of several do not mix. When it is full they leave it.
    """

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._names: deque[str] = deque()
        self._rest = b""

    def read(self) -> None:
        *lines, self._rest = (self._rest + os.read(self.reader, 1 << 16)).split(b"\n")
        for line in lines:
            name = line.decode(errors="replace")
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names and top not in EXCEPT and name not in sys.modules:
                self._names.append(name)

    def grant(self) -> bool:
        """Import one module; whether there are others."""
        if self._names:
            _load(self._names.popleft())
            if not self._names:
                gc.freeze()
        return bool(self._names)


class Imports:
    """What a worker has imported since it was forked, as it tells the node.

    It looks at what is new alone, since to look at an object of the node's copies the memory.
    """

    def __init__(self, writer: int) -> None:
        self._writer = writer
        self._latest = next(reversed(sys.modules))

    def tell(self) -> None:
        """Of modules of the standard library that are new."""
        new = set(itertools.takewhile(lambda name: name != self._latest, reversed(sys.modules)))
        self._latest = next(reversed(sys.modules))
        if not any(name.partition(".")[0] in sys.stdlib_module_names for name in new):
            return
        names = [name for name in of_standard_library() if name in new]
        text = "".join(f"{name}\n" for name in names).encode()
        text = text[: text.rfind(b"\n", 0, select.PIPE_BUF) + 1]
        try:
            os.write(self._writer, text)
        except OSError:
            pass  # others say the same, or have closed it


def of_standard_library() -> list[str]:
    """What this process has loaded of it; nothing if a module of the program has such a name, which
    the node would import instead."""
    home = os.path.join(os.path.dirname(os.__file__), "")
    found = []
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None) if isinstance(module, ModuleType) else None
        if name.partition(".")[0] not in sys.stdlib_module_names or spec is None:
            continue
        if spec.name != name or not spec.has_location:
            continue  # another name of it, or a part of the interpreter
        origin = spec.origin or ""
        if not origin.startswith(home) or "site-packages" in origin:
            return []
        found.append(name)
    return found
