"""The tables of scores: per cell, aggregated."""

from collections.abc import Mapping, Sequence
import math

from experiments.reporting.aggregates import Aggregate, published_mean
from experiments.reporting.filters import needs, needs_of
from experiments.reporting.markup import Markup, join, table, with_note
from experiments.reporting.published import published_at
from experiments.reporting.runs import Run, is_number
from experiments.reporting.statistics import AGGREGATES, Estimate
from experiments.reporting.study import SPLITS, Cell, Scores, Study
from experiments.reporting.summary import estimate_in_words
from experiments.reporting.wording import (
  NOTHING,
  TIMES,
  range_in_words,
  score_in_words,
  steps_in_words,
)


def score_table(study: Study) -> Markup:
  """Final scores of every cell, with the published ones at the same steps."""
  header = (
    "Level distribution",
    "Game",
    "Agent",
    "Steps",
    "Seeds",
    "Training return, last 100 episodes",
    "Training levels",
    "Full distribution",
    "Gap",
    "Published at the same steps",
  )
  cells = in_order(study)
  caption = (
    "Mean episode return, not normalised: mean over seeds, below it the range over seeds;"
    " for a single seed, the standard error over its evaluation episodes. Runs after a + are"
    " not in the means."
  )
  rows = [_score_row(cell) for cell in cells]
  marks = [needs_of(study, [cell]) for cell in cells]
  return table(caption, header, rows, heading_columns=3, numeric_from=3, needs=marks)


def in_order(study: Study) -> list[Cell]:
  """Cells as tables list them: by level distribution, game and agent."""
  return sorted(study.cells.values(), key=lambda c: (study.levels.index(c.levels), c.game, c.agent))


def _score_row(cell: Cell) -> list[object]:
  pair = cell.last_pair()
  train, test = pair or tuple(cell.last_scores(split) for split in SPLITS)
  known = test or train
  step = known.environment_steps if known else max(run.environment_steps for run in cell.runs)
  training = [training_return(run, step) for run in cell.used]
  training = [value for value in training if value is not None]
  return [
    cell.levels,
    cell.game,
    cell.agent,
    steps_in_words(step) if cell.is_final else with_note(steps_in_words(step), "not final"),
    _seeds(cell, known),
    mean_and_range(training),
    _scores(train),
    _scores(test),
    NOTHING if cell.trains_on_all_levels else _gap(pair),
    _published(cell, step),
  ]


def training_return(run: Run, environment_steps: int) -> float | None:
  """Mean return of the last 100 training episodes at these steps; None if there is none yet."""
  for row in reversed(run.training):
    value = row.get("training/episode_return")
    if row["environment_steps"] <= environment_steps and is_number(value):
      return float(value)
  return None


def _seeds(cell: Cell, scores: Scores | None) -> object:
  counted = len(scores.rows) if scores else 0
  others = [run.state for run in cell.runs if run not in cell.used]
  if not others:
    return counted
  notes = [f"{others.count(state)} {state}" for state in dict.fromkeys(others)]
  return with_note(counted, f"+ {', '.join(notes)}")


def mean_and_range(values: Sequence[float]) -> object:
  """A table cell: the mean and, of several values, their range."""
  if not values:
    return NOTHING
  mean = score_in_words(sum(values) / len(values))
  return mean if len(values) == 1 else with_note(mean, range_in_words(values))


def _scores(scores: Scores | None) -> object:
  if scores is None:
    return NOTHING
  if len(scores.rows) > 1:
    return mean_and_range(scores.values)
  error = _standard_error(scores)
  mean = score_in_words(scores.mean)
  return mean if error is None else with_note(mean, f"s.e. {score_in_words(error)}")


def _standard_error(scores: Scores) -> float | None:
  row = scores.rows[0]
  std, episodes = row.get("episode_return_std"), row.get("episodes")
  return std / math.sqrt(episodes) if is_number(std) and is_number(episodes) else None


def _gap(pair: tuple[Scores, Scores] | None) -> object:
  if pair is None:
    return NOTHING
  train, test = pair
  if len(train.rows) != len(test.rows):
    return score_in_words(train.mean - test.mean)
  return mean_and_range([a - b for a, b in zip(train.values, test.values, strict=True)])


def _published(cell: Cell, step: int) -> object:
  """Published scores of the same agent at the same steps, or that there is none."""
  texts = []
  for split in SPLITS:
    found = published_at(
      cell.agent_name, cell.levels, split=split, game=cell.game, environment_steps=step
    )
    texts += [f"{split} {score_in_words(s.mean)} ± {score_in_words(s.std)}" for s in found]
  return join(texts, Markup("<br>")) if texts else f"none at {steps_in_words(step)} steps"


def aggregate_table(
  study: Study,
  aggregates: Sequence[Aggregate],
  estimates: Mapping[tuple[str, str, str], Mapping[str, Estimate]],
) -> Markup:
  """IQM, mean, median and optimality gap.

  Args:
    study: all runs.
    aggregates: one for every level distribution and split.
    estimates: (agent, level distribution, split) -> name of the aggregate -> estimate.
  """
  rows, marks = [], []
  for aggregate in aggregates:
    for agent, matrix in aggregate.matrices.items():
      mine = estimates[agent, aggregate.levels, aggregate.split]
      name = next(c.agent_name for c in study.cells.values() if c.agent == agent)
      reference = published_mean(aggregate, study, name)
      marks.append(needs(study, agents=[agent], levels=[aggregate.levels]))
      rows.append(
        [
          aggregate.levels,
          "training levels" if aggregate.split == "train" else "full distribution",
          agent,
          steps_in_words(aggregate.environment_steps),
          f"{matrix.num_runs} {TIMES} {len(matrix.games)}",
          *(estimate_in_words(mine[each]) for each in AGGREGATES),
          NOTHING if reference is None else score_in_words(reference),
        ]
      )
  header = (
    "Level distribution",
    "Evaluated on",
    "Agent",
    "Steps",
    f"Runs {TIMES} games",
    "IQM",
    "Mean",
    "Median",
    "Optimality gap",
    "Published mean, same steps",
  )
  caption = "Normalised scores over games, with 95 % intervals where there are two runs or more."
  return table(caption, header, rows, heading_columns=3, numeric_from=3, needs=marks)
