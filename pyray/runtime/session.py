"""The driver's side of a session: its directory, its node process, the thread that listens to it.

Imports the core, session_files and channel, and printer when the node is on its way: all that is
imported before delays it. What api.py uses:

    start(options) -> RunningSession    returns as soon as tasks can be queued
    stop()                              prints all that workers have printed, ends the session
    current() -> RunningSession | None  the session that this process started
    forked_from() -> int | None         the driver of which this process is a fork

Crashes. If the node dies, the listening thread sees its pipe end or its pidfd, kills what is left
of its workers and sets `core.dead`, upon which every call that waits raises. If this process
dies, the node sees it and removes everything (node.py). The directory is removed by the node at
the end of a session, and by `stop` if there is no node.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import sys
import threading
import time

from . import _core, session_files
from .channel import CHUNK, Inbox, frame
from .settings import number

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: Descriptors of the node; node.py has the same.
_CONTROL = 3
_NODE = "from pyray.runtime.node import main; main()"
#: Seconds without any sign of life after which an ending node is killed.
PATIENCE = 5.0
#: Seconds that the end of a notebook's cell waits for what workers have printed.
NOTEBOOK = 0.5
#: Worker processes of a session at most, unless the environment says otherwise.
MAX_WORKERS = 1000


class Options:
    """What a session is made of; start.py has checked it."""

    def __init__(
        self,
        resources: dict[str, float],
        object_store_memory: int,
        log_to_driver: bool = True,
        temp_dir: str | None = None,
        namespace: str = "",
        max_workers: int | None = None,
    ) -> None:
        self.resources = resources
        self.object_store_memory = object_store_memory
        self.log_to_driver = log_to_driver
        self.temp_dir = temp_dir
        self.namespace = namespace
        self.max_workers = max_workers


_lock = threading.RLock()
_running: RunningSession | None = None
_forked_from: int | None = None
_warn: Callable[[str], None] | None = None


def current() -> RunningSession | None:
    """The session that this process started and has not stopped."""
    return _running


def forked_from() -> int | None:
    """If this process is a fork of one with a session: the pid of that."""
    return _forked_from


def on_warning(callback: Callable[[str], None] | None) -> None:
    """Give warnings to this function, in place of the logger `pyray`."""
    global _warn
    _warn = callback


def start(options: Options) -> RunningSession:
    """Make a session; its node comes to life while the caller goes on."""
    global _running, _forked_from
    with _lock:
        if _running is not None:
            raise RuntimeError("this process has a session already; end it with shutdown() first")
        if not _registered:
            _register()
        session = RunningSession(options)
        _forked_from = None
        _running = session
        return session


def stop() -> None:
    """End the session of this process, if it has one."""
    global _running
    with _lock:
        session, _running = _running, None
    if session is not None:
        session._stop()


_registered: list[bool] = []


def _register() -> None:
    _registered.append(True)
    atexit.register(stop)
    os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    """In a process that was forked from the driver: the session is not its own."""
    global _running, _forked_from, _lock
    _lock = threading.RLock()
    if _running is not None:
        session, _running = _running, None
        _forked_from = session.pid
        session._forget()


class RunningSession:
    """One session, as the driver that started it sees it."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.pid = os.getpid()
        self.started = time.time()
        self.dead = False
        root = session_files.root_directory(options.temp_dir)
        self._files = session_files.create(root, self.started, self.pid)
        self.directory = self._files.path
        self.logs = self._files.logs
        self.name = os.path.basename(self.directory)
        self._stopping = False
        self._flushes = 0
        self._flushed = 0
        self._heard = threading.Condition()
        try:
            self.core = _core.Session.create(
                arena_bytes=options.object_store_memory, resources=options.resources
            )
        except BaseException:
            self._files.close()
            session_files.remove_tree(self.directory)
            raise
        try:
            self._start_node()
        except BaseException:
            self.core.close()
            self._files.close()
            session_files.remove_tree(self.directory)
            raise
        _core.set_session(self.core)
        self._cells = _after_cells(self._after_cell)
        self._thread = threading.Thread(target=self._listen, name="pyray-listen", daemon=True)
        self._thread.start()

    # -- the node ------------------------------------------------------------------------------

    def _start_node(self) -> None:
        from_driver, self._to_node = os.pipe2(os.O_CLOEXEC)
        self._from_node, to_driver = os.pipe2(os.O_CLOEXEC)
        core = self.core
        shared = (core.control_fd, core.arena_fd, core.wake_fd)
        given = (*shared, from_driver, to_driver, self._files.fd)
        try:
            os.write(self._to_node, frame({"hello": self._hello()}))
            self.node_pid = _spawn_node(given, os.path.join(self.logs, "node.log"))
            self._node = os.pidfd_open(self.node_pid)
            from .printer import Printer

            self._printer = Printer()
        except BaseException:
            os.close(self._to_node)
            os.close(self._from_node)
            raise
        finally:
            os.close(from_driver)
            os.close(to_driver)

    def _hello(self) -> dict[str, Any]:
        options = self.options
        return {
            "directory": self.directory,
            "driver": self.pid,
            "cpus": max(1, -int(-options.resources.get("CPU", 1) // 1)),
            "max_workers": max(1, options.max_workers or int(number("MAX_WORKERS", MAX_WORKERS))),
            "log_to_driver": options.log_to_driver,
            # A driver that has it has tasks that need it: sooner imported once than by each worker
            # (its first such task took a third of the time, on two cores).
            "preload": [name for name in ("numpy",) if name in sys.modules],
        }

    def _send(self, message: dict[str, Any]) -> bool:
        try:
            os.write(self._to_node, frame(message))
        except OSError:  # the node has died, or the session has ended
            return False
        return True

    # -- what the node says --------------------------------------------------------------------

    def _listen(self) -> None:
        """The thread that prints what workers print, until the node is gone."""
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        poll = select.poll()
        poll.register(self._from_node, select.POLLIN)
        poll.register(self._node, select.POLLIN)
        inbox = Inbox()
        try:
            while True:
                ready = {fd for fd, _ in poll.poll(self._printer.milliseconds())}
                if self._from_node in ready:
                    data = os.read(self._from_node, CHUNK)
                    if not data:
                        break
                    for message in inbox.feed(data):
                        self._on_message(message)
                elif self._node in ready:  # dead, and nothing left in its pipe
                    break
                self._printer.expire()
        finally:
            self._on_node_gone()

    def _on_message(self, message: dict[str, Any]) -> None:
        if "log" in message:
            self._printer.add(message["log"])
        if "warning" in message:
            warn(message["warning"])
        with self._heard:
            if "flushed" in message:
                self._printer.flush()
                self._flushed = message["flushed"]
            self._heard.notify_all()

    def _kill_node(self) -> None:
        try:
            signal.pidfd_send_signal(self._node, signal.SIGKILL)
        except ProcessLookupError:
            pass  # as it should be

    def _on_node_gone(self) -> None:
        self._kill_node()
        self._printer.flush()
        status = _reap(self.node_pid)
        with self._heard:
            self.dead = True
            self._heard.notify_all()
        if self._stopping:
            return
        self.core.dead = True
        self.core.interrupt()
        for process in self.core.processes():
            if process["kind"] == "worker":
                _kill_group(process["pid"])
        warn(
            f"The node process of this session (pid {self.node_pid}) {status}: the session is lost,"
            " every call of it raises RaySystemError. Call shutdown(), then init() again."
            f"{self._last_words()}"
        )

    def _last_words(self) -> str:
        """What the node wrote before it died, if anything."""
        try:
            with open(os.path.join(self.logs, "node.log"), errors="replace") as file:
                text = file.read()[-2000:].strip()
        except OSError:
            return ""
        return f"\n{text}" if text else ""

    # -- flushing and ending -------------------------------------------------------------------

    def flush(self, timeout: float | None = PATIENCE) -> bool:
        """Print all that workers have printed until now; whether that was possible in time."""
        with self._heard:
            self._flushes += 1
            wanted = self._flushes
            if not self._send({"flush": wanted}):
                return False
            self._heard.wait_for(lambda: self._flushed >= wanted or self.dead, timeout)
            return self._flushed >= wanted

    def _after_cell(self, *_: Any) -> None:
        """In a notebook: what workers have printed belongs to the cell that has just ended."""
        self.flush(NOTEBOOK)

    def stop(self) -> None:
        """End this session if it is still the one of this process."""
        if _running is self:
            stop()

    def _stop(self) -> None:
        self._stopping = True
        # Threads that still wait raise; what this process held needs no giving back any more.
        self.core.dead = True
        self.core.interrupt()
        self.core.close()
        try:
            self._send({"shutdown": True})
            self._await_end()
        finally:
            self._kill_node()
            self._thread.join(PATIENCE)  # it may be stuck in a write to a terminal that is stopped
            self._cells()
            _core.set_session(None)
            self._close()
            session_files.remove(self.directory)

    def _await_end(self) -> None:
        """Wait until the node is gone, as long as it gives signs of life."""
        with self._heard:
            while not self.dead:
                if not self._heard.wait(PATIENCE):
                    return

    def _close(self) -> None:
        for fd in (self._to_node, self._from_node, self._node):
            os.close(fd)
        self._to_node = self._from_node = self._node = -1
        self._files.close()

    def _forget(self) -> None:
        """In a forked process: no end of the pipes is ours, nor is anything in shared memory."""
        self.dead = True
        self._close()
        self.core.dead = True
        _core.set_session(None)


def _after_cells(callback: Callable[..., None]) -> Callable[[], None]:
    """Call it after each cell, if this is IPython; gives what ends that."""
    if "IPython" not in sys.modules:
        return lambda: None
    shell = sys.modules["IPython"].get_ipython()
    if shell is None:
        return lambda: None
    shell.events.register("post_execute", callback)
    return lambda: shell.events.unregister("post_execute", callback)


def warn(text: str) -> None:
    """Tell the user."""
    if _warn is not None:
        _warn(text)
        return
    import logging

    logging.getLogger("pyray").warning(text)


def _spawn_node(given: tuple[int, ...], log: str) -> int:
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


def _reap(pid: int) -> str:
    """Wait for the node's end; how it ended."""
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:  # somebody else has waited for it
        return "has ended"
    code = os.waitstatus_to_exitcode(status)
    return f"was killed by signal {-code}" if code < 0 else f"has ended with status {code}"


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except OSError:
        pass  # it has ended, and all of its group
