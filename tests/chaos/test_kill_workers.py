"""Workers that are killed at random instants cost nothing but time; see kill_workers.py."""

import kill_workers
import pytest


@pytest.mark.parametrize(
    "kills", [30, pytest.param(3000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_every_result_is_right_and_nothing_is_left(kills):
    found = kill_workers.run(kills)
    assert found["kills"] >= kills
