"""Reading objects whose memory was given back, and waiting until there is memory for new ones."""

from collections.abc import Iterable
from typing import Any

from pyray.store._session import Session

TARGETS: bytes
WRITE_FAILURE: bytes
READ_FAILURE: bytes

class Lost(Exception): ...

def publish_targets(session: Session, targets: Iterable[str | None]) -> None: ...
def file_name(number: int) -> str: ...
def await_room(session: Session, size: int) -> bool: ...
def find_value(session: Session, slot: int) -> Any: ...
