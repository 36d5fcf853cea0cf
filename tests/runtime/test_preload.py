"""What the node imports ahead of the workers that it forks."""

import contextlib
import gc
import importlib.util
import json
import os
import sys
from types import SimpleNamespace

import pytest
from drivers import run
from programs import DEADLINE

from pyray.runtime import node, preload
from pyray.runtime.events import Events

NEEDS = """
import this
import wave

class Needs:
    def has(self, name):
        import sys
        return name in sys.modules
"""


def test_later_workers_have_what_earlier_ones_have_imported_of_the_standard_library(tmp_path):
    (tmp_path / "module_of_needs.py").write_text(NEEDS)
    out, _ = run(
        f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        from module_of_needs import Needs
        ray.init(num_cpus=1, log_to_driver=False)

        @ray.remote
        class Fresh:  # needs none of these
            def has(self, *names):
                import sys
                return [name in sys.modules for name in names]

        assert ray.get(ray.remote(Needs).remote().has.remote("wave"))
        end = time.monotonic() + {DEADLINE}
        found = [False]
        while not found[0] and time.monotonic() < end:
            found = ray.get(Fresh.remote().has.remote("wave", "this", "module_of_needs"))
        print(found)
        """
    )
    assert out.splitlines()[-1] == "[True, False, False]"


@pytest.fixture
def colorsys(tmp_path):
    """A module of the program with a name of the standard library's."""
    path = tmp_path / "colorsys.py"
    path.write_text("")
    spec = importlib.util.spec_from_file_location("colorsys", path)
    return importlib.util.module_from_spec(spec)


def test_a_program_that_hides_a_standard_module_is_left_alone(monkeypatch, colorsys):
    monkeypatch.delitem(sys.modules, "distutils", raising=False)  # setuptools may hide that
    found = preload.of_standard_library()
    assert json.__name__ in found and not any("pyray" in name for name in found)
    monkeypatch.setitem(sys.modules, "colorsys", colorsys)
    assert preload.of_standard_library() == []


@pytest.fixture
def wishes():
    made = preload.Wishes()
    yield made
    os.close(made.reader)
    os.close(made.writer)


class TestWishes:
    def test_a_worker_tells_what_is_new_once(self, wishes, monkeypatch):
        monkeypatch.delitem(sys.modules, "distutils", raising=False)
        monkeypatch.delitem(sys.modules, "colorsys", raising=False)
        imports = preload.Imports(wishes.writer)
        imports.tell()
        import colorsys  # noqa: F401

        imports.tell()
        imports.tell()
        assert os.read(wishes.reader, 1 << 16) == b"colorsys\n"

    def test_a_full_pipe_is_left(self, wishes, monkeypatch):
        imports = preload.Imports(wishes.writer)
        long = [f"json.{'name' * 100}{i}" for i in range(100)]
        monkeypatch.setattr(preload, "of_standard_library", lambda: long)
        for i in range(100):
            for name in (*long, f"json.{i}"):
                monkeypatch.delitem(sys.modules, name, raising=False)
                monkeypatch.setitem(sys.modules, name, sys)
            imports.tell()
        text = b""
        with contextlib.suppress(BlockingIOError):
            while True:
                text += os.read(wishes.reader, 1 << 16)
        *lines, rest = text.decode().split("\n")
        assert len(text) > 50_000 and rest == "" and set(lines) <= set(long)

    def test_one_module_at_a_time_and_only_of_the_standard_library(self, wishes, monkeypatch):
        for name in ("colorsys", "wave"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        os.write(wishes.writer, b"colorsys\nnot_of_it\nantigravity\nsys\nwa")
        wishes.read()
        os.write(wishes.writer, b"ve\n\xff\n")
        wishes.read()
        assert wishes.grant()
        assert "colorsys" in sys.modules and "wave" not in sys.modules
        assert not wishes.grant()
        assert "wave" in sys.modules and "not_of_it" not in sys.modules
        assert not wishes.grant()
        gc.unfreeze()


class TestWhen:
    """The node has two CPUs, and looks at once whether it may import."""

    @pytest.fixture
    def made(self, wishes, monkeypatch):
        for name in ("colorsys", "wave"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setattr(node, "PRELOAD", 0.0)
        made = node.Node.__new__(node.Node)
        made.events, made.wishes = Events(), wishes
        made.children = SimpleNamespace(to_start=[], cpus=2)
        yield made
        made.events.close()
        gc.unfreeze()

    def wish(self, made, name):
        os.write(made.wishes.writer, f"{name}\n".encode())
        made._on_wish(made.wishes.reader)

    def test_who_wants_a_worker_does_not_wait(self, made):
        made.children.to_start = [0, 0]
        self.wish(made, "colorsys")
        made.events.wait(0)
        assert "colorsys" not in sys.modules
        made.children.to_start.clear()
        made.events.wait(0)
        assert "colorsys" in sys.modules

    def test_of_many_that_are_wanted_all_get_it(self, made):
        made.children.to_start = [0, 0, 0]
        self.wish(made, "colorsys")
        made.events.wait(0)
        assert "colorsys" in sys.modules

    def test_others_that_tell_do_not_put_it_off(self, made, monkeypatch):
        self.wish(made, "colorsys")
        monkeypatch.setattr(node, "PRELOAD", 1000.0)
        self.wish(made, "wave")
        made.events.wait(0)
        assert "colorsys" in sys.modules
