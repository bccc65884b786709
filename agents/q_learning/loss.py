"""Q-learning's loss: reward and value after every model step."""

import jax
import jax.numpy as jnp

from agents.q_learning.config import QLearningConfig
from agents.q_learning.targets import ActionValues, SequenceBatch
from agents.self_supervision import self_supervised_losses
from agents.unrolling import flatten, latent_drift, masked_mean, starts_joined, unroll
from losses.value import explained_variance
from losses.value_transform import categorical_value_loss, fraction_outside, logits_to_scalar
from networks.world_model import WorldModel


def q_learning_loss(
  values: ActionValues, params, batch: SequenceBatch, config: QLearningConfig
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """The loss that Q-learning descends.

    L = 1/U sum_{k=1..U} (c_v CE(z_k, v_k) + c_r CE(u_k, r_k)), mean over the starts

  plus the self-supervised losses that are on, times their coefficients.

  Args:
    values: network and supports.
    params: the network's parameters.
    batch: N sequences of S starts.
    config: coefficients.

  Returns:
    The scalar loss, and scalar metrics by name.
  """
  names = ("action", "value", "reward", "inside")
  flat = batch.replace(**{name: starts_joined(getattr(batch, name)) for name in names})
  output = unroll(values.network, params, flatten(batch.observation), flat.action)
  logits = values.network.apply(params, flatten(output.latent[1:]), method=WorldModel.value)
  value_logits = logits.reshape(output.reward_logits.shape[:2] + logits.shape[1:])
  weight = batch.importance_weight.reshape(-1)
  terms = {
    "value": categorical_value_loss(value_logits, flat.value[1:], values.value_support),
    "reward": categorical_value_loss(output.reward_logits, flat.reward, values.reward_support),
  }
  losses = {name: jnp.mean(jnp.mean(term, axis=0) * weight) for name, term in terms.items()}
  coefficients = {"value": config.value_coefficient, "reward": config.reward_coefficient}
  losses |= self_supervised_losses(
    values.network, params, output.latent, batch, config=config.self_supervision
  )
  coefficients |= config.self_supervision.coefficients
  total = sum(coefficients[name] * loss for name, loss in losses.items())
  metrics = {
    "loss": total,
    **{f"{name}_loss": loss for name, loss in losses.items()},
    **diagnostics(values, value_logits, output.reward_logits, flat),
    "latent_drift": latent_drift(output.latent, flat.inside, starts=batch.age.shape[1]),
    "age_of_data": jnp.mean(batch.age.astype(jnp.float32)),
  }
  return total, metrics


def diagnostics(
  values: ActionValues, value_logits: jax.Array, reward_logits: jax.Array, targets: SequenceBatch
) -> dict[str, jax.Array]:
  """What to look at first when Q-learning does not learn.

  Args:
    values: supports.
    value_logits: `[U, R, M]`.
    reward_logits: `[U, R, M]`.
    targets: `[U, R]` and `[U + 1, R]`, starts joined.

  Returns:
    Scalars by name. Errors on rewarding steps are 0 where the batch has none.
  """
  value = logits_to_scalar(value_logits, values.value_support)
  reward = logits_to_scalar(reward_logits, values.reward_support)
  rewarding = (targets.reward != 0.0).astype(jnp.float32)
  reward_error = jnp.abs(reward - targets.reward)
  return {
    "value_mean": jnp.mean(value[0]),
    "value_bias": jnp.mean(value[0] - targets.value[1]),
    "value_explained_variance": explained_variance(value[0], targets.value[1]),
    "value_error_1": jnp.mean(jnp.abs(value[0] - targets.value[1])),
    "value_error_K": masked_mean(jnp.abs(value[-1] - targets.value[-1]), targets.inside[-1]),
    "reward_error_rewarding": masked_mean(reward_error, rewarding),
    "reward_error_other": masked_mean(reward_error, 1.0 - rewarding),
    "reward_predicted_rewarding": masked_mean(reward, rewarding),
    "rewarding_steps": jnp.mean(rewarding),
    "outside_support": fraction_outside(targets.value[1:], values.value_support)
    + fraction_outside(targets.reward, values.reward_support),
  }
