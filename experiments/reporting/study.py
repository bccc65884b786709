"""What was compared: runs sorted into cells of one agent, level distribution and game.

A score is only ever compared with another one at equal environment steps.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
from typing import Any

from environments.games import Bounds, score_bounds
from environments.levels import LevelDistribution, parse_levels
from experiments.reporting.labels import make_labels
from experiments.reporting.published import equal_steps
from experiments.reporting.runs import Run, is_number

SPLITS = ("train", "test")


@dataclasses.dataclass(frozen=True)
class Scores:
  """One split's mean episode returns in one cell, at equal steps.

  Attributes:
    environment_steps: the steps of the evaluations.
    rows: one evaluation row a run.
  """

  environment_steps: int
  rows: tuple[Mapping[str, Any], ...]

  @property
  def values(self) -> tuple[float, ...]:
    """Mean episode return of every run."""
    return tuple(float(row["episode_return"]) for row in self.rows)

  @property
  def mean(self) -> float:
    """Mean over runs."""
    return sum(self.values) / len(self.values)

  @property
  def timed_out(self) -> float | None:
    """Share of the episodes that the time limit ended, of the runs that say; None if none does."""
    counts = [(row.get("time_outs"), row.get("episodes")) for row in self.rows]
    counts = [pair for pair in counts if all(map(is_number, pair))]
    episodes = sum(total for _, total in counts)
    return sum(ended for ended, _ in counts) / episodes if episodes else None


@dataclasses.dataclass(frozen=True)
class Cell:
  """The runs of one agent, level distribution and game.

  Attributes:
    agent: the agent's label; its name, or its name and what sets it apart.
    agent_name: the agent's registered name.
    levels: name of the level distribution of training.
    game: the game.
    policy: `sampled` or `greedy`, which evaluations are shown.
    runs: every run, by seed.
  """

  agent: str
  agent_name: str
  levels: str
  game: str
  policy: str
  runs: tuple[Run, ...]

  @property
  def used(self) -> tuple[Run, ...]:
    """Runs that count in means: the finished ones; before there is one, those going on."""
    finished = tuple(run for run in self.runs if run.state == "finished")
    return finished or tuple(run for run in self.runs if run.state not in ("failed", "not started"))

  @property
  def is_final(self) -> bool:
    """Whether the used runs have finished."""
    return any(run.state == "finished" for run in self.runs)

  @property
  def trains_on_all_levels(self) -> bool:
    """Whether the full distribution is what it trains on, so that no gap can be measured."""
    distribution = level_distribution(self.levels)
    return distribution is not None and distribution.num_levels == 0

  def steps(self, split: str) -> list[list[int]]:
    """Environment steps of the evaluations of every used run that has any."""
    steps = [
      [row["environment_steps"] for row in run.evaluations_of(split, self.policy)]
      for run in self.used
    ]
    return [each for each in steps if each]

  def last_common_step(self, split: str) -> int | None:
    """The latest steps at which every used run was evaluated."""
    return latest_common_step(self.steps(split))

  def scores_at(self, split: str, environment_steps: int) -> Scores | None:
    """The scores of the used runs at these steps; None where no run has one."""
    rows = []
    for run in self.used:
      near = [
        row
        for row in run.evaluations_of(split, self.policy)
        if equal_steps(environment_steps, row["environment_steps"])
      ]
      if near:
        rows.append(near[-1])
    return Scores(environment_steps, tuple(rows)) if rows else None

  def last_scores(self, split: str) -> Scores | None:
    """The scores at the latest common steps."""
    step = self.last_common_step(split)
    return None if step is None else self.scores_at(split, step)

  def last_pair(self) -> tuple[Scores, Scores] | None:
    """The scores on training levels and full distribution at the latest steps of both."""
    both = [self.steps(split) for split in SPLITS]
    step = latest_common_step([*both[0], *both[1]]) if all(both) else None
    if step is None:
      return None
    train, test = (self.scores_at(split, step) for split in SPLITS)
    return train, test


@dataclasses.dataclass(frozen=True)
class Study:
  """All runs of a report.

  Attributes:
    runs: every run, the unreadable ones included.
    cells: (agent, levels, game) -> cell.
    bounds: name of the score bounds.
    variants: label -> the settings that it stands for, where the label does not say them.
    warnings: what a reader of the numbers has to know, in words.
  """

  runs: tuple[Run, ...]
  cells: Mapping[tuple[str, str, str], Cell]
  bounds: str
  variants: Mapping[str, str]
  warnings: tuple[str, ...]

  @property
  def agents(self) -> tuple[str, ...]:
    """Labels of the agents."""
    return tuple(sorted({agent for agent, _, _ in self.cells}))

  @property
  def levels(self) -> tuple[str, ...]:
    """Names of the level distributions, by mode and size."""
    return tuple(sorted({levels for _, levels, _ in self.cells}, key=_levels_order))

  @property
  def games(self) -> tuple[str, ...]:
    """Names of the games."""
    return tuple(sorted({game for _, _, game in self.cells}))

  def cells_of(self, *, levels: str | None = None, game: str | None = None) -> list[Cell]:
    """Cells of one level distribution, one game, or both, by agent."""
    return [
      cell
      for _, cell in sorted(self.cells.items())
      if levels in (None, cell.levels) and game in (None, cell.game)
    ]

  def cell_of(self, run: Run) -> Cell | None:
    """The cell that a run is in; None for one whose config does not say."""
    return next((cell for cell in self.cells.values() if run in cell.runs), None)

  def label_of(self, run: Run) -> str:
    """What the run's agent is called."""
    cell = self.cell_of(run)
    return run.label if cell is None else cell.agent

  def bounds_of(self, levels: str, game: str) -> Bounds | None:
    """Returns that count as 0 and 1; None for a game or levels outside the table."""
    distribution = level_distribution(levels)
    if distribution is None:
      return None
    try:
      return score_bounds(game, distribution.mode, self.bounds)
    except ValueError:
      return None


