"""What is in a session: Ray's `ray.util.state`, as far as it is about objects.

    list_objects() -> [ObjectState, ...]

Imports the runtime when it is asked. `pyray memory` shows the same as a table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from .exception import RayStateApiException

__all__ = ["ObjectState", "RayStateApiException", "list_objects"]


@dataclass
class ObjectState:
    """A reference to an object, that is one thing that keeps it.

    Attributes:
        object_id: As `ObjectRef.hex()`.
        object_size: Bytes of the value; 0 if it is not there yet.
        task_status: What the task is at that makes it (PENDING_ARGS_AVAIL,
            PENDING_NODE_ASSIGNMENT, RUNNING), FINISHED or FAILED; NIL of what is being put.
        attempt_number: Which attempt of the task that is, from 1 on.
        reference_type: LOCAL_REFERENCE of a process; PINNED_IN_MEMORY: a process shows the bytes,
            in an array that it got, say; USED_BY_PENDING_TASK; CAPTURED_IN_OBJECT: inside of
            another object, or not taken from a generator; ACTOR_HANDLE.
        call_site: The lines of the program that made it, if the variable
            PYRAY_record_ref_creation_sites=1 was set when the session started; else "disabled".
        type: DRIVER or WORKER, of the process: the one that refers to it, or that has submitted the
            task that uses it; "" if it is inside of an object.
        pid: Of that process, or 0.
        ip: Of the machine.
        state: RESERVED (it is being written), PENDING (a task will make it), SEALED or FAILED.
        held_by: What keeps it, in words.
    """

    object_id: str
    object_size: int
    task_status: str
    attempt_number: int
    reference_type: str
    call_site: str
    type: str
    pid: int
    ip: str
    state: str
    held_by: str

    def asdict(self) -> dict[str, Any]:
        return asdict(self)

    def __getitem__(self, key: str) -> Any:
        try:
            return getattr(self, key)
        except AttributeError:
            raise KeyError(key) from None

    def get(self, key: str, default: Any = None) -> Any:
        return getattr(self, key, default)


def list_objects(
    address: str | None = None,
    filters: Iterable[tuple[str, str, Any]] | None = None,
    limit: int = 100,
    timeout: int = 30,
    detail: bool = False,
    raise_on_missing_output: bool = True,
    _explain: bool = False,
) -> list[ObjectState]:
    """The references to objects of a session, those to the largest objects first.

    Args:
        address: Of the session, as in `init()`; by default that of this process, or else the
            latest one.
        filters: Of an attribute, "=" or "!=", and a value each; strings are compared without regard
            to case.
        limit: How many at most.
        timeout: Accepted: nothing is waited for.
        detail: Accepted: all is told.
        raise_on_missing_output: Accepted: nothing is missing.

    Raises:
        RayStateApiException: `address` names a session that cannot be reached, or there is none.
        ValueError: a filter is no such triple.
    """
    from pyray.runtime import references

    wanted = [_filter(*one) for one in filters or ()]
    if limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    found = [ObjectState(**one) for one in _in_session(address, references.references)]
    return [one for one in found if all(fits(one) for fits in wanted)][:limit]


def _filter(*parts: Any) -> Any:
    names = [field.name for field in fields(ObjectState)]
    if len(parts) != 3 or parts[0] not in names or parts[1] not in ("=", "!="):
        raise ValueError(
            f"a filter is an attribute, '=' or '!=', and a value, not {parts!r}. Attributes are "
            f"{', '.join(names)}"
        )
    name, predicate, value = parts
    return lambda one: (str(one[name]).lower() == str(value).lower()) == (predicate == "=")


def _in_session(address: str | None, look: Any) -> Any:
    """What `look` says of the core of that session."""
    from pyray.runtime import _core, addresses, head

    own = _core.get_session()
    if address is None and own is not None and not own.dead:
        return look(own)
    try:
        found = addresses.resolve(address or "auto")
        if found is None:
            raise addresses.no_session()
        return head.visit(found, lambda core, _: look(core))
    except (ConnectionError, OSError) as error:
        raise RayStateApiException(str(error)) from error
