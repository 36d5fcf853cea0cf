"""Python values in a store: encoded into its memory, decoded as views of it."""

from typing import Any

from pyray.store._client import Client, ObjectID

def put(client: Client, value: Any, id: ObjectID | None) -> ObjectID: ...
def get(client: Client, ids: Any, timeout: float | None, copy_on_write: bool) -> Any: ...
