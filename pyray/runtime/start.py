"""`init` and `shutdown`: arguments checked, a session started or joined, and ended or left.

May import `session`, `joining`, `addresses`, `connection`, `resources`, `runtime_env`, `context`,
`local_mode`.
"""

from __future__ import annotations

import os
import sys
import threading

from . import _core, addresses, connection, functions, resources, runtime_env
from .context import RayContext
from .exceptions import RaySystemError
from .runtime_context import node_id
from .settings import flag
from .warn import logger, once, warn

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from typing import Any

__all__ = ["init", "is_initialized", "shutdown"]

#: Of one thread at a time; a thread that starts a session may be asked to by its own call.
_lock = threading.RLock()

#: Keywords beside those of the signature.
_PRIVATE = {"_memory", "_system_config", "_temp_dir"}

#: Keywords for Ray's own developers that programs pass and that mean nothing on this engine.
_IGNORED = {
    "_driver_object_store_memory",
    "_enable_object_reconstruction",
    "_metrics_export_port",
    "_node_ip_address",
    "_node_name",
    "_plasma_directory",
    "_redis_password",
    "_redis_username",
    "_skip_env_hook",
    "_tracing_startup_hook",
    "cgroup_path",
    "enable_resource_isolation",
    "object_spilling_directory",
    "proxy_server_url",
    "system_reserved_cpu",
    "system_reserved_memory",
}


def init(
    address: str | None = None,
    *,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    resources: dict[str, float] | None = None,
    labels: dict[str, str] | None = None,
    object_store_memory: int | None = None,
    object_spilling: Any = True,
    local_mode: bool = False,
    ignore_reinit_error: bool = False,
    include_dashboard: bool | None = None,
    dashboard_host: str = "127.0.0.1",
    dashboard_port: int | None = None,
    job_config: Any = None,
    configure_logging: bool = True,
    logging_level: int | str = 20,
    logging_format: str | None = None,
    logging_config: Any = None,
    log_to_driver: bool | None = None,
    namespace: str | None = None,
    runtime_env: dict[str, Any] | None = None,
    **kwargs: Any,
) -> RayContext:
    """Start a session on this machine, or join one; it is left with `shutdown()` or the program.

    One that is started ends then, too. It returns as soon as tasks can be queued: workers come to
    life meanwhile.

    Args:
        address: The name or the directory of a session to join; "auto": the latest one; "local": a
            new one. None: the latest that `pyray start --head` has started, or else a new one. The
            variable PYRAY_ADDRESS in the environment stands for None and "auto". With a session
            that is joined, the next five must be left out.
        num_cpus: How many CPUs tasks can reserve, and workers to start; by default those that
            this process may use.
        num_gpus: How many GPUs tasks can reserve; by default those that this process sees.
        resources: Other things that tasks can reserve, and how much there is of each.
        labels: Labels of the node, for `label_selector`.
        object_store_memory: The size of the object store in bytes; by default 30 % of the memory.
        object_spilling: Where objects go that do not fit into the store: a directory, a URL of
            anything that fsspec can write ("s3://bucket/prefix"), or a list of these, which are
            used in turn. True: a directory of the session's. None: nowhere; results of tasks that
            can be made again are evicted instead, and other objects refused.
        local_mode: Whether tasks run in this process, at `.remote()`, to be debugged.
        ignore_reinit_error: Whether a second call does nothing instead of raising RuntimeError.
        include_dashboard: Accepted; there is no dashboard yet.
        dashboard_host: Accepted.
        dashboard_port: Accepted.
        job_config: Only None: use `runtime_env` and `namespace`.
        configure_logging: Whether to set up the logger "pyray".
        logging_level: The level of that logger, as a number or a name.
        logging_format: The format of its lines.
        logging_config: Only None: configure `logging` in the tasks.
        log_to_driver: Whether what workers print is printed here; it is by default.
        namespace: Where the names of actors of this program live; by default in a place of its own.
        runtime_env: What workers run in: `env_vars`, `working_dir`, `py_modules`, `excludes`.

    Raises:
        TypeError, ValueError: an argument is wrong.
        RuntimeError: there is a session already, or a keyword is unknown.
        ConnectionError: `address` names a session that cannot be reached, or there is none.
    """
    given = dict(locals())
    given.update(given.pop("kwargs"))
    with _lock:
        return _init(given)


def init_by_itself() -> None:
    """`init()` unless there is a session; waits for the thread that is starting one."""
    with _lock:
        if not is_initialized():
            init()


