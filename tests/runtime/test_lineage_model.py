"""Any order of what can happen to values that tasks can make again: each is right at every time, or
lost where nobody knows how to make it, with the error that says so; and no more tasks, objects and
bytes are kept than that needs. With files, and without: then results are evicted."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

import gates
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from test_spilling import MB, stats
from test_spilling_model import BESIDE, STORE, WHICH, Spilling, check, present

import pyray as ray
from pyray import internal
from pyray.exceptions import (
    ObjectFreedError,
    ObjectLostError,
    ObjectReconstructionFailedError,
    RayTaskError,
)
from pyray.runtime import session

#: Of results; the first stays in its slot, and is never given back.
SIZES = st.sampled_from([8, 1000, 40_000, MB // 2, MB])
#: Bytes of what is viewed, and without files all that cannot be given back. The rest is room for
#: two tasks with all that they need, and give.
FIXED = STORE // 8
#: Bytes that others' room is taken with at a time: little, so that it need not be in one piece.
PIECE = 1 << 16


class Gone(Enum):
    NO, MAYBE, YES = range(3)


@dataclass
class Object:
    """What the model knows of one, also when nobody refers to it any more."""

    size: int
    task: range | None = None  # all results of its task; None: it was put
    needs: tuple[int, ...] = ()  # what its task was given
    again: bool = False  # whether its task may run again
    unsure: bool = False  # or may not: its worker was killed
    gone: Gone = Gone.NO  # whether its value is
    errors: set[type] = field(default_factory=set)  # of one that was put, if it is gone
    failed: Gone = Gone.NO  # whether its task has, for want of what it needed

    @property
    def is_small(self) -> bool:
        return self.size < 512


#: By number: None, and types of errors.
Outcomes = dict[int, set["type | None"]]


def array(number: int, size: int) -> np.ndarray | int:
    return number if size < 512 else np.full(size // 8, number, dtype=np.int64)


def are_right(numbers: Iterable[int], values: Iterable) -> bool:
    return all(np.all(value == number) for number, value in zip(numbers, values, strict=True))


@ray.remote
def compute(made: dict[int, int], needs: tuple[int, ...], refs: list, *values):
    """Results by number and size. What it needs is given as arguments, or as references."""
    assert are_right(needs, values or ray.get(refs))
    results = [array(number, size) for number, size in made.items()]
    return results if len(results) > 1 else results[0]


@ray.remote(num_returns="streaming")
def stream(made: dict[int, int]):
    for number, size in made.items():
        yield array(number, size)


class Lineage(Spilling):
    """Files may be lost, and values be freed."""

    options = {"num_cpus": 2}
    slack = 1 << 16
    #: What has happened, in all examples.
    seen: Counter[str] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[int, Object] = {}
        self.is_settled = True  # no task runs
        self.fresh: set[int] = set()  # whose tasks may just be over, or not quite

    def teardown(self) -> None:
        found = stats()
        for name in ("reconstructed_tasks", "evicted_objects", "spilled_objects"):
            self.seen[name] += found[name]
        super().teardown()

    # -- what get may give -------------------------------------------------------------------

    def outcomes(self, number: int, known: Outcomes | None = None) -> set[type | None]:
        """None: the value; else a type of error. What is known by now saves work."""
        known = {} if known is None else known
        if number not in known:
            known[number] = self.find_outcomes(self.known[number], known)
        return known[number]

    def find_outcomes(self, one: Object, known: Outcomes) -> set[type | None]:
        found: set[type | None] = set()
        if one.failed is not Gone.NO:
            found.add(RayTaskError)
        if one.failed is Gone.YES:
            return found
        gone = one.gone
        if gone is Gone.NO and self.is_volatile(one, known):
            gone = Gone.MAYBE
        if gone is not Gone.YES:
            found.add(None)
        if gone is not Gone.NO:
            found |= self.when_made_again(one, known)
        return found

    def is_volatile(self, one: Object, known: Outcomes) -> bool:
        """Whether it may be evicted at any time: not what cannot be made again."""
        if self.has_files or one.is_small or not one.again:
            return False
        return self.can_be_had(one.needs, known)[0]

    def when_made_again(self, one: Object, known: Outcomes) -> set[type | None]:
        if one.task is None:
            return set(one.errors)
        found: set[type | None] = set()
        if not one.again or one.unsure:
            found.add(ObjectReconstructionFailedError)
        if one.again:
            can, cannot = self.can_be_had(one.needs, known)
            found |= {None} if can else set()
            found |= {ObjectReconstructionFailedError} if cannot else set()
        return found

    def can_be_had(self, needs: tuple[int, ...], known: Outcomes) -> tuple[bool, bool]:
        """Whether all of them may be there, and whether one may not."""
        found = [self.outcomes(n, known) for n in needs]
        return all(None in one for one in found), any(one - {None} for one in found)

    def note_attempt(self, numbers: Iterable[int]) -> None:
        """They are about to be read. What needs something in a file that is not good, which nobody
        has noticed, is run again in vain: it fails, and is not known any more."""
        left, done = list(numbers), set()
        while left:
            number = left.pop()
            one = self.known[number]
            if number in done or not one.again or one.gone is Gone.NO:
                continue
            done.add(number)
            left += one.needs
            if any(None in (found := self.outcomes(n)) and len(found) > 1 for n in one.needs):
                for n in one.task or ():
                    self.known[n].unsure = True
                    if self.known[n].gone is not Gone.NO and self.known[n].failed is Gone.NO:
                        self.known[n].failed = Gone.MAYBE

    def read(self, number: int, **options):
        one = self.known[number]
        if self.has_files:
            self.note_attempt([number])
        allowed = self.outcomes(number)
        if one.is_small:
            options = {}
        try:
            value = ray.get(self.refs[number], timeout=gates.DEADLINE, **options)
        except ObjectLostError as error:
            found = RayTaskError if RayTaskError in allowed else type(error)
            assert found in allowed, (number, allowed, error)
            self.seen[found.__name__] += 1
            if found is not RayTaskError:
                one.gone = Gone.YES
            elif allowed <= {None, RayTaskError}:
                one.failed = Gone.YES
            return None
        assert None in allowed, (number, allowed)
        one.failed = Gone.NO
        self.seen["made again"] += one.gone is Gone.YES
        self.note_made([number])
        if not self.has_files:
            one.gone = Gone.NO
        assert are_right([number], [value])
        return None if one.is_small else value

    def note_made(self, numbers: Iterable[int], surely: bool = True) -> None:
        """These are there: perhaps they were made again, with what their tasks give else and
        need. Surely, if nothing else can be; and not `surely`, if tasks are to use them later."""
        left = [(n, surely) for n in numbers]
        done: set[int] = set()
        while left:
            number, surely = left.pop()
            one = self.known[number]
            is_there = one.gone is Gone.NO and not self.is_volatile(one, {})
            if number in done or one.task is None or is_there:
                continue
            done |= set(one.task)
            self.fresh |= set(one.task)
            surely = surely and one.gone is Gone.YES
            for n in one.task:
                if self.known[n].gone is Gone.YES:
                    there = surely and n in self.refs
                    self.known[n].gone = Gone.NO if there else Gone.MAYBE
            if one.again:
                left += [(n, surely) for n in one.needs]

    # -- what is kept ------------------------------------------------------------------------

    def tasks_of(self, roots: Iterable[int], surely: bool) -> set[range]:
        """Tasks that are kept for these, and what they need in turn; those that are for sure."""
        found: set[range] = set()
        left = list(roots)
        while left:
            one = self.known[left.pop()]
            unsure = one.unsure or one.failed is not Gone.NO
            if one.is_small or not one.again or one.task in found or one.failed is Gone.YES:
                continue
            if not (surely and unsure):
                found.add(one.task)
                left += one.needs
        return found

    def tasks(self) -> tuple[int, int]:
        """How many are kept, at least and at most."""
        least = self.tasks_of(self.refs, surely=True)
        return len(least), len(self.tasks_of({*self.refs, *self.views}, surely=False))

    def held(self) -> set[int]:
        """Objects that may have bytes: referred to, viewed, or needed for what can be made."""
        found = {*self.refs, *self.views}
        for task in self.tasks_of(found, surely=False):
            needs = self.known[task[0]].needs
            found |= {n for n in needs if self.is_held_by_tasks(self.known[n])}
        return found

    def is_held_by_tasks(self, one: Object) -> bool:
        return one.is_small or not one.again or one.unsure

    def most(self) -> tuple[int, int]:
        held = self.held()
        tasks = self.tasks_of({*self.refs, *self.views}, surely=False)
        objects = held.union(*tasks)
        bytes_of = sum(self.known[n].size + BESIDE for n in held) + BESIDE * len(tasks)
        # Each may have an object of arguments; and there are functions, with their options.
        return len(objects) + len(tasks) + 16, bytes_of

    def kept(self) -> int:
        if self.has_files:
            return super().kept()
        return sum(
            self.known[n].size
            for n in self.held()
            if n in self.views or self.outcomes(n) != {None} or not self.known[n].again
        )

    def settle(self) -> None:
        """Until no task runs, and those that are over are kept or not."""
        core = session.current().core
        gates.until(lambda: not core.demands() and not any(r.get("task") for r in core.running()))
        least, most = self.tasks()
        gates.until(lambda: least <= stats()["lineage_tasks"] <= most)
        self.is_settled = True
        if least == most:  # else one may be kept in a moment
            self.fresh.clear()

    # -- rules -------------------------------------------------------------------------------

    def add(self, ref: ray.ObjectRef, size: int) -> None:
        self.known[self.made] = Object(size)
        super().add(ref, size)

    def begin(self, sizes: list[int], needs: tuple[int, ...], again: bool) -> range:
        """What is known of a task that is about to be submitted."""
        task = range(self.made, self.made + len(sizes))
        if self.has_files:
            self.note_attempt(needs)
        can, cannot = self.can_be_had(needs, {})
        failed = Gone.YES if not can else Gone.MAYBE if cannot else Gone.NO
        for number, size in zip(task, sizes, strict=True):
            self.known[number] = Object(size, task, needs, again, failed=failed)
            self.sizes[number] = size
        self.note_made(needs, surely=False)
        self.made = task.stop
        self.fresh |= set(task)
        self.is_settled = False
        return task

    @rule(sizes=st.lists(SIZES, min_size=1, max_size=3))
    def put(self, sizes: list[int]) -> None:
        for size in sizes:
            if self.has_files or self.kept() + size <= FIXED:
                self.add(ray.put(array(self.made, size)), size)

    @rule()
    def force_out(self) -> None:
        self.settle()  # else all may wait for each other's room
        held = []
        for _ in range((STORE - MB - self.kept()) // PIECE):
            held.append(ray.put(np.zeros(PIECE // 8 - 100)))

    @rule(
        sizes=st.lists(SIZES, min_size=1, max_size=3),
        which=st.lists(WHICH, max_size=3),
        nested=st.booleans(),
        again=st.sampled_from([True, True, True, False]),
    )
    def task(self, sizes: list[int], which: list[int], nested: bool, again: bool) -> None:
        if not again and not self.has_files and self.kept() + sum(sizes) > FIXED:
            return
        needs = tuple({self.pick(w): None for w in which}) if self.refs else ()
        refs = [self.refs[n] for n in needs]
        made = self.begin(sizes, needs, again)
        given = [refs] if nested else [[], *refs]
        work = compute.options(num_returns=len(sizes), max_retries=-1 if again else 0)
        results = work.remote(dict(zip(made, sizes, strict=True)), needs, *given)
        self.refs.update(zip(made, results if len(sizes) > 1 else [results], strict=True))
        if not again:
            self.settle()  # as it fails when its worker is killed

    @rule(sizes=st.lists(SIZES, min_size=1, max_size=4))
    def generator(self, sizes: list[int]) -> None:
        made = self.begin(sizes, (), True)
        items = stream.options(max_retries=-1).remote(dict(zip(made, sizes, strict=True)))
        self.refs.update(zip(made, items, strict=True))

    @precondition(lambda self: self.refs)
    @rule(which=WHICH)
    def view(self, which: int) -> None:
        if self.kept() + self.sizes[self.pick(which)] <= FIXED:
            super().view(which)

    @precondition(lambda self: self.refs)
    @rule(which=st.lists(WHICH, min_size=1, max_size=4))
    def drop(self, which: list[int]) -> None:
        for number in {self.pick(w): None for w in which}:
            del self.refs[number]
            one = self.known[number]
            if one.again and not one.is_small and one.gone is Gone.NO:
                one.gone = Gone.MAYBE  # it is, unless a task is about to use it

    @precondition(lambda self: self.refs)
    @rule(which=st.lists(WHICH, min_size=1, max_size=4), read=st.booleans())
    def free(self, which: list[int], read: bool) -> None:
        """The values of some; not those that are being read. Then those may be asked for, and what
        needs them."""
        self.settle()
        numbers = {self.pick(w): None for w in which}
        evictable = [one for one in self.known.values() if self.is_volatile(one, {})]
        internal.free([self.refs[n] for n in numbers])
        for n in numbers:
            one = self.known[n]
            if one.is_small or one.failed is Gone.YES or one.gone is Gone.YES:
                continue
            one.errors.add(ObjectFreedError)
            one.gone = Gone.MAYBE if n in self.views else Gone.YES
        for one in evictable:
            if one.gone is Gone.NO and not self.is_volatile(one, {}):
                one.gone = Gone.MAYBE  # it may have been evicted when it could be made again
        for n in list(self.refs) if read else ():
            if n in numbers or not numbers.keys().isdisjoint(self.known[n].needs):
                self.read(n)

    def note_spoiled(self) -> None:
        self.settle()  # else workers may be reading there
        super().note_spoiled()
        for one in self.known.values():
            if not one.is_small and one.gone is not Gone.YES:
                one.gone = Gone.MAYBE
                one.errors.add(ObjectLostError)

    @precondition(lambda self: self.has_files)
    @rule(which=WHICH)
    def remove_file(self, which: int) -> None:
        found = present()
        if found:
            self.note_spoiled()
            try:
                os.unlink(found[which % len(found)])
            except FileNotFoundError:
                pass  # it was not needed any more

    @rule(settled=st.booleans())
    def kill_a_worker(self, settled: bool) -> None:
        """One that runs something, rather. What it had just made may not be made again, then."""
        if settled:
            self.settle()
        for n in self.fresh:
            self.known[n].unsure |= self.known[n].again
        core = session.current().core
        workers = [p for p in core.processes() if p["kind"] == "worker"]
        if workers:
            victim = max(workers, key=lambda p: p["state"] != "idle")["pid"]
            os.kill(victim, signal.SIGKILL)
            gates.until(lambda: victim not in [p["pid"] for p in core.processes()])
            self.seen["killed"] += 1

    # -- what is always so -------------------------------------------------------------------

    @invariant()
    def no_task_is_left(self) -> None:
        if self.is_settled:
            least, most = self.tasks()
            gates.until(lambda: least <= stats()["lineage_tasks"] <= most)
        if not self.refs and not self.views:
            gates.until(lambda: stats()["lineage_tasks"] == stats()["lineage_bytes"] == 0)


class Evicting(Lineage):
    """There are no files: results are evicted, and what was put never is."""

    options = {"num_cpus": 2, "object_spilling": None}
    has_files = False
    seen: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def unlimited(monkeypatch, no_session):
    monkeypatch.setenv("PYRAY_object_store_full_timeout_s", "30")  # as others use the disk, too
    monkeypatch.setenv("PYRAY_max_lineage_bytes", "inf")


def check_all(machine: type[Lineage], examples: int, steps: int) -> None:
    """And that there was what the machine is for."""
    machine.seen.clear()
    check(machine, examples, steps)
    happened = ["made again", "reconstructed_tasks", "evicted_objects", "ObjectFreedError"]
    happened += ["ObjectReconstructionFailedError", "killed"]
    assert all(machine.seen[what] for what in happened), machine.seen
    assert bool(machine.seen["spilled_objects"]) == machine.has_files


@pytest.mark.parametrize("machine", [Lineage, Evicting])
def test_any_order(machine):
    check_all(machine, 20, 40)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("machine", [Lineage, Evicting])
def test_any_order_for_long(machine):
    check_all(machine, 300, 80)
