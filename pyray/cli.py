"""The command `pyray`: sessions that no program has to keep alive.

    pyray start --head [--num-cpus 4 ...]    a session that programs join by init()
    pyray status                             what it has, and what it does
    pyray memory                             its objects, and what keeps them
    pyray stop                               its end

Names and meanings are those of `ray`. Imports the runtime; nothing depends on this.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import Any

from .memory_summary import GROUPED, SORTED, UNITS, memory_summary, store_summary

#: Seconds that a session may take to end.
PATIENCE = 10.0


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the status to exit with."""
    given = _parser().parse_args(arguments)
    try:
        status: int = given.run(given)
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        print(f"pyray {given.command}: {error}", file=sys.stderr)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyray", description="Sessions that programs join with init()."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    add = commands.add_parser("start", help="start a session that lives without a program")
    add.set_defaults(run=start)
    add.add_argument("--head", action="store_true", help="must be given, as with ray")
    add.add_argument("--num-cpus", type=int, help="CPUs that tasks can reserve")
    add.add_argument("--num-gpus", type=int, help="GPUs that tasks can reserve")
    add.add_argument("--memory", type=int, help="bytes of memory that tasks can reserve")
    add.add_argument("--resources", type=_json, help="other resources: a JSON dict of amounts")
    add.add_argument("--labels", type=_labels, help="labels of the node: key=value,key=value")
    add.add_argument("--object-store-memory", type=int, help="bytes of the object store")
    add.add_argument("--system-config", type=_json, help="a JSON dict, as init(_system_config=)")
    add.add_argument("--block", action="store_true", help="stay until the session ends")
    add.add_argument("--disable-usage-stats", action="store_true", help="accepted: there are none")
    status = commands.add_parser("status", help="show resources, drivers, actors and tasks")
    status.set_defaults(run=show_status)
    status.add_argument("--address", help="of the session, as in init(); by default the latest one")
    memory = commands.add_parser("memory", help="show references to objects, and what keeps them")
    memory.set_defaults(run=show_memory)
    memory.add_argument("--address", help="of the session, as in init(); by default the latest one")
    memory.add_argument("--group-by", choices=GROUPED, default="NODE_ADDRESS")
    memory.add_argument("--sort-by", choices=SORTED, default="OBJECT_SIZE", help="ascending")
    memory.add_argument("--units", choices=UNITS, default="B", help="of the sizes of objects")
    memory.add_argument("--no-format", action="store_true", help="columns are not aligned")
    memory.add_argument("--stats-only", action="store_true", help="how full the store is, no more")
    memory.add_argument("--num-entries", "--n", type=int, help="references shown of each group")
    end = commands.add_parser("stop", help="end the sessions of this user that `start` has started")
    end.set_defaults(run=stop)
    end.add_argument("--force", action="store_true", help="kill them")
    end.add_argument("--grace-period", type=float, default=PATIENCE, help="seconds to wait")
    for command in (add, status, memory, end):
        command.add_argument("--temp-dir", help="the directory of sessions, as init(_temp_dir=)")
    return parser


def _json(text: str) -> dict[str, float]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not a dict: '{{\"name\": 1}}' is one")
    return found


def _labels(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",") if part]
    if not all(name and sign for name, sign, _ in pairs):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form key=value,key=value")
    return {name: value for name, _, value in pairs}


# -- start -----------------------------------------------------------------------------------


def start(given: argparse.Namespace) -> int:
    from pyray.runtime import head, resources, session
    from pyray.runtime.start import check_labels

    if not given.head:
        raise ValueError("a session is on one machine: only `pyray start --head` starts one")
    check_labels(given.labels or {})
    size = resources.object_store_bytes(given.object_store_memory)
    total = resources.node_resources(
        given.num_cpus, given.num_gpus, given.resources, given.memory, size
    )
    options = session.Options(
        resources=total,
        object_store_memory=size,
        log_to_driver=False,
        temp_dir=given.temp_dir,
        system_config=given.system_config,
        spilling=[""],
    )
    directory, node = head.start(options, given.labels or {})
    place = f", _temp_dir={given.temp_dir!r}" if given.temp_dir else ""
    print(
        f"Session {os.path.basename(directory)} has started.\n\n"
        "To use it, from any program of yours on this machine:\n"
        "  import pyray as ray\n"
        f"  ray.init(address='auto'{place})\n\n"
        "To look at it, and to end it:\n"
        "  pyray status\n"
        "  pyray stop",
        flush=True,
    )
    if given.block:
        _stay(directory, node)
    return 0


