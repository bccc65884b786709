"""A turn's record of where its time goes: shares and rates against a clock that is set by hand."""

import pytest

from training.stopwatch import Stopwatch


class Clock:
  """Shows the time that it is set to."""

  def __init__(self):
    self.time = 100.0

  def __call__(self):
    return self.time


def test_shares_and_rates_are_of_the_whole_time():
  clock = Clock()
  watch = Stopwatch(now=clock)
  with watch.part("acting"):
    clock.time += 3
    with watch.part("inference"):
      clock.time += 2
  for _ in range(2):
    with watch.part("model_update"):
      clock.time += 1.5
    watch.count({"updates": 4, "simulations": 10})
  watch.count({"steps": 1, "simulations": 2}, times=60)
  watch.add_seconds("inference", 1.0)
  clock.time += 2  # in no part
  assert watch.elapsed() == 10
  assert watch.report() == pytest.approx(
    {
      "speed/acting_share": 0.5,
      "speed/inference_share": 0.3,
      "speed/model_update_share": 0.3,
      "speed/updates_per_second": 0.8,
      "speed/simulations_per_second": 14.0,
      "speed/steps_per_second": 6.0,
    }
  )


def test_a_part_that_fails_is_counted():
  clock = Clock()
  watch = Stopwatch(now=clock)

  def fail():
    with watch.part("model_update"):
      clock.time += 4
      raise KeyError

  with pytest.raises(KeyError):
    fail()
  assert watch.report() == {"speed/model_update_share": 1.0}
