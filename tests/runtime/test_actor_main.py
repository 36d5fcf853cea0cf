"""Actor classes of __main__, of a shell, and of modules that only the driver finds."""

from __future__ import annotations

from test_main_functions import HEAD, run, script

PROGRAM = """
class Base:
    def __init__(self, x):
        self.x = x

    def get(self):
        return self.x

class Point:
    def __init__(self, x):
        self.x = x

@ray.remote
class Actor(Base):
    made = 0

    def __init__(self, x):
        super().__init__(x)
        type(self).made += 1

    def point(self, by):
        return Point(self.x + by.x)

    def another(self):
        return Actor.remote(self.x + 1)

    @classmethod
    def count(cls):
        return cls.made

if __name__ == "__main__":
    ray.init(num_cpus=1)
    actor = Actor.remote(1)
    point = ray.get(actor.point.remote(Point(2)))
    print(point.x, type(point) is Point)
    print(ray.get(ray.get(actor.another.remote()).get.remote()), ray.get(actor.count.remote()))
"""
EXPECTED = "3 True\n2 1\n"


def test_script(tmp_path):
    assert run(script(tmp_path, "program.py", PROGRAM)) == EXPECTED


def test_command():
    assert run("-c", HEAD + PROGRAM.replace('if __name__ == "__main__":', "if True:")) == EXPECTED


def test_standard_input():
    assert run("-", source=HEAD + PROGRAM) == EXPECTED


def test_interactive_shell():
    """Each definition stands alone, as the cells of a notebook do; a class is made anew."""
    source = HEAD + (
        "_ = ray.init(num_cpus=1)\n"
        "@ray.remote\n"
        "class A:\n"
        "    def f(self): return 1\n"
        "\n"
        "old = A.remote()\n"
        "ray.get(old.f.remote())\n"
        "@ray.remote\n"
        "class A:\n"
        "    def f(self): return 2\n"
        "    def g(self): return A.remote()\n"
        "\n"
        "new = A.remote()\n"
        "ray.get([old.f.remote(), new.f.remote()])\n"
        "ray.get(ray.get(new.g.remote()).f.remote())\n"
        "hasattr(old, 'g')\n"
    )
    assert run("-i", "-q", source=source).splitlines() == ["1", "[1, 2]", "2", "False"]


def test_module_that_only_the_driver_finds(tmp_path):
    script(
        tmp_path,
        "elsewhere/only_here.py",
        """
        import threading

        lock = threading.Lock()  # which nothing can send

        class Plain:
            def f(self, x):
                with lock:
                    return x + 1

        class Base:
            def name(self):
                return type(self).__name__

        @ray.remote
        class Decorated(Base):
            def f(self, x):
                return f"{super().name()} {x}"
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
        print(ray.get(ray.remote(only_here.Plain).remote().f.remote(1)))
        print(ray.get(only_here.Decorated.remote().f.remote(2)))
        """,
    )
    assert run(program).splitlines() == ["2", "Decorated 2"]


def test_starts_the_session_by_itself():
    source = HEAD + (
        "@ray.remote\n"
        "class A:\n"
        "    def f(self): return 5\n"
        "\n"
        "print(ray.is_initialized())\n"
        "print(ray.get(A.remote().f.remote()), ray.is_initialized())\n"
    )
    assert run("-c", source).split() == ["False", "5", "True"]


def test_driver_ends_while_an_actor_works():
    source = HEAD + (
        "import threading\n"
        "@ray.remote\n"
        "class A:\n"
        "    def f(self): threading.Event().wait()\n"
        "\n"
        "ray.init(num_cpus=1)\n"
        "a = A.remote()\n"
        "a.f.remote()\n"
        "print('end')\n"
    )
    assert run("-c", source) == "end\n"


def test_names_of_the_module():
    source = (
        "import pyray as ray\n"
        "assert ray.actor.ActorHandle is ray.runtime.ActorHandle\n"
        "import pyray.actor\n"
        "print(sorted(pyray.actor.__all__))\n"
        "from pyray.util import list_named_actors\n"
        "print(ray.is_initialized())\n"
    )
    assert run("-c", source).splitlines()[-1] == "False"
