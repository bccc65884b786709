"""Calibration against closed forms, losses' own functions, and a game whose returns are known."""

from counter_environment import CounterEnvironment, checking_act, decode, episode_length
import jax
import numpy as np
import pytest

from agents.interface import ActorOutput
from losses.moments import moments_of
from losses.value import explained_variance
from training.actor import CompiledAct
from training.calibration import (
  CalibrationWatcher,
  ValueReading,
  calibration,
  discounted_returns,
)
from training.evaluation import EvaluationSet, evaluate
from training.playing import play_episodes
from training.sharding import make_mesh

B, QUOTA = 4, 3
KEY = jax.random.key(0)


def test_discounted_returns_are_sums_of_powers():
  rewards = np.random.default_rng(0).normal(size=9)
  expected = [sum(0.9 ** (i - t) * rewards[i] for i in range(t, 9)) for t in range(9)]
  np.testing.assert_allclose(discounted_returns(rewards, 0.9), expected, rtol=1e-12)
  np.testing.assert_array_equal(discounted_returns([1.0, 2.0], 0.0), [1.0, 2.0])
  np.testing.assert_array_equal(discounted_returns([1.0, 2.0], 1.0), [3.0, 2.0])


def test_bias_and_explained_variance():
  generator = np.random.default_rng(1)
  observed = generator.normal(size=1000)
  for predicted, bias in (
    (observed + 2.0, 2.0),  # off by a constant: all of the variance is explained
    (np.full(1000, 5.0), 5.0 - observed.mean()),  # a constant: none
    (-observed, -2 * observed.mean()),
    (0.5 * observed + generator.normal(size=1000), None),
  ):
    found = calibration(predicted, observed)
    left = np.float32(observed - predicted)
    share, whole = explained_variance(moments_of(left), moments_of(np.float32(observed)))
    ours = float(share / whole)
    assert found["value_explained_variance"] == pytest.approx(ours, abs=1e-5)
    assert found["value_mean"] == pytest.approx(predicted.mean())
    if bias is not None:
      assert found["value_bias"] == pytest.approx(bias)
  # -G leaves G - v = 2 G, four times the variance.
  assert calibration(-observed, observed)["value_explained_variance"] == pytest.approx(-3.0)


def test_returns_that_do_not_vary_explain_nothing():
  found = calibration(np.array([1.0, 2.0]), np.zeros(2))
  assert found == {"value_mean": 1.5, "value_bias": 1.5, "value_explained_variance": None}


def act_knowing(discount, scale, error):
  """Acts as the counter wants, and reports the true return plus `error`, over `scale`."""

  def act(params, observation, key):
    output = checking_act(params, observation, key)
    environment, step = (np.asarray(x) for x in decode(np.asarray(observation)))
    values = []
    for b, t in zip(environment, step, strict=True):
      start, number = 0, 0
      while start + episode_length(b, number) <= t:
        start, number = start + episode_length(b, number), number + 1
      end = start + episode_length(b, number)
      rewards = [1000.0 * b + i for i in range(t, end)]
      values.append(sum(discount**i * r for i, r in enumerate(rewards)) + error)
    extras = {**output.extras, "value": np.asarray(values, np.float64) / scale}
    return ActorOutput(np.asarray(output.action), extras)

  return act


@pytest.mark.parametrize(("discount", "scale", "error"), [(1.0, 1.0, 0.0), (0.9, 4.0, -7.0)])
def test_an_agent_that_knows_its_returns(discount, scale, error):
  """Across episodes' ends, past the quota and in the agent's own unit."""
  watcher = CalibrationWatcher(ValueReading(discount, scale), num_environments=B)
  steps = []
  play_episodes(
    CounterEnvironment(B),
    act_knowing(discount, scale, error),
    np.int32(0),
    episodes_per_environment=QUOTA,
    key=KEY,
    watchers=(watcher.watch, lambda step: steps.append(int(step.counts.sum()))),
  )
  found = watcher.summary()
  assert found["value_bias"] == pytest.approx(error, abs=1e-9)
  assert found["value_explained_variance"] == pytest.approx(1.0)
  # Only steps of episodes within the quota count, and all of those.
  lengths = [episode_length(b, number) for b in range(B) for number in range(QUOTA)]
  assert sum(steps) == sum(lengths)
  assert steps[-1] < B


def test_a_wrong_discount_is_seen():
  watcher = CalibrationWatcher(ValueReading(0.5, 1.0), num_environments=B)
  play_episodes(
    CounterEnvironment(B),
    act_knowing(1.0, 1.0, 0.0),
    np.int32(0),
    episodes_per_environment=QUOTA,
    key=KEY,
    watchers=(watcher.watch,),
  )
  assert watcher.summary()["value_bias"] > 100


def test_a_row_says_it_where_a_value_is_reported():
  evaluation_set = EvaluationSet("test", "easy-all", 5, lambda: CounterEnvironment(B))
  common = {"episodes_per_environment": 2, "policy": "greedy", "key": KEY}
  act = CompiledAct(checking_act, make_mesh())
  assert "value_bias" not in evaluate(evaluation_set, act, np.int32(0), **common)
  row = evaluate(
    evaluation_set,
    act_knowing(0.9, 2.0, 3.0),
    np.int32(0),
    reading=ValueReading(0.9, 2.0),
    **common,
  )
  assert row["value_bias"] == pytest.approx(3.0)
