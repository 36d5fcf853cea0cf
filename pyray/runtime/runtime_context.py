"""`get_runtime_context()`: the ids and resources of where the caller runs.

Ids are hex strings as in Ray. May import the core, `connection`, `functions`, `resources`,
`runtime_env`, and in actors `actor_handle` and `actor_descriptor`.
"""

from __future__ import annotations

import os

from . import _core, connection, functions, runtime_env
from .resources import own_gpu_names
from .warn import logger, warn

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from typing import Any

    from .actor_descriptor import Descriptor
    from .actor_handle import ActorHandle

__all__ = [
    "RuntimeContext",
    "current_actor",
    "get_gpu_ids",
    "get_runtime_context",
    "in_actor",
    "node_id",
]


def get_runtime_context() -> RuntimeContext:
    """What the calling task or driver can know of itself; starts a session if there is none."""
    connection.ensure()
    return RuntimeContext()


def get_gpu_ids() -> list[int] | list[str]:
    """The GPUs that the calling task may use; none in a driver.

    They are numbers, or the names in CUDA_VISIBLE_DEVICES if that was set when the driver started.
    """
    connection.ensure()
    task = current_task()
    if not task or not task["gpu_ids"]:
        return []
    if connection.local is not None:
        return list(task["gpu_ids"])
    return own_gpu_names(task["gpu_ids"])


def current_task() -> dict[str, Any] | None:
    """What is known of the task that the caller is in."""
    if connection.local is not None:
        return connection.local.current_task()
    return _core.current_task()


def current_actor() -> Any:
    """The reference that stands for the actor that the caller is in, or None."""
    connection.ensure()
    if connection.local is not None:
        return connection.local.current_actor()
    return _core.current_actor()


def in_actor() -> bool:
    """Whether the caller is in an actor; starts no session."""
    return _core.get_session() is not None and current_actor() is not None


def current_descriptor() -> Descriptor | None:
    """What handles know of the class of the actor that the caller is in."""
    ref = current_actor()
    if ref is None:
        return None
    from .actor_descriptor import read
    from .actor_handle import description

    return read(description(ref)[0])


def node_id(session_name: str) -> str:
    """The id of a session's only node: 28 bytes, as in Ray."""
    return _hash(session_name)


def _hash(text: str) -> str:
    from _blake2 import blake2b  # hashlib's, without OpenSSL

    return blake2b(text.encode(), digest_size=28).hexdigest()


