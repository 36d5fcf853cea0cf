"""Where in the user's program references are made, for people who look for memory.

Imports the core for its types. Used if PYRAY_record_ref_creation_sites=1 only, by `put` and by
remote calls.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from . import _core

#: Lines of the user's code that are told, the innermost first.
DEPTH = 4
#: The folder of pyray, whose own lines are left out, and what its compiled modules say.
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep, "pyray/"


def record(session: _core.Session, handle: int, what: str) -> None:
    """Note where the object of that handle is made; without room for that, do nothing."""
    try:
        session.note_site(handle, f"{what} {call_site()}")
    except (MemoryError, RuntimeError):
        pass


def call_site() -> str:
    """The lines of the user's program that have led here: `file:function:line | ...`.

    Up to those that run the task, which are not the user's.
    """
    found: list[str] = []
    frame = sys._getframe(1)
    while frame is not None and len(found) < DEPTH:
        code = frame.f_code
        if not code.co_filename.startswith(_OURS):
            found.append(f"{code.co_filename}:{code.co_name}:{frame.f_lineno}")
        elif found:
            break
        frame = frame.f_back  # type: ignore[assignment]
    return " | ".join(found)
