"""Where processes meet that use a store: a socket by the store's name, which hands out its memory.

Imports `errors` and `private_folder` only. `<tmp>/pyray-<uid>/stores/<name>`, the directories 0700,
the socket 0600. What goes over it is a greeting with the descriptors of the two segments; both
sides look at the other's user id. The server is a thread of the process that made the store. It
also watches the processes that have connected, and has what they held given back when they die:
their end of the connection is closed then, and, for good, their pidfd readable (a forked child may
keep the connection open, and a process that dies closes its sockets a moment before it is dead).

A socket that nobody listens on was left by a process that was killed: the next server of that
name replaces it. `create` is therefore done under a flock on the directory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

from pyray.store.errors import StoreConnectionError, StoreError, StoreExistsError
from pyray.store.private_folder import check_private

MAGIC = b"pyray store 1\0\0\0"
GREETING = struct.Struct("16si")  # MAGIC, the server's pid
CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
RETRY = 0.01  # seconds between two looks for a store that is not there
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


# -- directories ---------------------------------------------------------------------------------


def check_name(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the name of a store is a str, not {type(name).__name__}")
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot be the name of a store: 1 to 64 letters, digits, '_', '-', '.'"
        )
    return name


def directory() -> str:
    """Where the sockets of this user's stores are; it need not be there.

    The environment variables PYRAY_TMPDIR and TMPDIR may name another place than /tmp.
    """
    root = os.environ.get("PYRAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    return os.path.join(os.path.abspath(root), f"pyray-{os.getuid()}", "stores")


@contextlib.contextmanager
def opened(path: str, make: bool) -> Iterator[int]:
    """A descriptor of the directory, once it is known to be nobody else's."""
    for folder in (os.path.dirname(path), path):
        if make:
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)
        check_private(folder, "a store", "PYRAY_TMPDIR in the environment")
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def address(folder: int, name: str) -> str:
    """A path to a socket in an open directory that is short enough, wherever that is."""
    return f"/proc/self/fd/{folder}/{name}"


def peer(connection: socket.socket) -> tuple[int, int]:
    """The pid and user id of the process at the other end, from the kernel."""
    size = CREDENTIALS.size
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid, uid, _ = CREDENTIALS.unpack(data)
    return pid, uid


# -- serving -------------------------------------------------------------------------------------


def listen(name: str) -> tuple[socket.socket, str, int]:
    """A listening socket for a store, its path, and the number of its inode."""
    path = directory()
    with opened(path, make=True) as folder:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if is_served(folder, name):
            raise StoreExistsError(f"there is a store {name!r} already, at {path}/{name}")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(address(folder, name))
            os.chmod(name, 0o600, dir_fd=folder)
            listener.listen(128)
            listener.setblocking(False)
            inode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_ino
        except BaseException:
            listener.close()
            raise
    return listener, os.path.join(path, name), inode


