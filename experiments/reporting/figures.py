"""Figures over a whole study: aggregates, profiles, the gap, levels, diagnostics."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
import numpy as np

from environments.games import normalised_score
from experiments.reporting.aggregates import Aggregate, aggregate_curve
from experiments.reporting.curves import PANEL, format_steps
from experiments.reporting.markup import Markup
from experiments.reporting.series import thin, training_series
from experiments.reporting.statistics import Estimate, performance_profile
from experiments.reporting.study import Cell, Study
from experiments.reporting.svg import PAPER, Look, drawing, inline, looks
from experiments.reporting.wording import score_in_words, slug

_DASHED = (0, (3, 1.5))
_ROW_HEIGHT = 0.24  # inches


def aggregate_curve_panel(
  study: Study, aggregates: Mapping[str, Aggregate], *, resamples: int
) -> Markup:
  """IQM of the normalised score against steps; `aggregates` is split -> aggregate."""
  look = looks(study.agents)
  levels = next(iter(aggregates.values())).levels
  with drawing(*PANEL) as (figure, axes):
    for split, aggregate in aggregates.items():
      for agent in aggregate.matrices:
        steps, estimates = aggregate_curve(study, agent, aggregate, resamples=resamples)
        _draw_band(axes, steps, estimates, look[agent], is_test=split == "test")
    unit = format_steps(axes)
    axes.set(title=f"IQM over games, {levels}", xlabel=unit, ylabel="normalised score")
    label = f"Interquartile mean of the normalised score against {unit}, {levels}."
    return inline(figure, identifier=slug("iqm", levels), label=label)


def _draw_band(
  axes: Axes, steps: Sequence[int], estimates: Sequence[Estimate], look: Look, *, is_test: bool
) -> None:
  axes.plot(
    steps,
    [estimate.value for estimate in estimates],
    color=look.colour,
    marker=look.marker,
    markersize=4,
    linewidth=1.8,
    linestyle=_DASHED if is_test else "-",
    markerfacecolor=PAPER if is_test else look.colour,
  )
  if estimates and all(estimate.interval for estimate in estimates):
    low, high = np.array([estimate.interval for estimate in estimates]).T
    axes.fill_between(steps, low, high, color=look.colour, alpha=0.15, linewidth=0)


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
    for place, (agent, split) in enumerate(rows):
      estimate = estimates[agent, split]
      colour, marker = look[agent].colour, look[agent].marker
      if estimate.interval:
        axes.plot(estimate.interval, (place, place), color=colour, linewidth=5, alpha=0.3)
      fill = PAPER if split == "test" else colour
      axes.plot(estimate.value, place, color=colour, marker=marker, markerfacecolor=fill)
    axes.set_yticks(range(len(rows)), [f"{agent}, {split}" for agent, split in rows])
    axes.set(title=f"{name}, {levels}", xlabel="normalised score")
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.margins(x=0.12)
    label = f"{name} of the normalised score, {levels}: " + "; ".join(
      f"{agent}, {split} {score_in_words(estimates[agent, split].value)}" for agent, split in rows
    )
    return inline(figure, identifier=slug("interval", levels, name), label=label)


def profile_panel(study: Study, aggregate: Aggregate, *, resamples: int) -> Markup:
  """Performance profiles: share of runs that score above each threshold."""
  look = looks(study.agents)
  values = np.concatenate([matrix.values.ravel() for matrix in aggregate.matrices.values()])
  thresholds = np.linspace(min(0.0, values.min()), max(values.max(), 0.01) * 1.02, 61)
  with drawing(*PANEL) as (figure, axes):
    for agent, matrix in aggregate.matrices.items():
      profile, interval = performance_profile(matrix, thresholds, resamples=resamples)
      axes.step(thresholds, profile, color=look[agent].colour, linewidth=1.8, where="post")
      mark = slice(5, None, 12)
      axes.plot(
        thresholds[mark],
        profile[mark],
        color=look[agent].colour,
        marker=look[agent].marker,
        markersize=4,
        linestyle="none",
      )
      if interval is not None:
        band = {"color": look[agent].colour, "alpha": 0.15, "linewidth": 0, "step": "post"}
        axes.fill_between(thresholds, *interval, **band)
    axes.set_ylim(-0.03, 1.03)
    axes.set(
      title=f"Performance profile, {aggregate.levels}",
      xlabel="normalised score, full distribution",
      ylabel="share of runs above it",
    )
    label = f"Share of runs above each normalised score, {aggregate.levels}, full distribution."
    return inline(figure, identifier=slug("profile", aggregate.levels), label=label)


def gap_panel(study: Study, levels: str) -> Markup | None:
  """Training levels against full distribution, normalised, one line per game and agent.

  Returns:
    None where no cell has both scores and bounds.
  """
  look = looks(study.agents)
  rows = [(cell, pair) for cell in study.cells_of(levels=levels) if (pair := _gap(study, cell))]
  rows.sort(key=lambda row: (row[0].game, row[0].agent))
  if not rows:
    return None
  with drawing(PANEL[0], 0.85 + _ROW_HEIGHT * len(rows)) as (figure, axes):
    for place, (cell, (train, test)) in enumerate(rows):
      colour, marker = look[cell.agent].colour, look[cell.agent].marker
      axes.plot((train, test), (place, place), color=colour, linewidth=2.5, alpha=0.4)
      axes.plot(train, place, color=colour, marker=marker)
      axes.plot(test, place, color=colour, marker=marker, markerfacecolor=PAPER)
    axes.set_yticks(range(len(rows)), [f"{cell.game}, {cell.agent}" for cell, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.margins(x=0.08)
    axes.set(title=f"Trained on {levels}", xlabel="normalised score")
    label = f"Normalised score on training levels and full distribution, {levels}: " + "; ".join(
      f"{cell.game}, {cell.agent} {score_in_words(train)} and {score_in_words(test)}"
      for cell, (train, test) in rows
    )
    return inline(figure, identifier=slug("gap", levels), label=label)


def _gap(study: Study, cell: Cell) -> tuple[float, float] | None:
  """Normalised means on training levels and full distribution, at the same steps."""
  bounds = study.bounds_of(cell.levels, cell.game)
  scores = cell.last_pair()
  if bounds is None or scores is None:
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
        places = [place for place, _ in points]
        _draw_band(
          axes, places, [estimate for _, estimate in points], look[agent], is_test=split == "test"
        )
    axes.set_xticks(range(len(names)), [name.removeprefix(f"{mode}-") for name in names])
    axes.margins(x=0.12)
    heading = f"{mode} mode, {title}" if title else f"{mode} mode"
    score = "IQM of test score" if title else "IQM of normalised score"
    axes.set(title=heading, xlabel="training levels", ylabel=score)
    label = f"Interquartile mean against number of training levels, {heading}."
    return inline(figure, identifier=slug("levels", mode, title), label=label)


def diagnostic_panel(study: Study, quantity: str) -> Markup | None:
  """One quantity of the training rows of every run, against steps."""
  look = looks(study.agents)
  with drawing(PANEL[0], 2.2) as (figure, axes):
    for cell in study.cells_of():
      for run in cell.runs:
        series = thin(training_series(run, quantity, axis="environment_steps"))
        if len(series):
          axes.plot(series.x, series.y, color=look[cell.agent].colour, linewidth=0.9, alpha=0.7)
    if not axes.lines:
      return None
    unit = format_steps(axes)
    axes.set(title=quantity, xlabel=unit)
    label = f"{quantity} of every run against {unit}."
    return inline(figure, identifier=slug("diagnostic", quantity), label=label)
