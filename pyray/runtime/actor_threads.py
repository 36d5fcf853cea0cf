"""Actors whose methods run in several threads: `max_concurrency`, and concurrency groups.

Without groups one thread at a time leads: it runs one call after another, until one takes long or
waits, when another thread takes the lead (csrc/turns.h). With groups the main thread hands each
call to those of its group. Imports the core.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import Any

from . import _core

__all__ = ["serve"]


def serve(actor: _core.Actor) -> None:
    """Run the calls of an actor until it is to end."""
    if not actor.construct():
        return
    groups = actor.options.get("concurrency_groups")
    if groups:
        _Groups(actor, groups).run()
    else:
        _Turns(actor, actor.options["max_concurrency"]).run()


class _Turns:
    """Threads that take the lead in turn; a new one is started when none stands by.

    The main thread runs no call: it must be free to leave when another one says so.
    """

    def __init__(self, actor: _core.Actor, most: int) -> None:
        self.actor = actor
        self.most = most
        self.threads = 0
        self.waiting = 0
        self.stand = threading.Lock()  # of the one that stands by
        self.over = threading.Event()

    def run(self) -> None:
        self._start()
        self.over.wait()

    def _start(self) -> None:
        self.threads += 1
        threading.Thread(target=self._take_turns, daemon=True).start()

    def _take_turns(self) -> None:
        while True:
            self.waiting += 1
            with self.stand:
                self.waiting -= 1
                leads = self.actor.stand_by()
                if leads and not self.waiting and self.threads < self.most:
                    self._start()
            if not (leads and self.actor.lead()):
                self.over.set()
                return


class _Groups:
    """Threads of each group, started as they are needed."""

    def __init__(self, actor: _core.Actor, groups: dict[str, int]) -> None:
        self.actor = actor
        default = actor.options.get("max_concurrency", 1)
        self.groups = {name: _Group(actor, most) for name, most in groups.items()}
        self.groups[""] = _Group(actor, default)

    def run(self) -> None:
        while not self.actor.over():
            seen = self.actor.events()
            taken = self.actor.take()
            if taken is None:
                self.actor.sleep(seen, None)
            else:
                task, epoch, group = taken
                self.groups[group].put(task, epoch)


class _Group:
    def __init__(self, actor: _core.Actor, most: int) -> None:
        self.actor = actor
        self.most = most
        self.threads = 0
        self.idle = 0
        self.calls: SimpleQueue[Any] = SimpleQueue()

    def put(self, task: int, epoch: int) -> None:
        self.calls.put((task, epoch))
        if self.calls.qsize() > self.idle and self.threads < self.most:
            self.threads += 1
            threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            self.idle += 1
            task, epoch = self.calls.get()
            self.idle -= 1
            if self.actor.begin(task, epoch):
                self.actor.run_call(task)
