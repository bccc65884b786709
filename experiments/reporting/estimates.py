"""Everything that is estimated for a page, once, so that figures, tables and words agree."""

from collections.abc import Mapping
import dataclasses

from experiments.reporting.aggregates import (
  Aggregate,
  AggregateCurve,
  aggregate_curve,
  aggregate_scores,
)
from experiments.reporting.pairs import Improvement, improvements
from experiments.reporting.statistics import Estimate, aggregate
from experiments.reporting.study import SPLITS, Study


@dataclasses.dataclass(frozen=True)
class Estimates:
  """All estimates of a page.

  Attributes:
    aggregates: (level distribution, split) -> normalised scores of all agents.
    values: (agent, level distribution, split) -> name -> estimate.
    improvements: (level distribution, better, other) -> P(better > other) on test, of
      every two agents that share games and steps, with two runs or more per game.
    resamples: bootstrap resamples of every interval.
  """

  aggregates: Mapping[tuple[str, str], Aggregate]
  values: Mapping[tuple[str, str, str], Mapping[str, Estimate]]
  improvements: Mapping[tuple[str, str, str], Improvement]
  resamples: int


def estimate_all(study: Study, *, resamples: int) -> Estimates:
  """Runs the statistics of a study once."""
  aggregates = all_aggregates(study)
  estimates = {
    (agent, levels, split): aggregate(matrix, resamples=resamples)
    for (levels, split), scores in aggregates.items()
    for agent, matrix in scores.matrices.items()
  }
  better = improvements(study, resamples=resamples)
  return Estimates(aggregates, estimates, better, resamples)


def all_aggregates(study: Study) -> dict[tuple[str, str], Aggregate]:
  """(level distribution, split) -> normalised scores of all agents, where there are some."""
  found = {
    (levels, split): aggregate_scores(study, levels, split)
    for levels in study.levels
    for split in SPLITS
  }
  return {place: scores for place, scores in found.items() if scores is not None}


def aggregate_curves(
  study: Study, aggregates: Mapping[tuple[str, str], Aggregate], levels: str, *, resamples: int
) -> dict[tuple[str, str], AggregateCurve]:
  """(agent, split) -> curve over all games of a level distribution, where there is one."""
  return {
    (agent, split): aggregate_curve(study, agent, scores, resamples=resamples)
    for (name, split), scores in aggregates.items()
    if name == levels
    for agent in scores.matrices
  }
