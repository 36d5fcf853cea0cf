"""What the node waits for: descriptors and times. Imports nothing else of pyray.

One thread, one epoll. An action is called with the descriptor that can be read, or, if it was asked
for at a time, without arguments; an action that is asked for twice is done once, at the later time.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable

Action = Callable[[], None]


class Events:
    """Actions by descriptor and by time. In a process that was forked: `close` it, and no more."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._actions: dict[int, Callable[[int], None]] = {}
        self._due: dict[Action, float] = {}

    def watch(self, fd: int, action: Callable[[int], None]) -> None:
        """Call it whenever there is something to read, or nobody writes any more."""
        self._actions[fd] = action
        self._epoll.register(fd, select.EPOLLIN)

    def watch_room(self, fd: int) -> None:
        """Wake up when there is room to write."""
        self._epoll.register(fd, select.EPOLLOUT)

    def forget(self, fd: int) -> None:
        """Of what is watched; the descriptor is still open."""
        self._epoll.unregister(fd)
        self._actions.pop(fd, None)

    def later(self, action: Action, seconds: float) -> None:
        self._due[action] = time.monotonic() + seconds

    def is_due(self, action: Action) -> bool:
        """Whether it is to be done some time."""
        return action in self._due

    def wait(self, longest: float | None = None) -> None:
        """Wait for what is next, for so many seconds at most, and do it."""
        ends = [when - time.monotonic() for when in self._due.values()]
        pause = min(ends if longest is None else [*ends, longest], default=None)
        for fd, _ in self._epoll.poll(None if pause is None else max(pause, 0.0)):
            action = self._actions.get(fd)  # one before may have forgotten it
            if action:
                action(fd)
        now = time.monotonic()
        for due, when in list(self._due.items()):
            if when <= now and self._due.pop(due, None) is not None:
                due()

    def close(self) -> None:
        self._epoll.close()
