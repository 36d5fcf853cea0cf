"""What workers have printed, on the driver's streams.

Imports output and settings.
"""

from __future__ import annotations

import os
import sys
import time

from .output import Folding, Format, Source
from .settings import flag

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from typing import Any


class Printer:
    """Lines of workers on the driver's streams, as those are at the moment."""

    def __init__(self) -> None:
        self._format = Format(by_process=flag("COLOR_PREFIX"))
        self._foldings = {
            "stdout": Folding.from_environment(),
            "stderr": Folding.from_environment(),
        }

    def add(self, log: dict[str, Any]) -> None:
        """Lines that the node has sent."""
        kind, source = log["stream"], Source(log["name"], log["pid"])
        self._show(kind, self._foldings[kind].add(source, log["lines"], time.monotonic()))

    def expire(self) -> None:
        for kind, folding in self._foldings.items():
            self._show(kind, folding.expire(time.monotonic()))

    def flush(self) -> None:
        for kind, folding in self._foldings.items():
            self._show(kind, folding.flush())

    def milliseconds(self) -> float | None:
        """How long nothing has to be shown that is held back."""
        ends = [f.deadline() for f in self._foldings.values()]
        end = min((e for e in ends if e is not None), default=None)
        return None if end is None else max(0.0, (end - time.monotonic()) * 1000) + 1

    def _show(self, kind: str, shown: list[tuple[Source, str, int]]) -> None:
        if not shown:
            return
        stream = getattr(sys, kind)
        try:
            coloured = not os.environ.get("NO_COLOR") and stream.isatty()
            stream.write(self._format.text(shown, coloured))
            stream.flush()
        except Exception:
            pass  # None, closed, or nobody reads it: there is no place to say so
