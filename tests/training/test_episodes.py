"""Episodes: what is summed, what is reported, what is reset."""

from counter_environment import TIME_LIMIT, CounterEnvironment, episode_length, expected_action
import numpy as np

from environments.interface import EnvironmentSpec, TimeStep
from training.episodes import Episode, EpisodeTracker


def time_step(reward, first, level_seed, complete=None) -> TimeStep:
  first = np.asarray(first, bool)
  return TimeStep(
    observation=np.zeros((len(first), 1, 1, 1), np.uint8),
    reward=np.asarray(reward, np.float32),
    first=first,
    level_seed=np.asarray(level_seed, np.int32),
    previous_level_complete=np.zeros_like(first) if complete is None else np.asarray(complete),
  )


def test_two_environments_by_hand():
  tracker = EpisodeTracker(EnvironmentSpec("x", 2, (1, 1, 1), 2, time_limit=3))
  tracker.start(time_step([9, 9], [1, 1], [50, 60]))  # the reward before the start is not ours
  assert tracker.update(time_step([1, 0.5], [0, 0], [50, 60])) == []
  # Environment 0 ends with a reward of 2 and shows level 51 already.
  assert tracker.update(time_step([2, 0.25], [1, 0], [51, 60], [True, False])) == [
    Episode(0, 50, 3.0, 2, level_complete=True, timed_out=False)
  ]
  # Environment 1 ends by the clock after 3 steps; 0 ends after one.
  assert tracker.update(time_step([-1, 0.25], [1, 1], [52, 61], [False, False])) == [
    Episode(0, 51, -1.0, 1, level_complete=False, timed_out=False),
    Episode(1, 60, 1.0, 3, level_complete=False, timed_out=True),
  ]
  assert tracker.update(time_step([5, 5], [0, 1], [52, 62])) == [
    Episode(1, 61, 5.0, 1, level_complete=False, timed_out=False)
  ]


def test_every_step_belongs_to_one_episode():
  environment = CounterEnvironment(3)
  tracker = EpisodeTracker(environment.spec)
  tracker.start(environment.observe())
  episodes = []
  for step in range(50):
    environment.act(expected_action(np.arange(3), step).astype(np.int32))
    episodes += tracker.update(environment.observe())
  for b in range(3):
    mine = [episode for episode in episodes if episode.environment == b]
    start = 0
    for number, episode in enumerate(mine):
      length = episode_length(b, number)
      assert episode.length == length
      assert episode.level_seed == 100 * number + b
      # Rewards are 1000 b + step.
      assert episode.episode_return == sum(1000 * b + t for t in range(start, start + length))
      assert episode.timed_out == (length == TIME_LIMIT)
      assert episode.level_complete == (number % 2 == 0)
      start += length
    assert start > 50 - TIME_LIMIT


def test_unfinished_episodes_are_saved_and_restored():
  spec = EnvironmentSpec("x", 1, (1, 1, 1), 2, time_limit=9)
  tracker = EpisodeTracker(spec)
  tracker.start(time_step([0], [1], [7]))
  tracker.update(time_step([0.1], [0], [7]))
  state = tracker.save_state()
  tracker.update(time_step([100], [0], [7]))  # a state that was handed out does not change
  other = EpisodeTracker(spec)
  other.restore_state(state)
  assert other.update(time_step([2], [1], [8])) == [
    Episode(0, 7, float(np.float32(0.1)) + 2.0, 2, level_complete=False, timed_out=False)
  ]
