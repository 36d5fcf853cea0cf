"""What a machine has and a task asks for: defaults, the dict of a task, and what GPUs it may see.

Amounts are counted by the core, in steps of 0.0001. Imports `options` and `memory`.
"""

from __future__ import annotations

import os

from .memory import Memory
from .options import NAME_BYTES, quantity_problem, resources_problem

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = [
    "NAME_BYTES",
    "NODE_IP",
    "TaskEnvironment",
    "available_memory",
    "default_num_cpus",
    "gpu_names",
    "matches",
    "node_resources",
    "object_store_bytes",
    "of_actor",
    "of_task",
    "own_gpu_names",
    "visible_gpus",
]

#: The address of the one machine a session runs on. Nothing listens there.
NODE_IP = "127.0.0.1"

#: The least `object_store_memory`.
MIN_OBJECT_STORE = 16 << 20

#: Which part of the memory the object store gets by default.
OBJECT_STORE_SHARE = 0.3


# -- what the machine has --------------------------------------------------------------------


def default_num_cpus() -> int:
    """The CPUs this process may use: its affinity, or a container's quota if that is less."""
    count = len(os.sched_getaffinity(0))
    quota = _cgroup_cpus()
    return max(1, min(count, int(quota))) if quota is not None else count


def _cgroup_cpus() -> float | None:
    text = _read("/sys/fs/cgroup/cpu.max")
    if text is not None:
        quota, _, period = text.partition(" ")
    else:
        quota = _read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") or "-1"
        period = _read("/sys/fs/cgroup/cpu/cpu.cfs_period_us") or "0"
    try:
        cpus = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None  # "max": there is no quota
    return cpus if cpus > 0 else None


def total_memory() -> int:
    """The memory of the machine, or of the container, in bytes."""
    return Memory().total()


def available_memory() -> int:
    """How much of it is not in use, in bytes."""
    usage = Memory().usage()
    return max(usage.limit - usage.used, 0)


def visible_gpus(environ: Mapping[str, str] = os.environ) -> list[str] | None:
    """The names in CUDA_VISIBLE_DEVICES; None if it is not set."""
    text = environ.get("CUDA_VISIBLE_DEVICES")
    if text is None:
        return None
    return [] if text in ("", "NoDevFiles") else [name.strip() for name in text.split(",")]


def default_num_gpus() -> int:
    """The GPUs this process may use; 0 without a driver for them."""
    visible = visible_gpus()
    if visible is not None:
        return len(visible)
    try:
        return len(os.listdir("/proc/driver/nvidia/gpus"))
    except OSError:
        return 0


def object_store_bytes(requested: int | None) -> int:
    """The size of the object store: what was asked for, or 30 % of the memory."""
    if requested is None:
        return max(MIN_OBJECT_STORE, int(total_memory() * OBJECT_STORE_SHARE))
    _check_number("object_store_memory", requested)
    if requested < MIN_OBJECT_STORE:
        raise ValueError(
            f"object_store_memory={requested} is too little: the minimum is {MIN_OBJECT_STORE} "
            "bytes. The number is in bytes."
        )
    return int(requested)


def node_resources(
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    resources: dict[str, float] | None = None,
    memory: int | None = None,
    object_store: int = 0,
) -> dict[str, float]:
    """Everything that tasks of a session can ask for.

    Raises:
        TypeError, ValueError: an argument of `init` is wrong.
    """
    found: dict[str, float] = {"CPU": _whole("num_cpus", num_cpus, default_num_cpus)}
    gpus = _whole("num_gpus", num_gpus, default_num_gpus)
    visible = visible_gpus()
    if visible is not None and gpus > len(visible):
        raise ValueError(
            f"num_gpus={gpus}, but CUDA_VISIBLE_DEVICES names {len(visible)}: ask for fewer, or "
            "let the variable name more."
        )
    if gpus:
        found["GPU"] = gpus
    if resources is not None:
        if not isinstance(resources, dict):
            raise TypeError(
                f"resources must be a dict of names and quantities, got {resources!r} of type "
                f"{type(resources).__name__}."
            )
        problem = resources_problem("resources", resources)
        if problem:
            raise ValueError(problem)
        found.update((name, float(value)) for name, value in resources.items())
    if memory is None:
        memory = max(available_memory() - object_store, 0)
    _check_number("_memory", memory)
    found["memory"] = float(int(memory))
    found["object_store_memory"] = float(object_store)
    found[f"node:{NODE_IP}"] = found["node:__internal_head__"] = 1.0
    return found


