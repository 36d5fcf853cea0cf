"""Objects in shared memory, by name, for unrelated processes of one user: docs/store.md.

Imports nothing else of pyray but, when a Python value is put or got, the serializer. Sockets and
threads are loaded with the first name that is asked for: the runtime needs `_session` alone.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from typing import Any

    from pyray.store._client import ObjectID
    from pyray.store.errors import (
        ObjectExistsError,
        ObjectNotFoundError,
        ObjectNotSealedError,
        StoreClosedError,
        StoreConnectionError,
        StoreError,
        StoreExistsError,
        StoreFullError,
    )
    from pyray.store.store import Store

__all__ = [
    "ObjectExistsError",
    "ObjectID",
    "ObjectNotFoundError",
    "ObjectNotSealedError",
    "Store",
    "StoreClosedError",
    "StoreConnectionError",
    "StoreError",
    "StoreExistsError",
    "StoreFullError",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pyray.store import _client, errors
    from pyray.store.store import Store

    globals().update({"Store": Store, "ObjectID": _client.ObjectID})
    globals().update({n: getattr(errors, n) for n in __all__ if n.endswith("Error")})
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