def _init(given: dict[str, Any]) -> RayContext:
    given = _present_names(given)
    _check_types(given)
    if is_initialized():
        if given["ignore_reinit_error"]:
            logger().info("init() was called again: the session that there is goes on.")
            return RayContext(_addresses())
        raise RuntimeError(
            "Maybe you called init twice by accident? This error can be suppressed by passing in "
            "'ignore_reinit_error=True' or by calling 'shutdown()' prior to 'init()'."
        )
    if given["configure_logging"]:
        _configure_logging(given["logging_level"], given["logging_format"])
    if not given["local_mode"]:
        found = addresses.resolve(given["address"], given.get("_temp_dir"))
        if found is not None:
            return _join(given, found)
    size = resources.object_store_bytes(given["object_store_memory"])
    total = resources.node_resources(
        given["num_cpus"], given["num_gpus"], given["resources"], given.get("_memory"), size
    )
    env = runtime_env.validate(given["runtime_env"])
    known = {
        "job_id": connection.job_id(1),
        "namespace": given["namespace"] or _anonymous(),
        "labels": given["labels"] or {},
    }
    connection.starting = True
    try:
        if given["local_mode"]:
            from .local_mode import LocalMode

            connection.local = LocalMode(known, total, size)
        else:
            _start(given, size, total, known, env)
    finally:
        connection.starting = False
    return RayContext(_addresses())


def _start(
    given: dict[str, Any],
    size: int,
    total: dict[str, float],
    known: dict[str, Any],
    env: dict[str, Any],
) -> None:
    from . import session

    spilling = _spilling(given["object_spilling"])
    running = session.start(
        session.Options(
            resources=total,
            object_store_memory=size,
            log_to_driver=_log_to_driver(given),
            temp_dir=given.get("_temp_dir"),
            spilling=spilling,
            namespace=known["namespace"],
            system_config=given.get("_system_config"),
        )
    )
    try:
        known.update(directory=running.directory, name=running.name, node_id=node_id(running.name))
        known["sys_path"] = list(sys.path)
        known["labels"] = {"ray.io/node-id": known["node_id"], **known["labels"]}
        connection.publish(running.core, known)
        connection.publish_targets(running.core, spilling, running.directory)
        runtime_env.set_current(runtime_env.normalize(env, running.directory))
    except BaseException:
        _end()
        raise


def _spilling(asked: Any) -> list[str]:
    if asked is True:
        return [""]
    from . import spill_targets

    return spill_targets.validate(asked)


def _log_to_driver(given: dict[str, Any]) -> bool:
    asked: bool | None = given["log_to_driver"]
    return flag("LOG_TO_DRIVER", True) if asked is None else asked


def _join(given: dict[str, Any], directories: list[str]) -> RayContext:
    """Become one more driver of a session, whose resources are what they are."""
    import json

    from . import joining

    _refuse_resources(given)
    env = runtime_env.validate(given["runtime_env"])
    known = {"namespace": given["namespace"] or _anonymous()}
    connection.starting = True
    try:
        running = joining.join(directories, json.dumps(known).encode(), _log_to_driver(given))
        try:
            runtime_env.set_current(runtime_env.normalize(env, running.directory))
        except BaseException:
            _end()
            raise
    finally:
        connection.starting = False
    return RayContext(_addresses())


def _addresses() -> dict[str, Any]:
    known = connection.info()
    return {
        "node_ip_address": resources.NODE_IP,
        "redis_address": None,
        "object_store_address": None,
        "raylet_socket_name": None,
        "webui_url": "",
        "session_dir": known["directory"],
        "metrics_export_port": None,
        "gcs_address": known["directory"],
        "address": known["directory"],
        "node_id": known["node_id"],
    }


def _anonymous() -> str:
    """A namespace that nobody else has."""
    text = os.urandom(16).hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def is_initialized() -> bool:
    """Whether this process is in a session."""
    return _core.get_session() is not None


def shutdown(*, wait_for_processes: bool = False, _exiting_interpreter: bool = False) -> None:
    """End the session: its processes, its objects, its files. Without one, do nothing.

    What workers have printed is printed first. References of the session are dead from then on. A
    session that was joined goes on for others: actors of this program that are not detached are
    killed, its tasks are cancelled, but for those whose results others refer to.

    Args:
        wait_for_processes: Accepted: all processes have ended when this returns.
    """
    with _lock:
        if connection.in_worker():
            raise RaySystemError("a task cannot end the session: call shutdown() in the driver")
        _end()


