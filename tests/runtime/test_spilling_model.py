"""Any order of what can happen to objects that are spilled: every value is right at every time, or
lost where its file was spoiled, and the store has as many bytes as its objects need."""

from __future__ import annotations

import os
import signal

import gates
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from test_spilling import MB, alter, directory, files, has_spiller, holds, stats

import pyray as ray
from pyray.exceptions import ObjectLostError, ObjectStoreFullError
from pyray.runtime import session

STORE = 16 * MB
#: Bytes of an object beside its numbers, in the store and in a file, at most.
BESIDE = 8192
SIZES = st.sampled_from([1000, 40_000, 2 * MB, 4 * MB])
WHICH = st.integers(0, 1000)


def present() -> list[str]:
    """Files; the first makes the directory."""
    return files() if os.path.exists(directory()) else []


def size_of(path: str) -> int:
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0  # it was not needed any more


# What preconditions look at follows from the rules alone: else hypothesis could not repeat a run.


class Spilling(RuleBasedStateMachine):
    """Objects by their number: what they are, and what is known of them."""

    options: dict[str, object] = {"num_cpus": 1}
    has_files = True
    slack = MB  # bytes that the session itself has, at most

    def __init__(self) -> None:
        super().__init__()
        ray.init(object_store_memory=STORE, log_to_driver=False, **self.options)
        self.made = 0
        self.refs: dict[int, ray.ObjectRef] = {}
        self.sizes: dict[int, int] = {}  # of those, and of those that are viewed
        self.views: dict[int, np.ndarray] = {}
        self.spoiled: set[int] = set()  # objects that may be in a file that is not good
        self.lost: set[int] = set()

    def teardown(self) -> None:
        self.views.clear()
        self.refs.clear()
        ray.shutdown()

    def pick(self, which: int) -> int:
        return list(self.refs)[which % len(self.refs)]

    def add(self, ref: ray.ObjectRef, size: int) -> None:
        self.refs[self.made], self.sizes[self.made] = ref, size
        self.made += 1

    def kept(self) -> int:
        """Bytes that cannot be given back."""
        return sum(self.sizes[n] for n in self.views)

    def note_spoiled(self) -> None:
        self.spoiled |= set(self.refs)

    def most(self) -> tuple[int, int]:
        """How many objects there may be, and bytes of them in the store."""
        live = set(self.refs) | set(self.views)
        return len(live), sum(self.sizes[n] + BESIDE for n in live)

    def read(self, number: int, **options) -> np.ndarray | None:
        """None: it is lost, which is for ever, and only what was spoiled may be."""
        try:
            value = ray.get(self.refs[number], **options)
        except ObjectLostError:
            assert number in self.spoiled
            self.lost.add(number)
            return None
        assert number not in self.lost
        assert value.nbytes == self.sizes[number] and holds(value, number)
        return value

    # -- rules -------------------------------------------------------------------------------

    @rule(sizes=st.lists(SIZES, min_size=1, max_size=8))
    def put(self, sizes: list[int]) -> None:
        for size in sizes:
            try:
                ref = ray.put(np.full(size // 8, self.made, dtype=np.int64))
            except ObjectStoreFullError:
                assert self.kept() + size > STORE // 4  # or its room is in pieces
                return
            self.add(ref, size)

    @rule()
    def force_out(self) -> None:
        """What is made and dropped takes the room of others."""
        try:
            for _ in range(4):
                ray.put(np.zeros(4 * MB // 8))
        except ObjectStoreFullError:
            assert self.kept()

    @precondition(lambda self: self.refs)
    @rule(which=WHICH)
    def get(self, which: int) -> None:
        self.read(self.pick(which))

    @precondition(lambda self: self.refs)
    @rule(which=WHICH)
    def view(self, which: int) -> None:
        number = self.pick(which)
        value = self.read(number)
        if value is not None and number not in self.spoiled:  # a mapped file may be altered
            self.views[number] = value

    @rule(which=WHICH)
    def drop_view(self, which: int) -> None:
        if self.views:
            self.views.pop(list(self.views)[which % len(self.views)])

    @precondition(lambda self: self.refs)
    @rule(which=WHICH)
    def drop(self, which: int) -> None:
        del self.refs[self.pick(which)]

    @precondition(lambda self: self.refs)
    @rule(which=WHICH)
    def private_copy(self, which: int) -> None:
        number = self.pick(which)
        value = self.read(number, copy_on_write=True)
        if value is not None:
            value[:] = -1
            self.read(number)

    @precondition(lambda self: self.has_files)
    @rule(which=WHICH)
    def spoil(self, which: int) -> None:
        """A file: what is in it is lost, unless it is in memory, too."""
        found = [path for path in present() if size_of(path) > MB]
        if found and not self.views:
            self.note_spoiled()
            try:
                alter(found[which % len(found)])
            except FileNotFoundError:
                pass  # it was not needed any more

    @rule()
    def kill_the_spiller(self) -> None:
        core = session.current().core
        for process in core.processes():
            if process["kind"] == "spiller":
                os.kill(process["pid"], signal.SIGKILL)
                dead = process["pid"]
                gates.until(lambda: dead not in [p["pid"] for p in core.processes()])

    # -- what is always so -------------------------------------------------------------------

    @invariant()
    def views_stay(self) -> None:
        for number, value in self.views.items():
            assert holds(value, number)

    @invariant()
    def no_object_is_left(self) -> None:
        objects, bytes_of = self.most()
        gates.until(lambda: len(self.refs) <= stats()["objects"] <= objects + BESIDES)
        gates.until(lambda: stats()["used"] <= bytes_of + self.slack)
        assert stats()["used"] <= STORE

    @invariant()
    def files_hold_copies_only(self) -> None:
        """Those that no object needs go; small objects may share one that others have left."""
        if not self.refs and not self.views and self.has_files:
            gates.until(lambda: not present() or not has_spiller())


#: Objects of the session itself: what it knows by name.
BESIDES = 8


@pytest.fixture(autouse=True)
def soon(monkeypatch, no_session):
    # Longer than a disk needs that others use, too: it is not to count as one that is silent.
    monkeypatch.setenv("PYRAY_object_store_full_timeout_s", "30")


def check(machine: type[RuleBasedStateMachine], examples: int, steps: int) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            derandomize=True,
        ),
    )


def test_any_order():
    check(Spilling, 40, 40)


@pytest.mark.slow
def test_any_order_for_long():
    check(Spilling, 300, 80)
