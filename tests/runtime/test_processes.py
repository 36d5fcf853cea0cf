"""The processes of a session: what becomes of it when any of them dies, and of what they print.

Nothing is waited for by sleeping: pidfds and pipes say when something has happened.
"""

import itertools
import os
import re
import signal
import stat

import pytest
from drivers import Watch, driver, run

UNFOLDED = {"PYRAY_DEDUP_LOGS": "0"}


@pytest.fixture(autouse=True)
def own_directory(tmp_path, monkeypatch):
    """So that what is left of a session can be seen."""
    monkeypatch.setenv("PYRAY_TMPDIR", str(tmp_path))
    return tmp_path / f"pyray-{os.getuid()}"


def left_behind(own_directory) -> list[str]:
    return sorted(os.listdir(own_directory))


class TestDriverDies:
    PROGRAM = """
        ray.init(num_cpus=2)

        @ray.remote
        def pid():
            return os.getpid()

        @ray.remote
        def busy(path):
            import subprocess
            in_group = subprocess.Popen(["sleep", "1000"])
            apart = subprocess.Popen(["sleep", "1000"], start_new_session=True)
            with open(path, "w") as pipe:
                pipe.write(f"{in_group.pid} {apart.pid}")
            while True:
                time.sleep(1000)

        data = ray.put(b"x" * 1000000)
        path = os.environ["PATH_OF_TEST"]
        os.mkfifo(path)
        task = busy.remote(path)
        with open(path) as pipe:
            children = [int(p) for p in pipe.read().split()]
        ray.get(pid.remote())
        tell(**processes(), children=children)
        hear()
    """

    def session(self, tmp_path):
        return driver(self.PROGRAM, {"PATH_OF_TEST": str(tmp_path / "fifo")})

    def test_kill_9_leaves_nothing(self, tmp_path, own_directory):
        with self.session(tmp_path) as running:
            told = running.told()
            watch = Watch([told["node"], *told["workers"], *told["children"]])
            assert os.path.isdir(told["directory"])
            running.kill()
            assert watch.ended()
            assert left_behind(own_directory) == []

    def test_a_signal_that_python_does_not_handle_leaves_nothing(self, tmp_path, own_directory):
        with self.session(tmp_path) as running:
            told = running.told()
            watch = Watch([told["node"], *told["workers"], *told["children"]])
            running.kill(signal.SIGTERM)
            assert watch.ended()
            assert left_behind(own_directory) == []

    def test_a_fork_of_the_driver_does_not_keep_the_session_alive(self, own_directory):
        program = """
            ray.init(num_cpus=1)
            child = os.fork()
            if child == 0:
                hear()
                os._exit(0)
            tell(**processes(), child=child)
            hear()
        """
        with driver(program) as running:
            told = running.told()
            watch, child = Watch([told["node"], *told["workers"]]), Watch([told["child"]])
            running.kill()
            assert watch.ended()
            assert left_behind(own_directory) == []
            os.kill(told["child"], 0)
            running.go_on()
            assert child.ended()

    def test_a_driver_that_ends_without_shutdown_leaves_nothing(self, own_directory):
        program = """
            ray.init(num_cpus=2)
            tell(**processes())
            hear()
            {end}
        """
        for end, status in (("pass", 0), ("sys.exit(3)", 3), ("1 / 0", 1), ("os._exit(4)", 4)):
            with driver(program.format(end=end)) as running:
                told = running.told()
                watch = Watch([told["node"], *told["workers"]])
                running.go_on()
                running.end(status)
                assert watch.ended()
                assert left_behind(own_directory) == []

    def test_both_at_once_leave_a_directory_that_the_next_session_removes(self, own_directory):
        with driver("ray.init(num_cpus=1); tell(**processes()); hear()") as running:
            told = running.told()
            watch = Watch([told["node"], *told["workers"]])
            os.kill(told["node"], signal.SIGSTOP)
            running.kill()
            running.end(-signal.SIGKILL)
            os.kill(told["node"], signal.SIGKILL)
            assert watch.ended()
        assert os.path.isdir(told["directory"])
        os.utime(told["directory"], (0, 0))
        run("ray.init(num_cpus=1)\nray.shutdown()")
        assert left_behind(own_directory) == []


