"""A run's agent with the train state of one of its checkpoints, on the devices of now."""

import dataclasses
import math
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding

from agents.interface import Agent, TrainState
from environments.factory import environment_spec
from environments.interface import EnvironmentSpec
from experiments.config import ExperimentConfig
from experiments.registry import make_agent
from training import sharding
from training.checkpoint_reader import CheckpointReader


@dataclasses.dataclass(frozen=True, eq=False)
class RestoredPolicy:
  """What a checkpoint holds of an agent.

  Attributes:
    agent: as in training.
    spec: of the environments of training.
    mesh: the devices.
    step: environment steps of the checkpoint.
    state: replicated over the mesh.
  """

  agent: Agent
  spec: EnvironmentSpec
  mesh: Mesh
  step: int
  state: TrainState

  @property
  def policy_params(self) -> Any:
    """What acting needs."""
    return self.agent.policy_params(self.state)


def restore_policy(
  config: ExperimentConfig,
  reader: CheckpointReader,
  *,
  step: int | None,
  batch_sizes: list[int],
) -> RestoredPolicy:
  """Reads a checkpoint; on how many devices it was made is of no consequence.

  Args:
    config: of the run.
    reader: of its checkpoints.
    step: which checkpoint; None takes the latest good one.
    batch_sizes: of what is going to be acted on: as many devices are used as split all.

  Raises:
    CheckpointError: it cannot be read, or is of another agent.
  """
  environment = config.environment
  spec = environment_spec(environment.game, num_environments=environment.num_environments)
  agent = make_agent(
    config.agent, spec, total_environment_steps=config.training.total_environment_steps
  )
  devices = jax.devices()
  mesh = sharding.make_mesh(devices[: math.gcd(len(devices), *batch_sizes)])
  placed = NamedSharding(mesh, sharding.REPLICATED)
  wanted = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placed),
    jax.eval_shape(agent.init, jax.random.key(0)),
  )
  step, state = reader.restore_train_state(wanted, step=step)
  return RestoredPolicy(agent, spec, mesh, step, state)
