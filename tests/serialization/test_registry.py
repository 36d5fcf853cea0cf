"""register_serializer: local, immediate, idempotent; the deserializer travels with the message."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from pyray.serialization import message as codec
from pyray.serialization import reduction, registry
from pyray.serialization.registry import deregister_serializer, register_serializer


class Handle:
    """Cannot be serialized: it holds a lock."""

    def __init__(self, name):
        self.name = name
        self.lock = threading.Lock()


class SubHandle(Handle):
    pass


@pytest.fixture(autouse=True)
def forget():
    yield
    for cls in (Handle, SubHandle, list):
        deregister_serializer(cls)


def register(deserializer=Handle):
    register_serializer(Handle, serializer=lambda handle: handle.name, deserializer=deserializer)


def test_reduction_is_the_deserializer_and_what_the_serializer_made():
    register()
    assert reduction.reduce(Handle("a")) == (Handle, ("a",))


def test_takes_effect_at_once_and_is_forgotten_at_once():
    assert Handle not in registry.registered
    register()
    assert reduction.reducer_for(Handle) is registry.registered[Handle]
    register(deserializer=len)
    assert reduction.reduce(Handle("abc")) == (len, ("abc",))
    deregister_serializer(Handle)
    assert reduction.reducer_for(Handle) is None


def test_deregistering_twice_is_no_error():
    register()
    deregister_serializer(Handle)
    deregister_serializer(Handle)
    assert Handle not in registry.registered


def test_version_grows_with_every_change_only():
    start = registry.version
    register()
    assert registry.version == start + 1
    register()
    assert registry.version == start + 2
    deregister_serializer(Handle)
    assert registry.version == start + 3
    deregister_serializer(Handle)
    assert registry.version == start + 3


def test_exact_type_only():
    register()
    assert reduction.reducer_for(SubHandle) is None


@pytest.mark.parametrize(
    ("cls", "serializer", "deserializer", "words"),
    [
        ("Handle", len, len, "class"),
        (Handle, 1, len, "serializer must be callable"),
        (Handle, len, None, "deserializer must be callable"),
    ],
)
def test_arguments_are_checked(cls, serializer, deserializer, words):
    with pytest.raises(TypeError, match=words):
        register_serializer(cls, serializer=serializer, deserializer=deserializer)
    assert Handle not in registry.registered


def test_deregister_checks_its_argument():
    with pytest.raises(TypeError, match="class"):
        deregister_serializer("Handle")


def test_arguments_are_keywords():
    with pytest.raises(TypeError):
        register_serializer(Handle, len, len)


def test_threads_do_not_lose_each_other_s_registrations():
    classes = [type(f"C{i}", (), {}) for i in range(200)]
    start = registry.version

    def work(part):
        for cls in part:
            register_serializer(cls, serializer=str, deserializer=str)

    threads = [threading.Thread(target=work, args=(classes[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert registry.version == start + 200
    assert all(cls in registry.registered for cls in classes)
    for cls in classes:
        deregister_serializer(cls)


def test_also_at_pyray_util():
    from pyray import util

    assert util.register_serializer is register_serializer
    assert util.deregister_serializer is deregister_serializer


# -- through the codec ---------------------------------------------------------------------------


def test_round_trip_wherever_the_object_is():
    register()
    handle = Handle("a")
    back = codec.loads(codec.dumps([handle, {"k": (handle,)}, handle]))
    assert type(back[0]) is Handle and back[0].name == "a"
    assert back[1]["k"][0] is back[0] and back[2] is back[0]
    deregister_serializer(Handle)
    with pytest.raises(TypeError):
        codec.dumps([handle])


def test_registered_after_the_type_was_met():
    class Late:
        pass

    assert type(codec.loads(codec.dumps([Late()]))[0]).__name__ == "Late"
    register_serializer(Late, serializer=lambda obj: 5, deserializer=lambda n: n + 1)
    assert codec.loads(codec.dumps([Late()])) == [6]
    deregister_serializer(Late)
    assert type(codec.loads(codec.dumps([Late()]))[0]).__name__ == "Late"


def test_values_with_columns_of_their_own_do_not_look_here():
    register_serializer(list, serializer=lambda items: 0, deserializer=lambda x: None)
    assert codec.loads(codec.dumps([[1]])) == [[1]]


def test_deserializer_travels_to_a_process_that_registers_nothing(tmp_path):
    factor = 3
    register_serializer(
        Handle, serializer=lambda handle: handle.name, deserializer=lambda name: name * factor
    )
    path = tmp_path / "message"
    path.write_bytes(codec.dumps([Handle("ab")]))
    program = (
        "import sys; from pyray.serialization.message import loads\n"
        "print(loads(open(sys.argv[1], 'rb').read()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['ababab']\n"
