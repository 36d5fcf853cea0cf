"""What the compiled modules of the runtime offer to its Python ones."""

from pyray.runtime._actor import Actor, current_actor
from pyray.runtime._actors import actor_state, find_actor, kill_actor, list_actors
from pyray.runtime._execution import task_errors
from pyray.runtime._object import (
    ObjectRef,
    get,
    get_checked,
    get_session,
    publish,
    put,
    session_number,
    set_session,
    store,
)
from pyray.runtime._task import (
    Call,
    Creation,
    NameTaken,
    ObjectRefGenerator,
    Submitter,
    cancel,
    current_job,
    set_job,
)
from pyray.runtime._vigil import Vigil
from pyray.runtime._wait import check_unique, ready, wait
from pyray.runtime._worker import (
    cancel_requested,
    current_function,
    current_task,
    is_cancelled,
    own_function,
    run_worker,
)
from pyray.store._session import Session

__all__ = [
    "Actor",
    "Call",
    "Creation",
    "NameTaken",
    "ObjectRef",
    "ObjectRefGenerator",
    "Session",
    "Submitter",
    "Vigil",
    "actor_state",
    "cancel",
    "cancel_requested",
    "check_unique",
    "current_actor",
    "current_function",
    "current_job",
    "current_task",
    "find_actor",
    "get",
    "get_checked",
    "get_session",
    "is_cancelled",
    "kill_actor",
    "list_actors",
    "own_function",
    "publish",
    "put",
    "ready",
    "run_worker",
    "session_number",
    "set_job",
    "set_session",
    "store",
    "task_errors",
    "wait",
]
