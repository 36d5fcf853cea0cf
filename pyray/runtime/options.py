"""Options of remote functions and methods: one table of what each may be, and their defaults.

Names, defaults and exception types are those of Ray. May import `scheduling`, `warn`.
"""

from __future__ import annotations

import os

from . import scheduling
from .warn import warn

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Check = Callable[[str, Any], str | None]

__all__ = ["TASK_OPTIONS", "task_options", "validate_method_options", "with_defaults"]

#: The finest step in which a resource is counted.
RESOURCE_STEP = 0.0001

#: The most references of a generator that may wait to be taken.
_MOST_BACKLOG = 65535

#: The longest name of a resource that the core keeps.
NAME_BYTES = 31


class Option:
    """Of which types an option is, what else is asked of it, and what it is when not given."""

    __slots__ = ("check", "default", "types", "what")

    def __init__(
        self,
        types: tuple[type, ...],
        what: str,
        check: Check | None = None,
        default: Any = None,
    ) -> None:
        self.types = types
        self.what = what
        self.check = check
        self.default = default

    def validate(self, name: str, value: Any) -> None:
        """Raise TypeError or ValueError unless `value` may be given for option `name`."""
        wrong = not isinstance(value, self.types)
        if isinstance(value, bool) and bool not in self.types:
            wrong = True  # an int to isinstance, a mistake to everybody else
        if wrong:
            raise TypeError(
                f"The type of keyword '{name}' must be {self.what}, but received "
                f"{value!r} of type {type(value).__name__}."
            )
        problem = self.check(name, value) if self.check is not None else None
        if problem:
            raise ValueError(problem)


# -- checks: each returns what is wrong, or None ----------------------------------------------


def quantity_problem(name: str, value: Any) -> str | None:
    """What is wrong with an amount of a resource."""
    if value is None:
        return None
    if not 0 <= value < float("inf"):
        return f"The quantity of resource {name} cannot be negative or infinite, got {value}."
    if 0 < value < RESOURCE_STEP:
        return (
            f"The precision of the fractional quantity of resource {name} cannot go beyond "
            f"{RESOURCE_STEP}, got {value}."
        )
    return None


def resources_problem(name: str, resources: Any) -> str | None:
    """What is wrong with a dict of custom resources."""
    for key, value in (resources or {}).items():
        if not isinstance(key, str) or not key:
            return f"Names of '{name}' must be strings that are not empty, got {key!r}."
        if len(key.encode()) > NAME_BYTES:
            return f"Names of '{name}' can have {NAME_BYTES} bytes at most, {key!r} has more."
        if key in _KEYWORDS:
            return (
                f"'{name}' must not contain {key!r}: use the keyword '{_KEYWORDS[key]}' instead "
                "('num_cpus' and 'num_gpus' instead of 'CPU' and 'GPU')."
            )
        if key == "object_store_memory":
            return f"'{name}' must not contain 'object_store_memory': a task does not reserve it."
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(
                f"Quantities of '{name}' must be numbers, but {key!r} is {value!r} of type "
                f"{type(value).__name__}."
            )
        problem = quantity_problem(key, value)
        if problem:
            return problem
    return None


_KEYWORDS = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}


def _at_least(least: int) -> Check:
    def check(name: str, value: Any) -> str | None:
        if value is None or value >= least:
            return None
        allowed = "None, 0, -1 or a positive integer, where -1 represents infinity"
        if least == 0:
            allowed = "None, 0 or a positive integer"
        return f"The keyword '{name}' only accepts {allowed}; got {value}."

    return check


def _num_returns_problem(name: str, value: Any) -> str | None:
    if value in (None, "dynamic", "streaming") or (isinstance(value, int) and value >= 0):
        return None
    return (
        f"The keyword '{name}' only accepts None, a non-negative integer, 'streaming' (for "
        f"generators), or 'dynamic' (its older form); got {value!r}."
    )


def _exceptions_problem(name: str, value: Any) -> str | None:
    if isinstance(value, bool):
        return None
    if all(isinstance(item, type) and issubclass(item, Exception) for item in value):
        return None
    return f"{name} must be either a boolean or a list of exceptions (classes), got {value!r}."


