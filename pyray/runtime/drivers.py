"""The drivers of a session, as its node knows them: who joins, what they say, who has gone.

Imports the core, addresses, channel, events and relay. Used by the node alone, which has one
thread.

The driver that started the session has two pipes. Others, and the commands of cli.py, connect to a
socket in the session's directory, which is its user's only; the user id of who is at the other end
is checked all the same. Messages, frames of channel.py:

    to the node                                   from the node
    join: who, what is known of it                welcome: its job, with the session's descriptors
    look                                          welcome: the same without a job
    flush: a number                               flushed: that number
    leave
    stop, or shutdown of who started it           ended: why, to those who joined
                                                  log, warning, refused: texts

Crashes. A driver that dies is seen by the end of its connection, or, if a fork of it has that, by
its pidfd. Then what it held is given back (`Session.recover`), and its job is stopped, as it is
when it leaves (csrc/job.h). The session ends with the driver that started it, if one did.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from typing import Any

from . import _core, addresses
from .channel import CHUNK, Inbox, Outbox, frame
from .events import Events
from .relay import Relay

#: Seconds after the start when others may join: the first workers are on their way then.
OPENING = 0.02
#: Seconds between two looks for what the job of a driver that is gone has left.
AGAIN = 1.0
#: Seconds after which nobody waits any more for a driver that joined and takes nothing.
DEAF = 5.0
#: Seconds to accept nobody when no descriptor is free; and to wait for those who joined at the end.
PAUSE, LAST = 1.0, 1.0


class Link:
    """One process that is connected."""

    def __init__(self, reader: int, writer: int, pid: int, owner: bool = False) -> None:
        self.reader = reader
        self.pid = pid
        self.owner = owner  # the session ends with it
        self.inbox = Inbox()
        self.outbox = Outbox(writer)
        self.job = 0  # none yet
        self.shows = False  # what workers print
        self.blocked = False  # until it takes more
        self.moved = False  # it has taken something lately
        self.told = False  # that the session ends


class Drivers:
    """All who are connected. `end` ends the session at once, `stop` politely, with a reason."""

    def __init__(
        self,
        session: _core.Session,
        events: Events,
        relay: Relay,
        descriptors: list[int],
        directory: int,
        end: Callable[[], None],
        stop: Callable[[str], None],
        reap: Callable[[], None],
    ) -> None:
        self.session = session
        self.events = events
        self.relay = relay
        self.descriptors = descriptors  # for those who join
        self.directory = directory
        self.end = end
        self.stop = stop
        self.reap = reap
        self.links: dict[int, Link] = {}  # by the descriptor that is read
        self.pidfds: dict[int, int] = {}  # pids by descriptor
        self.jobs = 0
        self.left: dict[int, int] = {}  # jobs whose driver is gone, its pid
        self.infos: dict[int, Any] = {}  # references that keep what is known of jobs
        self.said: dict[str, Callable[[Link, Any], None]] = {
            "join": self._join,
            "look": self._look,
            "flush": self._flush,
            "leave": lambda link, _: self._gone(link),
            "stop": lambda link, reason: self.stop(reason),
            "shutdown": lambda link, reason: self.stop("the driver that started it has ended"),
        }

    def begin(self, reader: int, writer: int, hello: dict[str, Any]) -> None:
        """With the process that started the session, which may want to leave it to others."""
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        link = Link(reader, writer, hello["driver"], hello["owner"])
        self._add(link)
        # A fork of the driver may hold its end of the pipe, so the driver itself is watched too.
        if link.owner:
            self.jobs = link.job = 1
            self._listen_to(link, hello["log_to_driver"])
            if not self._watch_process(link.pid) or os.getppid() != link.pid:
                self.end()
        self.events.later(self._open, OPENING)

    # -- connecting ----------------------------------------------------------------------------

    def _open(self) -> None:
        """Others may come from now on."""
        import socket

        name, new = addresses.SOCKET, f".{addresses.SOCKET}"
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.listener.bind(addresses.socket_path(self.directory, new))
            os.chmod(new, 0o600, dir_fd=self.directory)
            self.listener.listen(128)
            # It listens if it is there.
            os.rename(new, name, src_dir_fd=self.directory, dst_dir_fd=self.directory)
        except OSError as error:  # a full disk, perhaps
            print(f"nobody can join this session: {error}", file=sys.stderr, flush=True)
            return
        self.listener.setblocking(False)
        self._accept_from_now_on()
        for link in self.links.values():
            link.outbox.put({"listening": True})

    def _accept_from_now_on(self) -> None:
        self.events.watch(self.listener.fileno(), self._accept)

    def _accept(self, fd: int) -> None:
        try:
            connection, _ = self.listener.accept()
        except BlockingIOError:
            return  # it has gone again
        except OSError:
            self.events.forget(fd)
            self.events.later(self._accept_from_now_on, PAUSE)
            return
        pid, uid = addresses.peer(connection)
        if uid != os.getuid() or not pid:  # 0: of another PID namespace, where it cannot be seen
            connection.close()
            return
        connection.setblocking(False)
        reader = connection.detach()
        try:
            self._add(Link(reader, os.dup(reader), pid))
        except OSError:
            os.close(reader)

    def _add(self, link: Link) -> None:
        self.links[link.reader] = link
        self.events.watch(link.reader, self._on_message)

    def _watch_process(self, pid: int) -> bool:
        """Notice its death; whether it is there."""
        if pid in self.pidfds.values():
            return True
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            return False
        self.pidfds[fd] = pid
        self.events.watch(fd, self._on_death)
        return True

    # -- what they say -------------------------------------------------------------------------

    def _on_message(self, fd: int) -> None:
        link = self.links[fd]
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            self._gone(link)
            return
        try:
            for message in link.inbox.feed(data):
                for word, content in message.items():
                    if fd in self.links:
                        self.said[word](link, content)
        except (KeyError, ValueError, TypeError, EOFError) as error:  # not one of ours
            print(f"{link.pid} said what is no message: {error!r}", file=sys.stderr, flush=True)
            self._gone(link)

    def _join(self, link: Link, about: dict[str, Any]) -> None:
        if about["versions"] != addresses.versions():
            link.outbox.put({"refused": _mismatch(about["versions"])})
            return
        self.jobs += 1
        key = addresses.job_key(self.jobs)
        self.infos[self.jobs] = _core.publish(self.session, key, about["info"])
        if self._welcome(link, self.jobs):
            link.job = self.jobs
            self._listen_to(link, about["log_to_driver"])

    def _look(self, link: Link, _: Any) -> None:
        self._welcome(link, 0)

    def _welcome(self, link: Link, job: int) -> bool:
        """Hand over what makes it a process of the session."""
        import socket

        drivers = [(one.job, one.pid) for one in self.links.values() if one.job]
        welcome = {"node": os.getpid(), "job": job, "drivers": drivers}
        # Its death is to be seen whatever becomes of the connection.
        if not self._watch_process(link.pid):
            self._gone(link)
            return False
        with socket.socket(fileno=os.dup(link.reader)) as connection:
            try:
                socket.send_fds(connection, [frame({"welcome": welcome})], self.descriptors)
            except OSError:
                self._gone(link)
                return False
        return True

    def _listen_to(self, link: Link, shows: bool) -> None:
        link.shows = shows
        if shows:
            self.relay.listeners[link.job] = link.outbox

    def _flush(self, link: Link, number: int) -> None:
        self.relay.drain()
        link.outbox.put({"flushed": number})

    # -- going ---------------------------------------------------------------------------------

    def _gone(self, link: Link) -> None:
        if link.owner:
            self.end()
            return
        if self.links.pop(link.reader, None) is None:
            return
        self.events.forget(link.reader)
        if link.blocked:
            self.events.forget(link.outbox.fd)
        self.relay.listeners.pop(link.job, None)
        self.relay.written()
        if link.job:
            self.left[link.job] = link.pid
            self._stop_jobs(False)
        os.close(link.outbox.fd)
        os.close(link.reader)  # by which one that leaves knows that this is done

    def _on_death(self, fd: int) -> None:
        pid = self.pidfds.pop(fd)
        self.events.forget(fd)
        os.close(fd)
        for link in list(self.links.values()):
            if link.pid == pid:
                self._gone(link)
                if link.owner:
                    return
        if not self.session.recover(pid):
            self.reap()  # of dead workers more is known than the next line would find
            self.session.recover_dead()  # it may have died while it joined
        for job, one in self.left.items():
            if one == pid:
                self.left[job] = 0
        self._stop_jobs(False)

    def _stop_jobs(self, force: bool) -> None:
        """End what drivers that are gone have left, and forget what nobody will ask for."""
        for job, pid in list(self.left.items()):
            if not self.session.stop_job(job, pid, force):
                del self.left[job]
        present = {link.job for link in self.links.values()}
        for job in self.infos.keys() - self.left.keys() - present:
            if not self.session.has_job(job):
                del self.infos[job]
        if self.left and not self.events.is_due(self._stop_jobs_again):
            self.events.later(self._stop_jobs_again, AGAIN)

    def _stop_jobs_again(self) -> None:
        self._stop_jobs(True)

    # -- telling them --------------------------------------------------------------------------

    def warn(self, text: str) -> None:
        """Tell the users, or node.log if there are none."""
        told = [link for link in self.links.values() if link.job]
        for link in told:
            link.outbox.put({"warning": text})
        if not told:
            print(text, file=sys.stderr, flush=True)

    def send(self) -> None:
        """Give them what they take, and wait until they take more."""
        for link in list(self.links.values()):
            self._send_to(link)

    def _send_to(self, link: Link) -> None:
        waiting = len(link.outbox)
        if not waiting and not link.blocked:
            return
        try:
            link.outbox.write()
        except (BrokenPipeError, ConnectionResetError):
            self._gone(link)
            return
        link.moved = link.moved or len(link.outbox) < waiting
        if bool(link.outbox) != link.blocked:
            self._block(link, bool(link.outbox))
        self.relay.written()

    def _block(self, link: Link, blocked: bool) -> None:
        link.blocked = blocked
        if blocked:
            link.moved = False
            self.events.watch_room(link.outbox.fd)
            if not link.owner and not self.events.is_due(self._look_for_the_deaf):
                self.events.later(self._look_for_the_deaf, DEAF)
            return
        self.events.forget(link.outbox.fd)
        if link.shows and link.job not in self.relay.listeners:
            self.relay.listeners[link.job] = link.outbox
            link.outbox.put({"warning": "Workers' lines are missing here: nobody read them."})

    def _look_for_the_deaf(self) -> None:
        """One that is stopped, say, and takes nothing: the others, and workers, go on."""
        blocked = [link for link in self.links.values() if link.blocked and not link.owner]
        for link in blocked:
            if not link.moved:
                self.relay.listeners.pop(link.job, None)
            link.moved = False
        self.relay.written()
        if blocked:
            self.events.later(self._look_for_the_deaf, DEAF)

    def announce(self, reason: str) -> None:
        """The session ends: it does so sooner for those who joined it than its tasks do."""
        for link in self.links.values():
            if link.job and not link.owner and not link.told:
                link.told = True
                link.outbox.put({"ended": reason})

    def finish(self) -> None:
        """The last that they hear."""
        for link in self.links.values():
            try:
                while link.outbox and (link.owner or _has_room(link.outbox.fd)):
                    os.set_blocking(link.outbox.fd, link.owner)
                    link.outbox.write()
            except OSError:
                pass  # nobody reads it


def _has_room(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(LAST * 1000))


def _mismatch(theirs: dict[str, str]) -> str:
    ours = addresses.versions()
    return (
        "Version mismatch: The session was started with:\n"
        f"    pyray: {ours['pyray']}\n    Python: {ours['python']}\n"
        "This process was started with:\n"
        f"    pyray: {theirs['pyray']}\n    Python: {theirs['python']}"
    )
