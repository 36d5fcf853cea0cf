"""What `init` returns: a mapping of addresses, and a context manager that ends the session.

May import `warn`; `api` when the session is to end.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping

from .warn import warn

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from typing import Any

__all__ = ["RayContext"]


class RayContext(Mapping):
    """The session that `init` started; `with init(): ...` ends it at the end of the block."""

    def __init__(self, address_info: dict[str, Any]) -> None:
        from pyray import __version__

        self.address_info = address_info
        self.dashboard_url: str = address_info.get("webui_url") or ""
        self.python_version = ".".join(map(str, sys.version_info[:3]))
        self.ray_version = __version__
        self.ray_commit = ""

    def disconnect(self) -> None:
        """End the session, as `shutdown` does."""
        from .api import shutdown

        shutdown()

    def __enter__(self) -> RayContext:
        return self

    def __exit__(self, *error: object) -> None:
        self.disconnect()

    def __getitem__(self, key: str) -> Any:
        warn(
            f"context[{key!r}] is deprecated: use context.address_info[{key!r}].",
            DeprecationWarning,
        )
        return self.address_info[key]

    def __len__(self) -> int:
        return len(self.address_info)

    def __iter__(self) -> Iterator[str]:
        return iter(self.address_info)

    def __repr__(self) -> str:
        return (
            f"RayContext(dashboard_url={self.dashboard_url!r}, "
            f"python_version={self.python_version!r}, ray_version={self.ray_version!r})"
        )

    def _repr_html_(self) -> str:
        from html import escape

        rows = {
            "Python version": self.python_version,
            "pyray version": self.ray_version,
            "Session": str(self.address_info.get("session_dir") or "local mode"),
        }
        cells = "".join(f"<tr><td>{k}</td><td>{escape(v)}</td></tr>" for k, v in rows.items())
        return f"<table>{cells}</table>"
