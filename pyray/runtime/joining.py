"""Joining a session that another process has started: `init(address=...)`, and commands of cli.py.

Imports the core, session, addresses and channel. What is said over the socket is in drivers.py.

    join(directories, info, log_to_driver) -> JoinedSession    of the first that can be joined
    connect(directory) -> Connection                           to look at one, or to stop it
    first(directories, attempt)                                with the first that answers

Crashes. If the node dies, or ends the session, every call of this driver raises, as it does for the
driver that started the session. If this process dies, the node sees it, gives back what it held and
stops its job.
"""

from __future__ import annotations

import os
import select
import socket
import time

from . import _core, addresses, session, session_files
from .channel import CHUNK, Inbox, frame

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Connection", "JoinedSession", "connect", "first", "join"]

#: Seconds to wait for the node of a session that is alive, and between two attempts.
PATIENCE, RETRY = 5.0, 0.01
#: What a connection to a node that ends is like.
GONE = (ConnectionRefusedError, ConnectionResetError, BrokenPipeError)
#: Seconds that a node which has ended a connection without a word may take to be dead.
DYING = 1.0


def join(directories: list[str], info: bytes, log_to_driver: bool) -> JoinedSession:
    """Make this process a driver of the first of these sessions whose node answers.

    `info` is what the session's processes can know of this job.

    Raises:
        ConnectionError: none does.
        RuntimeError: it is a session of another version.
    """

    def start() -> JoinedSession:
        joined: JoinedSession = first(
            directories, lambda path: JoinedSession(connect(path), info, log_to_driver)
        )
        return joined

    found = session.begin(start)
    assert isinstance(found, JoinedSession)
    return found


def first(directories: list[str], attempt: Callable[[str], Any]) -> Any:
    """What the attempt gives with one of them; they may have been started a moment ago, or end now.

    Raises:
        ConnectionError: none answers.
    """
    deadline = time.monotonic() + PATIENCE
    for directory in directories:
        while addresses.is_alive(directory):
            try:
                return attempt(directory)
            except GONE:
                break
            except FileNotFoundError:  # it does not listen yet
                if time.monotonic() > deadline:
                    break
            time.sleep(RETRY)
    if not any(map(addresses.is_alive, directories)):
        raise addresses.no_session()
    raise ConnectionError(
        f"Failed to connect to {directories[0]!r}: the node process of that session does not "
        "listen. Its log may say why: logs/node.log."
    )


class Connection:
    """A socket to a node, which has said nothing yet."""

    def __init__(self, directory: str, connection: socket.socket, node_pid: int) -> None:
        self.directory = directory
        self.socket = connection
        self.node_pid = node_pid
        self.inbox = Inbox()

    def tell(self, message: dict[str, Any]) -> None:
        self.socket.sendall(frame(message))

    def ask(self, message: dict[str, Any]) -> tuple[dict[str, Any], tuple[int, int, int]]:
        """Say something that is answered by "welcome", and the descriptors of the session.

        Raises:
            RuntimeError: the node refuses, and says why.
            ConnectionError: there is no answer, or no more.
        """
        fds: list[int] = []
        try:
            self.tell(message)
            while True:
                data, more, _, _ = socket.recv_fds(self.socket, CHUNK, 8, socket.MSG_CMSG_CLOEXEC)
                fds += more
                if not data:
                    raise ConnectionResetError("the node has ended the connection")
                for answer in list(self.inbox.feed(data)):  # one: descriptors end what is received
                    if "refused" in answer:
                        raise RuntimeError(answer["refused"])
                    if "welcome" in answer:
                        control, arena, wake = fds
                        return answer["welcome"], (control, arena, wake)
        except TimeoutError:
            close_all(fds)
            raise no_answer(self.directory) from None
        except BaseException:
            close_all(fds)
            raise

    def close(self) -> None:
        self.socket.close()


def connect(directory: str) -> Connection:
    """A connection to the node of that session.

    Raises:
        FileNotFoundError, ConnectionRefusedError: it does not listen, or not any more.
        PermissionError: it is of another user.
    """
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        owner = os.fstat(folder).st_uid
        if owner != os.getuid():
            raise PermissionError(f"the session {directory} is of the user with id {owner}")
        connection.settimeout(PATIENCE)
        connection.connect(addresses.socket_path(folder))
        pid, uid = addresses.peer(connection)
        if uid != os.getuid():
            raise PermissionError(f"the session {directory} is of the user with id {uid}")
        if not pid:
            raise ConnectionError(
                f"the session {directory} is of another container (PID namespace), from where the "
                "processes here cannot be seen"
            )
        return Connection(directory, connection, pid)
    except TimeoutError:
        connection.close()
        raise no_answer(directory) from None
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(folder)


def no_answer(directory: str) -> ConnectionError:
    return ConnectionError(f"the node process of the session {directory} does not answer")


def await_info(core: _core.Session) -> None:
    """Until who starts the session has said what is to be known of it."""
    deadline = time.monotonic() + PATIENCE
    while core.find(addresses.INFO) is None:
        if time.monotonic() > deadline:
            core.close()
            raise ConnectionError("the driver that starts the session does not get on with it")
        time.sleep(RETRY)


def close_all(fds: list[int]) -> None:
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            pass  # the session had taken it over


class JoinedSession(session.RunningSession):
    """One that another process has started."""

    def __init__(self, connection: Connection, info: bytes, log_to_driver: bool) -> None:
        super().__init__()
        self.directory = connection.directory
        self._socket = connection.socket
        self._inbox = connection.inbox
        self._ended = ""  # why, as the node said
        self._lost = False
        about = {"versions": addresses.versions(), "info": info, "log_to_driver": log_to_driver}
        try:
            welcome, shared = connection.ask({"join": about})
            self.job, self.node_pid = welcome["job"], welcome["node"]
            self.core = _core.Session.attach(*shared, "driver")
            await_info(self.core)
            self._node = self._pidfd(connection.node_pid)
        except BaseException:
            connection.close()
            raise
        self._socket.settimeout(None)
        self._from_node = self._to_node = self._socket.fileno()
        self._go()

    def _pidfd(self, pid: int) -> int:
        """Of the node, if its pid is the same to it as to us."""
        try:
            if pid == self.node_pid:
                return os.pidfd_open(pid)
            error = ConnectionError(f"the session {self.directory} is of another PID namespace")
        except ProcessLookupError:
            error = ConnectionResetError(f"the session {self.directory} has just ended")
        self.core.close()
        raise error

    def _on_message(self, message: dict[str, Any]) -> None:
        super()._on_message(message)
        if "ended" in message:  # or is about to: what fails from now on fails of that
            self._ended = message["ended"]
            self._lose(f"The session {self.name} has ended: {self._ended}")

    def _how_it_ended(self) -> str:
        if self._ended or self._stopping:
            return ""
        self._lost = _is_dead(self._node)
        if self._lost:
            self._kill_workers()
            return f"The node process of this session (pid {self.node_pid}) has died"
        return f"The node process of this session (pid {self.node_pid}) has ended the connection"

    def _leave(self) -> None:
        if not self.dead:
            self.flush()
        self.core.close()
        self.core.interrupt()
        try:
            if self._send({"leave": True}):
                self._await_end()
        finally:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the node has been faster

    def _close(self) -> None:
        self._socket.close()
        self._from_node = self._to_node = -1
        super()._close()

    def _clean(self) -> None:
        if self._lost:  # else it is the node's, and others' still
            session_files.remove(self.directory)


def _is_dead(pidfd: int) -> bool:
    """Whether that process is dead, or is so in a moment."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(DYING * 1000))
