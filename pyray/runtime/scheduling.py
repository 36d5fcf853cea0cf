"""Scheduling strategies, with the names of `ray.util.scheduling_strategies`.

A session has one node, so a strategy says whether a task may run here, never where.
May import nothing of pyray.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "NodeAffinitySchedulingStrategy",
    "NodeLabelSchedulingStrategy",
    "PlacementGroupSchedulingStrategy",
]

#: Strategies that are named by a string.
NAMES = ("DEFAULT", "SPREAD")


class NodeAffinitySchedulingStrategy:
    """Run on the node with this id; with `soft`, on another if there is no such node."""

    def __init__(
        self,
        node_id: str,
        soft: bool,
        _spill_on_unavailable: bool = False,
        _fail_on_unavailable: bool = False,
    ) -> None:
        text = node_id if isinstance(node_id, str) else node_id.hex()
        if not text or not _is_hex(text):
            raise ValueError(
                f"Invalid node_id {text!r}. A node id is a hex string: nodes() lists them."
            )
        if _spill_on_unavailable and not soft:
            raise ValueError("_spill_on_unavailable needs soft=True.")
        if _fail_on_unavailable and soft:
            raise ValueError("_fail_on_unavailable needs soft=False.")
        self.node_id = text
        self.soft = soft
        self._spill_on_unavailable = _spill_on_unavailable
        self._fail_on_unavailable = _fail_on_unavailable


class PlacementGroupSchedulingStrategy:
    """Run with the resources of a placement group."""

    def __init__(
        self,
        placement_group: Any,
        placement_group_bundle_index: int = -1,
        placement_group_capture_child_tasks: bool | None = None,
    ) -> None:
        self.placement_group = placement_group
        self.placement_group_bundle_index = placement_group_bundle_index
        self.placement_group_capture_child_tasks = placement_group_capture_child_tasks


class NodeLabelSchedulingStrategy:
    """Run on a node with these labels: `hard` ones must match, `soft` ones are preferred."""

    def __init__(self, hard: dict[str, Any], *, soft: dict[str, Any] | None = None) -> None:
        if not isinstance(hard, dict) or not isinstance(soft, (dict, type(None))):
            raise ValueError("hard and soft must be dicts of label names and expressions.")
        self.hard = hard
        self.soft = soft or {}


def _is_hex(text: str) -> bool:
    try:
        return bool(bytes.fromhex(text))
    except ValueError:
        return False
