"""The directory of a session: where it is, who may see it, when it goes.

Imports settings, and `private_folder` of the store. `<tmp>/pyray-<uid>/session_<time>_<pid>/logs`,
every part 0700, and `session_latest` beside the sessions, as Ray has it.

Whoever uses a session directory holds it open with a shared flock: the driver, and the node,
which inherits it. The system drops that lock with the last of them, however they end. So after a
crash: the node removes the directory if the driver died, the driver if the node died; if both
died at once, the next session finds a directory that it can lock and removes it (`sweep`).
A directory that is to stay holds a file `keep`.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time

from pyray.store.private_folder import check_private

from .settings import flag, setting

PREFIX = "session_"
LATEST = "session_latest"
#: A directory this young may belong to a session that is about to lock it.
STARTING = 60.0


def root_directory(temp_dir: str | None = None) -> str:
    """The directory of all sessions of this user, made if it is missing.

    Raises PermissionError for one in which others could read or put something.
    """
    if temp_dir is not None:
        root = os.path.abspath(temp_dir)
        os.makedirs(root, mode=0o700, exist_ok=True)
        _check_given(root)
        return root
    root = os.path.join(
        os.path.abspath(setting("TMPDIR") or os.environ.get("TMPDIR") or "/tmp"),
        f"pyray-{os.getuid()}",
    )
    try:
        os.mkdir(root, 0o700)
    except FileExistsError:
        pass
    check_private(root, "a session", "PYRAY_TMPDIR in the environment, or init(_temp_dir=...)")
    return root


def _check_given(root: str) -> None:
    """A directory that was asked for may be shared if others cannot rename what we put there."""
    found = os.stat(root)
    shared = found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX
    if found.st_uid in (0, os.getuid()) and not shared:
        return
    raise PermissionError(
        f"{root} belongs to another user or can be written by others, so a session would not be"
        " private there. Give init(_temp_dir=...) a directory of your own."
    )


class SessionDirectory:
    """A session's directory, open and locked while the session lives."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd

    @property
    def logs(self) -> str:
        return os.path.join(self.path, "logs")

    def close(self) -> None:
        """Give up the lock; not done by whoever only inherits the file descriptor."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def create(root: str, now: float, pid: int) -> SessionDirectory:
    """A new session's directory, with the link to the latest."""
    moment = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(now))
    stem = f"{PREFIX}{moment}_{int(now % 1 * 1e6):06d}_{pid}"
    name = stem
    attempt = 0
    while True:
        try:
            os.mkdir(os.path.join(root, name), 0o700)
            break
        except FileExistsError:  # the clock went back, or stands still
            attempt += 1
            name = f"{stem}_{attempt}"
    path = os.path.join(root, name)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(fd, fcntl.LOCK_SH)
    os.mkdir(os.path.join(path, "logs"), 0o700)
    _link_latest(root, name)
    return SessionDirectory(path, fd)


def _link_latest(root: str, name: str) -> None:
    temporary = os.path.join(root, f".latest_{name}")
    try:
        os.symlink(name, temporary)
        os.replace(temporary, os.path.join(root, LATEST))
    except OSError:
        pass  # a convenience only; in a shared directory the link may be another user's


def lock(root: str) -> int:
    """A descriptor; until it is closed, be it by this process' death, nobody else gets one."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except BaseException:
        os.close(fd)
        raise
    return fd


def remove(path: str) -> None:
    """Take a session's directory away, unless its logs are to be kept; again does no harm."""
    if os.path.exists(os.path.join(path, "keep")):
        return
    if flag("KEEP_LOGS"):
        keep(path)
        return
    root, name = os.path.split(path)
    latest = os.path.join(root, LATEST)
    try:
        if os.readlink(latest) == name:
            os.unlink(latest)
    except OSError:
        pass  # there is none, or the next session's
    remove_tree(path)


def keep(path: str) -> None:
    """Let a directory stay after its session."""
    try:
        os.close(os.open(os.path.join(path, "keep"), os.O_CREAT | os.O_WRONLY, 0o600))
    except OSError:
        pass  # it is gone, or the disk is full


def remove_tree(path: str) -> None:
    """Remove a directory and all in it, as far as that can be done; links are not followed."""
    for folder, folders, files in os.walk(path, topdown=False):
        for file in files:
            _attempt(os.unlink, os.path.join(folder, file))
        for inner in folders:
            inner_path = os.path.join(folder, inner)
            _attempt(os.unlink if os.path.islink(inner_path) else os.rmdir, inner_path)
    _attempt(os.rmdir, path)


def _attempt(remove_one, path: str) -> None:
    try:
        remove_one(path)
    except OSError:
        pass  # another process removes the same directory, or still writes there


def sweep(root: str, now: float) -> list[str]:
    """Remove what sessions left whose driver and node were killed at once; gives their paths."""
    removed = []
    for name in os.listdir(root):
        path = os.path.join(root, name)
        if not name.startswith(PREFIX) or name == LATEST:
            continue
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # another user's, or just removed
        try:
            found = os.fstat(fd)
            if found.st_uid != os.getuid() or now - found.st_mtime < STARTING:
                continue
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.exists(os.path.join(path, "keep")):
                remove_tree(path)
                removed.append(path)
        except OSError:
            pass  # in use
        finally:
            os.close(fd)
    return removed
