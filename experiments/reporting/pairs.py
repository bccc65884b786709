"""Two agents side by side, on the games and at the steps that those two share."""

from collections.abc import Mapping
import dataclasses
import itertools

from experiments.reporting.aggregates import common_games, latest_step, matrix_at, scored_cells
from experiments.reporting.filters import needs_all
from experiments.reporting.markup import Markup, table, with_note
from experiments.reporting.statistics import Estimate, ScoreMatrix, probability_of_improvement
from experiments.reporting.study import Study
from experiments.reporting.summary import estimate_in_words
from experiments.reporting.wording import TIMES, count_in_words, steps_in_words


@dataclasses.dataclass(frozen=True)
class Pair:
  """Normalised scores of two agents on the same games, at the same steps.

  Attributes:
    before: `[runs, games]` of the one.
    after: `[runs, games]` of the other.
    environment_steps: at which both were evaluated.
  """

  before: ScoreMatrix
  after: ScoreMatrix
  environment_steps: int


@dataclasses.dataclass(frozen=True)
class Improvement:
  """How often a run of the one agent beats a run of the other on the same game.

  Attributes:
    pair: the scores; `before` is the agent that is called better.
    estimate: P(before > after).
  """

  pair: Pair
  estimate: Estimate


def pair_scores(study: Study, levels: str, agents: tuple[str, str], *, split: str) -> Pair | None:
  """Puts two agents side by side on the games that both have scores on.

  Args:
    study: all runs.
    levels: name of the level distribution of training.
    agents: labels.
    split: `train` or `test`.

  Returns:
    None without a common game within known bounds, or without common steps of training.
  """
  cells = [cell for cell in scored_cells(study, levels, split) if cell.agent in agents]
  games = common_games(cells, agents)
  cells = [cell for cell in cells if cell.game in games]
  step = latest_step(cells, split)
  if step is None:
    return None
  before, after = (
    matrix_at(study, [cell for cell in cells if cell.agent == agent], split, step)
    for agent in agents
  )
  return Pair(before, after, step)


def improvements(study: Study, *, resamples: int) -> dict[tuple[str, str, str], Improvement]:
  """(level distribution, better, other) -> P(better > other) on the full distribution.

  Of every two agents that share games and steps, with two runs or more a game each.
  """
  found = {}
  for levels in study.levels:
    for a, b in itertools.combinations(study.agents, 2):
      pair = pair_scores(study, levels, (a, b), split="test")
      if pair is not None and min(pair.before.num_runs, pair.after.num_runs) > 1:
        p = probability_of_improvement(pair.before, pair.after, resamples=resamples)
        found[levels, a, b] = Improvement(pair, p)
  return found


def improvement_table(study: Study, found: Mapping[tuple[str, str, str], Improvement]) -> Markup:
  """Probability of improvement, with the games and steps of every pair.

  Args:
    study: all runs.
    found: (level distribution, better, other) -> improvement.
  """
  rows = []
  for (levels, better, other), each in found.items():
    pair, games = each.pair, each.pair.before.games
    rows.append(
      [
        levels,
        f"{better} over {other}",
        with_note(count_in_words(len(games), "game"), ", ".join(games)),
        steps_in_words(pair.environment_steps),
        f"{pair.before.num_runs} {TIMES} {pair.after.num_runs}",
        estimate_in_words(each.estimate),
      ]
    )
  caption = (
    "Probability that a run of the one beats a run of the other on the same game, full"
    " distribution; every pair on the games, and at the latest steps, that those two share"
  )
  header = (
    "Level distribution",
    "Agents",
    "Games",
    "Steps",
    f"Runs {TIMES} runs a game",
    "P [95 %]",
  )
  marks = [needs_all(study, (a, b), levels=[levels]) for levels, a, b in found]
  return table(caption, header, rows, numeric_from=3, needs=marks)
