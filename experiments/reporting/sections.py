"""The sections of the page, each with its figures and words.

A section without data says why, or has no content where it could not have any:
then the page leaves it out.
"""

from collections.abc import Iterable, Sequence
import math
from pathlib import Path

from experiments.reporting import figures, protocol, tables
from experiments.reporting.aggregates import common_levels_scores
from experiments.reporting.curves import learning_panel, published_in_panel, scores_caption
from experiments.reporting.efficiency import efficiency_table
from experiments.reporting.estimates import Estimates, aggregate_curves
from experiments.reporting.filters import needs, needs_of
from experiments.reporting.legends import legend
from experiments.reporting.markup import Markup, element, figure, paragraph
from experiments.reporting.missing import missing_aggregates
from experiments.reporting.pairs import improvement_table
from experiments.reporting.published import about, step_tolerance
from experiments.reporting.series import MIN_EPISODES
from experiments.reporting.statistics import aggregate
from experiments.reporting.study import SPLITS, Study
from experiments.reporting.wording import count_in_words, list_in_words, steps_in_words

# Axis -> how its values come about, where that needs a word.
_AXES = {
  "environment_steps": "",
  "seconds": "; time until each evaluation, mean over runs, evaluations counted",
}

# Heading, anchor, content.
Section = tuple[str, str, Sequence[object]]


def curves_section(study: Study) -> Section:
  """Learning curves of every game and level distribution, over steps and over time."""
  content: list[object] = []
  words = {"environment_steps": "Against environment steps", "seconds": "Against wall-clock time"}
  for axis, heading in words.items():
    each = study.levels if len(study.games) > 1 else [None]
    blocks = [_learning_block(study, levels, axis) for levels in each]
    if any(blocks):
      content += [element("h3", heading), *blocks]
  if not content:
    return "Learning curves", "curves", [paragraph("No run has written a return yet.")]
  note = paragraph(
    "Solid lines: return of the training episodes (mean over the last 100, drawn once"
    f" {MIN_EPISODES} have ended), with exploration."
    " Filled markers: evaluations on the training levels. Dashed lines with open markers:"
    " evaluations on the full distribution. Thick lines are means over seeds, as far as all of"
    " them have come; thin lines are single seeds; a cross marks where a failed run ended, which"
    " no mean includes. Wall-clock time counts training and evaluation, over all resumes.",
    class_="note",
  )
  stars = any(
    published_in_panel(study, levels, game) for levels in study.levels for game in study.games
  )
  return "Learning curves", "curves", [legend(study, with_published=stars), note, *content]


def _learning_block(study: Study, levels: str | None, axis: str) -> Markup:
  """The panels of one level distribution, or of all; empty where there is nothing to draw."""
  panels = []
  for name in study.levels if levels is None else (levels,):
    for game in study.games:
      panel = learning_panel(study, name, game, axis=axis)
      if panel is not None:
        cells = study.cells_of(levels=name, game=game)
        panels.append(figure(panel, scores_caption(study, cells), **needs_of(study, cells)))
  grid = element("div", *panels, class_="panels")
  if not panels or levels is None:
    return grid if panels else Markup()
  heading = element("h4", f"Trained on {levels}")
  return element("div", heading, grid, **needs(study, levels=[levels]))


def aggregate_section(study: Study, numbers: Estimates) -> Section:
  """Normalised scores over games, with intervals, and who improves on whom."""
  heading = "Aggregate over games"
  absent = [paragraph(sentence) for sentence in missing_aggregates(study, numbers)]
  if not numbers.aggregates and not numbers.improvements:
    return heading, "aggregate", absent
  content: list[object] = [legend(study), *absent, *_aggregate_notes(numbers)]
  for levels in study.levels:
    panels = [
      *_aggregate_panels(study, numbers, levels),
      *_improvement_panels(study, numbers, levels),
    ]
    if panels:
      grid = element("div", *panels, class_="panels")
      content.append(element("div", element("h3", levels), grid, **needs(study, levels=[levels])))
  if numbers.aggregates:
    everything = list(numbers.aggregates.values())
    content.append(tables.aggregate_table(study, everything, numbers.values))
  if numbers.improvements:
    content.append(improvement_table(study, numbers.improvements))
  elif len(study.agents) > 1:
    why = "no two agents share a game and steps with two runs or more each"
    content.append(paragraph(f"Probability of improvement: none, since {why}.", class_="note"))
  return heading, "aggregate", content


def _aggregate_panels(study: Study, numbers: Estimates, levels: str) -> list[Markup]:
  mine = {s: numbers.aggregates[levels, s] for s in SPLITS if (levels, s) in numbers.aggregates}
  if not mine:
    return []
  games = next(iter(mine.values())).games
  over = f"{count_in_words(len(games), 'game')}: {', '.join(games)}"
  runs = [matrix.num_runs for each in mine.values() for matrix in each.matrices.values()]
  bands = "; shaded: 95 % intervals" if max(runs) > 1 else "; one run a game, no interval"
  steps = sorted({each.environment_steps for each in mine.values()})
  at = list_in_words([steps_in_words(step) for step in steps])
  curves = aggregate_curves(study, numbers.aggregates, levels, resamples=numbers.resamples)
  panels = []
  for axis, how in _AXES.items():
    if all(math.isfinite(x) for curve in curves.values() for x in curve.along(axis)):
      panel = figures.aggregate_curve_panel(study, levels, curves, axis=axis)
      panels.append(figure(panel, f"IQM over {over}{how}{bands}"))
  for name in ("IQM", "mean") if len(games) > 1 else ("IQM",):
    estimates = {
      (agent, split): numbers.values[agent, levels, split][name]
      for agent in next(iter(mine.values())).matrices
      for split in mine
      if (agent, levels, split) in numbers.values
    }
    panel = figures.interval_panel(study, levels, name, estimates)
    panels.append(figure(panel, f"{name} at {at} steps{bands}"))
  test = mine.get("test")
  if test is not None and len(test.matrices) > 1 and len(test.games) > 1:
    panel = figures.profile_panel(study, test, resamples=numbers.resamples)
    panels.append(figure(panel, f"Performance profile over {over}{bands}"))
  return panels


