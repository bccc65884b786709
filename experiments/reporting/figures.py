"""Figures over a whole study: aggregates, improvement, profiles, the gap, levels."""

from collections.abc import Mapping, Sequence
import itertools

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
import numpy as np

from environments.games import normalised_score
from experiments.reporting.aggregates import Aggregate, AggregateCurve
from experiments.reporting.curves import PANEL, format_axis
from experiments.reporting.filters import needs, needs_all
from experiments.reporting.markup import Markup
from experiments.reporting.statistics import Estimate, performance_profile
from experiments.reporting.study import Cell, Study
from experiments.reporting.svg import (
  DASHED,
  INK,
  PALETTE,
  PAPER,
  Look,
  drawing,
  inline,
  looks,
  mark,
  marked,
)
from experiments.reporting.wording import score_in_words, slug

_ROW_HEIGHT = 0.24  # inches
_LEAST_SPAN = 0.01  # of normalised scores along an axis: more digits would tell nothing
_MOST_TICKS = 8
_BETWEEN_TICKS = 6  # points from the end of a number to the next; a page's font may be wider


def aggregate_curve_panel(
  study: Study, levels: str, curves: Mapping[tuple[str, str], AggregateCurve], *, axis: str
) -> Markup:
  """IQM of the normalised score over steps or wall-clock.

  Args:
    study: all runs.
    levels: name of the level distribution of training.
    curves: (agent, split) -> curve.
    axis: `environment_steps` or `seconds`.
  """
  with drawing(*PANEL) as (figure, axes):
    unit = draw_aggregate(axes, study, levels, curves, axis=axis)
    label = f"Interquartile mean of the normalised score against {unit}, {levels}."
    return inline(figure, identifier=slug("iqm", levels, axis), label=label)


def draw_aggregate(
  axes: Axes,
  study: Study,
  levels: str,
  curves: Mapping[tuple[str, str], AggregateCurve],
  *,
  axis: str,
) -> str:
  """Draws what `aggregate_curve_panel` shows into axes; returns the unit of x."""
  look = looks(study.agents)
  for (agent, split), curve in curves.items():
    with marked(axes, needs(study, agents=[agent])):
      x = curve.along(axis)
      _draw_band(axes, x, curve.estimates, look[agent], is_test=split == "test")
  unit = format_axis(axes, axis)
  axes.set(title=f"IQM over games, {levels}", xlabel=unit, ylabel="normalised score")
  return unit


def _draw_band(
  axes: Axes, x: Sequence[float], estimates: Sequence[Estimate], look: Look, *, is_test: bool
) -> None:
  axes.plot(
    x,
    [estimate.value for estimate in estimates],
    color=look.colour,
    marker=look.marker,
    markersize=4,
    linewidth=1.8,
    linestyle=DASHED if is_test else "-",
    markerfacecolor=PAPER if is_test else look.colour,
  )
  if estimates and all(estimate.interval for estimate in estimates):
    low, high = np.array([estimate.interval for estimate in estimates]).T
    axes.fill_between(x, low, high, color=look.colour, alpha=0.15, linewidth=0)


def interval_panel(
  study: Study,
  levels: str,
  name: str,
  estimates: Mapping[tuple[str, str], Estimate],
) -> Markup:
  """One aggregate of every agent with its interval.

  Args:
    study: all runs.
    levels: name of the level distribution of training.
    name: of the aggregate, e.g. `IQM`.
    estimates: (agent, split) -> estimate.
  """
  look = looks(study.agents)
  rows = list(estimates)
  with drawing(PANEL[0], 0.85 + _ROW_HEIGHT * len(rows)) as (figure, axes):
    marks = [needs(study, agents=[agent]) for agent, _ in rows]
    for place, (agent, split) in enumerate(rows):
      with marked(axes, marks[place]):
        _draw_interval(axes, place, estimates[agent, split], look[agent], is_open=split == "test")
    _name_rows(axes, [f"{agent}, {split}" for agent, split in rows], marks)
    axes.set_xlabel("normalised score")
    axes.set_title(f"{name}, {levels}", loc="right")  # above the names, however long they are
    axes.margins(x=0.12)
    _show_scores(axes)
    label = f"{name} of the normalised score, {levels}: " + "; ".join(
      f"{agent}, {split} {score_in_words(estimates[agent, split].value)}" for agent, split in rows
    )
    return inline(figure, identifier=slug("interval", levels, name), label=label)


