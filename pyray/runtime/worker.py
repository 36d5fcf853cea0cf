"""A worker process, from its fork to its end: what it is to the system, and what runs its tasks.

Imports the core, output, preload, settings and standard_streams; exceptions, runtime_env and the
serializer when they are needed (the node has imported what most tasks need before it forked).
design.md, section 4.

A worker dies with the node (PR_SET_PDEATHSIG). It may be killed at any instant: what it held in
shared memory is recovered by the node, its pipes are read to their end, and processes that its
tasks started are killed with it unless they left its process group.
"""

from __future__ import annotations

import atexit
import faulthandler
import mmap
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from . import _core, _process, blas, preload, standard_streams
from .output import of_job
from .settings import number

#: Descriptors that the node inherited and its workers use too.
CONTROL, ARENA, WAKE = range(3, 6)
#: The node's word that the session ends: the task that runs is ended by SystemExit. Not SIGTERM,
#: which keeps its default: a process that a task forks, and ends at once, would lose it, since
#: Python drops signals with a handler of its own that come before the hooks of fork have run.
END = signal.SIGRTMIN + 1


class Start(NamedTuple):
    """What the node gives to a worker that it has forked."""

    node: int  # pid
    env: int  # id of the runtime environment; 0: the default
    out: int  # pipes
    err: int
    wishes: int  # where it says what it had to import: preload.py
    open_files: int  # the limit before the node raised its own
    ready: mmap.mmap  # shared with the node
    place: int  # where in it this worker notes that it can run tasks


def main(start: Start, inherited: object) -> NoReturn:
    """Run tasks until there is a reason to leave.

    What is inherited from the node is not used here; it must not be finalized in this process.
    """
    status = 1
    finished = None
    try:
        _settle(start)
        session = _core.Session.attach(CONTROL, ARENA, WAKE, "worker", start.env)
        _core.set_session(session)
        hooks = Hooks(start)
        os.register_at_fork(after_in_child=lambda: _forget(session))
        start.ready[start.place] = 1
        if _core.run_worker(session, hooks):
            finished = session
        status = 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    _leave(finished, status)


