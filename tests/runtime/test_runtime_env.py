"""Runtime environments: validation, normal form, copies of directories, setting up."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tarfile
import zipfile

import pytest

from pyray.exceptions import RuntimeEnvSetupError
from pyray.runtime import packages, runtime_env


@pytest.fixture
def program(tmp_path):
    folder = tmp_path / "program"
    (folder / "package").mkdir(parents=True)
    (folder / "main.py").write_text("import package")
    (folder / "package" / "__init__.py").write_text("value = 1")
    (folder / "data.csv").write_text("1,2")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "main.pyc").write_text("")
    return folder


def files(folder):
    return sorted(
        os.path.relpath(os.path.join(top, name), folder)
        for top, _, names in os.walk(folder)
        for name in names
    )


# -- validation ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "error", "text"),
    [
        (3, TypeError, "runtime_env must be a dict"),
        ({"env_var": {}}, ValueError, "no field 'env_var'.*env_vars"),
        ({"env_vars": ["A=1"]}, TypeError, r"must be of type Dict\[str, str\]"),
        ({"env_vars": {"A": 1}}, TypeError, "value 1 is of type int"),
        ({"env_vars": {1: "A"}}, TypeError, "key 1 is of type int"),
        ({"env_vars": {"A=": "1"}}, ValueError, "cannot set the variable 'A='"),
        ({"working_dir": 3}, TypeError, "must be a string"),
        ({"working_dir": "/nowhere/at/all"}, ValueError, "existing directory"),
        ({"working_dir": __file__}, ValueError, "existing directory or a supported archive"),
        ({"working_dir": "s3://bucket/key.zip"}, NotImplementedError, "download it"),
        ({"py_modules": "package"}, TypeError, "must be a list"),
        ({"py_modules": [3]}, TypeError, "paths or modules"),
        ({"py_modules": ["/nowhere"]}, ValueError, "existing directory of a package"),
        ({"excludes": "*.csv"}, TypeError, "list of strings"),
        ({"config": {"timeout": 3}}, ValueError, "setup_timeout_seconds"),
        ({"config": 3}, TypeError, "must be a dict"),
        ({"pip": ["numpy"]}, NotImplementedError, "install the packages"),
        ({"conda": "base"}, NotImplementedError, "before the driver is started"),
    ],
)
def test_refused(env, error, text):
    with pytest.raises(error, match=text):
        runtime_env.validate(env)


def test_accepted(program):
    assert runtime_env.validate(None) == runtime_env.validate({}) == {}
    assert runtime_env.validate({"pip": None, "working_dir": None, "_ray_commit": "x"}) == {}
    env = runtime_env.validate(
        {
            "env_vars": {"A": "1"},
            "working_dir": str(program),
            "py_modules": [program / "package", json, math_like(program)],
            "excludes": ["*.csv"],
            "config": {"setup_timeout_seconds": 5},
        }
    )
    assert env["working_dir"] == os.path.realpath(program)
    assert env["py_modules"][0] == os.path.realpath(program / "package")
    assert env["py_modules"][1] == os.path.realpath(os.path.dirname(json.__file__))
    assert env["py_modules"][2] == os.path.realpath(program / "main.py")
    assert runtime_env.validate({"working_dir": f"file://{program}"})["working_dir"] == str(program)


def math_like(program):
    """A module in one file."""
    module = type(math)("main")
    module.__file__ = str(program / "main.py")
    return module


# -- normal form -----------------------------------------------------------------------------


def normal(env, directory):
    return json.loads(runtime_env.normalize(runtime_env.validate(env), str(directory)))


def test_nothing_is_the_empty_text(tmp_path):
    assert runtime_env.normalize({}, str(tmp_path)) == runtime_env.EMPTY == b"{}"
    assert runtime_env.normalize(runtime_env.validate({"excludes": ["a"]}), str(tmp_path)) == b"{}"


def test_order_does_not_matter(tmp_path):
    one = runtime_env.normalize({"env_vars": {"A": "1", "B": "2"}}, str(tmp_path))
    two = runtime_env.normalize({"env_vars": {"B": "2", "A": "1"}}, str(tmp_path))
    assert one == two


def test_working_dir_is_copied_once(program, tmp_path):
    session = tmp_path / "session"
    first = normal({"working_dir": str(program)}, session)["working_dir"]
    assert first.startswith(str(session))
    assert files(first) == ["data.csv", "main.py", "package/__init__.py"]
    assert normal({"working_dir": str(program)}, session)["working_dir"] == first
    (program / "main.py").write_text("changed")
    second = normal({"working_dir": str(program)}, session)["working_dir"]
    assert second != first
    assert open(os.path.join(first, "main.py")).read() == "import package"


def test_working_dir_of_an_archive(program, tmp_path):
    archive = tmp_path / "program.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(program / "main.py", "main.py")
    path = normal({"working_dir": str(archive)}, tmp_path / "s")["working_dir"]
    assert files(path) == ["main.py"]
    archive = tmp_path / "program.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(program / "package", "package")
    path = normal({"working_dir": str(archive)}, tmp_path / "s")["working_dir"]
    assert files(path) == ["package/__init__.py"]


def test_py_modules(program, tmp_path):
    folders = normal(
        {"py_modules": [str(program / "package"), str(program / "main.py")]}, tmp_path / "s"
    )["py_modules"]
    assert files(folders[0]) == ["package/__init__.py"]
    assert files(folders[1]) == ["main.py"]


def test_task_on_top_of_its_job(program, tmp_path):
    session = str(tmp_path / "s")
    job = runtime_env.normalize(
        runtime_env.validate({"env_vars": {"A": "1", "B": "2"}, "working_dir": str(program)}),
        session,
    )
    task = runtime_env.merge(job, runtime_env.validate({"env_vars": {"B": "3", "C": "4"}}))
    merged = json.loads(runtime_env.normalize(task, session))
    assert merged["env_vars"] == {"A": "1", "B": "3", "C": "4"}
    assert merged["working_dir"] == json.loads(job)["working_dir"]
    task = runtime_env.merge(job, runtime_env.validate({"working_dir": str(program / "package")}))
    merged = json.loads(runtime_env.normalize(task, session))
    assert files(merged["working_dir"]) == ["__init__.py"]
    assert merged["env_vars"] == {"A": "1", "B": "2"}


# -- what is copied --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "kept"),
    [
        ([], ["a.csv", "a.py", "build/x.o", "logs/deep/a.csv", "logs/keep.txt", "sub/build/y.o"]),
        (["*.csv"], ["a.py", "build/x.o", "logs/keep.txt", "sub/build/y.o"]),
        (["build/"], ["a.csv", "a.py", "logs/deep/a.csv", "logs/keep.txt"]),
        (["/build"], ["a.csv", "a.py", "logs/deep/a.csv", "logs/keep.txt", "sub/build/y.o"]),
        (
            ["logs/*", "!logs/keep.txt"],
            ["a.csv", "a.py", "build/x.o", "logs/keep.txt", "sub/build/y.o"],
        ),
        (["**/build/*.o", "#a.py", ""], ["a.csv", "a.py", "logs/deep/a.csv", "logs/keep.txt"]),
        (["a.p?", "[xy].o"], ["a.csv", "logs/deep/a.csv", "logs/keep.txt"]),
        (["logs/**"], ["a.csv", "a.py", "build/x.o", "sub/build/y.o"]),
        (["*", "!a.py"], ["a.py"]),
    ],
)
@pytest.mark.parametrize("where", ["excludes", ".gitignore"])
def test_patterns(tmp_path, patterns, kept, where):
    top = tmp_path / "top"
    for name in ("a.csv", "a.py", "build/x.o", "logs/deep/a.csv", "logs/keep.txt", "sub/build/y.o"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)
    excludes = patterns
    if where == ".gitignore":
        (top / ".gitignore").write_text("\n".join(patterns))
        excludes = []
    folder = packages.copy_directory(str(top), str(tmp_path / "copies"), excludes)
    assert [name for name in files(folder) if name != ".gitignore"] == kept


def test_patterns_of_inner_folders(tmp_path):
    top = tmp_path / "top"
    (top / "inner").mkdir(parents=True)
    for name in ("a.txt", "inner/a.txt", "inner/b.txt"):
        (top / name).write_text(name)
    (top / "inner" / ".gitignore").write_text("/a.txt\n")
    folder = packages.copy_directory(str(top), str(tmp_path / "copies"))
    assert files(folder) == ["a.txt", "inner/.gitignore", "inner/b.txt"]


def test_links_and_modes(tmp_path):
    top = tmp_path / "top"
    top.mkdir()
    (top / "run.sh").write_text("#!/bin/sh")
    (top / "run.sh").chmod(0o755)
    (top / "alias").symlink_to("run.sh")
    (top / "nowhere").symlink_to("missing")
    (top / "loop").symlink_to(top)
    folder = packages.copy_directory(str(top), str(tmp_path / "copies"))
    assert files(folder) == ["alias", "run.sh"]
    assert os.access(os.path.join(folder, "run.sh"), os.X_OK)


def test_too_much_to_copy(tmp_path, monkeypatch):
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "large").write_bytes(bytes(3 << 20))
    monkeypatch.setattr(packages, "LIMIT", 2 << 20)
    with pytest.raises(ValueError, match="3 MiB, more than the 2 MiB.*excludes"):
        packages.copy_directory(str(tmp_path / "top"), str(tmp_path / "copies"))
    assert not (tmp_path / "copies").exists()


def test_archive_that_leads_outside(tmp_path):
    archive = tmp_path / "evil.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(__file__, "../outside.py")
    with pytest.raises(tarfile.TarError):
        packages.extract(str(archive), str(tmp_path / "copies" / "deep"))
    assert not (tmp_path / "copies" / "outside.py").exists()
    assert os.listdir(tmp_path / "copies" / "deep") == []


# -- setting up ------------------------------------------------------------------------------

SETUP = """
import os, sys
from pyray.runtime import runtime_env
text = sys.argv[1].encode()
runtime_env.setup(memoryview(text))
assert runtime_env.current() == text
import package, main
print(os.getcwd(), package.value, os.environ["GREETING"], os.environ["PATH"].split(":")[0])
"""


def test_setup(program, tmp_path):
    text = runtime_env.normalize(
        runtime_env.validate(
            {
                "working_dir": str(program),
                "py_modules": [str(program / "package")],
                "env_vars": {"GREETING": "${NOBODY}hello", "PATH": "/mine:${PATH}"},
            }
        ),
        str(tmp_path / "session"),
    )
    done = subprocess.run(
        [sys.executable, "-c", SETUP, text.decode()], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    working_dir = json.loads(text)["working_dir"]
    assert done.stdout.split() == [working_dir, "1", "hello", "/mine"]


def test_setup_of_what_is_gone():
    with pytest.raises(RuntimeEnvSetupError, match=r"FileNotFoundError.*/nowhere"):
        runtime_env.setup(b'{"working_dir": "/nowhere"}')
