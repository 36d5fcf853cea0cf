"""The node's end of workers' pipes, with pipes of our own and no node."""

import os

import pytest

from pyray.runtime.channel import Inbox, Outbox
from pyray.runtime.relay import ERR, LONGEST_LOG, MOST_WAITING, OUT, RESUME, LogFile, Relay
from pyray.runtime.standard_streams import mark


class Rig:
    """A relay whose driver reads when the test says so."""

    def __init__(self, logs, to_driver=True):
        self.from_relay, writer = os.pipe()
        os.set_blocking(writer, False)
        os.set_blocking(self.from_relay, False)
        self.outbox = Outbox(writer)
        self.inbox = Inbox()
        self.watched = set()
        self.relay = Relay(str(logs), self.watch, lambda text: self.outbox.put({"warning": text}))
        if to_driver:
            self.relay.listeners[1] = self.outbox

    def watch(self, fd, on):
        assert (fd in self.watched) != on
        self.watched.symmetric_difference_update([fd])

    def worker(self, pid, kind=OUT):
        reader, writer = os.pipe()
        self.relay.add(reader, pid, kind)
        return reader, writer

    def sent(self):
        """All messages, as the driver gets them."""
        found = []
        while True:
            self.outbox.write()
            self.relay.written()
            try:
                data = os.read(self.from_relay, 1 << 16)
            except BlockingIOError:
                return found
            found += self.inbox.feed(data)

    def lines(self):
        return [
            (m["log"]["pid"], m["log"]["stream"], m["log"]["name"], line)
            for m in self.sent()
            if "log" in m
            for line in m["log"]["lines"]
        ]


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path)


def test_lines_go_to_the_driver_and_to_a_log_a_stream(rig, tmp_path):
    out, out_writer = rig.worker(5)
    err, err_writer = rig.worker(5, ERR)
    os.write(out_writer, mark("f").encode() + b"one\ntwo\nthr")
    os.write(err_writer, b"oops\n")
    rig.relay.read(out)
    rig.relay.read(err)
    assert rig.lines() == [
        (5, OUT, "f", "one"),
        (5, OUT, "f", "two"),
        (5, ERR, "", "oops"),
    ]
    os.close(out_writer)
    while rig.relay.read(out):
        pass
    assert rig.lines() == [(5, OUT, "f", "thr")]
    assert (tmp_path / "worker-5.out").read_bytes() == b"one\ntwo\nthr\n"
    assert (tmp_path / "worker-5.err").read_bytes() == b"oops\n"
    assert rig.watched == {err}


def test_logs_are_private(rig, tmp_path):
    out, writer = rig.worker(5)
    os.write(writer, b"x\n")
    rig.relay.read(out)
    assert (tmp_path / "worker-5.out").stat().st_mode & 0o777 == 0o600


def test_without_a_driver_that_wants_them_lines_go_to_the_log_only(tmp_path):
    rig = Rig(tmp_path, to_driver=False)
    out, writer = rig.worker(1)
    os.write(writer, b"x\n")
    rig.relay.read(out)
    assert rig.sent() == []
    assert (tmp_path / "worker-1.out").read_bytes() == b"x\n"


def test_pipes_are_left_alone_while_the_driver_does_not_read(rig):
    out, writer = rig.worker(1)
    other, _ = rig.worker(2)
    os.set_blocking(writer, False)
    block = b"y" * 999 + b"\n"
    written = 0
    while not rig.relay.paused:
        written += os.write(writer, block)
        rig.relay.read(out)
    assert rig.watched == set()
    assert MOST_WAITING < len(rig.outbox) < MOST_WAITING + 2 * len(block)
    third, _ = rig.worker(3)
    assert rig.watched == set()
    with pytest.raises(BlockingIOError):  # the worker waits in its print
        while True:
            written += os.write(writer, block)
    lines = []
    while len(rig.outbox) >= RESUME:
        assert rig.relay.paused
        lines += rig.lines()
    assert not rig.relay.paused
    assert rig.watched == {out, other, third}
    rig.relay.drain()
    lines += rig.lines()
    assert sum(len(line) + 1 for _, _, _, line in lines) == written


def test_a_flush_passes_on_what_was_printed_before_it_and_keeps_unfinished_lines(rig):
    _, writer = rig.worker(1)
    os.write(writer, b"a\nb")
    rig.relay.drain()
    assert rig.lines() == [(1, OUT, "", "a")]
    os.write(writer, b"c\n")
    rig.relay.drain()
    assert rig.lines() == [(1, OUT, "", "bc")]


def test_finish_passes_on_everything(rig):
    _, writer = rig.worker(1)
    os.write(writer, b"a\nb")
    _, other = rig.worker(2)
    os.write(other, b"c")
    os.close(other)
    rig.relay.finish()
    assert rig.lines() == [(1, OUT, "", "a"), (1, OUT, "", "b"), (2, OUT, "", "c")]
    assert not rig.relay.streams and not rig.watched


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_costs_the_log_and_one_warning(rig, tmp_path):
    for pid in (1, 2):
        os.symlink("/dev/full", tmp_path / f"worker-{pid}.out")
    _, first = rig.worker(1)
    _, second = rig.worker(2)
    os.write(first, b"a\n")
    os.write(second, b"b\n")
    rig.relay.drain()
    os.write(first, b"c\n")
    rig.relay.drain()
    sent = rig.sent()
    assert [m["log"]["lines"] for m in sent if "log" in m] == [["a"], ["b"], ["c"]]
    (warning,) = [m["warning"] for m in sent if "warning" in m]
    assert "No space left on device" in warning


def test_a_long_log_is_moved_aside(tmp_path):
    complaints = []
    log = LogFile(str(tmp_path / "log"), complaints.append)
    log.write([b"first"])
    log.size = LONGEST_LOG + 1
    log.write([b"second"])
    log.close()
    assert (tmp_path / "log.1").read_bytes() == b"first\n"
    assert (tmp_path / "log").read_bytes() == b"second\n"
    assert complaints == []
