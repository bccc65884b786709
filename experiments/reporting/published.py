"""Published Procgen scores, packaged as facts with their sources.

A score is only ever handed out for the number of environment steps that it was
published at (within the published averaging window of 2 %), never for another.
"""

from collections.abc import Mapping
import dataclasses
import functools
import json
from pathlib import Path

import numpy as np

_DATA = Path(__file__).with_name("published_scores.json")


@dataclasses.dataclass(frozen=True)
class PublishedScore:
  """One published mean episode return, at one number of environment steps.

  Attributes:
    agent: `ppo`, `ppg` or `idaac`.
    variant: what the source calls this form of the agent, or empty.
    levels: level distribution of training, e.g. `easy-200`.
    split: `train` (training levels) or `test` (full distribution).
    game: the game's name.
    environment_steps: the mark.
    mean: mean over runs of the mean episode return.
    std: standard deviation over runs.
    source: where the number is from, in words.
  """

  agent: str
  variant: str
  levels: str
  split: str
  game: str
  environment_steps: int
  mean: float
  std: float
  source: str


@functools.cache
def _data() -> dict:
  """The packaged file, parsed once."""
  return json.loads(_DATA.read_text(encoding="utf-8"))


def step_tolerance() -> float:
  """Share of the steps within which two step counts are called equal.

  It is the published averaging window: a mark's value is the mean over the
  last 2 % of the steps before it.
  """
  return float(_data()["mark_window"])


def about() -> str:
  """What the numbers are, in words."""
  return _data()["about"]


@functools.cache
def published_scores() -> tuple[PublishedScore, ...]:
  """Every packaged score of every game, in the file's order."""
  data = _data()
  scores = []
  for curve in data["curves"]:
    for mark, row in curve["marks"].items():
      for split in curve["splits"]:
        for game, mean, std in zip(data["games"], row["mean"], row["std"], strict=True):
          scores.append(
            PublishedScore(
              agent=curve["agent"],
              variant=curve["variant"],
              levels=curve["levels"],
              split=split,
              game=game,
              environment_steps=int(mark),
              mean=mean,
              std=std,
              source=data["sources"][curve["source"]],
            )
          )
  return (*scores, *_means_of_per_run_scores())


def _means_of_per_run_scores() -> list[PublishedScore]:
  """The per-run file's means and standard deviations, as published scores."""
  data = _data()
  per_run = data["per_run"]
  known = {curve["agent"] for curve in data["curves"] if curve["levels"] == per_run["levels"]}
  return [
    PublishedScore(
      agent=agent,
      variant="",
      levels=per_run["levels"],
      split=per_run["split"],
      game=game,
      environment_steps=int(per_run["environment_steps"]),
      mean=float(np.mean(runs)),
      std=float(np.std(runs)),
      source=data["sources"][per_run["source"]],
    )
    for agent, games in per_run["scores"].items()
    if agent not in known
    for game, runs in zip(data["games"], games, strict=True)
  ]


def published_at(
  agent: str, levels: str, *, split: str, game: str, environment_steps: int
) -> tuple[PublishedScore, ...]:
  """The published scores at this number of environment steps; empty if there is none.

  Args:
    agent: the agent's registered name.
    levels: name of the level distribution of training.
    split: `train` or `test`.
    game: the game's name.
    environment_steps: steps of the score that is to be compared.

  Returns:
    One entry per source. Marks further than `step_tolerance()` away never match.
  """
  return tuple(
    score
    for score in published_scores()
    if (score.agent, score.levels, score.split, score.game) == (agent, levels, split, game)
    and equal_steps(score.environment_steps, environment_steps)
  )


def published_curve(levels: str, *, split: str, game: str) -> tuple[PublishedScore, ...]:
  """All published scores of one game and level distribution, every agent and mark."""
  return tuple(
    score
    for score in published_scores()
    if (score.levels, score.split, score.game) == (levels, split, game)
  )


def equal_steps(reference: float, steps: float) -> bool:
  """Whether `steps` is within `step_tolerance()` of `reference`."""
  return abs(steps - reference) <= step_tolerance() * reference


def per_run_scores() -> Mapping[str, Mapping[str, tuple[float, ...]]]:
  """Final returns of single runs: agent -> game -> one return a run.

  easy-200, 25M steps, full distribution: the file behind the published IQMs.
  """
  data = _data()
  return {
    agent: {game: tuple(runs) for game, runs in zip(data["games"], games, strict=True)}
    for agent, games in data["per_run"]["scores"].items()
  }
