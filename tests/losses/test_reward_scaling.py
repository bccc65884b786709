"""Reward scaling against the published algorithm, with every past return kept, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from losses import reward_scaling

scale = functools.partial(reward_scaling.scale_rewards, gamma=0.99, clip=10.0)
scale_jit = jax.jit(scale)


class SlowScaler:
  """Keeps all returns; at every step their variance is computed anew.

  The prior is a cloud of total weight 1e-4, mean 0 and variance 1.
  """

  def __init__(self, num_environments):
    self.running_return = np.zeros(num_environments)
    self.seen = []

  def step(self, reward, ended):
    self.running_return = 0.99 * self.running_return + reward
    self.seen.extend(self.running_return)
    seen = np.array(self.seen)
    weight = 1e-4 + len(seen)
    mean = seen.sum() / weight
    self.variance = (1e-4 * (1.0 + mean**2) + ((seen - mean) ** 2).sum()) / weight
    self.running_return = np.where(ended, 0.0, self.running_return)
    return np.clip(reward / np.sqrt(self.variance + 1e-8), -10.0, 10.0)


def rollout(rng, num_steps, num_environments, *, end_probability=0.1):
  reward = rng.gamma(0.3, 5.0, size=(num_steps, num_environments)).astype(np.float32)
  goes_on = rng.random((num_steps, num_environments)) >= end_probability
  return reward, goes_on.astype(np.float32)


@pytest.mark.parametrize("num_environments", [1, 2, 7])
def test_equals_the_slow_reference_over_several_rollouts(num_environments):
  rng = np.random.default_rng(num_environments)
  slow = SlowScaler(num_environments)
  state = reward_scaling.initial_reward_scaling(num_environments)
  for _ in range(3):
    reward, mask = rollout(rng, 11, num_environments)
    state, scaled = scale_jit(state, reward, mask)
    expected = np.stack([slow.step(r, m == 0.0) for r, m in zip(reward, mask, strict=True)])
    np.testing.assert_allclose(scaled, expected, rtol=2e-4)
    np.testing.assert_allclose(state.moments.variance, slow.variance, rtol=2e-4)
    np.testing.assert_allclose(
      state.discounted_return, 0.99 * slow.running_return, rtol=1e-5, atol=1e-6
    )


def test_first_reward_worked_by_hand():
  # One environment, reward 100: mean = 100 / 1.0001; variance = (1e-4 * 1 + 1e4 * 1e-4 / 1.0001)
  # / 1.0001 = .99990001, so 100 becomes 100.005 and is clipped to 10; -100 to -10.
  for reward, expected in ((100.0, 10.0), (-100.0, -10.0)):
    state, scaled = scale(
      reward_scaling.initial_reward_scaling(1), jnp.array([[reward]]), jnp.ones((1, 1))
    )
    np.testing.assert_array_equal(scaled, [[expected]])
    np.testing.assert_allclose(state.moments.variance, 0.9999, rtol=1e-5)
    np.testing.assert_allclose(state.moments.mean, reward / 1.0001, rtol=1e-6)
    np.testing.assert_allclose(state.discounted_return, [0.99 * reward], rtol=1e-6)


def test_no_mean_is_subtracted_and_the_sign_is_kept():
  rng = np.random.default_rng(0)
  reward, mask = rollout(rng, 20, 4)
  state = reward_scaling.initial_reward_scaling(4)
  _, scaled = scale_jit(state, reward, mask)
  assert np.all(np.sign(scaled) == np.sign(reward))
  _, negated = scale_jit(state, -reward, mask)
  np.testing.assert_allclose(negated, -scaled, rtol=1e-6)


def test_scale_of_the_rewards_falls_out():
  rng = np.random.default_rng(1)
  reward, mask = rollout(rng, 30, 8)
  state = reward_scaling.initial_reward_scaling(8)
  _, scaled = scale_jit(state, reward, mask)
  _, rescaled = scale_jit(state, 100.0 * reward, mask)
  np.testing.assert_allclose(scaled, rescaled, rtol=1e-3)


def test_an_episode_end_empties_the_return():
  # Same rewards; ending every episode at once leaves only single rewards to be seen.
  reward = jnp.ones((50, 3))
  always_ends, _ = scale(reward_scaling.initial_reward_scaling(3), reward, jnp.zeros((50, 3)))
  np.testing.assert_allclose(always_ends.moments.mean, 1.0, rtol=1e-5)
  np.testing.assert_array_equal(always_ends.discounted_return, np.zeros(3))
  never_ends, _ = scale(reward_scaling.initial_reward_scaling(3), reward, jnp.ones((50, 3)))
  # sum_{i<50} .99^i = (1 - .99^50) / .01 = 39.499; after the last step times .99.
  np.testing.assert_allclose(
    never_ends.discounted_return, np.full(3, 0.99 * (1 - 0.99**50) / 0.01), rtol=1e-5
  )


def test_one_call_equals_two():
  rng = np.random.default_rng(2)
  reward, mask = rollout(rng, 16, 5)
  start = reward_scaling.initial_reward_scaling(5)
  whole_state, whole = scale(start, reward, mask)
  middle, head = scale(start, reward[:6], mask[:6])
  last, tail = scale(middle, reward[6:], mask[6:])
  np.testing.assert_allclose(whole, np.concatenate([head, tail]), rtol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), whole_state, last
  )


def test_float32_still_follows_after_a_billion_steps():
  rng = np.random.default_rng(3)
  state = reward_scaling.RewardScaling(
    moments=reward_scaling.RunningMoments(
      count=jnp.float32(1e9), mean=jnp.float32(0.0), variance=jnp.float32(1.0)
    ),
    discounted_return=jnp.zeros(64),
  )
  count, total, squares = 1e9, 0.0, 1e9  # float64 sums of the same samples
  for _ in range(20):
    reward = rng.normal(1.0, 3.0, size=(256, 64)).astype(np.float32)
    state, _ = scale_jit(state, reward, np.zeros_like(reward))  # returns are single rewards
    samples = reward.astype(np.float64)
    count += samples.size
    total += samples.sum()
    squares += (samples**2).sum()
  mean = total / count
  moved = squares / count - mean**2 - 1.0  # about 3e-3
  assert moved > 1e-3
  np.testing.assert_allclose(state.moments.variance - 1.0, moved, rtol=0.01)
  np.testing.assert_allclose(state.moments.mean, mean, rtol=0.01)
  assert float(state.moments.count) == 1e9 + 20 * 256 * 64


def test_merged_moments_equal_those_of_all_samples():
  rng = np.random.default_rng(4)
  a, b = rng.normal(5.0, 2.0, size=30), rng.normal(-1.0, 0.1, size=7)
  moments = [
    reward_scaling.RunningMoments(
      count=jnp.float32(x.size), mean=jnp.float32(x.mean()), variance=jnp.float32(x.var())
    )
    for x in (a, b)
  ]
  both = np.concatenate([a, b])
  for merged in (
    reward_scaling.merge_moments(*moments),
    reward_scaling.merge_moments(*reversed(moments)),
  ):
    assert float(merged.count) == 37.0
    np.testing.assert_allclose(merged.mean, both.mean(), rtol=1e-5)
    np.testing.assert_allclose(merged.variance, both.var(), rtol=1e-5)


def test_bad_arguments_are_refused():
  state = reward_scaling.initial_reward_scaling(2)
  reward, mask = jnp.ones((3, 2)), jnp.ones((3, 2))
  with pytest.raises(ValueError, match="gamma"):
    reward_scaling.scale_rewards(state, reward, mask, gamma=1.1, clip=10.0)
  with pytest.raises(ValueError, match="clip"):
    reward_scaling.scale_rewards(state, reward, mask, gamma=0.99, clip=0.0)
  with pytest.raises(ValueError, match="epsilon"):
    reward_scaling.scale_rewards(state, reward, mask, gamma=0.99, clip=10.0, epsilon=0.0)
  with pytest.raises(ValueError, match="num_environments"):
    reward_scaling.initial_reward_scaling(0)
  with pytest.raises(AssertionError):
    scale(state, jnp.ones((3, 4)), jnp.ones((3, 4)))  # another number of environments
  with pytest.raises(AssertionError):
    scale(state, reward, mask[:, :1])