def level_distribution(levels: str) -> LevelDistribution | None:
  """What a level distribution's name says; None for a name of another family."""
  try:
    return parse_levels(levels)
  except ValueError:
    return None


def make_study(runs: Iterable[Run], *, bounds: str) -> Study:
  """Sorts runs into cells.

  An agent is called what its study calls it. Runs of one agent whose settings differ
  within a cell are not seeds of one another: they become agents of their own.
  """
  runs = tuple(runs)
  readable = [run for run in runs if run.is_readable]
  labels, variants = make_labels(readable)
  policies = {label: _policy(labels, label) for label in set(labels.values())}
  grouped: dict[tuple[str, str, str], list[Run]] = {}
  for run, label in labels.items():
    grouped.setdefault((label, run.levels, run.game), []).append(run)
  cells = {}
  for (label, levels, game), members in grouped.items():
    members.sort(key=lambda run: (str(run.seed).rjust(12), str(run.directory)))
    cells[label, levels, game] = Cell(
      agent=label,
      agent_name=members[0].agent,
      levels=levels,
      game=game,
      policy=policies[label],
      runs=tuple(members),
    )
  return Study(runs, cells, bounds, variants=variants, warnings=tuple(_warnings(cells)))


def latest_common_step(steps: Sequence[Sequence[int]]) -> int | None:
  """The latest number of steps that is (nearly) in every list; None if there is none."""
  for candidate in sorted({s for each in steps for s in each}, reverse=True):
    if all(any(equal_steps(candidate, s) for s in each) for each in steps):
      return candidate
  return None


def common_steps(steps: Sequence[Sequence[int]]) -> list[int]:
  """The steps of the first list that are (nearly) in every list."""
  first = steps[0] if steps else ()
  return [s for s in first if all(any(equal_steps(s, other) for other in each) for each in steps)]


def _policy(labels: Mapping[Run, str], label: str) -> str:
  """The policy with the most evaluations of an agent; sampled, as published, where equal."""
  count = {"sampled": 0, "greedy": 0}
  for run, own in labels.items():
    for row in run.evaluations if own == label else ():
      if row.get("policy") in count:
        count[row["policy"]] += 1
  return "greedy" if count["greedy"] > count["sampled"] else "sampled"


def _warnings(cells: Mapping[tuple[str, str, str], Cell]) -> list[str]:
  warnings = []
  for cell in cells.values():
    seeds = [run.seed for run in cell.runs if run.state != "failed"]
    twice = sorted({str(seed) for seed in seeds if seeds.count(seed) > 1})
    if twice:
      where = f"{cell.agent} on {cell.game}, {cell.levels}"
      warnings.append(
        f"{where}: seed {', '.join(twice)} was run more than once; such runs are"
        " not independent, and intervals are too narrow"
      )
  return warnings


def _levels_order(levels: str) -> tuple[str, float, str]:
  distribution = level_distribution(levels)
  if distribution is None:
    return ("", 0.0, levels)
  return (distribution.mode, distribution.num_levels or float("inf"), levels)
