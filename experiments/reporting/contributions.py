"""What each change of a study contributes: differences between two agents, with intervals.

Shown where the runs belong to a study that says which agents differ by one change.
"""

from collections.abc import Mapping, Sequence
import dataclasses

from experiments.reporting.curves import PANEL
from experiments.reporting.filters import needs, needs_all
from experiments.reporting.markup import Markup, element, figure, paragraph, table
from experiments.reporting.pairs import Pair, pair_scores
from experiments.reporting.sections import Section
from experiments.reporting.statistics import Estimate, aggregate, difference
from experiments.reporting.study import Study
from experiments.reporting.summary import estimate_in_words
from experiments.reporting.svg import INK, PALETTE, PAPER, drawing, inline
from experiments.reporting.wording import (
  count_in_words,
  list_in_words,
  score_in_words,
  slug,
  steps_in_words,
)
from experiments.studies.study import Contrast

HEADING, ANCHOR = "What each change contributes", "contributions"
_ROW_HEIGHT = 0.24  # inches
_FEW_RUNS = 5


@dataclasses.dataclass(frozen=True)
class Contribution:
  """One change, measured.

  Attributes:
    contrast: which.
    pair: the scores without and with it.
    difference: of the IQMs, with minus without.
  """

  contrast: Contrast
  pair: Pair
  difference: Estimate


def contributions_section(
  study: Study, measured: Mapping[str, Sequence[Contribution]], *, resamples: int
) -> Section:
  """Every change's difference on the full distribution, as figure and table.

  Args:
    study: all runs.
    measured: level distribution -> contributions.
    resamples: bootstrap resamples of every interval.
  """
  known = contrasts(study)
  if not known:
    return HEADING, ANCHOR, []
  content: list[object] = []
  for levels, found in measured.items():
    shown = _of_levels(study, found, levels, resamples=resamples)
    content.append(element("div", element("h3", levels), *shown, **needs(study, levels=[levels])))
  if not content:
    why = "No change has an evaluation with and without it at the same steps yet."
    return HEADING, ANCHOR, [paragraph(why)]
  note = paragraph(
    "Difference of the IQM of the normalised score on the full distribution, with the change"
    " minus without it. An interval that contains 0 leaves open whether the change helps.",
    class_="note",
  )
  bundled = element("h3", "What a change is, and what cannot be told apart from it")
  notes = {contrast.change: contrast.note for contrast in known}
  entries = [(element("dt", name), element("dd", text)) for name, text in notes.items()]
  listed = element("dl", *(part for entry in entries for part in entry))
  return HEADING, ANCHOR, [note, *content, bundled, listed]


def contrasts(study: Study) -> list[Contrast]:
  """The contrasts of all studies that the runs belong to, between agents that are there."""
  found: dict[Contrast, None] = {}
  for run in study.runs:
    for contrast in run.study.contrasts if run.study is not None else ():
      if {contrast.before, contrast.after} <= set(study.agents):
        found[contrast] = None
  return list(found)


def all_contributions(study: Study, *, resamples: int) -> dict[str, list[Contribution]]:
  """Level distribution -> its contributions, where there are any."""
  found = {levels: contributions(study, levels, resamples=resamples) for levels in study.levels}
  return {levels: each for levels, each in found.items() if each}


def headline(measured: Mapping[str, Sequence[Contribution]]) -> list[str]:
  """One sentence for every group of changes on a level distribution."""
  return [
    f"{levels}, each change {group}: {in_words([e for e in found if e.contrast.group == group])}"
    for levels, found in measured.items()
    for group in dict.fromkeys(each.contrast.group for each in found)
  ]


def contributions(study: Study, levels: str, *, resamples: int) -> list[Contribution]:
  """Every contrast that has scores on these levels, in the study's order."""
  found = []
  for contrast in contrasts(study):
    pair = pair_scores(study, levels, (contrast.before, contrast.after), split="test")
    if pair is not None:
      estimate = difference(pair.after, pair.before, resamples=resamples)
      found.append(Contribution(contrast, pair, estimate))
  return found


