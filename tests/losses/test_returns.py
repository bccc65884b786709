"""Returns against rlax, sums written out, and worked examples."""

import functools

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from losses import returns


def sequences(seed, num_steps, batch_size, *, gamma=0.9, end_probability=0.3):
  rng = np.random.default_rng(seed)
  reward = rng.normal(size=(num_steps, batch_size)).astype(np.float32)
  goes_on = rng.random((num_steps, batch_size)) >= end_probability
  discount = (gamma * goes_on).astype(np.float32)
  value = rng.normal(size=(num_steps + 1, batch_size)).astype(np.float32)
  return reward, discount, value


def test_advantage_of_two_steps_worked_by_hand():
  # gamma .5, lambda .5; environment 0 goes on, environment 1 ends at its first action.
  reward = jnp.array([[1.0, 1.0], [2.0, 2.0]])
  discount = jnp.array([[0.5, 0.0], [0.5, 0.5]])
  value = jnp.array([[4.0, 4.0], [6.0, 6.0], [8.0, 8.0]])
  # delta_1 = 2 + .5 * 8 - 6 = 0 in both. Environment 0: delta_0 = 1 + 3 - 4 = 0.
  # Environment 1: delta_0 = 1 - 4 = -3, and nothing of step 1 reaches it.
  advantage = returns.generalised_advantage(reward, discount, value, lambda_=0.5)
  np.testing.assert_array_equal(advantage, [[0.0, -3.0], [0.0, 0.0]])
  # With r_1 = 6: delta_1 = 4, A_0 = 0 + .5 * .5 * 4 = 1 in environment 0 only.
  reward = jnp.array([[1.0, 1.0], [6.0, 6.0]])
  advantage = returns.generalised_advantage(reward, discount, value, lambda_=0.5)
  np.testing.assert_array_equal(advantage, [[1.0, -3.0], [4.0, 4.0]])


@pytest.mark.parametrize("lambda_", [0.0, 0.5, 0.95, 1.0])
def test_advantage_equals_rlax(lambda_):
  reward, discount, value = sequences(0, 13, 4)
  ours = jax.jit(functools.partial(returns.generalised_advantage, lambda_=lambda_))(
    reward, discount, value
  )
  for b in range(reward.shape[1]):
    oracle = rlax.truncated_generalized_advantage_estimation(
      reward[:, b], discount[:, b], lambda_, value[:, b]
    )
    np.testing.assert_allclose(ours[:, b], oracle, atol=1e-5)


def test_advantage_reduces_to_one_step_error_and_to_return_minus_value():
  reward, discount, value = sequences(1, 9, 3)
  one_step = returns.generalised_advantage(reward, discount, value, lambda_=0.0)
  np.testing.assert_allclose(one_step, reward + discount * value[1:] - value[:-1], atol=1e-6)

  monte_carlo = returns.generalised_advantage(reward, discount, value, lambda_=1.0)
  full = value[-1].astype(np.float64)
  for t in reversed(range(9)):
    full = reward[t] + discount[t] * full
    np.testing.assert_allclose(monte_carlo[t], full - value[t], atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), end=st.integers(0, 10))
def test_advantage_does_not_cross_an_episode_end(seed, end):
  reward, discount, value = sequences(seed, 12, 2, end_probability=0.0)
  discount[end] = 0.0
  advantage = jax.jit(functools.partial(returns.generalised_advantage, lambda_=0.9))
  before = advantage(reward, discount, value)
  reward[end + 1 :] += 1e6
  value[end + 1 :] -= 1e6
  np.testing.assert_array_equal(before[: end + 1], advantage(reward, discount, value)[: end + 1])


@pytest.mark.parametrize("n", [1, 2, 5, 11])
def test_n_step_return_equals_rlax(n):
  reward, discount, value = sequences(2, 11, 3)
  ours = jax.jit(functools.partial(returns.n_step_return, n=n))(reward, discount, value)
  assert ours.shape == (11 - n + 1, 3)
  for b in range(3):
    oracle = rlax.n_step_bootstrapped_returns(reward[:, b], discount[:, b], value[1:, b], n)
    # rlax bootstraps earlier and earlier over the last n - 1 rows; ours leaves them out.
    np.testing.assert_allclose(ours[:, b], oracle[: 11 - n + 1], atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 7), end_probability=st.floats(0.0, 1.0))