def _strategy_problem(name: str, value: Any) -> str | None:
    if isinstance(value, str) and value not in scheduling.NAMES:
        return (
            f"Invalid {name} value {value!r}. Valid values are 'DEFAULT', 'SPREAD', and a "
            "NodeAffinitySchedulingStrategy."
        )
    if isinstance(value, scheduling.PlacementGroupSchedulingStrategy):
        raise NotImplementedError("placement groups are not there yet: reserve with 'resources'")
    return None


def _placement_group_problem(name: str, value: Any) -> str | None:
    if value in (None, "default"):
        return None
    raise NotImplementedError("placement groups are not there yet: reserve with 'resources'")


def _labels_problem(name: str, value: Any) -> str | None:
    for key, text in (value or {}).items():
        if not isinstance(key, str) or not isinstance(text, (str, type(None))):
            return f"'{name}' must map label names to strings, got {key!r}: {text!r}."
    return None


def _fallback_problem(name: str, value: Any) -> str | None:
    for item in value or ():
        if not isinstance(item, dict) or set(item) - {"label_selector"}:
            return f"'{name}' must be a list of dicts with the key 'label_selector', got {item!r}."
        problem = _labels_problem("label_selector", item.get("label_selector"))
        if problem:
            return problem
    return None


def _not_for_tasks(name: str, value: Any) -> str | None:
    return None if value is None else f"Setting '{name}' is not implemented for tasks."


def _backlog_problem(name: str, value: Any) -> str | None:
    if value == 0:
        return (
            f"{name}=0 would stop the generator at once: pass a number above 0, or -1 for no limit."
        )
    if value is not None and value > _MOST_BACKLOG:
        return f"{name}={value} is too large: pass at most {_MOST_BACKLOG}, or -1 for no limit."
    return None


def _positive(name: str, value: Any) -> str | None:
    if value is None or value > 0:
        return None
    return f"{name} must be a positive integer, got {value}."


# -- the table -------------------------------------------------------------------------------

_NONE = type(None)


def _number(default: Any = None) -> Option:
    return Option((int, float, _NONE), "a number or None", quantity_problem, default)


def _count(least: int, default: Any = None) -> Option:
    return Option((int, _NONE), "int or None", _at_least(least), default)


def _string() -> Option:
    return Option((str, _NONE), "str or None")


#: How often a task is run again when its worker died.
DEFAULT_MAX_RETRIES = 3

TASK_OPTIONS: dict[str, Option] = {
    "num_cpus": _number(default=1),
    "num_gpus": _number(),
    "memory": _number(),
    "resources": Option((dict, _NONE), "dict or None", resources_problem),
    "num_returns": Option(
        (int, str, _NONE), "int, 'streaming', 'dynamic' or None", _num_returns_problem
    ),
    "max_retries": _count(-1, default=DEFAULT_MAX_RETRIES),
    "retry_exceptions": Option(
        (bool, list, tuple), "bool or a list of exception classes", _exceptions_problem, False
    ),
    "max_calls": _count(0, default=0),
    "name": _string(),
    "runtime_env": Option((dict, _NONE), "dict or None"),
    "scheduling_strategy": Option(
        (
            _NONE,
            str,
            scheduling.NodeAffinitySchedulingStrategy,
            scheduling.NodeLabelSchedulingStrategy,
            scheduling.PlacementGroupSchedulingStrategy,
        ),
        "None, 'DEFAULT', 'SPREAD' or a scheduling strategy",
        _strategy_problem,
    ),
    "accelerator_type": _string(),
    "label_selector": Option((dict, _NONE), "dict or None", _labels_problem),
    "fallback_strategy": Option((list, _NONE), "list or None", _fallback_problem),
    "object_store_memory": Option((int, _NONE), "None", _not_for_tasks),
    "placement_group": Option((object,), "None", _placement_group_problem, "default"),
    "placement_group_bundle_index": Option((int,), "int", default=-1),
    "placement_group_capture_child_tasks": Option((bool, _NONE), "bool or None"),
    "enable_task_events": Option((bool,), "bool", default=True),
    "_labels": Option((dict, _NONE), "dict or None", _labels_problem),
    "_metadata": Option((dict, _NONE), "dict or None"),
    "_generator_backpressure_num_objects": Option((int, _NONE), "int or None", _backlog_problem),
    "_num_objects_per_yield": Option((int, _NONE), "int or None", _positive, 1),
}

