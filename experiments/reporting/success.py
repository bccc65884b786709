"""Success by level: which training levels an agent completes, and which it never does."""

from collections.abc import Mapping, Sequence
import dataclasses
import statistics

import numpy as np

from experiments.reporting.curves import PANEL
from experiments.reporting.episodes import LAST_SHARE, RecentEpisodes, read_recent_episodes
from experiments.reporting.filters import needs, needs_of
from experiments.reporting.legends import colours
from experiments.reporting.markup import Markup, element, figure, paragraph, table
from experiments.reporting.runs import is_number
from experiments.reporting.sections import Section
from experiments.reporting.study import SPLITS, Cell, Study, level_distribution
from experiments.reporting.svg import drawing, inline, looks, marked
from experiments.reporting.wording import NOTHING, slug, steps_in_words

_LEAST_SUCCESS = 0.01  # of the best agent; below it, levels are told apart by return
_MOST_LEVELS = 2_000  # of a distribution whose levels are played often enough to have a rate


@dataclasses.dataclass(frozen=True)
class CellLevels:
  """One cell's last training episodes.

  Attributes:
    cell: whose.
    episodes: of all used runs together.
    num_levels: of training; 0 where there is no end of them.
  """

  cell: Cell
  episodes: RecentEpisodes
  num_levels: int

  @property
  def has_rates(self) -> bool:
    """Whether levels come often enough to have a rate of success each."""
    return 0 < self.num_levels <= _MOST_LEVELS and bool(self.episodes.levels)

  @property
  def success(self) -> float:
    """Share of the episodes that reached a level's end: in some games next to none does."""
    completed = sum(sum(record.completed) for record in self.episodes.levels.values())
    return completed / max(self.episodes.count, 1)


def success_section(study: Study) -> Section:
  """Levels sorted by success in the last training episodes, and a table of all cells."""
  heading, anchor = "Success by level", "success"
  found = [_levels_of(cell) for cell in study.cells_of()]
  if not any(each.episodes.count for each in found):
    return heading, anchor, []
  order = {name: place for place, name in enumerate(study.levels)}
  found.sort(key=lambda each: (order[each.cell.levels], each.cell.game, each.cell.agent))
  places = dict.fromkeys((each.cell.levels, each.cell.game) for each in found)
  panels = []
  for levels, game in places:
    own = [e for e in found if (e.cell.levels, e.cell.game) == (levels, game) and e.has_rates]
    if own:
      panels.append(_panel_with_caption(study, levels, game, own))
  note = paragraph(
    f"From the training episodes of the last {LAST_SHARE:.0%} of the steps, exploration included,"
    " all seeds together; the same level seed is the same level in every run. Levels are sorted"
    " for each agent on its own, the hardest first: a curve that stays low and then jumps has"
    " levels learnt by heart and others not at all. With few episodes a level, chance alone"
    " spreads the rates.",
    class_="note",
  )
  content: list[object] = [note]
  if panels:
    content += [colours(study), element("div", *panels, class_="panels")]
  content.append(_table(study, found))
  problems = [problem for each in found for problem in each.episodes.problems]
  content += [paragraph(problem, class_="note") for problem in problems]
  return heading, anchor, content


def _levels_of(cell: Cell) -> CellLevels:
  distribution = level_distribution(cell.levels)
  count = 0 if distribution is None else distribution.num_levels
  return CellLevels(cell, read_recent_episodes(cell.used), count)


def _panel_with_caption(
  study: Study, levels: str, game: str, found: Sequence[CellLevels]
) -> Markup:
  by_success = max(each.success for each in found) >= _LEAST_SUCCESS
  what = "share of episodes completed" if by_success else "mean episode return"
  curves = {each.cell.agent: _sorted(each, by_success=by_success) for each in found}
  picture = _panel(study, f"{game}, {levels}", curves, what=what)
  texts = []
  for each in found:
    per_level = statistics.median(len(r.returns) for r in each.episodes.levels.values())
    texts.append(f"{each.cell.agent}: {per_level:g} episodes a level, median")
  why = "" if by_success else f"Below {_LEAST_SUCCESS:.0%} of the episodes completed: by return. "
  cells = [each.cell for each in found]
  return figure(picture, f"{why}{'; '.join(texts)}.", **needs_of(study, cells))