def _draw_interval(
  axes: Axes, place: int, estimate: Estimate, look: Look, *, is_open: bool
) -> None:
  """One row: a marker, and its interval as a bar."""
  if estimate.interval:
    axes.plot(estimate.interval, (place, place), color=look.colour, linewidth=5, alpha=0.3)
  fill = PAPER if is_open else look.colour
  axes.plot(estimate.value, place, color=look.colour, marker=look.marker, markerfacecolor=fill)


def _name_rows(axes: Axes, names: Sequence[str], marks: Sequence[Mapping[str, str]]) -> None:
  """Names of the rows, from above, and what hides them."""
  axes.set_yticks(range(len(names)), names)
  axes.set_ylim(len(names) - 0.4, -0.6)
  for text, each in zip(axes.get_yticklabels(), marks, strict=True):
    mark(text, each)


def _show_scores(axes: Axes) -> None:
  """Scores along x: scores that lie close together stay so, with numbers of few digits."""
  low, high = axes.get_xlim()
  more = max(0.0, _LEAST_SPAN - (high - low)) / 2
  axes.set_xlim(low - more, high + more)
  _space_ticks(axes)


def _space_ticks(axes: Axes) -> None:
  """As many ticks along x as have room: names of rows leave it what they do not need."""
  for ticks in range(_MOST_TICKS, 1, -1):
    axes.xaxis.set_major_locator(MaxNLocator(ticks - 1, steps=[1, 2, 5, 10]))
    axes.figure.draw_without_rendering()
    low, high = axes.get_xlim()
    labels = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    boxes = [label.get_window_extent() for x, label in labels if low <= x <= high]
    gap = _BETWEEN_TICKS * axes.figure.dpi / 72
    if all(b.x0 - a.x1 >= gap for a, b in itertools.pairwise(boxes)):
      return


def improvement_panel(
  study: Study, levels: str, estimates: Mapping[tuple[str, str], Estimate]
) -> Markup:
  """Probability of improvement; `estimates` is (better, other) -> P(better > other)."""
  rows = list(estimates)
  with drawing(PANEL[0], 0.85 + _ROW_HEIGHT * len(rows)) as (figure, axes):
    axes.axvline(0.5, color=INK.colour, linewidth=0.8)
    marks = [needs_all(study, pair) for pair in rows]
    for place, pair in enumerate(rows):
      with marked(axes, marks[place]):
        _draw_interval(axes, place, estimates[pair], Look(PALETTE[0], "o"), is_open=False)
    _name_rows(axes, [f"{better} over {other}" for better, other in rows], marks)
    axes.set_xlim(-0.03, 1.03)
    axes.set_xlabel("P(better on a game)")
    axes.set_title(f"Probability of improvement, {levels}", loc="right")
    _space_ticks(axes)
    said = "; ".join(f"{a} over {b} {score_in_words(estimates[a, b].value)}" for a, b in rows)
    label = f"Probability of improvement on the full distribution, {levels}: {said}."
    return inline(figure, identifier=slug("improvement", levels), label=label)


def profile_panel(study: Study, aggregate: Aggregate, *, resamples: int) -> Markup:
  """Performance profiles: share of runs that score above each threshold."""
  look = looks(study.agents)
  values = np.concatenate([matrix.values.ravel() for matrix in aggregate.matrices.values()])
  thresholds = np.linspace(min(0.0, values.min()), max(values.max(), 0.01) * 1.02, 61)
  with drawing(*PANEL) as (figure, axes):
    for agent, matrix in aggregate.matrices.items():
      profile, interval = performance_profile(matrix, thresholds, resamples=resamples)
      with marked(axes, needs(study, agents=[agent])):
        _draw_profile(axes, thresholds, profile, interval=interval, look=look[agent])
    axes.set_ylim(-0.03, 1.03)
    axes.set(
      title=f"Performance profile, {aggregate.levels}",
      xlabel="normalised score, full distribution",
      ylabel="share of runs above it",
    )
    label = f"Share of runs above each normalised score, {aggregate.levels}, full distribution."
    return inline(figure, identifier=slug("profile", aggregate.levels), label=label)


