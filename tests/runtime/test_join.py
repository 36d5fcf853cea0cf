"""Several drivers in one session: joining it, sharing it, leaving it, dying in it.

Nothing is waited for by sleeping: pidfds and pipes say when something has happened; where only
shared memory says it, `until` looks again and again.
"""

import os
import pickle
import re
import signal
import socket
import stat
import time

import pytest
from drivers import DEADLINE, Watch, driver, run

import pyray as ray
from pyray.runtime import addresses, joining, session, session_files

NOBODY = 65534

#: Starts a session and keeps it until the test says so.
HOST = """
    ray.init(num_cpus=2, resources={"Custom": 2}, labels={"made": "here"})
    tell(**processes())
    hear()
"""


@pytest.fixture(autouse=True)
def own_directory(tmp_path, monkeypatch):
    """So that sessions of others are not found, and what is left of ours can be seen."""
    for name in ("PYRAY_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYRAY_TMPDIR", str(tmp_path))
    return tmp_path / f"pyray-{os.getuid()}"


@pytest.fixture
def host():
    """What a running session tells of itself."""
    with driver(HOST) as running:
        told = running.told()
        until(lambda: listens(told["directory"]))
        yield told


@pytest.fixture
def joined(host):
    """This process as a driver of that session."""
    with ray.init(address="auto", log_to_driver=False) as context:
        yield context


@ray.remote
def ids():
    context = ray.get_runtime_context()
    return context.get_job_id(), context.namespace, context.get_node_id()


@ray.remote
def job_of_references(refs):
    return {refs[0].job_id(), ray.put(1).job_id(), ids.remote().job_id()}


class TestAddress:
    def test_auto_without_a_session(self):
        with pytest.raises(ConnectionError, match="Could not find any running Ray instance"):
            ray.init(address="auto")

    @pytest.mark.parametrize("kind", ["auto", "name", "directory", "variable", "old_variable"])
    def test_finds_it(self, host, kind, monkeypatch):
        directory = host["directory"]
        address = {"auto": "auto", "name": os.path.basename(directory), "directory": directory}
        if kind not in address:
            monkeypatch.setenv("PYRAY_ADDRESS" if kind == "variable" else "RAY_ADDRESS", directory)
        with ray.init(address=address.get(kind), log_to_driver=False) as context:
            assert context.address_info["session_dir"] == directory
            assert context.address_info["address"] == directory

    def test_auto_takes_the_latest(self, host):
        with driver(HOST) as later:
            directory = later.told()["directory"]
            with ray.init(address="auto") as context:
                assert context.address_info["session_dir"] == directory
        with ray.init(address="auto") as context:
            assert context.address_info["session_dir"] == host["directory"]

    def test_without_one_a_session_of_its_own_is_started(self, host):
        for address in (None, "local"):
            with ray.init(address=address, num_cpus=1) as context:
                assert context.address_info["session_dir"] != host["directory"]

    @pytest.mark.parametrize("address", ["session_1", "/no/such/session", "1.2.3.4:6379"])
    def test_that_is_none(self, address):
        with pytest.raises(ConnectionError, match="Failed to connect to"):
            ray.init(address=address)

    def test_of_a_session_that_has_ended(self, own_directory):
        own_directory.mkdir(0o700)
        left = session_files.create(str(own_directory), 1000.0, 7)
        left.close()
        assert addresses.sessions(str(own_directory)) == []
        with pytest.raises(ConnectionError, match="Could not find"):
            ray.init(address=left.path)

    @pytest.mark.parametrize(
        "given",
        [
            {"num_cpus": 1},
            {"num_gpus": 0},
            {"resources": {"a": 1}},
            {"labels": {"a": "b"}},
            {"object_store_memory": 1 << 30},
        ],
    )
    def test_resources_are_what_they_are(self, host, given):
        name = next(iter(given))
        with pytest.raises(ValueError, match=f"existing cluster, .*{name}.* must not be provided"):
            ray.init(address="auto", **given)
        assert not ray.is_initialized()

    def test_of_another_version_is_refused(self, host):
        node = joining.connect(host["directory"])
        about = {"versions": {"pyray": "0.0", "python": "2.7"}, "info": b"{}"}
        with pytest.raises(RuntimeError, match=r"Version mismatch: (.|\n)*Python: 2\.7"):
            node.ask({"join": about})
        node.close()

    def test_who_talks_nonsense_is_sent_away(self, host):
        node = joining.connect(host["directory"])
        node.tell({"no such word": 1})
        with pytest.raises(ConnectionResetError):
            node.ask({"look": True})
        node.close()
        with ray.init(address="auto", log_to_driver=False):
            assert ray.get(ids.remote())

    def test_a_session_that_is_about_to_listen_is_waited_for(self, host, monkeypatch):
        attempts = []

        def connect(directory, really=joining.connect):
            attempts.append(directory)
            if len(attempts) < 3:
                raise FileNotFoundError
            return really(directory)

        monkeypatch.setattr(joining, "connect", connect)
        with ray.init(address="auto", log_to_driver=False):
            assert len(attempts) == 3  # `host` listens


