"""The Python in the README and in the page on tasks runs as it stands there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = [
    (page, code)
    for page in ("README.md", "docs/runtime.md")
    for code in re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)
]


@pytest.mark.parametrize("page, code", BLOCKS, ids=[page for page, _ in BLOCKS])
def test_block_runs(page, code):
    exec(compile(code, page, "exec"), {})


def test_blocks_found():
    assert {page for page, _ in BLOCKS} == {"README.md", "docs/runtime.md"}
