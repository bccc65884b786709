"""The losses of PPG's policy phase: PPO's, but that the value is not clipped."""

import jax
import jax.numpy as jnp

from agents.interface import Metrics
from agents.ppg.config import PPGConfig
from agents.ppo.loss import PPOBatch, surrogate, value_moments
from losses import value
from networks.actor_critic import PhasicOutput


def policy_loss(
  output: PhasicOutput, batch: PPOBatch, config: PPGConfig
) -> tuple[jax.Array, Metrics]:
  """The policy's loss alone (Cobbe et al. 2021, section 2, L_clip with an entropy bonus).

    L_clip - c_e H

  Args:
    output: the present network's, for N steps.
    batch: the steps, `[N, ...]`, with normalised advantages.
    config: coefficients and clip.

  Returns:
    The scalar loss, and scalar means by name.
  """
  losses, measures = surrogate(output.logits, batch, clip=config.clip)
  total = losses["policy"] + config.entropy_coefficient * losses["entropy"]
  means = {
    "loss": total,
    "policy_loss": losses["policy"],
    "entropy": -losses["entropy"],
    **measures,
  }
  return total, means


def value_loss(
  output: PhasicOutput, batch: PPOBatch, config: PPGConfig
) -> tuple[jax.Array, Metrics]:
  """The value's loss alone (Cobbe et al. 2021, section 2, L_value).

    c_v / 2 (v - target)^2

  The released code has .5 (v - target)^2: c_v = 1.

  Args:
    output: the present network's, for N steps.
    batch: the steps, `[N, ...]`.
    config: says c_v.

  Returns:
    The scalar loss, and scalar means by name.
  """
  loss = jnp.mean(value.squared_value_loss(output.value, batch.value_target))
  total = config.value_coefficient * loss
  moments = value_moments(output.value, batch.value_target)
  return total, {"loss": total, "value_loss": loss, **moments}


def policy_and_value_loss(
  output: PhasicOutput, batch: PPOBatch, config: PPGConfig
) -> tuple[jax.Array, Metrics]:
  """The sum of `policy_loss` and `value_loss`; arguments and results as theirs."""
  policy_total, policy_means = policy_loss(output, batch, config)
  value_total, value_means = value_loss(output, batch, config)
  total = policy_total + value_total
  return total, {**policy_means, **value_means, "loss": total}
