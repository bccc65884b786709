"""How the numbers came about: protocol, every run's state and command, throughput."""

from collections.abc import Callable, Mapping, Sequence
import datetime
import os
from pathlib import Path
import shlex
import statistics
from typing import Any

from environments.games import score_bounds
from experiments.config import flatten
from experiments.reporting.filters import needs_of
from experiments.reporting.markup import Markup, element, join, table, with_note
from experiments.reporting.runs import Run, is_number
from experiments.reporting.study import Study, level_distribution
from experiments.reporting.wording import (
  NOTHING,
  list_in_words,
  score_in_words,
  seconds_in_words,
  steps_in_words,
)

_STALE_SECONDS = 600.0
_MOST_VALUES = 12


def protocol_table(study: Study) -> Markup:
  """What was held fixed and what varied; a row with several values says who has which."""
  runs = [run for run in study.runs if run.is_readable]
  seeds = sorted({run.seed for run in runs if is_number(run.seed)})
  what = [
    ("Agents", ", ".join(study.agents)),
    ("Games", ", ".join(study.games)),
    ("Level distributions of training", ", ".join(study.levels)),
    ("Seeds", ", ".join(map(str, seeds)) or "not recorded"),
  ]
  how = [
    ("Environment steps", _total_steps),
    ("Environments side by side", lambda run: run.setting("environment.num_environments")),
    ("Backbone", _backbone),
    ("Evaluated on", lambda run: _evaluation(run, "levels", with_split=True)),
    ("Acting in evaluation", lambda run: _evaluation(run, "policy")),
    ("Episodes of the last evaluation", lambda run: _evaluation(run, "episodes")),
    ("Quota of episodes per environment", lambda run: _evaluation(run, "episodes_per_environment")),
    ("Seeds of the evaluations", lambda run: _evaluation(run, "seed")),
    ("Commit", _commit),
    ("Devices", lambda run: _text(run.provenance.get("devices"))),
    ("Hardware", lambda run: _text(run.provenance.get("hardware"))),
    ("Versions", lambda run: _text(run.provenance.get("versions"))),
  ]
  body = [*what, *((name, _values(study, runs, function)) for name, function in how)]
  return table("Read from the runs' own files", ("What", "Value"), body)


def bounds_table(study: Study) -> Markup | None:
  """Returns that count as 0 and 1, of every game and mode; None if no game has any."""
  modes = {
    (cell.game, distribution.mode)
    for cell in study.cells.values()
    if (distribution := level_distribution(cell.levels)) is not None
  }
  rows = []
  for game, mode in sorted(modes):
    try:
      low, high = score_bounds(game, mode, study.bounds)
    except ValueError:
      continue
    rows.append((game, mode, score_in_words(low), score_in_words(high)))
  if not rows:
    return None
  caption = f"Bounds of the normalised score, set “{study.bounds}”: (return - low) / (high - low)"
  return table(caption, ("Game", "Mode", "Low", "High"), rows, numeric_from=2)


def settings_table(study: Study) -> Markup | None:
  """Settings in which the runs differ; None if there are none."""
  runs = [run for run in study.runs if run.is_readable]
  flat = {run: flatten(run.config) for run in runs}
  names = dict.fromkeys(name for each in flat.values() for name in each)
  shown = ("agent_name", "seed", "environment.game", "environment.levels")
  rows = []
  for name in names:
    if name not in shown and len({repr(each.get(name)) for each in flat.values()}) > 1:
      rows.append(
        (element("code", name), _values(study, runs, lambda run, n=name: flat[run].get(n)))
      )
  caption = "Settings that are not the same in all runs"
  return table(caption, ("Setting", "Values"), rows) if rows else None


def run_table(study: Study, *, relative_to: Path) -> Markup:
  """Every run, whatever became of it."""
  newest = max((_updated(run) for run in study.runs), default="")
  rows = [
    (
      element("code", _path(run, relative_to)),
      study.label_of(run),
      run.levels,
      run.game,
      NOTHING if run.seed is None else run.seed,
      _state(run, newest),
      _progress(run),
      seconds_in_words(run.seconds) if run.seconds else NOTHING,
      _commit(run) or NOTHING,
    )
    for run in study.runs
  ]
  header = (
    "Run",
    "Agent",
    "Level distribution",
    "Game",
    "Seed",
    "State",
    "Steps",
    "Wall-clock",
    "Commit",
  )
  marks = [_needs(study, run) for run in study.runs]
  return table("Every run, finished or not", header, rows, needs=marks)


def commands(study: Study, *, relative_to: Path) -> Markup:
  """The command of every run, as it was given."""
  entries = []
  for run in study.runs:
    command = run.provenance.get("command")
    text = shlex.join(map(str, command)) if isinstance(command, list) else "not recorded"
    marks = _needs(study, run)
    entries.append(element("dt", element("code", _path(run, relative_to)), **marks))
    entries.append(element("dd", element("code", text), **marks))
  return element("dl", *entries, class_="commands")


