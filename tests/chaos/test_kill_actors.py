"""Actors that are killed at random instants: calls are answered, in order; see kill_actors.py."""

import kill_actors
import pytest

LONG = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.mark.parametrize(("kills", "actors"), [(20, 30), pytest.param(2000, 1000, marks=LONG)])
def test_calls_are_answered_in_order_and_nothing_is_left(kills, actors):
    found = kill_actors.run(kills, actors)
    assert found["kills"] >= kills
