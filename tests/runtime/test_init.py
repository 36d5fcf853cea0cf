"""init and shutdown: arguments, contexts, sessions one after another, local mode, forks."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading

import pytest

import pyray as ray

pytestmark = pytest.mark.usefixtures("no_session")

SMALL = 64 << 20


@ray.remote
def same(x):
    return x


# -- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"num_cpus": "2"}, TypeError, "num_cpus must be a number"),
        ({"num_cpus": -1}, ValueError, "num_cpus cannot be negative"),
        ({"num_cpus": 1.5}, ValueError, "whole number"),
        ({"num_gpus": 0.5}, ValueError, "whole number"),
        ({"resources": {"CPU": 1}}, ValueError, "num_cpus"),
        ({"resources": [1]}, TypeError, "resources must be a dict"),
        ({"labels": {"a": 1}}, TypeError, "labels must map strings to strings"),
        ({"labels": {"ray.io/x": "1"}}, ValueError, "reserved"),
        ({"object_store_memory": 1000}, ValueError, "minimum is"),
        ({"object_store_memory": "1GB"}, TypeError, "object_store_memory must be a number"),
        ({"local_mode": 1}, TypeError, "local_mode must be True or False"),
        ({"ignore_reinit_error": "yes"}, TypeError, "ignore_reinit_error must be"),
        ({"include_dashboard": "yes"}, TypeError, "include_dashboard must be"),
        ({"dashboard_port": "80"}, TypeError, "dashboard_port must be an integer"),
        ({"log_to_driver": 0}, TypeError, "log_to_driver must be"),
        ({"logging_level": None, "logging_format": 3}, TypeError, "logging_format must be"),
        ({"logging_level": "LOUD"}, ValueError, "'LOUD' is not the name of a level"),
        ({"namespace": 3}, TypeError, "namespace must be None or a string"),
        ({"namespace": ""}, ValueError, '"" is not a valid namespace'),
        ({"runtime_env": 3}, TypeError, "runtime_env must be a dict"),
        ({"runtime_env": {"x": 1}}, ValueError, "no field 'x'"),
        ({"runtime_env": {"working_dir": "/nowhere"}}, ValueError, "existing directory"),
        ({"runtime_env": {"pip": ["x"]}}, NotImplementedError, "install the packages"),
        ({"job_config": object()}, NotImplementedError, "runtime_env and namespace"),
        ({"address": 3}, TypeError, "address must be a string"),
        ({"address": "1.2.3.4:6379"}, ConnectionError, "Failed to connect"),
        ({"address": "ray://1.2.3.4:10001"}, NotImplementedError, "'ray' is not there yet"),
        ({"nonsense": 1}, RuntimeError, r"Unknown keyword argument\(s\): nonsense"),
    ],
)
def test_refused(arguments, error, text):
    with pytest.raises(error, match=text):
        ray.init(**arguments)
    assert not ray.is_initialized()


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("PYRAY_max_lineage_bytes", "-1", "must be 0 or more"),
        ("RAY_max_lineage_bytes", "nan", "is not a number"),
        ("PYRAY_max_lineage_bytes", "1GB", "is not a number"),
        ("PYRAY_object_spilling_threshold", "80", "must be between 0 and 1"),
    ],
)
def test_refused_in_the_environment(monkeypatch, name, value, text):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"^{name}='{value}' in the environment {text}$"):
        ray.init(num_cpus=1, object_store_memory=SMALL)
    assert not ray.is_initialized()
    monkeypatch.delenv(name)
    ray.init(num_cpus=1, object_store_memory=SMALL)
    assert ray.get(ray.put(1)) == 1


@pytest.mark.parametrize("value", ["inf", "1e30", "0.5"])
def test_any_limit_of_lineage(monkeypatch, value):
    monkeypatch.setenv("PYRAY_max_lineage_bytes", value)
    ray.init(num_cpus=1, object_store_memory=SMALL)
    assert ray.get(same.remote(1)) == 1


def test_positional_arguments():
    with pytest.raises(TypeError):
        ray.init("local", 2)


def test_old_spelling_of_the_address():
    with (
        pytest.warns(DeprecationWarning, match="'redis_address' is now called 'address'"),
        pytest.raises(ConnectionError),
    ):
        ray.init(redis_address="1.2.3.4:6379")


# -- sessions --------------------------------------------------------------------------------


def test_context():
    context = ray.init("local", num_cpus=1, object_store_memory=SMALL)
    assert ray.is_initialized()
    info = context.address_info
    assert os.path.isdir(info["session_dir"])
    assert info["node_id"] == ray.nodes()[0]["NodeID"]
    assert context.dashboard_url == "" and context.python_version.startswith("3.")
    assert context.ray_version == ray.__version__
    assert repr(context).startswith("RayContext(dashboard_url=''")
    assert "<table>" in context._repr_html_()
    with pytest.warns(DeprecationWarning, match="address_info"):
        assert context["node_id"] == info["node_id"]
    assert set(context) == set(info) and len(context) == len(info)
    context.disconnect()
    assert not ray.is_initialized()
    assert not os.path.exists(info["session_dir"])


def test_context_manager():
    with ray.init(num_cpus=1, object_store_memory=SMALL):
        assert ray.get(same.remote(1)) == 1
    assert not ray.is_initialized()


def test_init_twice():
    first = ray.init(num_cpus=1, object_store_memory=SMALL)
    with pytest.raises(RuntimeError, match="init twice by accident.*ignore_reinit_error=True"):
        ray.init()
    again = ray.init(num_cpus=5, ignore_reinit_error=True)
    assert again.address_info == first.address_info
    assert ray.cluster_resources()["CPU"] == 1


def test_shutdown_twice():
    ray.shutdown()
    ray.init(num_cpus=1, object_store_memory=SMALL)
    ray.shutdown(wait_for_processes=True)
    ray.shutdown()


def test_one_session_after_another():
    for i in range(3):
        with ray.init(num_cpus=1, object_store_memory=SMALL):
            assert ray.get(same.remote(i)) == i


def test_references_of_a_session_that_has_ended():
    ray.init(num_cpus=1, object_store_memory=SMALL)
    ref, task = ray.put(1), same.remote(2)
    future = task.future()
    ray.shutdown()
    assert future.done() or future.exception(60)
    with pytest.raises(ray.exceptions.RaySystemError, match="init"):
        ray.get(ref)
    ray.init(num_cpus=1, object_store_memory=SMALL)
    for call in (
        lambda: ray.get(ref),
        lambda: ray.get([task]),
        lambda: ray.wait([ref]),
        lambda: same.remote(ref),
        lambda: ray.put([ref]),
        lambda: ray.cancel(task),
    ):
        with pytest.raises(ray.exceptions.RaySystemError, match="session that has ended"):
            call()
    assert ray.get(same.remote(3)) == 3
    assert repr(ref).startswith("ObjectRef(")


@pytest.mark.parametrize(
    "call",
    [ray.nodes, ray.cluster_resources, ray.available_resources],
    ids=lambda call: call.__name__,
)
def test_nothing_to_tell_without_a_session(call):
    with pytest.raises(ray.exceptions.RaySystemError, match=r"call init\(\) first"):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: ray.get(same.remote(1)),
        lambda: ray.put(1),
        lambda: ray.wait([]),
        lambda: ray.get([]),
        lambda: ray.get_gpu_ids(),
        lambda: ray.get_runtime_context().get_job_id(),
    ],
)
def test_a_session_starts_by_itself(call):
    assert not ray.is_initialized()
    call()
    assert ray.is_initialized()


def test_started_once_by_many_threads():
    found = []
    threads = [
        threading.Thread(target=lambda i=i: found.append(ray.get(same.remote(i)))) for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(8))


def test_defaults():
    ray.init()
    assert ray.cluster_resources()["CPU"] == len(os.sched_getaffinity(0))


def test_numbers_and_labels():
    with ray.init(
        num_cpus=3,
        num_gpus=1,
        resources={"custom": 4},
        labels={"zone": "a"},
        object_store_memory=SMALL,
        _memory=10**9,
    ):
        total = ray.cluster_resources()
        assert (total["CPU"], total["GPU"], total["custom"]) == (3, 1, 4)
        assert (total["memory"], total["object_store_memory"]) == (10**9, SMALL)
        (node,) = ray.nodes()
        assert node["Alive"] is node["alive"] is True
        assert node["Resources"] == total and node["Labels"]["zone"] == "a"
        assert ray.get(same.options(label_selector={"zone": "a"}).remote(1)) == 1


def test_temp_dir(tmp_path):
    with ray.init(num_cpus=1, object_store_memory=SMALL, _temp_dir=str(tmp_path)) as context:
        assert context.address_info["session_dir"].startswith(str(tmp_path))


def test_logging(caplog):
    level = logging.getLogger("pyray").level
    try:
        ray.init(num_cpus=1, object_store_memory=SMALL, logging_level="ERROR")
        assert logging.getLogger("pyray").level == logging.ERROR
    finally:
        logging.getLogger("pyray").setLevel(level)


def test_dashboard_is_to_come():
    ray.init(num_cpus=1, object_store_memory=SMALL, include_dashboard=False)


# -- runtime context -------------------------------------------------------------------------


def test_runtime_context():
    @ray.remote
    def inside():
        context = ray.get_runtime_context()
        return {
            "job": context.get_job_id(),
            "node": context.get_node_id(),
            "worker": context.get_worker_id(),
            "task": context.get_task_id(),
            "name": context.get_task_name(),
            "function": context.get_task_function_name(),
            "namespace": context.namespace,
            "actor": context.get_actor_id(),
            "session": context.get_session_name(),
        }

    ray.init(num_cpus=1, object_store_memory=SMALL, namespace="mine")
    context = ray.get_runtime_context()
    one, two = ray.get([inside.remote(), inside.options(name="named").remote()])
    for found in (one, two):
        assert found["job"] == context.get_job_id() == "01000000"
        assert found["node"] == context.get_node_id() == ray.nodes()[0]["NodeID"]
        assert found["namespace"] == context.namespace == "mine"
        assert found["session"] == context.get_session_name()
        assert found["worker"] != context.get_worker_id()
        assert found["function"] == f"{__name__}.inside" and found["actor"] is None
    assert one["task"] != two["task"] and int(one["task"], 16)
    assert (one["name"], two["name"]) == ("inside", "named")
    assert context.get_task_id() is context.get_task_name() is context.get_actor_id() is None
    with pytest.raises(AssertionError, match="only available in a task"):
        context.get_assigned_resources()
    assert context.get_runtime_env_string() == "{}"
    with pytest.warns(DeprecationWarning, match="get_job_id"):
        assert context.job_id == "01000000"
    assert os.path.isdir(context.get_temp_dir())
    assert not context.should_capture_child_tasks_in_placement_group
    with pytest.raises(RuntimeError, match="only available in an actor"):
        context.current_actor


def test_namespaces_of_their_own():
    names = set()
    for _ in range(2):
        with ray.init(num_cpus=1, object_store_memory=SMALL):
            names.add(ray.get_runtime_context().namespace)
    assert len(names) == 2


# -- runtime environments --------------------------------------------------------------------


def test_environment_of_the_job_and_of_tasks(tmp_path):
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "helper_of_this_test.py").write_text("value = 'from the copy'")
    (tmp_path / "package_of_this_test").mkdir()
    (tmp_path / "package_of_this_test" / "__init__.py").write_text("value = 'py_modules'")

    @ray.remote
    def look():
        import helper_of_this_test

        names = ("OF_JOB", "OF_TASK", "BOTH")
        return [os.environ.get(n) for n in names], os.getcwd(), helper_of_this_test.value

    @ray.remote
    def imports():
        import package_of_this_test

        return package_of_this_test.value

    @ray.remote
    def nested():
        return ray.get(look.remote())

    ray.init(
        num_cpus=2,
        object_store_memory=SMALL,
        runtime_env={
            "env_vars": {"OF_JOB": "job", "BOTH": "job"},
            "working_dir": str(tmp_path / "program"),
        },
    )
    variables, folder, value = ray.get(look.remote())
    assert variables == ["job", None, "job"] and value == "from the copy"
    assert folder != str(tmp_path / "program") and folder != os.getcwd()
    env = {"env_vars": {"OF_TASK": "task", "BOTH": "task"}}
    variables, same_folder, _ = ray.get(look.options(runtime_env=env).remote())
    assert variables == ["job", "task", "task"] and same_folder == folder
    assert ray.get(nested.options(runtime_env=env).remote())[0] == ["job", "task", "task"]
    env = {"py_modules": [str(tmp_path / "package_of_this_test")]}
    assert ray.get(imports.options(runtime_env=env).remote()) == "py_modules"
    assert ray.get(look.remote())[0] == ["job", None, "job"]


def test_environment_that_cannot_be_set_up():
    session = ray.init(num_cpus=1, object_store_memory=SMALL)
    broken = same.options(runtime_env={"env_vars": {"A": "1"}})
    from pyray.runtime import runtime_env

    gone = os.path.join(session.address_info["session_dir"], "packages", "gone")
    runtime_env.set_current(json.dumps({"working_dir": gone}).encode())
    try:
        ref = broken.remote(1)
    finally:
        runtime_env.set_current(runtime_env.EMPTY)
    with pytest.raises(ray.exceptions.RuntimeEnvSetupError, match="packages/gone"):
        ray.get(ref)
    assert ray.get(same.remote(2)) == 2


# -- forks -----------------------------------------------------------------------------------


def in_a_fork(call):
    """What a forked process says of `call()`."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            text = f"returned {call()!r}"
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(into, text.encode())
        os._exit(0)
    os.close(into)
    with open(out) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return text


