"""Aggregate scores over games and runs, on rliable's estimators.

Scores come in as a `ScoreMatrix`, whose shape is checked against its games:
with swapped axes rliable answers with zero-width intervals and no word.
rliable draws from numpy's global generator whatever it is given, so every
draw here seeds that generator and puts its state back.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses

import numpy as np
from rliable import library, metrics


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
  """Mean of the middle half, over runs and games.

  What rliable's `aggregate_iqm` gives, thirty times faster: a bootstrap calls it often.

  Args:
    scores: `[runs, games]` or `[runs, games, evaluations]`.

  Returns:
    `[]` or `[evaluations]`.
  """
  flat = np.sort(scores.reshape(-1, *scores.shape[2:]), axis=0)
  cut = int(0.25 * flat.shape[0])
  return flat[cut : flat.shape[0] - cut].mean(axis=0)


AGGREGATES: Mapping[str, Callable[[np.ndarray], float]] = {
  "IQM": interquartile_mean,
  "mean": metrics.aggregate_mean,
  "median": metrics.aggregate_median,
  "optimality gap": metrics.aggregate_optimality_gap,
}


@dataclasses.dataclass(frozen=True)
class ScoreMatrix:
  """Normalised scores of one agent on one level distribution.

  Attributes:
    values: `[runs, games]`; rows are independent runs, never clipped.
    games: the games' names, one per column.
  """

  values: np.ndarray
  games: tuple[str, ...]

  def __post_init__(self):
    if self.values.ndim != 2 or self.values.shape[1] != len(self.games):
      raise ValueError(
        f"scores have shape {self.values.shape}, but must be [runs, games]"
        f" with {len(self.games)} games: {', '.join(self.games)}"
      )
    if self.values.shape[0] == 0 or not np.all(np.isfinite(self.values)):
      raise ValueError("scores must be finite numbers of at least one run")

  @property
  def num_runs(self) -> int:
    """Runs per game."""
    return int(self.values.shape[0])


@dataclasses.dataclass(frozen=True)
class Estimate:
  """A number with its 95 % interval, or without one.

  Attributes:
    value: the point estimate.
    interval: lower and upper bound, or None where there is a single run.
  """

  value: float
  interval: tuple[float, float] | None


def score_matrix(scores: Mapping[str, Sequence[float]]) -> ScoreMatrix:
  """Puts normalised scores, game -> one score a run, into a matrix.

  Raises:
    ValueError: the games have different numbers of runs.
  """
  games = tuple(scores)
  lengths = {game: len(scores[game]) for game in games}
  if len(set(lengths.values())) != 1:
    raise ValueError(f"every game must have the same number of runs, got {lengths}")
  return ScoreMatrix(np.asarray([scores[game] for game in games], np.float64).T, games)


def aggregate(scores: ScoreMatrix, *, resamples: int, seed: int = 0) -> dict[str, Estimate]:
  """IQM, mean, median and optimality gap over runs and games.

  Source: Agarwal et al. 2021, Deep RL at the edge of the statistical precipice,
  section 4: stratified bootstrap over runs, percentile intervals of 95 %.

  Args:
    scores: `[runs, games]`.
    resamples: bootstrap resamples.
    seed: of the resampling.

  Returns:
    Name of the aggregate (the keys of `AGGREGATES`) -> estimate.
  """

  def all_aggregates(values):
    return np.array([function(values) for function in AGGREGATES.values()])

  point = all_aggregates(scores.values)
  if scores.num_runs < 2:
    return {name: Estimate(float(p), None) for name, p in zip(AGGREGATES, point, strict=True)}
  with _global_seed(seed):
    _, intervals = library.get_interval_estimates(
      {"": scores.values}, all_aggregates, reps=resamples
    )
  low, high = intervals[""]
  return {
    name: Estimate(float(point[i]), (float(low[i]), float(high[i])))
    for i, name in enumerate(AGGREGATES)
  }


def iqm_curve(scores: Sequence[ScoreMatrix], *, resamples: int, seed: int = 0) -> list[Estimate]:
  """IQM at several evaluations of the same runs, with intervals.

  A resample takes whole runs: the same ones at every evaluation.

  Args:
    scores: one `[runs, games]` matrix per evaluation, the same games and runs in each.
    resamples: bootstrap resamples.
    seed: of the resampling.
  """
  values = np.stack([matrix.values for matrix in scores], axis=-1)  # [runs, games, evaluations]
  point = interquartile_mean(values)
  if scores[0].num_runs < 2:
    return [Estimate(float(p), None) for p in point]
  with _global_seed(seed):
    _, intervals = library.get_interval_estimates({"": values}, interquartile_mean, reps=resamples)
  low, high = intervals[""]
  return [
    Estimate(float(p), (float(a), float(b))) for p, a, b in zip(point, low, high, strict=True)
  ]


def probability_of_improvement(
  scores_x: ScoreMatrix, scores_y: ScoreMatrix, *, resamples: int, seed: int = 0
) -> Estimate:
  """P(X > Y): how often a run of X beats a run of Y on the same game, averaged over games.

  Source: Agarwal et al. 2021, section 4.3 (Mann-Whitney U over runs, ties count half).

  Raises:
    ValueError: the two were not measured on the same games.
  """
  return _compare(scores_x, scores_y, _improvement, resamples=resamples, seed=seed)


def difference(
  scores_x: ScoreMatrix, scores_y: ScoreMatrix, *, resamples: int, seed: int = 0
) -> Estimate:
  """IQM of X less IQM of Y, on the same games.

  The interval is that of the two resampled independently of one another, stratified by
  game, percentiles of 95 % (Agarwal et al. 2021, section 4).

  Raises:
    ValueError: the two were not measured on the same games.
  """
  return _compare(scores_x, scores_y, _iqm_difference, resamples=resamples, seed=seed)


def _compare(
  scores_x: ScoreMatrix,
  scores_y: ScoreMatrix,
  metric: Callable[[np.ndarray, np.ndarray], float],
  *,
  resamples: int,
  seed: int,
) -> Estimate:
  """A metric of two matrices of the same games; no interval for fewer than two runs of one."""
  if scores_x.games != scores_y.games:
    raise ValueError(f"games differ: {scores_x.games} and {scores_y.games}")
  point = metric(scores_x.values, scores_y.values)
  if min(scores_x.num_runs, scores_y.num_runs) < 2:
    return Estimate(point, None)
  with _global_seed(seed):
    _, intervals = library.get_interval_estimates(
      {"": (scores_x.values, scores_y.values)}, metric, reps=resamples
    )
  low, high = intervals[""].ravel()
  return Estimate(point, (float(low), float(high)))


def _iqm_difference(x: np.ndarray, y: np.ndarray) -> float:
  return float(interquartile_mean(x) - interquartile_mean(y))


def _improvement(x: np.ndarray, y: np.ndarray) -> float:
  """What rliable's metric gives, `[runs, games]` each, without its p-value (30 times faster)."""
  wins = (x[:, None] > y[None]).mean(axis=(0, 1)) + 0.5 * (x[:, None] == y[None]).mean(axis=(0, 1))
  return float(wins.mean())


