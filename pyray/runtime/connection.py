"""Which session this process is in: the driver's, a worker's, local mode's or none.

May import the core, `addresses` and `session`; `start` when a session has to be started by itself.
"""

from __future__ import annotations

import sys

from . import _core, addresses
from .exceptions import RaySystemError

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from .local_mode import LocalMode

__all__ = ["ensure", "in_worker", "info", "job_id", "publish", "required"]

#: Where tasks run if they run in this process.
local: LocalMode | None = None

#: Whether a thread is starting a session, which it has made already but not yet made known.
starting = False

#: Of which session and job, and what is known of them.
_info: tuple[Any, int, dict[str, Any]] | None = None


def ensure() -> Any:
    """The session of this process, started by itself if there is none.

    Raises:
        RaySystemError: this process was forked from one with a session.
    """
    session = _core.get_session()
    if session is None or starting:
        refuse_fork()
        from .start import init_by_itself

        init_by_itself()
        session = _core.get_session()
    elif session.dead:
        required()
    return session


def required() -> Any:
    """The session of this process.

    Raises:
        RaySystemError: there is none, or its node process has died.
    """
    session = _core.get_session()
    if session is None:
        no_session()
    if session.dead:
        raise RaySystemError(
            "the session's node process died, its tasks and objects are lost: call shutdown(), "
            "then init() for another session"
        )
    return session


def no_session() -> NoReturn:
    """Say why there is no session; the core asks, too."""
    refuse_fork()
    raise RaySystemError("no session has been started yet: call init() first")


def refuse_fork() -> None:
    from .session import forked_from

    parent = forked_from()
    if parent is not None:
        raise RaySystemError(
            f"this process was forked from the driver (pid {parent}) after init(), and cannot use "
            "its session: call the API in the driver only, start processes with the 'spawn' "
            "method, fork before init(), or call init() here for a session of its own"
        )


def in_worker() -> bool:
    """Whether this process runs tasks of a session, rather than being its driver."""
    if _core.get_session() is None or local is not None:
        return False
    from .session import current

    return current() is None


# -- what is known of the session ------------------------------------------------------------


def publish(session: Any, known: dict[str, Any]) -> None:
    """Let every process of the session know; who starts it does it before anything else."""
    import json

    session.publish(addresses.INFO, json.dumps(known).encode())


def publish_targets(session: Any, places: list[str] | None, directory: str) -> None:
    """Let every process know where objects are spilled to, if they are."""
    if places is None:
        return
    from pyray.store._spilled import publish_targets

    from .spill_targets import local_directory

    publish_targets(session, [local_directory(place, directory) for place in places])


def info() -> dict[str, Any]:
    """Ids, directory and labels of the session; namespace and id of the job that runs here."""
    global _info
    if local is not None:
        return local.info
    session, job = required(), _core.current_job()
    if _info is None or _info[0] is not session or _info[1] != job:
        known = _read(session, addresses.INFO)
        if known is None:
            raise RaySystemError("the session has just been started, and is not ready yet")
        _info = session, job, {**known, **_of_job(session, job)}
    return _info[2]


def _of_job(session: Any, job: int) -> dict[str, Any]:
    """What a driver that joined has told; that of the one that started the session is INFO's."""
    known = _read(session, addresses.job_key(job)) if job else None
    return {} if known is None else {"job_id": job_id(job), **known}


def job_id(job: int) -> str:
    """The id of the job of that number: four bytes in hex, as in Ray."""
    return job.to_bytes(4, "little").hex()


def _read(session: Any, key: bytes) -> dict[str, Any] | None:
    found = session.find(key)
    if found is None:
        return None
    import json

    known: dict[str, Any] = json.loads(bytes(found).rstrip(b"\0"))  # short texts have zeros behind
    return known


def later_path() -> list[str]:
    """The folders that came to `sys.path` since the session was started."""
    if local is not None or _core.get_session() is None:
        return []
    known = info()
    return [
        folder
        for folder in sys.path
        if folder not in known["sys_path"] and not folder.startswith(known["directory"])
    ]


def forget() -> None:
    """The session has ended."""
    global _info, local
    _info = local = None
