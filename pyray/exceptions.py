"""The exceptions of the runtime, as `ray.exceptions` has them; defined in `runtime.exceptions`."""

from __future__ import annotations

from .runtime.exceptions import *  # noqa: F403

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from typing import Any

    def __getattr__(name: str) -> Any: ...  # `__all__` is computed, which mypy cannot follow
