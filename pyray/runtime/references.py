"""Which objects a session has, and what keeps each: for `pyray.util.state` and `pyray memory`.

Imports the core's tables (`pyray.store._holders`). Only looks; the session goes on meanwhile.
"""

from __future__ import annotations

from pyray.store import _holders

from .resources import NODE_IP

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from typing import Any

    from . import _core

__all__ = ["references"]

#: Names of objects that are not the user's: functions, environments, where references were made.
_INTERNAL = (b"function", b"environs", b"callsite")

#: Ray's word for what holds an object, by the core's.
_TYPES = {
    "process": "LOCAL_REFERENCE",
    "view": "PINNED_IN_MEMORY",
    "dependency": "USED_BY_PENDING_TASK",
    "arguments": "USED_BY_PENDING_TASK",
    "result": "USED_BY_PENDING_TASK",
    "object": "CAPTURED_IN_OBJECT",
    "stream": "CAPTURED_IN_OBJECT",
}

#: Ray's word for what a task is at, by the core's.
_STATUS = {"WAITING": "PENDING_ARGS_AVAIL", "READY": "PENDING_NODE_ASSIGNMENT"}


def references(core: _core.Session) -> list[dict[str, Any]]:
    """A dict for each reference to an object, the largest objects first.

    An object has one for each process that refers to it or shows its bytes, each pending task and
    each object that needs it. Functions, and what else the runtime keeps for itself, are left out.
    """
    look = _Look(core)
    found = [look.reference(*holder) for holder in look.shown()]
    return sorted(found, key=lambda one: (-one["object_size"], one["object_id"]))


class _Look:
    """The tables as they were at one moment, more or less."""

    def __init__(self, core: _core.Session) -> None:
        self.core = core
        self.objects = {one["handle"]: one for one in _holders.objects(core)}
        self.holders = [one for one in _holders.holders(core) if one[0] in self.objects]
        self.processes = {one["index"]: one for one in core.processes()}
        self.kinds = {one["pid"]: one["kind"] for one in self.processes.values()}
        self.tasks: dict[int, dict[str, Any] | None] = {}

    def shown(self) -> list[tuple[int, str, Any, int]]:
        """Of the holders, those that users know; what makes an object if nothing else holds it."""
        internal = self._internal()
        known = [
            holder
            for holder in self.holders
            if holder[0] not in internal and holder[1] not in ("label", "result")
        ]
        held = {object for object, *_ in known} | internal
        return known + [one for one in self.holders if one[1] == "result" and one[0] not in held]

    def _internal(self) -> set[int]:
        """What is published, labels, which refer to functions, and what actors died of."""
        found = {one for one, how, by, _ in self.holders if how == "name" and by in _INTERNAL}
        labels = {by for one, how, by, _ in self.holders if how == "object" and one in found}
        labels |= {one for one, how, _, _ in self.holders if how == "label"}
        deaths = {one for one, how, _, _ in self.holders if how == "actor"}
        actors = {handle for handle, one in self.objects.items() if one["is_actor"]}
        return found | (labels - actors) | (deaths - actors)

    def reference(self, object: int, how: str, by: Any, pid: int) -> dict[str, Any]:
        one = self.objects[object]
        making = self._task(one["task"]) if one["state"] == "PENDING" else None
        kind = _TYPES.get(how, "UNKNOWN_STATUS")
        return {
            "object_id": f"{object:032x}",
            "object_size": one["size"],
            "task_status": _status(one["state"], making),
            "attempt_number": making["attempt"] + 1 if making else 1,
            "reference_type": "ACTOR_HANDLE" if one["is_actor"] else kind,
            "call_site": one["site"] or "disabled",
            "type": self.kinds.get(pid, "").upper(),
            "pid": pid,
            "ip": NODE_IP,
            "state": one["state"],
            "held_by": self._words(how, by, pid),
        }

    def _task(self, handle: int) -> dict[str, Any] | None:
        if handle not in self.tasks:
            self.tasks[handle] = _holders.task(self.core, handle)
        return self.tasks[handle]

    def _words(self, how: str, by: Any, pid: int) -> str:
        """Who holds it, for people."""
        if how in ("process", "view"):
            kind = self.processes[by]["kind"] if by in self.processes else "process"
            return f"{'view' if how == 'view' else 'reference'} of the {kind} {pid}"
        if how in ("object", "stream"):
            what = "inside of the object" if how == "object" else "not taken from the generator"
            return f"{what} {by:032x}"
        if how == "lineage":
            return f"for the case that a result of the task {by:032x} is lost"
        if how in ("dependency", "arguments", "result"):
            task = self._task(by)
            return f"{how} of the task {task['name'] if task else f'{by:032x}'}"
        return "the actor is detached" if how == "actor" else "a name"


def _status(state: str, making: dict[str, Any] | None) -> str:
    """What the task is at that makes it; of what was put, NIL until it is there."""
    if making:
        status: str = making["state"]
        return _STATUS.get(status, status)
    return {"SEALED": "FINISHED", "FAILED": "FAILED"}.get(state, "NIL")