class TestNodeDies:
    def test_the_driver_raises_and_may_start_again(self, own_directory):
        program = """
            ray.init(num_cpus=2)

            @ray.remote
            def forever():
                while True:
                    time.sleep(1000)

            @ray.remote
            def one():
                return 1

            task = forever.remote()
            tell(**processes())
            try:
                ray.get(task)
            except ray.exceptions.RaySystemError as error:
                tell(raised=str(error))
            for call in (one.remote, lambda: ray.put(1), lambda: ray.get(task)):
                try:
                    call()
                except ray.exceptions.RaySystemError:
                    pass
                else:
                    tell(wrong=str(call))
            ray.shutdown()
            ray.init(num_cpus=1)
            tell(again=ray.get(one.remote()))
        """
        with driver(program) as running:
            session = running.told()
            watch = Watch(session["workers"])
            os.kill(session["node"], signal.SIGKILL)
            assert "raised" in running.told()
            assert running.told() == {"again": 1}
            assert watch.ended()
            _, err = running.end()
            assert "was killed by signal 9" in err and "init() again" in err
        assert left_behind(own_directory) == []


class TestWorkerDies:
    @pytest.mark.parametrize(
        ("death", "reason"),
        [
            ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
            ("os._exit(7)", "status 7"),
            ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
            ("os.abort()", "SIGABRT"),
        ],
    )
    def test_the_task_raises_and_the_session_goes_on(self, death, reason):
        program = f"""
            ray.init(num_cpus=1)

            @ray.remote(max_retries=0)
            def die():
                print("last words")
                {death}

            @ray.remote
            def pid():
                return os.getpid()

            before = ray.get(pid.remote())
            try:
                ray.get(die.remote())
            except ray.exceptions.WorkerCrashedError as error:
                tell(error=str(error))
            assert ray.get(pid.remote()) != before
        """
        with driver(program) as running:
            assert reason in running.told()["error"]
            out, err = running.end()
        assert re.search(r"\(die pid=\d+\) last words", out)
        if reason == "SIGSEGV":
            assert "Fatal Python error: Segmentation fault" in err

    def test_its_subprocesses_end_with_it(self, tmp_path):
        program = """
            ray.init(num_cpus=1)
            path = os.environ["PATH_OF_TEST"]
            os.mkfifo(path)

            @ray.remote(max_retries=0)
            def die():
                import subprocess
                with open(path, "w") as pipe:
                    pipe.write(str(subprocess.Popen(["sleep", "1000"]).pid))
                open(path).close()
                os._exit(1)

            task = die.remote()
            with open(path) as pipe:
                tell(child=int(pipe.read()))
            hear()
            open(path, "w").close()
            try:
                ray.get(task)
            except ray.exceptions.WorkerCrashedError:
                tell(crashed=True)
            hear()
        """
        with driver(program, {"PATH_OF_TEST": str(tmp_path / "fifo")}) as running:
            child = Watch([running.told()["child"]])
            running.go_on()
            assert running.told() == {"crashed": True}
            assert child.ended()
            running.go_on()
            running.end()

    @pytest.mark.parametrize("end", ["sys.exit(0)", "os.kill(os.getpid(), signal.SIGTERM)"])
    def test_system_exit_ends_the_worker_and_not_the_session(self, end):
        program = f"""
            ray.init(num_cpus=1)

            @ray.remote(max_retries=0)
            def leave():
                {end}

            @ray.remote
            def one():
                return 1

            try:
                ray.get(leave.remote())
            except ray.exceptions.RayError as error:
                tell(error=type(error).__name__)
            tell(one=ray.get(one.remote()))
        """
        with driver(program) as running:
            assert running.told()["error"]
            assert running.told() == {"one": 1}
            running.end()


