"""Sample efficiency in two numbers: area under the test curve, and steps to a baseline's score.

Areas are compared over the same steps or marked as not comparable; a run that has not
reached a score has not reached it within its own steps.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from environments.games import normalised_score
from experiments.reporting.filters import needs_of
from experiments.reporting.markup import Markup, table, with_note
from experiments.reporting.published import equal_steps
from experiments.reporting.statistics import area_under_curve, steps_to_reach
from experiments.reporting.study import Cell, Scores, Study, common_steps
from experiments.reporting.tables import in_order, mean_and_range
from experiments.reporting.wording import (
  NOTHING,
  count_in_words,
  score_in_words,
  steps_in_words,
)


@dataclasses.dataclass(frozen=True)
class Curve:
  """The test curve of one cell, at the evaluations that all its runs share.

  Attributes:
    steps: `[N]` environment steps, N >= 2.
    returns: `[N, runs]` mean episode returns, not normalised.
    means: `[N]` over runs, rounded as a baseline's last score is.
  """

  steps: tuple[int, ...]
  returns: np.ndarray
  means: np.ndarray


def efficiency_table(study: Study, *, baseline: str) -> Markup | None:
  """Area under the test curve and steps to reach the baseline's last score.

  Args:
    study: all runs.
    baseline: registered name of an agent.

  Returns:
    None where no cell has two evaluations and bounds.
  """
  curves = {cell: curve for cell in in_order(study) if (curve := curve_of(study, cell))}
  if not curves:
    return None
  header = (
    "Level distribution",
    "Game",
    "Agent",
    "Seeds",
    "Area, normalised",
    "Area between",
    f"Last score of {baseline}",
    "Steps to reach it",
  )
  caption = (
    "Area: mean height of the normalised curve on the full distribution, between the first and"
    " the last evaluation that all agents on a game share. Where they share fewer than two, each"
    " area is over the agent's own steps, and compares with no other. Steps: of the first"
    " evaluation whose mean over seeds is at or above the score."
  )
  rows = []
  for cell, curve in curves.items():
    beside = [c for c in curves if (c.levels, c.game) == (cell.levels, cell.game)]
    shared = common_steps([curves[each].steps for each in beside])
    rows.append(
      [
        cell.levels,
        cell.game,
        cell.agent,
        count_in_words(curve.returns.shape[1], "seed"),
        *_area(study, cell, curve, shared=shared),
        *_reached(curve, best_baseline(study, cell, baseline)),
      ]
    )
  marks = [needs_of(study, [cell]) for cell in curves]
  return table(caption, header, rows, heading_columns=3, numeric_from=3, needs=marks)


def curve_of(study: Study, cell: Cell) -> Curve | None:
  """The test curve of a cell; None without bounds, or with fewer than two common evaluations."""
  steps = common_steps(cell.steps("test"))
  if study.bounds_of(cell.levels, cell.game) is None or len(steps) < 2:
    return None
  scores = [cell.scores_at("test", step) for step in steps]
  returns = np.array([each.values for each in scores])
  return Curve(tuple(steps), returns, np.array([each.mean for each in scores]))


def between(curve: Curve, first: int, last: int) -> Curve:
  """The part of a curve from the evaluation at (nearly) `first` to that at (nearly) `last`."""
  low = next(i for i, step in enumerate(curve.steps) if equal_steps(first, step))
  high = max(i for i, step in enumerate(curve.steps) if equal_steps(last, step))
  part = slice(low, high + 1)
  return Curve(curve.steps[part], curve.returns[part], curve.means[part])


def best_baseline(study: Study, cell: Cell, baseline: str) -> tuple[Cell, Scores] | None:
  """The variant of `baseline` with the highest last test score beside `cell`; None for none.

  Finished variants count before those that have not finished.
  """
  found = [
    (each, scores)
    for each in study.cells_of(levels=cell.levels, game=cell.game)
    if each.agent_name == baseline and (scores := each.last_scores("test"))
  ]
  return max(found, key=lambda pair: (pair[0].is_final, pair[1].mean), default=None)


def _area(study: Study, cell: Cell, curve: Curve, *, shared: Sequence[int]) -> tuple[object, ...]:
  """The area and its range; `shared` are the steps that all agents on the game have."""
  is_shared = len(shared) > 1
  part = between(curve, shared[0], shared[-1]) if is_shared else curve
  bounds = study.bounds_of(cell.levels, cell.game)
  areas = [area_under_curve(part.steps, normalised_score(run, bounds)) for run in part.returns.T]
  covered = f"{steps_in_words(part.steps[0])} to {steps_in_words(part.steps[-1])}"
  covered = covered if is_shared else with_note(covered, "its own, not comparable")
  return mean_and_range(areas), covered


def _reached(curve: Curve, best: tuple[Cell, Scores] | None) -> tuple[object, ...]:
  """The baseline's score, with where it is from, and the steps until the curve reaches it."""
  if best is None:
    return NOTHING, NOTHING
  cell, target = best
  where = f"{cell.agent} at {steps_in_words(target.environment_steps)}"
  where = where if cell.is_final else f"{where}: not final"
  reached = steps_to_reach(curve.steps, curve.means, target.mean)
  return with_note(score_in_words(target.mean), where), (
    f"not within {steps_in_words(curve.steps[-1])}" if reached is None else steps_in_words(reached)
  )
