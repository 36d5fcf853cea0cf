"""A worker's streams, in a process whose pipes the test reads."""

import os
import subprocess
import sys
import textwrap

from pyray.runtime.output import LineSplitter

PROGRAM = """
import os, sys
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
    subprocess.run([sys.executable, "-c", program], pass_fds=(out_writer, err_writer), check=True)
    os.close(out_writer)
    os.close(err_writer)
    splitter = LineSplitter()
    runs = splitter.feed(read(out)) + splitter.finish()
    assert runs == [
        ("f", [b"one", b"surrogate \\udc80", b"half"]),
        ("g", [b"whole", b"from a shell"]),
        ("g", [b"no end"]),
    ]
    assert LineSplitter().feed(read(err)) == [("g", [b"oops"])]


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
