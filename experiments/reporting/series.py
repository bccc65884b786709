"""Curves of runs as arrays: one run's quantity over steps or time, and means over runs."""

from collections.abc import Sequence
import dataclasses

import numpy as np

from experiments.reporting.runs import Run, is_number

AXES = ("environment_steps", "seconds")
MAX_POINTS = 200  # drawn per line; a panel is about 250 pixels wide


@dataclasses.dataclass(frozen=True)
class Series:
  """One line of a figure.

  Attributes:
    x: `[N]` environment steps or seconds, increasing.
    y: `[N]` the quantity.
  """

  x: np.ndarray
  y: np.ndarray

  def __len__(self) -> int:
    return len(self.x)


def training_series(run: Run, quantity: str, *, axis: str) -> Series:
  """A quantity of a run's training rows; rows without it (or with null) are left out."""
  rows = [row for row in run.training if is_number(row.get(quantity)) and is_number(row.get(axis))]
  return _series([row[axis] for row in rows], [row[quantity] for row in rows])


def evaluation_series(run: Run, split: str, *, policy: str, axis: str) -> Series:
  """Mean episode return of a run's evaluations."""
  rows = [row for row in run.evaluations_of(split, policy) if is_number(row.get(axis))]
  return _series([row[axis] for row in rows], [row["episode_return"] for row in rows])


def evaluation_quantity(run: Run, quantity: str, *, split: str, policy: str) -> Series:
  """A quantity of a run's evaluations over environment steps; rows without it are left out."""
  rows = [row for row in run.evaluations_of(split, policy) if is_number(row.get(quantity))]
  return _series([row["environment_steps"] for row in rows], [row[quantity] for row in rows])


def mean_series(series: Sequence[Series]) -> Series:
  """Mean over runs, at every x of the first one that all of them cover.

  Runs are interpolated linearly in between their points, and never beyond their
  first or last one.
  """
  series = [each for each in series if len(each)]
  if not series:
    return _series([], [])
  low, high = max(each.x[0] for each in series), min(each.x[-1] for each in series)
  inside = {float(x) for x in series[0].x if low <= x <= high}
  x = np.array(sorted(inside | ({float(low), float(high)} if low <= high else set())))
  return Series(x, np.mean([np.interp(x, each.x, each.y) for each in series], axis=0))


def thin(series: Series) -> Series:
  """At most `MAX_POINTS` points, evenly chosen, the first and the last among them."""
  if len(series) <= MAX_POINTS:
    return series
  keep = np.linspace(0, len(series) - 1, MAX_POINTS).round().astype(int)
  return Series(series.x[keep], series.y[keep])


def _series(x: Sequence[float], y: Sequence[float]) -> Series:
  return Series(np.asarray(x, np.float64), np.asarray(y, np.float64))
