"""Losses and measures of categorical policies, per element and never averaged.

Logits are unnormalised and finite. `[...]` stands for any leading axes.
"""

import chex
import jax
import jax.numpy as jnp

from losses.moments import Moments, moments_of


def log_prob(logits: jax.Array, action: jax.Array) -> jax.Array:
  """Log-probability of the actions taken.

    log pi(a) = z_a - log sum_b exp z_b

  Args:
    logits: `[..., A]`.
    action: `[...]` integers in [0, A).

  Returns:
    `[...]`, in nats.

  Raises:
    AssertionError: the shapes do not fit or `action` is not of integers.
  """
  chex.assert_rank(action, logits.ndim - 1)
  chex.assert_type(action, int)
  chex.assert_equal_shape_prefix([logits, action], action.ndim)
  log_probs = jax.nn.log_softmax(logits)
  return jnp.take_along_axis(log_probs, action[..., None], axis=-1)[..., 0]


def entropy(logits: jax.Array) -> jax.Array:
  """Entropy of a categorical policy.

    H = -sum_a pi(a) log pi(a)

  Args:
    logits: `[..., A]`.

  Returns:
    `[...]`, in nats; log A at most.
  """
  log_probs = jax.nn.log_softmax(logits)
  return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)


def categorical_kl(p_logits: jax.Array, q_logits: jax.Array) -> jax.Array:
  """Kullback-Leibler divergence from q to p.

    KL(p || q) = sum_a p(a) (log p(a) - log q(a))

  Args:
    p_logits: `[..., A]`, the distribution that weighs the difference.
    q_logits: `[..., A]`.

  Returns:
    `[...]`, in nats.

  Raises:
    AssertionError: the shapes differ.
  """
  chex.assert_equal_shape([p_logits, q_logits])
  p_log_probs, q_log_probs = jax.nn.log_softmax(p_logits), jax.nn.log_softmax(q_logits)
  return jnp.sum(jnp.exp(p_log_probs) * (p_log_probs - q_log_probs), axis=-1)


def policy_cross_entropy(logits: jax.Array, target_probabilities: jax.Array) -> jax.Array:
  """Cross-entropy to a target policy (Schrittwieser et al. 2020, eq. 1, the policy term).

    -sum_a pi_target(a) log pi(a)

  The gradient is that of KL(target || policy); the value is larger by the
  target's entropy.

  Args:
    logits: `[..., A]`.
    target_probabilities: `[..., A]`, each row sums to 1. A row of zeros gives 0.

  Returns:
    `[...]`, in nats.

  Raises:
    AssertionError: the shapes differ.
  """
  chex.assert_equal_shape([logits, target_probabilities])
  return -jnp.sum(target_probabilities * jax.nn.log_softmax(logits), axis=-1)


def normalise_advantage(advantage: jax.Array, *, epsilon: float = 1e-8) -> jax.Array:
  """Advantages with mean 0 and standard deviation 1 (OpenAI Baselines, ppo2).

    (A - mean(A)) / (std(A) + epsilon), population standard deviation

  Args:
    advantage: `[N]`, everything that shares the statistics.
    epsilon: added to the standard deviation.

  Returns:
    `[N]`.

  Raises:
    AssertionError: `advantage` is not of rank 1.
  """
  chex.assert_rank(advantage, 1)
  return standardise_advantage(advantage, moments_of(advantage), epsilon=epsilon)


def standardise_advantage(
  advantage: jax.Array, moments: Moments, *, epsilon: float = 1e-8
) -> jax.Array:
  """As `normalise_advantage`, of a part of what shares the statistics.

  Args:
    advantage: `[N]`, the part.
    moments: scalars, of everything that shares them.
    epsilon: added to the standard deviation.

  Returns:
    `[N]`.
  """
  return (advantage - moments.mean) / (jnp.sqrt(moments.variance) + epsilon)


def clipped_surrogate(
  log_prob: jax.Array, old_log_prob: jax.Array, advantage: jax.Array, *, clip: float
) -> jax.Array:
  """PPO's clipped objective as a loss (Schulman et al. 2017, eq. 7, negated).

    rho = exp(log pi(a) - log pi_old(a))
    -min(rho A, clip(rho, 1 - clip, 1 + clip) A)

  Args:
    log_prob: `[N]` of the actions taken, under the policy that learns.
    old_log_prob: `[N]` of the same actions when they were taken.
    advantage: `[N]`.
    clip: half the width of the trust interval, in (0, 1).

  Returns:
    `[N]`.

  Raises:
    ValueError: `clip` is outside (0, 1).
    AssertionError: the shapes do not fit.
  """
  if not 0.0 < clip < 1.0:
    raise ValueError(f"clip must lie in (0, 1), got {clip!r}")
  chex.assert_rank([log_prob, old_log_prob, advantage], 1)
  chex.assert_equal_shape([log_prob, old_log_prob, advantage])
  ratio = probability_ratio(log_prob, old_log_prob)
  return -jnp.minimum(ratio * advantage, jnp.clip(ratio, 1.0 - clip, 1.0 + clip) * advantage)


def probability_ratio(log_prob: jax.Array, old_log_prob: jax.Array) -> jax.Array:
  """Ratio of the probabilities of the actions taken, now and when they were taken.

    rho = exp(log pi(a) - log pi_old(a))

  Args:
    log_prob: `[...]`.
    old_log_prob: `[...]`.

  Returns:
    `[...]`; 1 where the policy has not moved.

  Raises:
    AssertionError: the shapes differ.
  """
  chex.assert_equal_shape([log_prob, old_log_prob])
  return jnp.exp(log_prob - old_log_prob)


def clip_fraction(ratio: jax.Array, *, clip: float) -> jax.Array:
  """Share of ratios outside [1 - clip, 1 + clip].

  Args:
    ratio: `[...]` from `probability_ratio`.
    clip: as in `clipped_surrogate`.

  Returns:
    A scalar in [0, 1].
  """
  return jnp.mean((jnp.abs(ratio - 1.0) > clip).astype(jnp.float32))


def approximate_kl(log_prob: jax.Array, old_log_prob: jax.Array) -> jax.Array:
  """Unbiased, never negative estimate of KL(old || new) from old actions alone.

  Schulman, "Approximating KL Divergence" (2020), the estimator k3:

    (rho - 1) - log rho,   rho = pi(a) / pi_old(a),   a ~ pi_old

  Args:
    log_prob: `[...]` of the actions taken, under the policy that learns.
    old_log_prob: `[...]` of the same actions when they were taken.

  Returns:
    `[...]`, in nats, one estimate per action.

  Raises:
    AssertionError: the shapes differ.
  """
  chex.assert_equal_shape([log_prob, old_log_prob])
  log_ratio = log_prob - old_log_prob
  return jnp.expm1(log_ratio) - log_ratio
