"""Ray's `ray.actor`: the classes that `@remote` makes of classes, and `exit_actor`.

May import the public names of `runtime`.
"""

from __future__ import annotations

from typing import NoReturn

from .runtime.actor_class import ActorClass, ActorClassInheritanceException
from .runtime.actor_handle import ActorHandle, ActorMethod
from .runtime.exceptions import ActorExit
from .runtime.runtime_context import in_actor

__all__ = [
    "ActorClass",
    "ActorClassInheritanceException",
    "ActorHandle",
    "ActorMethod",
    "exit_actor",
]


def exit_actor() -> NoReturn:
    """End the actor whose method calls this; the call, and those that wait, raise ActorDiedError.

    So may those that run beside it, in threads or on the event loop: what they do is cut short.
    Functions that were registered with `atexit` run. The actor is not restarted.

    Raises:
        TypeError: it is called in a task, or in the driver.
    """
    if not in_actor():
        raise TypeError(
            "exit_actor API is called on a non-actor worker. Call this API inside an actor methods "
            "if you'd like to exit the actor gracefully."
        )
    raise ActorExit
