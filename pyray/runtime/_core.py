"""What the compiled modules of the runtime offer to its Python ones."""

from pyray.runtime._object import (
    ObjectRef,
    check_unique,
    get,
    get_checked,
    get_session,
    news,
    publish,
    put,
    ready,
    session_number,
    set_session,
    store,
    wait,
    wait_for_news,
)
from pyray.runtime._task import Call, ObjectRefGenerator, Submitter, cancel
from pyray.runtime._worker import (
    cancel_requested,
    current_function,
    current_task,
    own_function,
    run_worker,
    task_errors,
)
from pyray.store._session import Session

__all__ = [
    "Call",
    "ObjectRef",
    "ObjectRefGenerator",
    "Session",
    "Submitter",
    "cancel",
    "cancel_requested",
    "check_unique",
    "current_function",
    "current_task",
    "get",
    "get_checked",
    "get_session",
    "news",
    "own_function",
    "publish",
    "put",
    "ready",
    "run_worker",
    "session_number",
    "set_session",
    "store",
    "task_errors",
    "wait",
    "wait_for_news",
]
