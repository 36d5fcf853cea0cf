"""Addresses of sessions: which there are, which one is meant, where its node and its facts are.

Imports session_files and settings. A session listens on a socket in its directory; a session that
`pyray start --head` has started has a file `head` beside it. One whose node lives is locked
(session_files.py), whatever its socket says: it may have been started a moment ago.
"""

from __future__ import annotations

import fcntl
import os
import sys

from . import session_files
from .settings import setting

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    import socket

__all__ = [
    "HEAD",
    "INFO",
    "SOCKET",
    "is_alive",
    "job_key",
    "no_session",
    "peer",
    "resolve",
    "sessions",
    "socket_path",
    "versions",
]

#: Files in the directory of a session.
SOCKET = "node.sock"
HEAD = "head"

#: Under which key a session's processes find what is known of it; of its jobs: `job_key`.
INFO = b"session's info  "


def job_key(job: int) -> bytes:
    return b"job's info  " + job.to_bytes(4, "little")


def resolve(address: str | None, temp_dir: str | None = None) -> list[str] | None:
    """The directories of the sessions that are meant, the best first; None: one is to be started.

    As in Ray: without an address, or with "auto", the variable PYRAY_ADDRESS counts if it is set;
    then sessions that were started by `pyray start --head`, and with "auto" any other.

    Raises:
        ConnectionError: there is none.
        NotImplementedError: it is an address of another engine.
    """
    if address in (None, "auto"):
        address = setting("ADDRESS") or address
    if address == "local":
        return None
    if address not in (None, "auto"):
        return [_directory(str(address), temp_dir)]
    found = sessions(session_files.root_directory(temp_dir))
    heads = [path for path in found if os.path.exists(os.path.join(path, HEAD))]
    if address is None:
        return heads or None
    if not found:
        raise no_session()
    return heads + [path for path in found if path not in heads]


def no_session() -> ConnectionError:
    return ConnectionError(
        "Could not find any running Ray instance. Please specify the one to connect to by setting "
        "`--address` flag or `RAY_ADDRESS` environment variable. `pyray start --head` and init() "
        "without an address start one."
    )


def _directory(address: str, temp_dir: str | None) -> str:
    if "://" in address:
        engine = address.partition("://")[0]
        raise NotImplementedError(
            f"address={address!r}: the engine {engine!r} is not there yet. Call init() without an "
            "address to run on this machine."
        )
    path = address
    if os.sep not in address:
        path = os.path.join(session_files.root_directory(temp_dir), address)
    if not os.path.isdir(path):
        raise ConnectionError(
            f"Failed to connect to {address!r}: there is no such session. An address is the name "
            "of a session of this machine, or its directory: a session has no network address. "
            "Call init() without an address to start one."
        )
    return os.path.realpath(path)


def sessions(root: str) -> list[str]:
    """The directories of the sessions that are alive, the youngest first."""
    names = [name for name in os.listdir(root) if name.startswith(session_files.PREFIX)]
    names = [name for name in names if name != session_files.LATEST]
    paths = [os.path.join(root, name) for name in sorted(names, reverse=True)]
    return [path for path in paths if is_alive(path)]


def is_alive(path: str) -> bool:
    """Whether a process of the session lives; a session of another user counts as none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if os.fstat(fd).st_uid != os.getuid():
            return False
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False


# -- the socket ------------------------------------------------------------------------------


def socket_path(directory: int, name: str = SOCKET) -> str:
    """A path to the socket in an open directory that is short enough, wherever that is."""
    return f"/proc/self/fd/{directory}/{name}"


def peer(connection: socket.socket) -> tuple[int, int]:
    """The pid and user id of the process at the other end, from the kernel."""
    from socket import SO_PEERCRED, SOL_SOCKET

    data = memoryview(connection.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)).cast("i")
    return data[0], data[1]


def versions() -> dict[str, str]:
    """What two processes of a session must have in common."""
    from pyray import __version__

    return {"pyray": __version__, "python": "{}.{}".format(*sys.version_info)}
