"""The numbers along the axes of interval figures: apart from one another, and short."""

import itertools

import pytest
from synthetic_study import write_study

from experiments.reporting import figures
from experiments.reporting.runs import read_run
from experiments.reporting.statistics import Estimate
from experiments.reporting.study import make_study

AGENTS = ("muzero+reconstruction", "ppo")  # a long name leaves the axis little width


@pytest.fixture
def study(tmp_path):
  runs = write_study(tmp_path, agents=AGENTS, games=("coinrun",), seeds=1)
  return make_study(map(read_run, runs), bounds="train-procgen")


@pytest.fixture
def drawn(monkeypatch):
  """The figures that panels make, instead of their SVG."""
  made = []
  monkeypatch.setattr(figures, "inline", lambda figure, **_: made.append(figure))
  return made


def numbers(figure):
  """The visible numbers along x, from left to right, and the points between their boxes."""
  figure.draw_without_rendering()
  (axes,) = figure.axes
  low, high = axes.get_xlim()
  labels = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
  shown = [label for x, label in labels if low <= x <= high]
  boxes = [label.get_window_extent() for label in shown]
  gaps = [(b.x0 - a.x1) * 72 / figure.dpi for a, b in itertools.pairwise(boxes)]
  assert axes.xaxis.get_offset_text().get_text() == ""
  return [label.get_text() for label in shown], gaps


@pytest.mark.parametrize(
  ("first", "apart", "width"),
  [
    (-0.012, 1.2e-3, 1e-3),
    (0.3412, 4e-5, 2e-4),
    (0.1234, 4e-7, 0.0),
    (0.25, 0.0, 0.0),
    (0.1, 0.1, 0),
  ],
  ids=["below 0", "close", "closer", "equal", "far"],
)
def test_numbers_of_an_interval_figure_stand_apart(study, drawn, first, apart, width):
  rows = list(itertools.product(AGENTS, ("train", "test")))
  values = [first + apart * place for place in range(len(rows))]
  estimates = [Estimate(value, (value - width, value + width)) for value in values]
  figures.interval_panel(study, "easy-200", "IQM", dict(zip(rows, estimates, strict=True)))
  texts, gaps = numbers(drawn[0])
  assert min(gaps, default=3) >= 3
  assert texts
  assert max(map(len, texts)) <= len("-0.0125")
  assert len(set(texts)) == len(texts)


def test_a_wide_range_keeps_its_numbers(study, drawn):
  rows = {("ppo", "train"): Estimate(0.05, None), ("ppo", "test"): Estimate(0.95, None)}
  figures.interval_panel(study, "easy-200", "IQM", rows)
  assert numbers(drawn[0])[0] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]


def test_numbers_of_the_other_figures_stand_apart_too(study, drawn):
  figures.improvement_panel(study, "easy-200", {AGENTS: Estimate(0.5, (0.2, 0.9))})
  figures.gap_panel(study, "easy-200")
  for figure in drawn:
    texts, gaps = numbers(figure)
    assert min(gaps, default=3) >= 3
    assert len(texts) > 1
