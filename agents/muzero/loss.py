"""MuZero's loss: policy, value and reward over K model steps from every start."""

import jax
import jax.numpy as jnp

from agents.diagnostics import errors_by_step
from agents.figures import Figure, Figures, masked_mean, variance_explained
from agents.interface import Shards
from agents.muzero.config import MuZeroConfig
from agents.muzero.reanalyse import SequenceBatch
from agents.muzero.search import PlanningModel
from agents.self_supervision import self_supervised_losses
from agents.unrolling import flatten, latent_drift, starts_joined, unroll
from losses.policy import categorical_kl, entropy, policy_cross_entropy
from losses.unroll import unroll_scale
from losses.value_transform import categorical_value_loss, fraction_outside, logits_to_scalar
from networks.world_model import Prediction, WorldModel


def muzero_loss(
  model: PlanningModel, params, batch: SequenceBatch, config: MuZeroConfig, *, shards: Shards
) -> tuple[jax.Array, Figures]:
  """The loss that MuZero descends (Schrittwieser et al. 2020, eq. 1).

    L = sum_k w_k (c_p CE(pi_k, p_k) + c_v CE(z_k, v_k) + c_r CE(u_k, r_k))

  with w_0 = 1 and w_k = 1 / K, means over the starts; plus the self-supervised losses
  that are on, times their coefficients.

  Args:
    model: network and supports.
    params: the network's parameters.
    batch: N sequences of S starts, the own shard.
    config: coefficients.
    shards: of the minibatch.

  Returns:
    The scalar loss, whose mean over the shards is the minibatch's, and figures by name.
  """
  flat = _starts_joined(batch)
  output = unroll(model.network, params, flatten(batch.observation), flat.action)
  prediction = _predict(model, params, output.latent)
  weight = batch.importance_weight.reshape(-1)
  scale = unroll_scale(flat.action.shape[0])
  terms = {
    "policy": policy_cross_entropy(prediction.policy_logits, flat.policy),
    "value": categorical_value_loss(prediction.value_logits, flat.value, model.value_support),
    "reward": categorical_value_loss(output.reward_logits, flat.reward, model.reward_support),
  }
  scales = {"policy": scale, "value": scale, "reward": scale[1:]}
  losses = {
    name: jnp.mean(jnp.sum(scales[name][:, None] * term, axis=0) * weight)
    for name, term in terms.items()
  }
  coefficients = {
    "policy": config.policy_coefficient,
    "value": config.value_coefficient,
    "reward": config.reward_coefficient,
  }
  losses |= self_supervised_losses(
    model.network, params, output.latent, batch, config=config.self_supervision, shards=shards
  )
  coefficients |= config.self_supervision.coefficients
  total = sum(coefficients[name] * loss for name, loss in losses.items())
  figures = {
    "loss": total,
    **{f"{name}_loss": loss for name, loss in losses.items()},
    **diagnostics(model, prediction, output.reward_logits, flat),
    "latent_drift": latent_drift(output.latent, flat.inside, starts=batch.age.shape[1]),
    "age_of_data": jnp.mean(batch.age.astype(jnp.float32)),
  }
  return total, figures


def diagnostics(
  model: PlanningModel,
  prediction: Prediction,
  reward_logits: jax.Array,
  targets: SequenceBatch,
) -> dict[str, Figure]:
  """What to look at first when MuZero does not learn.

  Args:
    model: supports.
    prediction: `[K + 1, R, ...]`.
    reward_logits: `[K, R, M]`.
    targets: `[K + 1, R, ...]`, starts flattened.

  Returns:
    Figures by name. `rewarding_steps` says which share of the steps the errors on rewarding
    ones are of.
  """
  prior, search = prediction.policy_logits[0], targets.policy[0]
  log_search = jnp.log(jnp.maximum(search, 1e-12))
  value = logits_to_scalar(prediction.value_logits, model.value_support)
  reward = logits_to_scalar(reward_logits, model.reward_support)
  rewarding = (targets.reward != 0.0).astype(jnp.float32)
  reward_error = jnp.abs(reward - targets.reward)
  return {
    "prior_entropy": jnp.mean(entropy(prior)),
    "target_entropy": jnp.mean(entropy(log_search)),
    "search_kl": jnp.mean(categorical_kl(log_search, prior)),
    "value_mean": jnp.mean(value[0]),
    "value_bias": jnp.mean(value[0] - targets.value[0]),
    "value_explained_variance": variance_explained(value[0], targets.value[0]),
    **errors_by_step("value", value, targets.value, targets.inside, first_step=0),
    **errors_by_step("reward", reward, targets.reward, targets.inside[:-1], first_step=1),
    "reward_error_rewarding": masked_mean(reward_error, rewarding),
    "reward_error_other": masked_mean(reward_error, 1.0 - rewarding),
    "reward_predicted_rewarding": masked_mean(reward, rewarding),
    "rewarding_steps": jnp.mean(rewarding),
    "outside_support": fraction_outside(targets.value, model.value_support)
    + fraction_outside(targets.reward, model.reward_support),
  }


def _predict(model: PlanningModel, params, latent: jax.Array) -> Prediction:
  """Policy and value `[K + 1, R, ...]` of latents `[K + 1, R, h, w, D]`."""
  prediction = model.network.apply(params, flatten(latent), method=WorldModel.predict)
  return Prediction(*(x.reshape((*latent.shape[:2], -1)) for x in prediction))


def _starts_joined(batch: SequenceBatch) -> SequenceBatch:
  """Joins sequences and starts: `[N, K, S, ...]` to `[K, N * S, ...]`."""
  names = ("action", "value", "reward", "policy", "inside")
  return batch.replace(**{name: starts_joined(getattr(batch, name)) for name in names})
