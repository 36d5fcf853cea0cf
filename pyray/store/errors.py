"""What the store raises. Imports nothing."""

from __future__ import annotations


class StoreError(Exception):
    """Whatever the store raises is one of these, but for wrong arguments."""


class StoreConnectionError(StoreError, ConnectionError):
    """There is no store of that name, or it does not answer."""


class StoreExistsError(StoreError, FileExistsError):
    """The name is that of a store which a living process has made."""


class StoreClosedError(StoreError, ValueError):
    """This process has closed the store, or was forked from the one that opened it."""


class StoreFullError(StoreError, MemoryError):
    """There is no room for the object."""


class ObjectExistsError(StoreError, ValueError):
    """The id is taken."""


class ObjectNotFoundError(StoreError, LookupError):
    """There is no object of that id, or there was none in time."""


class ObjectNotSealedError(StoreError, RuntimeError):
    """The object was created, and not sealed yet, or not in time."""
