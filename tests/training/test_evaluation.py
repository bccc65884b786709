"""Evaluation plays a quota in every environment, no more and no less."""

from counter_environment import CounterEnvironment, checking_act, episode_length
import jax
import numpy as np
import pytest

from training.actor import CompiledAct
from training.episodes import Episode
from training.evaluation import EvaluationSet, evaluate, summarise
from training.playing import play_episodes
from training.sharding import make_mesh

B, QUOTA = 4, 3
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def act():
  return CompiledAct(checking_act, make_mesh())


def test_every_environment_plays_exactly_its_quota(act):
  """The first episodes of each environment count, however short the others' are."""
  episodes = play_episodes(
    CounterEnvironment(B), act, np.int32(0), episodes_per_environment=QUOTA, key=KEY
  )
  assert len(episodes) == B * QUOTA
  for b in range(B):
    mine = [episode for episode in episodes if episode.environment == b]
    assert [e.level_seed for e in mine] == [100 * number + b for number in range(QUOTA)]
    assert [e.length for e in mine] == [episode_length(b, number) for number in range(QUOTA)]
  # The environments differ in speed: the fast ones went on while the slow ones finished.
  total = [sum(e.length for e in episodes if e.environment == b) for b in range(B)]
  assert max(total) > min(total)


def test_it_stops_with_the_last_quota(act):
  environment = CounterEnvironment(B)
  episodes = play_episodes(environment, act, np.int32(0), episodes_per_environment=QUOTA, key=KEY)
  slowest = max(sum(e.length for e in episodes if e.environment == b) for b in range(B))
  assert environment.step == slowest


def make_set(environment) -> EvaluationSet:
  return EvaluationSet("test", "easy-all", 5, lambda: environment)


def test_a_row_says_how_it_was_made(act):
  environment = CounterEnvironment(B)
  row = evaluate(
    make_set(environment), act, np.int32(0), episodes_per_environment=2, policy="greedy", key=KEY
  )
  assert environment.closed
  expected = {
    "split": "test", "levels": "easy-all", "policy": "greedy", "episodes_per_environment": 2,
    "num_environments": B, "seed": 5, "episodes": 2 * B,
  }  # fmt: skip
  assert {name: row[name] for name in expected} == expected
  lengths = [episode_length(b, number) for b in range(B) for number in range(2)]
  assert row["episode_length"] == np.mean(lengths)
  assert row["time_outs"] == lengths.count(4)
  assert row["level_complete"] == 0.5


def test_means_are_over_episodes():
  episodes = [
    Episode(0, 1, episode_return, length, level_complete=complete, timed_out=not complete)
    for episode_return, length, complete in [(1.0, 10, True), (2.0, 20, False), (6.0, 60, False)]
  ]
  assert summarise(episodes) == {
    "episodes": 3,
    "episode_return": 3.0,
    "episode_return_std": pytest.approx(np.sqrt((4 + 1 + 9) / 3)),
    "episode_length": 30.0,
    "level_complete": pytest.approx(1 / 3),
    "time_outs": 2,
  }


def test_the_environments_are_closed_when_acting_fails():
  environment = CounterEnvironment(B)

  def fail(params, observation, key):
    raise RuntimeError("no")

  with pytest.raises(RuntimeError, match="no"):
    evaluate(
      make_set(environment), fail, None, episodes_per_environment=1, policy="sampled", key=KEY
    )
  assert environment.closed


def test_the_key_decides(act):
  """The noise of every step is another, and the same for the same key."""
  seen = []

  def watching(params, observation, key):
    output = act(params, observation, key)
    seen[-1].append(np.asarray(output.extras["noise"]))
    return output

  for key in (KEY, KEY, jax.random.key(1)):
    seen.append([])
    play_episodes(CounterEnvironment(B), watching, np.int32(0), episodes_per_environment=2, key=key)
  np.testing.assert_array_equal(seen[0], seen[1])
  different = np.concatenate([np.ravel(seen[0]), np.ravel(seen[2])])
  assert len(np.unique(different)) == different.size