class TestOutput:
    def test_the_lines_of_a_worker_keep_their_order_and_none_is_lost(self):
        program = """
            ray.init(num_cpus=2)

            @ray.remote
            def count(name):
                for i in range(2000):
                    print(name, i)
                    print(name, i, file=sys.stderr)

            ray.get([count.remote(name) for name in "abcd"])
        """
        for text in run(program, UNFOLDED):
            lines = [
                re.fullmatch(r"\(count pid=(\d+)\) ([a-d]) (\d+)", x) for x in text.splitlines()
            ]
            assert all(lines)
            assert len(lines) == 8000
            for name in "abcd":
                assert [int(x[3]) for x in lines if x[2] == name] == list(range(2000))
            pids = {x[1] for x in lines}
            for pid in pids:  # tasks one after another
                names = [x[2] for x in lines if x[1] == pid]
                assert len(set(names)) == 1 + sum(a != b for a, b in itertools.pairwise(names))

    def test_repeated_lines_of_several_workers_are_folded(self, tmp_path):
        program = """
            ray.init(num_cpus=3)

            fifos = [os.environ["PATH_OF_TEST"] + name for name in ("in1", "in2", "out1", "out2")]
            for fifo in fifos:
                os.mkfifo(fifo)

            @ray.remote
            def meet(i):
                # Each is under way when it opens what another opens: so there are three workers.
                for fifo in fifos:
                    if i == 0 or fifo.endswith(str(i)):
                        open(fifo, "w" if (i == 0) == ("out" in fifo) else "r").close()
                print("the same line", i)

            ray.get([meet.remote(i) for i in range(3)])
        """
        out, _ = run(program, {"PATH_OF_TEST": str(tmp_path / "fifo")})
        first, folded = out.splitlines()
        assert re.fullmatch(r"\(meet pid=\d+\) the same line \d", first)
        assert re.match(r"\(meet pid=\d+\) the same line \d \[repeated 2x across cluster\]", folded)

    def test_what_is_held_back_is_shown_when_its_window_ends(self):
        program = """
            ray.init(num_cpus=2)

            @ray.remote
            def hello():
                print("hello")

            class Stream:
                def write(self, text):
                    lines.extend(text.splitlines())
                    if len(lines) == 2:
                        shown.set()
                def flush(self): pass
                def isatty(self): return False

            lines, shown = [], threading.Event()
            sys.stdout = Stream()
            ray.get(hello.remote())
            (first,) = processes()["workers"][:1]

            @ray.remote(max_retries=0)
            def elsewhere():
                print("hello")
                os._exit(1)

            for _ in range(2):  # whichever worker had it, one of these is another
                try:
                    ray.get(elsewhere.remote())
                except ray.exceptions.WorkerCrashedError:
                    pass
            shown.wait()
            tell(lines=lines)
        """
        with driver(program, {"PYRAY_DEDUP_LOGS_AGG_WINDOW_S": "0.3"}) as running:
            assert len(running.told()["lines"]) == 2
            running.end()

    def test_a_stream_that_was_replaced(self):
        program = """
            import io
            ray.init(num_cpus=1)

            @ray.remote
            def hello():
                print("hello")
                print("oops", file=sys.stderr)

            sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
            ray.get(hello.remote())
            ray.shutdown()
            tell(out=sys.stdout.getvalue(), err=sys.stderr.getvalue())
        """
        with driver(program) as running:
            told = running.told()
            assert re.fullmatch(r"\(hello pid=\d+\) hello\n", told["out"])
            assert re.fullmatch(r"\(hello pid=\d+\) oops\n", told["err"])
            assert running.end() == ("", "")

    def test_a_stream_that_cannot_be_written(self):
        program = """
            ray.init(num_cpus=1)

            @ray.remote
            def hello():
                print("hello")
                return 1

            sys.stdout = None
            assert ray.get(hello.remote()) == 1
            sys.stdout = open(os.devnull, "w")
            sys.stdout.close()
            assert ray.get(hello.remote()) == 1
        """
        run(program)

    def test_unfinished_lines_and_subprocesses(self):
        program = """
            ray.init(num_cpus=1)

            @ray.remote
            def first():
                print("no end", end="")

            @ray.remote
            def second():
                print("from python")
                os.system("echo from a shell; echo and its stderr >&2")

            ray.get(first.remote())
            ray.get(second.remote())
        """
        out, err = run(program)
        assert re.sub(r" pid=\d+", "", out).splitlines() == [
            "(first) no end",
            "(second) from python",
            "(second) from a shell",
        ]
        assert "and its stderr" in err

    def test_not_to_the_driver(self, own_directory):
        program = """
            ray.init(num_cpus=1, log_to_driver=False)

            @ray.remote
            def hello():
                print("hello")

            ray.get(hello.remote())
        """
        assert run(program, {"PYRAY_KEEP_LOGS": "1"}) == ("", "")
        (log,) = (own_directory / "session_latest" / "logs").glob("worker-*.out")
        assert log.read_text() == "hello\n"

    def test_a_driver_that_does_not_read_makes_workers_wait_and_loses_nothing(self):
        program = """
            ray.init(num_cpus=1)

            @ray.remote
            def much():
                for i in range(60000):
                    print("x" * 90, i)

            class Slow:
                def write(self, text):
                    gate.wait()
                    lines.append(text.count("\\n"))
                def flush(self): pass
                def isatty(self): return False

            gate, lines = threading.Event(), []
            sys.stdout = Slow()
            task = much.remote()
            ready, _ = ray.wait([task], timeout=0.5)
            assert not ready
            gate.set()
            ray.get(task)
            ray.shutdown()
            tell(lines=sum(lines))
        """
        with driver(program, UNFOLDED) as running:
            assert running.told() == {"lines": 60000}
            running.end()


