"""Ray's `ray.util` names that concern serialization. May import `pyray.serialization` only."""

from __future__ import annotations

from ..serialization.inspect import inspect_serializability
from ..serialization.registry import deregister_serializer, register_serializer

__all__ = ["deregister_serializer", "inspect_serializability", "register_serializer"]
