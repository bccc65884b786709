"""The setting of the NeurIPS 2020 Procgen contest: 200 easy levels, 8M steps, all levels as test.

There variants of PPO and PPG won, and no Q-learning did; here Q-learning as the paper has it,
and a usual DQN, stand beside them.
"""

from collections.abc import Callable
import dataclasses
from types import MappingProxyType

from experiments.config import ExperimentConfig
from experiments.presets import make_preset
from experiments.studies.comparison import PROCGEN, on_one_protocol
from experiments.studies.study import Study
from training.config import EvaluationConfig, TrainingConfig

AGENTS = ("ppo", "ppg", "muzero", "q_learning", "dqn")
LEVELS = ("easy-200",)  # the contest's generalisation track
# Of the published PPO and PPG on easy levels: one worker; hard levels have four (SCIENCE.md).
ROLLOUT_ENVIRONMENTS = 64


def smoke() -> Study:
  """Does everything work? It learns nothing.

  Source: `laptop`, shrunk.
  Command: procplan compare --study contest --preset smoke
  Cost: 5 runs of about a minute on one core.
  Expected: scores of a random policy, and a report page.
  """
  return Study(
    agents=on_one_protocol(
      "smoke",
      names=AGENTS,
      training=TrainingConfig(total_environment_steps=4096, checkpoint_every=4096),
      evaluation=EvaluationConfig(
        every=4096, num_environments=8, episodes_per_environment=1, final_episodes_per_environment=1
      ),
    ),
    games=("leaper",),
    levels=LEVELS,
    seeds=(0,),
  )


def laptop() -> Study:
  """An eighth of the contest's steps on two games, with the agents' `laptop` presets.

  Source: as `paper`, shortened from 8M to 1M steps.
  Command: procplan compare --study contest --preset laptop --agents ppo dqn
  Cost: 10 runs of 1M steps, PPO's about 20 minutes each on two cores; others not measured.
  Expected: PPO at 1M steps, train / test: starpilot 7.2 / 6.4, coinrun 7.9 / 7.4.
  """
  return Study(
    agents=on_one_protocol(
      "laptop",
      names=AGENTS,
      training=TrainingConfig(total_environment_steps=1_000_000, checkpoint_every=50_000),
      evaluation=EvaluationConfig(every=50_000, num_environments=64, episodes_per_environment=1),
    ),
    games=("coinrun", "starpilot"),
    levels=LEVELS,
    seeds=(0,),
  )


def gpu() -> Study:
  """The contest's steps and levels on three games, with middle-sized networks.

  Source: as `paper`.
  Command: procplan compare --study contest --preset gpu
  Cost: not measured here; 45 runs of 8M steps, one after the other.
  Expected: not known; the contest's own scores were on other networks and time limits.
  """
  return Study(
    agents=on_one_protocol("gpu", names=AGENTS, training=_TRAINING, evaluation=_EVALUATION),
    games=("coinrun", "starpilot", "bigfish"),
    levels=LEVELS,
    seeds=(0, 1, 2),
    processes=1,
  )


def paper() -> Study:
  """The contest's steps and levels on all 16 games, with the papers' networks.

  PPO and PPG have the 64 environments of the published easy protocol; their `paper` presets
  are of hard levels, with 256, and would learn from a quarter of the rollouts.

  Source: Mohanty et al. 2021, Measuring Sample Efficiency and Generalization in
    Reinforcement Learning Benchmarks: NeurIPS 2020 Procgen Benchmark (arXiv 2103.15332).
  Command: procplan compare --study contest --preset paper --games bigfish (a game at a time)
  Cost: not measured here; 240 runs of 8M steps, one after the other.
  Expected: not known; see `gpu`.
  """
  return Study(
    agents=on_one_protocol(
      "paper",
      names=AGENTS,
      training=_TRAINING,
      evaluation=_EVALUATION,
      instead={name: _on_easy_levels(make_preset("paper", name)) for name in ("ppo", "ppg")},
    ),
    games=PROCGEN,
    levels=LEVELS,
    seeds=(0, 1, 2),
    processes=1,
  )


_TRAINING = TrainingConfig(total_environment_steps=8_000_000, checkpoint_every=500_000)
_EVALUATION = EvaluationConfig(every=500_000, episodes_per_environment=2)


def _on_easy_levels(config: ExperimentConfig) -> ExperimentConfig:
  """Returns `config` with the easy protocol's environments."""
  environment = dataclasses.replace(config.environment, num_environments=ROLLOUT_ENVIRONMENTS)
  return dataclasses.replace(config, environment=environment)


CONTESTS: MappingProxyType[str, Callable[[], Study]] = MappingProxyType(
  {"smoke": smoke, "laptop": laptop, "gpu": gpu, "paper": paper}
)
