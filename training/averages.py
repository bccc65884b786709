"""Metrics of several updates as those of all of them together."""

from collections.abc import Mapping, Sequence
import math

import numpy as np

from agents.interface import Ratio

Metric = float | Ratio


def average(rows: Sequence[Mapping[str, Metric]]) -> dict[str, Metric]:
  """Means of scalars, sums of what a ratio is of; every row has the same names."""
  return {name: _together([row[name] for row in rows]) for name in rows[0]}


def settled(row: Mapping[str, Metric]) -> dict[str, float]:
  """Numbers by name; a ratio of nothing, as of errors where no step had a reward, is left out."""
  return {
    name: metric.total / metric.count if isinstance(metric, Ratio) else metric
    for name, metric in row.items()
    if not (isinstance(metric, Ratio) and metric.count == 0)
  }


def is_finite(metric: Metric) -> bool:
  """Whether all its numbers are."""
  return all(math.isfinite(x) for x in (metric if isinstance(metric, Ratio) else (metric,)))


def _together(metrics: Sequence[Metric]) -> Metric:
  if isinstance(metrics[0], Ratio):
    return Ratio(*(float(np.sum(part)) for part in zip(*metrics, strict=True)))
  return float(np.mean(metrics))
