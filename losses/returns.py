"""Returns and advantages over time-first arrays.

`discount` is always after the action of its row, with gamma applied, and 0 where
that action ended the episode; so nothing reaches across an episode's end.
"""

import chex
import jax
import jax.numpy as jnp


def generalised_advantage(
  reward: jax.Array, discount: jax.Array, value: jax.Array, *, lambda_: float
) -> jax.Array:
  """Generalised advantage estimate (Schulman et al. 2016, eq. 16).

    delta_t = r_t + g_t v_{t+1} - v_t
    A_t     = delta_t + g_t lambda A_{t+1},   A_T = 0

  `A_t + v_t` is the lambda-return: the one-step target at lambda 0, and the
  return bootstrapped from `v_T` alone at lambda 1.

  Args:
    reward: `[T, B]` after each action.
    discount: `[T, B]` with gamma applied, 0 where an episode ended.
    value: `[T + 1, B]` of every observation, the last included.
    lambda_: in [0, 1].

  Returns:
    `[T, B]`.

  Raises:
    ValueError: `lambda_` is outside [0, 1].
    AssertionError: the shapes do not fit.
  """
  _check_time_first(reward, discount, value)
  if not 0.0 <= lambda_ <= 1.0:
    raise ValueError(f"lambda_ must lie in [0, 1], got {lambda_!r}")

  def step(advantage_t, inputs):
    delta_tm1, discount_t = inputs
    advantage_tm1 = delta_tm1 + discount_t * lambda_ * advantage_t
    return advantage_tm1, advantage_tm1

  delta = reward + discount * value[1:] - value[:-1]
  _, advantage = jax.lax.scan(step, jnp.zeros_like(delta[0]), (delta, discount), reverse=True)
  return advantage


def n_step_return(
  reward: jax.Array, discount: jax.Array, bootstrap: jax.Array, *, n: int
) -> jax.Array:
  """n-step bootstrapped return (Sutton & Barto 2018, eq. 7.1).

    G_t = r_{t+1} + g_{t+1} (r_{t+2} + ... + g_{t+n} v_{t+n})

  With n = T the one row left is the discounted return of the whole sequence.
  The n steps are unrolled when the function is traced.

  Args:
    reward: `[T, B]` after each action.
    discount: `[T, B]` with gamma applied, 0 where an episode ended.
    bootstrap: `[T + 1, B]` value of every observation, the last included.
    n: steps before bootstrapping, at most `T`.

  Returns:
    `[T - n + 1, B]`.

  Raises:
    ValueError: `n` is outside [1, T].
    AssertionError: the shapes do not fit.
  """
  _check_time_first(reward, discount, bootstrap)
  num_steps = reward.shape[0]
  if not 1 <= n <= num_steps:
    raise ValueError(f"n must lie in [1, T = {num_steps}], got {n!r}")
  num_returns = num_steps - n + 1
  result = bootstrap[n:]
  for i in reversed(range(n)):
    result = reward[i : i + num_returns] + discount[i : i + num_returns] * result
  return result


def discounted_return_scan(
  reward: jax.Array, discount: jax.Array, initial: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Discounted sum of the rewards so far, forward in time.

    R_t = c_t + r_t,   c_{t+1} = g_t R_t,   c_0 = initial

  The past is discounted, not the future: this is the quantity by whose standard
  deviation rewards are scaled (`losses.reward_scaling`), not a learning target.
  The reward that ends an episode still counts in its row's R; then g_t = 0
  empties the carry, so the next row starts a new sum. Two calls on consecutive
  pieces, the carry handed on, equal one call on both.

  Args:
    reward: `[T, B]` after each action.
    discount: `[T, B]` with gamma applied, 0 where an episode ended.
    initial: `[B]` carry of the piece before, already discounted; 0 at the start.

  Returns:
    R, `[T, B]`, and the carry c_T, `[B]`.

  Raises:
    AssertionError: the shapes do not fit.
  """
  chex.assert_rank([reward, discount, initial], [2, 2, 1])
  chex.assert_equal_shape([reward, discount])
  chex.assert_shape(initial, reward.shape[1:])

  def step(carry, inputs):
    reward_t, discount_t = inputs
    return_t = carry + reward_t
    return discount_t * return_t, return_t

  carry, series = jax.lax.scan(step, initial, (reward, discount))
  return series, carry


def _check_time_first(reward: jax.Array, discount: jax.Array, value: jax.Array) -> None:
  """Asserts `[T, B]`, `[T, B]`, `[T + 1, B]` and floating-point types."""
  chex.assert_rank([reward, discount, value], 2)
  chex.assert_type([reward, discount, value], float)
  chex.assert_equal_shape([reward, discount])
  chex.assert_shape(value, (reward.shape[0] + 1, reward.shape[1]))
