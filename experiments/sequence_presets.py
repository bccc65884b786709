"""Presets of the agents that learn from replayed sequences: MuZero and its control.

What the two share is stated once, so that a preset of Q-learning is MuZero's without
planning. Each is a function whose docstring states source, command, cost and expected score.
"""

import dataclasses
from typing import Any

from agents.config import OptimizerConfig
from agents.model import ModelConfig
from agents.muzero.config import GumbelSearchConfig, MuZeroConfig, PUCTSearchConfig
from agents.q_learning.config import ExplorationConfig, QLearningConfig
from agents.sequences import SequenceConfig
from environments.config import EnvironmentConfig
from experiments.config import ExperimentConfig
from losses.categorical_support import CategoricalSupport
from networks import config as backbones
from training.config import EvaluationConfig, TrainingConfig


def muzero_smoke() -> ExperimentConfig:
  """A run that is over in seconds: does everything work? It learns nothing.

  Source: `laptop`, shrunk.
  Command: procplan train --agent muzero --preset smoke
  Cost: under a minute on one core.
  Expected score: that of a random policy.
  """
  search = GumbelSearchConfig(num_simulations=2, max_considered_actions=4)
  return _smoke(MuZeroConfig(search=search, **_smoke_settings()))


def q_learning_smoke() -> ExperimentConfig:
  """A run that is over in seconds: does everything work? It learns nothing.

  Source: `laptop`, shrunk.
  Command: procplan train --agent q_learning --preset smoke
  Cost: under a minute on one core.
  Expected score: that of a random policy.
  """
  return _smoke(
    QLearningConfig(exploration=ExplorationConfig(decay_steps=1000), **_smoke_settings())
  )


def muzero_laptop() -> ExperimentConfig:
  """A small MuZero: 32 channels at 8x8, 8 Gumbel simulations, all policies reanalysed.

  Source: MuZero Unplugged's settings (SCIENCE.md) but for the sizes: fewer channels,
    simulations and uses of a sample, batches of 32, a narrower support, a constant learning
    rate of 5e-4, priorities of exponent .5 without importance weights. Search moves the policy
    a fifth as far as Gumbel MuZero's c_scale of .1 does, whose policies got stuck in coinrun's
    levels, and its root has noise (results/muzero_coinrun). A discount of .97: with .997 the
    control stands still on coinrun, the one game compared (results/discount_coinrun).
  Command: procplan train --agent muzero --preset laptop
  Cost: about 27 ms of one core per step (measured, Xeon, Sapphire Rapids), 7.5 hours for all
    1M steps, 124.5k updates of 32 samples.
  Expected score: coinrun, easy-200, at 102k steps: 7.0 on training levels and 6.3 on all (two
    seeds, results/discount_coinrun); not measured further.
  """
  search = GumbelSearchConfig(
    num_simulations=8,
    value_scale=0.02,
    rescale_epsilon=0.05,
    dirichlet_fraction=0.25,
    dirichlet_alpha=1.0,
  )
  return _laptop(MuZeroConfig(search=search, **_laptop_settings()))


def q_learning_laptop() -> ExperimentConfig:
  """The control of `muzero_laptop`: the same but for planning.

  Source: as `muzero_laptop`; exploration is not documented in the paper.
  Command: procplan train --agent q_learning --preset laptop
  Cost: about 20 ms of one core per step without evaluations (measured, Xeon, Sapphire Rapids),
    5.6 hours for all 1M steps, 124.5k updates of 32 samples.
  Expected score: coinrun, easy-200, epsilon at its end by 25,600: 6.9 on training levels and 4.8
    on all at 51k steps, 5.0 and 3.9 at 102k, where a third of the episodes stand still
    (two seeds, results/discount_coinrun); not measured further.
  """
  return _laptop(QLearningConfig(**_laptop_settings()))


def muzero_gpu() -> ExperimentConfig:
  """A middle-sized MuZero for one GPU: 4 blocks of 64 channels, 16 Gumbel simulations.

  Source: between `laptop` and `paper`.
  Command: procplan train --agent muzero --preset gpu
  Cost: not measured here; 10M steps, 47k updates of 1024 samples.
  Expected score: not known.
  """
  return _gpu(MuZeroConfig(search=GumbelSearchConfig(num_simulations=16), **_gpu_settings()))


def q_learning_gpu() -> ExperimentConfig:
  """The control of `muzero_gpu`: the same but for planning.

  Source: as `muzero_gpu`.
  Command: procplan train --agent q_learning --preset gpu
  Cost: not measured here; 10M steps.
  Expected score: not known.
  """
  return _gpu(QLearningConfig(**_gpu_settings()))