class TestFlush:
    def test_flush_prints_what_was_printed_before_it(self):
        program = """
            import io
            ray.init(num_cpus=2)

            @ray.remote
            def hello(i):
                print("hello", i)

            sys.stdout = io.StringIO()
            for i in range(50):
                ray.get([hello.remote(i), hello.remote(-i)])
                assert session.current().flush()
                assert len(sys.stdout.getvalue().splitlines()) == 2 * i + 2
        """
        run(program, UNFOLDED)

    def test_the_lines_of_a_notebooks_cell_come_before_its_end(self):
        program = """
            import io, types
            callbacks = {}
            events = types.SimpleNamespace(
                register=lambda event, call: callbacks.setdefault(event, []).append(call),
                unregister=lambda event, call: callbacks[event].remove(call),
            )
            shell = types.SimpleNamespace(events=events)
            sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: shell)
            ray.init(num_cpus=1)

            @ray.remote
            def hello():
                print("hello")

            sys.stdout = io.StringIO()
            ray.get(hello.remote())
            (after_cell,) = callbacks["post_execute"]
            after_cell()
            assert "hello" in sys.stdout.getvalue()
            ray.shutdown()
            assert callbacks == {"post_execute": []}
        """
        run(program)


class TestInterrupt:
    def test_ctrl_c_interrupts_get_and_leaves_the_session_as_it_was(self, tmp_path):
        path = str(tmp_path / "fifo")
        program = """
            ray.init(num_cpus=1)

            @ray.remote
            def wait(path):
                open(path).close()
                return 1

            path = os.environ["PATH_OF_TEST"]
            os.mkfifo(path)
            assert ray.get(wait.remote(os.devnull)) == 1
            task = wait.remote(path)
            try:
                tell(**processes())
                ray.get(task)
            except KeyboardInterrupt:
                tell(interrupted=True)
            open(path, "w").close()
            assert ray.get(task) == 1
            tell(**processes())
        """
        with driver(program, {"PATH_OF_TEST": path}, start_new_session=True) as running:
            before = running.told()
            running.wait_until_it_sleeps()
            # As the terminal does: to the whole foreground group.
            os.killpg(running.process.pid, signal.SIGINT)
            assert running.told() == {"interrupted": True}
            assert running.told() == before
            running.end()


class TestShutdown:
    def test_no_memory_of_the_session_is_left(self):
        program = """
            import gc
            import numpy as np

            def mapped():
                gc.collect()
                with open("/proc/self/maps") as maps:
                    return sum("memfd:pyray" in line for line in maps)

            @ray.remote
            def array():
                return np.ones(10000)

            @ray.remote
            def wrong():
                raise ValueError

            @ray.remote(num_returns="streaming")
            def stream():
                yield np.ones(10000)

            def no_view():
                ray.get(array.remote())
                assert array.remote().future().result().sum() == 10000
                try:
                    ray.get(wrong.remote())
                except ValueError as error:
                    return error, array.remote(), stream.remote(), ray.put(1)

            def views():
                return [
                    ray.get(array.remote()),
                    ray.get(array.remote(), copy_on_write=True),
                    [ray.get(ref) for ref in stream.remote()],
                ]

            for _ in range(2):
                context = ray.init(num_cpus=1)
                kept = no_view()
                assert mapped()
                ray.shutdown()
                assert mapped() == 0
                ray.init(num_cpus=1)
                kept = views()
                ray.shutdown()
                assert mapped() and kept[0].sum() == kept[1].sum() == kept[2][0].sum() == 10000
                del kept
                assert mapped() == 0
        """
        run(program)

    def test_no_memory_is_lost_by_a_session(self):
        program = """
            def pages():
                with open("/proc/self/statm") as file:
                    return int(file.read().split()[0])

            sizes = []
            for _ in range(5):
                ray.init(num_cpus=1)
                ray.shutdown()
                sizes.append(pages())
            assert sizes[-1] - sizes[0] < 1000, sizes
        """
        run(program)

    def test_threads_that_wait_raise(self):
        program = """
            ray.init(num_cpus=1)

            @ray.remote
            def forever():
                while True:
                    time.sleep(1000)

            def wait(ref):
                try:
                    ray.get(ref)
                except ray.exceptions.RaySystemError:
                    raised.append(threading.current_thread())

            raised = []
            refs = [forever.remote() for _ in range(4)]
            threads = [threading.Thread(target=wait, args=[ref]) for ref in refs]
            for thread in threads:
                thread.start()
            ray.shutdown()
            for thread in threads:
                thread.join()
            assert set(raised) == set(threads)
        """
        run(program)


