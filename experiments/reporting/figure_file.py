"""The learning curves of a study as one SVG file, for a paper or a README.

The same curves as on the page, on white, with a legend of their own.
"""

from collections.abc import Callable, Mapping
import math

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.reporting.aggregates import AggregateCurve
from experiments.reporting.curves import PANEL, draw_learning, published_in_panel
from experiments.reporting.estimates import aggregate_curves, all_aggregates
from experiments.reporting.figures import draw_aggregate
from experiments.reporting.series import return_series
from experiments.reporting.study import Study
from experiments.reporting.svg import DASHED, INK, PAPER, STYLE, looks, on_white

COLUMNS = 3
AXIS = "environment_steps"
_ROW = 0.22  # inches, of the legend

Draw = Callable[[Axes], object]


def draw_figure(study: Study, *, resamples: int) -> str:
  """Draws every game and level distribution, and the aggregate where there are several games.

  Args:
    study: all runs.
    resamples: bootstrap resamples of the aggregate's intervals.

  Returns:
    The text of an SVG file: the same for the same runs.

  Raises:
    ValueError: no run has written a return yet.
  """
  draws = _panels(study, resamples=resamples)
  if not draws:
    raise ValueError("there is nothing to draw yet: no run has written a return")
  columns = min(COLUMNS, len(draws))
  rows = math.ceil(len(draws) / columns)
  keys = _legend(study)
  with matplotlib.rc_context(STYLE):
    legend_height = _ROW * (math.ceil(len(keys) / columns) + 1)
    size = (PANEL[0] * columns, PANEL[1] * rows + legend_height)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasSVG(figure)
    for place, draw in enumerate(draws, start=1):
      draw(figure.add_subplot(rows, columns, place))
    figure.legend(handles=keys, loc="outside lower center", ncols=columns, frameon=False)
  return on_white(figure)


def _panels(study: Study, *, resamples: int) -> list[Draw]:
  """What to draw, in order: the games of each level distribution, then aggregates over several."""
  draws = [
    _game(study, levels, game)
    for levels in study.levels
    for game in study.games
    if _has_returns(study, levels, game)
  ]
  aggregates = all_aggregates(study)
  for levels in study.levels:
    if any(len(scores.games) > 1 for (name, _), scores in aggregates.items() if name == levels):
      curves = aggregate_curves(study, aggregates, levels, resamples=resamples)
      draws.append(_aggregate(study, levels, curves))
  return draws


def _has_returns(study: Study, levels: str, game: str) -> bool:
  return any(
    run.evaluations or len(return_series(run, axis=AXIS))
    for cell in study.cells_of(levels=levels, game=game)
    for run in cell.runs
  )


def _game(study: Study, levels: str, game: str) -> Draw:
  return lambda axes: draw_learning(axes, study, levels, game, axis=AXIS)


def _aggregate(study: Study, levels: str, curves: Mapping[tuple[str, str], AggregateCurve]) -> Draw:
  return lambda axes: draw_aggregate(axes, study, levels, curves, axis=AXIS)


def _legend(study: Study) -> list[Line2D]:
  """A key for every agent, then for every kind of line."""
  keys = [
    Line2D([], [], color=look.colour, marker=look.marker, label=agent)
    for agent, look in looks(study.agents).items()
  ]
  ink = {"color": INK.colour, "marker": "o", "markersize": 4}
  keys += [
    Line2D([], [], color=INK.colour, label="training episodes"),
    Line2D([], [], **ink, linestyle="none", label="evaluation, training levels"),
    Line2D([], [], **ink, linestyle=DASHED, markerfacecolor=PAPER, label="full distribution"),
  ]
  places = [(levels, game) for levels in study.levels for game in study.games]
  if any(published_in_panel(study, *place) for place in places):
    star = {"color": INK.colour, "marker": INK.marker, "markersize": 9, "linestyle": "none"}
    keys.append(Line2D([], [], **star, label="published (open: full distribution)"))
  return keys
