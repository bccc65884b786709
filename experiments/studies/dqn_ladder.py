"""From a usual DQN to the control, one change at a time, and each change alone on top of DQN.

The first open question of the paper under study: which of the things that set its Q-learning
apart from a usual DQN makes the difference? `experiments.dqn_presets` says what a change is and
what is bundled with it.
"""

from collections.abc import Callable
import dataclasses
from types import MappingProxyType

from experiments.config import ExperimentConfig
from experiments.dqn_presets import CHANGES, SMALL, UsualDQN, with_changes
from experiments.presets import make_preset
from experiments.studies.comparison import PROCGEN
from experiments.studies.study import Contrast, Study
from training.config import EvaluationConfig, TrainingConfig

BASE, TOP = "dqn", "q_learning"
IN_TURN, ALONE = "one after the other", "alone on top of DQN"


def smoke() -> Study:
  """Does everything work? It learns nothing.

  Source: `laptop`, shrunk.
  Command: procplan compare --study dqn-ladder --preset smoke
  Cost: 12 runs of about half a minute on one core.
  Expected: scores of a random policy, and a report page.
  """
  control = _control("smoke", samples_per_insert=0.5)
  return ladder(
    control,
    usual=SMALL,
    training=TrainingConfig(total_environment_steps=2048, checkpoint_every=2048),
    evaluation=control.evaluation,
    games=("leaper",),
    levels=("easy-200",),
    seeds=(0,),
  )


def laptop() -> Study:
  """The ladder on one game that small models learn early, with the paper's 20 uses of a sample.

  Batches are of 128 samples, not of the preset's 32: those are a usual DQN's too, and the size
  of a batch is one of the changes. Exploration ends half way. Played as trained, with the final
  epsilon.

  Source: the question of Anand et al. 2022 (arXiv 2111.01587); SCIENCE.md, sections 1 and 4.
  Command: procplan compare --study dqn-ladder --preset laptop --agents dqn dqn+network
    dqn+sample-reuse q_learning (the ends and two rungs; without --agents all 12)
  Cost: 24 runs of 51,200 steps on one core each. On an old AMD EPYC, a third as fast as the Xeon
    of other results: dqn 15 minutes, dqn+network and dqn+sample-reuse about 45
    (results/dqn_ladder_coinrun); the others not measured.
  Expected: not known; the paper's author guesses that network and sample reuse matter most. The
    first runs say that luck decides: a base of 0 and one of 5.2 on training levels.
  """
  control = _control("laptop", samples_per_insert=20.0, batch_size=128)
  exploration = dataclasses.replace(control.agent.exploration, decay_steps=25_600)
  return ladder(
    dataclasses.replace(control, agent=dataclasses.replace(control.agent, exploration=exploration)),
    usual=UsualDQN(),
    training=TrainingConfig(total_environment_steps=51_200, checkpoint_every=25_600),
    evaluation=EvaluationConfig(
      every=25_600,
      num_environments=64,
      episodes_per_environment=1,
      final_episodes_per_environment=2,
      policy="sampled",
    ),
    games=("coinrun",),
    levels=("easy-200",),
    seeds=(0, 1),
  )


def gpu() -> Study:
  """The ladder on three easy games, 10M steps, with middle-sized networks.

  Source: as `laptop`.
  Command: procplan compare --study dqn-ladder --preset gpu
  Cost: not measured here; 108 runs of 10M steps, one after the other.
  Expected: not known.
  """
  return ladder(
    _control("gpu", samples_per_insert=20.0),
    usual=UsualDQN(),
    training=TrainingConfig(total_environment_steps=10_000_000, checkpoint_every=500_000),
    evaluation=EvaluationConfig(every=500_000, episodes_per_environment=2, policy="greedy"),
    games=("leaper", "coinrun", "starpilot"),
    levels=("easy-200",),
    seeds=(0, 1, 2),
    processes=1,
  )


def paper() -> Study:
  """The ladder up to the paper's control itself: 16 games, 500 hard levels, 30M steps.

  Source: Anand et al. 2022 (arXiv 2111.01587) for the control.
  Command: procplan compare --study dqn-ladder --preset paper --games bigfish (a game at a time)
  Cost: not measured here; 576 runs of 30M steps, one after the other.
  Expected: not known.
  """
  return ladder(
    make_preset("paper", TOP),
    usual=UsualDQN(),
    training=TrainingConfig(total_environment_steps=30_000_000, checkpoint_every=1_000_000),
    evaluation=EvaluationConfig(every=1_000_000, episodes_per_environment=2, policy="greedy"),
    games=PROCGEN,
    levels=("hard-500",),
    seeds=(0, 1, 2),
    processes=1,
  )


DQN_LADDERS: MappingProxyType[str, Callable[[], Study]] = MappingProxyType(
  {"smoke": smoke, "laptop": laptop, "gpu": gpu, "paper": paper}
)


def ladder(
  control: ExperimentConfig,
  *,
  usual: UsualDQN,
  training: TrainingConfig,
  evaluation: EvaluationConfig,
  **grid,
) -> Study:
  """Returns the study of every rung.

  Labels: `dqn`; `dqn+network`, `+sample-reuse`, ... for the rungs, each with all changes
  before it; `q_learning` for the last, the control; `dqn+sample-reuse`, ... for a change
  alone. The first change alone is the first rung.

  Args:
    control: the top.
    usual: the base.
    training: of every run.
    evaluation: of every run.
    **grid: the study's other fields.
  """
  control = dataclasses.replace(control, training=training, evaluation=evaluation)
  names = list(CHANGES)
  made: dict[str, tuple[str, ...]] = {BASE: ()}
  made |= {_rung(i): tuple(names[: i + 1]) for i in range(len(names))}
  made |= {f"{BASE}+{name}": (name,) for name in names}
  return Study(
    agents={label: with_changes(control, changes, usual=usual) for label, changes in made.items()},
    contrasts=tuple(_contrasts(names)),
    **grid,
  )


def _contrasts(names: list[str]):
  for i, name in enumerate(names):
    before = BASE if i == 0 else _rung(i - 1)
    yield Contrast(IN_TURN, name, before, _rung(i), CHANGES[name])
  for name in names:
    yield Contrast(ALONE, name, BASE, f"{BASE}+{name}", CHANGES[name])


def _rung(index: int) -> str:
  """Label of the rung with the changes up to the `index`-th."""
  names = list(CHANGES)
  if index == len(names) - 1:
    return TOP
  return f"+{names[index]}" if index else f"{BASE}+{names[0]}"


def _control(preset: str, **sequences: float) -> ExperimentConfig:
  """The preset of Q-learning with other settings of its sequences."""
  config = make_preset(preset, TOP)
  changed = dataclasses.replace(config.agent.sequences, **sequences)
  return dataclasses.replace(config, agent=dataclasses.replace(config.agent, sequences=changed))