def performance_profile(
  scores: ScoreMatrix, thresholds: np.ndarray, *, resamples: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray | None]:
  """Share of runs, over all games, that score above each threshold.

  Source: Agarwal et al. 2021, section 4.2.

  Args:
    scores: `[runs, games]`.
    thresholds: `[N]` normalised scores.
    resamples: bootstrap resamples.
    seed: of the resampling.

  Returns:
    `[N]` shares and their 95 % interval `[2, N]`, None where there is a single run.
  """
  if scores.num_runs < 2:
    return _share_above(scores.values, thresholds), None
  with _global_seed(seed):
    profiles, intervals = library.create_performance_profile(
      {"": scores.values}, thresholds, custom_profile_func=_share_above, reps=resamples
    )
  return profiles[""], intervals[""]


def _share_above(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
  """rliable's score distribution without its loop over thresholds: `[runs, games]`, `[N]`."""
  return (scores[..., None] > thresholds).mean(axis=(0, 1))


def area_under_curve(steps: np.ndarray, scores: np.ndarray) -> float:
  """Mean height of a score curve between its first and its last evaluation (trapezoids).

  Args:
    steps: `[N]` environment steps, increasing, N >= 2.
    scores: `[N]` normalised scores.

  Raises:
    ValueError: fewer than two evaluations, or steps that do not increase.
  """
  steps, scores = np.asarray(steps, np.float64), np.asarray(scores, np.float64)
  if len(steps) < 2 or np.any(np.diff(steps) <= 0):
    raise ValueError(f"an area needs at least two evaluations at increasing steps, got {steps}")
  heights = 0.5 * (scores[1:] + scores[:-1])
  return float(np.sum(heights * np.diff(steps)) / (steps[-1] - steps[0]))


def steps_to_reach(steps: np.ndarray, scores: np.ndarray, target: float) -> int | None:
  """Environment steps of the first evaluation at or above `target`; None if there is none.

  Nothing is interpolated: the answer is an evaluation that took place. With noisy
  evaluations a first crossing comes early rather than late.
  """
  reached = np.flatnonzero(np.asarray(scores) >= target)
  return int(np.asarray(steps)[reached[0]]) if len(reached) else None


@contextlib.contextmanager
def _global_seed(seed: int) -> Iterator[None]:
  """Seeds numpy's global generator, and puts its state back afterwards."""
  state = np.random.get_state()
  np.random.seed(seed)
  try:
    yield
  finally:
    np.random.set_state(state)