def muzero_paper() -> ExperimentConfig:
  """MuZero Reanalyse as in the paper under study: 500 hard levels, 30M frames.

  Source: Anand et al. 2022 (arXiv 2111.01587) and MuZero Unplugged (Schrittwieser et al.
    2021); SCIENCE.md says which figures are documented.
  Command: procplan train --agent muzero --preset paper
  Cost: 584k updates and 956M searches of 50 simulations (sequences are searched at S + K
    positions for S samples), of the order of 1e20 FLOP.
  Expected score: mean-normalised .50 on all levels (16 games).
  """
  return _paper(
    MuZeroConfig(search=PUCTSearchConfig(), reanalyse_fraction=0.95, **_paper_settings())
  )


def q_learning_paper() -> ExperimentConfig:
  """The control of `muzero_paper`: the same but for planning.

  Source: Anand et al. 2022 (arXiv 2111.01587); exploration is not documented there.
  Command: procplan train --agent q_learning --preset paper
  Cost: 584k updates.
  Expected score: not published as a number.
  """
  exploration = ExplorationConfig(decay_steps=1_000_000)
  return _paper(QLearningConfig(exploration=exploration, **_paper_settings()))


def _smoke_settings() -> dict[str, Any]:
  return {
    "backbone": backbones.ResNetConfig(stem_channels=(8, 8), blocks=1),
    "model": ModelConfig(dynamics_blocks=1, head_channels=4, hidden=32),
    "sequences": SequenceConfig(
      starts=4, batch_size=32, capacity=4096, min_size=1024, samples_per_insert=0.25
    ),
    "rollout_length": 16,
  }


def _smoke(agent) -> ExperimentConfig:
  return ExperimentConfig(
    agent=agent,
    environment=EnvironmentConfig(game="leaper", levels="easy-200", num_environments=16),
    training=TrainingConfig(total_environment_steps=4096, checkpoint_every=2048),
    evaluation=EvaluationConfig(
      every=2048,
      num_environments=8,
      episodes_per_environment=1,
      final_episodes_per_environment=1,
      policy="greedy",
    ),
  )


def _laptop_settings() -> dict[str, Any]:
  return {
    "discount": 0.97,
    "backbone": backbones.laptop(),
    "model": ModelConfig(),
    "sequences": SequenceConfig(
      batch_size=32,
      capacity=200_000,
      min_size=4096,
      samples_per_insert=4.0,
      priority_exponent=0.5,
    ),
    "optimizer": OptimizerConfig(
      learning_rate=5e-4, adam_epsilon=1e-8, max_gradient_norm=5.0, weight_decay=1e-4
    ),
  }


def _laptop(agent) -> ExperimentConfig:
  return ExperimentConfig(
    agent=agent,
    environment=EnvironmentConfig(game="coinrun", levels="easy-200", num_environments=64),
    training=TrainingConfig(total_environment_steps=1_000_000, checkpoint_every=50_000),
    evaluation=EvaluationConfig(
      every=50_000, num_environments=64, episodes_per_environment=1, policy="sampled"
    ),
  )


def _gpu_settings() -> dict[str, Any]:
  backbone = dataclasses.replace(backbones.paper(), stem_channels=(32, 64, 64), blocks=4)
  return {
    "backbone": backbone,
    "model": ModelConfig(dynamics_blocks=4, hidden=256),
    "sequences": SequenceConfig(
      batch_size=1024, capacity=1_024_000, min_size=50_000, samples_per_insert=4.8
    ),
  }


def _gpu(agent) -> ExperimentConfig:
  return ExperimentConfig(
    agent=agent,
    environment=EnvironmentConfig(game="leaper", levels="easy-200", num_environments=128),
    training=TrainingConfig(total_environment_steps=10_000_000, checkpoint_every=500_000),
    evaluation=EvaluationConfig(every=500_000, num_environments=64, episodes_per_environment=2),
  )


def _paper_settings() -> dict[str, Any]:
  support = CategoricalSupport(low=-300.0, high=300.0, num_atoms=601)
  return {
    "backbone": backbones.paper(),
    "model": ModelConfig(
      dynamics_blocks=10, hidden=256, value_support=support, reward_support=support
    ),
    "sequences": SequenceConfig(
      capacity=30_000_128,  # the whole run: 117,188 frames of each environment
      min_size=100_000,
      samples_per_insert=20.0,
      priority_exponent=1.0,
      importance_exponent=1.0,
      memory_budget=32 * 2**30,  # of 343 GiB: 10.7-fold
    ),
  }


def _paper(agent) -> ExperimentConfig:
  return ExperimentConfig(
    agent=agent,
    environment=EnvironmentConfig(game="bigfish", levels="hard-500", num_environments=256),
    training=TrainingConfig(total_environment_steps=30_000_000, checkpoint_every=1_000_000),
    evaluation=EvaluationConfig(every=1_000_000, num_environments=64, episodes_per_environment=2),
  )
