"""Ray's `ray.internal`: `free`."""

from __future__ import annotations

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from typing import Any

__all__ = ["free"]


def free(object_refs: Any, local_only: bool = False) -> None:
    """Give the memory of objects back though they are referred to, and their files.

    What a task has made is computed again when it is needed; of other objects `get` raises
    `ObjectFreedError`. Objects that somebody reads just now stay, as do those of some hundred
    bytes, and what is not ready.

    Args:
        object_refs: A reference, or a list of references.
        local_only: Accepted; there is one machine.

    Raises:
        TypeError: it is something else.
    """
    from .runtime._core import ObjectRef
    from .runtime._lineage import free as free_values

    refs = [object_refs] if isinstance(object_refs, ObjectRef) else object_refs
    if not isinstance(refs, list):
        raise TypeError(f"free() expects a list of ObjectRef, got {type(refs)}")
    for ref in refs:
        if not isinstance(ref, ObjectRef):
            raise TypeError(
                f"Attempting to call `free` on the value {ref}, which is not an ObjectRef."
            )
    if refs:
        free_values(refs)