class TestTogether:
    def test_one_node_and_two_jobs(self, host):
        program = """
            @ray.remote
            def ids():
                context = ray.get_runtime_context()
                return context.get_job_id(), context.namespace, context.get_node_id()

            ray.init(address="auto", namespace="{name}")
            here = ray.get_runtime_context()
            tell(
                here=[here.get_job_id(), here.namespace, here.get_node_id()],
                tasks=ray.get([ids.remote() for _ in range(20)]),
                total=ray.cluster_resources(),
                labels=ray.nodes()[0]["Labels"],
            )
            hear()
        """
        with driver(program.format(name="one")) as one, driver(program.format(name="two")) as two:
            found = {told["here"][1]: told for told in (one.told(), two.told())}
            assert sorted(found) == ["one", "two"]
            assert sorted(told["here"][0] for told in found.values()) == ["02000000", "03000000"]
            assert len({told["here"][2] for told in found.values()}) == 1
            for told in found.values():
                assert told["tasks"] == [told["here"]] * 20
                assert told["total"]["Custom"] == 2 and told["total"]["CPU"] == 2
                assert told["labels"]["made"] == "here"

    def test_an_anonymous_namespace_is_ones_own(self, joined):
        text = ray.get_runtime_context().namespace
        assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text)
        assert ray.get(ids.remote())[1] == text

    def test_references_know_the_job(self, joined):
        job = bytes.fromhex(ray.get_runtime_context().get_job_id())
        ref = ray.put(1)
        assert job == b"\2\0\0\0" and ref.job_id() == job
        assert ray.get(job_of_references.remote([ref])) == {job}

    def test_objects_are_shared_without_a_copy(self, host):
        program = """
            import pickle
            import numpy as np
            ray.init(address="auto")
            tell(ref=pickle.dumps(ray.put(np.arange(100_000))).hex())
            hear()
        """
        with driver(program) as other:
            ref = other.told()["ref"]
            with ray.init(address="auto", log_to_driver=False):
                before = session.current().core.stats()["used"]
                array = ray.get(pickle.loads(bytes.fromhex(ref)))
                assert array.sum() == 99_999 * 50_000 and not array.flags.writeable
                assert session.current().core.stats()["used"] == before
                other.go_on()
                other.end()
                assert array.sum() == 99_999 * 50_000
            assert array.sum() == 99_999 * 50_000  # views outlive the stay
            del array

    def test_what_is_only_on_the_path_of_who_joins(self, host, tmp_path):
        (tmp_path / "only_here.py").write_text("def double(x):\n    return 2 * x\n")
        program = """
            sys.path.append(os.environ["WHERE"])
            import only_here
            ray.init(address="auto", runtime_env={"env_vars": {"OF_THE_JOB": "job"}})
            assert ray.get(ray.remote(only_here.double).remote(4)) == 8

            @ray.remote
            def variable():
                return os.environ.get("OF_THE_JOB")

            assert ray.get(variable.remote()) == "job"
        """
        run(program, {"WHERE": str(tmp_path)})

    def test_again_and_again_in_one_process(self, host):
        jobs = []
        for _ in range(3):
            with ray.init(address="auto", log_to_driver=False):
                jobs.append(ray.get_runtime_context().get_job_id())
                ref = ray.put(1)
                with pytest.raises(RuntimeError, match="Maybe you called init twice"):
                    ray.init(address="auto")
            with pytest.raises(ray.exceptions.RaySystemError):
                ray.get(ref)
        assert jobs == ["02000000", "03000000", "04000000"]

    def test_many_join_at_once(self, host):
        program = """
            @ray.remote
            def double(x):
                return 2 * x

            ray.init(address="auto")
            assert ray.get([double.remote(i) for i in range(200)]) == list(range(0, 400, 2))
            tell(job=ray.get_runtime_context().get_job_id())
        """
        others = [driver(program) for _ in range(6)]
        running = [other.__enter__() for other in others]
        try:
            assert len({one.told()["job"] for one in running}) == 6
            for one in running:
                one.end()
        finally:
            for other in others:
                other.__exit__(None, None, None)

    def test_lines_go_to_the_driver_whose_task_prints(self):
        program = """
            @ray.remote
            def say(text):
                print("printed by", text)
                print("printed by", text, file=sys.stderr)

            ray.init(**{how})
            tell(ready=True)
            hear()
            ray.get([say.remote("{name}") for _ in range(3)])
        """
        env = {"PYRAY_DEDUP_LOGS": "0"}
        first = program.format(how={"num_cpus": 1}, name="the first")
        second = program.format(how={"address": "auto"}, name="the second")
        with driver(first, env) as one:
            one.told()
            with driver(second, env) as two:
                two.told()
                two.go_on()
                for text in two.end():
                    assert len(re.findall(r"\(say pid=\d+\) printed by the second", text)) == 3
            one.go_on()
            for text in one.end():
                assert len(re.findall(r"\(say pid=\d+\) printed by the first", text)) == 3
                assert "second" not in text

    @pytest.mark.slow
    def test_one_that_reads_nothing_keeps_nobody_waiting(self):
        program = """
            ray.init(num_cpus=1)

            @ray.remote
            def shout(lines):
                for i in range(lines):
                    print("x" * 1000)

            tell(**processes())
            hear()
            ray.get(shout.remote(10))
            tell(done=True)
        """
        other = """
            ray.init(address="auto")

            @ray.remote
            def shout():
                for i in range(4000):
                    print("x" * 1000)

            task = shout.remote()
            tell(ready=True)
            hear()
        """
        with driver(program) as host:
            host.told()
            with driver(other) as stopped:
                stopped.told()
                stopped.kill(signal.SIGSTOP)
                host.go_on()
                assert host.told() == {"done": True}
                stopped.kill(signal.SIGCONT)


