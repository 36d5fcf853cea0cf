"""Where the spiller keeps files: directories of this machine, and what fsspec reaches.

Imports settings and session_files; fsspec when a URL is used. Chosen by
`init(object_spilling=...)`.

A directory that was given gets one of its own for each session in it, named as the session's and
locked like that (session_files): so what a session leaves that was killed as a whole is swept by
the next one. Below a URL the session's name is one more part of the path.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from . import session_files

if TYPE_CHECKING:
    from ._spiller import Batch

#: In the directory of the session, when no other place is named.
OWN = "spill"
#: Bytes that go to or come from what fsspec reaches at a time.
PART = 8 << 20


class Target(Protocol):
    """One place for files."""

    #: Where every process of the session can read files; None if only the spiller can.
    directory: str | None
    #: How many files may be written at a time: when somebody waits for room, and ahead of time.
    writers: int
    writers_ahead: int
    #: When (of time.monotonic) a part of a file was last written or read. inf: nobody knows, as a
    #: whole file is one call.
    moved: float

    def write(self, batch: Batch, name: str) -> int:
        """A new file; how long it is. Raises whatever the storage does; `remove` is called then."""

    def read(self, name: str, begin: int, size: int) -> bytes | bytearray:
        """A part of a file. Raises FileNotFoundError if it is gone, anything else if it cannot be
        read now."""

    def remove(self, name: str) -> None:
        """Remove a file, if there is one. Raises whatever the storage does."""

    def stop(self) -> None:
        """What is being written is needed no more: that ends soon, by raising."""

    def close(self) -> None:
        """Remove all of them. Nothing is being written."""


class Directory:
    """A directory of this machine.

    Files go through the system's cache, from which they are soon read. When somebody waits, as it
    does not take them fast enough, one at a time goes past it as well (O_DIRECT): that needs no
    memory, which may be slow to come by, and uses the disk at once.
    """

    writers = 2
    writers_ahead = 1
    moved = math.inf

    def __init__(self, directory: str) -> None:
        self.directory: str | None = directory
        self._path = directory
        self._cached = threading.Lock()  # of who writes through the cache
        self._direct = hasattr(os, "O_DIRECT")  # not known to fail

    def write(self, batch: Batch, name: str) -> int:
        path = os.path.join(self._path, name)
        cached = self._cached.acquire(blocking=False)
        try:
            if not cached and self._direct:
                try:
                    return _write(batch, path, os.O_DIRECT)
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
                    self._direct = False  # the file system has no such thing
            return _write(batch, path, 0)
        finally:
            if cached:
                self._cached.release()

    def read(self, name: str, begin: int, size: int) -> bytes:
        with open(os.path.join(self._path, name), "rb") as file:
            return os.pread(file.fileno(), size, begin)

    def remove(self, name: str) -> None:
        try:
            os.unlink(os.path.join(self._path, name))
        except FileNotFoundError:
            os.stat(self._path)  # it may be away, and the file be in it

    def stop(self) -> None:
        pass  # one call writes a file

    def close(self) -> None:
        session_files.remove_tree(self._path)


def _write(batch: Batch, path: str, flags: int) -> int:
    flags |= os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        if error.errno == errno.EINVAL:
            Path(path).unlink(missing_ok=True)  # O_DIRECT is refused after the file was made
        raise
    try:
        return batch.write(fd)
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(fd)


class Remote:
    """What fsspec reaches: object storage, mostly."""

    directory: str | None = None
    writers = writers_ahead = 4

    def __init__(self, url: str, session: str) -> None:
        import fsspec

        self._files, path = fsspec.core.url_to_fs(url)
        self._root = f"{path.rstrip('/')}/{session}"
        self._made = False
        self._stopped = False
        self.moved = 0.0

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def write(self, batch: Batch, name: str) -> int:
        self._make()
        size = 0
        file = self._files.open(self._path(name), "wb", block_size=PART)
        try:
            for piece in batch.pieces():
                for at in range(0, len(piece), PART):
                    if self._stopped:
                        raise InterruptedError("the session ends")
                    file.write(piece[at : at + PART])
                    self.moved = time.monotonic()
                size += len(piece)
        except BaseException:
            _discard(file)
            raise
        file.close()
        self.moved = time.monotonic()
        return size

    def _make(self) -> None:
        """The session's part of the path, where there are directories. A bucket is not made."""
        if self._made:
            return
        try:
            self._files.mkdir(self._root, create_parents=False)
        except FileExistsError:
            pass
        self._made = True

    def read(self, name: str, begin: int, size: int) -> bytearray:
        data = bytearray()
        while len(data) < size:
            end = min(len(data) + PART, size)
            part = self._files.cat_file(self._path(name), start=begin + len(data), end=begin + end)
            if not part:
                break
            data += part
            self.moved = time.monotonic()
        return data

    def remove(self, name: str) -> None:
        try:
            self._files.rm_file(self._path(name))
        except FileNotFoundError:
            pass

    def stop(self) -> None:
        self._stopped = True

    def close(self) -> None:
        self._files.invalidate_cache()
        try:
            self._files.rm(self._root, recursive=True)
        except FileNotFoundError:
            pass


