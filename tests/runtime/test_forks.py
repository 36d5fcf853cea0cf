"""Processes that the driver, or a task, forks."""

import re

from drivers import run


class TestDriver:
    def test_its_fork_may_not_use_the_session_but_start_one(self):
        program = """
            ray.init(num_cpus=1)

            @ray.remote
            def one():
                return 1

            assert ray.get(one.remote()) == 1
            ref = ray.put(2)
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    for call in (one.remote, lambda: ray.get(ref), lambda: ray.put(3)):
                        try:
                            call()
                        except ray.exceptions.RaySystemError as error:
                            assert f"forked from the driver (pid {os.getppid()})" in str(error)
                        else:
                            os._exit(2)
                    ray.init(num_cpus=1)
                    assert ray.get(one.remote()) == 1
                    ray.shutdown()
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert ray.get([one.remote(), ref]) == [1, 2]
        """
        run(program)

    def test_the_end_of_its_fork_takes_nothing_from_it(self):
        program = """
            import gc
            import numpy as np
            ray.init(num_cpus=1)

            @ray.remote
            def one():
                return 1

            refs = [one.remote(), ray.put(2), ray.put(np.ones(1000))]
            view = ray.get(refs)[2]
            core = session.current().core

            def state():
                own = [p["pid"] for p in core.processes() if p["kind"] == "driver"]
                return own, core.stats()["objects"], core.stats()["used"]

            before = state()
            child = os.fork()
            if child == 0:
                # All that leads to the session goes, and then the interpreter comes to its end.
                del refs, core, view, one, state
                gc.collect()
                sys.exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert state() == before
            assert ray.get(refs[:2]) == [1, 2] and view.sum() == 1000
            assert ray.get(one.remote()) == 1
        """
        run(program)


class TestTask:
    def test_a_pool(self):
        program = """
            ray.init(num_cpus=1)

            @ray.remote
            def with_pool():
                import multiprocessing
                with multiprocessing.get_context("fork").Pool(2) as pool:
                    return sum(pool.map(abs, range(-10, 0)))

            assert ray.get([with_pool.remote() for _ in range(20)]) == [55] * 20
        """
        run(program)

    def test_a_child_that_comes_back_is_ended(self):
        program = """
            ray.init(num_cpus=1)

            def fork(end):
                child = os.fork()
                if child == 0:
                    end()
                    return "from the child"
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

            @ray.remote(max_retries=0)
            def task(end):
                return fork(end)

            @ray.remote(num_returns="streaming")
            def stream():
                yield fork(lambda: None)
                yield "once"

            def wrong():
                raise ValueError("of the child")

            def leave():
                sys.exit(5)

            before = session.current().core.processes()
            ends = (lambda: None, wrong, leave)
            assert ray.get([task.remote(end) for end in ends]) == [1, 1, 5]
            assert [ray.get(ref) for ref in stream.remote()] == [1, "once"]
            workers = [p for p in session.current().core.processes() if p["kind"] == "worker"]
            assert len(workers) == 1, workers
        """
        _, err = run(program, {"PYRAY_DEDUP_LOGS": "0"})
        told = re.findall(r"Process \d+, forked by the task (\w+), has come back from", err)
        assert told == ["task", "task", "stream"]
        assert "ValueError: of the child" in err
