"""Whether a directory is one user's alone. Imports nothing of pyray."""

from __future__ import annotations

import os
import stat


def check_private(folder: str, what: str, elsewhere: str) -> None:
    """Raise PermissionError if others can get at a directory, or have made it before us.

    A link counts as none of ours. The error says that `what` would not be private there, and how to
    have another place: `elsewhere`.
    """
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode):
        problem = "is not a directory"
    elif found.st_uid != os.getuid():
        problem = f"belongs to the user with id {found.st_uid}"
    elif stat.S_IMODE(found.st_mode) & 0o077:
        problem = f"is open to other users (its mode is {stat.S_IMODE(found.st_mode):04o})"
    else:
        return
    raise PermissionError(
        f"{folder} {problem}, so {what} would not be private there. Remove it, or make it yours"
        f" alone with `chmod 700 {folder}`, or choose another place: {elsewhere}."
    )
