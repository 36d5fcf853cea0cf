"""What the benchmarks of each area share: where peers live, what was measured, the page."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class PeerError(Exception):
    """A peer cannot do what was asked, or is not there."""


def peers_folder() -> Path:
    return Path(os.environ.get("PYRAY_PEERS") or Path.home() / ".cache" / "pyray-peers")


def interpreter(environment: str) -> str:
    if environment == "project":
        return sys.executable
    python = peers_folder() / environment / "bin" / "python"
    if not python.exists():
        raise PeerError(f"no environment; `sh benchmarks/peers.sh {environment}` makes it")
    return str(python)


def machine() -> dict:
    cpu = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 2**30, 1),
        "system": platform.platform(),
    }


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def commit() -> str:
    """The commit measured; marked when the measured sources differ from it."""
    changed = git("status", "--porcelain", "--untracked-files=no", "--", "pyray", "csrc")
    return git("rev-parse", "--short=12", "HEAD") + (" with changes" if changed else "")


def write_between(path: Path, begin: str, end: str, body: str, heading: str = "") -> None:
    """Put a text between the markers of a page; at its end, under a heading, if it has none."""
    text = path.read_text() if path.exists() else "# Benchmarks\n"
    if begin not in text:
        text = f"{text.rstrip()}\n\n{heading}{begin}\n{end}\n"
    before, rest = text.split(begin, 1)
    after = rest.split(end, 1)[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{before}{begin}\n{body}{end}{after}")