def _draw_profile(
  axes: Axes,
  thresholds: np.ndarray,
  profile: np.ndarray,
  *,
  interval: np.ndarray | None,
  look: Look,
) -> None:
  axes.step(thresholds, profile, color=look.colour, linewidth=1.8, where="post")
  some = slice(5, None, 12)
  style = {"marker": look.marker, "markersize": 4, "linestyle": "none"}
  axes.plot(thresholds[some], profile[some], color=look.colour, **style)
  if interval is not None:
    band = {"color": look.colour, "alpha": 0.15, "linewidth": 0, "step": "post"}
    axes.fill_between(thresholds, *interval, **band)


def gap_panel(study: Study, levels: str) -> Markup | None:
  """Training levels against full distribution, normalised, one line per game and agent.

  Returns:
    None where no cell has both scores and bounds, and for agents that train on all levels:
    they have no gap.
  """
  look = looks(study.agents)
  rows = [(cell, pair) for cell in study.cells_of(levels=levels) if (pair := _gap(study, cell))]
  rows.sort(key=lambda row: (row[0].game, row[0].agent))
  if not rows:
    return None
  with drawing(PANEL[0], 0.85 + _ROW_HEIGHT * len(rows)) as (figure, axes):
    marks = [needs(study, agents=[cell.agent], games=[cell.game]) for cell, _ in rows]
    for place, (cell, (train, test)) in enumerate(rows):
      colour, marker = look[cell.agent].colour, look[cell.agent].marker
      with marked(axes, marks[place]):
        axes.plot((train, test), (place, place), color=colour, linewidth=2.5, alpha=0.4)
        axes.plot(train, place, color=colour, marker=marker)
        axes.plot(test, place, color=colour, marker=marker, markerfacecolor=PAPER)
    _name_rows(axes, [f"{cell.game}, {cell.agent}" for cell, _ in rows], marks)
    axes.margins(x=0.08)
    axes.set_xlabel("normalised score")
    axes.set_title(f"Trained on {levels}", loc="right")
    _show_scores(axes)
    label = f"Normalised score on training levels and full distribution, {levels}: " + "; ".join(
      f"{cell.game}, {cell.agent} {score_in_words(train)} and {score_in_words(test)}"
      for cell, (train, test) in rows
    )
    return inline(figure, identifier=slug("gap", levels), label=label)


def _gap(study: Study, cell: Cell) -> tuple[float, float] | None:
  """Normalised means on training levels and full distribution, at the same steps."""
  bounds = study.bounds_of(cell.levels, cell.game)
  scores = cell.last_pair()
  if bounds is None or scores is None or cell.trains_on_all_levels:
    return None
  train, test = scores
  return normalised_score(train.mean, bounds), normalised_score(test.mean, bounds)


def levels_panel(
  study: Study,
  mode: str,
  *,
  title: str,
  names: Sequence[str],
  scores: Mapping[tuple[str, str, str], Estimate],
) -> Markup:
  """Score against number of training levels.

  Args:
    study: all runs.
    mode: `easy` or `hard`.
    title: which agents are shown, on the full distribution alone; empty where all are.
    names: the level distributions of that mode, by size.
    scores: (agent, level distribution, split) -> normalised IQM.
  """
  look = looks(study.agents)
  with drawing(*PANEL) as (figure, axes):
    for agent in study.agents:
      for split in ("train", "test"):
        points = [
          (place, scores[agent, levels, split])
          for place, levels in enumerate(names)
          if (agent, levels, split) in scores
        ]
        x, estimates = [place for place, _ in points], [estimate for _, estimate in points]
        with marked(axes, needs(study, agents=[agent])):
          _draw_band(axes, x, estimates, look[agent], is_test=split == "test")
    axes.set_xticks(range(len(names)), [name.removeprefix(f"{mode}-") for name in names])
    axes.margins(x=0.12)
    heading = f"{mode} mode, {title}" if title else f"{mode} mode"
    score = "IQM of test score" if title else "IQM of normalised score"
    axes.set(title=heading, xlabel="training levels", ylabel=score)
    label = f"Interquartile mean against number of training levels, {heading}."
    return inline(figure, identifier=slug("levels", mode, title), label=label)