def _discard(file: Any) -> None:
    """Close a file that is not whole, so that nothing of it is kept."""
    try:
        file.closed = True  # close() would write the rest
        file.discard()  # of several parts, those that are there
    except Exception:
        pass  # it has no such thing; or cannot be reached, which the writer has found, too


# -- what was asked for ----------------------------------------------------------------------


def validate(asked: Any) -> list[str]:
    """`init(object_spilling=...)` as a list: "" is the session's own directory. []: no spilling.

    What is at a URL is tried, as a wrong one would be found when memory runs out only. Raises
    TypeError, ValueError.
    """
    if asked is None or asked is False:
        return []
    if asked is True:
        return [""]
    places = [asked] if isinstance(asked, (str, os.PathLike)) else asked
    if not isinstance(places, Sequence) or not places:
        raise TypeError(
            "object_spilling must be a directory, a URL, a list of these, True (a directory of the"
            f" session's own) or None (what tasks made is evicted), not {asked!r}"
        )
    return [_validate_place(place) for place in places]


def _validate_place(place: Any) -> str:
    if not isinstance(place, (str, os.PathLike)) or not os.fspath(place):
        raise TypeError(f"object_spilling: {place!r} is neither a directory nor a URL")
    text = os.fspath(place)
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    protocol, separator, rest = text.partition("://")
    if not separator or protocol == "file":
        path = os.path.abspath(rest if separator else text)
        if os.path.exists(path) and not os.path.isdir(path):
            raise ValueError(f"object_spilling: {path} is not a directory")
        return path
    try:
        import fsspec

        fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        raise ValueError(
            f"object_spilling={text!r} needs a package that is not installed: {error}. Install it,"
            " or give a directory"
        ) from None
    except ValueError as error:
        raise ValueError(f"object_spilling={text!r}: {error}") from None
    _try(text)
    return text


def _try(url: str) -> None:
    """Write something there, and remove it. Raises ValueError."""
    import fsspec

    try:
        files, path = fsspec.core.url_to_fs(url)
        probe = f"{path.rstrip('/')}/pyray-{uuid.uuid4().hex}"
        files.pipe_file(probe, b"pyray")
        files.rm_file(probe)
    except Exception as error:
        raise ValueError(
            f"object_spilling={url!r}: files cannot be written there: {type(error).__name__}:"
            f" {error}. Buckets and directories must exist"
        ) from error


# -- making them -----------------------------------------------------------------------------


def is_remote(place: str) -> bool:
    return "://" in place


def local_directory(place: str, session_directory: str) -> str | None:
    """Where files of the session are for a place; None if that is not on this machine."""
    if is_remote(place):
        return None
    if not place:
        return os.path.join(session_directory, OWN)
    return os.path.join(place, os.path.basename(session_directory))


def prepare(places: list[str], session_directory: str) -> list[int]:
    """Make the directories, and lock those that are not in the session's: the descriptors.

    Raises OSError.
    """
    locks = []
    for place in places:
        directory = local_directory(place, session_directory)
        if directory is None:
            continue
        os.makedirs(place or session_directory, mode=0o700, exist_ok=True)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        if place:
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_SH)
            locks.append(lock)
            session_files.sweep(place, time.time())
    return locks


def make(places: list[str], session_directory: str) -> list[Target]:
    targets: list[Target] = []
    for place in places:
        directory = local_directory(place, session_directory)
        if directory is None:
            targets.append(Remote(place, os.path.basename(session_directory)))
        else:
            targets.append(Directory(directory))
    return targets


def remove(places: list[str], session_directory: str) -> None:
    """Take away the directories, once no process of the session writes there any more."""
    for place in places:
        directory = local_directory(place, session_directory)
        if directory is not None:
            session_files.remove_tree(directory)