class RuntimeContext:
    """Every method answers for the moment when it is called."""

    # -- ids ---------------------------------------------------------------------------------

    def get_job_id(self) -> str:
        """The job of this driver, or of the driver whose task this is."""
        return str(connection.info()["job_id"])

    def get_node_id(self) -> str:
        """The node this process runs on, as in `nodes()`."""
        return str(connection.info()["node_id"])

    def get_worker_id(self) -> str:
        """This process, worker or driver."""
        return _hash(f"{connection.info()['node_id']} {os.getpid()}")

    def get_session_name(self) -> str:
        """The name of the session's directory."""
        return str(connection.info()["name"])

    def get_temp_dir(self) -> str:
        """The directory that holds the directories of sessions."""
        return os.path.dirname(connection.info()["directory"])

    @property
    def namespace(self) -> str:
        """The namespace of this job's named actors."""
        return str(connection.info()["namespace"])

    @property
    def gcs_address(self) -> str:
        """The session's directory: there is no server with an address."""
        connection.ensure()
        return str(connection.info()["directory"])

    # -- the task ----------------------------------------------------------------------------

    def _task(self) -> dict[str, Any] | None:
        task = current_task()
        if task is None:
            logger().warning("This method is only available in a task, not in the driver.")
        return task

    def get_task_id(self) -> str | None:
        """The task that runs here; None in a driver."""
        task = self._task()
        return task["task_id"] if task else None

    def get_task_name(self) -> str | None:
        """The task's name: the option `name`, or the function's or method's; None in a driver."""
        task = self._task()
        if not task:
            return None
        return f"{task['name']}.__init__" if task.get("is_creation") else str(task["name"])

    def get_task_function_name(self) -> str | None:
        """Module and name of the task's function; None in a driver."""
        task = self._task()
        if not task:
            return None
        if "function_name" in task:
            return str(task["function_name"])
        actor = current_descriptor()
        if actor is not None:
            method = "__init__" if task["is_creation"] else task["method"]
            return f"{actor.module}.{actor.class_name}.{method}"
        return functions.full_name(_core.current_function())

    def get_assigned_resources(self) -> dict[str, float]:
        """What is reserved for the task that runs here.

        Raises:
            AssertionError: there is no task: this is the driver.
        """
        task = current_task()
        if task is None:
            raise AssertionError("This method is only available in a task, not in the driver.")
        return dict(task["resources"])

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        """The ids of the GPUs that the task may use, by kind of accelerator."""
        return {"GPU": [str(i) for i in get_gpu_ids()]}

    def get_node_labels(self) -> dict[str, str]:
        """The labels that `init` gave the node, and its id."""
        return dict(connection.info()["labels"])

    # -- the environment ---------------------------------------------------------------------

    def get_runtime_env_string(self) -> str:
        """The runtime environment of this process, as JSON."""
        return runtime_env.current().decode()

    @property
    def runtime_env(self) -> dict[str, Any]:
        """The runtime environment of this process."""
        import json

        found: dict[str, Any] = json.loads(runtime_env.current())
        return found

    # -- the actor ---------------------------------------------------------------------------

    def get_actor_id(self) -> str | None:
        """The actor that the caller is in; None outside of any."""
        ref = current_actor()
        return None if ref is None else ref.hex()

    def get_actor_name(self) -> str | None:
        """The name of the actor that the caller is in, "" if it has none; None outside of any."""
        from .actor_handle import description

        ref = current_actor()
        return None if ref is None else description(ref)[1] or ""

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """Whether the actor that the caller is in was restarted.

        Raises:
            AssertionError: the caller is in no actor.
        """
        if current_actor() is None:
            raise AssertionError("This method is only available in an actor.")
        task = current_task()
        return bool(task and task["actor_restarts"])

    @property
    def current_actor(self) -> ActorHandle[Any]:
        """The handle of the actor that the caller is in.

        Raises:
            RuntimeError: the caller is in no actor.
        """
        from .actor_handle import ActorHandle

        ref = current_actor()
        if ref is None:
            raise RuntimeError("This method is only available in an actor.")
        return ActorHandle(ref)

    def is_canceled(self) -> bool:
        """Whether `cancel` was called for the call of an actor that runs here.

        Such a call is not interrupted: it may look here now and then, and end itself.

        Raises:
            RuntimeError: this is no task, or a method of an async actor, which is interrupted.
        """
        if current_task() is None:
            raise RuntimeError("This method is only available in a task, not in the driver.")
        actor = current_descriptor()
        if actor is not None and actor.asynchronous:
            raise RuntimeError("This method is not supported in an async actor.")
        return connection.local is None and _core.is_cancelled()

    def get_placement_group_id(self) -> str | None:
        """The placement group of the task; None without one."""
        return None

    @property
    def should_capture_child_tasks_in_placement_group(self) -> bool:
        """Whether tasks run in the placement group of the task that submits them."""
        return False

    # -- older spellings ---------------------------------------------------------------------

    def get(self) -> dict[str, Any]:
        """Ids as a dict; deprecated."""
        warn("RuntimeContext.get() is deprecated: use get_job_id() and so on.", DeprecationWarning)
        found: dict[str, Any] = {"job_id": self.get_job_id(), "node_id": self.get_node_id()}
        found["namespace"] = self.namespace
        if current_task() is not None:
            found["task_id"] = self.get_task_id()
        if current_actor() is not None:
            found["actor_id"] = self.get_actor_id()
        return found

    @property
    def job_id(self) -> str:
        _deprecated("job_id")
        return self.get_job_id()

    @property
    def node_id(self) -> str:
        _deprecated("node_id")
        return self.get_node_id()

    @property
    def task_id(self) -> str | None:
        _deprecated("task_id")
        return self.get_task_id()

    @property
    def actor_id(self) -> str | None:
        _deprecated("actor_id")
        return self.get_actor_id()


def _deprecated(name: str) -> None:
    warn(f"RuntimeContext.{name} is deprecated: use get_{name}().", DeprecationWarning)
