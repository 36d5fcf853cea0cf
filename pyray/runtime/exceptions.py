"""The exceptions of the runtime: one hierarchy, with the names and parameters of `ray.exceptions`.

May import `causes`. Every class here can be pickled: `args` is what its constructor was given.
"""

from __future__ import annotations

import os

from . import causes

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from typing import Any

#: Where users find the classes.
_MODULE = "pyray.exceptions"

#: The address of the one machine a session runs on.
_IP = "127.0.0.1"


class RayError(Exception):
    """Base of every exception that the runtime itself raises."""

    __module__ = _MODULE


# -- tasks -----------------------------------------------------------------------------------


class RayTaskError(RayError):
    """A task raised an exception. `get` raises it as an instance of the cause's class, too.

    `cause` is what the task raised, `function_name` the task, `traceback_str` the traceback in
    the worker (`pid`), which is also what `str()` shows.
    """

    __module__ = _MODULE

    def __init__(
        self,
        function_name: str,
        traceback_str: str,
        cause: BaseException,
        proctitle: str | None = None,
        pid: int | None = None,
        ip: str | None = None,
        actor_repr: str | None = None,
        actor_id: str | None = None,
    ) -> None:
        self._ray_fields = (
            function_name,
            traceback_str,
            proctitle or f"ray::{function_name}",
            pid or os.getpid(),
            ip or _IP,
            actor_repr,
            actor_id,
        )
        self._ray_cause: BaseException | None = cause
        self._ray_packed = b""
        self.function_name, self.traceback_str, self.proctitle = self._ray_fields[:3]
        self.pid, self.ip, self.actor_repr, self._actor_id = self._ray_fields[3:]
        self.args = (function_name, traceback_str, cause)

    @classmethod
    def of(
        cls, error: BaseException, function_name: str, actor: tuple[str, str] | None = None
    ) -> RayTaskError:
        """What becomes of `error`, raised by the task of this name in this process.

        The failure of a task inside the task is not wrapped twice: the cause stays the first one,
        and the traceback shows the whole way. `actor`: what it is shown as, and its id.
        """
        cause = error.cause if isinstance(error, RayTaskError) else error
        title, actor_id = actor or (None, None)
        text = causes.remote_traceback(error)
        return cls(function_name, text, cause, actor_repr=title, actor_id=actor_id)

    @property
    def cause(self) -> BaseException:
        if self._ray_cause is None:
            try:
                self._ray_cause = causes.unpack(self._ray_packed)
            except Exception as problem:
                self._ray_cause = UnserializableException(self.traceback_str, problem)
        return self._ray_cause

    @property
    def cause_cls(self) -> type[BaseException]:
        """The class of what the task raised."""
        return type(self.cause)

    def as_instanceof_cause(self) -> RayTaskError:
        """This error as an instance of the cause's class, too, with the cause's attributes."""
        cause = self.cause
        if isinstance(self, type(cause)) or isinstance(cause, _NOT_RAISED):
            return self
        try:
            both: RayTaskError = causes.dual(RayTaskError, cause)
        except Exception:
            return self  # its class cannot be inherited from: `cause` has it
        attributes = both.__dict__
        for name, value in self.__dict__.items():
            # The user's own attributes, `pid` say, are not hidden by ours.
            if name.startswith("_ray_") or name not in attributes:
                attributes[name] = value
        return both

    def __reduce__(self) -> tuple[Any, ...]:
        packed = self._ray_packed or causes.pack(self.cause)
        return _restore_task_error, (self._ray_fields, packed, type(self) is not RayTaskError)

    def __str__(self) -> str:
        _, text, title, pid, ip, actor_repr, actor_id = self._ray_fields
        actor = f", actor_id={actor_id}, repr={actor_repr}" if actor_repr else ""
        first, _, rest = text.partition("\n")
        body = rest if first.startswith("Traceback ") else text
        return f"{title}() (pid={pid}, ip={ip}{actor})\n{body}"


def _restore_task_error(fields: tuple[Any, ...], packed: bytes, is_dual: bool) -> RayTaskError:
    name, text, *rest = fields
    self = RayTaskError(name, text, None, *rest)  # type: ignore[arg-type]
    self._ray_packed = packed
    self.args = (name, text)
    return self.as_instanceof_cause() if is_dual else self


