"""Why a level distribution has no aggregate over games, in words."""

from collections.abc import Sequence

from experiments.reporting.aggregates import common_games, scored_cells
from experiments.reporting.estimates import Estimates
from experiments.reporting.study import SPLITS, Cell, Study
from experiments.reporting.wording import list_in_words, range_of_steps

_SPLITS_IN_WORDS = {"train": "training levels", "test": "full distribution"}


def missing_aggregates(study: Study, numbers: Estimates) -> list[str]:
  """One sentence for every level distribution, and split, that has no aggregate."""
  sentences = []
  for levels in study.levels:
    splits = [split for split in SPLITS if (levels, split) not in numbers.aggregates]
    reasons = {split: why_no_aggregate(study, levels, split) for split in splits}
    for reason in dict.fromkeys(reasons.values()):
      where = [_SPLITS_IN_WORDS[split] for split in splits if reasons[split] == reason]
      on = f", {where[0]}" if len(where) < len(SPLITS) else ""
      sentences.append(f"{levels}{on}: no aggregate, since {reason}.")
  return sentences


def why_no_aggregate(study: Study, levels: str, split: str) -> str:
  """Why `aggregate_scores` gives nothing, to follow the word since."""
  evaluated = [cell for cell in study.cells_of(levels=levels) if cell.steps(split)]
  if not evaluated:
    return "no run has been evaluated yet"
  cells = scored_cells(study, levels, split)
  if not cells:
    games = sorted({cell.game for cell in evaluated})
    return f"no game has known score bounds ({', '.join(games)})"
  agents = sorted({cell.agent for cell in cells})
  games = common_games(cells, agents)
  if not games:
    return f"no game has an evaluation of every agent: {_lacking(cells, agents)}"
  common = [cell for cell in cells if cell.game in games]
  return (
    f"there are no steps of training at which every run on {list_in_words(games)} was"
    f" evaluated: {_evaluated_at(common, agents, split)}"
  )


def _lacking(cells: Sequence[Cell], agents: Sequence[str]) -> str:
  """`ppg lacks coinrun, leaper; ppo lacks starpilot`."""
  every = sorted({cell.game for cell in cells})
  have = {agent: {cell.game for cell in cells if cell.agent == agent} for agent in agents}
  lacks = {agent: [game for game in every if game not in have[agent]] for agent in agents}
  return "; ".join(f"{agent} lacks {', '.join(games)}" for agent, games in lacks.items() if games)


def _evaluated_at(cells: Sequence[Cell], agents: Sequence[str], split: str) -> str:
  """`ppg at 0 to 100k; ppo at 0 to 1M`: first and last evaluation."""
  parts = []
  for agent in agents:
    own = [cell for cell in cells if cell.agent == agent]
    steps = [step for cell in own for each in cell.steps(split) for step in each]
    parts.append(f"{agent} at {range_of_steps(steps)}")
  return "; ".join(parts)
