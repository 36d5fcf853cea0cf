"""Submitting tasks: what happens behind `f.remote(...)`."""

from collections.abc import Callable
from typing import Any

from pyray.store._session import Session

from ._object import ObjectRef

class Call:
    name: str
    num_returns: int
    def __init__(
        self,
        session: Session,
        *,
        function: ObjectRef[Any],
        shape: int,
        name: str,
        num_returns: int,
        max_retries: int,
        retry_exceptions: bool,
        max_calls: int = 0,
        backlog: int = 0,
        actor: ObjectRef[Any] | None = None,
        method: str = "",
        group: str = "",
        max_pending: int = -1,
    ) -> None: ...

class NameTaken(ValueError): ...

class Creation:
    def __init__(
        self,
        session: Session,
        *,
        function: ObjectRef[Any],
        shape: int,
        name: str,
        max_restarts: int,
        description: tuple[Any, ...],
        key: bytes | None = None,
        detached: bool = False,
        ordered: bool = True,
    ) -> None: ...
    def submit(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ObjectRef[Any]: ...

class Submitter:
    def __init__(
        self,
        prepare: Callable[[], Any],
        check: Callable[[tuple[Any, ...], dict[str, Any]], None],
        min_args: int,
        max_args: int,
    ) -> None: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

class ObjectRefGenerator:
    def __iter__(self) -> ObjectRefGenerator: ...
    def __next__(self) -> ObjectRef[Any]: ...
    def __aiter__(self) -> ObjectRefGenerator: ...
    async def __anext__(self) -> ObjectRef[Any]: ...
    def completed(self) -> ObjectRef[Any]: ...
    def next_ready(self) -> bool: ...
    def is_finished(self) -> bool: ...
    def close(self) -> None: ...
    def task_id(self) -> bytes: ...

def cancel(ref: Any, force: bool = False, recursive: bool = True) -> None: ...
def set_job(number: int) -> None: ...
def current_job() -> int: ...