class TaskCancelledError(RayError):
    """The task was cancelled before it had a result."""

    __module__ = _MODULE

    def __init__(self, task_id: Any = None, error_message: str | None = None) -> None:
        self.task_id = task_id
        self.error_message = error_message

    def __str__(self) -> str:
        subject = f"Task {self.task_id}" if self.task_id else "This task or one it depends on"
        return _sentences(f"{subject} was cancelled.", self.error_message)


class WorkerCrashedError(RayError):
    """The worker process died while it ran the task, and no retry was left."""

    __module__ = _MODULE

    def __str__(self) -> str:
        return _sentences(
            "The worker died unexpectedly while executing this task.",
            super().__str__(),
            "What it printed last is in the logs directory of the session. "
            "A task that may run again gets more attempts with max_retries.",
        )


class LocalRayletDiedError(RayError):
    """The node process of the session died."""

    __module__ = _MODULE

    def __str__(self) -> str:
        return _sentences(
            "The node process of this session died.",
            super().__str__(),
            "Call shutdown() and init() to start another session.",
        )


class TaskUnschedulableError(RayError):
    """The task can never run where it asked to."""

    __module__ = _MODULE

    def __init__(self, error_message: str) -> None:
        self.error_message = error_message

    def __str__(self) -> str:
        return f"The task is not schedulable: {self.error_message}"


class RuntimeEnvSetupError(RayError):
    """The runtime environment of a task could not be set up."""

    __module__ = _MODULE

    def __init__(self, error_message: str | None = None) -> None:
        self.error_message = error_message

    def __str__(self) -> str:
        return _sentences("Failed to set up runtime environment.", self.error_message)


class UserCodeException(RayError):
    """An exception that came out of a function of the user."""

    __module__ = _MODULE


class UnserializableException(RayError):
    """The exception that a task raised cannot be rebuilt in this process."""

    __module__ = _MODULE

    def __init__(self, original_stack_trace: str, problem: object = None) -> None:
        self._original_stack_trace = original_stack_trace
        self._problem = None if problem is None else repr(problem)

    def __str__(self) -> str:
        why = f" ({self._problem})" if self._problem else ""
        return (
            f"The exception of the task cannot be rebuilt here{why}. Is its class installed, or "
            f"in a module of the driver's sys.path?\nOriginal exception:\n"
            f"{self._original_stack_trace}"
        )


# -- actors ----------------------------------------------------------------------------------


class RayActorError(RayError):
    """An actor could not answer a call: it is dead (`ActorDiedError`) or cannot be reached."""

    __module__ = _MODULE

    BASE_ERROR_MSG = "The actor experienced an error before finishing this task."

    def __init__(
        self,
        actor_id: str | None = None,
        error_msg: str = BASE_ERROR_MSG,
        actor_init_failed: bool = False,
        preempted: bool = False,
    ) -> None:
        self.actor_id = actor_id
        self.error_msg = error_msg
        self._actor_init_failed = actor_init_failed
        self._preempted = preempted

    def __str__(self) -> str:
        return self.error_msg

    @property
    def actor_init_failed(self) -> bool:
        return self._actor_init_failed

    @property
    def preempted(self) -> bool:
        return self._preempted


class ActorDiedError(RayActorError):
    """The actor is dead. `cause`: the `RayTaskError` of its constructor, or why it died."""

    __module__ = _MODULE

    BASE_ERROR_MSG = "The actor died unexpectedly before finishing this task."

    def __init__(
        self, cause: RayTaskError | str | None = None, actor_id: str | None = None
    ) -> None:
        if isinstance(cause, RayTaskError):
            super().__init__(
                actor_id or cause._actor_id,
                f"The actor died because of an error raised in its creation task, {cause}",
                True,
            )
        else:
            super().__init__(actor_id, _sentences(self.BASE_ERROR_MSG, cause))

    @staticmethod
    def from_task_error(task_error: RayTaskError) -> ActorDiedError:
        return ActorDiedError(task_error)


class ActorUnavailableError(RayActorError):
    """The actor cannot be reached now, and may be later."""

    __module__ = _MODULE

    def __init__(self, error_message: str, actor_id: bytes | str | None = None) -> None:
        actor = actor_id.hex() if isinstance(actor_id, bytes) else actor_id
        subject = f"The actor {actor}" if actor else "The actor"
        super().__init__(
            actor,
            f"{subject} is unavailable: {error_message.rstrip('.')}. The task may or may not have "
            "been executed on the actor.",
        )


