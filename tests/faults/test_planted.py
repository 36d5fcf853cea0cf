"""The planted faults: that each can still be planted. Whether it is found: `make test-faults`."""

from __future__ import annotations

import planted
import pytest


@pytest.mark.parametrize("fault", planted.FAULTS, ids=lambda fault: fault[0])
def test_the_core_has_the_line(fault):
    _, file, there, *_ = fault
    assert there in (planted.ROOT / "csrc" / file).read_text()
