"""Curves of runs as arrays: one run's quantity over steps or time, and means over runs."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from experiments.reporting.runs import Run, is_number

AXES = ("environment_steps", "seconds")
MAX_POINTS = 200  # drawn per line; a panel is about 250 pixels wide
MIN_EPISODES = 20  # before them the mean return is that of whichever few ended first
RETURN = "training/episode_return"
EPISODES = "training/episodes"  # since the run began


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
  return _series_of(run.training, quantity, axis)


def return_series(run: Run, *, axis: str) -> Series:
  """Mean return of the last 100 training episodes, once `MIN_EPISODES` have ended."""
  rows = [row for row in run.training if (row.get(EPISODES) or 0) >= MIN_EPISODES]
  return _series_of(rows, RETURN, axis)


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


def _series_of(rows: Sequence[Mapping[str, Any]], quantity: str, axis: str) -> Series:
  rows = [row for row in rows if is_number(row.get(quantity)) and is_number(row.get(axis))]
  return _series([row[axis] for row in rows], [row[quantity] for row in rows])


def _series(x: Sequence[float], y: Sequence[float]) -> Series:
  return Series(np.asarray(x, np.float64), np.asarray(y, np.float64))