class TestLeaving:
    TASKS = """
        ray.init(address="auto")
        path = os.environ["PATH_OF_TEST"]

        @ray.remote
        def wait(path):
            {first}
            with open(path, "w") as pipe:
                pipe.write(str(os.getpid()) + chr(10))
                pipe.flush()
                while True:
                    time.sleep(1000)

        @ray.remote(num_cpus=2)
        def never():
            pass

        data = ray.put(b"x" * 1000000)
        running, queued = wait.remote(path), [never.remote() for _ in range(10)]
        tell(pid=os.getpid())
        hear()
        {end}
    """
    POLITE = "pass"
    STUBBORN = "signal.signal(signal.SIGINT, signal.SIG_IGN)"

    @pytest.mark.parametrize("end", ["pass", "ray.shutdown()", "os._exit(1)", "9"])
    def test_tasks_and_objects_go_with_the_driver(self, joined, tmp_path, end):
        core = session.current().core
        used = core.stats()["used"]
        fifo = str(tmp_path / "fifo")
        os.mkfifo(fifo)
        program = self.TASKS.format(first=self.POLITE, end="pass" if end == "9" else end)
        with driver(program, {"PATH_OF_TEST": fifo}) as other:
            pid = other.told()["pid"]
            with open(fifo) as pipe:
                assert pipe.read(1)
                until(lambda: core.demands())
                other.kill() if end == "9" else other.go_on()
                assert pipe.read()  # to the end: the task has ended
            other.end(None)
        until(lambda: pid not in drivers_of(core))
        until(lambda: not core.demands())
        until(lambda: core.stats()["used"] <= used + 100_000)
        assert ray.get(ids.remote())

    def test_a_task_that_does_not_stop_is_killed(self, joined, tmp_path):
        fifo = str(tmp_path / "fifo")
        os.mkfifo(fifo)
        program = self.TASKS.format(first=self.STUBBORN, end="pass")
        with driver(program, {"PATH_OF_TEST": fifo}) as other:
            other.told()
            with open(fifo) as pipe:
                worker = int(pipe.readline())
                other.kill()
                assert pipe.read() == ""  # to the end
        core = session.current().core
        until(lambda: worker not in [p["pid"] for p in core.processes()])
        assert ray.get(ids.remote())

    def test_a_task_whose_result_others_refer_to_goes_on(self, joined, tmp_path):
        program = """
            import pickle

            @ray.remote
            def wait(path):
                with open(path) as pipe:
                    return pipe.read()

            ray.init(address="auto")
            task = wait.remote(os.environ["PATH_OF_TEST"])
            tell(ref=pickle.dumps(task).hex(), pid=os.getpid())
            hear()
        """
        fifo = str(tmp_path / "fifo")
        os.mkfifo(fifo)
        with driver(program, {"PATH_OF_TEST": fifo}) as other:
            told = other.told()
            ref = pickle.loads(bytes.fromhex(told["ref"]))
            watch = Watch([told["pid"]])
            other.kill()
            assert watch.ended()
        until(lambda: told["pid"] not in drivers_of(session.current().core))
        with open(fifo, "w") as pipe:
            pipe.write("it was not stopped")
        assert ray.get(ref) == "it was not stopped"

    def test_views_keep_what_they_show_and_no_more(self, joined):
        program = """
            import numpy as np
            ray.init(address="auto")
            array = ray.get(ray.put(np.ones(100_000)))
            {hold}
            ray.shutdown()
            assert array.sum() == 100_000
            tell(pid=os.getpid())
            hear()
            array = None
            tell(done=True)
            hear()
        """
        core = session.current().core
        with driver(program.format(hold="")) as other:
            pid = other.told()["pid"]
            assert pid in drivers_of(core)
            other.go_on()
            other.told()
            assert pid not in drivers_of(core)
            other.go_on()
            other.end()

    def test_a_fork_of_a_driver_does_not_keep_its_place(self, joined):
        program = """
            ray.init(address="auto")
            child = os.fork()
            if child == 0:
                try:
                    ray.put(1)
                except ray.exceptions.RaySystemError:
                    hear()
                os._exit(0)
            tell(pid=os.getpid(), child=child)
            hear()
        """
        core = session.current().core
        with driver(program) as other:
            told = other.told()
            child = Watch([told["child"]])
            other.kill()
            until(lambda: told["pid"] not in drivers_of(core))
            os.kill(told["child"], 0)
            other.go_on()
            assert child.ended()

    def test_descriptors_are_given_back(self, host):
        node = f"/proc/{host['node']}/fd"
        for _ in range(2):
            with ray.init(address="auto", log_to_driver=False):
                pass
        before = len(os.listdir(node))
        mine = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            with ray.init(address="auto", log_to_driver=False):
                pass
            joining.connect(host["directory"]).close()
        assert len(os.listdir("/proc/self/fd")) == mine
        until(lambda: len(os.listdir(node)) <= before)

    @pytest.mark.parametrize("point", ["connected", "asked", "attached"])
    def test_dying_while_one_joins(self, joined, point):
        program = f"""
            from pyray.runtime import joining
            node = joining.connect({joined.address_info["session_dir"]!r})
            if {point!r} != "connected":
                welcome, fds = node.ask({{"look": True}})
            if {point!r} == "attached":
                from pyray.runtime._core import Session
                core = Session.attach(*fds, "driver")
            tell(pid=os.getpid())
            hear()
        """
        core = session.current().core
        with driver(program) as other:
            pid = other.told()["pid"]
            other.kill()
            until(lambda: pid not in drivers_of(core))
        assert ray.get(ids.remote())


