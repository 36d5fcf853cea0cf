"""Frames over pipes that take them in pieces."""

import os

import pytest

from pyray.runtime.channel import Inbox, Outbox, frame


def test_frames_come_out_however_they_are_cut():
    messages = [{"flush": 1}, {"log": {"lines": ["ü", "\udc80"], "pid": 3}}, {}]
    data = b"".join(map(frame, messages))
    for size in (1, 2, 3, 7, len(data)):
        inbox = Inbox()
        found = [m for i in range(0, len(data), size) for m in inbox.feed(data[i : i + size])]
        assert found == messages


def test_one_message_can_be_read_and_no_more():
    first, second = {"hello": "x" * 300}, {"shutdown": True}
    data = frame(first) + frame(second)
    inbox = Inbox()
    at, found = 0, []
    while not found:
        wanted = inbox.missing()
        found = list(inbox.feed(data[at : at + wanted]))
        at += wanted
    assert found == [first]
    assert list(Inbox().feed(data[at:])) == [second]


def test_outbox_keeps_what_a_pipe_does_not_take():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    outbox = Outbox(writer)
    messages = [{"log": "x" * 1000, "n": n} for n in range(500)]
    for message in messages:
        outbox.put(message)
    inbox = Inbox()
    found = []
    while outbox:
        outbox.write()
        found += inbox.feed(os.read(reader, 1 << 20))
    assert found == messages
    os.close(reader)
    outbox.put({})
    with pytest.raises(BrokenPipeError):
        outbox.write()
    os.close(writer)
