"""Counters: means over the last hundred episodes, the same after a checkpoint."""

import dataclasses
import json

import numpy as np

from training.counters import Counters
from training.episodes import Episode


def make_episodes(start: int, stop: int) -> list[Episode]:
  return [
    Episode(0, n, n / 7, n + 1, level_complete=n % 2 == 0, timed_out=n % 5 == 0)
    for n in range(start, stop)
  ]


def test_means_are_over_the_last_hundred_episodes():
  counters = Counters()
  assert counters.recent_means() == [None, None, None]
  counters.add_episodes(make_episodes(0, 3))
  np.testing.assert_allclose(counters.recent_means(), [1 / 7, 2.0, 2 / 3])
  counters.add_episodes(make_episodes(3, 150))
  counters.add_episodes([])
  last = make_episodes(50, 150)
  np.testing.assert_allclose(
    counters.recent_means(),
    [np.mean([e.episode_return for e in last]), np.mean([e.length for e in last]), 0.5],
  )
  assert counters.episodes == 150
  assert counters.time_outs == 30


def test_they_pass_through_json_without_loss():
  counters = Counters(environment_steps=2**40, draws=[3, 1], seconds=0.1 + 0.2)
  counters.add_episodes(make_episodes(0, 120))
  other = Counters(**json.loads(json.dumps(dataclasses.asdict(counters))))
  assert other == counters
  for each in (counters, other):
    each.add_episodes(make_episodes(120, 140))
  assert other.recent_means() == counters.recent_means()