class TestActors:
    ACTORS = """
        @ray.remote
        class Counter:
            def __init__(self):
                self.n = 0
                self.kept = None

            def add(self, n=1):
                self.n += n
                return self.n

            def where(self):
                context = ray.get_runtime_context()
                return os.getpid(), context.get_job_id(), context.namespace

            def keep(self, refs):
                self.kept = refs

            def give(self):
                return self.kept

            def wait(self, path):
                with open(path) as pipe:
                    return pipe.read()

            def start(self):
                "A task and an actor, by this actor."
                task = ray.remote(lambda: os.getpid()).remote()
                self.child = Counter.options(name="child").remote()
                return ray.get(task), ray.get(self.child.where.remote())

        ray.init(address="auto", namespace="shared")
        kept = Counter.options(name="kept", lifetime="detached").remote()
        own = Counter.options(name="own").remote()
        tell(kept=ray.get(kept.where.remote()), own=ray.get(own.where.remote()))
        {then}
        hear()
    """

    @pytest.fixture
    def shared(self, host):
        with ray.init(address="auto", namespace="shared", log_to_driver=False):
            yield

    @pytest.mark.parametrize("end", ["ends", "dies"])
    def test_detached_ones_outlive_their_driver(self, shared, end):
        with driver(self.ACTORS.format(then="")) as other:
            told = other.told()
            own = ray.get_actor("own")
            assert ray.get(own.add.remote()) == 1
            watch = Watch([told["own"][0]])
            other.kill() if end == "dies" else other.go_on()
            assert watch.ended()
            with pytest.raises(ray.exceptions.RayActorError):
                ray.get(own.add.remote())
            other.end(None)
        kept = ray.get_actor("kept")
        assert ray.get([kept.add.remote() for _ in range(3)]) == [1, 2, 3]
        assert list(ray.get(kept.where.remote())) == told["kept"]
        assert told["kept"][1:] == ["03000000", "shared"]
        assert ray.get_runtime_context().get_job_id() == "02000000"
        ray.kill(kept)

    def test_what_a_detached_one_starts_is_its_own(self, shared):
        with driver(self.ACTORS.format(then="ray.get(kept.start.remote()); tell(done=1)")) as other:
            told = other.told()
            other.told()
            own = Watch([told["own"][0]])
            other.kill()
            assert own.ended()
        kept = ray.get_actor("kept")
        child = ray.get_actor("child")
        assert list(ray.get(child.where.remote()))[1:] == ["03000000", "shared"]
        assert ray.get(kept.add.remote()) == 1
        ray.kill(kept)

    def test_one_that_nobody_refers_to_but_has_calls_goes_too(self, shared, tmp_path):
        fifo = str(tmp_path / "fifo")
        os.mkfifo(fifo)
        then = f"""
        own.wait.remote({fifo!r})
        del own
        tell(done=True)
        """
        with driver(self.ACTORS.format(then=then)) as other:
            told = other.told()
            other.told()
            watch = Watch([told["own"][0]])
            other.kill()
            assert watch.ended()
        ray.kill(ray.get_actor("kept"))

    def test_objects_go_from_one_driver_to_another(self, shared):
        then = "ray.get(kept.keep.remote([ray.put('from afar')])); tell(done=True)"
        with driver(self.ACTORS.format(then=then)) as other:
            pid = other.process.pid
            other.told()
            other.told()
            other.kill()
            until(lambda: pid not in drivers_of(session.current().core))
        kept = ray.get_actor("kept")
        (ref,) = ray.get(kept.give.remote())
        assert ray.get(ref) == "from afar"
        ray.kill(kept)

    def test_calls_that_were_made_of_a_detached_one_run(self, shared, tmp_path):
        fifo = str(tmp_path / "fifo")
        os.mkfifo(fifo)
        then = f"""
        kept.wait.remote({fifo!r})
        refs = [kept.add.remote() for _ in range(10)]
        tell(done=True)
        """
        with driver(self.ACTORS.format(then=then)) as other:
            pid = other.process.pid
            other.told()
            other.told()
            other.kill()
            until(lambda: pid not in drivers_of(session.current().core))
        with open(fifo, "w"):
            pass
        kept = ray.get_actor("kept")
        assert ray.get(kept.add.remote()) == 11
        ray.kill(kept)

    def test_names_are_of_a_namespace(self, shared):
        with driver(self.ACTORS.format(then="")) as other:
            other.told()
            ray.shutdown()
            with ray.init(address="auto", namespace="another", log_to_driver=False):
                with pytest.raises(ValueError, match="Failed to look up actor"):
                    ray.get_actor("kept")
                kept = ray.get_actor("kept", namespace="shared")
                assert ray.get(kept.add.remote()) == 1
                ray.kill(kept)


