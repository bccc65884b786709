"""PPG's auxiliary phase: values shape the policy's features while the policy stays where it is."""

from typing import Any

import chex
import flax.linen as nn
import flax.struct
import jax
from jax import lax
import jax.numpy as jnp

from agents.interface import Metrics
from agents.ppo.loss import value_moments
from losses import policy, value
from networks.actor_critic import PhasicOutput
from replay.interface import Record


@flax.struct.dataclass
class AuxiliaryBatch:
  """N segments of T steps of one environment each, or their N * T steps."""

  observation: jax.Array  # [N, T, H, W, C] uint8
  value_target: jax.Array  # [N, T], of the policy phase
  old_logits: jax.Array  # [N, T, A], of the policy when the auxiliary phase began


def make_auxiliary_batch(network: nn.Module, params: Any, record: Record) -> AuxiliaryBatch:
  """Turns a group of rollouts into segments and notes the policy that is to be kept.

  The network is applied to T steps at a time, so that beside the record and the batch, which
  each hold the frames, only the activations of T frames are in memory.

  Args:
    network: maps frames to something with `logits`.
    params: of the network at the phase's start.
    record: `[T, N, ...]` with `observation` and `value_target`.

  Returns:
    The N segments.
  """
  frames = record["observation"]
  t, n = frames.shape[:2]
  # In the order in which they lie in memory: no other copy of the frames is made for this.
  in_order = frames.reshape((n, t, *frames.shape[2:]))
  logits = lax.map(lambda chunk: network.apply(params, chunk).logits, in_order)
  return AuxiliaryBatch(
    observation=jnp.swapaxes(frames, 0, 1),
    value_target=jnp.swapaxes(record["value_target"], 0, 1),
    old_logits=jnp.swapaxes(logits.reshape((t, n, -1)), 0, 1),
  )


def auxiliary_loss(
  output: PhasicOutput, steps: AuxiliaryBatch, *, clone_coefficient: float
) -> tuple[jax.Array, Metrics]:
  """The joint loss and the value's (Cobbe et al. 2021, section 2, L_joint + L_value).

    1/2 (v_aux - z)^2 + 1/2 (v - z)^2 + beta_clone KL(pi_old || pi)

  Args:
    output: the present network's, for N steps.
    steps: value targets `[N]` and old logits `[N, A]`.
    clone_coefficient: beta_clone.

  Returns:
    The scalar loss, and scalar means by name.
  """
  chex.assert_rank([steps.old_logits, steps.value_target], [2, 1])
  losses = {
    "auxiliary_value": value.squared_value_loss(output.auxiliary_value, steps.value_target),
    "value": value.squared_value_loss(output.value, steps.value_target),
    "clone": policy.categorical_kl(steps.old_logits, output.logits),
  }
  losses = {name: jnp.mean(loss) for name, loss in losses.items()}
  coefficients = {"auxiliary_value": 1.0, "value": 1.0, "clone": clone_coefficient}
  total = sum(coefficients[name] * loss for name, loss in losses.items())
  means = {
    "loss": total,
    **{f"{name}_loss": loss for name, loss in losses.items()},
    **value_moments(output.value, steps.value_target),
  }
  return total, means
