"""Reads what runs leave behind, whatever state they are in.

A run may be queued, going on, killed in the middle of a line, failed or finished.
What cannot be read is named in `Run.problems`, never dropped without a word.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import yaml

from experiments.studies.record import StudyRecord, read_record

STATES = ("finished", "running", "interrupted", "failed", "not started", "unknown")


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
  """One run directory.

  Attributes:
    directory: where it is.
    config: content of config.yaml, nested; empty where there is none yet.
    provenance: content of run.json; empty where there is none yet.
    status: content of status.json; empty where there is none yet.
    result: content of result.json; None until the run has finished.
    training: rows of kind training, by increasing environment steps.
    evaluations: rows of kind evaluation, by increasing environment steps.
    problems: what could not be read, in words.
    study: content of study.json beside the run directory; None where there is none.
  """

  directory: Path
  config: Mapping[str, Any]
  provenance: Mapping[str, Any]
  status: Mapping[str, Any]
  result: Mapping[str, Any] | None
  training: tuple[Mapping[str, Any], ...]
  evaluations: tuple[Mapping[str, Any], ...]
  problems: tuple[str, ...]
  study: StudyRecord | None = None

  @property
  def label(self) -> str:
    """What the study that it belongs to calls its agent; the agent's name without one."""
    labels = {} if self.study is None else self.study.labels
    return labels.get(self.directory.name, self.agent)

  @property
  def agent(self) -> str:
    """Registered name of the agent; `?` where the config does not say."""
    return str(self.config.get("agent_name") or self.setting("agent.name") or "?")

  @property
  def game(self) -> str:
    """The game; `?` where the config does not say."""
    return str(self.setting("environment.game") or "?")

  @property
  def levels(self) -> str:
    """Name of the level distribution of training; `?` where the config does not say."""
    return str(self.setting("environment.levels") or "?")

  @property
  def seed(self) -> int | None:
    """The run's seed."""
    return self.config.get("seed")

  @property
  def total_environment_steps(self) -> int | None:
    """Environment steps that were asked for."""
    return self.setting("training.total_environment_steps")

  @property
  def is_readable(self) -> bool:
    """Whether it is known what the run is: without that, it is in no figure."""
    return "?" not in (self.agent, self.game, self.levels)

  @property
  def state(self) -> str:
    """One of `STATES`; a run has finished when its result.json is there."""
    if self.result is not None:
      return "finished"
    if not self.config and not self.status:
      return "not started"
    state = self.status.get("state", "unknown")
    # A last status line without the result: the process ended between the two.
    return state if state in STATES and state != "finished" else "unknown"

  @property
  def environment_steps(self) -> int:
    """Environment steps done so far."""
    rows = [*self.training, *self.evaluations, self.status, self.result or {}]
    return max(int(row.get("environment_steps") or 0) for row in rows)

  @property
  def seconds(self) -> float:
    """Wall-clock seconds so far, over all resumes."""
    rows = [*self.training, *self.evaluations, self.status, self.result or {}]
    return max(float(row.get("seconds") or 0.0) for row in rows)

  def setting(self, name: str) -> Any:
    """The config's value under a dotted name, or None."""
    value: Any = self.config
    for part in name.split("."):
      value = value.get(part) if isinstance(value, Mapping) else None
    return value

  def evaluations_of(self, split: str, policy: str) -> list[Mapping[str, Any]]:
    """The evaluations of one split and policy, by increasing environment steps."""
    return [r for r in self.evaluations if (r.get("split"), r.get("policy")) == (split, policy)]

  def until(self, environment_steps: int) -> "Run":
    """The run as if it had come to these environment steps and no further.

    Its state stays, but for a failure after them: until then it was running.
    """

    def cut(rows: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
      return tuple(row for row in rows if row["environment_steps"] <= environment_steps)

    def capped(content: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
      steps = int((content or {}).get("environment_steps") or 0)
      if steps <= environment_steps:
        return content
      before = {"state": "running"} if content.get("state") == "failed" else {}
      return {**content, **before, "environment_steps": environment_steps}

    return dataclasses.replace(
      self,
      status=capped(self.status),
      result=capped(self.result),
      training=cut(self.training),
      evaluations=cut(self.evaluations),
    )


def read_run(directory: Path | str) -> Run:
  """Reads one run directory; what is missing or damaged ends up in `problems`."""
  directory = Path(directory)
  problems: list[str] = []
  result = _read_json(directory / "result.json", problems)
  rows = _read_lines(directory / "metrics.jsonl", problems)
  final = [] if result is None else _final_evaluations(result)
  evaluations = [*(row for row in rows if row.get("kind") == "evaluation"), *final]
  run = Run(
    directory=directory,
    config=_read_yaml(directory / "config.yaml", problems),
    provenance=_read_json(directory / "run.json", problems) or {},
    status=_read_json(directory / "status.json", problems) or {},
    result=result,
    training=_by_steps((row for row in rows if row.get("kind") == "training"), ()),
    evaluations=_by_steps(
      (row for row in evaluations if is_number(row.get("episode_return"))), ("split", "policy")
    ),
    problems=tuple(problems),
    study=read_record(directory.absolute().parent),
  )
  if run.is_readable or run.state == "not started":
    return run
  missing = "config.yaml does not say agent_name, environment.game and environment.levels"
  return dataclasses.replace(run, problems=(*run.problems, missing))


def find_run_directories(paths: Iterable[Path | str]) -> list[Path]:
  """Run directories among and directly below `paths`, sorted within each path.

  A path that holds neither a run nor runs is returned as it is: a run that has
  not started yet.
  """
  found: list[Path] = []
  for path in map(Path, paths):
    below = [] if _is_run(path) else sorted(p.parent for p in path.rglob("config.yaml"))
    found.extend(below or [path])
  return list(dict.fromkeys(found))


def _is_run(path: Path) -> bool:
  return any((path / name).exists() for name in ("config.yaml", "status.json", "metrics.jsonl"))


def _read_yaml(path: Path, problems: list[str]) -> dict[str, Any]:
  try:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
  except FileNotFoundError:
    return {}
  except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
    problems.append(f"{path.name} cannot be read: {_one_line(error)}")
    return {}
  if not isinstance(content, dict):
    problems.append(f"{path.name} holds no mapping")
    return {}
  return content


def _read_json(path: Path, problems: list[str]) -> dict[str, Any] | None:
  try:
    content = json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError:
    return None
  except (OSError, ValueError) as error:
    problems.append(f"{path.name} cannot be read: {_one_line(error)}")
    return None
  if not isinstance(content, dict):
    problems.append(f"{path.name} holds no mapping")
    return None
  return content


def _read_lines(path: Path, problems: list[str]) -> list[dict[str, Any]]:
  """Rows of a metrics file; a half-written last line is what a run in progress looks like."""
  try:
    lines = path.read_bytes().split(b"\n")
  except FileNotFoundError:
    return []
  except OSError as error:
    problems.append(f"{path.name} cannot be read: {_one_line(error)}")
    return []
  rows, damaged = [], []
  for number, line in enumerate(lines, start=1):
    row = _parse_row(line)
    if row is not None:
      rows.append(row)
    elif line.strip() and number < len(lines):
      damaged.append(number)
  if damaged:
    shown = ", ".join(map(str, damaged[:5])) + (", …" if len(damaged) > 5 else "")
    problems.append(f"{path.name}: {len(damaged)} damaged line(s) left out: {shown}")
  return rows


def _parse_row(line: bytes) -> dict[str, Any] | None:
  try:
    row = json.loads(line)
  except ValueError:
    return None
  is_row = isinstance(row, dict) and is_number(row.get("environment_steps"))
  return row if is_row else None


def _final_evaluations(result: Mapping[str, Any]) -> list[dict[str, Any]]:
  """The final evaluation rows, with the steps and seconds of the result."""
  common = {name: result.get(name, 0) for name in ("environment_steps", "seconds")}
  return [{**common, **row} for row in result.get("evaluations", [])]


def _by_steps(
  rows: Iterable[Mapping[str, Any]], keys: Sequence[str]
) -> tuple[Mapping[str, Any], ...]:
  """Rows by increasing steps; of several at the same steps and keys, the last one."""
  latest = {(row["environment_steps"], *(row.get(key) for key in keys)): row for row in rows}
  return tuple(sorted(latest.values(), key=lambda row: row["environment_steps"]))


def is_number(value: Any) -> bool:
  """Whether a value read from a file is a finite number."""
  return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _one_line(error: Exception) -> str:
  return " ".join(str(error).split())[:200]
