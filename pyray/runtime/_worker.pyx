"""The loop of a worker: take a task, call its function, seal its results.

A crash at any point leaves the task RUNNING with a dead worker: it is tried again, or its results
fail, by the recovery (csrc/recover.c). A task that creates an actor makes the worker that actor's,
for the rest of its life (_actor.pyx). `hooks` does what is slow or rare (worker.py).
"""

cimport cython
from libc.stdint cimport uint32_t, uint64_t

from pyray.runtime._actor cimport actor_title, call_slot, serve_actor
from pyray.runtime._execution cimport Execution, Function, Label
from pyray.runtime._object cimport end_task, ref_to, set_in_task
from pyray.runtime._task cimport set_parent
from pyray.store._session cimport *

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1

cdef enum:
    CANCELLED = 2

cdef Worker worker = None  # of this process


def current_task():
    """What this process is doing, if it is a worker that runs a task; else None."""
    cdef PrSession *s
    cdef PrTask *t
    cdef PrTask *held  # the task whose resources it has: an actor's is its creation
    cdef uint32_t slot
    cdef Label label
    if worker is None or not worker.task:
        return None
    s = &worker.session.s
    slot = call_slot() or worker.task
    t = &s.tasks[slot]
    held = &s.tasks[worker.task]
    label = worker.label(t.label)
    task = {
        "task_id": f"{pr_handle(t.state, slot):032x}",
        "name": label.name, "method": label.method, "attempt": t.attempt,
        "resources": worker.session.resources_of(held.shape), "gpu_ids": worker.gpu_ids(),
        "parent": f"{t.parent:032x}", "is_creation": (t.flags & PR_TASK_CREATION) != 0}
    if held.flags & PR_TASK_CREATION:
        object_slot = s.actors[held.actor].object
        task["actor_id"] = f"{pr_handle(s.objects[object_slot].state, object_slot):032x}"
        task["actor_restarts"] = held.attempt
        task["actor_title"] = actor_title()
    return task


def current_function():
    """The function of the task that this worker runs; None if it could not be loaded."""
    return worker.function(worker.session.s.tasks[worker.task].function).function


def own_function(uint64_t handle):
    """A reference to the function of the task that this worker runs if that is the object, or None.

    Any other may be gone.
    """
    cdef uint32_t slot
    if worker is None or not worker.task:
        return None
    slot = worker.session.s.tasks[worker.task].function
    return ref_to(worker.session, slot) if worker.handle_of(slot) == handle else None


def cancel_requested():
    """Whether the task that runs shall stop: it will, as it has heard of it now. Once for each
    cancel(), which may send several signals."""
    if worker is None or not worker.task or not worker.in_user_code:
        return False
    if not worker.session.s.tasks[worker.task].state & PR_CANCEL:
        return False
    return pr_heard(&worker.session.s, worker.task) != 0


def is_cancelled():
    """Whether what the caller runs, a task or a call of an actor, was asked to stop."""
    cdef uint32_t slot
    if worker is None or not worker.task:
        return False
    slot = call_slot() or worker.task
    if not worker.session.s.tasks[slot].state & PR_CANCEL:
        return False
    if slot != worker.task:
        pr_heard(&worker.session.s, slot)  # a task of its own hears by a signal
    return True


def run_worker(Session session, hooks):
    """Runs tasks until the worker shall leave: whether none is under way any more."""
    global worker
    worker = Worker.__new__(Worker)
    worker.session = session
    worker.hooks = hooks
    worker.functions, worker.labels = {}, {}
    worker.shape = PR_NO_SHAPE
    set_in_task(True)
    pr_keep_heap(&session.s)
    try:
        worker.run()
        return not worker.runs_still
    finally:
        set_in_task(False)
        pr_worker_rest(&session.s)
        worker = None


@cython.final
cdef class Worker(Execution):
    cdef int run(self) except -1:
        cdef PrSession *s = &self.session.s
        cdef uint32_t task
        cdef PrNap nap
        cdef int status
        if s.self.env:
            self.set_up()
        while not self.leaving:
            task = pr_next_queued(s)
            status = 0 if task else pr_look_for_task(s, &task, &nap)
            if status == PR_ENDED:
                return 0
            if status == 0:
                self.execute(task)
                continue
            # Threads that a task has left behind may use the session meanwhile.
            with nogil:
                status = pr_sleep(s, nap.seen, nap.longest, 1)
            if pr_after_nap(s, status) == PR_INTERRUPTED:
                PyErr_CheckSignals()
        return 0

    cdef int set_up(self) except -1:
        try:
            self.hooks.setup_env(self.session.env(self.session.s.self.env))
        except Exception as error:
            self.env_error = error
        return 0

    # -- one task -------------------------------------------------------------------------------

    cdef int execute(self, uint32_t task) except -1:
        cdef PrSession *s = &self.session.s
        cdef PrTask *t = &s.tasks[task]
        cdef PrHandle handle = pr_handle(t.state, task)
        cdef uint32_t failed = 0
        cdef bint set_up = False
        if self.env_error is not None:
            self.store_failure(task, t, self.env_error, self.env_error)
            return 0
        if t.n_dependencies:
            failed = pr_failed_dependency(s, task)
            if failed:
                pr_fail_task_like(s, task, failed)
                return 0
        if t.state & PR_CANCEL:
            pr_fail_task(s, task, CANCELLED, b"")
            return 0
        self.task = task
        set_parent(handle, t.job)
        try:
            if t.shape != self.shape:
                set_up = self.prepare(t)
            if t.flags & PR_TASK_CREATION:
                set_up = False  # nothing comes after it
                serve_actor(self, task)
                self.leaving = True
            else:
                self.call(task, t)
        finally:
            set_parent(0, 0)
            end_task(self.session)
            if set_up:
                self.hooks.after(current_task())
            self.task = 0
        return 0

    cdef bint prepare(self, PrTask *t) except -1:
        """The environment of tasks with GPUs, or with other CPUs than the last."""
        self.shape = t.shape
        task = current_task()
        self.hooks.before(task)
        if task["gpu_ids"]:
            self.shape = PR_NO_SHAPE  # others the next time
            return True
        return False

    cdef int call(self, uint32_t task, PrTask *t) except -1:
        cdef Function f = self.function(t.function)
        cdef Label label = self.label(t.label)
        cdef object result
        try:
            if f.error is not None:
                raise f.error
            args, kwargs = self.arguments(t)
            self.in_user_code = True
            try:
                if kwargs is None:
                    result = f.function(*args)
                else:
                    result = f.function(*args, **kwargs)
                args = kwargs = None
                if t.flags & PR_TASK_STREAMING:
                    self.stream(task, t, result)
                    result = None
            finally:
                self.in_user_code = False
            if self.session.dead:
                self.hooks.end_fork(label.name, None)
            self.seal(t, result, label.name)
        except BaseException as error:
            if self.session.dead:
                self.hooks.end_fork(label.name, error)
            self.fail(task, t, label, error)
        else:
            pr_finish(&self.session.s, task)
        if label.max_calls:
            f.calls += 1
            if f.calls >= label.max_calls:
                self.leaving = True
        return 0

    cdef int fail(self, uint32_t task, PrTask *t, Label label, object error) except -1:
        if t.state & PR_CANCEL and isinstance(error, KeyboardInterrupt):
            pr_fail_task(&self.session.s, task, CANCELLED, b"")
            return 0
        if isinstance(error, SystemExit):
            self.leaving = True
        elif self.tries_again(task, t, error):
            return 0
        return self.raised(task, t, label, error)