def _needs(study: Study, run: Run) -> dict[str, str]:
  cell = study.cell_of(run)
  return {} if cell is None else needs_of(study, [cell])


def throughput_table(study: Study) -> Markup | None:
  """Environment steps per second of the whole loop; None without measurements."""
  rows, marks = [], []
  for cell in study.cells_of():
    speeds = [
      row["speed/steps_per_second"]
      for run in cell.runs
      for row in run.training
      if is_number(row.get("speed/steps_per_second"))
    ]
    if speeds:
      overall = sum(run.environment_steps for run in cell.runs) / max(
        sum(run.seconds for run in cell.runs), 1e-9
      )
      rows.append(
        (cell.agent, cell.levels, cell.game, f"{statistics.median(speeds):.0f}", f"{overall:.0f}")
      )
      marks.append(needs_of(study, [cell]))
  header = ("Agent", "Level distribution", "Game", "Training, median", "Evaluation included")
  caption = "Environment steps per second of wall-clock time; runs side by side share the machine"
  if not rows:
    return None
  return table(caption, header, rows, heading_columns=3, numeric_from=3, needs=marks)


def problems(study: Study, *, relative_to: Path) -> list[str]:
  """What could not be read, and errors of failed runs, in words."""
  texts = []
  for run in study.runs:
    path = _path(run, relative_to)
    texts += [f"{path}: {problem}" for problem in run.problems]
    if run.state == "failed":
      texts.append(f"{path} failed: {run.status.get('error') or 'no reason was written'}")
  return texts


def data_as_of(study: Study) -> str:
  """Time of the newest status; the page itself holds no time of its own."""
  return max((_updated(run) for run in study.runs), default="") or "unknown"


def _values(study: Study, runs: Sequence[Run], value_of: Callable[[Run], Any]) -> Markup:
  """The distinct values; where each agent has one of its own, who has which."""
  by_value: dict[str, list[str]] = {}
  for run in runs:
    value = value_of(run)
    text = "not recorded" if value is None else str(value)
    by_value.setdefault(text, []).append(study.label_of(run))
  if len(by_value) > _MOST_VALUES:
    return join([f"{len(by_value)} different values"])
  owners = [frozenset(agents) for agents in by_value.values()]
  if len(by_value) > 1 and sum(map(len, owners)) == len(frozenset().union(*owners)):
    return join(
      (f"{list_in_words(sorted(own))}: {text}" for own, text in zip(owners, by_value, strict=True)),
      Markup("<br>"),
    )
  return join(by_value, Markup("<br>") if max(map(len, by_value), default=0) > 40 else "; ")


def _evaluation(run: Run, field: str, *, with_split: bool = False) -> str | None:
  """A field of the run's last evaluations, one per split."""
  last = {row.get("split"): row for row in run.evaluations}
  texts = [
    f"{split}: {row.get(field)}" if with_split else str(row.get(field))
    for split, row in sorted(last.items(), key=lambda item: str(item[0]), reverse=True)
  ]
  return ", ".join(dict.fromkeys(texts)) or None


def _total_steps(run: Run) -> str | None:
  steps = run.total_environment_steps
  return steps_in_words(steps) if is_number(steps) else None


def _backbone(run: Run) -> str | None:
  backbone = run.setting("agent.backbone")
  return _text(backbone) if backbone else None


def _commit(run: Run) -> str | None:
  commit = run.provenance.get("commit")
  if not commit:
    return None
  return f"{str(commit)[:10]}{' with uncommitted changes' if run.provenance.get('dirty') else ''}"


def _text(value: Any) -> str | None:
  if isinstance(value, Mapping):
    return ", ".join(f"{name} {_text(each)}" for name, each in value.items())
  if isinstance(value, (list, tuple)):
    return list_in_words(value)
  return None if value is None else str(value)


def _state(run: Run, newest: str) -> object:
  if run.state == "failed":
    return with_note(element("strong", "failed"), run.status.get("error") or "no reason written")
  if run.state == "running":
    note = f"last sign of life {_updated(run)}" if _is_stale(run, newest) else _time_left(run)
    return with_note("running", note) if note else "running"
  return run.state


def _is_stale(run: Run, newest: str) -> bool:
  """Whether others have written ten minutes after this run's last word."""
  try:
    ages = [datetime.datetime.fromisoformat(text) for text in (newest, _updated(run))]
  except ValueError:
    return False
  return (ages[0] - ages[1]).total_seconds() > _STALE_SECONDS


def _time_left(run: Run) -> str:
  left = run.status.get("seconds_left")
  return f"{seconds_in_words(left)} left" if is_number(left) else ""


def _progress(run: Run) -> str:
  total = _total_steps(run)
  done = steps_in_words(run.environment_steps)
  return done if total is None or run.state == "finished" else f"{done} of {total}"


def _updated(run: Run) -> str:
  return str(run.status.get("updated") or "")


def _path(run: Run, relative_to: Path) -> str:
  return Path(os.path.relpath(run.directory, relative_to)).as_posix()