def _sorted(each: CellLevels, *, by_success: bool) -> np.ndarray:
  records = each.episodes.levels.values()
  return np.sort([record.success if by_success else record.mean_return for record in records])


def _panel(study: Study, title: str, curves: Mapping[str, np.ndarray], *, what: str) -> Markup:
  """Sorted values against the share of the levels that were played."""
  look = looks(study.agents)
  with drawing(*PANEL) as (drawn, axes):
    for agent, values in curves.items():
      share = np.linspace(0, 100, len(values) + 1)
      some = slice(None, None, max(1, len(values) // 8))
      colour, marker = look[agent].colour, look[agent].marker
      with marked(axes, needs(study, agents=[agent])):
        axes.step(share, [*values, values[-1]], where="post", color=colour, linewidth=1.6)
        style = {"marker": marker, "markersize": 4, "linestyle": "none"}
        axes.plot(share[:-1][some], values[some], color=colour, **style)
    axes.set(title=title, xlabel="training levels, hardest first (%)", ylabel=what)
    low, high = (
      np.min([v.min() for v in curves.values()]),
      np.max([1, *map(np.max, curves.values())]),
    )
    axes.set_ylim(min(0.0, low) - 0.03 * high, 1.03 * high)
    label = f"{what} by training level, sorted, {title}."
    return inline(drawn, identifier=slug("success", title), label=label)


def _table(study: Study, found: Sequence[CellLevels]) -> Markup:
  header = (
    "Level distribution",
    "Game",
    "Agent",
    "Training episodes",
    "From step",
    "Different levels",
    "Completed",
    "Levels never completed",
    "Levels always completed",
    "Evaluations: training levels",
    "Evaluations: full distribution",
    "Timed out: training levels",
    "Timed out: full distribution",
  )
  caption = (
    "Completed: share of episodes that reached the level's end, which in some games hardly any"
    " does. Evaluations: the last ones, mean over seeds. Timed out: share of their episodes that"
    " the time limit ended, all seeds together."
  )
  rows = [_row(each) for each in found]
  marks = [needs_of(study, [each.cell]) for each in found]
  return table(caption, header, rows, heading_columns=3, numeric_from=3, needs=marks)


def _row(each: CellLevels) -> list[object]:
  records = list(each.episodes.levels.values())
  completed = [done for record in records for done in record.completed]
  played = f"{len(records):,} of {each.num_levels:,}" if each.num_levels else f"{len(records):,}"
  rates = [record.success for record in records] if each.has_rates else None
  return [
    each.cell.levels,
    each.cell.game,
    each.cell.agent,
    f"{len(completed):,}",
    steps_in_words(each.episodes.first_step) if records else NOTHING,
    played,
    _percent(completed),
    NOTHING if rates is None else sum(rate == 0 for rate in rates),
    NOTHING if rates is None else sum(rate == 1 for rate in rates),
    *(_percent(_evaluated(each.cell, split)) for split in SPLITS),
    *(_percent(_timed_out(each.cell, split)) for split in SPLITS),
  ]


def _evaluated(cell: Cell, split: str) -> list[float]:
  scores = cell.last_scores(split)
  rates = [row.get("level_complete") for row in scores.rows] if scores else []
  return [rate for rate in rates if is_number(rate)]


def _timed_out(cell: Cell, split: str) -> list[float]:
  scores = cell.last_scores(split)
  share = scores.timed_out if scores else None
  return [] if share is None else [share]


def _percent(values: Sequence[float]) -> str:
  return f"{100 * sum(values) / len(values):.0f} %" if values else NOTHING