class TestTheEnd:
    JOIN = """
        ray.init(address="auto")

        @ray.remote
        def forever():
            while True:
                time.sleep(1000)

        task = forever.remote()
        tell(**processes())
        try:
            ray.get(task)
        except ray.exceptions.RaySystemError as error:
            tell(raised=str(error))
        for call in (forever.remote, lambda: ray.put(1), lambda: ray.get(task)):
            try:
                call()
            except ray.exceptions.RaySystemError:
                pass
            else:
                tell(wrong=str(call))
        ray.shutdown()
        ray.init(num_cpus=1)
        tell(again=ray.get(ray.put(1)))
    """

    @pytest.mark.parametrize("who", ["shutdown", "driver", "node"])
    def test_those_who_joined_raise(self, own_directory, who):
        with driver(HOST) as host:
            told = host.told()
            with driver(self.JOIN) as other:
                watch = Watch([told["node"], *other.told()["workers"]])
                if who == "node":
                    os.kill(told["node"], signal.SIGKILL)
                else:
                    host.kill() if who == "driver" else host.go_on()
                assert "raised" in other.told()
                assert other.told() == {"again": 1}
                assert watch.ended()
                _, err = other.end()
                expected = {
                    "shutdown": "the driver that started it has ended",
                    "driver": "the driver that started it is gone",
                    "node": "has died",
                }
                assert expected[who] in err and "init() again" in err
            if who == "node":
                host.go_on()
            host.end(None)
        assert os.listdir(own_directory) == []


