"""The default study: every registered agent on two level distributions of one game.

Its presets are functions whose docstring states source, command, cost and expectation.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math
from types import MappingProxyType

from environments.games import GAMES
from experiments.config import ExperimentConfig
from experiments.presets import make_preset
from experiments.registry import AGENTS
from experiments.run_plan import spec_of
from experiments.studies.study import Study
from replay.interface import Rollouts
from training.config import EvaluationConfig, TrainingConfig

PROCGEN = tuple(name for name, game in GAMES.items() if game.family == "procgen")


def smoke() -> Study:
  """Does everything work? It learns nothing.

  Source: the agents' `smoke` presets, on one protocol.
  Command: procplan compare --preset smoke
  Cost: under two minutes on two quiet cores.
  Expected: scores of a random policy, and a report page.
  """
  return Study(
    agents=on_one_protocol(
      "smoke",
      training=TrainingConfig(total_environment_steps=4096, checkpoint_every=2048),
      evaluation=EvaluationConfig(
        every=2048, num_environments=8, episodes_per_environment=1, final_episodes_per_environment=1
      ),
    ),
    games=("leaper",),
    levels=("easy-200", "easy-all"),
    seeds=(0,),
  )


def laptop() -> Study:
  """The main job: training-level and full-distribution curves within a coffee break.

  Source: PPO's `laptop` preset, shortened to fit; MuZero's 100k steps take 50 minutes a run.
  Command: procplan compare --preset laptop
  Cost: 13 minutes on two quiet cores, two of them for the set-up of `make compare` (measured,
    Xeon, Sapphire Rapids).
  Expected: on easy-200 from 3.1 to 5.8 on training levels and from 2.7 to 5.1 on all (one
    seed, results/compare_laptop).
  """
  return Study(
    agents=on_one_protocol(
      "laptop",
      names=("ppo",),
      training=TrainingConfig(total_environment_steps=160_000, checkpoint_every=32_000),
      evaluation=EvaluationConfig(every=32_000),
    ),
    games=("coinrun",),
    levels=("easy-200", "easy-all"),
    seeds=(0,),
  )


def gpu() -> Study:
  """Easy levels on three games whose published curves are known, at 10M steps.

  Source: Cobbe et al. 2020 (arXiv 1912.01588), section 3, shortened from 25M steps.
  Command: procplan compare --preset gpu
  Cost: not measured here; 18 runs of 10M steps an agent, one after the other.
  Expected: PPO on easy-200 at 1M steps, train / test: starpilot 7.2 / 6.4,
    coinrun 7.9 / 7.4, fruitbot 4.9 / 4.1; at 5M starpilot 18.9 / 16.9, fruitbot 24.1 / 22.4.
  """
  return Study(
    agents=on_one_protocol(
      "gpu",
      training=TrainingConfig(total_environment_steps=10_000_000, checkpoint_every=500_000),
      evaluation=EvaluationConfig(every=500_000, episodes_per_environment=2),
    ),
    games=("starpilot", "coinrun", "fruitbot"),
    levels=("easy-200", "easy-all"),
    seeds=(0, 1, 2),
    processes=1,
  )


def paper() -> Study:
  """The data-diversity axis of the paper under study, on all 16 games, at 30M steps.

  Source: Anand et al. 2022 (arXiv 2111.01587): hard levels, 10 to all of them.
  Command: procplan compare --preset paper --games bigfish (a game at a time)
  Cost: not measured here; 192 runs of 30M steps an agent, one after the other.
  Expected: mean-normalised over 16 games, PPO hard-500 .194 on training levels and .098
    on all levels, hard-all .30; MuZero hard-500 .50 on all levels.
  """
  return Study(
    agents=on_one_protocol(
      "paper",
      training=TrainingConfig(total_environment_steps=30_000_000, checkpoint_every=1_000_000),
      evaluation=EvaluationConfig(every=1_000_000, episodes_per_environment=2),
    ),
    games=PROCGEN,
    levels=("hard-10", "hard-100", "hard-500", "hard-all"),
    seeds=(0, 1, 2),
    processes=1,
  )


COMPARISONS: MappingProxyType[str, Callable[[], Study]] = MappingProxyType(
  {"smoke": smoke, "laptop": laptop, "gpu": gpu, "paper": paper}
)


def on_one_protocol(
  preset: str,
  *,
  training: TrainingConfig,
  evaluation: EvaluationConfig,
  names: Sequence[str] | None = None,
  instead: Mapping[str, ExperimentConfig] = MappingProxyType({}),
) -> dict[str, ExperimentConfig]:
  """Returns the agents' run presets, all trained and evaluated in the same way.

  An agent that learns from groups of rollouts has its checkpoints between the groups, all but
  the last: that is where the agents' common number of steps is reached, in an open group or not.

  Args:
    preset: of `experiments.presets`.
    training: of every agent.
    evaluation: of every agent.
    names: which agents; None means all that are registered.
    instead: configurations of some of them in place of their presets.
  """
  agents = {name: instead.get(name) or make_preset(preset, name) for name in names or AGENTS}
  return {
    name: _between_groups(dataclasses.replace(config, training=training, evaluation=evaluation))
    for name, config in agents.items()
  }


def _between_groups(config: ExperimentConfig) -> ExperimentConfig:
  """Returns `config` with checkpoints where no group of several rollouts is open.

  Their interval becomes the nearest one that is a whole number of groups, one at least: a
  checkpoint inside a group holds its rollouts, up to 26 GB of PPG's in 256 environments. The
  last one still may: the steps of training stay what they are for every agent.
  """
  spec = spec_of(config)
  work = config.agent.workload(spec)
  sources = [phase.source for phase in work.phases]
  rollouts = math.lcm(*(each.count for each in sources if isinstance(each, Rollouts)))
  if rollouts == 1:
    return config
  group = rollouts * work.rollout_length * spec.num_environments
  groups = max(1, round(config.training.checkpoint_every / group))
  training = dataclasses.replace(config.training, checkpoint_every=groups * group)
  return dataclasses.replace(config, training=training)