def _end() -> None:
    if "pyray.runtime.futures" in sys.modules:
        sys.modules["pyray.runtime.futures"].stop()
    if connection.local is not None:
        connection.local.stop()
    if "pyray.runtime.session" in sys.modules:
        sys.modules["pyray.runtime.session"].stop()
    functions.forget()
    if "pyray.runtime.actor_descriptor" in sys.modules:
        sys.modules["pyray.runtime.actor_descriptor"].forget()
    connection.forget()
    runtime_env.set_current(runtime_env.EMPTY)


# -- checks ----------------------------------------------------------------------------------


def _present_names(given: dict[str, Any]) -> dict[str, Any]:
    """Older spellings under their present names; what is unknown is refused."""
    if "redis_address" in given:
        warn("'redis_address' is now called 'address'.", DeprecationWarning)
        address = given.pop("redis_address")
        given["address"] = given["address"] or address
    if "object_spilling_directory" in given:  # Ray's
        given["object_spilling"] = given.pop("object_spilling_directory") or True
    known = set(init.__kwdefaults__ or ()) | {"address"} | _PRIVATE | _IGNORED
    unknown = [name for name in given if name not in known]
    if unknown:
        raise RuntimeError(
            f"Unknown keyword argument(s): {', '.join(unknown)}. help(init) lists what there is."
        )
    return given


#: The arguments that must be of a type, and how to say so; numbers are checked where they are used.
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "address": ((str,), "a string"),
    "labels": ((dict,), "a dict of strings"),
    "local_mode": ((bool,), "True or False"),
    "ignore_reinit_error": ((bool,), "True or False"),
    "include_dashboard": ((bool,), "True, False or None"),
    "dashboard_host": ((str,), "a string"),
    "dashboard_port": ((int,), "an integer"),
    "configure_logging": ((bool,), "True or False"),
    "logging_level": ((int, str), "a level of the logging module"),
    "logging_format": ((str,), "a string"),
    "log_to_driver": ((bool,), "True, False or None"),
    "namespace": ((str,), "None or a string"),
    "_temp_dir": ((str, os.PathLike), "a path"),
    "_system_config": ((dict,), "a dict"),
}


def _check_types(given: dict[str, Any]) -> None:
    for name, (types, what) in _TYPES.items():
        value = given.get(name)
        if value is not None and not isinstance(value, types):
            raise TypeError(f"{name} must be {what}, got {value!r} of type {type(value).__name__}.")
    check_labels(given["labels"] or {})
    if given["namespace"] == "":
        raise ValueError('"" is not a valid namespace. Pass None to not specify a namespace.')
    for name, instead in (
        ("job_config", "runtime_env and namespace"),
        ("logging_config", "the logging module, in the driver and in tasks"),
    ):
        if given[name] is not None:
            raise NotImplementedError(f"{name} is not supported: use {instead}.")
    if given["include_dashboard"] and once("dashboard"):
        warn("include_dashboard=True: there is no dashboard yet.")


def check_labels(labels: dict[str, str]) -> None:
    """Raise TypeError or ValueError unless these can be the labels of a node."""
    for name, value in labels.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"labels must map strings to strings, got {name!r}: {value!r}.")
        if name.startswith("ray.io/"):
            raise ValueError(f"label {name!r}: names that begin with 'ray.io/' are reserved.")


def _refuse_resources(given: dict[str, Any]) -> None:
    if given["object_spilling"] is not True:
        raise ValueError(
            "When connecting to an existing cluster, object_spilling must not be provided: who has "
            "started that has chosen it."
        )
    for names in (
        ("num_cpus", "num_gpus"),
        ("resources",),
        ("labels",),
        ("object_store_memory",),
        ("_system_config",),
    ):
        if any(given.get(name) is not None for name in names):
            raise ValueError(
                f"When connecting to an existing cluster, {' and '.join(names)} must not be "
                "provided. init(address='local', ...) starts a session of its own."
            )


def _configure_logging(level: int | str, form: str | None) -> None:
    if level == 20 and form is None and "logging" not in sys.modules:
        return  # as it would be anyhow, and the import is not free
    import logging

    number = logging.getLevelName(level.upper()) if isinstance(level, str) else level
    if not isinstance(number, int):
        raise ValueError(f"logging_level={level!r} is not the name of a level, such as 'INFO'.")
    log = logger()
    log.setLevel(number)
    if form is not None:
        if not log.handlers:
            log.addHandler(logging.StreamHandler())
            log.propagate = False
        for handler in log.handlers:
            handler.setFormatter(logging.Formatter(form))
