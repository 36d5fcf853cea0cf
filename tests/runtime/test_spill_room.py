"""Who is given room, and who is refused it: what the spiller decides, with tables and a clock that
stand still until a test says otherwise."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pyray.runtime import spiller

MB = 1 << 20
TIMEOUT = 10.0


class Tables:
    """Processes that wait for room, all of it being read by others that go on."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, int, float]] = []  # process, bytes, since when
        self.refused: list[int] = []
        self.granted: list[int] = []
        self.room = 0

    def first_wanting(self) -> tuple[int, int, float] | None:
        return min(self.waiting, key=lambda one: one[2], default=None)

    def end(self, process: int) -> int:
        (size,) = (size for number, size, _ in self.waiting if number == process)
        self.waiting = [one for one in self.waiting if one[0] != process]
        return size

    def grant(self, process: int) -> bool:
        (size,) = (size for number, size, _ in self.waiting if number == process)
        if size > self.room:
            return False
        self.room -= self.end(process)
        self.granted.append(process)
        return True

    def deny(self, process: int) -> None:
        self.end(process)
        self.refused.append(process)

    def evict(self, size: int) -> int:
        return 0

    def spillable(self) -> tuple[int, int]:
        return 0, 0

    def may_free(self, process: int) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    found = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(spiller, "time", SimpleNamespace(monotonic=lambda: found.now))
    return found


@pytest.fixture
def full(clock):
    """A spiller of a store in which nothing can be given back, and somebody reads."""
    found = spiller.Spiller.__new__(spiller.Spiller)
    found.tables = Tables()
    found.targets, found.next_target, found.step = [], 0, MB
    found.helpless, found.helped, found.timeout = None, clock.now, TIMEOUT
    return found


def want(full: spiller.Spiller, clock: SimpleNamespace, *processes: int) -> None:
    full.tables.waiting += [(process, MB, clock.now) for process in processes]


def test_those_without_hope_do_not_wait_for_each_other(full, clock):
    want(full, clock, 1, 2, 3)
    full.give_room()
    clock.now += TIMEOUT / 2
    want(full, clock, 4)
    full.give_room()
    assert full.tables.refused == []
    clock.now += TIMEOUT / 2 + 0.1
    full.give_room()
    assert full.tables.refused == [1, 2, 3]
    clock.now += TIMEOUT / 2
    full.give_room()
    assert full.tables.refused == [1, 2, 3, 4]


def test_as_long_as_some_are_helped_nobody_is_refused(full, clock):
    want(full, clock, 1, 2, 3)
    for process in (1, 2):
        clock.now += TIMEOUT - 1
        full.tables.room = MB
        full.give_room()
        assert full.tables.granted[-1] == process
    assert full.tables.refused == []
    clock.now += TIMEOUT + 0.1
    full.give_room()
    assert full.tables.refused == [3]
