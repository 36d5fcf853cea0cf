"""Everything at once in a store that is much too small; see soak.py."""

import pytest
import soak

SHORT = {"minutes": 1 / 4, "round_seconds": 5, "store": 200, "live": 600, "largest": 60}
LONG = {"minutes": 30}


@pytest.mark.parametrize(
    "options",
    [SHORT, pytest.param(LONG, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])],
    ids=["short", "long"],
)
def test_every_value_is_right_and_nothing_is_left(options):
    found = soak.run(**options)
    assert found["objects made"] and found["GB written to files"]
    assert found["workers and actors killed"]
