"""Copies of the user's directories, for workers to run in: named by their content, made once.

A directory or archive that a runtime environment names is copied below the session's directory,
where every worker with the same content uses the same copy and nobody changes the user's files.
Patterns of what stays behind are those of .gitignore. May import nothing of pyray.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from _blake2 import blake2b  # hashlib's, without OpenSSL

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["LIMIT", "copy_directory", "copy_file", "extract", "is_archive"]

#: The most that is copied for one environment; Ray has the same limit.
LIMIT = 512 << 20

IGNORE_FILES = (".gitignore", ".rayignore")
#: Never part of a program, and not what .gitignore is about.
ALWAYS_LEFT = (".git", "__pycache__")


def is_archive(path: str) -> bool:
    return path.endswith((".zip", ".whl", ".tar.gz", ".tgz", ".tar.xz"))


def copy_directory(source: str, below: str, excludes: Iterable[str] = (), name: str = "") -> str:
    """Copy the directory `source` into a folder of `below`, once for the same content.

    Returns the folder that holds the copy; with `name` the copy is a folder of that name in it.

    Raises:
        ValueError: there is more than `LIMIT` bytes to copy.
    """
    files = list(_walk(source, _Patterns("", excludes)))
    size = sum(info.st_size for _, info in files)
    if size > LIMIT:
        raise ValueError(
            f"{source} holds {size / 2**20:.0f} MiB, more than the {LIMIT >> 20} MiB that are "
            "copied for workers: leave files out with runtime_env={'excludes': [...]}, or pass "
            "large files by their absolute path."
        )
    target = os.path.join(below, _digest(source, files, name))

    def fill(folder: str) -> None:
        top = os.path.join(folder, name) if name else folder
        os.makedirs(top, exist_ok=True)
        for path, _ in files:
            copy = os.path.join(top, path)
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            shutil.copy2(os.path.join(source, path), copy)

    return _make_once(target, fill)


def copy_file(source: str, below: str) -> str:
    """Copy one file into a folder of `below`; returns the folder."""
    target = os.path.join(below, _file_digest(source))
    return _make_once(target, lambda folder: _copy_into(source, folder))


def _copy_into(source: str, folder: str) -> None:
    shutil.copy2(source, os.path.join(folder, os.path.basename(source)))


def extract(archive: str, below: str) -> str:
    """Unpack an archive into a folder of `below`, once for the same content; returns it."""
    target = os.path.join(below, _file_digest(archive))

    def fill(folder: str) -> None:
        # Both mend or refuse names that lead out of the folder.
        if archive.endswith((".zip", ".whl")):
            from zipfile import ZipFile

            with ZipFile(archive) as zipped:
                zipped.extractall(folder)
        else:
            import tarfile

            with tarfile.open(archive) as file:
                if hasattr(tarfile, "data_filter"):  # Pythons without it trust the archive
                    file.extractall(folder, filter="data")
                else:
                    file.extractall(folder)

    return _make_once(target, fill)


def _make_once(target: str, fill: Callable[[str], None]) -> str:
    """Fill a folder and let it appear whole; whoever is second finds it there."""
    if os.path.isdir(target):
        return target
    unfinished = f"{target}.{os.getpid()}"
    os.makedirs(unfinished)
    try:
        fill(unfinished)
        os.rename(unfinished, target)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not os.path.isdir(target):
            raise
    return target


# -- what there is to copy -------------------------------------------------------------------


def _walk(
    top: str, patterns: _Patterns, folder: str = "", above: tuple[str, ...] = ()
) -> Iterator[tuple[str, os.stat_result]]:
    """Regular files below `top` that no pattern leaves out, in order, links followed."""
    here = os.path.join(top, folder)
    if os.path.realpath(here) in above:
        return  # a link to a folder that we are in
    above += (os.path.realpath(here),)
    names = sorted(os.listdir(here))
    for ignore in IGNORE_FILES:
        if ignore in names:
            with open(os.path.join(here, ignore), errors="replace") as file:
                patterns = _Patterns(folder, file.read().splitlines(), patterns)
    for name in names:
        path = f"{folder}/{name}" if folder else name
        try:
            info = os.stat(os.path.join(here, name))
        except OSError:
            continue  # a link to nowhere
        is_folder = stat.S_ISDIR(info.st_mode)
        if name in ALWAYS_LEFT or patterns.leave_out(path, is_folder):
            continue
        if is_folder:
            yield from _walk(top, patterns, path, above)
        elif stat.S_ISREG(info.st_mode):
            yield path, info


def _digest(top: str, files: list[tuple[str, os.stat_result]], name: str) -> str:
    hashed = blake2b(name.encode(), digest_size=16)
    for path, info in files:
        hashed.update(f"\0{path}\0{info.st_mode & 0o111}\0".encode("utf-8", "surrogateescape"))
        hashed.update(_file_digest(os.path.join(top, path)).encode())
    return hashed.hexdigest()


def _file_digest(path: str) -> str:
    hashed = blake2b(os.path.basename(path).encode("utf-8", "surrogateescape"), digest_size=16)
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            hashed.update(piece)
    return hashed.hexdigest()


class _Patterns:
    """Lines of a .gitignore in `folder`, and those of the folders above it."""

    def __init__(self, folder: str, lines: Iterable[str], above: _Patterns | None = None) -> None:
        self.prefix = folder + "/" if folder else ""
        self.rules = [rule for line in lines if (rule := _rule(line)) is not None]
        self.above = above

    def leave_out(self, path: str, is_folder: bool) -> bool:
        found = self._match(path, is_folder)
        return bool(found)

    def _match(self, path: str, is_folder: bool) -> bool | None:
        """What the last rule says that fits, closest folder first; None if none does."""
        inner = path[len(self.prefix) :]
        for pattern, folders_only, left_out in reversed(self.rules):
            if (is_folder or not folders_only) and pattern.fullmatch(inner):
                return left_out
        return self.above._match(path, is_folder) if self.above is not None else None


def _rule(line: str) -> tuple[re.Pattern[str], bool, bool] | None:
    """A line as expression, whether it is for folders only, and whether it leaves out."""
    line = line.rstrip()
    if not line or line.startswith("#"):
        return None
    left_out = not line.startswith("!")
    line = line[1:] if not left_out or line.startswith("\\") else line
    folders_only = line.endswith("/")
    line = line.rstrip("/")
    anchored = "/" in line
    expression = _expression(line.lstrip("/"))
    return re.compile(expression if anchored else f"(?:.*/)?{expression}"), folders_only, left_out


_TOKEN = re.compile(r"\*\*/|/\*\*$|\*+|\?|\[[!^]?\]?[^\]]*\]|\\.|.", re.DOTALL)


def _expression(glob: str) -> str:
    parts = []
    for token in _TOKEN.findall(glob):
        if token == "**/":
            parts.append("(?:.*/)?")
        elif token == "/**":
            parts.append("/.*")
        elif token[0] == "*":
            parts.append("[^/]*")
        elif token == "?":
            parts.append("[^/]")
        elif token[0] == "[" and len(token) > 2:
            body = token[1:-1].replace("\\", "\\\\")
            parts.append("[^" + body[1:] + "]" if body[0] in "!^" else f"[{body}]")
        else:
            parts.append(re.escape(token[-1]))
    return "".join(parts)