def _stay(directory: str, node: int) -> None:
    """Until the session ends; Ctrl-C ends it."""
    from pyray.runtime import head

    try:
        os.waitpid(node, 0)
    except KeyboardInterrupt:
        head.stop(directory, False, PATIENCE)


# -- stop ------------------------------------------------------------------------------------


def stop(given: argparse.Namespace) -> int:
    from pyray.runtime import head

    found = head.heads(given.temp_dir)
    if not found:
        print("Did not find any active session.")
        return 0
    left = [path for path in found if not head.stop(path, given.force, given.grace_period)]
    print(f"Stopped {len(found) - len(left)} of {len(found)} sessions.")
    for path in left:
        print(f"{path} has not ended: `pyray stop --force` kills it.", file=sys.stderr)
    return 1 if left else 0


# -- status ----------------------------------------------------------------------------------


def show_status(given: argparse.Namespace) -> int:
    from pyray.runtime import head

    print(status_text(head.look(_sessions(given)), time.localtime()))
    return 0


def _sessions(given: argparse.Namespace) -> list[str]:
    """The directories of those that are meant, of which the first that answers counts."""
    from pyray.runtime import addresses

    found = addresses.resolve(given.address or "auto", given.temp_dir)
    if found is None:
        raise addresses.no_session()
    return found


def status_text(state: dict[str, Any], now: time.struct_time) -> str:
    """The state of a session, as `ray status` shows that of a cluster."""
    header = f"======== Session status: {time.strftime('%Y-%m-%d %H:%M:%S', now)} ========"
    line = "-" * len(header)
    busy = sum(worker != "idle" for worker in state["workers"])
    drivers = [f" {job} (pid {pid})" for job, pid in state["drivers"]] or [" (no drivers)"]
    actors = state["actors"]
    return "\n".join(
        [
            header,
            f"{state['directory']}",
            "",
            "Node status",
            line,
            "Active:",
            f" 1 node_{state['node_id']} (pid {state['node']})",
            "Workers:",
            f" {len(state['workers'])} processes, {busy} with a task or an actor",
            "Drivers:",
            *drivers,
            "Actors:",
            f" {actors['ALIVE']} alive, {actors['PENDING']} pending",
            "",
            "Resources",
            line,
            "Total Usage:",
            *_usage(state),
            "Pending Demands:",
            *([_demand(*demand) for demand in state["demands"]] or [" (no resource demands)"]),
        ]
    )


def _usage(state: dict[str, Any]) -> list[str]:
    lines = []
    for name, total in sorted(state["total"].items()):
        used = total - state["available"].get(name, 0.0)
        if name == "object_store_memory":
            used = state["store"]
        if name.startswith("node:"):
            continue
        if name.endswith("memory"):
            lines.append(f" {_bytes(used)}/{_bytes(total)} {name}")
        else:
            lines.append(f" {used:.4g}/{total:.4g} {name}")
    return lines


def _bytes(amount: float) -> str:
    units = ["B", "KiB", "MiB", "GiB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        del units[0]
    return f"{amount:.0f}B" if units[0] == "B" else f"{amount:.2f}{units[0]}"


def _demand(wanted: dict[str, float], count: int) -> str:
    return f" {wanted}: {count} pending tasks or actors"


# -- memory ----------------------------------------------------------------------------------


def show_memory(given: argparse.Namespace) -> int:
    from pyray.runtime import head
    from pyray.runtime.references import references

    def look(core: Any, _: Any) -> tuple[list[dict[str, Any]], dict[str, int]]:
        return [] if given.stats_only else references(core), core.stats()

    listed, stats = head.visit(_sessions(given), look)
    print(f"======== Object references status: {time.strftime('%Y-%m-%d %H:%M:%S')} ========")
    if given.stats_only:
        print(store_summary(stats))
        return 0
    how = given.group_by, given.sort_by, given.units, given.num_entries, not given.no_format
    print(memory_summary(listed, stats, *how))
    return 0
