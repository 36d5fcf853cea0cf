"""Actors for those who know one by its reference or its name: find, list, kill, look at them."""

from libc.stdint cimport uint8_t, uint32_t

from pyray.runtime._object cimport new_ref, open_session, slot_of
from pyray.store._session cimport *

import os
import signal


cdef uint32_t actor_of(Session session, object ref) except 0:
    cdef uint32_t actor = pr_actor_of(&session.s, slot_of(ref))
    if not actor:
        raise ValueError(f"{ref!r} is a reference to an object, not to an actor")
    return actor


def find_actor(bytes key):
    """A reference to the live actor whose name has that key of 24 bytes, or None."""
    cdef Session session = open_session()
    if len(key) != 24:
        raise ValueError(f"a key has 24 bytes, not {len(key)}")
    cdef PrHandle found = pr_actor_find(&session.s, <const uint8_t *> <const char *> key)
    return new_ref(found) if found else None


def list_actors():
    """References to all actors that live and that somebody refers to."""
    cdef Session session = open_session()
    cdef uint32_t used = session.s.control.actors.used, i
    cdef PrHandle found
    result = []
    for i in range(1, used):
        found = pr_actor_hold(&session.s, i)
        if found:
            result.append(new_ref(found))
    return result


def actor_state(ref):
    """PENDING until a process makes it, ALIVE, RESTARTING or DEAD."""
    cdef Session session = open_session()
    cdef PrActor *a = &session.s.actors[actor_of(session, ref)]
    cdef PrTask *t = &session.s.tasks[pr_slot(a.creation)]
    if pr_state(a.state) != PR_ACTOR_LIVE:
        return "DEAD"
    if pr_state(t.state) == PR_TASK_RUNNING:
        return "ALIVE"
    return "RESTARTING" if t.attempt else "PENDING"


def kill_actor(ref, bint no_restart=True):
    """End an actor's process at once. With no_restart its calls fail from now on, else it is made
    anew if it has restarts left."""
    cdef Session session = open_session()
    cdef PrHandle actor = pr_actor_handle(&session.s, actor_of(session, ref))
    cdef uint32_t worker = pr_actor_kill(&session.s, actor, not no_restart)
    if worker:
        try:
            os.kill(session.s.processes[worker].pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it is dead, and will be found so
