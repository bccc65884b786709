"""PPO's loss: clipped surrogate, clipped value, entropy bonus."""

from collections.abc import Mapping

import chex
import flax.struct
import jax
import jax.numpy as jnp

from agents.interface import Ratio
from agents.ppo.config import PPOConfig
from losses import policy, value
from losses.moments import Moments
from networks.actor_critic import ActorCriticOutput


@flax.struct.dataclass
class PPOBatch:
  """N steps with what the surrogate needs to know of the time when they were taken."""

  observation: jax.Array  # [N, H, W, C] uint8
  action: jax.Array  # [N] int32
  log_prob: jax.Array  # [N] of that action, when it was taken
  value: jax.Array  # [N] predicted when it was taken
  advantage: jax.Array  # [N]
  value_target: jax.Array  # [N]


def ppo_loss(
  output: ActorCriticOutput, batch: PPOBatch, config: PPOConfig
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """The loss that PPO descends (Schulman et al. 2017, eq. 9).

    L = L_clip + c_v L_value - c_e H

  Args:
    output: the present network's logits `[N, A]` and values `[N]` for the batch.
    batch: the steps, `[N, ...]`, with normalised advantages.
    config: coefficients and clips.

  Returns:
    The scalar loss, and scalar metrics by name. All are means over the batch, so that
    they can be put together from its parts.
  """
  losses, measures = surrogate(output.logits, batch, clip=config.clip)
  losses["value"] = jnp.mean(
    value.clipped_value_loss(output.value, batch.value, batch.value_target, clip=config.value_clip)
  )
  coefficients = {
    "policy": 1.0,
    "value": config.value_coefficient,
    "entropy": config.entropy_coefficient,
  }
  total = sum(coefficients[name] * losses[name] for name in coefficients)
  metrics = {
    "loss": total,
    "policy_loss": losses["policy"],
    "value_loss": losses["value"],
    "entropy": -losses["entropy"],
    **measures,
    **value_moments(output.value, batch.value_target),
  }
  return total, metrics


def surrogate(
  logits: jax.Array, batch: PPOBatch, *, clip: float
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
  """What the policy descends, and how far it has moved.

  Args:
    logits: `[N, A]` of the present network.
    batch: the steps, `[N, ...]`, with normalised advantages.
    clip: how far the probability ratio may leave 1 before the surrogate is flat.

  Returns:
    The losses `policy` and `entropy` (the negative entropy), and the measures
    `approximate_kl` and `clip_fraction`: scalars, means over the batch.
  """
  chex.assert_rank(logits, 2)
  log_prob = policy.log_prob(logits, batch.action)
  losses = {
    "policy": jnp.mean(
      policy.clipped_surrogate(log_prob, batch.log_prob, batch.advantage, clip=clip)
    ),
    "entropy": -jnp.mean(policy.entropy(logits)),
  }
  ratio = policy.probability_ratio(log_prob, batch.log_prob)
  measures = {
    "approximate_kl": jnp.mean(policy.approximate_kl(log_prob, batch.log_prob)),
    "clip_fraction": policy.clip_fraction(ratio, clip=clip),
  }
  return losses, measures


def value_moments(predicted: jax.Array, target: jax.Array) -> dict[str, jax.Array]:
  """First and second moments of value targets `[N]` and of what is left of them, scalars.

  Means over the batch, so that `explained_variance` can be had from a batch's parts.
  """
  residual = target - predicted
  return {
    "residual": jnp.mean(residual),
    "squared_residual": jnp.mean(jnp.square(residual)),
    "value_target": jnp.mean(target),
    "squared_value_target": jnp.mean(jnp.square(target)),
  }


def explained_variance(means: Mapping[str, jax.Array]) -> Ratio:
  """Share of the value targets' variance that the value explains.

  Args:
    means: with those of `value_moments`.

  Returns:
    What `losses.value.explained_variance` says, of nothing where the targets do not vary: a
    minibatch without any reward is no reason to stop.
  """
  residual, target = (
    Moments(means[name], _variance(means[name], means[f"squared_{name}"]))
    for name in ("residual", "value_target")
  )
  return Ratio(*value.explained_variance(residual, target))


def _variance(mean: jax.Array, mean_of_squares: jax.Array) -> jax.Array:
  """The difference of two float32 numbers, 0 where no more of it is left than their rounding."""
  variance = mean_of_squares - jnp.square(mean)
  return jnp.where(variance > 1e-5 * mean_of_squares, variance, 0.0)
