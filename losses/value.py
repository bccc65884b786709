"""Losses and measures of scalar value predictions, per element and never averaged."""

import chex
import jax
import jax.numpy as jnp

from losses.moments import Moments

ROUNDING = 1e-4  # standard deviation of values, below which they are taken as equal


def squared_value_loss(value: jax.Array, target: jax.Array) -> jax.Array:
  """Half the squared error.

    0.5 (v - target)^2

  Args:
    value: `[N]`.
    target: `[N]`.

  Returns:
    `[N]`.

  Raises:
    AssertionError: not of rank 1, or the shapes differ.
  """
  chex.assert_rank([value, target], 1)
  chex.assert_equal_shape([value, target])
  return 0.5 * jnp.square(value - target)


def huber_value_loss(value: jax.Array, target: jax.Array, *, delta: float) -> jax.Array:
  """Half the squared error near the target, linear further off (Huber 1964, eq. 4).

    e = |v - target|
    0.5 e^2            where e <= delta
    delta (e - 0.5 delta)  else

  At delta 1 its gradient is the error limited to [-1, 1], as in Nature DQN.

  Args:
    value: `[...]`.
    target: `[...]`.
    delta: where it turns linear, in units of value.

  Returns:
    `[...]`.

  Raises:
    ValueError: `delta` is not positive.
    AssertionError: the shapes differ.
  """
  if not delta > 0.0:
    raise ValueError(f"delta must be positive, got {delta!r}")
  chex.assert_equal_shape([value, target])
  error = jnp.abs(value - target)
  near = jnp.minimum(error, delta)
  return 0.5 * jnp.square(near) + delta * (error - near)


def clipped_value_loss(
  value: jax.Array, old_value: jax.Array, target: jax.Array, *, clip: float
) -> jax.Array:
  """PPO's clipped value loss (OpenAI Baselines, ppo2; not in the paper).

    v_clipped = v_old + clip(v - v_old, -clip, clip)
    0.5 max((v - target)^2, (v_clipped - target)^2)

  Args:
    value: `[N]`, the prediction that learns.
    old_value: `[N]`, the prediction when the action was taken.
    target: `[N]`.
    clip: largest move from `old_value` that is still rewarded, in units of value.

  Returns:
    `[N]`.

  Raises:
    ValueError: `clip` is not positive.
    AssertionError: not of rank 1, or the shapes differ.
  """
  if not clip > 0.0:
    raise ValueError(f"clip must be positive, got {clip!r}")
  chex.assert_rank([value, old_value, target], 1)
  chex.assert_equal_shape([value, old_value, target])
  clipped = old_value + jnp.clip(value - old_value, -clip, clip)
  return 0.5 * jnp.maximum(jnp.square(value - target), jnp.square(clipped - target))


def explained_variance(residual: Moments, target: Moments) -> tuple[jax.Array, jax.Array]:
  """What of the target's variance a prediction explains, and what that is a share of.

    var(target) - var(target - prediction),   var(target)

  Of the quotient, 1 is perfect up to a constant, 0 as good as a constant, negative worse than
  one. Over several batches both add up, to the variances within batches: the mean of the
  quotients would be that of the batch that hardly varies.

  Args:
    residual: of target - prediction, scalars.
    target: scalars.

  Returns:
    Two scalars; 0 and 0, of which there is no quotient, where the target's standard deviation
    is at most 1e-4: a batch without any reward differs by rounding alone.
  """
  varies = target.variance > ROUNDING**2
  explained = target.variance - residual.variance
  return jnp.where(varies, explained, 0.0), jnp.where(varies, target.variance, 0.0)
