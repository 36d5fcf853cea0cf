"""The driver's side of a session: its directory, its node process, the thread that listens to it.

Imports the core, session_files, channel and spawn, and printer when the node is on its way: all
that is imported before delays it. What api.py uses:

    start(options) -> RunningSession    returns as soon as tasks can be queued
    begin(make) -> RunningSession       the same with one that `make` gives: joining.py
    stop()                              prints all that workers have printed, ends the session
    current() -> RunningSession | None  the session that this process started or joined
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
from .settings import monitor_settings, number
from .spawn import spawn_node

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: Seconds without any sign of life after which an ending node is killed.
PATIENCE = 5.0
#: Seconds that the end of a notebook's cell waits for what workers have printed.
NOTEBOOK = 0.5
#: Bytes of arguments that tasks keep for lineage: a tenth of the store, and at most this.
MOST_LINEAGE = 256 << 20
#: As many as there can be.
NO_LIMIT = 2**63
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
        system_config: dict[str, Any] | None = None,
        spilling: list[str] | None = None,
    ) -> None:
        self.resources = resources
        self.object_store_memory = object_store_memory
        self.log_to_driver = log_to_driver
        self.temp_dir = temp_dir
        self.namespace = namespace
        self.max_workers = max_workers
        self.monitor = monitor_settings(system_config or {})
        self.spilling = [""] if spilling is None else spilling  # as spill_targets.validate gives it

    @property
    def memory(self) -> dict[str, Any]:
        """How Session.create() is to see to memory."""
        size = self.object_store_memory
        lineage = number("max_lineage_bytes", min(size // 10, MOST_LINEAGE), least=0)
        return {
            "arena_bytes": size,
            "spill_at": int(size * number("object_spilling_threshold", 0.8, 0, 1)),
            "max_lineage_bytes": int(min(lineage, NO_LIMIT)),
            "evicts": not self.spilling,
        }


_lock = threading.RLock()
_running: RunningSession | None = None
_forked_from: int | None = None
_warn: Callable[[str], None] | None = None


def current() -> RunningSession | None:
    """The session that this process started or joined and has not stopped."""
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
    return begin(lambda: StartedSession(options))


def begin(make: Callable[[], RunningSession]) -> RunningSession:
    """What this makes is the session of this process from now on."""
    global _running, _forked_from
    with _lock:
        if _running is not None:
            raise RuntimeError("this process has a session already; end it with shutdown() first")
        if not _registered:
            _register()
        session = make()
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
    """One session, as one of its drivers sees it: the node is at the other end of two descriptors.

    Whoever makes one sets these, and then calls `_go`.
    """

    core: _core.Session
    directory: str
    node_pid: int
    job: int
    _node: int  # a pidfd
    _from_node: int
    _to_node: int

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.dead = False
        self._inbox = Inbox()
        self._stopping = False
        self._flushes = 0
        self._flushed = 0
        self._heard = threading.Condition()

    def _go(self) -> None:
        """The process is a driver of the session from now on."""
        from .printer import Printer

        self._printer = Printer()
        _core.set_session(self.core)
        _core.set_job(self.job)
        self._cells = _after_cells(self._after_cell)
        self._thread = threading.Thread(target=self._listen, name="pyray-listen", daemon=True)
        self._thread.start()

    @property
    def logs(self) -> str:
        return os.path.join(self.directory, "logs")

    @property
    def name(self) -> str:
        return os.path.basename(self.directory)

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
        try:
            while True:
                ready = {fd for fd, _ in poll.poll(self._printer.milliseconds())}
                if self._from_node in ready:
                    if not self._read():
                        break
                elif self._node in ready:  # dead, and nothing left in its pipe
                    break
                self._printer.expire()
        finally:
            self._on_node_gone()

    def _read(self) -> bool:
        """Do as the node says; False when it will say no more."""
        try:
            data = os.read(self._from_node, CHUNK)
        except ConnectionResetError:
            data = b""
        for message in self._inbox.feed(data):
            self._on_message(message)
        return bool(data)

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
        self._printer.flush()
        status = self._how_it_ended()
        with self._heard:
            self.dead = True
            self._heard.notify_all()
        self._lose(f"{status}{self._last_words()}")

    def _lose(self, status: str) -> None:
        """From now on there is no session, for the reason given; again does no harm."""
        if self._stopping or self.core.dead:
            return
        warn(
            "The session is lost: every call of it raises RaySystemError. Call shutdown(), then"
            f" init() again. {status}"
        )
        self.core.dead = True
        self.core.interrupt()

    def _how_it_ended(self) -> str:
        """What has become of the node; unless this is the end, its workers go with it."""
        raise NotImplementedError

    def _kill_workers(self) -> None:
        for process in self.core.processes():
            if process["kind"] == "worker":
                _kill_group(process["pid"])

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
        """End this session, or leave it, if it is still the one of this process."""
        if _running is self:
            stop()

    def _stop(self) -> None:
        self._stopping = True
        try:
            self._leave()
        finally:
            self._thread.join(PATIENCE)  # it may be stuck in a write to a terminal that is stopped
            self._cells()
            _core.set_session(None)
            _core.set_job(0)
            self._close()
            self._clean()

    def _leave(self) -> None:
        """Threads that still wait raise; the node says no more when this returns."""
        raise NotImplementedError

    def _await_end(self) -> None:
        """Wait until the node is gone, as long as it gives signs of life."""
        with self._heard:
            while not self.dead:
                if not self._heard.wait(PATIENCE):
                    return

    def _close(self) -> None:
        for fd in {self._to_node, self._from_node, self._node} - {-1}:
            os.close(fd)
        self._to_node = self._from_node = self._node = -1

    def _clean(self) -> None:
        """Remove what the node should have removed."""
        session_files.remove(self.directory)

    def _forget(self) -> None:
        """In a forked process: no end of the pipes is ours, nor is anything in shared memory."""
        self.dead = True
        self._close()
        self.core.dead = True
        _core.set_session(None)
        _core.set_job(0)


class StartedSession(RunningSession):
    """One that this process has made, and that ends with it."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.job = 1
        self._files = new_directory(options)
        self.directory = self._files.path
        try:
            self.core = _core.Session.create(resources=options.resources, **options.memory)
            try:
                started = start_node(self.core, self._files, options, owner=True)
            except BaseException:
                self.core.close()
                raise
        except BaseException:
            self._files.close()
            session_files.remove_tree(self.directory)
            raise
        self.node_pid, self._node, self._to_node, self._from_node = started
        self._go()

    def _how_it_ended(self) -> str:
        self._kill_node()
        status = _reap(self.node_pid)
        if not self._stopping:
            self._kill_workers()
        return f"The node process of this session (pid {self.node_pid}) {status}"

    def _leave(self) -> None:
        # What this process held needs no giving back any more.
        self.core.dead = True
        self.core.interrupt()
        self.core.close()
        try:
            self._send({"shutdown": True})
            self._await_end()
        finally:
            self._kill_node()

    def _close(self) -> None:
        super()._close()
        self._files.close()


