"""The exceptions of the runtime, as `ray.exceptions` has them; defined in `runtime.exceptions`."""

from __future__ import annotations

from .runtime.exceptions import *  # noqa: F403
