"""PPG as an agent: PPO's phase over fresh rollouts, then one over all since the last such."""

from collections.abc import Callable, Mapping
import functools
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from agents.descent import descend
from agents.interface import WHOLE, Agent, Phase, ReportedValue, Shards
from agents.optimizers import make_optimizer
from agents.ppg.auxiliary import auxiliary_loss, make_auxiliary_batch
from agents.ppg.config import PPGConfig
from agents.ppg.loss import policy_and_value_loss, policy_loss, value_loss
from agents.ppg.segments import columns, join_segments, single_steps
from agents.ppo.acting import most_likely, sample
from agents.ppo.loss import explained_variance
from agents.ppo.rollouts import estimate
from environments.interface import EnvironmentSpec
from losses.policy import normalise_advantage
from losses.reward_scaling import RewardScaling, initial_reward_scaling, spread
from networks.actor_critic import PHASIC_TRUNKS
from networks.initialisers import HEAD_NORM, row_normalised, row_normalised_trunk
from replay.interface import Record, Rollouts, Trajectory


@flax.struct.dataclass
class PPGState:
  """Everything that PPG learns or counts."""

  params: Any  # the network's parameters
  optimizer_states: Mapping[str, Any]  # by phase: each has its own Adam
  reward_scaling: RewardScaling  # running statistics, one return per environment


