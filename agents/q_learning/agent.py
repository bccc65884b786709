"""Q-learning as an agent: epsilon-greedy acting, learning from replayed sequences."""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from agents.descent import descend
from agents.interface import WHOLE, ActorOutput, Agent, Phase, ReportedValue, Shards
from agents.model import make_world_model
from agents.optimizers import make_optimizer
from agents.q_learning.action_values import (
  ActionValues,
  ModelStepValues,
  OutputPerActionValues,
  Part,
)
from agents.q_learning.config import QLearningConfig, QNetworkConfig, ScalarHeadsConfig
from agents.q_learning.heads import CategoricalHead, Head, ScalarHead
from agents.q_learning.loss import q_learning_loss
from agents.q_learning.targets import SequenceBatch, make_targets
from agents.self_supervision import add_heads
from agents.target_network import refresh_target
from agents.unrolling import sample_priorities
from environments.interface import EnvironmentSpec
from networks.q_network import QNetwork
from replay.interface import Record, Trajectory


@flax.struct.dataclass
class QLearningState:
  """Everything that Q-learning learns or counts."""

  params: Any  # the network's parameters
  target_params: Any  # a copy, `target_interval` updates old at most
  optimizer_state: Any
  updates: jax.Array  # [] int32
  environment_steps: jax.Array  # [] int32, epsilon follows from it


@flax.struct.dataclass
class ActingParams:
  """What acting needs."""

  params: Any
  epsilon: jax.Array  # [] float32


def make_q_learning(
  config: QLearningConfig, spec: EnvironmentSpec, *, total_environment_steps: int
) -> Agent:
  """Builds Q-learning.

  Args:
    config: settings.
    spec: what the environments look like.
    total_environment_steps: of the whole run; learning-rate schedules end there.

  Returns:
    An agent with one phase over replayed sequences.

  Raises:
    ValueError: replay cannot hold a sequence of every environment.
  """
  config.check_batch(spec.num_environments)
  values = make_action_values(config, num_actions=spec.num_actions)
  optimizer = make_optimizer(
    config.optimizer, total_updates=config.sequences.total_updates(total_environment_steps)
  )

  def init(key: jax.Array) -> QLearningState:
    frame = jnp.zeros((1, *spec.observation_shape), jnp.uint8)
    params = values.init(key, frame)
    params = add_heads(values.network, config.self_supervision, params, frame=frame, key=key)
    return QLearningState(
      params=params,
      target_params=jax.tree.map(jnp.copy, params),
      optimizer_state=optimizer.init(params),
      updates=jnp.zeros((), jnp.int32),
      environment_steps=jnp.zeros((), jnp.int32),
    )

  phase = Phase(
    name="model",
    source=config.sequences.request(),
    make_targets=lambda state, record, key: make_targets(
      values, state.target_params, record, key, config=config
    ),
    update=functools.partial(_descend, values=values, optimizer=optimizer, config=config),
    priorities=sample_priorities if config.sequences.priority_exponent else None,
  )
  return Agent(
    init=init,
    policy_params=lambda state: ActingParams(
      state.params, exploration_epsilon(state.environment_steps, config)
    ),
    act=lambda acting, observation, key: _explore(
      values, acting, observation, key, epsilon=acting.epsilon
    ),
    act_settled=lambda acting, observation, key: _explore(
      values, acting, observation, key, epsilon=config.exploration.final_epsilon
    ),
    act_greedy=lambda acting, observation, key: _exploit(values, acting, observation),
    postprocess=_store,
    phases=(phase,),
    rollout_length=config.rollout_length,
    reported_value=ReportedValue(config.discount, lambda state: jnp.ones(())),
  )


def make_action_values(config: QLearningConfig, *, num_actions: int) -> ActionValues:
  """Builds the network that the config describes, and what reads Q off it."""
  heads = _make_heads(config)
  if config.action_value == "direct":
    parts = {"value": Part(heads["value"], 1.0)}
  else:
    parts = {"reward": Part(heads["reward"], 1.0), "value": Part(heads["value"], config.discount)}
  outputs = {name: head.num_outputs for name, head in heads.items()}
  if isinstance(config.network, QNetworkConfig):
    network = QNetwork(
      config.backbone,
      config.network.hidden,
      num_actions=num_actions,
      num_value_outputs=outputs["value"],
      num_reward_outputs=outputs["reward"],
      head_init=heads["value"].kernel_init,
    )
    return OutputPerActionValues(network, parts)
  network = make_world_model(config.backbone, config.model, num_actions=num_actions)
  if isinstance(config.heads, ScalarHeadsConfig):
    network = network.clone(
      num_value_atoms=outputs["value"],
      num_reward_atoms=outputs["reward"],
      head_init=heads["value"].kernel_init,
    )
  return ModelStepValues(network, parts)


def _make_heads(config: QLearningConfig) -> dict[str, Head]:
  if isinstance(config.heads, ScalarHeadsConfig):
    return dict.fromkeys(("value", "reward"), ScalarHead(config.heads.huber_delta))
  return {
    "value": CategoricalHead(config.model.value_support),
    "reward": CategoricalHead(config.model.reward_support),
  }


def exploration_epsilon(environment_steps: jax.Array, config: QLearningConfig) -> jax.Array:
  """Chance of a random action after so many environment steps, a float32 scalar."""
  exploration = config.exploration
  progress = jnp.minimum(environment_steps / exploration.decay_steps, 1.0)
  fall = exploration.initial_epsilon - exploration.final_epsilon
  return (exploration.initial_epsilon - fall * progress).astype(jnp.float32)


def _exploit(values: ActionValues, acting: ActingParams, observation) -> ActorOutput:
  latent = values.represent(acting.params, observation[None])[0]
  q = values.of_latent(acting.params, latent)
  return ActorOutput(jnp.argmax(q, axis=-1).astype(jnp.int32), {"value": jnp.max(q, axis=-1)})


def _explore(
  values: ActionValues, acting: ActingParams, observation, key, *, epsilon: jax.Array | float
) -> ActorOutput:
  greedy = _exploit(values, acting, observation)
  choice_key, action_key = jax.random.split(key)
  shape = greedy.action.shape
  explores = jax.random.uniform(choice_key, shape) < epsilon
  uniform = jax.random.randint(action_key, shape, 0, values.network.num_actions, jnp.int32)
  return greedy._replace(action=jnp.where(explores, uniform, greedy.action))


def _store(state: QLearningState, trajectory: Trajectory) -> tuple[QLearningState, Record]:
  """Counts the steps; returns what replay keeps, `[T, B, ...]`."""
  steps = state.environment_steps + trajectory.reward.size
  record = {
    "observation": trajectory.observation,
    "action": trajectory.action,
    "reward": trajectory.reward,
    "discount": trajectory.discount,
  }
  return state.replace(environment_steps=steps), record


def _descend(
  state: QLearningState,
  batch: SequenceBatch,
  key,
  shards: Shards = WHOLE,
  *,
  values,
  optimizer,
  config,
):
  """One optimiser step, then a refreshed target network when it is due."""
  del key  # nothing here is random

  def loss(params, sequences):
    return q_learning_loss(values, params, sequences, config, shards=shards)

  params, optimizer_state, metrics = descend(
    loss,
    optimizer,
    state.params,
    state.optimizer_state,
    batch=batch,
    chunk_size=0,
    shards=shards,
  )
  count = state.updates + 1
  state = state.replace(
    params=params,
    target_params=refresh_target(
      state.target_params, params, updates=count, interval=config.target_interval
    ),
    optimizer_state=optimizer_state,
    updates=count,
  )
  return state, metrics
