"""Warnings and log lines of the runtime, shown at the user's line. May import nothing of pyray."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from logging import Logger

__all__ = ["logger", "once", "warn"]

_PACKAGE = __name__.partition(".")[0]
_told: set[str] = set()


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """`warnings.warn`, attributed to the innermost line that is not ours."""
    import warnings

    level, frame = 2, sys._getframe(1)
    while frame is not None and _is_ours(frame.f_globals.get("__name__")):
        if frame.f_back is None:
            break
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _is_ours(module: object) -> bool:
    return isinstance(module, str) and (module == _PACKAGE or module.startswith(_PACKAGE + "."))


def once(key: str) -> bool:
    """True the first time it is asked about `key` in this process."""
    if key in _told:
        return False
    _told.add(key)
    return True


def logger() -> Logger:
    """The logger of the runtime, which users configure as they do any other."""
    import logging

    return logging.getLogger(_PACKAGE)