@pytest.mark.parametrize("what", ["get", "put", "remote", "wait", "nodes", "reference"])
def test_fork_is_refused(what):
    ray.init(num_cpus=1, object_store_memory=SMALL)
    ref = ray.put(1)
    calls = {
        "get": lambda: ray.get(ref),
        "put": lambda: ray.put(1),
        "remote": lambda: same.remote(1),
        "wait": lambda: ray.wait([ref]),
        "nodes": ray.nodes,
        "reference": lambda: ray.get([ref]),
    }
    text = in_a_fork(calls[what])
    assert text.startswith("RaySystemError: System error: this process was forked from the driver")
    assert "spawn" in text
    assert ray.get(ref) == 1 and ray.get(same.remote(2)) == 2


def test_fork_may_start_its_own():
    ray.init(num_cpus=1, object_store_memory=SMALL)
    ref = ray.put("mine")

    def own():
        ray.init(num_cpus=1, object_store_memory=SMALL)
        try:
            return ray.get(same.remote(5))
        finally:
            ray.shutdown()

    assert in_a_fork(own) == "returned 5"
    assert ray.get(ref) == "mine" and ray.get(same.remote(2)) == 2


def test_fork_before_init():
    def own():
        with ray.init(num_cpus=1, object_store_memory=SMALL):
            return ray.get(same.remote(5))

    assert in_a_fork(own) == "returned 5"