#: Older spellings, and what they are called now.
OLD_SPELLINGS = {"num_return_vals": "num_returns"}


def task_options(
    given: dict[str, Any], *, in_options: bool = False, generator: bool | None = None
) -> dict[str, Any]:
    """The given options of a remote function, validated, under their present names.

    Args:
        given: What was passed to `remote(...)` or to `.options(...)`.
        in_options: Whether it was `.options(...)`, which cannot change `max_calls`.
        generator: Whether the function yields; None if nobody knows.

    Raises:
        TypeError, ValueError: as Ray does.
    """
    found = {}
    for name, value in given.items():
        if name in OLD_SPELLINGS:
            warn(f"'{name}' is now called '{OLD_SPELLINGS[name]}'.", DeprecationWarning)
            name = OLD_SPELLINGS[name]
        option = TASK_OPTIONS.get(name)
        if option is None:
            raise ValueError(
                f"Invalid option keyword {name} for remote functions. "
                f"Valid ones are {', '.join(TASK_OPTIONS)}."
            )
        option.validate(name, value)
        found[name] = value
    if in_options and "max_calls" in found:
        raise ValueError(
            "Setting 'max_calls' is not supported in '.options()': it says when a worker is "
            "replaced, for all calls. Give it to @remote(max_calls=...)."
        )
    if generator is not None:
        _check_generator(found.get("num_returns"), generator)
    return found


def _check_generator(num_returns: Any, generator: bool) -> None:
    if num_returns == "dynamic":
        warn(
            "num_returns='dynamic' is deprecated: use num_returns='streaming', which gives the "
            "references while the generator runs.",
            DeprecationWarning,
        )
    if num_returns in ("streaming", "dynamic") and not generator:
        raise ValueError(
            f"num_returns={num_returns!r} can only be used with generator functions (functions "
            "that use 'yield'): this one does not. Pass an integer, or let the function yield."
        )


def with_defaults(options: dict[str, Any], *, generator: bool) -> dict[str, Any]:
    """Every option: as given, or what it is by default."""
    full = {name: option.default for name, option in TASK_OPTIONS.items()} | options
    if full["num_returns"] is None:
        full["num_returns"] = "streaming" if generator else 1
    if options.get("max_retries") is None:
        full["max_retries"] = int(os.environ.get("RAY_TASK_MAX_RETRIES", DEFAULT_MAX_RETRIES))
    if options.get("max_calls") is None:
        # Libraries keep GPU memory to themselves as long as their process lives.
        full["max_calls"] = 1 if full["num_gpus"] else 0
    return full


#: What `@method(...)` takes.
METHOD_OPTIONS: dict[str, Option] = {
    "num_returns": TASK_OPTIONS["num_returns"],
    "concurrency_group": _string(),
    "max_task_retries": _count(-1),
    "retry_exceptions": Option(
        (bool, list, tuple, _NONE),
        "bool or a list of exception classes",
        lambda name, value: None if value is None else _exceptions_problem(name, value),
    ),
    "enable_task_events": Option((bool, _NONE), "bool or None"),
    "tensor_transport": _string(),
    "_generator_backpressure_num_objects": TASK_OPTIONS["_generator_backpressure_num_objects"],
    "_num_objects_per_yield": TASK_OPTIONS["_num_objects_per_yield"],
}


def validate_method_options(given: dict[str, Any]) -> dict[str, Any]:
    """The options of `@method`, validated.

    Raises:
        TypeError, ValueError: as Ray does, but that an unknown option is a ValueError.
    """
    for name, value in given.items():
        if name not in METHOD_OPTIONS:
            raise ValueError(
                f"Unexpected keyword argument to @method: {name!r}. "
                f"The supported ones are {', '.join(METHOD_OPTIONS)}."
            )
        METHOD_OPTIONS[name].validate(name, value)
    return given
