"""Run directories of agents with a world model, made without training: random parameters."""

import dataclasses

import jax
import numpy as np

from agents.config import SelfSupervisionConfig
from agents.model import ModelConfig
from agents.muzero.config import GumbelSearchConfig, MuZeroConfig
from agents.sequences import SequenceConfig
from environments.config import EnvironmentConfig
from environments.factory import environment_spec
from experiments.config import ExperimentConfig, save_config
from experiments.registry import make_agent
from networks.config import ResNetConfig
from training.checkpoint import Checkpoints, Snapshot
from training.config import EvaluationConfig, TrainingConfig

STEP = 64

CONFIG = ExperimentConfig(
  agent=MuZeroConfig(
    backbone=ResNetConfig(stem_kernels=(4,), stem_strides=(4,), stem_channels=(8,), blocks=0),
    model=ModelConfig(dynamics_blocks=0, head_channels=4, hidden=16),
    sequences=SequenceConfig(
      starts=4, unroll_steps=2, bootstrap_steps=2, batch_size=8, capacity=800, min_size=64
    ),
    search=GumbelSearchConfig(num_simulations=3, max_considered_actions=3),
    self_supervision=SelfSupervisionConfig(hidden=8, projection_size=4),
  ),
  environment=EnvironmentConfig(game="catch", levels="easy-20", num_environments=8),
  training=TrainingConfig(total_environment_steps=1024),
  evaluation=EvaluationConfig(num_environments=4, final_episodes_per_environment=2),
  seed=3,
)


def with_decoder(config: ExperimentConfig) -> ExperimentConfig:
  """Returns the configuration with a reconstruction loss."""
  losses = dataclasses.replace(config.agent.self_supervision, reconstruction_coefficient=1.0)
  return dataclasses.replace(
    config, agent=dataclasses.replace(config.agent, self_supervision=losses)
  )


def make_run(directory, config: ExperimentConfig = CONFIG):
  """Writes a run with one checkpoint, whose policy and values differ from frame to frame."""
  spec = environment_spec("catch", num_environments=config.environment.num_environments)
  agent = make_agent(config.agent, spec, total_environment_steps=1024)
  state = jax.jit(agent.init)(jax.random.key(config.seed))
  generator = np.random.default_rng(config.seed)
  noisy = jax.tree.map(
    lambda x: x + generator.normal(0, 0.5, x.shape).astype(x.dtype), state.params
  )
  directory.mkdir(parents=True)
  save_config(config, directory / "config.yaml")
  checkpoints = Checkpoints(directory / "checkpoints", keep=1)
  snapshot = Snapshot(state.replace(params=jax.device_put(noisy)), {"x": np.zeros(1)}, {})
  checkpoints.save(STEP, snapshot)
  checkpoints.close()
  return directory
