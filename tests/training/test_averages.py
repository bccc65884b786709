"""Metrics of updates together: means, and ratios that no empty minibatch dilutes."""

import math

import pytest

from agents.interface import Ratio
from training.averages import average, is_finite, settled

# Three updates; one of them alone had steps with a reward, four of them.
ROWS = [
  {"loss": 1.0, "reward_error": Ratio(0.0, 0.0)},
  {"loss": 2.0, "reward_error": Ratio(12.0, 4.0)},
  {"loss": 6.0, "reward_error": Ratio(0.0, 0.0)},
]


def test_a_ratio_is_of_the_sums():
  assert settled(average(ROWS)) == {"loss": 3.0, "reward_error": 3.0}


def test_averages_of_averages_lose_nothing():
  """As of updates within a draw, then of draws within a turn."""
  rows = [*ROWS, {"loss": 3.0, "reward_error": Ratio(8.0, 1.0)}]
  together = average([average(rows[:2]), average(rows[2:])])
  assert settled(together) == settled(average(rows)) == {"loss": 3.0, "reward_error": 4.0}


def test_a_ratio_of_nothing_is_left_out():
  assert settled(average([ROWS[0], ROWS[2]])) == {"loss": 3.5}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_found_in_both_parts(bad):
  assert is_finite(1.0)
  assert is_finite(Ratio(1.0, 0.0))
  assert not is_finite(bad)
  assert not is_finite(Ratio(bad, 1.0))
  assert not is_finite(Ratio(1.0, bad))
