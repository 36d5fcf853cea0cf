"""Functions of __main__, of a shell, of `python -c`, and of modules that only the driver finds."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

HEAD = "import pyray as ray\n"


def run(*arguments, source=None, cwd=None, **options):
    """What a driver prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        input=source,
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def script(folder, name, source):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEAD + textwrap.dedent(source))
    return str(path)


PROGRAM = """
class Point:
    def __init__(self, x):
        self.x = x

OFFSET = 10

def helper(x):
    return x + OFFSET

@ray.remote
def task(point):
    return Point(helper(point.x))

if __name__ == "__main__":
    ray.init(num_cpus=1)
    result = ray.get(task.remote(Point(1)))
    print(result.x, type(result) is Point)
"""


def test_script(tmp_path):
    assert run(script(tmp_path, "program.py", PROGRAM)) == "11 True\n"


def test_command():
    source = HEAD + PROGRAM.replace('if __name__ == "__main__":', "if True:")
    assert run("-c", source) == "11 True\n"


def test_standard_input():
    assert run("-", source=HEAD + PROGRAM) == "11 True\n"


def test_module_of_a_package(tmp_path):
    script(tmp_path, "package/__init__.py", "")
    script(tmp_path, "package/other.py", "VALUE = 5")
    script(
        tmp_path,
        "package/__main__.py",
        """
        from . import other

        @ray.remote
        def task():
            return other.VALUE

        ray.init(num_cpus=1)
        print(ray.get(task.remote()))
        """,
    )
    assert run("-m", "package", cwd=tmp_path) == "5\n"


def test_interactive_shell():
    source = textwrap.dedent(
        """
        import pyray as ray
        _ = ray.init(num_cpus=1)
        @ray.remote
        def f(x): return x + 1

        ray.get(f.remote(1))
        @ray.remote
        def f(x): return x * 10

        ray.get(f.remote(5))
        def g(): return "plain"

        ray.get(ray.remote(g).remote())
        """
    )
    assert run("-i", "-q", source=source).split() == ["2", "50", "'plain'"]


def test_module_that_only_the_driver_finds(tmp_path):
    script(
        tmp_path,
        "elsewhere/only_here.py",
        """
        import threading

        lock = threading.Lock()  # which nothing can send

        class Mine(Exception):
            pass

        def plain(x):
            with lock:
                return x + 1

        @ray.remote
        def decorated(x):
            return plain(x)

        @ray.remote
        def fails():
            raise Mine("x")
        """,
    )
    program = script(
        tmp_path,
        "program.py",
        f"""
        import sys

        sys.path.append({str(tmp_path / "elsewhere")!r})
        import only_here

        ray.init(num_cpus=1)
        print(ray.get(ray.remote(only_here.plain).remote(1)))
        print(ray.get(only_here.decorated.remote(2)))
        try:
            ray.get(only_here.fails.remote())
        except only_here.Mine:
            print("mine")
        """,
    )
    assert run(program).split() == ["2", "3", "mine"]


def test_module_found_after_init(tmp_path):
    script(tmp_path, "later/found_later.py", "def plain(x): return x + 1")
    program = script(
        tmp_path,
        "program.py",
        f"""
        import sys

        ray.init(num_cpus=1)
        print(ray.get(ray.remote(lambda: 1).remote()))
        sys.path.append({str(tmp_path / "later")!r})
        import found_later
        print(ray.get(ray.remote(found_later.plain).remote(1)))
        """,
    )
    assert run(program).split() == ["1", "2"]


def test_module_beside_the_script(tmp_path):
    script(tmp_path, "beside.py", "def plain(x): return x + 1")
    program = script(
        tmp_path,
        "program.py",
        """
        import beside
        ray.init(num_cpus=1)
        print(ray.get(ray.remote(beside.plain).remote(1)))
        """,
    )
    assert run(program, cwd="/") == "2\n"


def test_module_in_the_current_directory(tmp_path):
    script(tmp_path, "here.py", "def plain(x): return x + 1")
    source = (
        HEAD + "import here; ray.init(num_cpus=1); print(ray.get(ray.remote(here.plain).remote(1)))"
    )
    assert run("-c", source, cwd=tmp_path) == "2\n"


def test_recursive_function_of_main(tmp_path):
    program = script(
        tmp_path,
        "program.py",
        """
        @ray.remote
        def factorial(n):
            return 1 if n == 0 else n * ray.get(factorial.remote(n - 1))

        ray.init(num_cpus=1)
        print(ray.get(factorial.remote(6)))
        """,
    )
    assert run(program) == "720\n"


def test_script_without_init_or_guard(tmp_path):
    program = script(
        tmp_path,
        "program.py",
        """
        @ray.remote
        def f(x):
            return x * x

        print(ray.get([f.remote(i) for i in range(4)]))
        """,
    )
    assert run(program) == "[0, 1, 4, 9]\n"


def test_class_of_main_changed_in_a_task(tmp_path):
    program = script(
        tmp_path,
        "program.py",
        """
        from dataclasses import dataclass
        from enum import Enum

        class Colour(Enum):
            RED = 1

        @dataclass
        class Item:
            colour: Colour

        @ray.remote
        def make():
            return Item(Colour.RED)

        ray.init(num_cpus=1)
        item = ray.get(make.remote())
        print(item.colour is Colour.RED, item == Item(Colour.RED))
        """,
    )
    assert run(program) == "True True\n"


@pytest.mark.parametrize("flags", [["-O"], ["-I"], ["-W", "error::UserWarning"], ["-X", "dev"]])
def test_flags_of_the_interpreter(tmp_path, flags):
    package = os.path.dirname(os.path.dirname(os.path.abspath(__import__("pyray").__file__)))
    source = (
        f"import sys; sys.path.insert(0, {package!r})\n"
        "import pyray as ray\n"
        "ray.init(num_cpus=1)\n"
        "print(ray.get(ray.remote(lambda: (sys.flags.optimize, sys.flags.isolated)).remote()))\n"
    )
    expected = (1 if "-O" in flags else 0, 1 if "-I" in flags else 0)
    assert run(*flags, "-c", source) == f"{expected}\n"


def test_import_is_lean():
    source = (
        "import sys; before = set(sys.modules)\n"
        "import pyray as ray\n"
        "new = set(sys.modules) - before\n"
        "heavy = ('numpy', 'cloudpickle', 'pandas', 'torch', 'pyarrow', 'asyncio', 'logging',\n"
        "         'multiprocessing', 'inspect', 'pyray.runtime')\n"
        "print(sorted(name for name in new if name.startswith(heavy)))\n"
    )
    assert run("-c", source) == "[]\n"


def test_names_that_come_when_asked_for():
    source = (
        "import pyray as ray\n"
        "names = [name for name in ray.__all__ if not hasattr(ray, name)]\n"
        "print(names, set(ray.__all__) <= set(dir(ray)), ray.get is ray.runtime.get)\n"
        "from pyray import *\n"
        "from pyray.exceptions import RayTaskError\n"
        "assert RayTaskError is exceptions.RayTaskError\n"
        "assert not hasattr(ray, 'nonsense') and not hasattr(ray.runtime, 'nonsense')\n"
    )
    assert run("-c", source) == "[] True True\n"