def is_served(folder: int, name: str) -> bool:
    """Whether a process listens on that socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(address(folder, name))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except BlockingIOError:  # so many wait to be served
            return True
    return True


class Server:
    """Serves a store's descriptors from a thread until it is closed."""

    def __init__(self, name: str, fds: list[int], recover: Callable[[], object]) -> None:
        self.fds = fds
        self.recover = recover
        self.connections: set[socket.socket] = set()
        self.pidfds: dict[int, int] = {}  # by pid
        self.listener, self.path, self.inode = listen(name)
        self.stopper, self.stopped = socket.socketpair()
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)
        self.selector.register(self.stopped, selectors.EVENT_READ, None)
        self.thread = threading.Thread(target=self.run, name=f"pyray store {name}", daemon=True)
        self.thread.start()

    def run(self) -> None:
        while self.serve():
            pass
        self.forget()

    def serve(self) -> bool:
        """Do what there is to do; False when it is time to end."""
        for key, _ in self.selector.select():
            if key.data is None:
                return False
            key.data(key.fileobj)
        return True

    def accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError:  # no descriptor is free: not now
            time.sleep(RETRY)
            return
        try:
            pid, uid = peer(connection)
            if uid != os.getuid():
                raise PermissionError
            socket.send_fds(connection, [GREETING.pack(MAGIC, os.getpid())], self.fds)
            connection.setblocking(False)
            self.watch(pid)
            self.selector.register(connection, selectors.EVENT_READ, self.hang_up)
        except OSError:  # it is somebody else's, or has gone, or there are too many
            connection.close()
            return
        self.connections.add(connection)

    def watch(self, pid: int) -> None:
        """Notice the death of a process; without pidfds, others notice it later."""
        if pid not in self.pidfds and hasattr(os, "pidfd_open"):
            self.pidfds[pid] = os.pidfd_open(pid)
            self.selector.register(self.pidfds[pid], selectors.EVENT_READ, self.bury)

    def hang_up(self, connection: socket.socket) -> None:
        """Nothing is ever said on a connection, so that this is its end."""
        self.connections.discard(connection)
        self.selector.unregister(connection)
        connection.close()

    def bury(self, pidfd: int) -> None:
        self.selector.unregister(pidfd)
        os.close(pidfd)
        self.pidfds = {pid: fd for pid, fd in self.pidfds.items() if fd != pidfd}
        self.recover()

    def close(self) -> None:
        """Stop serving. Those who have connected are not concerned."""
        self.unlink()
        self.stopper.send(b"x")
        if threading.current_thread() is not self.thread:  # where a collection may have led to us
            self.thread.join()

    def unlink(self) -> None:
        """Remove the socket, unless it is another server's by now."""
        folder_path, name = os.path.split(self.path)
        with contextlib.suppress(OSError), opened(folder_path, make=False) as folder:
            fcntl.flock(folder, fcntl.LOCK_EX)
            if os.stat(name, dir_fd=folder, follow_symlinks=False).st_ino == self.inode:
                os.unlink(name, dir_fd=folder)

    def forget(self) -> None:
        """Close every descriptor: the thread's last act, or a forked child's, which has none."""
        self.selector.close()
        for one in (self.listener, self.stopper, self.stopped, *self.connections):
            one.close()
        for pidfd in self.pidfds.values():
            os.close(pidfd)
        self.connections.clear()
        self.pidfds.clear()


# -- connecting ----------------------------------------------------------------------------------


def connect(name: str, timeout: float | None) -> tuple[socket.socket, list[int]]:
    """A connection to the server of a store, and the store's descriptors."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        try:
            return greet(name, deadline)
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError) as error:
            if deadline is not None and time.monotonic() >= deadline:
                raise StoreConnectionError(
                    f"there is no store {name!r} at {directory()}: Store.create({name!r}) makes one"
                ) from error
            time.sleep(RETRY)


def greet(name: str, deadline: float | None) -> tuple[socket.socket, list[int]]:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with opened(directory(), make=False) as folder:
            if deadline is not None:
                connection.settimeout(max(deadline - time.monotonic(), RETRY))
            connection.connect(address(folder, name))
        pid, uid = peer(connection)
        if uid != os.getuid():
            raise PermissionError(f"the store {name!r} is served by the user with id {uid}")
        return connection, receive(connection, name, pid)
    except TimeoutError as error:
        connection.close()
        raise StoreConnectionError(
            f"the process that made the store {name!r} does not answer"
        ) from error
    except BaseException:
        connection.close()
        raise


def receive(connection: socket.socket, name: str, pid: int) -> list[int]:
    """The descriptors that the server sends with its greeting."""
    data, fds, flags, _ = socket.recv_fds(connection, GREETING.size, 2, socket.MSG_CMSG_CLOEXEC)
    try:
        if flags & socket.MSG_CTRUNC:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        if not data:
            raise PermissionError(f"the store {name!r} refuses this process")
        if len(data) != GREETING.size or len(fds) != 2 or data[:16] != MAGIC:
            raise StoreError(f"the store {name!r} is not one of this version of pyray")
        if GREETING.unpack(data)[1] != pid:
            raise StoreError(
                f"the store {name!r} is of another container (PID namespace), from where the"
                " processes here cannot be seen"
            )
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return fds
