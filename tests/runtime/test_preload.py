"""What the node imports ahead of the workers that it forks."""

import gc
import importlib.util
import json
import sys

import pytest
from drivers import run
from programs import DEADLINE

from pyray.runtime import preload


def test_later_workers_have_what_the_driver_has_loaded_of_the_standard_library():
    out, _ = run(
        f"""
        import wave, this  # no worker needs either
        ray.init(num_cpus=1)

        @ray.remote
        class Fresh:
            def has(self, *names):
                import sys
                return [name in sys.modules for name in names]

        end = time.monotonic() + {DEADLINE}
        found = [False]
        while not found[0] and time.monotonic() < end:
            found = ray.get(Fresh.remote().has.remote("wave", "this"))
        print(found)
        """
    )
    assert out.splitlines()[-1] == "[True, False]"


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


def test_a_module_that_cannot_be_imported_is_for_who_needs_it_to_tell(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("1 / 0")
    (tmp_path / "sound_module.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert list(preload.load_later(["broken_module", "sys", "sound_module"])) == [
        "broken_module",
        "sound_module",
    ]
    gc.unfreeze()
    assert sys.modules.pop("sound_module")