def _settle(start: Start) -> None:
    """Make a copy of the node into a process of its own."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, _on_interrupt)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(END, _on_end)
    os.setpgid(0, 0)
    _process.die_with_parent(signal.SIGKILL)
    if os.getppid() != start.node:
        os._exit(1)  # the node died before the line above
    _process.set_name(b"ray::worker")
    _end_first()
    _close_all_but(0, 1, 2, CONTROL, ARENA, WAKE, start.out, start.err, start.wishes)
    standard_streams.redirect(start.out, start.err, _task_name)
    faulthandler.enable(2, all_threads=False)
    _limit_open_files(start.open_files)
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()  # else all workers draw the same numbers


def _end_first() -> None:
    """If the memory is full before the node has seen to it, the system ends workers, not others."""
    try:
        with open("/proc/self/oom_score_adj", "r+") as file:
            before = int(file.read())
            file.write(str(min(1000, before + int(number("worker_oom_score_adjustment", 1000)))))
    except OSError:
        pass  # a system without that file, or one that does not let us: it ends whom it likes


def _leave(session: Any, status: int) -> NoReturn:
    """End as a program does that comes to its end, without taking the interpreter apart.

    Without a session to close: a task may still be under way, which the node shall find.
    """
    try:
        signal.signal(END, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        atexit._run_exitfuncs()
        standard_streams.flush()
        if session is not None:
            session.close()
    finally:
        os._exit(status)


def _close_all_but(*kept: int) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:
                pass  # it was that of the listing itself


def _limit_open_files(soft: int) -> None:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _task_name() -> str:
    task = _core.current_task()
    if not task:
        return ""
    return of_job(task.get("actor_title") or task["name"], _core.current_job())


def _actor() -> tuple[str, str] | None:
    """What the actor of this process is shown as, and its id."""
    task = _core.current_task()
    return (task["actor_title"], task["actor_id"]) if task and "actor_id" in task else None


def _on_interrupt(number: int, frame: Any) -> None:
    """cancel() sends SIGINT to a worker that runs the task; it may come when it has just ended."""
    if _core.cancel_requested():
        raise KeyboardInterrupt


def _on_end(number: int, frame: Any) -> None:
    """The session ends."""
    raise SystemExit(128 + number)


def _forget(session: Any) -> None:
    """In a process that a task has forked: the session is not its own, and signals are as usual."""
    session.dead = True
    _core.set_session(None)
    signal.signal(END, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Hooks:
    """What the loop of the core asks Python for."""

    def __init__(self, start: Start) -> None:
        from . import resources

        # A runtime environment may have modules of its own in the place of others.
        self._imports = None if start.env else preload.Imports(start.wishes)
        self._environment = resources.TaskEnvironment()
        set_threads()

    def load(self, session: Any, handle: int, blob: Any) -> tuple[Any, Any]:
        """The function of a blob, and its options."""
        from . import functions

        try:
            return functions.load(session, handle, blob)
        finally:
            if self._imports is not None:
                self._imports.tell()

    def failure(self, error: BaseException, name: str) -> object:
        """What is stored as the result of a task that raised."""
        from . import error_log, exceptions

        failure = exceptions.task_failure(error, name, _actor())
        error_log.note(failure, name)
        return failure

    def actor_failure(self, error: BaseException, name: str) -> object:
        """What an actor whose constructor raised died of, which all its calls raise."""
        from . import error_log, exceptions

        failure = exceptions.actor_failure(error, f"{name}.__init__", _actor())
        error_log.note(failure, name)
        return failure

    def concurrent(self, options: Any) -> Callable[[_core.Actor], None] | None:
        """What runs the calls of an actor with these options; None: the core, one by one."""
        if options is None:  # its class could not be loaded, which it will find out
            return None
        if options.get("asynchronous"):
            from .actor_loop import serve
        elif options.get("max_concurrency", 1) > 1 or options.get("concurrency_groups"):
            from .actor_threads import serve
        else:
            return None
        return serve

    def is_cancellation(self, error: BaseException) -> bool:
        """Whether a method that raised this has been interrupted by cancel()."""
        if isinstance(error, KeyboardInterrupt):
            return True
        asyncio = sys.modules.get("asyncio")
        return asyncio is not None and isinstance(error, asyncio.CancelledError)

    def retry(self, error: BaseException, options: Any) -> bool:
        """Whether a task that raised this is to be tried again, if it has tries left."""
        from . import functions

        return functions.retries(error, options)

    def before(self, task: dict[str, Any]) -> None:
        """Ahead of a task with GPUs, or with other CPUs than the last."""
        self._environment.before(task)
        set_threads()

    def after(self, task: dict[str, Any]) -> None:
        """Once that task is done."""
        self._environment.after(task)

    def end_fork(self, name: str, error: BaseException | None) -> NoReturn:
        """A process that the task has forked comes back from the task's function: it ends here.

        The task, its worker and its results are the parent's.
        """
        status = 1
        try:
            if isinstance(error, SystemExit):
                status = error.code if isinstance(error.code, int) else int(bool(error.code))
            else:
                print(
                    f"Process {os.getpid()}, forked by the task {name}, has come back from the"
                    " task's function, and is ended: only the worker itself can give the task's"
                    " result. End such a process with os._exit().",
                    file=sys.stderr,
                )
                if error is not None:
                    sys.excepthook(type(error), error, error.__traceback__)
            standard_streams.flush()
        finally:
            os._exit(status)

    def setup_env(self, text: bytes) -> None:
        """Ahead of the first task of a worker with a runtime environment of its own."""
        from . import runtime_env

        runtime_env.setup(text)
        set_threads()


def set_threads() -> None:
    """Give linear algebra the threads that the environment says, though it was loaded before."""
    if "numpy" in sys.modules:
        text = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or "1"
        blas.set_threads(max(1, int(text)) if text.isdigit() else 1)
