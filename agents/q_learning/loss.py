"""Q-learning's loss: what its heads say after every model step."""

import jax
import jax.numpy as jnp

from agents.diagnostics import errors_by_step
from agents.figures import Figure, Figures, masked_mean, variance_explained
from agents.interface import Shards
from agents.q_learning.action_values import ActionValues
from agents.q_learning.config import QLearningConfig
from agents.q_learning.targets import SequenceBatch
from agents.self_supervision import self_supervised_losses
from agents.unrolling import flatten, latent_drift, starts_joined


def q_learning_loss(
  values: ActionValues, params, batch: SequenceBatch, config: QLearningConfig, *, shards: Shards
) -> tuple[jax.Array, Figures]:
  """The loss that Q-learning descends.

    L = 1/U sum_{k=1..U} (c_v l(z_k, v_k) + c_r l(u_k, r_k)), mean over the starts

  with l a head's own loss, and without rewards where one head says Q directly;
  plus the self-supervised losses that are on, times their coefficients.

  Args:
    values: network and heads.
    params: the network's parameters.
    batch: N sequences of S starts, the own shard.
    config: coefficients.
    shards: of the minibatch.

  Returns:
    The scalar loss, whose mean over the shards is the minibatch's, and figures by name.
  """
  names = ("action", "value", "reward", "inside")
  flat = batch.replace(**{name: starts_joined(getattr(batch, name)) for name in names})
  output = values.outputs(params, flatten(batch.observation), flat.action)
  weight = batch.importance_weight.reshape(-1)
  targets = {"value": flat.value[1:], "reward": flat.reward}
  terms = {
    name: part.head.loss(output.heads[name], targets[name]) for name, part in values.parts.items()
  }
  losses = {name: jnp.mean(jnp.mean(term, axis=0) * weight) for name, term in terms.items()}
  coefficients = {"value": config.value_coefficient, "reward": config.reward_coefficient}
  losses |= self_supervised_losses(
    values.network, params, output.latent, batch, config=config.self_supervision, shards=shards
  )
  coefficients |= config.self_supervision.coefficients
  total = sum(coefficients[name] * loss for name, loss in losses.items())
  said = {name: part.head.read(output.heads[name]) for name, part in values.parts.items()}
  figures = {
    "loss": total,
    **{f"{name}_loss": loss for name, loss in losses.items()},
    **value_diagnostics(said["value"], flat),
    **(reward_diagnostics(said["reward"], flat) if "reward" in said else {}),
    "rewarding_steps": jnp.mean(_rewarding(flat)),
    "outside_support": sum(
      part.head.fraction_outside(targets[name]) for name, part in values.parts.items()
    ),
    "age_of_data": jnp.mean(batch.age.astype(jnp.float32)),
  }
  if output.latent.shape[0] > 1:
    drift = latent_drift(output.latent, flat.inside, starts=batch.age.shape[1])
    figures["latent_drift"] = drift
  return total, figures


def value_diagnostics(value: jax.Array, targets: SequenceBatch) -> dict[str, Figure]:
  """What to look at first when Q-learning does not learn.

  Args:
    value: `[U, R]`, what the value head says.
    targets: `[U + 1, R]`, starts joined.

  Returns:
    Figures by name.
  """
  return {
    "value_mean": jnp.mean(value[0]),
    "value_bias": jnp.mean(value[0] - targets.value[1]),
    "value_explained_variance": variance_explained(value[0], targets.value[1]),
    **errors_by_step("value", value, targets.value[1:], targets.inside[:-1], first_step=1),
  }


def reward_diagnostics(reward: jax.Array, targets: SequenceBatch) -> dict[str, Figure]:
  """How well rewards are told, where there is a reward head.

  Args:
    reward: `[U, R]`, what the reward head says.
    targets: `[U, R]`, starts joined.

  Returns:
    Figures by name.
  """
  rewarding = _rewarding(targets)
  error = jnp.abs(reward - targets.reward)
  return {
    "reward_error_rewarding": masked_mean(error, rewarding),
    "reward_error_other": masked_mean(error, 1.0 - rewarding),
    "reward_predicted_rewarding": masked_mean(reward, rewarding),
    **errors_by_step("reward", reward, targets.reward, targets.inside[:-1], first_step=1),
  }


def _rewarding(targets: SequenceBatch) -> jax.Array:
  """1 where the step gave a reward, `[U, R]`."""
  return (targets.reward != 0.0).astype(jnp.float32)
