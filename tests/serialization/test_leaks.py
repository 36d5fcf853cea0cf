"""No references and no memory are left behind: each case of leak_cases.py, many times over.

`make test` runs each a few times in one process of their own, the test marked slow 10,000 times
in a process for each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import leak_cases
import pytest

QUICK_TO_SETTLE = [
    name
    for name in leak_cases.CASES
    if name not in leak_cases.LEAKING and name not in leak_cases.SLOW_TO_SETTLE
]
HONEST = [name for name in leak_cases.CASES if name not in leak_cases.LEAKING]
QUICK = 200
#: Blocks that a round may leave: fewer than one for each of its runs, even of the quick ones.
BLOCKS_A_ROUND = 36
BYTES_AT_ALL = 4 << 20


def measured(count, *names):
    """Name -> what so many runs of that case left."""
    program = Path(leak_cases.__file__)
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "0",
        # Freed memory goes back to the system or into one arena: RSS says what is in use.
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_TRIM_THRESHOLD_": "65536",
        "MALLOC_MMAP_THRESHOLD_": "65536",
    }
    result = subprocess.run(
        [sys.executable, str(program), str(count), *names],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return dict(map(json.loads, result.stdout.splitlines()))


def leaks(figures, count):
    """What of the figures is more than runs without a leak may leave."""
    most = BLOCKS_A_ROUND * leak_cases.ROUNDS / count
    limits = {"blocks": most, "references": most, "memory": BYTES_AT_ALL}
    return {name: value for name, value in figures.items() if value > limits[name]}


@pytest.fixture(scope="module")
def quick():
    return measured(QUICK, *QUICK_TO_SETTLE)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc here")
class TestLeaks:
    @pytest.mark.parametrize("name", QUICK_TO_SETTLE)
    def test_two_hundred_times(self, name, quick):
        assert leaks(quick[name], QUICK) == {}

    @pytest.mark.slow
    @pytest.mark.timeout(3600)
    @pytest.mark.parametrize("name", HONEST)
    def test_ten_thousand_times(self, name):
        figures = measured(10_000, name)[name]
        print(name, figures)
        assert leaks(figures, 10_000) == {}

    def test_leaked_objects_are_found(self):
        found = measured(QUICK, "leaking_objects")["leaking_objects"]
        assert leaks(found, QUICK).keys() >= {"blocks"}

    def test_leaked_memory_is_found(self):
        found = measured(2000, "leaking_memory")["leaking_memory"]
        assert leaks(found, 2000).keys() == {"memory"}
