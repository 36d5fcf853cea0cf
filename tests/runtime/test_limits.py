"""What the node does when something is scarce: workers, files, memory, resources."""

import os
import re

from drivers import Watch, driver, run

from pyray.runtime.memory import Memory


class TestWorkers:
    def test_those_beyond_the_cpus_leave_when_they_are_idle(self):
        program = """
            ray.init(num_cpus=1)

            @ray.remote
            def nested(depth):
                return 1 + ray.get(nested.remote(depth - 1)) if depth else 1

            assert ray.get(nested.remote(5)) == 6
            tell(**processes())
            hear()
            tell(**processes())
            assert ray.get(nested.remote(2)) == 3
        """
        with driver(program) as running:
            first = running.told()["workers"]
            assert len(first) >= 5
            assert Watch(first).ended(but=1)
            running.go_on()
            assert len(running.told()["workers"]) == 1
            running.end()

    def test_the_limit_is_told_once_and_a_free_worker_goes_on(self):
        program = """
            ray.init(num_cpus=1)
            told = threading.Event()
            texts = []
            session.on_warning(lambda text: (texts.append(text), told.set()))

            @ray.remote
            def nested(depth):
                return 1 + ray.get(nested.remote(depth - 1)) if depth else 1

            assert ray.get(nested.remote(1)) == 2
            stuck = nested.remote(2)
            told.wait()
            ray.cancel(stuck, force=True)
            try:
                ray.get(stuck)
            except (ray.exceptions.TaskCancelledError, ray.exceptions.WorkerCrashedError):
                pass
            assert ray.get(nested.remote(1)) == 2
            tell(texts=texts)
        """
        with driver(program, {"PYRAY_MAX_WORKERS": "2"}) as running:
            (text,) = running.told()["texts"]
            assert text.startswith("This session has 2 worker processes")
            assert "PYRAY_MAX_WORKERS" in text
            running.end()

    def test_at_the_limit_idle_ones_make_room_for_another_environment(self):
        program = """
            ray.init(num_cpus=2)

            @ray.remote
            def value():
                return os.environ.get("VALUE"), os.getpid()

            def of(name):
                env = {"env_vars": {"VALUE": name}}
                return [value.options(runtime_env=env).remote() for _ in range(4)]

            for name in ("a", "b", "a", "c"):
                assert {found for found, _ in ray.get(of(name))} == {name}
            refs = of("a") + [value.remote()] + of("b")
            assert [found for found, _ in ray.get(refs)] == ["a"] * 4 + [None] + ["b"] * 4
            assert len(processes()["workers"]) <= 2
        """
        run(program, {"PYRAY_MAX_WORKERS": "2"})

    def test_a_system_that_allows_no_more_files(self):
        program = """
            import resource
            resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
            texts = []
            told = threading.Event()
            session.on_warning(lambda text: (texts.append(text), told.set()))
            ray.init(num_cpus=50)

            @ray.remote
            def one():
                return 1

            told.wait()
            assert sum(ray.get([one.remote() for _ in range(100)])) == 100
            tell(text=texts[0])
        """
        with driver(program) as running:
            assert re.match(r"No worker could be started beside the \d+ ", running.told()["text"])
            running.end()


class TestResources:
    def test_what_can_never_be_given_is_told_once(self):
        program = """
            texts = []
            told = threading.Event()
            session.on_warning(lambda text: (texts.append(text), told.set()))
            ray.init(num_cpus=1)

            @ray.remote(num_cpus=3)
            def large():
                return 1

            @ray.remote
            def one():
                return 1

            refs = [large.remote() for _ in range(3)]
            told.wait()
            assert ray.get(one.remote()) == 1
            ready, rest = ray.wait(refs, num_returns=3, timeout=0)
            assert len(rest) == 3
            session.current().flush()
            tell(texts=texts)
        """
        with driver(program) as running:
            (text,) = running.told()["texts"]
            assert "A task asks for 3 CPU, which this session can never give" in text
            running.end()


class TestMemory:
    def test_a_task_that_fills_the_memory_is_ended(self):
        program = """
            ray.init(num_cpus=2, object_store_memory=100000000)

            @ray.remote(max_retries=0)
            def leak():
                kept = []
                while len(kept) < 400:
                    kept.append(b"x" * 10000000)
                return len(kept)

            @ray.remote
            def one():
                return 1

            try:
                tell(filled=ray.get(leak.remote()))
            except ray.exceptions.OutOfMemoryError as error:
                tell(error=str(error))
            assert ray.get(one.remote()) == 1
        """
        usage = Memory().usage()
        threshold = (usage.used + 1e9) / usage.limit
        with driver(program, {"PYRAY_memory_usage_threshold": str(threshold)}) as running:
            error = running.told()["error"]
            assert "Task was killed due to the node running low on memory." in error
            assert "ray::__main__.leak" in error or "ray::leak" in error
            running.end()


class TestFailingStarts:
    def test_workers_that_end_at_once_are_not_made_for_ever(self, tmp_path):
        (tmp_path / "sitecustomize.py").write_text(
            "import os, sys\n"
            "if 'pyray.runtime.node' in sys.orig_argv[-1]:\n"
            "    os.register_at_fork(after_in_child=lambda: os._exit(9))\n"
        )
        program = """
            texts = []
            told = threading.Event()
            session.on_warning(lambda text: (texts.append(text), told.set()))
            ray.init(num_cpus=1)
            ref = ray.remote(lambda: 1).remote()
            told.wait()
            tell(text=texts[0])
        """
        path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
        with driver(program, {"PYTHONPATH": path}) as running:
            text = running.told()["text"]
            assert text.startswith("5 workers in a row ended before they could run a task")
            assert "it exited with status 9" in text
            running.end()


def test_the_program_ends_with_tasks_that_can_never_run():
    program = """
        ray.init(num_cpus=1, logging_level="ERROR")

        @ray.remote(resources={"moon": 1})
        def never():
            pass

        refs = [never.remote() for _ in range(10)]
    """
    run(program)
