"""A worker's streams, in a process whose pipes the test reads."""

import os
import subprocess
import sys
import textwrap

from pyray.runtime.output import LineSplitter

PROGRAM = """
import os, subprocess, sys
from pyray.runtime import standard_streams

task = ["f"]
standard_streams.redirect({out}, {err}, lambda: task[0])
print("one")
print("surrogate \\udc80")
print("half", end="")
task[0] = "g"
print("whole")
print("oops", file=sys.stderr)
os.system("echo from a shell")
print("begun", end="")
task[0] = "h"
os.system("echo from its first words")
subprocess.run(["sh", "-c", "echo to stderr >&2"])
task[0] = ""
if os.fork() == 0:
    os.write(1, b"between tasks\\n")
    os._exit(0)
os.wait()
task[0] = "g"
assert sys.stdin.read() == ""
assert sys.stdout is sys.__stdout__ and sys.stdout.fileno() == 1
print("no end", end="")
standard_streams.flush()
os._exit(0)
"""


def read(fd: int) -> bytes:
    with open(fd, "rb") as file:
        return file.read()


def test_lines_arrive_with_the_names_of_their_tasks():
    out, out_writer = os.pipe()
    err, err_writer = os.pipe()
    program = PROGRAM.format(out=out_writer, err=err_writer)
    done = subprocess.run(
        [sys.executable, "-c", program], pass_fds=(out_writer, err_writer), capture_output=True
    )
    os.close(out_writer)
    os.close(err_writer)
    found, errors = read(out), read(err)
    assert done.returncode == 0, (done.stderr, errors)
    splitter = LineSplitter()
    assert splitter.feed(found) + splitter.finish() == [
        ("f", [b"one", b"surrogate \\udc80", b"half"]),
        ("g", [b"whole", b"from a shell", b"begun"]),
        ("h", [b"from its first words"]),
        ("", [b"between tasks"]),
        ("g", [b"no end"]),
    ]
    assert LineSplitter().feed(errors) == [("g", [b"oops"]), ("h", [b"to stderr"])]


def test_threads_of_a_library_that_is_loaded():
    program = """
    import os
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    from pyray.runtime import blas
    assert blas.set_threads(2) is False
    import numpy
    def threads():
        numpy.ones((300, 300)) @ numpy.ones((300, 300))
        return len(os.listdir("/proc/self/task"))
    assert threads() == 1, threads()
    if blas.set_threads(2):
        assert threads() > 1
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)
