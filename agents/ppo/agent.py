"""PPO as an agent: sample, estimate advantages on arrival, learn from fresh rollouts."""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from agents.descent import descend
from agents.interface import WHOLE, Agent, Phase, ReportedValue, Shards
from agents.optimizers import make_optimizer
from agents.ppo.acting import most_likely, sample
from agents.ppo.config import PPOConfig
from agents.ppo.loss import PPOBatch, explained_variance, ppo_loss
from agents.ppo.rollouts import estimate
from environments.interface import EnvironmentSpec
from losses import policy
from losses.moments import Moments, join_moments, moments_of
from losses.reward_scaling import RewardScaling, initial_reward_scaling, spread
from networks.actor_critic import SharedActorCritic
from replay.interface import Record, Rollouts, Trajectory


@flax.struct.dataclass
class PPOState:
  """Everything that PPO learns or counts."""

  params: Any  # the network's parameters
  optimizer_state: Any
  reward_scaling: RewardScaling  # running statistics, one return per environment


def make_ppo(config: PPOConfig, spec: EnvironmentSpec, *, total_environment_steps: int) -> Agent:
  """Builds PPO.

  Args:
    config: settings.
    spec: what the environments look like.
    total_environment_steps: of the whole run; learning-rate schedules end there.

  Returns:
    An agent with one phase over fresh rollouts.

  Raises:
    ValueError: the rollout does not split into the minibatches.
  """
  config.check_batch(spec.num_environments)
  network = SharedActorCritic(config.backbone, num_actions=spec.num_actions, hidden=config.hidden)
  rollouts = -(-total_environment_steps // (config.rollout_length * spec.num_environments))
  updates = rollouts * config.epochs * config.num_minibatches
  optimizer = make_optimizer(config.optimizer, total_updates=updates)

  def init(key: jax.Array) -> PPOState:
    params = network.init(key, jnp.zeros((1, *spec.observation_shape), jnp.uint8))
    return PPOState(
      params=params,
      optimizer_state=optimizer.init(params),
      reward_scaling=initial_reward_scaling(spec.num_environments),
    )

  def postprocess(state: PPOState, trajectory: Trajectory) -> tuple[PPOState, Record]:
    reward_scaling, record = estimate(
      state.reward_scaling,
      trajectory,
      network.apply(state.params, trajectory.final_observation).value,
      discount=config.discount,
      gae_lambda=config.gae_lambda,
      reward_discount=config.reward_discount,
      reward_clip=config.reward_clip,
    )
    return state.replace(reward_scaling=reward_scaling), record

  phase = Phase(
    name="policy",
    source=Rollouts(1),
    make_targets=lambda state, record, key: _flatten(record),
    update=functools.partial(_descend, network=network, optimizer=optimizer, config=config),
    epochs=config.epochs,
    num_minibatches=config.num_minibatches,
  )
  return Agent(
    init=init,
    policy_params=lambda state: state.params,
    act=lambda params, observation, key: sample(network, params, observation, key),
    act_greedy=lambda params, observation, key: most_likely(network, params, observation),
    postprocess=postprocess,
    phases=(phase,),
    rollout_length=config.rollout_length,
    reported_value=ReportedValue(
      config.discount, lambda state: spread(state.reward_scaling.moments)
    ),
  )


def _flatten(record: Record) -> PPOBatch:
  """Joins time and environments: `[T, B, ...]` to `[T * B, ...]`."""
  return PPOBatch(**{name: x.reshape((-1, *x.shape[2:])) for name, x in record.items()})


def _descend(
  state: PPOState, batch: PPOBatch, key, shards: Shards = WHOLE, *, network, optimizer, config
):
  """One optimiser step on `[N, ...]`, a shard of the minibatch that advantages are scaled over."""
  del key  # nothing here is random
  moments = _moments_of_all(batch.advantage, shards)
  batch = batch.replace(advantage=policy.standardise_advantage(batch.advantage, moments))

  def loss(params, steps):
    return ppo_loss(network.apply(params, steps.observation), steps, config)

  params, optimizer_state, metrics = descend(
    loss,
    optimizer,
    state.params,
    state.optimizer_state,
    batch=batch,
    chunk_size=config.gradient_chunk,
    shards=shards,
  )
  metrics["explained_variance"] = explained_variance(metrics)
  return state.replace(params=params, optimizer_state=optimizer_state), metrics


def _moments_of_all(x: jax.Array, shards: Shards) -> Moments:
  """Moments, scalars, of all shards' entries; each tells the others two numbers."""
  own = jnp.stack(moments_of(x))
  return join_moments(Moments(*shards.gather(own[:, None], 1)))
