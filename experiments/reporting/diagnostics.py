"""What is inside the agents: losses, what a world model has learnt, calibration, throughput.

Every quantity of the training rows has a panel, one line a run, against environment steps.
"""

from collections.abc import Callable, Sequence
from types import MappingProxyType

from experiments.reporting import protocol
from experiments.reporting.curves import PANEL, format_axis
from experiments.reporting.filters import needs_of
from experiments.reporting.legends import colours
from experiments.reporting.markup import Markup, element, figure, paragraph
from experiments.reporting.runs import Run
from experiments.reporting.sections import Section
from experiments.reporting.series import (
  RETURN,
  Series,
  evaluation_quantity,
  thin,
  training_series,
)
from experiments.reporting.study import SPLITS, Cell, Study
from experiments.reporting.svg import drawing, inline, looks, marked
from experiments.reporting.wording import slug

_SPEED = "speed/"
_FEW_POINTS = 20  # of a line whose points are marked
_EXPLAINED, _LOWEST_EXPLAINED = "explained_variance", -1.0  # far below, of targets that hardly vary

# What says first whether a world model holds something to plan with.
_PLANNING = MappingProxyType(
  {
    "model/reward_predicted_rewarding": "Reward predicted for steps that gave one; near 0, the"
    " model knows of no reward, and there is nothing to plan for.",
    "model/value_explained_variance": "Explained variance of the value targets; near 0, values"
    " say nothing.",
    "model/search_kl": "KL from the prior to the search policy; near 0, search adds nothing.",
    "model/prior_entropy": "Entropy of the prior; falling while the others stay near 0, the"
    " policy sharpens on noise.",
    "model/target_entropy": "Entropy of the search policy, which the prior is trained towards.",
  }
)
_WHERE = MappingProxyType({"train": "training levels", "test": "all levels"})
_PHASES = MappingProxyType({"training": "Training episodes"})
_CALIBRATION = MappingProxyType(
  {
    "value_bias": "Predicted value minus the discounted return that came, mean over the states"
    " of the evaluation's episodes; above 0, values are too high.",
    "value_explained_variance": "Explained variance of those returns by the predicted values.",
  }
)


def planning_section(study: Study) -> Section:
  """What a world model has learnt, for agents that have one; left out without any."""
  heading, anchor = "What the world model knows", "planning"
  panels = []
  for name, meaning in _PLANNING.items():
    panels += _panels(study, name, meaning, series_of=_of_training(name))
  for name, meaning in _CALIBRATION.items() if panels else ():
    for split in SPLITS:
      title = f"{name}, {_WHERE[split]}"
      panels += _panels(study, title, meaning, series_of=_of_evaluations(name, split))
  if not panels:
    return heading, anchor, []
  note = paragraph("One line a run, in the colour of its agent.", class_="note")
  return heading, anchor, [colours(study), note, element("div", *panels, class_="panels")]


def throughput_section(study: Study) -> Section:
  """Steps per second over the runs, and where the time went."""
  heading, anchor = "Throughput", "throughput"
  table = protocol.throughput_table(study)
  if table is None:
    return heading, anchor, []
  names = sorted(_quantities(study, lambda name: name.startswith(_SPEED)))
  names.sort(key=lambda name: name != "speed/steps_per_second")
  note = paragraph(
    "Since the row before, evaluations left out. Shares are of the loop's time. Runs side by"
    " side share the machine's cores, and machines differ: compare with care.",
    class_="note",
  )
  return heading, anchor, [table, colours(study), note, _grid(study, names)]


def diagnostics_section(study: Study) -> Section:
  """Every other quantity of the training rows, one panel each."""
  heading, anchor = "Losses and diagnostics", "diagnostics"
  elsewhere = (RETURN, *_PLANNING)
  names = _quantities(
    study, lambda name: "/" in name and name not in elsewhere and not name.startswith(_SPEED)
  )
  content: list[object] = []
  for phase in dict.fromkeys(name.partition("/")[0] for name in sorted(names)):
    grid = _grid(study, [name for name in names if name.startswith(f"{phase}/")])
    content += [element("h3", _PHASES.get(phase, f"Phase “{phase}”")), grid] if grid else []
  if not content:
    return heading, anchor, []
  note = paragraph("One line a run, in the colour of its agent.", class_="note")
  return heading, anchor, [colours(study), note, *content]


def _quantities(study: Study, wanted: Callable[[str], bool]) -> list[str]:
  names = {name for run in study.runs for row in run.training for name in row}
  return sorted(filter(wanted, names))


def _grid(study: Study, names: Sequence[str]) -> Markup:
  """The panels of these quantities; empty where none has a number."""
  panels: list[Markup] = []
  for name in names:
    panels += _panels(study, name, "", series_of=_of_training(name))
  return element("div", *panels, class_="panels") if panels else Markup()


def _of_training(name: str) -> Callable[[Run, Cell], Series]:
  return lambda run, _: training_series(run, name, axis="environment_steps")


def _of_evaluations(name: str, split: str) -> Callable[[Run, Cell], Series]:
  return lambda run, cell: evaluation_quantity(run, name, split=split, policy=cell.policy)


def _panels(
  study: Study, title: str, meaning: str, *, series_of: Callable[[Run, Cell], Series]
) -> list[Markup]:
  """One panel, or none where no run has a number."""
  look = looks(study.agents)
  shown = []
  with drawing(PANEL[0], 2.2) as (drawn, axes):
    for cell in study.cells_of():
      with marked(axes, needs_of(study, [cell])):
        for run in cell.runs:
          series = thin(series_of(run, cell))
          if len(series):
            style = {"marker": "o", "markersize": 2.5} if len(series) <= _FEW_POINTS else {}
            style["color"] = look[cell.agent].colour
            axes.plot(series.x, series.y, linewidth=0.9, alpha=0.7, **style)
            shown.append(cell)
    if not shown:
      return []
    unit = format_axis(axes, "environment_steps")
    axes.set(title=title, xlabel=unit)
    if _EXPLAINED in title and axes.get_ylim()[0] < _LOWEST_EXPLAINED:
      axes.set_ylim(_LOWEST_EXPLAINED, 1.05)
      meaning = f"{meaning} The axis ends at {_LOWEST_EXPLAINED:g}, below which there are values."
    label = f"{title} of every run against {unit}. {meaning}".strip()
    picture = inline(drawn, identifier=slug("diagnostic", title), label=label)
  marks = needs_of(study, shown)
  meaning = meaning.strip()
  return [figure(picture, meaning, **marks) if meaning else element("figure", picture, **marks)]
