"""The Python in the README and on pages of docs runs as it stands there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = (
    "README.md",
    "docs/actors.md",
    "docs/runtime.md",
    "docs/spilling.md",
    "docs/store.md",
    "docs/util.md",
)
BLOCKS = [
    (page, code)
    for page in PAGES
    for code in re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)
]


@pytest.mark.parametrize("page, code", BLOCKS, ids=[page for page, _ in BLOCKS])
def test_block_runs(page, code, tmp_path, monkeypatch):
    monkeypatch.setenv("PYRAY_TMPDIR", str(tmp_path))
    exec(compile(code, page, "exec"), {})


def test_blocks_found():
    assert {page for page, _ in BLOCKS} == set(PAGES)
