"""The headline in words, made from the data: what was compared and what came out."""

from collections.abc import Mapping, Sequence
import itertools

from experiments.reporting.published import published_at
from experiments.reporting.statistics import Estimate
from experiments.reporting.study import (
  Cell,
  Scores,
  Study,
  common_steps,
  latest_common_step,
  level_distribution,
)
from experiments.reporting.wording import (
  count_in_words,
  list_in_words,
  range_in_words,
  score_in_words,
  steps_in_words,
)

_MOST_GAMES_IN_WORDS = 3
_MOST_PAIRED = 4
_FEW_SEEDS = 5
_MANY_TIMED_OUT = 0.25  # of the episodes
_MOST_TIMED_OUT = 4  # cells named


def summary(study: Study, aggregates: Mapping[tuple[str, str, str], Estimate]) -> list[str]:
  """The headline, one sentence or two an entry.

  Args:
    study: all runs.
    aggregates: (agent, level distribution, split) -> IQM of the normalised score,
      at equal steps within a level distribution and split.
  """
  sentences = [_what_was_compared(study)]
  sentences += [f"{label}: {text}." for label, text in study.variants.items()]
  for levels in study.levels:
    cells = [cell for cell in study.cells_of(levels=levels) if cell.last_scores("test")]
    if len({cell.game for cell in cells}) <= _MOST_GAMES_IN_WORDS:
      sentences += _games_in_words(cells)
    else:
      ours = {key[0::2]: e for key, e in aggregates.items() if key[1] == levels}
      sentences += _aggregate_in_words(levels, ours)
  sentences += _timed_out_in_words(study)
  if not any(cell.last_scores("test") for cell in study.cells.values()):
    sentences.append("No evaluation on the full distribution has been written yet.")
  return [*sentences, *_limits(study)]


def states_in_words(study: Study) -> str:
  """`4 runs: 2 finished, 1 running, 1 failed`."""
  states = [run.state for run in study.runs]
  counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
  return f"{count_in_words(len(states), 'run')}: {', '.join(counts)}"


def seeds_in_words(study: Study) -> str:
  """`1 seed`, or `2 to 3 seeds`, per agent, level distribution and game."""
  counts = sorted({len(cell.used) for cell in study.cells.values()})
  if len(counts) == 1:
    return count_in_words(counts[0], "seed")
  return f"{counts[0]} to {counts[-1]} seeds" if counts else "no seeds"


def _what_was_compared(study: Study) -> str:
  games = study.games
  if not study.cells:
    return f"No run has started yet ({states_in_words(study)})."
  verb = "Compared" if len(study.agents) > 1 or len(study.levels) > 1 else "Shown"
  on = list_in_words(games) if len(games) <= 4 else f"{len(games)} games"
  levels = list_in_words([_levels_in_words(name) for name in study.levels])
  steps = sorted({cell.runs[0].total_environment_steps or 0 for cell in study.cells.values()})
  budget = list_in_words([steps_in_words(s) for s in steps])
  return (
    f"{verb}: {list_in_words(study.agents)} on {on}, trained on {levels} for {budget}"
    f" environment steps, with {seeds_in_words(study)} each ({states_in_words(study)})."
  )


def _levels_in_words(levels: str) -> str:
  distribution = level_distribution(levels)
  if distribution is None:
    return levels
  if distribution.num_levels == 0:
    return f"{levels} (all levels)"
  return f"{levels} ({count_in_words(distribution.num_levels, 'level')})"


def _cell_in_words(cell: Cell) -> str:
  pair = cell.last_pair()
  test = pair[1] if pair else cell.last_scores("test")
  at = steps_in_words(test.environment_steps)
  so_far = "" if cell.is_final else " so far"
  text = (
    f"{cell.game}, {cell.levels}, {at} steps{so_far}: {cell.agent} scores"
    f" {score_in_words(test.mean)} on the full distribution ({_spread(test)})"
  )
  if pair:
    text += f"{_training_levels_in_words(cell, *pair)}.{_progress_in_words(cell, pair[0])}"
  else:
    text += "."
  return f"{text}{_published_in_words(cell, test)}"


