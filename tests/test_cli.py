"""The command `pyray`: sessions that live without a driver.

Nothing is waited for by sleeping: pidfds and pipes say when something has happened.
"""

import os
import signal
import subprocess
import sys
import time

import pytest
from drivers import DEADLINE, Watch, driver

import pyray as ray
from pyray import cli
from pyray.runtime import addresses, joining, session
from pyray.util.state import RayStateApiException, list_objects


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Where sessions are; none is left behind."""
    for name in ("PYRAY_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYRAY_TMPDIR", str(tmp_path))
    yield tmp_path / f"pyray-{os.getuid()}"
    ray.shutdown()
    command("stop", "--force")


def command(*arguments: str, status: int = 0) -> str:
    """What the command prints: its output, or its complaints if the status is not 0."""
    found = subprocess.run(
        [sys.executable, "-m", "pyray", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert found.returncode == status, found.stderr
    return found.stderr if status else found.stdout


def start(*arguments: str) -> str:
    """Start a session; its directory."""
    command("start", "--head", "--num-cpus", "2", *arguments)
    (found,) = addresses.sessions(os.path.join(os.environ["PYRAY_TMPDIR"], f"pyray-{os.getuid()}"))
    return found


def node_of(directory: str) -> int:
    connection = joining.connect(directory)
    connection.close()
    return connection.node_pid


@ray.remote
def pid():
    return os.getpid()


class TestStart:
    def test_a_session_that_programs_join_without_an_address(self, place):
        directory = start("--resources", '{"Custom": 3}', "--labels", "a=b,c=d")
        for job in ("01000000", "02000000"):
            with ray.init(log_to_driver=False) as context:
                assert context.address_info["session_dir"] == directory
                assert ray.cluster_resources()["Custom"] == 3
                assert ray.nodes()[0]["Labels"]["c"] == "d"
                assert ray.get_runtime_context().get_job_id() == job
                assert ray.get(pid.remote()) != os.getpid()

    def test_what_it_prints_says_how_to_go_on(self, place):
        printed = command("start", "--head", "--num-cpus", "1")
        assert "ray.init(address='auto')" in printed and "pyray stop" in printed

    @pytest.mark.parametrize("how", ["ends", "dies"])
    def test_it_outlives_its_drivers(self, place, how):
        directory = start()
        node = node_of(directory)
        program = """
            @ray.remote
            def pid():
                return os.getpid()

            ray.init()
            ray.get(pid.remote())
            tell(pid=os.getpid())
            hear()
        """
        with driver(program) as running:
            running.told()
            running.kill() if how == "dies" else running.go_on()
            running.end(None)
        with ray.init(log_to_driver=False):
            assert ray.get(pid.remote())
        assert node_of(directory) == node

    def test_detached_actors_live_without_any_driver(self, place):
        start()
        with driver("""
            @ray.remote
            class Counter:
                def __init__(self):
                    self.n = 0

                def add(self):
                    self.n += 1
                    return self.n

            ray.init(namespace="here")
            counter = Counter.options(name="counter", lifetime="detached").remote()
            assert ray.get(counter.add.remote()) == 1
        """) as running:
            running.end()
        with ray.init(namespace="here", log_to_driver=False):
            assert ray.get(ray.get_actor("counter").add.remote()) == 2
            assert "1 alive" in command("status")

    def test_what_is_known_of_it_stays_when_names_are_swept(self, place):
        start()
        for _ in range(2):
            with ray.init(log_to_driver=False, namespace="here"):
                session.current().core.sweep()
                context = ray.get_runtime_context()
                assert context.namespace == "here"

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            ([], "only `pyray start --head`"),
            (["--head", "--num-cpus", "-1"], "num_cpus"),
            (["--head", "--resources", "x"], "is not JSON"),
            (["--head", "--resources", "[1]"], "is not a dict"),
            (["--head", "--labels", "x"], "key=value"),
            (["--head", "--labels", "ray.io/x=1"], "reserved"),
            (["--head", "--object-store-memory", "5"], "too little"),
        ],
    )
    def test_wrong_arguments(self, place, arguments, complaint):
        status = 2 if "is not" in complaint or "=" in complaint else 1
        assert complaint in command("start", *arguments, status=status)
        assert not place.exists() or os.listdir(place) == []

    def test_a_second_one_needs_another_place(self, place, tmp_path):
        directory = start()
        assert directory in command("start", "--head", status=1)
        elsewhere = str(tmp_path / "elsewhere")
        command("start", "--head", "--num-cpus", "1", "--temp-dir", elsewhere)
        with ray.init(address="auto", _temp_dir=elsewhere, log_to_driver=False) as context:
            assert context.address_info["session_dir"].startswith(elsewhere)
        assert "Stopped 1 of 1" in command("stop", "--temp-dir", elsewhere)
        assert addresses.is_alive(directory)

    def test_one_of_several_at_once(self, place):
        arguments = [sys.executable, "-m", "pyray", "start", "--head", "--num-cpus", "1"]
        pipe = subprocess.PIPE
        running = [subprocess.Popen(arguments, stdout=pipe, stderr=pipe, text=True) for _ in "abc"]
        said = [process.communicate(timeout=DEADLINE) for process in running]
        assert sorted(process.returncode for process in running) == [0, 1, 1]
        (directory,) = addresses.sessions(str(place))
        for process, (_, complaint) in zip(running, said, strict=True):
            if process.returncode:
                assert f"a session is running already, {directory}" in complaint
        assert "Stopped 1 of 1" in command("stop")

    def test_a_second_one_waits_for_the_first(self, place):
        program = """
            from pyray import cli
            from pyray.runtime import head

            make = head.session.new_directory

            def new_directory(options):
                tell(looked=True)
                hear()
                return make(options)

            head.session.new_directory = new_directory
            tell(begins=True)
            sys.exit(cli.main(["start", "--head", "--num-cpus", "1"]))
        """
        with driver(program) as first:
            first.told()
            assert first.told() == {"looked": True}
            with driver(program) as second:
                second.told()
                second.wait_until_it_sleeps()
                second.go_on()  # it must not come so far
                first.go_on()
                first.end()
                _, complaint = second.end(1)
                assert "a session is running already" in complaint

    def test_no_terminal_and_no_directory_is_kept(self, place):
        directory = start()
        node = node_of(directory)
        assert os.getsid(node) == node
        assert os.readlink(f"/proc/{node}/fd/0") == os.devnull

    def test_block(self, place):
        running = subprocess.Popen(
            [sys.executable, "-m", "pyray", "start", "--head", "--num-cpus", "1", "--block"],
            stdout=subprocess.PIPE,
            text=True,
        )
        with running:
            for line in running.stdout:
                if "pyray stop" in line:
                    break
            assert running.poll() is None
            command("stop")
            assert running.wait(DEADLINE) == 0


class TestStop:
    def test_nothing_is_left(self, place):
        directory = start()
        with ray.init(log_to_driver=False):
            ray.get(pid.remote())
            core = session.current().core
            pids = [p["pid"] for p in core.processes() if p["kind"] != "driver"]
        watch = Watch(pids)
        assert node_of(directory) in pids
        assert "Stopped 1 of 1" in command("stop")
        assert watch.ended()
        assert os.listdir(place) == []
        assert "Did not find any" in command("stop")

    def test_sessions_of_programs_go_on(self, place):
        with ray.init(address="local", num_cpus=1):
            start_one = ray.get(pid.remote())
            assert start_one
            assert "Did not find any" in command("stop")
            assert ray.get(pid.remote())

    def test_drivers_raise(self, place):
        start()
        with driver("""
            ray.init()
            tell(ready=True)

            @ray.remote
            def forever():
                while True:
                    time.sleep(1000)

            try:
                ray.get(forever.remote())
            except ray.exceptions.RaySystemError:
                tell(raised=True)
        """) as running:
            running.told()
            command("stop")
            assert running.told() == {"raised": True}
            _, err = running.end()
            assert "it was ended by `pyray stop`" in err

    def test_one_that_does_not_answer_is_killed_by_force(self, place):
        directory = start()
        node = node_of(directory)
        watch = Watch([node])
        os.kill(node, signal.SIGSTOP)
        complaint = command("stop", "--grace-period", "0.1", status=1)
        assert "has not ended: `pyray stop --force` kills it" in complaint
        assert "Stopped 1 of 1" in command("stop", "--force")
        assert watch.ended()
        assert os.listdir(place) == []


class TestDeaths:
    def test_of_the_node(self, place):
        directory = start()
        node = node_of(directory)
        with driver("""
            @ray.remote
            def forever():
                while True:
                    time.sleep(1000)

            ray.init()
            task = forever.remote()
            tell(**processes())
            try:
                ray.get(task)
            except ray.exceptions.RaySystemError:
                tell(raised=True)
        """) as running:
            watch = Watch([node, *running.told()["workers"]])
            os.kill(node, signal.SIGKILL)
            assert running.told() == {"raised": True}
            assert watch.ended()
            _, err = running.end()
            assert "has died" in err
        assert os.listdir(place) == []

    def test_of_the_node_with_nobody_there(self, place):
        directory = start()
        watch = Watch([node_of(directory)])
        os.kill(node_of(directory), signal.SIGKILL)
        assert watch.ended()
        with pytest.raises(ConnectionError, match="Could not find"):
            ray.init(address="auto")
        os.utime(directory, (0, 0))
        start()
        command("stop")
        assert os.listdir(place) == []


class TestStatus:
    def test_none(self, place):
        assert "Could not find any running Ray instance" in command("status", status=1)

    def test_what_it_shows(self, place):
        directory = start("--resources", '{"Custom": 1}')
        with driver("""
            @ray.remote(num_cpus=1)
            def wait():
                while True:
                    time.sleep(1000)

            ray.init()
            tasks = [wait.remote(), wait.options(resources={"Custom": 2}).remote()]
            tell(pid=os.getpid())
            hear()
        """) as running:
            pid = running.told()["pid"]
            shown = command("status")
            while "1/2 CPU" not in shown:
                shown = command("status")
            for text in (
                directory,
                "1 node_",
                f"01000000 (pid {pid})",
                "0 alive, 0 pending",
                "0/1 Custom",
                "object_store_memory",
                "{'CPU': 1.0, 'Custom': 2.0}: 1 pending",
            ):
                assert text in shown

    def test_its_text(self):
        state = {
            "directory": "/tmp/session_1",
            "node_id": "ab",
            "node": 7,
            "drivers": [],
            "workers": ["idle", "busy"],
            "actors": {"ALIVE": 1, "PENDING": 2},
            "total": {"CPU": 2.0, "memory": 3 << 30, "object_store_memory": 1 << 20, "node:x": 1},
            "available": {"CPU": 0.5, "memory": 1 << 30, "object_store_memory": 1 << 20},
            "store": 1000,
            "demands": [],
        }
        assert cli.status_text(state, time.gmtime(0)).splitlines() == [
            "======== Session status: 1970-01-01 00:00:00 ========",
            "/tmp/session_1",
            "",
            "Node status",
            "-" * 53,
            "Active:",
            " 1 node_ab (pid 7)",
            "Workers:",
            " 2 processes, 1 with a task or an actor",
            "Drivers:",
            " (no drivers)",
            "Actors:",
            " 1 alive, 2 pending",
            "",
            "Resources",
            "-" * 53,
            "Total Usage:",
            " 1.5/2 CPU",
            " 2.00GiB/3.00GiB memory",
            " 1000B/1.00MiB object_store_memory",
            "Pending Demands:",
            " (no resource demands)",
        ]


class TestMemory:
    def test_of_a_program(self, place):
        with driver("""
            ray.init(num_cpus=1)
            kept = [ray.put(b"x" * 100_000), ray.put(b"y" * 50_000)]
            tell(names=[ref.hex() for ref in kept], pid=os.getpid())
            hear()
        """) as running:
            told = running.told()
            text = command("memory", "--sort-by", "OBJECT_SIZE", "--units", "KB", "--no-format")
            lines = [
                line.split(" | ") for line in text.splitlines() if line.startswith("127.0.0.1")
            ]
            assert [line[8] for line in lines] == told["names"][::-1]
            assert {int(line[1]) for line in lines} == {told["pid"]}
            assert lines[1][6].startswith("100.") and lines[1][6].endswith(" KB")
            assert "PYRAY_record_ref_creation_sites=1" in text
            stats = command("memory", "--stats-only")
            assert "Plasma memory usage 0 MiB, " in stats and "Summary" not in stats
            running.go_on()
            running.end()

    def test_the_lines_that_made_objects(self, place):
        program = """
            ray.init(num_cpus=1)

            @ray.remote
            def make():
                return [ray.put(1)], "large" * 100

            @ray.remote
            class Actor:
                def call(self):
                    return 1

            def put():
                return ray.put(2)

            actor = Actor.remote()
            kept = [put(), make.remote(), make.options(num_returns=2).remote(), actor.call.remote()]
            ray.get([kept[0], kept[1], *kept[2], kept[3]])
            tell(kept=[kept[0].hex(), kept[1].hex(), kept[2][1].hex(), kept[3].hex()])
            hear()
        """
        with driver(program, {"PYRAY_record_ref_creation_sites": "1"}) as running:
            kept = running.told()["kept"]
            found = {one.object_id: one.call_site for one in list_objects(limit=1000)}
            line = found[kept[0]].partition(" | ")
            assert line[0].startswith("(put object) <string>:put:")
            assert line[2].startswith("<string>:<module>:")
            for name in kept[1:3]:
                assert found[name].startswith("(task call) <string>:<module>:")
            assert found[kept[3]].startswith("(actor call) <string>:<module>:")
            assert any(text.startswith("(actor creation) <string>:") for text in found.values())
            of_worker = [text for text in found.values() if ":make:" in text]
            assert len(of_worker) == 2 and all(text.count(" | ") == 0 for text in of_worker)
            text = command("memory", "--group-by", "STACK_TRACE", "--num-entries", "1")
            assert f"--- Summary for stack trace: {found[kept[0]]} ---" in text
            running.go_on()
            running.end()

    def test_no_session(self, place):
        assert "Could not find any running Ray instance" in command("memory", status=1)
        with pytest.raises(RayStateApiException, match="Could not find any running Ray instance"):
            list_objects()

    def test_wrong_arguments(self, place):
        assert "invalid choice: 'SIZE'" in command("memory", "--sort-by", "SIZE", status=2)
