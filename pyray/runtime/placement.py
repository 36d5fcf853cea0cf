"""Where tasks and actors run, and in what environment: what a session has one number for.

A session has one node, so a strategy or a label says whether something may run, never where. May
import `resources`, `runtime_env`, `scheduling`, `connection`.
"""

from __future__ import annotations

from . import connection, resources, runtime_env, scheduling

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from typing import Any

__all__ = ["shape"]


def shape(
    session: Any, options: dict[str, Any], demand: dict[str, float], refused: type[Exception]
) -> int:
    """The number of this demand in the environment of these options (all of them).

    What this node cannot be is asked for as a resource, too.

    Raises:
        refused: the options ask for another node, and for no other.
    """
    strategy = options["scheduling_strategy"]
    info = connection.info()
    hard = isinstance(strategy, scheduling.NodeAffinitySchedulingStrategy) and not strategy.soft
    if hard and strategy.node_id != info["node_id"]:
        raise refused(
            f"there is no node {strategy.node_id}, and soft=False. The node of this session is "
            f"{info['node_id']}."
        )
    selectors = [options["label_selector"]]
    selectors += [item.get("label_selector") for item in options["fallback_strategy"] or ()]
    if not any(resources.matches(selector, info["labels"]) for selector in selectors):
        demand = {**demand, _no_such_node(selectors[0]): 1.0}
    number: int = session.shape(demand, _environment(session, options))
    return number


def _no_such_node(selector: dict[str, str]) -> str:
    """A resource that no node has, named after what was asked for; names are short in the core."""
    text = ",".join(f"{key}={value}" for key, value in selector.items())
    return f"label:{text}".encode()[: resources.NAME_BYTES].decode(errors="ignore")


def _environment(session: Any, options: dict[str, Any]) -> int:
    """The id of the runtime environment."""
    env = options["runtime_env"]
    base = runtime_env.current()
    if env:
        text = runtime_env.normalize(runtime_env.merge(base, env), connection.info()["directory"])
    else:
        text = base
    return 0 if text == runtime_env.EMPTY else session.publish_env(text)