def _training_levels_in_words(cell: Cell, train: Scores, test: Scores) -> str:
  """The score on training levels; there is a gap only where they are not all levels."""
  if cell.trains_on_all_levels:
    return f", on which it trains, and {score_in_words(train.mean)} in other episodes of it"
  gap = score_in_words(train.mean - test.mean)
  return f" and {score_in_words(train.mean)} on its training levels: a gap of {gap}"


def _spread(scores: Scores) -> str:
  if len(scores.rows) == 1:
    return "one seed"
  return f"{count_in_words(len(scores.rows), 'seed')}, {range_in_words(scores.values)}"


def _progress_in_words(cell: Cell, last: Scores) -> str:
  """From the first evaluation on training levels that all runs share to the last one, `last`.

  Not the return of training episodes: its first values are means over a few episodes.
  """
  shared = common_steps(cell.steps("train"))
  if not shared or shared[0] >= last.environment_steps:
    return ""
  start = cell.scores_at("train", shared[0])
  between = f"{steps_in_words(start.environment_steps)} to {steps_in_words(last.environment_steps)}"
  return (
    f" From {between} steps, its score on training levels went from"
    f" {score_in_words(start.mean)} to {score_in_words(last.mean)}."
  )


def _published_in_words(cell: Cell, test: Scores) -> str:
  step = test.environment_steps
  texts = []
  for split in ("train", "test"):
    found = published_at(
      cell.agent_name, cell.levels, split=split, game=cell.game, environment_steps=step
    )
    texts += [f"{score_in_words(score.mean)} ({split})" for score in found[:1]]
  if not texts:
    return ""
  return f" Published {cell.agent_name} at the same number of steps: {', '.join(texts)}."


def _games_in_words(cells: Sequence[Cell]) -> list[str]:
  """Every cell and every pair of agents on a game; of many agents, their order alone."""
  cells_said, pairs_said = [], []
  for game in sorted({cell.game for cell in cells}):
    own = [cell for cell in cells if cell.game == game]
    if len(own) > _MOST_PAIRED:
      cells_said.append(_order_in_words(own))
    else:
      cells_said += [_cell_in_words(cell) for cell in own]
      pairs_said += [_pair_in_words(a, b) for a, b in itertools.combinations(own, 2)]
  return cells_said + pairs_said


def _order_in_words(cells: Sequence[Cell]) -> str:
  """Agents of one game and level distribution by their score on the full distribution."""
  scores = {cell: cell.last_scores("test") for cell in cells}
  order = sorted(cells, key=lambda cell: -scores[cell].mean)
  listed = [f"{cell.agent} {score_in_words(scores[cell].mean)}" for cell in order]
  steps = sorted({each.environment_steps for each in scores.values()})
  at = " to ".join(steps_in_words(step) for step in (steps[0], *steps[1:][-1:]))
  return (
    f"{order[0].game}, {order[0].levels}, {at} steps, mean return on the full distribution:"
    f" {list_in_words(listed)}."
  )


def _pair_in_words(a: Cell, b: Cell) -> str:
  where = f"{a.game}, {a.levels}"
  step = latest_common_step([*a.steps("test"), *b.steps("test")])
  if not step:  # none, or before training
    return f"{where}: {a.agent} and {b.agent} have no evaluation at the same steps of training."
  scores_a, scores_b = a.scores_at("test", step), b.scores_at("test", step)
  at = f"{where}, at {steps_in_words(step)} steps"
  high, low = (a, b) if scores_a.mean >= scores_b.mean else (b, a)
  apart = score_in_words(abs(scores_a.mean - scores_b.mean))
  if apart == score_in_words(0):
    return f"{at}: {a.agent} and {b.agent} score the same, {score_in_words(scores_a.mean)}."
  ahead = f"{at}: {high.agent} is {apart} above {low.agent}"
  if min(len(scores_a.rows), len(scores_b.rows)) < 2:
    return f"{ahead}; with a single seed that may be chance."
  overlap = max(min(scores_a.values), min(scores_b.values)) <= min(
    max(scores_a.values), max(scores_b.values)
  )
  if overlap:
    return f"{ahead}, but their seeds overlap: these runs do not separate them."
  return f"{ahead}, and no seed of one reaches the other's."


