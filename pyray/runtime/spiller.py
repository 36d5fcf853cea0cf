"""The spiller: the process of a session that writes objects to files when memory runs out.

Forked from the node by spill_process.py when somebody first needs room; imports the core,
spill_targets and settings. What it does to the shared tables, and what its death leaves, is in
csrc/spill.h; files that nobody needs are removed by the next spiller.

One thread looks at the tables, the others write and read files. Memory is given back in two steps.
From PYRAY_object_spilling_threshold of the store on, objects get copies in files ahead of time, and
keep their memory: they are *clean*. When somebody waits for room, clean objects lose theirs at
once, those first that nobody has read for longest.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NoReturn

from pyray.store import _spilled

from . import _core, _process, spill_targets
from ._spiller import Batch, Fetch, Spilling
from .settings import number
from .spill_process import Start

#: Descriptors that the node has, and this process uses too.
CONTROL, ARENA, WAKE = range(3, 6)
#: Bytes of a file: small objects are put together until they have so many.
FILE = 64 << 20
#: At least this share of the store is given back at a time, so that not every put has to wait.
STEP = 1 / 32
#: Seconds between two looks if nobody calls, and while somebody waits whom nobody helps.
LONG, SHORT = 5.0, 0.02
#: Seconds until a target that failed is tried again: doubled at each failure, up to the last.
BACK_OFF, LONGEST_BACK_OFF = 0.05, 3.0
#: Seconds until a put is refused: when no target works, or all that could be given back is read by
#: processes that go on; and when those wait for room themselves, or there are none.
TIMEOUT, STUCK = 10.0, 0.2
#: How often reading a copy is tried.
ATTEMPTS = 5


class State:
    """A target, and when it may be used."""

    def __init__(self, target: spill_targets.Target) -> None:
        self.target = target
        self.writing = 0  # files
        self.failures = 0  # in a row
        self.not_before = 0.0

    def may_write(self, now: float) -> bool:
        limit = 1 if self.failures else self.target.writers
        return self.writing < limit and now >= self.not_before

    def note(self, failed: bool, now: float) -> None:
        self.failures = self.failures + 1 if failed else 0
        pause = min(BACK_OFF * 2**self.failures, LONGEST_BACK_OFF) if failed else 0.0
        self.not_before = now + pause


class Spiller:
    """What one thread knows; `run` is its life."""

    def __init__(self, session: _core.Session, targets: list[spill_targets.Target]) -> None:
        self.session = session
        self.targets = [State(target) for target in targets]
        self.info = session.find(_spilled.TARGETS)  # which stays in memory so
        self.tables = Spilling(session)
        self.step = int(session.stats()["capacity"] * STEP)
        self.pool = ThreadPoolExecutor(sum(t.writers for t in targets) + 4, "spiller")
        self.ended: deque[Callable[[], None]] = deque()  # what threads have for this one to do
        self.next_target = 0
        self.fetching = 0
        self.late: list[tuple[Fetch, bytes, float]] = []  # read, and without room so far
        # Ticket of who waits longest, and since when nothing could be done for it.
        self.helpless: tuple[int, float] | None = None
        self.failure = ""
        self.timeout = number("object_store_full_timeout_s", TIMEOUT)

    def run(self) -> None:
        """Until the session ends."""
        while self.tables.look():
            while self.ended:
                self.ended.popleft()()
            self.remove_files()
            self.start_fetches()
            self.land()
            helpless = self.give_room()
            self.write_ahead()
            if not self.ended:
                self.tables.wait(SHORT if helpless or self.late else LONG)

    def in_thread(self, work: Callable[..., Any], then: Callable[[Any], None], *args: Any) -> None:
        """`then` is called by the thread of the tables, with what the work gave or raised."""

        def finish(future: Future[Any]) -> None:
            self.ended.append(lambda: then(future.exception() or future.result()))
            self.session.interrupt()

        self.pool.submit(work, *args).add_done_callback(finish)

    # -- writing -------------------------------------------------------------------------------

    def write_ahead(self) -> None:
        """What is not in files is to be less than the threshold."""
        used, threshold = self.tables.used()
        self.tables.call_beyond(used + self.step // 2)
        if used <= threshold:
            return
        clean, dirty = self.tables.spillable()
        under_way = sum(state.writing for state in self.targets)
        if dirty and used - clean > threshold + under_way * FILE:
            self.write()

    def write(self) -> bool:
        """Begin to write a file, or several; whether any."""
        now = time.monotonic()
        begun = False
        for i in range(len(self.targets)):
            at = (self.next_target + i) % len(self.targets)
            state = self.targets[at]
            if not state.may_write(now):
                continue
            batch = self.tables.choose(FILE, at)
            if batch is None:
                break
            state.writing += 1
            begun = True
            name = _spilled.file_name(batch.number)
            self.in_thread(state.target.write, self._written(state, batch), batch, name)
            self.next_target = at + 1
        return begun

    def _written(self, state: State, batch: Batch) -> Callable[[Any], None]:
        def note(result: Any) -> None:
            state.writing -= 1
            failed = isinstance(result, BaseException)
            state.note(failed, time.monotonic())
            if failed:
                batch.failed()
                self.tell(f"{type(result).__name__}: {result}")
            else:
                batch.done(result)

        return note

    def tell(self, text: str) -> None:
        """Why files cannot be written, for those who are refused; and for the log."""
        if text == self.failure:
            return
        self.failure = text
        _log(f"spilling failed: {text}")
        try:
            self.session.replace(_spilled.FAILURE, text.encode()[:200])
        except (MemoryError, RuntimeError):
            pass  # no room even for that

    def remove_files(self) -> None:
        """Files in which nobody has anything any more."""
        if not self.tables.files_done():
            return
        while (found := self.tables.unused_file()) is not None:
            slot, target, file_number = found
            self.tables.forget_file(slot)
            name = _spilled.file_name(file_number)
            self.in_thread(self.targets[target].target.remove, _ignore, name)

    # -- room ----------------------------------------------------------------------------------

    def give_room(self) -> bool:
        """Blocks for those who wait, in turn; whether one waits that nothing is done for."""
        while (found := self.tables.first_wanting()) is not None:
            process, size, ticket = found
            if self.tables.grant(process) or self.tables.evict(max(size, self.step)):
                self.helpless = None
                continue
            if self.write() or any(state.writing for state in self.targets):
                self.helpless = None
                return False
            now = time.monotonic()
            if self.helpless is None or self.helpless[0] != ticket:
                self.helpless = (ticket, now)
            if not self._is_hopeless(process, now - self.helpless[1]):
                return True
            self.tables.deny(process)
        self.helpless = None
        return False

    def _is_hopeless(self, process: int, waited: float) -> bool:
        clean, dirty = self.tables.spillable()
        if clean:
            return False
        if dirty or self.tables.may_free(process):  # no target works, or others may stop reading
            return waited > self.timeout
        return waited > STUCK

    # -- reading -------------------------------------------------------------------------------

    def start_fetches(self) -> None:
        for fetch in self.tables.fetched():
            self.fetching += 1
            target = self.targets[fetch.target].target
            self.in_thread(_read, self._arrived(fetch), target, fetch)

    def _arrived(self, fetch: Fetch) -> Callable[[Any], None]:
        def note(result: Any) -> None:
            self.fetching -= 1
            if isinstance(result, BaseException):
                self.tell(f"{type(result).__name__}: {result}")
                self._give_up(fetch, isinstance(result, FileNotFoundError))
            else:
                self.late.append((fetch, result, time.monotonic()))

        return note

    def land(self) -> None:
        """Objects that were read get memory again."""
        late, self.late = self.late, []
        for fetch, data, since in late:
            while (found := fetch.arrive(data)) == "full" and self.tables.evict(
                max(len(data), self.step)
            ):
                pass
            if found == "there":
                self.tables.forget_fetch(fetch)
            elif found == "altered":
                self._give_up(fetch, True)
            elif time.monotonic() - since > self.timeout:
                self._give_up(fetch, False)
            else:
                self.write()
                self.late.append((fetch, data, since))

    def _give_up(self, fetch: Fetch, lost: bool) -> None:
        self.tables.forget_fetch(fetch)
        fetch.give_up(lost)

    # -- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """Remove all files of the session."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        for state in self.targets:
            try:
                state.target.close()
            except OSError as error:
                _log(f"files of the session could not be removed: {error}")


