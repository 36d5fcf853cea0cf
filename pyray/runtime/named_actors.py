"""Actors by name: what `get_actor`, `kill` and `list_named_actors` do.

A name is unique in its namespace, and belongs to the actor from `.remote()` until the actor is
dead. May import the core, `actor_handle`, `connection`, `options`.
"""

from __future__ import annotations

from _blake2 import blake2b  # hashlib's, without OpenSSL

from . import _core, connection
from .actor_handle import ActorHandle, check_session, description
from .options import namespace_problem

TYPE_CHECKING = False  # typing's, without the import
if TYPE_CHECKING:
    from typing import Any

__all__ = ["find", "get_actor", "key_of", "kill", "list_named_actors"]


def key_of(name: str, namespace: str | None) -> bytes:
    """What a named actor is found by; None is the namespace of this program."""
    text = f"{namespace or own_namespace()}\0{name}"
    return blake2b(text.encode(), digest_size=24).digest()


def own_namespace() -> str:
    """Where this program's actors are found if it does not say otherwise."""
    return str(connection.info()["namespace"])


def find(name: str, namespace: str | None) -> ActorHandle[Any] | None:
    """The live actor of that name, or None."""
    key = key_of(name, namespace)
    if connection.local is not None:
        ref = connection.local.find_actor(key)
    else:
        ref = _core.find_actor(key)
    return None if ref is None else ActorHandle(ref)


def get_actor(name: str, namespace: str | None = None) -> ActorHandle[Any]:
    """A handle of the actor that was made with `Class.options(name=...).remote()`.

    It counts as any handle does: the actor lives as long as there is one.

    Args:
        name: The name of the actor.
        namespace: Where to look; by default in the namespace of this program, see `init`.

    Raises:
        ValueError: there is no live actor of that name.
        TypeError: a name is not a string.
    """
    if not name:
        raise ValueError("Please supply a non-empty value to get_actor")
    check_names(name, namespace)
    connection.ensure()
    found = find(name, namespace)
    if found is None:
        raise ValueError(
            f"Failed to look up actor with name '{name}'. This could because 1. You are trying to "
            "look up a named actor you didn't create. 2. The named actor died. 3. You did not use "
            "a namespace matching the namespace of the actor: this program's is "
            f"'{own_namespace()}'."
        )
    return found


def check_names(name: Any, namespace: Any) -> None:
    """Raise TypeError or ValueError unless these can be a name, and a namespace or None."""
    if not isinstance(name, str):
        raise TypeError(f"name must be None or a string, got: '{type(name)}'.")
    if namespace is not None and not isinstance(namespace, str):
        raise TypeError("namespace must be None or a string.")
    problem = namespace_problem("namespace", namespace)
    if problem:
        raise ValueError(problem)


def kill(actor: ActorHandle[Any], *, no_restart: bool = True) -> None:
    """End an actor at once: its process is killed, calls that run or wait fail.

    `actor.__ray_terminate__.remote()` ends it when the calls before that are done.

    Args:
        actor: A handle.
        no_restart: Whether it stays dead; False: it is restarted, if it has restarts left.

    Raises:
        ValueError: it is not a handle, or one of a session that has ended.
    """
    if not isinstance(actor, ActorHandle):
        raise ValueError(
            f"kill() only supported for actors. For tasks, try cancel(). Got: {type(actor)}."
        )
    check_session(actor._ray_session)
    if not isinstance(no_restart, bool):
        raise TypeError(f"no_restart must be True or False, got {no_restart!r}.")
    if connection.local is not None:
        connection.local.kill_actor(actor._ray_actor_id, no_restart)
    else:
        _core.kill_actor(actor._ray_actor_id, no_restart)


def list_named_actors(all_namespaces: bool = False) -> list[Any]:
    """The names of the live actors that have one.

    Args:
        all_namespaces: Whether to list those of other namespaces as well, each as
            `{"name": ..., "namespace": ...}`.
    """
    connection.ensure()
    local = connection.local
    refs = _core.list_actors() if local is None else local.live_actors()
    found = [(name, namespace) for _, name, namespace in map(description, refs) if name]
    if all_namespaces:
        return [{"name": name, "namespace": namespace} for name, namespace in found]
    own = own_namespace()
    return [name for name, namespace in found if namespace == own]
