"""Evaluations of checkpoints in the page: scores, what planning adds, success by level."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import os
from pathlib import Path
import statistics
from typing import Any

from matplotlib.axes import Axes
import numpy as np

from experiments.reporting.beside_runs import EvaluationFile
from experiments.reporting.curves import PANEL
from experiments.reporting.filters import needs, needs_of
from experiments.reporting.legends import colours
from experiments.reporting.markup import Markup, element, figure, paragraph, table
from experiments.reporting.sections import Section
from experiments.reporting.study import Cell, Study
from experiments.reporting.svg import INK, Look, drawing, inline, looks, marked
from experiments.reporting.wording import (
  NOTHING,
  list_in_words,
  score_in_words,
  slug,
  steps_in_words,
)

_DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (4, 1.5, 1, 1.5)))
_LEAST_EPISODES = 2  # of a level, in the mean, for it to have a rate of success


@dataclasses.dataclass(frozen=True)
class Evaluated:
  """One evaluation of one checkpoint.

  Attributes:
    result: of the run: its game, levels, seed and checkpoint.
    row: of the evaluation.
    cell: of the run; None for a run that is not in the report.
    agent: label of the agent.
  """

  result: Mapping[str, Any]
  row: Mapping[str, Any]
  cell: Cell | None
  agent: str

  @property
  def place(self) -> tuple[str, str]:
    """Level distribution of training and game."""
    return self.result["training_levels"], self.result["game"]

  @property
  def simulations(self) -> int | None:
    """Of the search; None for an agent that does not plan."""
    search = self.row.get("search")
    return search["num_simulations"] if search else None


def evaluations_section(
  study: Study, files: Sequence[EvaluationFile], relative_to: Path
) -> Section:
  """Every evaluation as a row; figures of those with several simulations or levels played often."""
  heading, anchor = "Checkpoints evaluated", "evaluations"
  if not files:
    return heading, anchor, []
  found = [_evaluated(study, r, row) for f in files for r in f.results for row in r["evaluations"]]
  panels = []
  for place in dict.fromkeys(each.place for each in found):
    own = [each for each in found if each.place == place]
    panels += [*_planning_panels(study, own, place), *_success_panels(study, own, place)]
  content: list[object] = [
    paragraph(
      "By procplan evaluate. Intervals: percentile bootstrap over episodes, of this one policy,"
      " not of other training seeds.",
      class_="note",
    )
  ]
  if panels:
    content += [colours(study), element("div", *panels, class_="panels")]
  content += [_table(study, found)] if found else []
  for each in files:
    if each.problem:
      name = Path(os.path.relpath(each.path, relative_to)).as_posix()
      content.append(paragraph(f"{name} cannot be shown: {each.problem}.", class_="note"))
  return heading, anchor, content


def _evaluated(study: Study, result: Mapping[str, Any], row: Mapping[str, Any]) -> Evaluated:
  """Finds the run: the one in that directory, or else the only one of that name."""
  path = Path(result["run"])
  same = [run for run in study.runs if run.directory.absolute() == path.absolute()]
  named = [run for run in study.runs if run.directory.absolute().name == path.absolute().name]
  found = same or named
  cell = study.cell_of(found[0]) if len(found) == 1 else None
  return Evaluated(
    result, row, cell, f"{result['agent']} in {path}" if cell is None else cell.agent
  )


def _needs(study: Study, each: Evaluated) -> dict[str, str]:
  return {} if each.cell is None else needs_of(study, [each.cell])


def _groups(found: Sequence[Evaluated]) -> dict[tuple[str, str, str], list[Evaluated]]:
  """(run, level set, policy) -> its evaluations."""
  groups: dict[tuple[str, str, str], list[Evaluated]] = {}
  for each in found:
    key = (each.result["run"], each.row["level_set"], each.row["policy"])
    groups.setdefault(key, []).append(each)
  return groups


def _planning_panels(
  study: Study, found: Sequence[Evaluated], place: tuple[str, str]
) -> list[Markup]:
  """Return against the number of simulations at evaluation, where there are several."""
  groups = {}
  for key, own in _groups(found).items():
    by_number = {each.simulations: each for each in own if each.simulations is not None}
    if len(by_number) > 1:
      groups[key] = [by_number[number] for number in sorted(by_number)]
  if not groups:
    return []
  numbers = sorted({each.simulations for own in groups.values() for each in own})

  def draw(axes: Axes, own: Sequence[Evaluated], look: Look, dash: object) -> None:
    x = [numbers.index(each.simulations) for each in own]
    y = [each.row["episode_return"] for each in own]
    style = {"color": look.colour, "marker": look.marker, "markersize": 4, "linestyle": dash}
    axes.plot(x, y, linewidth=1.6, **style)
    for at, each in zip(x, own, strict=True):
      interval = each.row.get("episode_return_interval")
      if interval:
        axes.plot((at, at), interval, color=look.colour, linewidth=1.0)

  def finish(axes: Axes) -> None:
    axes.set_xticks(range(len(numbers)), [str(number) for number in numbers])
    axes.set(xlabel="simulations; 0 is the raw policy", ylabel="mean episode return")

  what = "Return against simulations"
  return [_panel(study, groups, (what, *place), draw=draw, finish=finish)]


def _success_panels(
  study: Study, found: Sequence[Evaluated], place: tuple[str, str]
) -> list[Markup]:
  """Levels sorted by success, where levels were played more than once."""
  groups = {}
  for (run, level_set, policy), own in _groups(found).items():
    for each in own:
      levels = each.row.get("by_level") or []
      if levels and statistics.mean(row["episodes"] for row in levels) >= _LEAST_EPISODES:
        many = f", {each.simulations} simulations" if each.simulations is not None else ""
        groups[run, f"{level_set}{many}", policy] = [each]
  if not groups:
    return []

  def draw(axes: Axes, own: Sequence[Evaluated], look: Look, dash: object) -> None:
    rates = np.sort([row["success_rate"] for row in own[0].row["by_level"]])
    share = np.linspace(0, 100, len(rates) + 1)
    style = {"color": look.colour, "linestyle": dash, "linewidth": 1.6}
    axes.step(share, [*rates, rates[-1]], where="post", **style)

  def finish(axes: Axes) -> None:
    axes.set_ylim(-0.03, 1.03)
    axes.set(xlabel="levels, hardest first (%)", ylabel="share of episodes completed")

  return [_panel(study, groups, ("Success by level", *place), draw=draw, finish=finish)]


def _panel(
  study: Study,
  groups: Mapping[tuple[str, str, str], Sequence[Evaluated]],
  title: tuple[str, str, str],
  *,
  draw: Callable[[Axes, Sequence[Evaluated], Look, object], None],
  finish: Callable[[Axes], None],
) -> Markup:
  """One line a group: agents differ in colour, level sets in the line."""
  look = looks(study.agents)
  sets = list(dict.fromkeys(level_set for _, level_set, _ in groups))
  what, levels, game = title
  with drawing(*PANEL) as (drawn, axes):
    for (_, level_set, _), own in groups.items():
      with marked(axes, needs(study, agents=[own[0].agent])):
        dash = _DASHES[sets.index(level_set) % len(_DASHES)]
        draw(axes, own, look.get(own[0].agent, INK), dash)
    finish(axes)
    axes.set_title(f"{game}, {levels}")
    label = f"{what}, {game}, trained on {levels}."
    picture = inline(drawn, identifier=slug("evaluated", *title), label=label)
  lines = ("solid", "dashed", "dotted", "dash-dotted")
  named = [f"{lines[i % len(lines)]} {name}" for i, name in enumerate(sets)]
  cells = [each.cell for own in groups.values() for each in own if each.cell is not None]
  return figure(picture, f"{what}: {list_in_words(named)}.", **needs_of(study, cells))


def _table(study: Study, found: Sequence[Evaluated]) -> Markup:
  header = (
    "Trained on",
    "Game",
    "Agent",
    "Seed",
    "Checkpoint",
    "Evaluated on",
    "Acting",
    "Simulations",
    "Episodes",
    "Return [95 %]",
    "Normalised score [95 %]",
    "Completed",
    "More than with fewest simulations [95 %]",
  )
  rows = [_row(each) for each in found]
  marks = [_needs(study, each) for each in found]
  caption = "Every evaluation of a checkpoint"
  return table(caption, header, rows, heading_columns=3, numeric_from=6, needs=marks)


def _row(each: Evaluated) -> list[object]:
  row = each.row
  return [
    each.result["training_levels"],
    each.result["game"],
    each.agent,
    each.result["run_seed"],
    steps_in_words(each.result["checkpoint"]),
    row["level_set"]
    if row["level_set"] == row["levels"]
    else f"{row['level_set']}: {row['levels']}",
    row["policy"],
    NOTHING if each.simulations is None else each.simulations,
    f"{row['episodes']:,}",
    _estimate(row, "episode_return"),
    _estimate(row, "normalised_score"),
    f"{100 * row['level_complete']:.0f} %" if "level_complete" in row else NOTHING,
    _estimate(row, "gain"),
  ]


def _estimate(row: Mapping[str, Any], name: str) -> str:
  if name not in row:
    return NOTHING
  interval = row.get(f"{name}_interval")
  ends = f" [{score_in_words(interval[0])}, {score_in_words(interval[1])}]" if interval else ""
  return f"{score_in_words(row[name])}{ends}"
