"""Which worker is ended when the memory is nearly full: a function of what the workers run.

Imports nothing else of pyray. The order is Ray's, by owner, which is who submitted a task: another
task, or a driver.

    1. an idle worker: nothing is lost with it
    2. of tasks and actors that can be tried again, those of the owner who has most of them, so that
       each owner's work goes on; of equally many, those of whom the first began last
    3. of the others, whoever owns them
    of these, what has begun last: least is lost with that

A task that is the last of its owner is not tried again, or it would be ended again and again. Size
decides only who is looked at: not those that hold far less than the largest does.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

#: A worker that holds less than this part of what the largest holds is not worth ending.
WORTH = 1 / 8
#: Workers that hold no more than this part of the memory, all together, are not what fills it.
BLAME = 0.02


class Running(NamedTuple):
    """A worker, what it holds in bytes, and what it runs; `task` is 0 if it is idle."""

    pid: int
    size: int
    task: int = 0
    name: str = ""
    owner: Hashable = None
    began: int = 0
    sequence: int = 0
    retriable: bool = False
    is_actor: bool = False


class Victim(NamedTuple):
    """The worker to be ended, whether its task is tried again, and why it is this one."""

    worker: Running
    retry: bool
    why: str


def choose(workers: list[Running], limit: int) -> Victim | None:
    """The one to be ended of a machine with `limit` bytes; None if that would be of no use."""
    sizes = [worker.size for worker in workers]
    if sum(sizes) <= limit * BLAME:
        return None
    large = [worker for worker in workers if worker.size >= max(sizes) * WORTH]
    idle = [worker for worker in large if not worker.task]
    if idle:
        return Victim(max(idle, key=lambda worker: worker.size), True, "it was idle")
    return _last_begun([worker for worker in large if worker.retriable]) or _last_begun(large)


def _last_begun(workers: list[Running]) -> Victim | None:
    """Of workers that are all retriable, or of those that are not."""
    if not workers:
        return None
    groups: dict[Hashable, list[Running]] = {}
    for worker in workers:
        groups.setdefault(worker.owner if worker.retriable else None, []).append(worker)
    group = max(groups.values(), key=lambda group: (len(group), min(map(_age, group))))
    worker = max(group, key=_age)
    what = "actor" if worker.is_actor else "task"
    if not worker.retriable:
        return Victim(
            worker,
            False,
            f"nothing that ran can be tried again, and this {what} was the last to begin",
        )
    if worker.is_actor:
        return Victim(worker, True, "it can be restarted, and was the last to begin of its owner")
    if len(group) == 1:
        return Victim(
            worker, False, "it was the only task of its owner, and would not fit in again"
        )
    return Victim(worker, True, f"it was the last to begin of the {len(group)} tasks of its owner")


def _age(worker: Running) -> tuple[int, int]:
    return worker.began, worker.sequence