class ActorUnschedulableError(RayError):
    """The actor can never run where it asked to."""

    __module__ = _MODULE

    def __init__(self, error_message: str) -> None:
        self.error_message = error_message

    def __str__(self) -> str:
        return f"The actor is not schedulable: {self.error_message}"


class ActorAlreadyExistsError(ValueError, RayError):
    """There is an actor of this name already."""

    __module__ = _MODULE


class ActorHandleNotFoundError(ValueError, RayError):
    """The handle is of an actor that does not exist in this session."""

    __module__ = _MODULE


class AsyncioActorExit(RayError):
    """Kept for programs that name it: `exit_actor()` ends async actors as it does others."""

    __module__ = _MODULE


class ActorExit(SystemExit):
    """What `exit_actor()` raises: the actor shall end, and did not fail."""


class PendingCallsLimitExceeded(RayError):
    """As many calls of this process wait for the actor as its `max_pending_calls` allows."""

    __module__ = _MODULE


class TaskPlacementGroupRemoved(RayError):
    """The placement group of the task was removed."""

    __module__ = _MODULE


class ActorPlacementGroupRemoved(RayError):
    """The placement group of the actor was removed."""

    __module__ = _MODULE


# -- objects ---------------------------------------------------------------------------------


class GetTimeoutError(RayError, TimeoutError):
    """`get` was given a timeout, and not every object was there in time."""

    __module__ = _MODULE


class ObjectLostError(RayError):
    """The object was there and is no more."""

    __module__ = _MODULE

    _why = "It was lost."

    def __init__(self, object_ref_hex: str, owner_address: Any = None, call_site: str = "") -> None:
        self.object_ref_hex = object_ref_hex
        self.owner_address = owner_address
        self.call_site = call_site

    def __str__(self) -> str:
        site = f"The ObjectRef was created at: {self.call_site}" if self.call_site else ""
        return _sentences(f"Failed to retrieve object {self.object_ref_hex}.", self._why, site)


class ObjectFetchTimedOutError(ObjectLostError):
    """The object could not be fetched in time."""

    __module__ = _MODULE

    _why = "Fetching it timed out."


class OwnerDiedError(ObjectLostError):
    """The process that was to make the object died."""

    __module__ = _MODULE

    _why = (
        "The process that created the ObjectRef, with put() or .remote(), has died. "
        "Its output is in the logs directory of the session."
    )


class ObjectReconstructionFailedError(ObjectLostError):
    """The object was lost and cannot be computed again."""

    __module__ = _MODULE

    _why = "It cannot be computed again: objects of put() and of tasks with max_retries=0 are not."


class ObjectReconstructionFailedMaxAttemptsExceededError(ObjectReconstructionFailedError):
    """The object was lost more often than its task may be retried."""

    __module__ = _MODULE

    _why = "Its task has used up max_retries."


class ObjectReconstructionFailedLineageEvictedError(ObjectReconstructionFailedError):
    """The object was lost, and how it was made is no longer known."""

    __module__ = _MODULE

    _why = "How it was made is no longer known."


class ReferenceCountingAssertionError(ObjectLostError, AssertionError):
    """The object was deleted while there was a reference to it: a bug of the runtime."""

    __module__ = _MODULE

    _why = "It was deleted while there was still a reference to it. This should not happen."


class ObjectFreedError(ObjectLostError):
    """The object was freed by hand."""

    __module__ = _MODULE

    _why = "It was freed by hand. Free an object once nobody needs it any longer."


class ObjectStoreFullError(RayError):
    """The object store has no room for an object."""

    __module__ = _MODULE

    def __str__(self) -> str:
        return _sentences(
            super().__str__() or "The object store is full.",
            "Objects stay while an ObjectRef, a value got from the store, or a waiting task uses "
            "them: drop what is not needed (del ref), or give the store more room with "
            "init(object_store_memory=...).",
        )


class OutOfDiskError(RayError):
    """The disk is too full for what has to be written."""

    __module__ = _MODULE

    def __str__(self) -> str:
        return _sentences(super().__str__() or "The disk is full.", "Free some room on it.")


