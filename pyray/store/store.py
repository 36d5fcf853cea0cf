"""`Store`: shared memory for objects, by name, from any process of one user.

Imports `_client`, `_session`, `meeting` and `errors`; `_values`, and with it the serializer, when
the first value is put or got. docs/store.md is the guide.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, overload

from pyray.store import meeting
from pyray.store._client import Client, ObjectID
from pyray.store._session import Session
from pyray.store.errors import StoreError

if TYPE_CHECKING:
    import socket
    from types import ModuleType

    Link = meeting.Server | socket.socket

#: Of the machine's memory: the capacity of a store, if none is given.
SHARE = 0.3


class CreateStore(Protocol):
    def __call__(self, name: str, *, capacity: int | None = None) -> Store: ...


class CreateObject(Protocol):
    def __call__(self, object_id: ObjectID, size: int) -> memoryview: ...


class Create:
    """`Store.create(name)` makes a store; `store.create(object_id, size)` an object in one."""

    @overload
    def __get__(self, store: None, owner: type[Store]) -> CreateStore: ...
    @overload
    def __get__(self, store: Store, owner: type[Store]) -> CreateObject: ...
    def __get__(self, store: Store | None, owner: type[Store]) -> CreateStore | CreateObject:
        return owner.create_store if store is None else store.create_object


class Store:
    """A store of immutable objects in shared memory, as this process sees it.

    `Store.create(name)` makes one, `Store.connect(name)` joins it from another process. A store is
    there as long as the process that made it; whoever has connected before may go on using it.
    The memory returns to the system with the last of them, however they end. Any thread may call
    any method. A forked child has to connect itself.

    >>> import numpy as np
    >>> with Store.create("example", capacity=1 << 20) as store:
    ...     key = store.put({"weights": np.ones(3)})
    ...     store.get(key)["weights"].sum()
    np.float64(3.0)
    """

    name: str
    _client: Client
    _link: Link
    _end: weakref.finalize[[Client, Link], Store]
    create = Create()

    def __init__(self) -> None:
        raise TypeError("use Store.create(name) or Store.connect(name)")

    @classmethod
    def create_store(cls, name: str, *, capacity: int | None = None) -> Store:
        """Make a store, as `Store.create`.

        `capacity` is in bytes, 30 % of the machine's memory by default. Memory is taken from the
        system when it is first written, not before.

        Raises:
            StoreExistsError: a living process has made one of that name.
        """
        meeting.check_name(name)
        if capacity is None:
            capacity = int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * SHARE)
        if not 1 << 16 <= capacity <= 1 << 40:
            raise ValueError(f"a store's capacity is 64 KiB to 1 TiB, not {capacity} bytes")
        session = Session.create(arena_bytes=capacity, resources={}, kind="client")
        fds = [session.control_fd, session.arena_fd]
        try:
            server = meeting.Server(name, fds, session.recover_dead)
        except BaseException:
            session.close()
            raise
        return cls._of(name, session, server)

    @classmethod
    def connect(cls, name: str, timeout: float | None = 5.0) -> Store:
        """Join the store of that name, once it is there; `timeout` is in seconds.

        Raises:
            StoreConnectionError: there was none in time, or it did not answer.
            PermissionError: it is another user's.
        """
        connection, (control, arena) = meeting.connect(meeting.check_name(name), timeout)
        try:
            session = Session.attach(control, arena, -1, "client")
        except (RuntimeError, OSError) as error:
            connection.close()
            raise StoreError(f"store {name!r}: {error}") from error
        session.recover_dead()
        return cls._of(name, session, connection)

    @classmethod
    def _of(cls, name: str, session: Session, link: Link) -> Store:
        self = cls.__new__(cls)
        self.name = name
        self._client = Client(session)
        self._link = link
        self._end = weakref.finalize(self, end, self._client, link)
        open_stores.add(self)
        return self

    def create_object(self, object_id: ObjectID, size: int) -> memoryview:
        """A new object of `size` bytes to be written, as `store.create`.

        Nobody can read it before `seal`, and after that it must not be written any more. If this
        process dies before, there never was such an object.

        Raises:
            ObjectExistsError: the id is taken.
            StoreFullError: there is no room.
        """
        return self._client.create(object_id, size)

    def seal(self, object_id: ObjectID) -> None:
        """What this process has created is whole: others may read it.

        Raises:
            ObjectExistsError: it is sealed already.
            ObjectNotFoundError: this process has created no such object.
        """
        self._client.seal(object_id)

    def abort(self, object_id: ObjectID) -> None:
        """What this process has created is not to be; raises as `seal`."""
        self._client.abort(object_id)

    def put(self, obj: Any, object_id: ObjectID | None = None) -> ObjectID:
        """Store a value; its id. It is written once, straight into shared memory.

        Raises:
            ObjectExistsError: the id is taken.
            StoreFullError: there is no room.
            TypeError: something in it cannot be serialized.
        """
        return values().put(self._client, obj, object_id)

    def get(
        self,
        object_id: ObjectID | Iterable[ObjectID],
        timeout: float | None = None,
        copy_on_write: bool = False,
    ) -> Any:
        """The value of an id, or a list of those of several, waiting until they are sealed.

        Arrays are read-only views of shared memory, which stays as long as one of them is there.
        With `copy_on_write` they may be written, which nobody else sees; only what is written is
        copied. `timeout` is in seconds: None waits for ever, 0 only looks.

        Raises:
            ObjectNotFoundError: there was no such object in time.
            ObjectNotSealedError: it was created, but not sealed in time.
        """
        return values().get(self._client, object_id, timeout, copy_on_write)

    def get_buffers(
        self, object_ids: Iterable[ObjectID], timeout: float | None = None
    ) -> list[memoryview | None]:
        """The bytes of objects as read-only views; None for those that are not sealed in time.

        Of what `put` has stored these are messages, which `pyray.deserialize` reads.
        """
        return self._client.get_buffers(object_ids, timeout)

    def contains(self, object_id: ObjectID) -> bool:
        """Whether there is such an object, and it is sealed."""
        return self._client.contains(object_id)

    __contains__ = contains

    def delete(self, object_ids: ObjectID | Iterable[ObjectID]) -> None:
        """Remove an object, or several: the id at once, the memory with the last view of it.

        Raises:
            ObjectNotFoundError: there is no such object; of several, those before it are removed.
            ObjectNotSealedError: it is being written.
        """
        for one in [object_ids] if isinstance(object_ids, ObjectID) else object_ids:
            self._client.delete(one)

    def stats(self) -> dict[str, int]:
        """Numbers: `capacity`, `used`, `peak`, `largest_free` and `touched` (what the system has
        given so far) in bytes; `objects` that have an id, `blocks` of memory in use, `processes`
        that are connected, `deaths` of such processes, and `recoveries` from them."""
        return self._client.stats()

    def close(self) -> None:
        """Leave the store; whoever made it also takes the name away.

        Values and views stay as they are. What this process has created and not sealed goes.
        """
        self._end()

    @property
    def closed(self) -> bool:
        return self._client.session.closed

    def list(self) -> dict[ObjectID, dict[str, Any]]:
        """What is known of each object, by id: `size` in bytes, `state` ("created" or "sealed"),
        `references` (processes that have a view of it, or write it) and the `creator`'s pid."""
        return self._client.list()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return Store.connect, (self.name,)

    def __repr__(self) -> str:
        return f"<pyray.store.Store {self.name!r}{', closed' if self.closed else ''}>"


@cache
def values() -> ModuleType:
    """The part that needs the serializer."""
    from pyray.store import _values

    return _values


# -- ends ----------------------------------------------------------------------------------------

#: Those of this process, for its forked children.
open_stores: weakref.WeakSet[Store] = weakref.WeakSet()


def end(client: Client, link: Link) -> None:
    """Leave a store; no new process may come between."""
    if isinstance(link, meeting.Server):
        link.close()
    client.close()
    if not isinstance(link, meeting.Server):
        link.close()


def forget_all() -> None:
    """In a forked child: all that is open is the parent's."""
    for store in list(open_stores):
        if store._end.detach():
            store._client.forget()
            link = store._link
            link.forget() if isinstance(link, meeting.Server) else link.close()
    open_stores.clear()


os.register_at_fork(after_in_child=forget_all)
