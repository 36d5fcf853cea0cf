"""Sessions without a driver: started, looked at and ended by cli.py.

Imports the core, session, joining, addresses and connection. The process that starts one is gone
when it is there: the node belongs to init then, holds what the session is known by, and ends when
it is told to.

Crashes. A process that dies while it starts a session leaves one that runs, or a directory that the
next session removes. If the node dies, its workers go with it, drivers raise, and the directory is
removed by a driver, or the next session.
"""

from __future__ import annotations

import os
import select
import signal
import sys

from . import _core, addresses, connection, joining, session, session_files
from .channel import CHUNK, Inbox
from .runtime_context import node_id

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["heads", "look", "start", "stop", "visit"]


def heads(temp_dir: str | None = None) -> list[str]:
    """The directories of the sessions that were started so, the youngest first."""
    found = addresses.sessions(session_files.root_directory(temp_dir))
    return [path for path in found if os.path.exists(os.path.join(path, addresses.HEAD))]


# -- starting --------------------------------------------------------------------------------


def start(options: session.Options, labels: dict[str, str]) -> tuple[str, int]:
    """Start a session that lives without drivers; its directory and the pid of its node.

    It can be joined when this returns. Of several processes that start one at once the first does.

    Raises:
        ConnectionError: there is one already.
        RuntimeError: it has ended at once, with what it has said.
    """
    lock = session_files.lock(session_files.root_directory(options.temp_dir))
    try:
        running = heads(options.temp_dir)
        if running:
            raise ConnectionError(
                f"a session is running already, {running[0]}: `pyray stop` ends it, and --temp-dir "
                "gives this one another place"
            )
        return _start(options, labels)
    finally:
        os.close(lock)


def _start(options: session.Options, labels: dict[str, str]) -> tuple[str, int]:
    files = session.new_directory(options)
    try:
        os.close(os.open(os.path.join(files.path, addresses.HEAD), os.O_CREAT | os.O_WRONLY, 0o600))
        core = _core.Session.create(resources=options.resources, kind="client", **options.memory)
        try:
            connection.publish(core, _known(files.path, labels))
            connection.publish_targets(core, options.spilling, files.path)
            pid = _start_node(core, files, options)
        finally:
            core.close()
    except BaseException:
        session_files.remove_tree(files.path)
        raise
    finally:
        files.close()
    return files.path, pid


def _known(directory: str, labels: dict[str, str]) -> dict[str, Any]:
    name = os.path.basename(directory)
    return {
        "directory": directory,
        "name": name,
        "node_id": node_id(name),
        "labels": {"ray.io/node-id": node_id(name), **labels},
        "sys_path": list(sys.path),
        "job_id": connection.job_id(0),
        "namespace": "",
    }


def _start_node(
    core: _core.Session, files: session_files.SessionDirectory, options: session.Options
) -> int:
    pid, pidfd, to_node, from_node = session.start_node(core, files, options, owner=False)
    try:
        inbox = Inbox()
        while data := os.read(from_node, CHUNK):
            if any("listening" in message for message in inbox.feed(data)):
                return pid
        _await_death(pidfd, None)
        with open(os.path.join(files.logs, "node.log"), errors="replace") as log:
            raise RuntimeError(f"the node process has ended at once. It said:\n{log.read()}")
    finally:
        for fd in (pidfd, to_node, from_node):
            os.close(fd)


# -- stopping --------------------------------------------------------------------------------


def stop(directory: str, force: bool, patience: float) -> bool:
    """End that session, with `force` by the death of its node; whether its node is gone."""
    try:
        node = joining.connect(directory)
    except (FileNotFoundError, ConnectionRefusedError):
        return not addresses.is_alive(directory)
    try:
        pidfd = os.pidfd_open(node.node_pid)
    except ProcessLookupError:
        node.close()
        return True
    try:
        if force:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        else:
            node.tell({"stop": "it was ended by `pyray stop`"})
        gone = _await_death(pidfd, patience)
    finally:
        node.close()
        os.close(pidfd)
    if gone:
        session_files.remove(directory)  # if the node had no time to
    return gone


def _await_death(pidfd: int, seconds: float | None) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(None if seconds is None else seconds * 1000))


# -- looking ---------------------------------------------------------------------------------


def visit(directories: list[str], see: Callable[[_core.Session, dict[str, Any]], Any]) -> Any:
    """What `see` says of the core of the first of these sessions that answers.

    It is also given what the node says, and the `directory`.

    Raises:
        ConnectionError: none answers.
    """
    return joining.first(directories, lambda path: _visit(path, see))


def _visit(directory: str, see: Callable[[_core.Session, dict[str, Any]], Any]) -> Any:
    node = joining.connect(directory)
    try:
        welcome, shared = node.ask({"look": True})
        core = _core.Session.attach(*shared, "client")
        try:
            return see(core, {**welcome, "directory": directory})
        finally:
            core.close()
    finally:
        node.close()


def look(directories: list[str]) -> dict[str, Any]:
    """What the first of these sessions that answers is and does."""
    state: dict[str, Any] = visit(directories, _state)
    return state


def _state(core: _core.Session, welcome: dict[str, Any]) -> dict[str, Any]:
    directory = welcome["directory"]
    return {
        "directory": directory,
        "node_id": node_id(os.path.basename(directory)),
        "node": welcome["node"],
        "drivers": sorted((connection.job_id(job), pid) for job, pid in welcome["drivers"]),
        "workers": [p["state"] for p in core.processes() if p["kind"] == "worker"],
        "actors": core.actor_states(),
        "total": core.total_resources(),
        "available": core.available_resources(),
        "store": core.stats()["used"],
        "demands": core.demands(),
    }
