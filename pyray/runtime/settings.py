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
    record_ref_creation_sites   1: objects tell which lines of the program made them
    object_spilling_threshold   share of the object store in use above which objects are written to
                                files ahead of time
    max_lineage_bytes           that tasks keep when they are over, to make results again that are
                                lost; by default a tenth of the store, 256 MB at most; 0: none,
                                inf: no limit
    object_store_full_timeout_s seconds until a put is refused for which no room can be made
    CGROUP_ROOT                 where the control groups are mounted: /sys/fs/cgroup
    worker_oom_score_adjustment the sooner the system ends workers than others: 1000
    memory_usage_threshold, ... of the memory monitor: see MONITOR
"""

from __future__ import annotations

import math
import os

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from typing import Any

#: What the memory monitor goes by; init(_system_config=...) may give the same. Names are Ray's, and
#: so are the defaults, but for the second.
MONITOR: dict[str, float] = {
    # The share of the memory in use above which a worker is ended.
    "memory_usage_threshold": 0.95,
    # Milliseconds between two looks when it is nearly in use; the emptier, the rarer. 0: none.
    "memory_monitor_refresh_ms": 50,
    # No worker is ended as long as so much is free, whatever the threshold. -1: that alone counts.
    "min_memory_free_bytes": -1,
    # How often a task is tried again after such an end, apart from max_retries. -1: no limit.
    "task_oom_retries": -1,
    # Until it is: so long, twice as long each time, a minute at most.
    "task_oom_retry_delay_base_ms": 1000,
}


def monitor_settings(given: dict[str, Any]) -> dict[str, float]:
    """Those of MONITOR, as given, or in the environment, or by default.

    Raises:
        TypeError, ValueError: one is no number, or out of its range.
    """
    found = {}
    for name, default in MONITOR.items():
        value = given.get(name)
        if value is None:
            value = number(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            kind = type(value).__name__
            raise TypeError(f"{name} must be a number, got {value!r} of type {kind}.")
        least, most = min(default, 0), 1 if name == "memory_usage_threshold" else float("inf")
        if not least <= value <= most:
            raise ValueError(f"{name} must be between {least} and {most}, got {value}.")
        found[name] = value
    return found


def setting(name: str, default: str = "") -> str:
    """The text of a variable; one that is empty counts as not set."""
    return os.environ.get(f"PYRAY_{name}") or os.environ.get(f"RAY_{name}") or default


def flag(name: str, default: bool = False) -> bool:
    """Whether a variable says yes."""
    return setting(name, "1" if default else "0").lower() not in ("0", "false", "no", "off")


def number(name: str, default: float, least: float = -math.inf, most: float = math.inf) -> float:
    """A variable's number; one that is none, or out of its range, is refused with its name."""
    text = setting(name)
    if not text:
        return default
    spelt = f"{'PYRAY' if os.environ.get(f'PYRAY_{name}') else 'RAY'}_{name}={text!r}"
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise ValueError(f"{spelt} in the environment is not a number")
    if not least <= value <= most:
        allowed = f"{least:g} or more" if most == math.inf else f"between {least:g} and {most:g}"
        raise ValueError(f"{spelt} in the environment must be {allowed}")
    return value
