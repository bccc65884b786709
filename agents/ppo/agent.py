"""PPO as an agent: sample, estimate advantages on arrival, learn from fresh rollouts."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from agents.interface import ActorOutput, Agent, Phase
from agents.optimizers import make_optimizer
from agents.ppo.config import PPOConfig
from agents.ppo.loss import PPOBatch, explained_variance, ppo_loss
from environments.interface import EnvironmentSpec
from losses import policy
from losses.returns import generalised_advantage
from losses.reward_scaling import RewardScaling, initial_reward_scaling, scale_rewards
from networks.actor_critic import SharedActorCritic
from networks.gradients import value_and_grad_in_chunks
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
  steps_per_rollout = config.rollout_length * spec.num_environments
  total_rollouts = -(-total_environment_steps // steps_per_rollout)
  optimizer = make_optimizer(
    config.optimizer, total_updates=total_rollouts * config.epochs * config.num_minibatches
  )

  def init(key: jax.Array) -> PPOState:
    params = network.init(key, jnp.zeros((1, *spec.observation_shape), jnp.uint8))
    return PPOState(
      params=params,
      optimizer_state=optimizer.init(params),
      reward_scaling=initial_reward_scaling(spec.num_environments),
    )

  def postprocess(state: PPOState, trajectory: Trajectory) -> tuple[PPOState, Record]:
    reward_scaling, record = _estimate(network, config, state, trajectory)
    return state.replace(reward_scaling=reward_scaling), record

  def update(state: PPOState, batch: PPOBatch, key: jax.Array):
    del key  # nothing here is random
    return _descend(network, optimizer, state, batch, config=config)

  phase = Phase(
    name="policy",
    source=Rollouts(1),
    make_targets=lambda state, record, key: _flatten(record),
    update=update,
    epochs=config.epochs,
    num_minibatches=config.num_minibatches,
  )
  return Agent(
    init=init,
    policy_params=lambda state: state.params,
    act=lambda params, observation, key: _sample(network, params, observation, key),
    act_greedy=lambda params, observation, key: _most_likely(network, params, observation),
    postprocess=postprocess,
    phases=(phase,),
    rollout_length=config.rollout_length,
  )


def _sample(network, params, observation, key) -> ActorOutput:
  output = network.apply(params, observation)
  action = jax.random.categorical(key, output.logits).astype(jnp.int32)
  return _report(output, action)


def _most_likely(network, params, observation) -> ActorOutput:
  output = network.apply(params, observation)
  return _report(output, jnp.argmax(output.logits, axis=-1).astype(jnp.int32))


def _report(output, action) -> ActorOutput:
  log_prob = policy.log_prob(output.logits, action)
  return ActorOutput(action, {"log_prob": log_prob, "value": output.value})


def _estimate(network, config: PPOConfig, state: PPOState, trajectory: Trajectory):
  """Scales rewards and estimates advantages; `[T, B, ...]` in and out."""
  reward_scaling, reward = scale_rewards(
    state.reward_scaling,
    trajectory.reward,
    trajectory.discount,
    gamma=config.reward_discount,
    clip=config.reward_clip,
  )
  value = trajectory.extras["value"]
  final_value = network.apply(state.params, trajectory.final_observation).value
  advantage = generalised_advantage(
    reward,
    config.discount * trajectory.discount,
    jnp.concatenate([value, final_value[None]]),
    lambda_=config.gae_lambda,
  )
  record = {
    "observation": trajectory.observation,
    "action": trajectory.action,
    "log_prob": trajectory.extras["log_prob"],
    "value": value,
    "advantage": advantage,
    "value_target": advantage + value,
  }
  return reward_scaling, record


def _flatten(record: Record) -> PPOBatch:
  """Joins time and environments: `[T, B, ...]` to `[T * B, ...]`."""
  return PPOBatch(**{name: x.reshape((-1, *x.shape[2:])) for name, x in record.items()})


def _descend(network, optimizer, state: PPOState, batch: PPOBatch, *, config: PPOConfig):
  """One optimiser step on `[N, ...]`."""
  batch = batch.replace(advantage=policy.normalise_advantage(batch.advantage))

  def loss(params, steps):
    return ppo_loss(network.apply(params, steps.observation), steps, config)

  (_, means), gradient = value_and_grad_in_chunks(
    loss, state.params, batch, chunk_size=config.gradient_chunk or batch.action.shape[0]
  )
  updates, optimizer_state = optimizer.update(gradient, state.optimizer_state, state.params)
  state = state.replace(
    params=optax.apply_updates(state.params, updates), optimizer_state=optimizer_state
  )
  metrics = {
    **means,
    "explained_variance": explained_variance(means),
    "gradient_norm": optax.tree.norm(gradient),
  }
  return state, metrics
