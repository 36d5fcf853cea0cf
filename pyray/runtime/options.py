"""Options of remote functions, actors and methods: tables of what each may be, and defaults.

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

__all__ = [
    "ACTOR_OPTIONS",
    "CALL_OPTIONS",
    "TASK_OPTIONS",
    "actor_options",
    "actor_with_defaults",
    "call_options",
    "check_generator",
    "option_attribute",
    "options_key",
    "task_options",
    "validate_method_options",
    "with_defaults",
]

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


def _lifetime_problem(name: str, value: Any) -> str | None:
    if value in (None, "detached", "non_detached"):
        return None
    return "actor `lifetime` argument must be one of 'detached', 'non_detached' and 'None'."


def _actor_name_problem(name: str, value: Any) -> str | None:
    return "Actor name cannot be an empty string." if value == "" else None


def namespace_problem(name: str, value: Any) -> str | None:
    """What is wrong with a namespace."""
    if value == "":
        return '"" is not a valid namespace. Pass None to not specify a namespace.'
    return None


def _groups_problem(name: str, value: Any) -> str | None:
    if not value:
        return None
    if not isinstance(value, dict):
        return f"'{name}' must be a dict of names and how many calls run at once, got {value!r}."
    for group, count in value.items():
        if not isinstance(group, str) or not group or " " in group:
            return f"Names of '{name}' must be strings, not empty, without spaces, got {group!r}."
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            return f"'{name}' must say how many calls run at once, got {group!r}: {count!r}."
    return None


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

#: What tasks and actors have in common.
_COMMON_OPTIONS = (
    "num_gpus",
    "memory",
    "resources",
    "runtime_env",
    "scheduling_strategy",
    "accelerator_type",
    "label_selector",
    "fallback_strategy",
    "placement_group",
    "placement_group_bundle_index",
    "placement_group_capture_child_tasks",
    "enable_task_events",
    "_labels",
    "_metadata",
)

ACTOR_OPTIONS: dict[str, Option] = {
    **{name: TASK_OPTIONS[name] for name in _COMMON_OPTIONS},
    "num_cpus": _number(),
    "object_store_memory": _count(0),
    "max_restarts": _count(-1, default=0),
    "max_task_retries": _count(-1, default=0),
    "max_pending_calls": _count(-1, default=-1),
    "max_concurrency": Option((int, _NONE), "int or None", _positive),
    "concurrency_groups": Option((dict, list, _NONE), "dict or None", _groups_problem),
    "allow_out_of_order_execution": Option((bool, _NONE), "bool or None"),
    "lifetime": Option((str, _NONE), "str or None", _lifetime_problem),
    "name": Option((str, _NONE), "str or None", _actor_name_problem),
    "namespace": Option((str, _NONE), "str or None", namespace_problem),
    "get_if_exists": Option((bool,), "bool", default=False),
    "enable_tensor_transport": Option((bool, _NONE), "bool or None"),
    "_actor_generator_backpressure_num_objects": Option(
        (int, _NONE), "int or None", _backlog_problem
    ),
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
        check_generator(found.get("num_returns"), generator)
    return found


def check_generator(num_returns: Any, generator: bool) -> None:
    """Warn of `num_returns="dynamic"`; refuse it, and "streaming", for what does not yield."""
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


# -- actors ----------------------------------------------------------------------------------

#: How many calls of an actor with `async def` methods run at once, unless it says so.
DEFAULT_ASYNC_CONCURRENCY = 1000


def actor_options(given: dict[str, Any], *, before: dict[str, Any] | None = None) -> dict[str, Any]:
    """The given options of an actor class, validated, together with those it had `before`.

    `before` is what `.options(...)` adds to; it cannot change `concurrency_groups`.

    Raises:
        TypeError, ValueError: as Ray does.
    """
    for name, value in given.items():
        option = ACTOR_OPTIONS.get(name)
        if option is None:
            raise ValueError(
                f"Invalid option keyword {name} for actors. "
                f"Valid ones are {', '.join(ACTOR_OPTIONS)}."
            )
        option.validate(name, value)
    if before is not None and "concurrency_groups" in given:
        raise ValueError(
            "Setting 'concurrency_groups' is not supported in '.options()': the methods are in "
            "groups already. Give it to @remote(concurrency_groups=...)."
        )
    if given.get("object_store_memory") is not None:
        warn(
            "'object_store_memory' of actors is deprecated: it reserves nothing.",
            DeprecationWarning,
        )
    found = {**(before or {}), **given}
    if found.get("get_if_exists") and not found.get("name"):
        raise ValueError("The actor name must be specified to use `get_if_exists`.")
    return found


def actor_with_defaults(options: dict[str, Any], *, asynchronous: bool) -> dict[str, Any]:
    """Every option of an actor: as given, or what it is by default.

    Raises:
        ValueError: calls are to run in order, and several at once.
    """
    full = {name: option.default for name, option in ACTOR_OPTIONS.items()} | options
    for name in ("max_restarts", "max_task_retries", "max_pending_calls"):
        if full[name] is None:
            full[name] = ACTOR_OPTIONS[name].default
    if full["max_concurrency"] is None:
        full["max_concurrency"] = DEFAULT_ASYNC_CONCURRENCY if asynchronous else 1
    at_once = asynchronous or full["max_concurrency"] > 1
    if full["allow_out_of_order_execution"] is None:
        full["allow_out_of_order_execution"] = at_once
    elif at_once and not full["allow_out_of_order_execution"]:
        kind = "async" if asynchronous else "multi-threaded"
        raise ValueError(
            f"If you're using {kind} actors, calls can't be executed in order. "
            "Set `allow_out_of_order_execution=True` to allow out-of-order execution."
        )
    return full


# -- methods ---------------------------------------------------------------------------------

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


def option_attribute(name: str) -> str:
    """Where `@method` notes an option at the function."""
    return f"__ray_{name.lstrip('_')}__"


#: What `.options(...)` of an actor's method takes.
CALL_OPTIONS: dict[str, Option] = {
    **{name: option for name, option in METHOD_OPTIONS.items() if name != "_num_objects_per_yield"},
    "name": _string(),
    "_labels": TASK_OPTIONS["_labels"],
}


def call_options(given: dict[str, Any], *, generator: bool) -> dict[str, Any]:
    """The options of `.options(...)` of a method, validated.

    Raises:
        TypeError, ValueError: an option is wrong, or unknown.
    """
    for name, value in given.items():
        if name not in CALL_OPTIONS:
            raise ValueError(
                f"Invalid option keyword {name} for methods of actors. "
                f"Valid ones are {', '.join(CALL_OPTIONS)}."
            )
        CALL_OPTIONS[name].validate(name, value)
    check_generator(given.get("num_returns"), generator)
    return given


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


# -- options as keys -------------------------------------------------------------------------


def options_key(options: dict[str, Any]) -> Any:
    """Options as a key; None if what they name may change without them."""
    env = options.get("runtime_env")
    if env and env.keys() - {"env_vars"}:
        return None
    return tuple((name, _hashable(value)) for name, value in options.items())


def _hashable(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple(sorted((key, repr(item)) for key, item in value.items()))
    return tuple(map(_hashable, value)) if isinstance(value, (list, tuple)) else value
