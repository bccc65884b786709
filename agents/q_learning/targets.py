"""Targets of drawn sequences: n-step returns, then the target network's best action value."""

import flax.struct
import jax
import jax.numpy as jnp

from agents.q_learning.action_values import ActionValues
from agents.q_learning.config import QLearningConfig
from agents.self_supervision import Following, make_following
from agents.unrolling import flatten, sequences_first
from losses.unroll import UnrollTargets, unroll_targets
from replay.interface import Record


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

  Q(s_t, a_t) is trained to the n-step return that bootstraps from the target network's best
  action value, max_a Q'(s_{t+n}, a): as one head, or split over two.

  Args:
    values: network and heads.
    target_params: of the target network, Q'.
    record: `[L, N, ...]` with L = S + K + n, as drawn.
    key: consumed.
    config: settings.

  Returns:
    SequenceBatch.
  """
  sequences = config.sequences
  steps, starts = sequences.bootstrap_steps, sequences.starts
  length = starts + config.model_steps + steps - 1  # frames that some target depends on
  first = 1 if config.self_supervision.spr_coefficient else steps  # of the frames encoded
  latent = values.represent(target_params, record["observation"][first:length])
  late = latent[steps - first :]
  best = jnp.max(values.of_latent(target_params, flatten(late)), axis=-1)
  shape = (config.model_steps, starts, latent.shape[1])
  targets = _FORMS[config.action_value](
    record,
    best.reshape(late.shape[:2]),
    random_action=jax.random.randint(key, shape, 0, values.network.num_actions, jnp.int32),
    config=config,
  )
  if sequences.priority_exponent:
    priority = _priority(values, target_params, record, targets)
  else:
    priority = jnp.ones_like(record["importance_weight"])
  return SequenceBatch(
    observation=jnp.swapaxes(record["observation"][:starts], 0, 1),
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
      observation=record["observation"][: starts + config.model_steps],
      latent=latent[: starts + config.model_steps - 1],
      starts=starts,
    ),
  )


def _reward_and_value(
  record: Record, best: jax.Array, *, random_action: jax.Array, config: QLearningConfig
) -> UnrollTargets:
  """The n-step target of Q(s_t, a_t) split over two heads.

  r_t is the reward head's, and the value head, read after the model step, has the
  remaining n - 1 steps:

    V(s_t, a_t) -> r_{t+1} + ... + gamma^{n-2} r_{t+n-1} + gamma^{n-1} max_a Q'(s_{t+n}, a)

  Args:
    record: `[L, N, ...]`.
    best: `[S + U - 1, N]`, max_a Q'(s, a) of frames n on.
    random_action: `[U, S, N]`.
    config: settings.
  """
  steps = config.sequences.bootstrap_steps
  bootstrap = jnp.pad(best, ((steps, 0), (0, 0)))  # no value after a model step reads the rows
  return _unroll(record, bootstrap, random_action=random_action, config=config, n=steps - 1)


def _direct(
  record: Record, best: jax.Array, *, random_action: jax.Array, config: QLearningConfig
) -> UnrollTargets:
  """The n-step target of Q(s_t, a_t) as one number, 0 past the end of the start's episode.

    Q(s_t, a_t) -> r_t + gamma r_{t+1} + ... + gamma^n max_a Q'(s_{t+n}, a)

  It is that of the state in which the model step is taken, so rows move by one: the k-th
  model step's value is what a state's own value is k - 1 steps on.

  Args:
    record: `[L, N, ...]`.
    best: `[S + U - 1, N]`, max_a Q'(s, a) of frames n on.
    random_action: `[U, S, N]`.
    config: settings.
  """
  steps = config.sequences.bootstrap_steps
  bootstrap = jnp.pad(best, ((steps, 1), (0, 0)))  # the last row's value is the one left out
  targets = _unroll(record, bootstrap, random_action=random_action, config=config, n=steps)
  value = jnp.concatenate([jnp.zeros_like(targets.value[:1]), targets.value[:-1]])
  return targets.replace(value=value)


_FORMS = {"reward_and_value": _reward_and_value, "direct": _direct}


def _unroll(
  record: Record,
  bootstrap: jax.Array,
  *,
  random_action: jax.Array,
  config: QLearningConfig,
  n: int,
) -> UnrollTargets:
  window = {name: record[name][: bootstrap.shape[0]] for name in ("reward", "discount", "action")}
  return unroll_targets(
    window["reward"],
    config.discount * window["discount"],
    window["action"],
    bootstrap,
    random_action=random_action,
    n=n,
  )


def _priority(values: ActionValues, params, record: Record, targets: UnrollTargets) -> jax.Array:
  """Error `[S, N]` of the target network's value after the first model step."""
  starts = targets.value.shape[1]
  latent = values.represent(params, record["observation"][:starts])
  action = targets.action[0].reshape(-1)
  outputs = values.of_action(params, flatten(latent), action)
  value = values.parts["value"].head.read(outputs["value"]).reshape(latent.shape[:2])
  return jnp.abs(value - targets.value[1])