def _aggregate_in_words(levels: str, iqm: Mapping[tuple[str, str], Estimate]) -> list[str]:
  """The order of the agents by IQM, and which neighbours the intervals separate.

  `iqm` is (agent, split) -> estimate.
  """
  test = {agent: estimate for (agent, split), estimate in iqm.items() if split == "test"}
  if not test:
    return []
  order = sorted(test, key=lambda agent: -test[agent].value)
  listed = [f"{agent} {estimate_in_words(test[agent])}" for agent in order]
  train = [
    f"{agent} {estimate_in_words(iqm[agent, 'train'])}"
    for agent in order
    if (agent, "train") in iqm
  ]
  sentence = f"{levels}, IQM of the normalised score, full distribution: {list_in_words(listed)}"
  sentence += f"; training levels: {list_in_words(train)}." if train else "."
  return [sentence] + [
    _neighbours_in_words(levels, (a, test[a]), (b, test[b])) for a, b in itertools.pairwise(order)
  ]


def _neighbours_in_words(levels: str, a: tuple[str, Estimate], b: tuple[str, Estimate]) -> str:
  """Whether the intervals of two agents, the higher one first, tell them apart."""
  (name_a, higher), (name_b, lower) = a, b
  value = score_in_words(higher.value)
  if value == score_in_words(lower.value):
    return f"{levels}, full distribution: {name_a} and {name_b} score the same, {value}."
  if higher.interval is None or lower.interval is None:
    return f"{levels}: {name_a} is above {name_b}; with a single seed that may be chance."
  if higher.interval[0] <= lower.interval[1]:
    return (
      f"{levels}: the 95 % intervals of {name_a} and {name_b} overlap:"
      " these runs do not clearly separate them."
    )
  return (
    f"{levels}, full distribution: {name_a} is above {name_b}, and their 95 % intervals"
    " do not overlap."
  )


def _timed_out_in_words(study: Study) -> list[str]:
  """Whose episodes the clock ends: an agent that stands still, say, which no other figure shows."""
  found = []
  for cell in study.cells.values():
    scores = cell.last_scores("test")
    share = scores.timed_out if scores and scores.environment_steps else None
    if share is not None and share >= _MANY_TIMED_OUT:
      found.append((share, f"{cell.agent}'s on {cell.game} ({cell.levels})"))
  if not found:
    return []
  named = [f"{100 * share:.0f} % of {whose}" for share, whose in sorted(found, reverse=True)]
  if len(named) > _MOST_TIMED_OUT:
    named = [*named[:_MOST_TIMED_OUT], f"{len(named) - _MOST_TIMED_OUT} more"]
  return [
    "Of the last evaluations' episodes on the full distribution, the time limit ended"
    f" {list_in_words(named)}; in the return of training episodes those come late or not at all."
  ]


def estimate_in_words(estimate: Estimate) -> str:
  """`0.32 [0.30, 0.33]`, without brackets where there is no interval."""
  if estimate.interval is None:
    return score_in_words(estimate.value)
  low, high = map(score_in_words, estimate.interval)
  return f"{score_in_words(estimate.value)} [{low}, {high}]"


def _limits(study: Study) -> Sequence[str]:
  """What the numbers cannot say."""
  limits = []
  counts = [len(cell.used) for cell in study.cells.values() if cell.used]
  if counts and min(counts) == 1:
    limits.append("Where there is one seed, nothing is known about the spread between seeds.")
  elif counts and min(counts) < _FEW_SEEDS:
    limits.append(
      f"With {seeds_in_words(study)}, ranges and intervals are rough, and too narrow on average."
    )
  unfinished = [run for run in study.runs if run.state != "finished"]
  going_on = [run for run in unfinished if run.state != "failed"]
  if going_on:
    limits.append(
      f"This is an interim report: {count_in_words(len(going_on), 'run')} of"
      f" {len(study.runs)} not finished."
    )
  failed = len(unfinished) - len(going_on)
  if failed:
    limits.append(f"{count_in_words(failed, 'run')} failed; no mean includes a failed run.")
  return [*limits, *(f"{warning}." for warning in study.warnings)]
