"""No room for log files: tasks go on, their output reaches the driver, one warning says it."""

import os
import subprocess
from contextlib import contextmanager

import pytest
from drivers import run

PROGRAM = """
    import resource
    ray.init(num_cpus=2)
    {limit}
    texts = []
    session.on_warning(texts.append)

    @ray.remote
    def talk(name):
        for i in range(2000):
            print(name, i, "x" * 60)
            print(name, i, file=sys.stderr)
        return name

    assert ray.get([talk.remote(name) for name in "abcd"]) == list("abcd")
    session.current().flush()
    (text,) = texts
    assert text.startswith("The log " + session.current().logs), text
    assert "{reason}" in text and "still printed" in text, text
    sizes = [os.path.getsize(os.path.join(session.current().logs, name))
             for name in os.listdir(session.current().logs)]
    assert 0 < max(sizes) <= 64 << 10, sizes
    assert ray.get(talk.remote("e")) == "e"
    assert len(texts) == 1, texts
"""


def check(program: str, env: dict[str, str]) -> None:
    out, err = run(program, {"PYRAY_DEDUP_LOGS": "0", **env})
    for text, end in ((out, " " + "x" * 60), (err, "")):
        lines = [line.partition(") ")[2] for line in text.splitlines() if line.startswith("(talk")]
        for name in "abcde":
            mine = [line for line in lines if line.startswith(name)]
            assert mine == [f"{name} {i}{end}" for i in range(2000)]


def test_the_node_may_write_no_more(tmp_path):
    limit = "resource.prlimit(session.current().node_pid, resource.RLIMIT_FSIZE, (64 << 10,) * 2)"
    program = PROGRAM.format(limit=limit, reason="File too large")
    check(program, {"PYRAY_TMPDIR": str(tmp_path)})


@contextmanager
def mounted(path, size: str):
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none", str(path)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system can be mounted by root only")
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_the_file_system_is_full(tmp_path):
    with mounted(tmp_path, "64k"):
        program = PROGRAM.format(limit="", reason="No space left on device")
        check(program, {"PYRAY_TMPDIR": str(tmp_path)})
        assert os.listdir(tmp_path / f"pyray-{os.getuid()}") == []