def test_n_step_return_equals_the_sum_written_out(seed, n, end_probability):
  reward, discount, value = sequences(seed, 7, 2, end_probability=end_probability)
  ours = returns.n_step_return(reward, discount, value, n=n)
  for t in range(7 - n + 1):
    expected = np.zeros(2)
    weight = np.ones(2)
    for i in range(n):
      expected += weight * reward[t + i]
      weight *= discount[t + i]
    np.testing.assert_allclose(ours[t], expected + weight * value[t + n], atol=1e-5)


def test_n_step_return_over_all_steps_is_the_discounted_return():
  # 1 + .5 (2 + .5 (4 + .5 * 16)) = 1 + .5 (2 + 6) = 5.
  reward = jnp.array([[1.0], [2.0], [4.0]])
  bootstrap = jnp.array([[7.0], [7.0], [7.0], [16.0]])
  result = returns.n_step_return(reward, jnp.full((3, 1), 0.5), bootstrap, n=3)
  np.testing.assert_array_equal(result, [[5.0]])


@pytest.mark.parametrize("n", [1, 3, 6])
def test_constant_reward_is_a_fixed_point(n):
  gamma = 0.75  # 1 / (1 - gamma) = 4 exactly
  result = returns.n_step_return(
    jnp.ones((6, 2)), jnp.full((6, 2), gamma), jnp.full((7, 2), 4.0), n=n
  )
  np.testing.assert_array_equal(result, np.full((6 - n + 1, 2), 4.0))


def test_forward_return_worked_by_hand():
  # gamma .5, carry 8 from before; environment 1 ends at step 1, environment 0 at step 2.
  reward = jnp.array([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]])
  discount = jnp.array([[0.5, 0.5], [0.5, 0.0], [0.0, 0.5]])
  series, carry = returns.discounted_return_scan(reward, discount, jnp.array([8.0, 0.0]))
  # environment 0: 8 + 1 = 9, 4.5 + 2 = 6.5, 3.25 + 4 = 7.25, then empty.
  # environment 1: 1, .5 + 2 = 2.5 (the ending reward counts), 0 + 4 = 4, carry 2.
  np.testing.assert_array_equal(series, [[9.0, 1.0], [6.5, 2.5], [7.25, 4.0]])
  np.testing.assert_array_equal(carry, [0.0, 2.0])


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), cut=st.integers(1, 9))
def test_forward_return_of_pieces_equals_the_whole(seed, cut):
  reward, discount, _ = sequences(seed, 10, 3)
  initial = jnp.array([1.0, 0.0, -2.0])
  whole, carry = returns.discounted_return_scan(reward, discount, initial)
  head, middle = returns.discounted_return_scan(reward[:cut], discount[:cut], initial)
  tail, last = returns.discounted_return_scan(reward[cut:], discount[cut:], middle)
  np.testing.assert_array_equal(whole, np.concatenate([head, tail]))
  np.testing.assert_array_equal(carry, last)


def test_forward_return_without_ends_is_a_discounted_sum_of_the_past():
  reward, discount, _ = sequences(3, 8, 2, end_probability=0.0)
  series, _ = returns.discounted_return_scan(reward, discount, jnp.zeros(2))
  for t in range(8):
    expected = sum(0.9 ** (t - i) * reward[i].astype(np.float64) for i in range(t + 1))
    np.testing.assert_allclose(series[t], expected, atol=1e-5)


def test_bad_arguments_are_refused():
  reward, discount, value = sequences(4, 5, 2)
  for n in (0, 6):
    with pytest.raises(ValueError, match=r"n must lie in \[1, T = 5\]"):
      returns.n_step_return(reward, discount, value, n=n)
  with pytest.raises(ValueError, match="lambda_"):
    returns.generalised_advantage(reward, discount, value, lambda_=1.5)
  for function in (
    functools.partial(returns.n_step_return, n=2),
    functools.partial(returns.generalised_advantage, lambda_=0.9),
  ):
    with pytest.raises(AssertionError):
      function(reward, discount, value[:-1])  # bootstrap missing
    with pytest.raises(AssertionError):
      function(reward[:, 0], discount[:, 0], value[:, 0])  # no batch axis
    with pytest.raises(AssertionError):
      function(reward, discount[:, :1], value)  # would broadcast
    with pytest.raises(AssertionError):
      function(reward, discount > 0, value)  # a done flag is not a discount
  with pytest.raises(AssertionError):
    returns.discounted_return_scan(reward, discount, jnp.zeros(3))
