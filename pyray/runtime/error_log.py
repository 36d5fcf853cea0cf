"""The failures of a session's tasks, for `error_info()`: a line of JSON each, in one file.

Workers append to it (one write a failure, so lines do not mix), the driver reads its end. It is
bounded: a worker that finds it large starts it anew, the last part is kept beside it. May import
`connection` and `exceptions`. Nothing of it is worth failing for: a full disk loses lines.
"""

from __future__ import annotations

import os

from . import connection
from .exceptions import RayError, RayTaskError

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from typing import Any

__all__ = ["describe", "note", "recent"]

#: How large the file becomes, and how much of one failure is kept, in bytes.
LIMIT = 1 << 20
LONGEST = 16 << 10

#: How many failures `error_info()` tells of.
MOST = 100


def describe(failure: RayError, task: str) -> dict[str, Any]:
    """A failure as `error_info()` shows it."""
    cause = failure.cause if isinstance(failure, RayTaskError) else failure
    return {
        "type": type(cause).__name__,
        "message": _text(cause),
        "traceback": str(failure),
        "task": task,
    }


def _text(cause: BaseException) -> str:
    try:
        return str(cause)
    except Exception as problem:
        return f"<its text cannot be had: {problem!r}>"


def note(failure: RayError, task: str) -> None:
    """Write down a failure of a task of this process."""
    import json

    try:
        path = _path()
        described = {key: value[:LONGEST] for key, value in describe(failure, task).items()}
        line = json.dumps(described).encode() + b"\n"
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(file).st_size > LIMIT:
                os.replace(path, path + ".before")
            os.write(file, line)
        finally:
            os.close(file)
    except Exception:
        pass  # the failure itself reaches whoever asks for the result


def recent() -> list[dict[str, Any]]:
    """The latest failures of the session's tasks, the last one last."""
    import json

    found = []
    path = _path()
    for name in (path + ".before", path):
        try:
            with open(name, "rb") as file:
                lines = file.read().split(b"\n")
        except OSError:
            continue
        for line in lines[:-1]:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue  # cut short by a full disk
    return found[-MOST:]


def _path() -> str:
    return os.path.join(connection.info()["directory"], "logs", "errors.jsonl")