def test_subprocesses_are_no_forks():
    ray.init(num_cpus=1, object_store_memory=SMALL)
    assert subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True).stdout == b"1\n"
    assert ray.get(same.remote(2)) == 2


# -- local mode ------------------------------------------------------------------------------


class TestLocalMode:
    @pytest.fixture(autouse=True)
    def local(self, no_session):
        ray.init(local_mode=True, object_store_memory=SMALL, namespace="here")
        yield
        ray.shutdown()

    def test_tasks_run_here(self):
        @ray.remote
        def pid(x, y=1):
            return os.getpid(), x + y, ray.get_runtime_context().get_task_name()

        ref = pid.remote(ray.put(1), y=2)
        assert isinstance(ref, ray.ObjectRef)
        assert ray.get(ref) == (os.getpid(), 3, "pid")
        assert ray.wait([ref]) == ([ref], [])
        assert ray.is_initialized()
        assert ref.job_id().hex() == ray.get_runtime_context().get_job_id()

    def test_errors(self):
        @ray.remote
        def fail():
            raise KeyError("x")

        ref = fail.remote()
        with pytest.raises(KeyError) as caught:
            ray.get(ref)
        assert isinstance(caught.value, ray.exceptions.RayTaskError)
        with pytest.raises(KeyError):
            ray.get(same.remote(ref))
        with pytest.raises(TypeError, match="missing a required argument"):
            same.remote()
        with pytest.raises(TypeError, match="Could not serialize"):
            same.remote(threading.Lock())
        with pytest.warns(DeprecationWarning):
            errors = ray.error_info()
        assert (errors[0]["type"], errors[0]["task"]) == ("KeyError", "fail")

    def test_several_results_and_generators(self):
        @ray.remote(num_returns=2)
        def two():
            return 1, 2

        @ray.remote
        def count(n):
            yield from range(n)

        assert ray.get(two.remote()) == [1, 2]
        assert [ray.get(ref) for ref in count.remote(3)] == [0, 1, 2]
        assert ray.get(count.options(num_returns=2).remote(5)) == [0, 1]
        with pytest.warns(DeprecationWarning):
            dynamic = count.options(num_returns="dynamic")
        assert [ray.get(ref) for ref in ray.get(dynamic.remote(2))] == [0, 1]

    def test_nested_and_recursive(self):
        @ray.remote
        def factorial(n):
            return 1 if n == 0 else n * ray.get(factorial.remote(n - 1))

        assert ray.get(factorial.remote(5)) == 120

    def test_retries(self):
        calls = []

        @ray.remote(retry_exceptions=[OSError], max_retries=2)
        def flaky():
            calls.append(1)
            raise OSError

        with pytest.raises(OSError):
            ray.get(flaky.remote())
        assert len(calls) == 3

    def test_values_are_as_they_always_are(self):
        import numpy as np

        array = ray.get(ray.put(np.zeros(1000)))
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
        assert ray.get(same.remote([ray.put(1)]))[0].hex()

    def test_exit_does_not_end_the_program(self):
        @ray.remote
        def leave():
            sys.exit(3)

        with pytest.raises(ray.exceptions.WorkerCrashedError):
            ray.get(leave.remote())

    def test_session(self):
        assert ray.cluster_resources()["CPU"] >= 1
        assert ray.nodes()[0]["Alive"]
        assert ray.get_runtime_context().namespace == "here"
        assert ray.get_gpu_ids() == []


def test_from_local_mode_to_processes():
    ray.init(local_mode=True, object_store_memory=SMALL)
    assert ray.get(same.remote(1)) == 1
    ray.shutdown()
    ray.init(num_cpus=1, object_store_memory=SMALL)
    assert ray.get(same.remote(2)) == 2


def shared_memory():
    """How much of it is mapped into this process, in kB."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssShmem:"))


def test_memory_is_given_back():
    import numpy as np

    before = shared_memory()
    ray.init(num_cpus=1, object_store_memory=SMALL)
    assert ray.get(same.remote(1)) == 1  # the function knows the session from now on
    array = ray.get(ray.put(np.ones(5_000_000)))
    assert array.sum() == 5_000_000 and shared_memory() > before + 39_000
    del array
    ray.shutdown()
    assert shared_memory() <= before + 1000
