"""Targets of drawn sequences: n-step returns, then the target network's best action value."""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from agents.q_learning.config import QLearningConfig
from agents.self_supervision import Following, make_following
from agents.unrolling import flatten, represent, sequences_first
from losses.categorical_support import CategoricalSupport
from losses.unroll import UnrollTargets, unroll_targets
from losses.value_transform import logits_to_scalar
from networks.world_model import WorldModel
from replay.interface import Record


class ActionValues(NamedTuple):
  """The network together with what turns its heads into action values.

  Q(s, a) = r(s, a) + gamma V(s, a), both read after one model step.
  """

  network: WorldModel
  value_support: CategoricalSupport
  reward_support: CategoricalSupport
  discount: float

  def of_latent(self, params, latent: jax.Array) -> jax.Array:
    """Action values `[B, A]` of latents `[B, h, w, D]`: one model step for every action."""
    batch, num_actions = latent.shape[0], self.network.num_actions
    repeated = jnp.repeat(latent, num_actions, axis=0)
    action = jnp.tile(jnp.arange(num_actions, dtype=jnp.int32), batch)
    transition = self.network.apply(params, repeated, action, method=WorldModel.step)
    logits = self.network.apply(params, transition.latent, method=WorldModel.value)
    reward = logits_to_scalar(transition.reward_logits, self.reward_support)
    value = logits_to_scalar(logits, self.value_support)
    return (reward + self.discount * value).reshape((batch, num_actions))


@flax.struct.dataclass
class SequenceBatch:
  """N sequences of S starts with their targets for U model steps, sequences first."""

  observation: jax.Array  # [N, S, H, W, C] uint8, the starts' frames
  action: jax.Array  # [N, U, S] int32, random past an episode's end
  value: jax.Array  # [N, U + 1, S]; row 0 belongs to no model step
  reward: jax.Array  # [N, U, S]
  inside: jax.Array  # [N, U + 1, S] float32
  importance_weight: jax.Array  # [N, S]
  age: jax.Array  # [N, S] int32, frames added since
  environment: jax.Array  # [N, S] int32, whose frames they are
  frame_number: jax.Array  # [N, S] int32, of the starts, of all time
  priority: jax.Array  # [N, S] |target network's value - its target|; 1 in uniform replay
  following: Following  # what self-supervised losses compare with


def make_targets(
  values: ActionValues, target_params, record: Record, key: jax.Array, *, config: QLearningConfig
) -> SequenceBatch:
  """Makes the targets of N drawn sequences.

  The n-step target of Q(s_t, a_t) is split over the two heads: r_t is the reward head's,
  and the value head, read after the model step, has the remaining n - 1 steps:

    V(s_t, a_t) -> r_{t+1} + ... + gamma^{n-2} r_{t+n-1} + gamma^{n-1} max_a Q'(s_{t+n}, a)

  Args:
    values: network and supports.
    target_params: of the target network, Q'.
    record: `[L, N, ...]` with L = S + K + n, as drawn.
    key: consumed.
    config: settings.

  Returns:
    SequenceBatch.
  """
  sequences = config.sequences
  steps = sequences.bootstrap_steps - 1
  length = sequences.starts + config.model_steps + steps
  window = {name: record[name][:length] for name in ("reward", "discount", "action")}
  first = 1 if config.self_supervision.spr_coefficient else steps + 1  # of the frames encoded
  latent = represent(values.network, target_params, record["observation"][first:length])
  bootstrap = _bootstrap(values, target_params, latent[steps + 1 - first :], length=length)
  shape = (config.model_steps, sequences.starts, latent.shape[1])
  targets = unroll_targets(
    window["reward"],
    config.discount * window["discount"],
    window["action"],
    bootstrap,
    random_action=jax.random.randint(key, shape, 0, values.network.num_actions, jnp.int32),
    n=steps,
  )
  if sequences.priority_exponent:
    priority = _priority(values, target_params, record, targets)
  else:
    priority = jnp.ones_like(record["importance_weight"])
  return SequenceBatch(
    observation=jnp.swapaxes(record["observation"][: sequences.starts], 0, 1),
    action=sequences_first(targets.action),
    value=sequences_first(targets.value),
    reward=sequences_first(targets.reward),
    inside=sequences_first(targets.inside),
    importance_weight=jnp.swapaxes(record["importance_weight"], 0, 1),
    age=jnp.swapaxes(record["age"], 0, 1),
    environment=jnp.swapaxes(record["environment"], 0, 1),
    frame_number=jnp.swapaxes(record["frame_number"], 0, 1),
    priority=jnp.swapaxes(priority, 0, 1),
    following=make_following(
      values.network,
      config.self_supervision,
      target_params,
      observation=record["observation"][: sequences.starts + config.model_steps],
      latent=latent[: sequences.starts + config.model_steps - 1],
      starts=sequences.starts,
    ),
  )


def _bootstrap(values: ActionValues, params, latent: jax.Array, *, length: int) -> jax.Array:
  """Best action values `[length, N]` of the last frames' latents `[X, N, h, w, D]`.

  The rows before are 0: no value after a model step reads them.
  """
  best = jnp.max(values.of_latent(params, flatten(latent)), axis=-1).reshape(latent.shape[:2])
  return jnp.concatenate([jnp.zeros((length - best.shape[0], best.shape[1])), best])


def _priority(values: ActionValues, params, record: Record, targets: UnrollTargets) -> jax.Array:
  """Error `[S, N]` of the target network's value after the first model step."""
  starts = targets.value.shape[1]
  latent = represent(values.network, params, record["observation"][:starts])
  action = targets.action[0].reshape(-1)
  transition = values.network.apply(params, flatten(latent), action, method=WorldModel.step)
  logits = values.network.apply(params, transition.latent, method=WorldModel.value)
  value = logits_to_scalar(logits, values.value_support).reshape(latent.shape[:2])
  return jnp.abs(value - targets.value[1])
