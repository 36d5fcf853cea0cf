"""How a node process is started: another Python like this one, with descriptors at their places.

Imports nothing else of pyray: all that is imported before delays the node.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from typing import Any

#: Descriptors of the node; node.py has the same.
_CONTROL = 3
_NODE = "from pyray.runtime.node import main; main()"


def spawn_node(given: tuple[int, ...], log: str) -> int:
    """Start a node with these descriptors at their places."""
    import fcntl

    if not sys.executable:
        raise RuntimeError("sys.executable is empty: there is no Python to start the node with")
    # Out of the way of the places first, as one may stand where another belongs.
    beyond = _CONTROL + len(given)
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, beyond) for fd in given]
    actions: list[tuple[Any, ...]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    actions += [(os.POSIX_SPAWN_DUP2, fd, _CONTROL + i) for i, fd in enumerate(copies)]
    # Nothing of what is imported is garbage; the node enables the collector.
    code = f"import gc, sys; gc.disable(); sys.path[:] = {_path()!r}\n{_NODE}"
    try:
        return os.posix_spawn(
            sys.executable,
            [sys.executable, *_interpreter_flags(), "-c", code],
            os.environ,
            file_actions=actions,
            setsid=True,  # out of reach of the terminal's Ctrl-C
            setsigmask=(),
            setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
        )
    finally:
        for fd in copies:
            os.close(fd)


def _path() -> list[str]:
    """sys.path, and where pyray is if that is on none of it."""
    path = [entry for entry in sys.path if isinstance(entry, str)]
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if not any(os.path.isdir(os.path.join(entry or ".", "pyray", "runtime")) for entry in path):
        path.append(package)
    return path


def _interpreter_flags() -> list[str]:
    """The options that this interpreter was started with, as far as they matter to another."""
    flags = sys.flags
    given = []
    if flags.isolated:
        given.append("-I")
    else:
        given += ["-E"] * bool(flags.ignore_environment) + ["-s"] * bool(flags.no_user_site)
    given += ["-S"] * bool(flags.no_site) + ["-B"] * bool(flags.dont_write_bytecode)
    given += ["-" + "O" * flags.optimize] * bool(flags.optimize)
    given += ["-" + "b" * flags.bytes_warning] * bool(flags.bytes_warning)
    for option in sys.warnoptions:
        given += ["-W", option]
    for name, value in sys._xoptions.items():
        if name not in ("importtime", "showrefcount"):
            given += ["-X", name if value is True else f"{name}={value}"]
    return given
