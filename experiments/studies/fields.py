"""A study over any field: every agent becomes several, one for each value."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import itertools
import re

from experiments.config import ExperimentConfig, flatten, to_mapping
from experiments.errors import UsageError, unknown
from experiments.studies.study import Study, check_contrasts
from networks.config import BACKBONES

BACKBONE = "agent.backbone"  # takes the names of whole backbones

# (label, config, `--field value ...`) -> config
Override = Callable[[str, ExperimentConfig, Sequence[str]], ExperimentConfig]


@dataclasses.dataclass(frozen=True)
class Axis:
  """A field and the values that it takes.

  Attributes:
    field: dotted name.
    values: as written on a command line; the parts of a tuple stand apart by spaces.
  """

  field: str
  values: tuple[str, ...]


def parse_axis(text: str) -> Axis:
  """Parses `field=value,value`.

  Raises:
    UsageError: it has another form.
  """
  field, _, values = text.removeprefix("--").partition("=")
  axis = Axis(field.strip(), tuple(each.strip() for each in values.split(",")))
  if not (axis.field and all(axis.values)) or any("--" in each for each in axis.values):
    raise UsageError(f"--set takes FIELD=VALUE,VALUE, got {text!r}")
  return axis


def vary(study: Study, axes: Sequence[Axis], *, override: Override) -> Study:
  """Returns `study` with every agent multiplied by the values of all axes.

  Args:
    study: its agents get labels that say the values, `ppo+epochs=1`.
    axes: a field of all the agents each.
    override: sets fields as on a command line.

  Raises:
    UsageError: an axis is there twice, an agent has no such field, a value is wrong, two
      values are the same, or agents are compared for a field that is set.
  """
  fields = [axis.field for axis in axes]
  twice = sorted({field for field in fields if fields.count(field) > 1})
  if twice:
    raise UsageError(f"--set names {', '.join(twice)} more than once; join values by commas")
  if not axes:
    return study
  names = [_short_name(field, fields) for field in fields]
  agents: dict[str, ExperimentConfig] = {}
  labels: dict[tuple[str, tuple[str, ...]], str] = {}
  points = list(itertools.product(*(axis.values for axis in axes)))
  changed = {
    point: _set_on_all(study, dict(zip(fields, point, strict=True)), override=override)
    for point in points
  }
  for label, point in itertools.product(study.agents, points):
    config = changed[point][label]
    axes_here = zip(names, fields, point, strict=True)
    said = "".join(f"+{name}={_said(config, f, written)}" for name, f, written in axes_here)
    if label + said in agents:
      raise UsageError(f"--set names {said[1:]} more than once")
    agents[label + said] = config
    labels[label, point] = label + said
  return dataclasses.replace(
    study,
    agents=agents,
    steps_per_second={},
    contrasts=tuple(
      dataclasses.replace(each, before=labels[each.before, point], after=labels[each.after, point])
      for each in study.contrasts
      for point in points
      if each.before in study.agents and each.after in study.agents
    ),
    figures={
      title: tuple(labels[x, p] for x in shown if x in study.agents for p in points)
      for title, shown in study.figures.items()
    },
  )


def _set_on_all(
  study: Study, values: Mapping[str, str], *, override: Override
) -> dict[str, ExperimentConfig]:
  """Returns the study's agents, by its own labels, with the same values of the same fields."""
  agents = {
    label: _set(label, config, values, override=override) for label, config in study.agents.items()
  }
  check_contrasts(study, agents)
  return agents


def _set(
  label: str, config: ExperimentConfig, values: Mapping[str, str], *, override: Override
) -> ExperimentConfig:
  """Sets all fields at once: one alone may not be valid with the others as they were."""
  if BACKBONE in values:
    config = _with_backbone(label, config, values[BACKBONE])
  arguments = [
    part
    for field, value in values.items()
    if field != BACKBONE
    for part in (f"--{field}", *value.split())
  ]
  return override(label, config, arguments)


def _with_backbone(label: str, config: ExperimentConfig, name: str) -> ExperimentConfig:
  if name not in BACKBONES:
    raise unknown("backbone", name, BACKBONES)
  try:
    agent = dataclasses.replace(config.agent, backbone=BACKBONES[name]())
    return dataclasses.replace(config, agent=agent)
  except ValueError as error:
    raise UsageError(f"agent {label}: {error}") from None


def _said(config: ExperimentConfig, field: str, written: str) -> str:
  """Returns a field's value in characters that every file system takes."""
  if field == BACKBONE:
    return written
  value = flatten(to_mapping(config))[field.replace("-", "_")]
  text = "-".join(map(str, value)) if isinstance(value, list) else str(value)
  return re.sub(r"[^A-Za-z0-9._+-]+", "-", text)


def _short_name(field: str, fields: Sequence[str]) -> str:
  """Returns the last part of a field's name, or all of it where another ends in the same."""
  last = field.rpartition(".")[2]
  return last if sum(each.rpartition(".")[2] == last for each in fields) == 1 else field
