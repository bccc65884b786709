"""Scores of a study over all games of a level distribution, at equal steps, normalised."""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from environments.games import normalised_score
from experiments.reporting.published import published_at
from experiments.reporting.statistics import (
  Estimate,
  ScoreMatrix,
  iqm_curve,
  score_matrix,
)
from experiments.reporting.study import (
  SPLITS,
  Cell,
  Study,
  common_steps,
  latest_common_step,
  level_distribution,
)
from experiments.reporting.wording import steps_in_words


@dataclasses.dataclass(frozen=True)
class Aggregate:
  """Normalised scores of all agents on one level distribution and split.

  Attributes:
    levels: name of the level distribution of training.
    split: `train` or `test`.
    environment_steps: the latest steps at which every run of every agent was evaluated.
    games: games that every agent has scores on.
    matrices: agent -> `[runs, games]`.
    notes: what was left out and why, in words.
  """

  levels: str
  split: str
  environment_steps: int
  games: tuple[str, ...]
  matrices: Mapping[str, ScoreMatrix]
  notes: tuple[str, ...]


def aggregate_scores(study: Study, levels: str, split: str) -> Aggregate | None:
  """Puts the scores of one level distribution and split side by side.

  Args:
    study: all runs.
    levels: name of the level distribution of training.
    split: `train` or `test`.

  Returns:
    None where no game has scores of every agent at common steps, within known bounds;
    `missing.why_no_aggregate` says why.
  """
  cells = scored_cells(study, levels, split)
  agents = sorted({cell.agent for cell in cells})
  games = common_games(cells, agents)
  cells = [cell for cell in cells if cell.game in games]
  step = latest_step(cells, split)
  if step is None:
    return None
  by_agent = {agent: [cell for cell in cells if cell.agent == agent] for agent in agents}
  return Aggregate(
    levels=levels,
    split=split,
    environment_steps=step,
    games=games,
    matrices={agent: matrix_at(study, by_agent[agent], split, step) for agent in agents},
    notes=tuple(_notes(study, levels, games, by_agent=by_agent, at=(split, step))),
  )


@dataclasses.dataclass(frozen=True)
class AggregateCurve:
  """IQM of one agent over its evaluations.

  Attributes:
    steps: environment steps of every evaluation.
    seconds: wall-clock time until then, mean over runs and games.
    estimates: IQM of the normalised score.
  """

  steps: tuple[int, ...]
  seconds: tuple[float, ...]
  estimates: tuple[Estimate, ...]

  def along(self, axis: str) -> tuple[float, ...]:
    """The x of every evaluation; `axis` is `environment_steps` or `seconds`."""
    return self.seconds if axis == "seconds" else self.steps


def aggregate_curve(
  study: Study, agent: str, aggregate: Aggregate, *, resamples: int
) -> AggregateCurve:
  """IQM of one agent at every evaluation that all its runs share, up to the common steps."""
  cells = [study.cells[agent, aggregate.levels, game] for game in aggregate.games]
  lists = [steps for cell in cells for steps in cell.steps(aggregate.split)]
  steps = [s for s in common_steps(lists) if s <= aggregate.environment_steps]
  matrices = [matrix_at(study, cells, aggregate.split, s) for s in steps]
  seconds = []
  for step in steps:
    rows = [row for cell in cells for row in cell.scores_at(aggregate.split, step).rows]
    seconds.append(float(np.mean([row.get("seconds", np.nan) for row in rows])))
  estimates = iqm_curve(matrices, resamples=resamples) if matrices else []
  return AggregateCurve(tuple(steps), tuple(seconds), tuple(estimates))


