"""`Pool` with the methods of `multiprocessing.Pool`, whose calls run as tasks of the session."""

from __future__ import annotations

from multiprocessing import TimeoutError

from .pool import Pool
from .results import AsyncResult, IMapIterator, IMapUnorderedIterator, MapResult

__all__ = [
    "AsyncResult",
    "IMapIterator",
    "IMapUnorderedIterator",
    "MapResult",
    "Pool",
    "TimeoutError",
]