# -- making one ------------------------------------------------------------------------------


def new_directory(options: Options) -> session_files.SessionDirectory:
    root = session_files.root_directory(options.temp_dir)
    return session_files.create(root, time.time(), os.getpid())


def start_node(
    core: _core.Session, files: session_files.SessionDirectory, options: Options, owner: bool
) -> tuple[int, int, int, int]:
    """Start a node; its pid, a pidfd, and the descriptors of the pipes to it and from it.

    With `owner` the session ends with this process.
    """
    from_driver, to_node = os.pipe2(os.O_CLOEXEC)
    from_node, to_driver = os.pipe2(os.O_CLOEXEC)
    shared = (core.control_fd, core.arena_fd, core.wake_fd)
    given = (*shared, from_driver, to_driver, files.fd)
    try:
        os.write(to_node, frame({"hello": _hello(files.path, options, owner)}))
        pid = spawn_node(given, os.path.join(files.logs, "node.log"))
        return pid, os.pidfd_open(pid), to_node, from_node
    except BaseException:
        os.close(to_node)
        os.close(from_node)
        raise
    finally:
        os.close(from_driver)
        os.close(to_driver)


def _hello(directory: str, options: Options, owner: bool) -> dict[str, Any]:
    return {
        "directory": directory,
        "driver": os.getpid(),
        "owner": owner,
        "cpus": max(1, -int(-options.resources.get("CPU", 1) // 1)),
        "max_workers": max(1, options.max_workers or int(number("MAX_WORKERS", MAX_WORKERS))),
        "log_to_driver": options.log_to_driver,
        "monitor": options.monitor,
        "spilling": options.spilling,
        # A driver that has it has tasks that need it: sooner imported once than by each worker
        # (its first such task took a third of the time, on two cores).
        "preload": [name for name in ("numpy",) if name in sys.modules],
    }


# -- notebooks, warnings, processes ----------------------------------------------------------


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
