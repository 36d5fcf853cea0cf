"""Environment variables of the runtime; imports nothing else of pyray.

Each is read as PYRAY_NAME, else as RAY_NAME, Ray's spelling of the same:

    ADDRESS                     the session that init() joins if it is not told which
    TMPDIR                      where the directories of sessions are made
    MAX_WORKERS                 worker processes of a session at most
    KEEP_LOGS                   1: the session's directory with its logs stays after the session
    DEDUP_LOGS                  0: repeated lines of workers are printed each
    DEDUP_LOGS_AGG_WINDOW_S     seconds for which repeated lines are gathered
    DEDUP_LOGS_ALLOW_REGEX      lines that are always printed
    DEDUP_LOGS_SKIP_REGEX       lines that are never printed
    COLOR_PREFIX                1: the prefix of workers' lines has a colour for each process
    memory_usage_threshold      share of the memory in use above which a worker is ended
"""

from __future__ import annotations

import os


def setting(name: str, default: str = "") -> str:
    """The text of a variable; one that is empty counts as not set."""
    return os.environ.get(f"PYRAY_{name}") or os.environ.get(f"RAY_{name}") or default


def flag(name: str, default: bool = False) -> bool:
    """Whether a variable says yes."""
    return setting(name, "1" if default else "0").lower() not in ("0", "false", "no", "off")


def number(name: str, default: float) -> float:
    """A variable's number; one that is none is refused with its name."""
    text = setting(name)
    if not text:
        return default
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"PYRAY_{name}={text!r} in the environment is not a number") from None
