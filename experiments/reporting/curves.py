"""Learning curves: one panel per game and level distribution."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from experiments.reporting.filters import needs
from experiments.reporting.markup import Markup, element, escape, join
from experiments.reporting.published import PublishedScore, published_curve, step_tolerance
from experiments.reporting.runs import Run
from experiments.reporting.series import (
  Series,
  evaluation_series,
  mean_series,
  return_series,
  thin,
)
from experiments.reporting.study import SPLITS, Cell, Study
from experiments.reporting.svg import DASHED, INK, PAPER, Look, drawing, inline, looks, marked
from experiments.reporting.wording import score_in_words, slug, steps_in_words

PANEL = (3.7, 2.7)  # inches


def learning_panel(study: Study, levels: str, game: str, *, axis: str) -> Markup | None:
  """Return against steps or wall-clock of every agent on one game and level distribution.

  Solid: training episodes. Dashed with open markers: evaluations on the full
  distribution. Filled markers: evaluations on the training levels. Thick lines
  are means over runs, thin ones single runs, a cross the end of a failed run.

  Args:
    study: all runs.
    levels: name of the level distribution of training.
    game: the game.
    axis: `environment_steps` or `seconds`.

  Returns:
    None where there is nothing to draw yet.
  """
  with drawing(*PANEL) as (figure, axes):
    unit = draw_learning(axes, study, levels, game, axis=axis)
    if unit is None:
      return None
    cells = study.cells_of(levels=levels, game=game)
    label = f"Mean episode return against {unit}, {game}, {levels}. {scores_in_words(cells)}"
    return inline(figure, identifier=slug("curve", levels, game, axis), label=label)


def draw_learning(axes: Axes, study: Study, levels: str, game: str, *, axis: str) -> str | None:
  """Draws what `learning_panel` shows into axes; returns the unit of x, None without data."""
  look = looks(study.agents)
  for cell in study.cells_of(levels=levels, game=game):
    with marked(axes, needs(study, agents=[cell.agent])):
      _draw_cell(axes, cell, look[cell.agent], axis=axis)
  if not axes.lines:
    return None
  if axis == "environment_steps":
    _draw_published(axes, study, levels, game)
  unit = format_axis(axes, axis)
  axes.set(title=f"{game}, {levels}", xlabel=unit, ylabel="mean episode return")
  return unit


def _draw_cell(axes: Axes, cell: Cell, look: Look, *, axis: str) -> None:
  for run in cell.runs:
    _draw_run(axes, run, cell, look=look, axis=axis)
  train = [evaluation_series(run, "train", policy=cell.policy, axis=axis) for run in cell.used]
  test = [evaluation_series(run, "test", policy=cell.policy, axis=axis) for run in cell.used]
  training = mean_series([return_series(run, axis=axis) for run in cell.used])
  style = {"color": look.colour, "marker": look.marker, "markersize": 4, "linewidth": 1.8}
  _draw(axes, training, color=look.colour, linewidth=1.8)
  _draw(axes, mean_series(train), **{**style, "linestyle": "none" if len(training) else "-"})
  _draw(axes, mean_series(test), **style, linestyle=DASHED, markerfacecolor=PAPER)


def _draw_run(axes: Axes, run: Run, cell: Cell, *, look: Look, axis: str) -> None:
  """One run's training and test curve, thin."""
  training = return_series(run, axis=axis)
  test = evaluation_series(run, "test", policy=cell.policy, axis=axis)
  is_alone = cell.used == (run,)
  if not is_alone:
    thin_style = {"color": look.colour, "linewidth": 0.7, "alpha": 0.55}
    _draw(axes, training, **thin_style)
    _draw(axes, test, **thin_style, linestyle=DASHED)
  ends = training if len(training) else test
  if run.state == "failed" and len(ends):
    axes.plot(ends.x[-1:], ends.y[-1:], color=look.colour, marker="x", markersize=7, linestyle="")


def _draw(axes: Axes, series: Series, **style) -> None:
  if len(series):
    series = thin(series)
    axes.plot(series.x, series.y, **style)


def _draw_published(axes: Axes, study: Study, levels: str, game: str) -> None:
  """Published scores as stars, at the steps that they were published at."""
  for score in published_in_panel(study, levels, game):
    axes.errorbar(
      score.environment_steps,
      score.mean,
      yerr=score.std,
      color=INK.colour,
      marker=INK.marker,
      markersize=9,
      markerfacecolor=PAPER if score.split == "test" else INK.colour,
      markeredgewidth=0.9,
      elinewidth=0.8,
      linestyle="none",
      zorder=5,
    )
    if score.split == "test":
      _name_star(axes, score)


def published_in_panel(study: Study, levels: str, game: str) -> list[PublishedScore]:
  """Published scores of PPO and of the study's agents, as far as the panel's runs have come."""
  runs = [run for cell in study.cells_of(levels=levels, game=game) for run in cell.runs]
  last = max((run.environment_steps for run in runs), default=0)
  agents = {"ppo"} | {cell.agent_name for cell in study.cells.values()}
  return [
    score
    for split in SPLITS
    for score in published_curve(levels, split=split, game=game)
    if score.agent in agents and score.environment_steps <= (1 + step_tolerance()) * last
  ]


def _name_star(axes: Axes, score: PublishedScore) -> None:
  """The agent's name below the star of its test score."""
  axes.annotate(
    score.agent.upper(),
    (score.environment_steps, score.mean),
    xytext=(-6, -6),
    textcoords="offset points",
    ha="right",
    fontsize=7,
  )


def format_axis(axes: Axes, axis: str) -> str:
  """Ticks of an x axis of environment steps or seconds; returns its name with the unit."""
  if axis == "environment_steps":
    return format_steps(axes)
  last = _begin_at_zero(axes)
  unit, size = ("hours", 3600.0) if last > 2 * 3600 else ("minutes", 60.0)
  ticks = [tick for tick in MaxNLocator(5).tick_values(0, last / size) if 0 <= tick * size <= last]
  axes.set_xticks([tick * size for tick in ticks], [f"{tick:g}" for tick in ticks])
  return f"{unit} of wall-clock time"


def format_steps(axes: Axes) -> str:
  """Ticks of an axis of environment steps; returns its name."""
  _begin_at_zero(axes)
  axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
  axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: steps_in_words(x)))
  return "environment steps"


def _begin_at_zero(axes: Axes) -> float:
  """Shows x from 0 to the last point, with room for markers; returns it."""
  last = max((float(line.get_xdata()[-1]) for line in axes.lines), default=0.0)
  right = last if last > 0 else 1.0
  axes.set_xlim(-0.02 * right, 1.03 * right)
  return right


def scores_in_words(cells: Sequence[Cell]) -> str:
  """The last scores of every agent in words."""
  texts = [text for cell in cells if (text := _score_in_words(cell))]
  return " ".join(texts) or "No evaluation on both splits yet."


def scores_caption(study: Study, cells: Sequence[Cell]) -> Markup:
  """The same as the caption of a panel, hidden with its agents."""
  texts = {cell.agent: text for cell in cells if (text := _score_in_words(cell))}
  parts = [element("span", text, **needs(study, agents=[a])) for a, text in texts.items()]
  return join(parts, " ") or escape("No evaluation on both splits yet.")


def _score_in_words(cell: Cell) -> str:
  pair = cell.last_pair()
  if pair is None:
    return ""
  train, test = (score_in_words(scores.mean) for scores in pair)
  at = steps_in_words(pair[0].environment_steps)
  return f"{cell.agent} at {at}: {train} on training levels, {test} on the full distribution."
