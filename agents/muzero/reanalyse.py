"""Targets of drawn sequences, made when they are drawn: this is reanalyse.

Every frame of a folded sequence is encoded once and every position searched once, with
the target network's parameters.
"""

import flax.struct
import jax
import jax.numpy as jnp

from agents.muzero.config import MuZeroConfig
from agents.muzero.search import PlanningModel, search_for_targets
from agents.muzero.searches import reanalysed_sequences, rows_per_chunk
from agents.self_supervision import Following, make_following
from agents.unrolling import flatten, represent, sequences_first
from losses.unroll import policy_targets, unroll_targets
from losses.value_transform import logits_to_scalar
from networks.world_model import WorldModel
from replay.interface import Record


@flax.struct.dataclass
class SequenceBatch:
  """N sequences of S starts with their targets, sequences first."""

  observation: jax.Array  # [N, S, H, W, C] uint8, the starts' frames
  action: jax.Array  # [N, K, S] int32, random past an episode's end
  value: jax.Array  # [N, K + 1, S]
  reward: jax.Array  # [N, K, S]
  policy: jax.Array  # [N, K + 1, S, A], zeros past an episode's end
  inside: jax.Array  # [N, K + 1, S] float32
  importance_weight: jax.Array  # [N, S]
  age: jax.Array  # [N, S] int32, frames added since
  environment: jax.Array  # [N, S] int32, whose frames they are
  frame_number: jax.Array  # [N, S] int32, of the starts, of all time
  priority: jax.Array  # [N, S] |target network's value - n-step value|
  following: Following  # what self-supervised losses compare with


def make_targets(
  model: PlanningModel, target_params, record: Record, key: jax.Array, *, config: MuZeroConfig
) -> SequenceBatch:
  """Makes the targets of N drawn sequences.

  Values are n-step returns bootstrapped from the target network's value; policies come
  from a fresh search for the first `reanalyse_fraction` of the sequences, and from the
  time of acting for the rest (a static split: what is not reanalysed is not searched).

  Args:
    model: what is planned with.
    target_params: of the target network.
    record: `[L, N, ...]` with L = S + K + n, as drawn.
    key: consumed.
    config: settings.

  Returns:
    SequenceBatch.
  """
  sequences = config.sequences
  search_key, action_key = jax.random.split(key)
  latent = represent(model.network, target_params, record["observation"])
  value = _value(model, target_params, latent)
  searched = latent[: sequences.starts + sequences.unroll_steps]
  stored = record["search_policy"][: searched.shape[0]]
  policy = _search_policies(
    model, target_params, searched, search_key, stored=stored, config=config
  )
  shape = (sequences.unroll_steps, sequences.starts, value.shape[1])
  targets = unroll_targets(
    record["reward"],
    config.discount * record["discount"],
    record["action"],
    value,
    random_action=jax.random.randint(action_key, shape, 0, model.network.num_actions, jnp.int32),
    n=sequences.bootstrap_steps,
  )
  return SequenceBatch(
    observation=jnp.swapaxes(record["observation"][: sequences.starts], 0, 1),
    action=sequences_first(targets.action),
    value=sequences_first(targets.value),
    reward=sequences_first(targets.reward),
    policy=sequences_first(policy_targets(policy, targets.inside)),
    inside=sequences_first(targets.inside),
    importance_weight=jnp.swapaxes(record["importance_weight"], 0, 1),
    age=jnp.swapaxes(record["age"], 0, 1),
    environment=jnp.swapaxes(record["environment"], 0, 1),
    frame_number=jnp.swapaxes(record["frame_number"], 0, 1),
    priority=jnp.swapaxes(jnp.abs(value[: sequences.starts] - targets.value[0]), 0, 1),
    following=make_following(
      model.network,
      config.self_supervision,
      target_params,
      observation=record["observation"][: searched.shape[0]],
      latent=searched[1:],
      starts=sequences.starts,
    ),
  )


def _value(model: PlanningModel, params, latent: jax.Array) -> jax.Array:
  """Values `[L, N]` of latents `[L, N, h, w, D]`."""
  logits = model.network.apply(params, flatten(latent), method=WorldModel.value)
  return logits_to_scalar(logits, model.value_support).reshape(latent.shape[:2])


def _search_policies(model, params, latent, key, *, stored, config) -> jax.Array:
  """Policies `[S + K, N, A]`: searched anew for the first columns, stored for the rest."""
  columns = reanalysed_sequences(config.reanalyse_fraction, stored.shape[1])
  if columns == 0:
    return stored
  fresh = _search_in_chunks(model, params, latent[:, :columns], key, config=config)
  return jnp.concatenate([fresh, stored[:, columns:]], axis=1)


def _search_in_chunks(model, params, latent, key, *, config) -> jax.Array:
  """Searches `[R, N, h, w, D]`, some rows at a time; returns `[R, N, A]`."""
  rows, columns = latent.shape[:2]
  size = rows_per_chunk(rows, columns, limit=config.search_batch)
  chunks = latent.reshape((rows // size, size * columns, *latent.shape[2:]))

  def run(chunk_and_key):
    chunk, chunk_key = chunk_and_key
    result = search_for_targets(model, params, chunk, chunk_key, config=config.search)
    return result.policy

  policy = jax.lax.map(run, (chunks, jax.random.split(key, rows // size)))
  return policy.reshape((rows, columns, -1))
