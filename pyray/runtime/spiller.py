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

import math
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
#: Seconds until a put is refused, or a get that needs a target: when no target works, or all that
#: could be given back is read by processes that go on; and when those wait for room themselves, or
#: there are none.
TIMEOUT, STUCK = 10.0, 0.2


class State:
    """A target, and when it may be used."""

    def __init__(self, target: spill_targets.Target) -> None:
        self.target = target
        self.writing = 0  # files
        self.failures = 0  # in a row
        self.not_before = 0.0
        self.begun = 0.0  # the latest of these files

    def is_silent(self, begun: float, now: float, timeout: float) -> bool:
        """Whether it has neither given nor taken anything for so long."""
        return now - max(begun, self.target.moved) > timeout

    def may_write(self, now: float, urgent: bool) -> bool:
        limit = self.target.writers if urgent else self.target.writers_ahead
        if self.failures:
            limit = 1
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
        self.removing: set[int] = set()  # slots of files
        self.remove_again = math.inf  # when, if one could not be removed
        self.reading: dict[Fetch, float] = {}  # and when that began
        self.late: list[
            tuple[Fetch, bytes | bytearray, float]
        ] = []  # read, and without room so far
        # Since when who waits longest has waited, and since when nothing could be done for it.
        self.helpless: tuple[float, float] | None = None
        self.helped = time.monotonic()  # when something was last done for somebody
        self.failures = {_spilled.WRITE_FAILURE: "", _spilled.READ_FAILURE: ""}
        self.timeout = number("object_store_full_timeout_s", TIMEOUT)

    def run(self) -> None:
        """Until the session ends."""
        while self.tables.look():
            while self.ended:
                self.ended.popleft()()
            self.remove_files()
            self.start_fetches()
            self.stop_fetches()
            self.land()
            pause = self.give_room()
            self.write_ahead()
            if self.late:
                pause = SHORT
            elif self.reading:
                pause = min(pause, self.timeout / 10)
            if not self.ended:
                self.tables.wait(pause)

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
            self.write(urgent=False)

    def write(self, urgent: bool) -> bool:
        """Begin to write a file, or several; whether any. It is urgent if somebody waits."""
        now = time.monotonic()
        begun = False
        for i in range(len(self.targets)):
            at = (self.next_target + i) % len(self.targets)
            state = self.targets[at]
            if not state.may_write(now, urgent):
                continue
            batch = self.tables.choose(FILE, at)
            if batch is None:
                break
            state.writing += 1
            state.begun = now
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
                self.tell(_spilled.WRITE_FAILURE, f"{type(result).__name__}: {result}")
            else:
                batch.done(result)
                self.tell(_spilled.WRITE_FAILURE, "")

        return note

    def tell(self, what: bytes, text: str) -> None:
        """Why files cannot be written or read, for those who are refused; and for the log."""
        if text == self.failures[what]:
            return
        self.failures[what] = text
        if text:
            _log(f"spilling failed: {text}")
        try:
            self.session.replace(what, text.encode()[:200])
        except (MemoryError, RuntimeError):
            pass  # no room even for that

    def remove_files(self) -> None:
        """Files in which nobody has anything any more; again those that could not be removed."""
        if not self.tables.files_done() and time.monotonic() < self.remove_again:
            return
        self.remove_again = math.inf
        for slot, target, file_number in self.tables.unused_files():
            if slot not in self.removing:
                self.removing.add(slot)
                name = _spilled.file_name(file_number)
                self.in_thread(self.targets[target].target.remove, self._removed(slot), name)

    def _removed(self, slot: int) -> Callable[[Any], None]:
        def note(result: Any) -> None:
            self.removing.discard(slot)
            if isinstance(result, BaseException):
                if self.remove_again == math.inf:
                    _log(f"a file could not be removed, which is tried again: {result}")
                    self.remove_again = time.monotonic() + LONGEST_BACK_OFF
            else:
                self.tables.forget_file(slot)

        return note

    # -- room ----------------------------------------------------------------------------------

    def give_room(self) -> float:
        """Blocks for those who wait, in turn; seconds until that is to be tried again."""
        while (found := self.tables.first_wanting()) is not None:
            process, size, since = found
            if self.tables.grant(process) or self.tables.evict(max(size, self.step)):
                self.helpless = None
                self.helped = time.monotonic()
                continue
            self.write(urgent=True)
            now = time.monotonic()
            if self.helpless is None or self.helpless[0] != since:
                self.helpless = (since, now)
            if not self._is_hopeless(process, now, now - max(since, self.helped)):
                return self.timeout / 10 if any(t.writing for t in self.targets) else SHORT
            self.tables.deny(process)
        self.helpless = None
        return LONG

    def _is_hopeless(self, process: int, now: float, waited: float) -> bool:
        """Whether who is first is to be refused, which has waited for so long for any help at all.

        The time is counted from its own start, so that many who wait without hope are refused at
        about the same time, and not each one timeout after the one before.
        """
        assert self.helpless is not None
        clean, dirty = self.tables.spillable()
        writing = [state for state in self.targets if state.writing]
        moving = [s for s in writing if not s.is_silent(s.begun, now, self.timeout)]
        # Without targets, what is clean can be made again: perhaps, as its arguments may be gone.
        if (clean and self.targets) or any(not state.failures for state in moving):
            return False
        if writing and not moving:
            self.tell(_spilled.WRITE_FAILURE, f"no answer for {self.timeout:g} seconds")
            return True
        # A target is tried again, or none may be so soon, or others may stop reading.
        if moving or (dirty if self.targets else clean) or self.tables.may_free(process):
            return waited > self.timeout
        # Perhaps it gives up what it reads when it is refused, and the next may have that.
        return now - self.helpless[1] > STUCK

    # -- reading -------------------------------------------------------------------------------

    def start_fetches(self) -> None:
        for fetch in self.tables.fetched():
            state = self.targets[fetch.target]
            self.reading[fetch] = time.monotonic()
            self.in_thread(_read, self._arrived(fetch), state.target, fetch, self.timeout)

    def stop_fetches(self) -> None:
        """Who waits for a target that does not answer is told so."""
        now = time.monotonic()
        for fetch, begun in list(self.reading.items()):
            if self.targets[fetch.target].is_silent(begun, now, self.timeout):
                self.tell(_spilled.READ_FAILURE, f"no answer for {self.timeout:g} seconds")
                del self.reading[fetch]
                self._give_up(fetch, False)

    def _arrived(self, fetch: Fetch) -> Callable[[Any], None]:
        def note(result: Any) -> None:
            if self.reading.pop(fetch, None) is None:
                return  # too late
            if isinstance(result, BaseException):
                self.tell(_spilled.READ_FAILURE, f"{type(result).__name__}: {result}")
                self._give_up(fetch, isinstance(result, FileNotFoundError))
            else:
                self.tell(_spilled.READ_FAILURE, "")
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
            elif found == "gone" or time.monotonic() - since > self.timeout:
                self._give_up(fetch, False)
            else:
                self.write(urgent=True)
                self.late.append((fetch, data, since))

    def _give_up(self, fetch: Fetch, lost: bool) -> None:
        self.tables.forget_fetch(fetch)
        fetch.give_up(lost)

    # -- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """Remove all files of the session."""
        for state in self.targets:
            state.target.stop()
        self.pool.shutdown(cancel_futures=True)
        for state in self.targets:
            try:
                state.target.close()
            except Exception as error:
                _log(f"files of the session could not be removed: {error}")


def _read(target: spill_targets.Target, fetch: Fetch, timeout: float) -> bytes | bytearray:
    end = time.monotonic() + timeout
    pause = BACK_OFF
    while True:
        try:
            return target.read(_spilled.file_name(fetch.number), fetch.begin, fetch.size)
        except FileNotFoundError:
            raise
        except Exception:
            if time.monotonic() + pause > end:
                raise
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_BACK_OFF)


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
