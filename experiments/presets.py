"""Presets: whole configurations by name, for every agent.

Each is a function whose docstring states source, command, cost and expected score.
"""

from collections.abc import Callable
import dataclasses
from types import MappingProxyType

from agents.ppo.config import PPOConfig
from environments.config import EnvironmentConfig
from experiments import sequence_presets
from experiments.config import ExperimentConfig
from experiments.errors import unknown
from networks import config as backbones
from training.config import EvaluationConfig, TrainingConfig


def ppo_smoke() -> ExperimentConfig:
  """A run that is over in seconds: does everything work? It learns nothing.

  Source: `laptop`, shrunk.
  Command: procplan train --agent ppo --preset smoke
  Cost: about 20 s on one core.
  Expected score: that of a random policy.
  """
  return ExperimentConfig(
    agent=PPOConfig(
      backbone=backbones.laptop(), hidden=32, rollout_length=32, epochs=1, num_minibatches=2
    ),
    environment=EnvironmentConfig(game="leaper", levels="easy-200", num_environments=16),
    training=TrainingConfig(total_environment_steps=4096, checkpoint_every=2048),
    evaluation=EvaluationConfig(
      every=2048, num_environments=8, episodes_per_environment=1, final_episodes_per_environment=2
    ),
  )


def ppo_laptop() -> ExperimentConfig:
  """PPO with the published settings of easy levels, on a small residual backbone.

  Source: Cobbe et al. 2020 (arXiv 1912.01588) for all but the backbone.
  Command: procplan train --agent ppo --preset laptop
  Cost: 1M steps in about 20 minutes on two cores.
  Expected score: easy-200 at 1M steps, near the published train / test returns of the
    IMPALA network: starpilot 7.2 / 6.4, coinrun 7.9 / 7.4.
  """
  return ExperimentConfig(
    agent=PPOConfig(backbone=backbones.laptop(), gradient_chunk=64),
    environment=EnvironmentConfig(game="starpilot", levels="easy-200", num_environments=64),
    training=TrainingConfig(total_environment_steps=1_000_000, checkpoint_every=100_000),
    evaluation=EvaluationConfig(every=100_000, num_environments=64, episodes_per_environment=1),
  )


def ppo_gpu() -> ExperimentConfig:
  """Procgen's easy protocol with the IMPALA network.

  Source: Cobbe et al. 2020 (arXiv 1912.01588), section 3 and released code.
  Command: procplan train --agent ppo --preset gpu
  Cost: not measured here; 25M steps.
  Expected score: mean-normalised .596 on training levels, .354 on all levels (16 games).
  """
  return ExperimentConfig(
    agent=PPOConfig(backbone=backbones.impala()),
    environment=EnvironmentConfig(game="starpilot", levels="easy-200", num_environments=64),
    training=TrainingConfig(total_environment_steps=25_000_000, checkpoint_every=1_000_000),
    evaluation=EvaluationConfig(every=1_000_000, num_environments=64, episodes_per_environment=2),
  )


def ppo_paper() -> ExperimentConfig:
  """Procgen's hard protocol: 500 levels, 256 environments, 200M steps.

  Source: Cobbe et al. 2020 (arXiv 1912.01588), section 3 and released code.
  Command: procplan train --agent ppo --preset paper
  Cost: not measured here; 200M steps.
  Expected score: mean-normalised .51 on training levels, .275 on all levels (16 games).
  """
  preset = ppo_gpu()
  return dataclasses.replace(
    preset,
    environment=dataclasses.replace(preset.environment, levels="hard-500", num_environments=256),
    training=TrainingConfig(total_environment_steps=200_000_000, checkpoint_every=5_000_000),
    evaluation=EvaluationConfig(every=5_000_000, num_environments=64, episodes_per_environment=2),
  )


PRESETS: MappingProxyType[str, dict[str, Callable[[], ExperimentConfig]]] = MappingProxyType(
  {
    "smoke": {
      "ppo": ppo_smoke,
      "muzero": sequence_presets.muzero_smoke,
      "q_learning": sequence_presets.q_learning_smoke,
    },
    "laptop": {
      "ppo": ppo_laptop,
      "muzero": sequence_presets.muzero_laptop,
      "q_learning": sequence_presets.q_learning_laptop,
    },
    "gpu": {
      "ppo": ppo_gpu,
      "muzero": sequence_presets.muzero_gpu,
      "q_learning": sequence_presets.q_learning_gpu,
    },
    "paper": {
      "ppo": ppo_paper,
      "muzero": sequence_presets.muzero_paper,
      "q_learning": sequence_presets.q_learning_paper,
    },
  }
)


def make_preset(preset: str, agent: str) -> ExperimentConfig:
  """Returns the configuration of `preset` for `agent`.

  Raises:
    UsageError: there is no such preset or agent; names the nearest.
  """
  if preset not in PRESETS:
    raise unknown("preset", preset, PRESETS)
  if agent not in PRESETS[preset]:
    raise unknown("agent", agent, PRESETS[preset])
  return PRESETS[preset][agent]()
