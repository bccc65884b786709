"""MuZero as an agent: act by search, reanalyse on draw, learn from unrolled sequences."""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from agents.descent import descend
from agents.interface import WHOLE, Agent, Phase, ReportedValue, Shards
from agents.model import make_world_model
from agents.muzero.acting import acting_by_search, planning_model
from agents.muzero.config import MuZeroConfig
from agents.muzero.loss import muzero_loss
from agents.muzero.reanalyse import SequenceBatch, make_targets
from agents.optimizers import make_optimizer
from agents.self_supervision import add_heads
from agents.target_network import refresh_target
from agents.unrolling import sample_priorities
from environments.interface import EnvironmentSpec
from networks.world_model import WorldModel
from replay.interface import Record, Trajectory


@flax.struct.dataclass
class MuZeroState:
  """Everything that MuZero learns or counts."""

  params: Any  # the network's parameters
  target_params: Any  # a copy, `target_interval` updates old at most
  optimizer_state: Any
  updates: jax.Array  # [] int32


def make_muzero(
  config: MuZeroConfig, spec: EnvironmentSpec, *, total_environment_steps: int
) -> Agent:
  """Builds MuZero.

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
  network = make_world_model(config.backbone, config.model, num_actions=spec.num_actions)
  model = planning_model(network, config)
  optimizer = make_optimizer(
    config.optimizer, total_updates=config.sequences.total_updates(total_environment_steps)
  )

  def init(key: jax.Array) -> MuZeroState:
    frame = jnp.zeros((1, *spec.observation_shape), jnp.uint8)
    action = jnp.zeros((1,), jnp.int32)
    params = network.init(key, frame, action, method=WorldModel.planning_parts)
    params = add_heads(network, config.self_supervision, params, frame=frame, key=key)
    return MuZeroState(
      params=params,
      target_params=jax.tree.map(jnp.copy, params),
      optimizer_state=optimizer.init(params),
      updates=jnp.zeros((), jnp.int32),
    )

  phase = Phase(
    name="model",
    source=config.sequences.request(),
    make_targets=lambda state, record, key: make_targets(
      model, state.target_params, record, key, config=config
    ),
    update=functools.partial(_descend, model=model, optimizer=optimizer, config=config),
    priorities=sample_priorities if config.sequences.priority_exponent else None,
    work=_reanalysis(config, spec),
  )
  acting = acting_by_search(model, config.search)
  return Agent(
    init=init,
    policy_params=lambda state: state.params,
    act=acting.sampled,
    act_greedy=acting.greedy,
    postprocess=lambda state, trajectory: (state, _record(trajectory)),
    phases=(phase,),
    rollout_length=config.rollout_length,
    work={"simulations": config.search.num_simulations},
    reported_value=ReportedValue(config.discount, lambda state: jnp.ones(())),
  )


def _reanalysis(config: MuZeroConfig, spec: EnvironmentSpec) -> dict[str, int]:
  """What the targets of one draw take, counts by name."""
  (phase,) = config.workload(spec).phases
  simulations = phase.searches * config.search.num_simulations
  return {"reanalysed_positions": phase.searches, "simulations": simulations}


def _record(trajectory: Trajectory) -> Record:
  """What replay keeps of a trajectory: `[T, B, ...]`."""
  return {
    "observation": trajectory.observation,
    "action": trajectory.action,
    "reward": trajectory.reward,
    "discount": trajectory.discount,
    "search_policy": trajectory.extras["search_policy"],
  }


def _descend(
  state: MuZeroState, batch: SequenceBatch, key, shards: Shards = WHOLE, *, model, optimizer, config
):
  """One optimiser step, then a refreshed target network when it is due."""
  del key  # nothing here is random

  def loss(params, sequences):
    return muzero_loss(model, params, sequences, config, shards=shards)

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
  state = MuZeroState(
    params=params,
    target_params=refresh_target(
      state.target_params, params, updates=count, interval=config.target_interval
    ),
    optimizer_state=optimizer_state,
    updates=count,
  )
  return state, metrics