def _read(target: spill_targets.Target, fetch: Fetch) -> bytes:
    for attempt in range(ATTEMPTS):
        try:
            return target.read(_spilled.file_name(fetch.number), fetch.begin, fetch.size)
        except FileNotFoundError:
            raise
        except Exception:
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(BACK_OFF * 2**attempt)
    raise AssertionError


def _ignore(result: Any) -> None:
    if isinstance(result, BaseException):
        _log(f"a file could not be removed: {result}")


def _log(text: str) -> None:
    """Into the node's log, which may be where there is no room, too."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        pass


def main(start: Start, inherited: object) -> NoReturn:
    """Spill until the session ends.

    What is inherited from the node is not used here; it must not be finalized in this process.
    """
    status = 1
    try:
        _settle(start)
        session = _core.Session.attach(CONTROL, ARENA, WAKE, "spiller")
        _core.set_session(session)
        spiller = Spiller(session, spill_targets.make(start.places, start.directory))
        try:
            spiller.run()
        except SystemExit:
            pass  # the session is over, as when run() ends; upon other ends its files are needed
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        spiller.close()
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)


def _settle(start: Start) -> None:
    """Make a copy of the node into a process of its own."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, _on_end)
    # Not at once: files outside the session's directory are removed by whoever is left.
    _process.die_with_parent(signal.SIGTERM)
    if os.getppid() != start.node:
        os._exit(1)  # the node died before the line above
    _process.set_name(b"pyray::spiller")


def _on_end(number: int, frame: Any) -> None:
    """The node has ended, or says so."""
    raise SystemExit