def make_ppg(config: PPGConfig, spec: EnvironmentSpec, *, total_environment_steps: int) -> Agent:
  """Builds PPG.

  Args:
    config: settings.
    spec: what the environments look like.
    total_environment_steps: of the whole run; learning-rate schedules end there.

  Returns:
    An agent with a policy phase over fresh rollouts, preceded by a value phase of its own
    if the two differ in epochs, and an auxiliary phase over every `rollouts_per_phase`.

  Raises:
    ValueError: a phase's data do not split into its minibatches.
  """
  config.check_batch(spec.num_environments)
  network = make_network(config, num_actions=spec.num_actions)
  steps_per_rollout = config.rollout_length * spec.num_environments
  total_rollouts = -(-total_environment_steps // steps_per_rollout)
  optimizers = _make_optimizers(config, total_rollouts)

  def init(key: jax.Array) -> PPGState:
    params = network.init(key, jnp.zeros((1, *spec.observation_shape), jnp.uint8))
    return PPGState(
      params=params,
      optimizer_states={name: each.init(params) for name, each in optimizers.items()},
      reward_scaling=initial_reward_scaling(spec.num_environments),
    )

  return Agent(
    init=init,
    policy_params=lambda state: state.params,
    act=lambda params, observation, key: sample(network, params, observation, key),
    act_greedy=lambda params, observation, key: most_likely(network, params, observation),
    postprocess=lambda state, trajectory: _postprocess(network, config, state, trajectory),
    phases=(
      *_policy_phases(network, optimizers, config),
      _auxiliary_phase(network, optimizers["auxiliary"], config),
    ),
    rollout_length=config.rollout_length,
    reported_value=ReportedValue(
      config.discount, lambda state: spread(state.reward_scaling.moments)
    ),
  )


def make_network(config: PPGConfig, *, num_actions: int) -> nn.Module:
  """Builds the row-normalised network with the trunks that `config` asks for."""
  return PHASIC_TRUNKS[config.trunk](
    config.backbone,
    num_actions=num_actions,
    hidden=config.hidden,
    initialisers=row_normalised_trunk(config.backbone),
    head_init=row_normalised(HEAD_NORM),
  )


def _policy_losses(config: PPGConfig) -> dict[str, tuple[Callable, int]]:
  """What is learnt from fresh rollouts: by phase, in order, the loss and its epochs."""
  if config.policy_epochs == config.value_epochs:
    return {"policy": (policy_and_value_loss, config.policy_epochs)}
  return {
    "value": (value_loss, config.value_epochs),
    "policy": (policy_loss, config.policy_epochs),
  }


def _make_optimizers(
  config: PPGConfig, total_rollouts: int
) -> dict[str, optax.GradientTransformation]:
  """One optimiser for every phase."""
  optimizers = {
    name: make_optimizer(
      config.optimizer, total_updates=total_rollouts * epochs * config.num_minibatches
    )
    for name, (_, epochs) in _policy_losses(config).items()
  }
  groups = total_rollouts // config.rollouts_per_phase
  updates = groups * config.auxiliary_epochs * config.auxiliary_minibatches
  # A run may be over before its first auxiliary phase: a schedule still needs a length.
  optimizers["auxiliary"] = make_optimizer(
    config.auxiliary_optimizer, total_updates=max(1, updates)
  )
  return optimizers


def _policy_phases(network: nn.Module, optimizers: Mapping, config: PPGConfig) -> list[Phase]:
  """The phases over fresh rollouts."""
  make_batch = {"columns": columns, "steps": single_steps}[config.minibatches]
  return [
    Phase(
      name=name,
      source=Rollouts(1),
      make_targets=lambda state, record, key: make_batch(record),
      update=_make_update(
        network,
        optimizers[name],
        functools.partial(loss, config=config),
        phase=name,
        chunk_size=config.gradient_chunk,
      ),
      epochs=epochs,
      num_minibatches=config.num_minibatches,
    )
    for name, (loss, epochs) in _policy_losses(config).items()
  ]


def _auxiliary_phase(
  network: nn.Module, optimizer: optax.GradientTransformation, config: PPGConfig
) -> Phase:
  """The phase over all rollouts since the last of its kind."""
  return Phase(
    name="auxiliary",
    source=Rollouts(config.rollouts_per_phase),
    make_targets=lambda state, record, key: make_auxiliary_batch(network, state.params, record),
    update=_make_update(
      network,
      optimizer,
      functools.partial(auxiliary_loss, clone_coefficient=config.clone_coefficient),
      phase="auxiliary",
      chunk_size=config.gradient_chunk,
    ),
    epochs=config.auxiliary_epochs,
    num_minibatches=config.auxiliary_minibatches,
  )


def _make_update(
  network: nn.Module,
  optimizer: optax.GradientTransformation,
  loss: Callable,
  *,
  phase: str,
  chunk_size: int,
) -> Callable:
  """An update of `phase` by its loss: (network's output, steps) -> (mean, means by name)."""

  def mean_loss(params, steps):
    return loss(network.apply(params, steps.observation), steps)

  def update(state: PPGState, batch: Any, key: jax.Array, shards: Shards = WHOLE):
    del key  # nothing here is random
    params, optimizer_state, metrics = descend(
      mean_loss,
      optimizer,
      state.params,
      state.optimizer_states[phase],
      batch=join_segments(batch),
      chunk_size=chunk_size,
      shards=shards,
    )
    if "residual" in metrics:  # values are learnt
      metrics["explained_variance"] = explained_variance(metrics)
    optimizer_states = {**state.optimizer_states, phase: optimizer_state}
    return state.replace(params=params, optimizer_states=optimizer_states), metrics

  return update


def _postprocess(
  network: nn.Module, config: PPGConfig, state: PPGState, trajectory: Trajectory
) -> tuple[PPGState, Record]:
  """As PPO, and normalises the advantages over the whole rollout; `[T, B, ...]` in and out."""
  reward_scaling, record = estimate(
    state.reward_scaling,
    trajectory,
    network.apply(state.params, trajectory.final_observation).value,
    discount=config.discount,
    gae_lambda=config.gae_lambda,
    reward_discount=config.reward_discount,
    reward_clip=config.reward_clip,
  )
  advantage = record["advantage"]
  normalised = normalise_advantage(advantage.reshape(-1)).reshape(advantage.shape)
  return state.replace(reward_scaling=reward_scaling), {**record, "advantage": normalised}
