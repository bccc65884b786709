"""What is made of an evaluation's episodes: intervals, scores, levels, gains. Numpy only."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from environments.games import Bounds, normalised_score
from environments.levels import LevelDistribution
from experiments.evaluation_plan import LevelSet
from training.episodes import Episode

RESAMPLES = 10_000
CONFIDENCE = 0.95


def bootstrap_interval(values: np.ndarray, *, seed: int) -> list[float] | None:
  """Percentile bootstrap interval of a mean (Efron & Tibshirani 1993, section 13.3).

  Episodes are resampled with replacement: how well the mean of this one policy is known.

  Args:
    values: `[N]`.
    seed: of the resampling.

  Returns:
    Ends of the 95 % interval, or None for fewer than two values.
  """
  if len(values) < 2:
    return None
  return _interval(lambda rng: values[rng.integers(len(values), size=len(values))].mean(), seed)


def stratified_interval(values: np.ndarray, *, seed: int) -> list[float] | None:
  """The same where the levels are fixed: every level's episodes are resampled by themselves.

  Args:
    values: `[L, N]`, the episodes of every level.
    seed: of the resampling.

  Returns:
    Ends of the 95 % interval, or None for fewer than two episodes of a level.
  """
  if values.shape[1] < 2:
    return None

  def resampled_mean(rng: np.random.Generator) -> float:
    return np.take_along_axis(values, rng.integers(values.shape[1], size=values.shape), 1).mean()

  return _interval(resampled_mean, seed)


def _interval(resampled_mean: Callable[[np.random.Generator], float], seed: int) -> list[float]:
  # One resample at a time: 10,000 x N indices at once would be gigabytes for large N.
  generator = np.random.default_rng(seed)
  means = [resampled_mean(generator) for _ in range(RESAMPLES)]
  tail = 50 * (1 - CONFIDENCE)
  low, high = np.percentile(means, [tail, 100 - tail])
  return [float(low), float(high)]


def mean_interval(
  values: Sequence[float], episodes: Sequence[Episode], level_set: LevelSet, *, seed: int
) -> list[float] | None:
  """Interval of the mean of one value per episode, as the level set asks for.

  Args:
    values: `[N]`.
    episodes: `[N]`, whose values they are.
    level_set: drawn levels are resampled with their episodes, listed ones are fixed.
    seed: of the resampling.
  """
  values = np.asarray(values)
  if not level_set.is_list:
    return bootstrap_interval(values, seed=seed)
  environments = np.asarray([episode.environment for episode in episodes])
  by_level = [values[environments == i] for i in range(level_set.num_levels)]
  return stratified_interval(np.stack(by_level), seed=seed)


def scores(
  episodes: Sequence[Episode], level_set: LevelSet, bounds: Bounds, *, name: str, seed: int
) -> dict[str, Any]:
  """Interval of the mean return, and the normalised score with its bounds."""
  returns = [episode.episode_return for episode in episodes]
  interval = mean_interval(returns, episodes, level_set, seed=seed)
  ends = None if interval is None else [float(normalised_score(x, bounds)) for x in interval]
  return {
    "episode_return_interval": interval,
    "normalised_score": float(normalised_score(np.mean(returns), bounds)),
    "normalised_score_interval": ends,
    "bounds": {"name": name, "minimum": bounds.minimum, "maximum": bounds.maximum},
  }


def training_overlap(
  episodes: Sequence[Episode], level_set: LevelSet, training: LevelDistribution
) -> dict[str, int]:
  """How much of the level set, and how many of the episodes, training could have seen."""
  return {
    "levels_shared_with_training": level_set.shared_with(training),
    "episodes_on_training_levels": sum(
      _in_training(episode.level_seed, level_set, training) for episode in episodes
    ),
  }


def by_level(
  episodes: Sequence[Episode], level_set: LevelSet, training: LevelDistribution
) -> list[dict[str, Any]]:
  """Every level that was played, by its seed: episodes, mean return, success rate."""
  rows = []
  for seed in sorted({episode.level_seed for episode in episodes}):
    own = [episode for episode in episodes if episode.level_seed == seed]
    rows.append(
      {
        "level_seed": seed,
        "in_training": _in_training(seed, level_set, training),
        "episodes": len(own),
        "episode_return": float(np.mean([each.episode_return for each in own])),
        "episode_length": float(np.mean([each.length for each in own])),
        "success_rate": float(np.mean([each.level_complete for each in own])),
      }
    )
  return rows


def paired_gain(
  episodes: Sequence[Episode], reference: Sequence[Episode], level_set: LevelSet, *, seed: int
) -> dict[str, Any]:
  """How much more the same levels return than in another evaluation of equal seeds.

  Pairs are the k-th episodes of the same environment, which play the same level: the
  spread between levels is in neither the gain nor its interval.

  Args:
    episodes: of this evaluation.
    reference: of the other one.
    level_set: of both.
    seed: of the bootstrap.

  Raises:
    ValueError: they did not play the same levels in the same order.
  """
  ours, theirs = _in_order(episodes), _in_order(reference)
  if [each.level_seed for each in ours] != [each.level_seed for each in theirs]:
    raise ValueError("the two evaluations did not play the same levels in the same order")
  gains = [a.episode_return - b.episode_return for a, b in zip(ours, theirs, strict=True)]
  return {
    "gain": float(np.mean(gains)),
    "gain_interval": mean_interval(gains, ours, level_set, seed=seed),
  }


def _in_order(episodes: Sequence[Episode]) -> list[Episode]:
  """By environment, and in each as they were played: sorting keeps the order of equals."""
  return sorted(episodes, key=lambda episode: episode.environment)


def _in_training(level_seed: int, level_set: LevelSet, training: LevelDistribution) -> bool:
  return training.mode == level_set.levels.mode and level_seed in training.seeds
