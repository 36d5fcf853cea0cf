"""The text of `pyray memory`: references to objects as a table, and how full the store is.

Words and options are those of `ray memory`. Imports nothing else of pyray.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: Bytes a unit.
UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
#: What references are sorted by, and are put together by: keys of a reference.
SORTED = {"PID": "pid", "OBJECT_SIZE": "object_size", "REFERENCE_TYPE": "reference_type"}
GROUPED = {"NODE_ADDRESS": "ip", "STACK_TRACE": "call_site"}

_KINDS = {
    "Local References": "LOCAL_REFERENCE",
    "Pinned": "PINNED_IN_MEMORY",
    "Used by task": "USED_BY_PENDING_TASK",
    "Captured in Objects": "CAPTURED_IN_OBJECT",
    "Actor Handles": "ACTOR_HANDLE",
}
_COLUMNS = (
    "IP Address",
    "PID",
    "Type",
    "Call Site",
    "Status",
    "Attempt",
    "Size",
    "Reference Type",
    "Object Ref",
    "Held By",
)


def memory_summary(
    references: list[dict[str, Any]],
    stats: dict[str, int],
    group_by: str = "NODE_ADDRESS",
    sort_by: str = "OBJECT_SIZE",
    units: str = "B",
    num_entries: int | None = None,
    aligned: bool = True,
) -> str:
    """The references (of runtime.references) of each group, ascending, and the state of the store.

    `num_entries`: of how many in a group the table tells; None: of all.
    """
    by, of = GROUPED[group_by], SORTED[sort_by]
    name = group_by.lower().replace("_", " ")
    groups: dict[str, list[dict[str, Any]]] = {}
    for one in sorted(references, key=lambda one: (one[of], one["object_id"])):
        groups.setdefault(one[by], []).append(one)
    parts = [
        f"Grouping by {name}...        Sorting by {sort_by.lower().replace('_', ' ')}...        "
        f"Display {'all' if num_entries is None else num_entries} entries per group...\n\n"
    ]
    for key, group in groups.items():
        parts += [
            f"--- Summary for {name}: {key} ---",
            _table(_totals(group, units), aligned),
            f"\n--- Object references for {name}: {key} ---",
            _table([_COLUMNS, *(_row(one, units) for one in group[:num_entries])], aligned),
            "",
        ]
    if all(one["call_site"] == "disabled" for one in references):
        parts.append(
            "To record callsite information for each ObjectRef created, set env variable "
            "PYRAY_record_ref_creation_sites=1\n"
        )
    return "\n".join([*parts, store_summary(stats)])


def store_summary(stats: dict[str, int]) -> str:
    """How full the object store is, from `Session.stats()`."""
    used, capacity = stats["used"], stats["capacity"]
    return (
        "--- Aggregate object store stats across all nodes ---\n"
        f"Plasma memory usage {used >> 20} MiB, {stats['objects']} objects, "
        f"{round(100 * used / capacity, 2)}% full"
    )


def _totals(group: list[dict[str, Any]], units: str) -> list[tuple[str, ...]]:
    """Of all objects, each counted once, and of the references of each kind."""
    values = [_size({one["object_id"]: one["object_size"] for one in group}.values(), units)]
    for kind in _KINDS.values():
        sizes = [one["object_size"] for one in group if one["reference_type"] == kind]
        values.append(f"{len(sizes)}, ({_size(sizes, units)})")
    return [("Mem Used by Objects", *_KINDS), tuple(values)]


def _row(one: dict[str, Any], units: str) -> tuple[str, ...]:
    return (
        one["ip"],
        str(one["pid"] or "-"),
        one["type"].capitalize() or "-",
        one["call_site"],
        "-" if one["task_status"] == "NIL" else one["task_status"],
        str(one["attempt_number"]),
        _size([one["object_size"]], units) if one["state"] in ("SEALED", "FAILED") else "?",
        one["reference_type"],
        one["object_id"],
        one["held_by"],
    )


def _size(sizes: Iterable[int], units: str) -> str:
    return f"{sum(sizes) / UNITS[units]:.12g} {units}"


def _table(rows: list[tuple[str, ...]], aligned: bool) -> str:
    if not aligned:
        return "\n".join(" | ".join(row) for row in rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join(lines)