class OutOfMemoryError(RayError):
    """The worker was killed because memory ran out."""

    __module__ = _MODULE

    def __str__(self) -> str:
        return _sentences(
            super().__str__() or "The task was killed because memory ran out.",
            "Run fewer tasks at once (num_cpus and memory in their options), or let each use less. "
            "PYRAY_memory_usage_threshold in the environment sets the threshold above which "
            "workers are killed, PYRAY_memory_monitor_refresh_ms=0 keeps them from being killed.",
        )


class PlasmaObjectNotAvailable(RayError):
    """The object is not in the store."""

    __module__ = _MODULE


class ObjectRefStreamEndOfStreamError(RayError):
    """A generator has no more references."""

    __module__ = _MODULE


# -- the system ------------------------------------------------------------------------------


class RaySystemError(RayError):
    """The runtime itself failed, or is used where it cannot be."""

    __module__ = _MODULE

    def __init__(self, client_exc: Any, traceback_str: str | None = None) -> None:
        self.client_exc = client_exc
        self.traceback_str = traceback_str

    def __str__(self) -> str:
        text = f"System error: {self.client_exc}"
        return f"{text}\ntraceback: {self.traceback_str}" if self.traceback_str else text


class NodeDiedError(RayError):
    """The machine, or its node process, is gone."""

    __module__ = _MODULE


# -- what the core calls ---------------------------------------------------------------------


def from_code(code: int, text: str, ref_hex: str) -> Exception:
    """The exception for a failure that the system noted in an object."""
    if code in _LOST:
        error = _LOST[code](ref_hex)
        if text:
            error._why = text
        return error
    if code == 2:
        return TaskCancelledError(error_message=text or None)
    if code == 4:
        return ActorDiedError(text or None)
    if code == 6:
        return RuntimeEnvSetupError(text or None)
    if code == 10:
        return ActorUnavailableError(text or "it is being restarted")
    cls = _PLAIN.get(code)
    if cls is None:
        return RaySystemError(f"object {ref_hex} failed with the unknown code {code}: {text}")
    return cls(text) if text else cls()


def task_failure(
    error: BaseException, function_name: str, actor: tuple[str, str] | None = None
) -> RayError:
    """What a worker stores as the result of the task of this name, which raised `error`.

    A task that ends its process by SystemExit is like one that does it otherwise.
    """
    if isinstance(error, SystemExit):
        status = 0 if error.code is None else error.code
        return WorkerCrashedError(f"{function_name} ended it: SystemExit, status {status}.")
    return RayTaskError.of(error, function_name, actor)


def actor_failure(
    error: BaseException, function_name: str, actor: tuple[str, str] | None = None
) -> ActorDiedError:
    """What all calls of an actor raise whose constructor, the task of this name, raised `error`.

    `actor`: what it is shown as, and its id.
    """
    actor_id = actor[1] if actor else None
    if isinstance(error, ActorExit):
        return ActorDiedError("exit_actor() was called in its constructor.", actor_id)
    if isinstance(error, SystemExit):
        status = 0 if error.code is None else error.code
        text = f"{function_name} ended it: SystemExit, status {status}."
        return ActorDiedError(text, actor_id)
    return ActorDiedError(RayTaskError.of(error, function_name, actor))


def as_raised(error: RayError) -> BaseException:
    """What `get` raises for a stored failure."""
    return error.as_instanceof_cause() if isinstance(error, RayTaskError) else error


_PLAIN = {1: WorkerCrashedError, 5: OutOfMemoryError, 7: ObjectStoreFullError}
_LOST = {3: ObjectLostError, 8: OwnerDiedError, 9: ReferenceCountingAssertionError}


def _sentences(*parts: str | None) -> str:
    return " ".join(part.strip() for part in parts if part)


#: Causes that `get` does not raise as: the caller was neither interrupted nor told to exit.
_NOT_RAISED = (UnserializableException, KeyboardInterrupt, SystemExit)

#: Every class above, as Ray lists them.
RAY_EXCEPTION_TYPES = [
    cls for cls in globals().values() if isinstance(cls, type) and issubclass(cls, RayError)
]

__all__ = [cls.__name__ for cls in RAY_EXCEPTION_TYPES] + ["RAY_EXCEPTION_TYPES"]

# Its classes bear its name: whoever has them has to have it, or they would be sent by value.
from .. import exceptions as _public  # noqa: E402,F401
