"""With PYRAY_DEBUG=1 a test fails that leaves anything behind in its session, or session in which
what the tables say does not agree: see docs/architecture.md, "Debug build"."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

#: Seconds in which what a test has dropped is gone: workers end their tasks, and leave.
DEADLINE = 20

Left = dict[Any, str]


def wanted() -> bool:
    return os.environ.get("PYRAY_DEBUG", "") not in ("", "0")


def has_failed(test: pytest.Item) -> bool:
    """It may hold what it was looking at (tests/conftest.py)."""
    return getattr(test, "has_failed", False)


def left() -> Left:
    """What there is in the session of this process, if it has one, and in words."""
    from pyray.runtime import references, session

    running = session.current()
    if running is None or running.core.dead:
        return {}
    core, found = running.core, {}
    handles = set()
    for one in references.references(core):
        if one["reference_type"] == "ACTOR_HANDLE":
            handles.add(one["object_id"])
        if one["type"] == "WORKER" and one["reference_type"] != "PINNED_IN_MEMORY":
            continue  # it keeps the functions that it knows, and what these have captured
        key = (running.name, one["object_id"], one["held_by"])
        found[key] = f"{one['state']} {one['object_id']}, {one['object_size']} bytes: {key[2]}"
    for one in core.running():
        if one["task"] and not one["is_actor"]:
            found[running.name, one["task"]] = f"pid {one['pid']} runs the task {one['task']:x}"
    if (actors := sum(core.actor_states().values())) > len(handles):
        found[running.name, "actors", actors] = f"{actors} actors, {len(handles)} with handles"
    if waiting := core.stats()["waiting_for_room"]:
        found[running.name, "room", waiting] = f"{waiting} processes wait for room"
    return found


def check(before: Left, left: Callable[[], Left] = left) -> None:
    """Fails unless all that is there soon was there before."""
    end = time.monotonic() + DEADLINE
    while True:
        gc.collect()  # each time: threads that end leave garbage, too
        new = [words for key, words in left().items() if key not in before]
        if not new:
            return
        if time.monotonic() > end:
            pytest.fail("left behind:\n" + "\n".join(new), pytrace=False)
        os.sched_yield()


def watch(request: pytest.FixtureRequest) -> Iterator[Callable[[], None]]:
    """Of one test: gives what looks whether it has left anything, unless it has failed, and does so
    at its end."""

    def look() -> None:
        if looks and not has_failed(request.node):
            request.node.funcargs.clear()  # what fixtures have given it
            check(before)

    looks = wanted() and request.node.get_closest_marker("leaves") is None
    before = left() if looks else {}
    yield look
    look()