class TestPrivacy:
    @staticmethod
    def open_files(pid: int):
        """What a process has open; some of it may be closed while we look."""
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                yield os.readlink(f"/proc/{pid}/fd/{fd}")
            except FileNotFoundError:
                pass

    def test_directories_are_private_and_nothing_is_on_the_network(self, own_directory):
        with driver(
            "ray.init(num_cpus=1); tell(**processes(), pid=os.getpid()); hear()"
        ) as running:
            told = running.told()
            for path in (own_directory, told["directory"], f"{told['directory']}/logs"):
                assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
            for folder, _, files in os.walk(told["directory"]):
                for name in files:
                    found = os.lstat(os.path.join(folder, name))
                    assert stat.S_ISREG(found.st_mode) or name == "node.sock"
                    assert not found.st_mode & 0o077
            for pid in (told["pid"], *told["workers"]):
                assert not [link for link in self.open_files(pid) if link.startswith("socket:")]

    @pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
    def test_another_user_can_neither_list_nor_open_anything(self, own_directory):
        with driver("ray.init(num_cpus=1); tell(**processes()); hear()") as running:
            told = running.told()
            stranger = os.fork()
            if stranger == 0:
                try:
                    os.setgroups([])
                    os.setgid(65534)
                    os.setuid(65534)
                    paths = [told["directory"], f"/proc/{told['node']}/fd"]
                    paths += [f"/proc/{told['node']}/fd/{fd}" for fd in (3, 4, 5)]
                    for path in paths:
                        try:
                            os.listdir(path) if path.endswith("fd") else os.open(path, os.O_RDONLY)
                        except PermissionError:
                            continue
                        os._exit(1)
                    os._exit(0)
                finally:
                    os._exit(2)
            assert os.waitstatus_to_exitcode(os.waitpid(stranger, 0)[1]) == 0

    def test_a_directory_of_another_user_is_refused(self, own_directory):
        own_directory.mkdir(mode=0o755)
        own_directory.chmod(0o755)
        _, err = run("ray.init(num_cpus=1)", status=1)
        assert "PermissionError" in err and "chmod 700" in err


class TestWorker:
    def test_what_it_is_to_the_system(self):
        program = """
            ray.init(num_cpus=1)

            @ray.remote
            def look():
                return dict(
                    cwd=os.getcwd(),
                    stdin=os.readlink("/proc/self/fd/0"),
                    fds=sorted(int(fd) for fd in os.listdir("/proc/self/fd")),
                    comm=open("/proc/self/comm").read().strip(),
                    threads=len(os.listdir("/proc/self/task")),
                    group=os.getpgid(0) == os.getpid(),
                    omp=os.environ.get("OMP_NUM_THREADS"),
                    path=sys.path,
                )

            found = ray.get(look.remote())
            assert found["cwd"] == os.getcwd()
            assert found["path"] == sys.path, (found["path"], sys.path)
            tell(**found)
        """
        with driver(program) as running:
            found = running.told()
            running.end()
        assert found["stdin"] == os.devnull
        assert found["group"]
        assert found["omp"] == "1"
        assert found["comm"] == "ray::worker"
        assert found["threads"] == 1
        assert len(found["fds"]) <= 8, found["fds"]

    def test_random_numbers_differ(self):
        program = """
            import numpy
            ray.init(num_cpus=1)

            @ray.remote(max_calls=1)
            def draw():
                import random
                return os.getpid(), random.random(), float(numpy.random.rand())

            found = ray.get([draw.remote() for _ in range(4)])
            for column in zip(*found):
                assert len(set(column)) == 4, found
        """
        run(program)

    def test_a_module_that_only_the_path_of_the_driver_has(self, tmp_path):
        (tmp_path / "only_here.py").write_text("def double(x):\n    return 2 * x\n")
        program = """
            sys.path.append(os.environ["WHERE"])
            import only_here
            ray.init(num_cpus=1)
            assert ray.get(ray.remote(only_here.double).remote(4)) == 8
        """
        run(program, {"WHERE": str(tmp_path)})
