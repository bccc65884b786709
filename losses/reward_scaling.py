"""Procgen PPO's reward scaling: divide by the running spread of the return.

The state is part of the train state: it is carried from rollout to rollout and
saved with it.
"""

import chex
from flax import struct
import jax
import jax.numpy as jnp

from losses import returns


@struct.dataclass
class RunningMoments:
  """Count, mean and population variance of everything seen so far."""

  count: jax.Array  # [...] float32
  mean: jax.Array  # [...] float32
  variance: jax.Array  # [...] float32


@struct.dataclass
class RewardScaling:
  """What `scale_rewards` carries from one rollout to the next."""

  moments: RunningMoments  # of the discounted return, [] each
  discounted_return: jax.Array  # [B] float32, already discounted; 0 after an episode's end


def initial_moments() -> RunningMoments:
  """A prior of variance 1 with the weight of 1e-4 samples (OpenAI Baselines, RunningMeanStd).

  Returns:
    RunningMoments of scalars.
  """
  return RunningMoments(
    count=jnp.asarray(1e-4, jnp.float32),
    mean=jnp.zeros((), jnp.float32),
    variance=jnp.ones((), jnp.float32),
  )


def initial_reward_scaling(num_environments: int) -> RewardScaling:
  """The state before the first rollout.

  Args:
    num_environments: B.

  Returns:
    RewardScaling with `[B]` empty returns.

  Raises:
    ValueError: `num_environments` is less than 1.
  """
  if num_environments < 1:
    raise ValueError(f"num_environments must be at least 1, got {num_environments!r}")
  return RewardScaling(
    moments=initial_moments(), discounted_return=jnp.zeros((num_environments,), jnp.float32)
  )


def merge_moments(a: RunningMoments, b: RunningMoments) -> RunningMoments:
  """Moments of two sets of samples together (Chan, Golub & LeVeque 1983).

    m = m_a + (m_b - m_a) n_b / n
    v = v_a n_a / n + v_b n_b / n + (m_b - m_a)^2 (n_a / n) (n_b / n)

  Variances and fractions are combined, never sums of squares, so nothing grows
  with the count.

  Args:
    a: moments, any shape.
    b: moments of the same shape; at least one of the two counts is positive.

  Returns:
    Moments of the same shape.
  """
  chex.assert_equal_shape([a.count, a.mean, a.variance, b.count, b.mean, b.variance])
  count = a.count + b.count
  fraction_a, fraction_b = a.count / count, b.count / count
  delta = b.mean - a.mean
  return RunningMoments(
    count=count,
    mean=a.mean + delta * fraction_b,
    variance=a.variance * fraction_a
    + b.variance * fraction_b
    + jnp.square(delta) * fraction_a * fraction_b,
  )


def scale_rewards(
  state: RewardScaling,
  reward: jax.Array,
  discount_mask: jax.Array,
  *,
  gamma: float,
  clip: float,
  epsilon: float = 1e-8,
) -> tuple[RewardScaling, jax.Array]:
  """Divides rewards by the running standard deviation of the discounted return.

  As Procgen's PPO does it (Cobbe et al. 2020, through VecNormalize of OpenAI
  Baselines), at each of the T steps, in order:

    R_t = gamma c_t + r_t for every environment
    the running variance takes in the B values R_t
    r'_t = clip(r_t / sqrt(variance + epsilon), -clip, clip)
    c_{t+1} = R_t, or 0 where the episode ended

  No mean is subtracted. The variance of a step already holds that step.

  Precision: Baselines keeps float64. Here the T steps are merged among
  themselves first and into the carried moments once per call, which is the same
  in exact arithmetic and keeps float32 increments T times larger: 64 x 256 steps
  are counted exactly up to 2^38 steps.

  Args:
    state: of the rollout before.
    reward: `[T, B]` after each action.
    discount_mask: `[T, B]`, 0 where an episode ended, else 1; no gamma.
    gamma: discount of the return whose spread is tracked; .99 in Procgen's PPO
      (not the agent's .999).
    clip: bound of a scaled reward; 10 in Procgen's PPO.
    epsilon: added to the variance.

  Returns:
    The next state, and the scaled rewards `[T, B]`.

  Raises:
    ValueError: `gamma` is outside [0, 1], or `clip` or `epsilon` not positive.
    AssertionError: the shapes do not fit.
  """
  if not 0.0 <= gamma <= 1.0:
    raise ValueError(f"gamma must lie in [0, 1], got {gamma!r}")
  if not clip > 0.0 or not epsilon > 0.0:
    raise ValueError(f"clip and epsilon must be positive, got {clip!r} and {epsilon!r}")
  chex.assert_rank([reward, discount_mask, state.discounted_return], [2, 2, 1])
  series, carry = returns.discounted_return_scan(
    reward, gamma * discount_mask, state.discounted_return
  )
  in_rollout = _cumulative_moments(series)
  carried = jax.tree.map(lambda x: jnp.broadcast_to(x, in_rollout.mean.shape), state.moments)
  moments = merge_moments(carried, in_rollout)
  scale = spread(moments, epsilon=epsilon)
  scaled = jnp.clip(reward / scale[:, None], -clip, clip)
  last = jax.tree.map(lambda x: x[-1], moments)
  return RewardScaling(moments=last, discounted_return=carry), scaled


def spread(moments: RunningMoments, *, epsilon: float = 1e-8) -> jax.Array:
  """What rewards are divided by: sqrt(variance + epsilon), of any shape.

  Args:
    moments: of the discounted return.
    epsilon: as in `scale_rewards`.
  """
  return jnp.sqrt(moments.variance + epsilon)


def _cumulative_moments(series: jax.Array) -> RunningMoments:
  """Moments over the B entries of all rows up to each one: `[T, B]` -> `[T]` each."""
  num_steps, num_environments = series.shape
  rows = RunningMoments(
    count=jnp.full((num_steps,), num_environments, jnp.float32),
    mean=jnp.mean(series, axis=1),
    variance=jnp.var(series, axis=1),
  )
  empty = RunningMoments(*(jnp.zeros((), jnp.float32) for _ in range(3)))

  def step(carry, row):
    merged = merge_moments(carry, row)
    return merged, merged

  return jax.lax.scan(step, empty, rows)[1]
