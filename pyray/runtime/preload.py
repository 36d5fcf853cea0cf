"""Modules that the node imports ahead of the workers that it forks out of itself.

Workers share their memory, and need no time for them. First what every worker needs, before there
is any; later, between other things, what the driver has loaded of the standard library: a function
or a class that is found by its module has the module imported in each worker anew, and what takes
time of that is often the standard library's (10 of 12 ms, of the class that the benchmark of actors
uses). Other packages are not imported here: they may start threads, and the node forks.
"""

from __future__ import annotations

import gc
import os
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType

#: What every worker needs for its first task.
NEEDED = ("cloudpickle.cloudpickle", "pyray.runtime.functions", "pyray.runtime.resources")
#: Of the standard library, but with an effect: on the screen, on the terminal, or by variables of
#: the environment, which a runtime environment may set.
EXCEPT = {"antigravity", "curses", "_curses", "readline", "rlcompleter", "this", "zoneinfo"}


def of_standard_library() -> list[str]:
    """What this process has loaded of it; nothing if a module of the program has such a name, which
    the node would import instead."""
    home = os.path.join(os.path.dirname(os.__file__), "")
    found = []
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None) if isinstance(module, ModuleType) else None
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names or spec is None or spec.name != name:
            continue
        origin = spec.origin or ""
        if not spec.has_location:
            continue  # a part of the interpreter
        if not origin.startswith(home) or "site-packages" in origin:
            return []
        if top not in EXCEPT:
            found.append(name)
    return found


def load(name: str) -> None:
    if name in sys.modules:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the driver has been told
            __import__(name)
    except Exception:
        pass  # a worker that needs it says what is wrong


def load_first(names: list[str]) -> None:
    """What all workers need, and numpy, before the first one."""
    before = os.environ.get("OPENBLAS_NUM_THREADS")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # no threads here: this process forks
    for name in (*NEEDED, *names):
        load(name)
    if before is None:
        del os.environ["OPENBLAS_NUM_THREADS"]
    else:
        os.environ["OPENBLAS_NUM_THREADS"] = before
    gc.freeze()


def load_later(names: list[str]) -> Iterator[str]:
    """The others, one a step."""
    for name in names:
        if name not in sys.modules:
            load(name)
            yield name
    gc.freeze()
