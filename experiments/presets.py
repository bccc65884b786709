"""Presets: whole configurations by name, for every agent.

`dqn` is a configuration of `q_learning`.

Each is a function whose docstring states source, command, cost and expected score.
"""

from collections.abc import Callable
import dataclasses
from types import MappingProxyType

from agents.ppg.config import PPGConfig
from agents.ppo.config import PPOConfig
from environments.config import EnvironmentConfig
from experiments import dqn_presets, sequence_presets
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
  Cost: 1M steps in 12 minutes on two quiet cores, evaluations apart (1,390 steps/s,
    results/speed_2_cores); 39 minutes on one core of a busy machine.
  Expected score: easy-200 at 1M steps, train / test: coinrun 6.7 / 6.5 and starpilot
    4.9 / 3.4 (measured with frames / 255, results/ppo_easy-200_1M), below the published
    IMPALA network's 7.9 / 7.4 and 7.2 / 6.4. `--backbone impala` reaches those on
    starpilot (8.3 / 7.4, two seeds) at six times the duration (238 steps/s).
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


def ppg_smoke() -> ExperimentConfig:
  """A run that is over in seconds: does everything work? It learns nothing.

  Source: `laptop`, shrunk; four auxiliary phases.
  Command: procplan train --agent ppg --preset smoke
  Cost: about a minute on one core, most of it compilation.
  Expected score: that of a random policy.
  """
  agent = PPGConfig(
    backbone=backbones.laptop(),
    hidden=32,
    rollout_length=32,
    rollouts_per_phase=2,
    num_minibatches=2,
    auxiliary_epochs=1,
    auxiliary_minibatches=8,
  )
  return dataclasses.replace(ppo_smoke(), agent=agent)


def ppg_laptop() -> ExperimentConfig:
  """PPG with the published settings but for the backbone and a quarter of the rollouts.

  8 rollouts instead of 32 from one auxiliary phase to the next, so that 131,072 frames of
  12,288 bytes are kept, 1.6 GB: 3.2 GB with the batch made of them while it is learnt from,
  4.8 GB for the moment in which that is made. Checkpoints fall where no group is open: they
  stay small.

  Source: Cobbe et al. 2021 (arXiv 2009.04416), appendix A and released code.
  Command: procplan train --agent ppg --preset laptop
  Cost: not measured yet; 14 passes of an encoder over every step against PPO's 3.
  Expected score: not known at 1M steps; PPG's published gain over PPO opens later.
  """
  preset = ppo_laptop()
  agent = PPGConfig(
    backbone=backbones.laptop(), rollouts_per_phase=8, auxiliary_minibatches=128, gradient_chunk=64
  )
  training = TrainingConfig(total_environment_steps=1_048_576, checkpoint_every=131_072)
  return dataclasses.replace(preset, agent=agent, training=training)


def ppg_gpu() -> ExperimentConfig:
  """PPG's published settings with one worker's 64 environments, on Procgen's easy protocol.

  A group is 32 rollouts: 6.4 GB on the host, and on the device twice that for a moment and
  once while it is learnt from.

  Source: Cobbe et al. 2021 (arXiv 2009.04416), appendix A and released code; the easy
    protocol is Cobbe et al. 2020's.
  Command: procplan train --agent ppg --preset gpu
  Cost: not measured here; 48 auxiliary phases, 25.2M steps.
  Expected score: IQM .532 on all levels (16 games, normalised), against PPO's .315.
  """
  preset = ppo_gpu()
  training = TrainingConfig(total_environment_steps=25_165_824, checkpoint_every=1_048_576)
  return dataclasses.replace(preset, agent=PPGConfig(), training=training)


def ppg_paper() -> ExperimentConfig:
  """PPG on all hard levels: 256 environments, 100M steps.

  A group is 32 rollouts of 256 environments: 25.8 GB on the host, and over the devices
  twice that for a moment and once while it is learnt from.

  Source: Cobbe et al. 2021 (arXiv 2009.04416), appendix A and released code: 4 workers of
    64 environments, each with auxiliary minibatches of 4 segments.
  Command: procplan train --agent ppg --preset paper
  Cost: not measured here; 48 auxiliary phases, 100.7M steps.
  Expected score: mean-normalised .53 at 25M and .756 at 100M steps (16 games).
  """
  preset = ppo_paper()
  return dataclasses.replace(
    preset,
    agent=PPGConfig(),
    environment=dataclasses.replace(preset.environment, levels="hard-all"),
    training=TrainingConfig(total_environment_steps=100_663_296, checkpoint_every=4_194_304),
  )


PRESETS: MappingProxyType[str, dict[str, Callable[[], ExperimentConfig]]] = MappingProxyType(
  {
    "smoke": {
      "ppo": ppo_smoke,
      "ppg": ppg_smoke,
      "muzero": sequence_presets.muzero_smoke,
      "q_learning": sequence_presets.q_learning_smoke,
      "dqn": dqn_presets.dqn_smoke,
    },
    "laptop": {
      "ppo": ppo_laptop,
      "ppg": ppg_laptop,
      "muzero": sequence_presets.muzero_laptop,
      "q_learning": sequence_presets.q_learning_laptop,
      "dqn": dqn_presets.dqn_laptop,
    },
    "gpu": {
      "ppo": ppo_gpu,
      "ppg": ppg_gpu,
      "muzero": sequence_presets.muzero_gpu,
      "q_learning": sequence_presets.q_learning_gpu,
      "dqn": dqn_presets.dqn_gpu,
    },
    "paper": {
      "ppo": ppo_paper,
      "ppg": ppg_paper,
      "muzero": sequence_presets.muzero_paper,
      "q_learning": sequence_presets.q_learning_paper,
      "dqn": dqn_presets.dqn_paper,
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
