"""Whom the memory monitor ends: tables of what workers run."""

import pytest

from pyray.runtime.victims import Running, choose

LIMIT = 1000


def worker(pid, owner="driver", began=None, size=100, retriable=True, is_actor=False, sequence=0):
    return Running(
        pid=pid,
        size=size,
        task=1000 + pid,
        name=f"task{pid}",
        owner=owner,
        began=pid if began is None else began,
        sequence=sequence,
        retriable=retriable,
        is_actor=is_actor,
    )


def idle(pid, size=100):
    return Running(pid=pid, size=size)


def final(pid, **given):
    return worker(pid, retriable=False, **given)


def actor(pid, **given):
    return worker(pid, is_actor=True, **given)


#: What there is; the one that is ended, and whether it is tried again.
TABLE = {
    "the last to begin": ([worker(1), worker(3), worker(2)], 3, True),
    "the only one of its owner": ([worker(1)], 1, False),
    "the only one of each owner: of whom began last": (
        [worker(1, "a"), worker(3, "b"), worker(2, "c")],
        3,
        False,
    ),
    "of the owner with most": (
        [worker(1, "a"), worker(2, "a"), worker(3, "a"), worker(4, "b"), worker(5, "b")],
        3,
        True,
    ),
    "of two owners with equally many, of whom began last": (
        [worker(1, "a"), worker(9, "a"), worker(2, "b"), worker(8, "b")],
        8,
        True,
    ),
    "first those that can be tried again": ([worker(1), worker(2), final(3), final(4)], 2, True),
    "even if it is the only one": ([worker(1), final(2), final(3)], 1, False),
    "then the others, whoever owns them": (
        [final(1, owner="a"), final(2, owner="a"), final(3, owner="b")],
        3,
        False,
    ),
    "an actor without restarts counts as one of these": (
        [worker(1), worker(2), actor(3, retriable=False)],
        2,
        True,
    ),
    "an actor with restarts counts as a task": ([worker(1), actor(2)], 2, True),
    "it is restarted though it is the only one": ([actor(1), final(2)], 1, True),
    "an actor without restarts": ([actor(1, retriable=False)], 1, False),
    "of one instant, what was submitted last": (
        [worker(1, began=5, sequence=2), worker(2, began=5, sequence=7), worker(3, began=5)],
        2,
        True,
    ),
    "an idle one before all others": ([worker(1), worker(2), idle(3)], 3, True),
    "of these the largest": ([idle(1, 100), idle(2, 120), idle(3, 110)], 2, True),
    "small ones are not looked at": (
        [worker(1, size=400), worker(2, size=400), worker(3, size=49)],
        2,
        True,
    ),
    "nor counted": ([worker(1, size=400), worker(2, size=10)], 1, False),
    "nor idle ones that are small": (
        [worker(1, size=400), worker(2, size=60), idle(3, 40)],
        2,
        True,
    ),
    "what is not so small is": ([worker(1, size=400), worker(2, size=50)], 2, True),
}


@pytest.mark.parametrize(("workers", "pid", "retry"), TABLE.values(), ids=TABLE)
def test_who_is_ended(workers, pid, retry):
    for order in (workers, workers[::-1]):
        found = choose(order, LIMIT)
        assert (found.worker.pid, found.retry) == (pid, retry)


@pytest.mark.parametrize(
    "workers", [[], [worker(1, size=0)], [worker(1, size=10), worker(2, size=10)], [idle(1, 20)]]
)
def test_nobody_if_workers_are_not_to_blame(workers):
    assert choose(workers, LIMIT) is None


def test_many_small_ones_are_to_blame_together():
    found = choose([worker(pid, size=9) for pid in range(1, 101)], LIMIT)
    assert (found.worker.pid, found.retry) == (100, True)


@pytest.mark.parametrize(
    ("workers", "why"),
    [
        ([idle(1)], "it was idle"),
        ([worker(1), worker(2)], "it was the last to begin of the 2 tasks of its owner"),
        ([worker(1)], "it was the only task of its owner, and would not fit in again"),
        ([actor(1)], "it can be restarted, and was the last to begin of its owner"),
        ([final(1)], "nothing that ran can be tried again, and this task was the last to begin"),
        (
            [actor(1, retriable=False)],
            "nothing that ran can be tried again, and this actor was the last to begin",
        ),
    ],
)
def test_why(workers, why):
    assert choose(workers, LIMIT).why == why


def test_one_after_another_until_one_of_each_owner_is_left():
    """Work goes on: of each owner what began first is left alone as long as possible."""
    workers = [worker(pid, owner) for pid, owner in enumerate("aabbbbcab", 1)]
    ended = []
    while True:
        found = choose(workers, LIMIT)
        if not found.retry:
            break
        ended.append(found.worker.pid)
        workers.remove(found.worker)
    assert ended == [9, 6, 5, 8, 4, 2]
    assert [one.pid for one in workers] == [1, 3, 7]
    assert found.worker.pid == 7