class TestPrivacy:
    def sockets(self, pid):
        found = []
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
            except FileNotFoundError:
                pass
        return {link[8:-1] for link in found if link.startswith("socket:")}

    def test_nothing_is_on_the_network(self, host, joined):
        with open("/proc/net/unix") as file:
            local = {line.split()[6] for line in file.readlines()[1:]}
        assert self.sockets(host["node"]) and self.sockets(host["node"]) <= local
        for pid in host["workers"]:
            assert not self.sockets(pid)

    def test_files_are_private(self, host, joined):
        path = os.path.join(host["directory"], addresses.SOCKET)
        assert stat.S_ISSOCK(os.lstat(path).st_mode)
        assert stat.S_IMODE(os.lstat(path).st_mode) == 0o600
        assert stat.S_IMODE(os.lstat(host["directory"]).st_mode) == 0o700

    @pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
    @pytest.mark.parametrize("opened", [False, True])
    def test_another_user_cannot_join(self, host, joined, tmp_path, opened):
        directory = host["directory"]
        folder = os.open(directory, os.O_RDONLY)
        if opened:  # as far as files go
            os.chmod(directory, 0o755)
            os.chmod(os.path.join(directory, addresses.SOCKET), 0o666)
        stranger = os.fork()
        if stranger == 0:
            status = 3
            try:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                status = self.attempt(folder, opened)
            finally:
                os._exit(status)
        os.close(folder)
        assert os.waitstatus_to_exitcode(os.waitpid(stranger, 0)[1]) == 0

    def attempt(self, folder, opened):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(addresses.socket_path(folder))
        except PermissionError:
            return int(opened)
        try:
            data, fds, _, _ = socket.recv_fds(connection, 100, 4)
        except ConnectionResetError:
            data, fds = b"", []
        return 0 if opened and not data and not fds else 2

    @pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
    def test_a_session_of_another_user_is_not_joined(self, host):
        os.chown(host["directory"], NOBODY, NOBODY)
        try:
            with pytest.raises(PermissionError, match=f"user with id {NOBODY}"):
                joining.connect(host["directory"])
            assert not addresses.is_alive(host["directory"])
        finally:
            os.chown(host["directory"], 0, 0)


def until(condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it never was so"
        os.sched_yield()


def listens(directory):
    try:
        joining.connect(directory).close()
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    return True


def drivers_of(core):
    return [p["pid"] for p in core.processes() if p["kind"] == "driver"]
