"""The default study: every registered agent on two level distributions of one game.

Its presets are functions whose docstring states source, command, cost and expectation.
"""

from collections.abc import Callable
import dataclasses
from types import MappingProxyType

from environments.games import GAMES
from experiments.config import ExperimentConfig
from experiments.errors import unknown
from experiments.presets import PRESETS
from experiments.studies.study import Study

PROCGEN = tuple(name for name, game in GAMES.items() if game.family == "procgen")


def smoke() -> Study:
  """Does everything work? It learns nothing.

  Source: the agents' `smoke` presets.
  Command: procplan compare --preset smoke
  Cost: under two minutes on two cores.
  Expected: scores of a random policy, and a report page.
  """
  return Study(
    agents=_registered("smoke"),
    games=("leaper",),
    levels=("easy-200", "easy-all"),
    seeds=(0,),
  )


def laptop() -> Study:
  """The main job: training-level and full-distribution curves within a coffee break.

  Source: the agents' `laptop` presets, shortened to fit.
  Command: procplan compare --preset laptop
  Cost: at most 20 minutes on two cores.
  Expected: returns on training levels clearly above those of the untrained policy.
  """
  return Study(
    agents={
      name: _shortened(config, total=600_000, every=60_000)
      for name, config in _registered("laptop").items()
    },
    games=("starpilot",),
    levels=("easy-200", "easy-all"),
    seeds=(0,),
  )


def gpu() -> Study:
  """Easy levels at the published length, on the three games of the short gates.

  Source: Cobbe et al. 2020 (arXiv 1912.01588), section 3: 25M steps.
  Command: procplan compare --preset gpu
  Cost: not measured here; 18 runs of 25M steps an agent, one after the other.
  Expected: PPO on easy-200 at 1M steps, train / test: starpilot 7.2 / 6.4,
    coinrun 7.9 / 7.4, fruitbot 4.9 / 4.1; at 5M starpilot 18.9 / 16.9.
  """
  return Study(
    agents=_registered("gpu"),
    games=("starpilot", "coinrun", "fruitbot"),
    levels=("easy-200", "easy-all"),
    seeds=(0, 1, 2),
    processes=1,
  )


def paper() -> Study:
  """The data-diversity axis of the paper under study, on all 16 games.

  Source: Anand et al. 2022 (arXiv 2111.01587): hard levels, 10 to all of them.
  Command: procplan compare --preset paper --games bigfish (a game at a time)
  Cost: not measured here; 192 runs an agent, one after the other.
  Expected: PPO, mean-normalised over 16 games, at 200M steps: hard-500 .51 on training
    levels and .275 on all levels; hard-all .747.
  """
  return Study(
    agents=_registered("paper"),
    games=PROCGEN,
    levels=("hard-10", "hard-100", "hard-500", "hard-all"),
    seeds=(0, 1, 2),
    processes=1,
  )


COMPARISONS: MappingProxyType[str, Callable[[], Study]] = MappingProxyType(
  {"smoke": smoke, "laptop": laptop, "gpu": gpu, "paper": paper}
)


def make_comparison(preset: str) -> Study:
  """Returns the comparison called `preset`.

  Raises:
    UsageError: there is none; names the nearest.
  """
  if preset not in COMPARISONS:
    raise unknown("preset", preset, COMPARISONS)
  return COMPARISONS[preset]()


def _registered(preset: str) -> dict[str, ExperimentConfig]:
  """Returns the run preset of every agent that has it."""
  return {agent: make() for agent, make in PRESETS[preset].items()}


def _shortened(config: ExperimentConfig, *, total: int, every: int) -> ExperimentConfig:
  """Returns `config` with `total` steps, evaluated and saved every `every` steps."""
  training = dataclasses.replace(
    config.training, total_environment_steps=total, checkpoint_every=every
  )
  evaluation = dataclasses.replace(config.evaluation, every=every)
  return dataclasses.replace(config, training=training, evaluation=evaluation)