def _of_levels(
  study: Study, found: Sequence[Contribution], levels: str, *, resamples: int
) -> list[Markup]:
  groups = list(dict.fromkeys(each.contrast.group for each in found))
  few = [min(each.pair.before.num_runs, each.pair.after.num_runs) for each in found]
  panels = []
  for group in groups:
    own = [each for each in found if each.contrast.group == group]
    panels.append(figure(_panel(own, levels, group), f"Each change {group}. {in_words(own)}"))
  parts = [element("div", *panels, class_="panels"), _table(study, found, resamples=resamples)]
  if min(few) < _FEW_RUNS:
    said = count_in_words(min(few), "run")
    text = f"With {said} a game and agent, intervals are rough, and too narrow on average."
    parts.append(paragraph(text if min(few) > 1 else f"With {said} there is no interval."))
  return parts


def in_words(found: Sequence[Contribution]) -> str:
  """Which changes are told apart from no change, and which are not."""
  up = [e.contrast.change for e in found if e.difference.interval and e.difference.interval[0] > 0]
  down = [
    e.contrast.change for e in found if e.difference.interval and e.difference.interval[1] < 0
  ]
  rest = [e.contrast.change for e in found if e.contrast.change not in (*up, *down)]
  texts = [
    f"{what}: {list_in_words(names)}"
    for what, names in (("Better", up), ("Worse", down), ("Not told apart from 0", rest))
    if names
  ]
  return f"{'. '.join(texts)}."


def _panel(found: Sequence[Contribution], levels: str, group: str) -> Markup:
  """Differences with their intervals, one change a row."""
  with drawing(PANEL[0] * 1.3, 1.0 + _ROW_HEIGHT * len(found)) as (drawn, axes):
    axes.axvline(0.0, color=INK.colour, linewidth=0.8)
    for place, each in enumerate(found):
      interval = each.difference.interval
      if interval:
        axes.plot(interval, (place, place), color=PALETTE[0], linewidth=5, alpha=0.35)
      fill = PALETTE[0] if interval else PAPER
      style = {"color": PALETTE[0], "marker": "o", "markerfacecolor": fill}
      axes.plot(each.difference.value, place, **style)
    axes.set_yticks(range(len(found)), [each.contrast.change for each in found])
    axes.set_xlabel("difference of normalised score")
    axes.set_title(f"{group}, {levels}", loc="right")
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.margins(x=0.12)
    said = "; ".join(
      f"{each.contrast.change} {estimate_in_words(each.difference)}" for each in found
    )
    label = f"Difference of the normalised score by each change, {group}, {levels}: {said}"
    return inline(drawn, identifier=slug("contributions", levels, group), label=label)


def _table(study: Study, found: Sequence[Contribution], *, resamples: int) -> Markup:
  rows = []
  for each in found:
    runs = [each.pair.before.num_runs, each.pair.after.num_runs]
    before, after = (
      aggregate(matrix, resamples=resamples)["IQM"].value
      for matrix in (each.pair.before, each.pair.after)
    )
    rows.append(
      (
        each.contrast.change,
        each.contrast.group,
        f"{each.contrast.before} \N{RIGHTWARDS ARROW} {each.contrast.after}",
        score_in_words(before),
        score_in_words(after),
        estimate_in_words(each.difference),
        f"{len(each.pair.before.games)} \N{MULTIPLICATION SIGN} {min(runs)}",
        steps_in_words(each.pair.environment_steps),
      )
    )
  header = (
    "Change",
    "Where",
    "Agents",
    "Without",
    "With",
    "Difference [95 % interval]",
    "Games \N{MULTIPLICATION SIGN} runs",
    "Steps",
  )
  caption = "Normalised score on the full distribution, IQM over games and runs"
  marks = [needs_all(study, (each.contrast.before, each.contrast.after)) for each in found]
  return table(caption, header, rows, numeric_from=3, needs=marks)