def _whole(name: str, value: Any, default: Any) -> float:
    if value is None:
        return float(default())
    _check_number(name, value)
    if value != int(value):
        raise ValueError(f"{name} must be a whole number, got {value}: only tasks ask for parts.")
    return float(value)


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {value!r} of type {type(value).__name__}.")
    problem = quantity_problem(name, value)
    if problem:
        raise ValueError(problem)


def _read(path: str) -> str | None:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return None


# -- what a task asks for --------------------------------------------------------------------


def of_task(options: dict[str, Any]) -> dict[str, float]:
    """The resources of a task with these options (all of them, see `options.with_defaults`)."""
    found: dict[str, float] = {}
    for name, value in (options["resources"] or {}).items():
        found[name] = float(value)
    for name, option in (("CPU", "num_cpus"), ("GPU", "num_gpus")):
        if options[option]:
            found[name] = float(options[option])
    if options["memory"]:
        found["memory"] = float(int(options["memory"]))
    if options["accelerator_type"] is not None:
        name = f"accelerator_type:{options['accelerator_type']}"
        found[name.encode()[:NAME_BYTES].decode(errors="ignore")] = 0.001
    return {name: value for name, value in found.items() if value}


def of_actor(options: dict[str, Any], total: dict[str, float]) -> dict[str, float]:
    """What an actor with these options (all of them) holds as long as it lives.

    Without any, it is placed where there is a CPU, `total` permitting, and holds none. With GPUs or
    other resources it holds a CPU as well, unless it says how many.
    """
    found = of_task(options)
    if options["num_cpus"] is not None:
        return found
    said = ("num_gpus", "accelerator_type")
    if options["resources"] or any(options[name] is not None for name in said):
        found["CPU"] = 1.0
    elif total.get("CPU", 0) < 1:
        found["CPU"] = 1.0  # there is no such place
    return found


def matches(selector: dict[str, str | None] | None, labels: dict[str, str]) -> bool:
    """Whether a node with these labels is what a label selector asks for."""
    return all(_label_matches(labels.get(key), text) for key, text in (selector or {}).items())


def _label_matches(label: str | None, expression: str | None) -> bool:
    if not expression:
        return True
    for word, wanted in (("!in(", False), ("in(", True)):
        if expression.startswith(word) and expression.endswith(")"):
            values = [value.strip() for value in expression[len(word) : -1].split(",")]
            return (label in values) == wanted
    if expression.startswith("!"):
        return label != expression[1:]
    return label == expression


# -- what a task may see ---------------------------------------------------------------------


class TaskEnvironment:
    """Environment variables that follow a task's resources; a worker has one of these."""

    def __init__(self, environ: Any = os.environ) -> None:
        self._environ = environ
        self.gpus = visible_gpus(environ)
        self._before: dict[str, str | None] = {}
        if "OMP_NUM_THREADS" not in environ:
            self._environ["OMP_NUM_THREADS"] = self._threads = "1"
        else:
            self._threads = ""  # the user's: left alone
        global _worker
        _worker = self

    def before(self, task: dict[str, Any]) -> None:
        """Set CUDA_VISIBLE_DEVICES and OMP_NUM_THREADS for the task that is about to run."""
        if task.get("gpu_ids"):
            names = ",".join(map(str, gpu_names(task["gpu_ids"], self.gpus)))
            self._set("CUDA_VISIBLE_DEVICES", names)
        # A runtime environment may have set it since.
        if self._threads and self._environ.get("OMP_NUM_THREADS") == self._threads:
            cpus = task.get("resources", {}).get("CPU", 0)
            self._threads = str(max(int(cpus), 1))
            self._environ["OMP_NUM_THREADS"] = self._threads

    def after(self, task: dict[str, Any]) -> None:
        """Undo what `before` did, but for the number of threads, which the next task sets anew."""
        for name, value in self._before.items():
            if value is None:
                self._environ.pop(name, None)
            else:
                self._environ[name] = value
        self._before.clear()

    def _set(self, name: str, value: str) -> None:
        self._before.setdefault(name, self._environ.get(name))
        self._environ[name] = value


#: This worker's.
_worker: TaskEnvironment | None = None


def own_gpu_names(ids: list[int]) -> list[int] | list[str]:
    """The GPUs of this worker's task, see `gpu_names`."""
    return gpu_names(ids, _worker.gpus if _worker is not None else visible_gpus())


def gpu_names(ids: list[int], visible: list[str] | None) -> list[int] | list[str]:
    """GPU ids as `get_gpu_ids` shows them: names if the user had named some, else numbers."""
    if visible is None:
        return list(ids)
    if any(i >= len(visible) for i in ids):
        return list(visible)
    return [visible[i] for i in ids]
