"""The package as it is handed out: metadata, stubs, and what sdist and wheel hold.

With PYRAY_DIST=folder (``make dist``) it looks into the archives that have been
built there; without, only at the source tree.
"""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

try:
    import tomllib
except ImportError:  # Python 3.10
    from pip._vendor import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = sorted(path.relative_to(ROOT) for path in (ROOT / "pyray").rglob("*.pyx"))
STUBS = sorted(path.relative_to(ROOT) for path in (ROOT / "pyray").rglob("*.pyi"))


def archive(pattern):
    folder = os.environ.get("PYRAY_DIST")
    if not folder:
        pytest.skip("PYRAY_DIST is not set: nothing has been built")
    (path,) = Path(folder).glob(pattern)
    return path


def test_metadata():
    assert PROJECT["name"] == "pyray-runtime"
    assert PROJECT["requires-python"] == ">=3.10,<3.14"
    names = {line.split(">")[0] for line in PROJECT["dependencies"]}
    assert names == {"numpy", "cloudpickle"}
    assert {"arrow", "bench", "test", "docs"} <= set(PROJECT["optional-dependencies"])


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_compiled_module_has_stub(module):
    assert (ROOT / module.with_suffix(".pyi")).exists()


def test_stub_has_module():
    orphans = [
        stub
        for stub in STUBS
        if not (ROOT / stub.with_suffix(".pyx")).exists()
        and not (ROOT / stub.with_suffix(".py")).exists()
    ]
    assert not orphans


def test_no_source_is_over_800_lines():
    suffixes = {".py", ".pyx", ".pxd", ".pyi", ".c", ".h"}
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git work tree")
    sources = [ROOT / name for name in listed.stdout.split() if Path(name).suffix in suffixes]
    lengths = {str(p): len(p.read_text().splitlines()) for p in sources if p.exists()}
    assert {name: n for name, n in lengths.items() if n > 800} == {}


def test_wheel_contents():
    with zipfile.ZipFile(archive("*.whl")) as wheel:
        names = set(wheel.namelist())
    assert "pyray/py.typed" in names
    assert {stub.as_posix() for stub in STUBS} <= names
    for module in MODULES:
        stem = module.with_suffix("").as_posix()
        assert [n for n in names if n.startswith(stem + ".") and n.endswith(".so")], stem
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "pyray").rglob("*.py")}
    assert sources <= names
    assert not [n for n in names if n.endswith((".c", ".h", ".o")) or n.startswith("tests")]


def test_sdist_contents():
    with tarfile.open(archive("*.tar.gz")) as sdist:
        names = {name.split("/", 1)[1] for name in sdist.getnames() if "/" in name}
    c_sources = [path.relative_to(ROOT) for path in (ROOT / "csrc").rglob("*.[ch]")]
    wanted = [*MODULES, *STUBS, *c_sources, Path("LICENSE"), Path("pyray/py.typed")]
    assert {path.as_posix() for path in wanted} <= names
    assert not [n for n in names if n.endswith((".so", ".o")) or n.startswith("build/")]


@pytest.mark.slow
def test_wheel_works_elsewhere(tmp_path):
    """Installed alone into a new environment, it serializes."""
    wheel = archive("*.whl")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True)
    code = "import pyray; assert pyray.loads(pyray.dumps([1, 'two', {3.0}])) == [1, 'two', {3.0}]"
    subprocess.run([python, "-c", code], check=True, cwd=tmp_path)