def _improvement_panels(study: Study, numbers: Estimates, levels: str) -> list[Markup]:
  """One panel with every pair of agents, or none."""
  found = {(a, b): each for (name, a, b), each in numbers.improvements.items() if name == levels}
  if not found:
    return []
  panel = figures.improvement_panel(study, levels, {k: v.estimate for k, v in found.items()})
  caption = (
    "How often a run of the one beats a run of the other on the same game, full distribution;"
    " every pair on the games and at the steps of the table below; shaded: 95 % intervals"
  )
  return [figure(panel, caption)]


def _aggregate_notes(numbers: Estimates) -> Iterable[Markup]:
  notes = [
    "Scores are normalised per game with the bounds below and never clipped. Agents are compared"
    " at the latest number of steps at which every run of a level distribution was evaluated."
    " Intervals: stratified bootstrap over runs, 95 %, percentiles of"
    f" {numbers.resamples:,} resamples (rliable)."
  ]
  matrices = [m for each in numbers.aggregates.values() for m in each.matrices.values()]
  if any(matrix.num_runs < 2 for matrix in matrices):
    notes.append("An interval needs two runs or more per game; where there is one, none is shown.")
  if {len(each.games) for each in numbers.aggregates.values()} == {1}:
    notes.append("With a single game this is that game's score; it says nothing of other games.")
  for (levels, _), each in numbers.aggregates.items():
    notes += [f"{levels}: {note}." for note in each.notes]
  return [paragraph(note, class_="note") for note in dict.fromkeys(notes)]


def gap_section(study: Study) -> Section:
  """Training levels against full distribution."""
  panels = []
  for levels in study.levels:
    panel = figures.gap_panel(study, levels)
    if panel is not None:
      marks = needs(study, levels=[levels])
      panels.append(figure(panel, f"Gap of agents trained on {levels}", **marks))
  heading = "Training levels against full distribution"
  if not panels:
    why = (
      "No run that trains on some of the levels has been evaluated on both, on a game with known"
      " score bounds."
    )
    return heading, "gap", [paragraph(why)] if study.cells else []
  note = paragraph(
    "Filled: training levels. Open: full distribution. The line between them is the"
    " generalisation gap. Means over seeds, at the latest steps of both evaluations."
    " Agents that train on all levels have none, and are not shown.",
    class_="note",
  )
  return heading, "gap", [legend(study), note, element("div", *panels, class_="panels")]


def scores_section(study: Study) -> Section:
  """The table of final scores beside the published ones."""
  if not study.cells:
    return "Final scores", "scores", []
  note = paragraph(
    "Published: the same agent and level distribution, at the same number of steps within"
    f" {step_tolerance():.0%}; scores at other steps are never compared. {about()}",
    class_="note",
  )
  return "Final scores", "scores", [tables.score_table(study), note]


def levels_section(study: Study, *, resamples: int) -> Section:
  """Score against number of training levels."""
  panels, notes = [], []
  for mode in ("easy", "hard"):
    names, scores, note = common_levels_scores(study, mode)
    if scores:
      estimates = {key: aggregate(m, resamples=resamples)["IQM"] for key, m in scores.items()}
      for title, agents in _level_figures(study).items():
        shown = {key: estimate for key, estimate in estimates.items() if key[0] in agents}
        if title:  # a figure that a study asks for shows what generalises
          shown = {key: estimate for key, estimate in shown.items() if key[2] == "test"}
        panel = figures.levels_panel(study, mode, title=title, names=names, scores=shown)
        panels.append(figure(panel, f"{note} Shaded: 95 % intervals, where there are two runs."))
    elif note:
      notes.append(paragraph(note, class_="note"))
  content: list[object] = list(notes)
  if panels:
    content += [legend(study), element("div", *panels, class_="panels")]
  return "Score against number of training levels", "levels", content


def _level_figures(study: Study) -> dict[str, tuple[str, ...]]:
  """Title -> agents of every figure over level distributions, as the runs' studies ask for."""
  asked = [run.study.figures for run in study.runs if run.study is not None]
  found = {title: agents for each in asked for title, agents in each.items()}
  found = {title: a for title, a in found.items() if len({*a} & {*study.agents}) > 1}
  return found or {"": study.agents}


def efficiency_section(study: Study) -> Section:
  """Area under the test curve, and steps to the last score of PPO."""
  table = efficiency_table(study, baseline="ppo")
  return "Sample efficiency in two numbers", "efficiency", [table] if table else []


def protocol_section(study: Study) -> Section:
  """What was held fixed, what differed, and the bounds used."""
  if not study.cells:
    return "Protocol", "protocol", []
  note = paragraph(
    "Every environment of an evaluation plays a fixed quota of episodes: taking whichever"
    " episodes end first would favour short ones. Time-outs count as terminations.",
    class_="note",
  )
  found = [
    protocol.protocol_table(study),
    protocol.settings_table(study),
    protocol.bounds_table(study),
  ]
  return "Protocol", "protocol", [note, *(each for each in found if each)]


def runs_section(study: Study, relative_to: Path) -> Section:
  """Every run with its state and command."""
  content: list[object] = [protocol.run_table(study, relative_to=relative_to)]
  content += [element("h3", "Commands"), protocol.commands(study, relative_to=relative_to)]
  return "Runs", "runs", content
