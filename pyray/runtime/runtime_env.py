"""Runtime environments: what users may ask for, its normal form, and how a worker sets it up.

The normal form is a JSON text that names only what exists: two environments with the same text
are the same, and share workers. May import `packages`, `exceptions`.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from typing import Any

__all__ = ["EMPTY", "current", "merge", "normalize", "setup", "validate"]

#: The text of the environment that changes nothing.
EMPTY = b"{}"

#: Fields of Ray that need packages installed or containers: for another engine.
_NOT_HERE = {
    "pip": "install the packages for the Python that runs the driver",
    "uv": "install the packages for the Python that runs the driver",
    "conda": "activate the environment before the driver is started",
    "container": "run the driver in the container",
    "image_uri": "run the driver in the container",
    "py_executable": "workers are forked from the driver's own interpreter",
    "java_jars": "there are Python workers only",
    "worker_process_setup_hook": "call the function at the beginning of the task",
    "nsight": "run the driver under the profiler",
    "_nsight": "run the driver under the profiler",
    "rocprof_sys": "run the driver under the profiler",
    "_rocprof_sys": "run the driver under the profiler",
}

FIELDS = ("env_vars", "working_dir", "py_modules", "excludes", "config")


# -- validation ------------------------------------------------------------------------------


def validate(env: Any) -> dict[str, Any]:
    """The fields of a `runtime_env` that are set, each checked; nothing is copied yet.

    Raises:
        TypeError, ValueError: a field is not what it must be, or does not exist.
        NotImplementedError: a field that Ray has needs another engine.
    """
    if env is None:
        return {}
    if not isinstance(env, dict):
        raise TypeError(
            f"runtime_env must be a dict with the keys {', '.join(FIELDS)}, got {env!r} of type "
            f"{type(env).__name__}."
        )
    found = {}
    for field, value in env.items():
        if field in _NOT_HERE and value is not None:
            raise NotImplementedError(
                f"runtime_env[{field!r}] is not supported on the local engine: {_NOT_HERE[field]}."
            )
        if field not in FIELDS and field not in _NOT_HERE and not str(field).startswith("_"):
            raise ValueError(
                f"runtime_env has no field {field!r}. The fields are {', '.join(FIELDS)}."
            )
        if value is None or field not in FIELDS:
            continue
        found[field] = _CHECKS[field](value)
    return found


def _env_vars(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError(
            "runtime_env['env_vars'] must be of type Dict[str, str], got "
            f"{value!r} of type {type(value).__name__}."
        )
    for name, text in value.items():
        for what, part in (("key", name), ("value", text)):
            if not isinstance(part, str):
                raise TypeError(
                    "runtime_env['env_vars'] must be of type Dict[str, str], but the "
                    f"{what} {part!r} is of type {type(part).__name__}: pass str({part!r})."
                )
        if not name or "=" in name or "\0" in name + text:
            raise ValueError(f"runtime_env['env_vars'] cannot set the variable {name!r}.")
    return dict(value)


def _working_dir(value: Any) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(
            f"runtime_env['working_dir'] must be a string, got {value!r} of type "
            f"{type(value).__name__}."
        )
    from .packages import is_archive

    path = _local_path("working_dir", os.fspath(value))
    if not (os.path.isdir(path) or (os.path.isfile(path) and is_archive(path))):
        raise ValueError(
            f"runtime_env['working_dir']: {value!r} must be an existing directory or a supported "
            "archive (.zip, .tar.gz, .tgz, .tar.xz)."
        )
    return path


def _py_modules(value: Any) -> list[str]:
    if not isinstance(value, (list, tuple)):
        raise TypeError(
            "runtime_env['py_modules'] must be a list of paths or modules, got "
            f"{value!r} of type {type(value).__name__}."
        )
    return [_py_module(item) for item in value]


def _py_module(item: Any) -> str:
    if hasattr(item, "__spec__") and hasattr(item, "__name__"):  # an imported module
        folders = list(getattr(item, "__path__", ()))
        item = folders[0] if folders else item.__file__
    if not isinstance(item, (str, os.PathLike)):
        raise TypeError(
            "items of runtime_env['py_modules'] must be paths or modules, got "
            f"{item!r} of type {type(item).__name__}."
        )
    path = _local_path("py_modules", os.fspath(item))
    if os.path.isdir(path) or (os.path.isfile(path) and path.endswith((".py", ".whl", ".zip"))):
        return path
    raise ValueError(
        f"runtime_env['py_modules']: {item!r} must be an existing directory of a package, a .py "
        "file, or a .whl or .zip archive."
    )


def _local_path(field: str, text: str) -> str:
    if text.startswith("file://"):
        text = text[len("file://") :]
    elif "://" in text:
        raise NotImplementedError(
            f"runtime_env[{field!r}] cannot be fetched from {text!r} on the local engine: download "
            "it and pass the local path."
        )
    return os.path.realpath(os.path.expanduser(text))


def _excludes(value: Any) -> list[str]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise TypeError(
            f"runtime_env['excludes'] must be a list of strings, got {value!r}: patterns as in "
            ".gitignore."
        )
    return list(value)


def _config(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"runtime_env['config'] must be a dict, got {value!r}.")
    unknown = set(value) - {"setup_timeout_seconds", "eager_install"}
    if unknown:
        raise ValueError(
            f"runtime_env['config'] has no field {sorted(unknown)[0]!r}. The fields are "
            "setup_timeout_seconds and eager_install."
        )
    return dict(value)


_CHECKS = {
    "env_vars": _env_vars,
    "working_dir": _working_dir,
    "py_modules": _py_modules,
    "excludes": _excludes,
    "config": _config,
}


# -- normal form -----------------------------------------------------------------------------


def normalize(env: dict[str, Any], directory: str) -> bytes:
    """The text of a validated environment; local files are copied below `directory`.

    Raises:
        ValueError: there is too much to copy.
    """
    if not env:
        return EMPTY
    import json

    from . import packages

    normal: dict[str, Any] = {}
    excludes = env.get("excludes", ())
    below = os.path.join(directory, "packages")
    if env.get("env_vars"):
        normal["env_vars"] = env["env_vars"]
    if "working_dir" in env:
        path = env["working_dir"]
        if not _is_copy(path, below):
            os.makedirs(below, mode=0o700, exist_ok=True)
            if os.path.isdir(path):
                path = packages.copy_directory(path, below, excludes)
            else:
                path = packages.extract(path, below)
        normal["working_dir"] = path
    if env.get("py_modules"):
        os.makedirs(below, mode=0o700, exist_ok=True)
        normal["py_modules"] = [_module_copy(path, below, excludes) for path in env["py_modules"]]
    return json.dumps(normal, sort_keys=True).encode() if normal else EMPTY


def _module_copy(path: str, below: str, excludes: Any) -> str:
    """The folder that has to be on sys.path."""
    from . import packages

    if _is_copy(path, below):
        return path
    if os.path.isdir(path):
        return packages.copy_directory(path, below, excludes, os.path.basename(path))
    if path.endswith(".py"):
        return packages.copy_file(path, below)
    return packages.extract(path, below)


def _is_copy(path: str, below: str) -> bool:
    return os.path.dirname(path) == os.path.realpath(below)


def merge(base: bytes, env: dict[str, Any]) -> dict[str, Any]:
    """A task's validated environment on top of its job's text: variables are added one by one."""
    import json

    merged: dict[str, Any] = json.loads(base)
    merged.update(env)
    variables = json.loads(base).get("env_vars", {}) | env.get("env_vars", {})
    if variables:
        merged["env_vars"] = variables
    return merged


# -- in the worker ---------------------------------------------------------------------------

#: What this process has set up.
_current = EMPTY


def current() -> bytes:
    """The text of the environment that this process runs in; a driver's is set by `init`."""
    return _current


def set_current(text: bytes) -> None:
    """Say which environment this process, a driver, gives to its tasks."""
    global _current
    _current = text


def setup(text: bytes) -> None:
    """Make this worker what the text says.

    Raises:
        RuntimeEnvSetupError: something of it is not there any more.
    """
    import json

    env = json.loads(bytes(text))
    try:
        for folder in reversed(env.get("py_modules", [])):
            sys.path.insert(0, _existing(folder))
        if "working_dir" in env:
            os.chdir(_existing(env["working_dir"]))
            sys.path.insert(0, env["working_dir"])
        for name, value in env.get("env_vars", {}).items():
            os.environ[name] = _expanded(value)
    except Exception as error:
        from .exceptions import RuntimeEnvSetupError

        raise RuntimeEnvSetupError(f"{type(error).__name__}: {error}") from error
    set_current(bytes(text))


def _existing(folder: str) -> str:
    os.listdir(folder)
    return folder


def _expanded(value: str) -> str:
    """`${NAME}` stands for the variable as it is; one that is not set, for nothing."""
    import re

    return re.sub(r"\$\{(\w+)\}", lambda match: os.environ.get(match[1], ""), value)