def common_levels_scores(
  study: Study, mode: str
) -> tuple[tuple[str, ...], dict[tuple[str, str, str], ScoreMatrix], str]:
  """Scores of one mode's level distributions on the same games at the same steps.

  Args:
    study: all runs.
    mode: `easy` or `hard`.

  Returns:
    The level distributions by size; (agent, level distribution, split) -> `[runs, games]`;
    and a note: what was compared, or why nothing was, empty where there is one
    level distribution or none.
  """
  names = tuple(n for n in study.levels if (d := level_distribution(n)) and d.mode == mode)
  if len(names) < 2:
    return names, {}, ""
  cells = [c for name in names for c in study.cells_of(levels=name) if all(map(c.steps, SPLITS))]
  cells = [cell for cell in cells if study.bounds_of(cell.levels, cell.game) is not None]
  pairs = sorted({(cell.agent, cell.levels) for cell in cells})
  games = set.intersection(
    *({c.game for c in cells if (c.agent, c.levels) == pair} for pair in pairs or [("", "")])
  )
  cells = [cell for cell in cells if cell.game in games]
  step = latest_common_step([s for c in cells for split in SPLITS for s in c.steps(split)])
  if len({levels for _, levels in pairs}) < 2 or not games or step is None:
    return names, {}, f"{mode} mode: no common games and steps over the level distributions yet."
  scores = {
    (agent, levels, split): matrix_at(
      study, [c for c in cells if (c.agent, c.levels) == (agent, levels)], split, step
    )
    for agent, levels in pairs
    for split in SPLITS
  }
  over = ", ".join(sorted(games))
  return names, scores, f"{mode} mode: IQM over {over}, at {steps_in_words(step)} steps."


def published_mean(aggregate: Aggregate, study: Study, agent_name: str) -> float | None:
  """Published normalised mean over the same games, at the same steps; None if one is missing.

  Where two sources published a score, the first one counts.
  """
  scores = []
  for game in aggregate.games:
    found = published_at(
      agent_name,
      aggregate.levels,
      split=aggregate.split,
      game=game,
      environment_steps=aggregate.environment_steps,
    )
    if not found:
      return None
    bounds = study.bounds_of(aggregate.levels, game)
    scores.append(normalised_score(found[0].mean, bounds))
  return float(np.mean(scores))


def scored_cells(study: Study, levels: str, split: str) -> list[Cell]:
  """Cells of a level distribution with an evaluation and known bounds."""
  cells = [cell for cell in study.cells_of(levels=levels) if cell.steps(split)]
  return [cell for cell in cells if study.bounds_of(levels, cell.game) is not None]


def latest_step(cells: Sequence[Cell], split: str) -> int | None:
  """The latest steps at which every run was evaluated; None if there are none.

  Steps before training count for one agent alone: they compare nothing that was learned.
  """
  step = latest_common_step([steps for cell in cells for steps in cell.steps(split)])
  return None if step == 0 and len({cell.agent for cell in cells}) > 1 else step


def common_games(cells: Sequence[Cell], agents: Sequence[str]) -> tuple[str, ...]:
  """The games that every agent has."""
  have = {agent: {cell.game for cell in cells if cell.agent == agent} for agent in agents}
  return tuple(sorted(set.intersection(*have.values()))) if have else ()


def matrix_at(study: Study, cells: Sequence[Cell], split: str, step: int) -> ScoreMatrix:
  """`[runs, games]`: the i-th row holds the i-th run of every game.

  Runs of different games are independent, and the bootstrap draws per game.
  """
  scores = {}
  for cell in cells:
    bounds = study.bounds_of(cell.levels, cell.game)
    values = cell.scores_at(split, step).values
    scores[cell.game] = [normalised_score(value, bounds) for value in values]
  runs = min(len(values) for values in scores.values())
  return score_matrix({game: values[:runs] for game, values in scores.items()})


def _notes(
  study: Study,
  levels: str,
  games: Sequence[str],
  *,
  by_agent: Mapping[str, Sequence[Cell]],
  at: tuple[str, int],
) -> list[str]:
  """What was left out of the matrices; `at` is the split and the environment steps."""
  notes = []
  others = sorted({cell.game for cell in study.cells_of(levels=levels)} - set(games))
  if others:
    notes.append(f"left out, without scores of every agent or without bounds: {', '.join(others)}")
  for agent, cells in by_agent.items():
    counts = [len(cell.scores_at(*at).rows) for cell in cells]
    if len(set(counts)) > 1:
      notes.append(f"{agent}: {min(counts)} run(s) a game are used, though some games have more")
  if any(not cell.is_final for cells in by_agent.values() for cell in cells):
    notes.append("some of these runs have not finished")
  return notes
