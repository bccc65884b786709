"""runs.json: which runs a study's directory is about, the ones that have not begun included."""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
from typing import Any

from experiments.errors import UsageError
from experiments.json_fields import find_wrong, is_count, shown
from experiments.studies.study import RunSpec
from training.json_file import write_json

RUN_LIST = "runs.json"


def write_run_list(runs: Sequence[RunSpec], directory: Path) -> None:
  """Says in `directory` which runs were asked for last; a reader sees the old or new list."""
  listed = {
    run.name: {
      "agent": run.agent,
      "game": run.config.environment.game,
      "levels": run.config.environment.levels,
      "seed": run.config.seed,
      "total_environment_steps": run.config.training.total_environment_steps,
    }
    for run in runs
  }
  write_json(directory / RUN_LIST, {"runs": listed})


def read_run_list(directory: Path) -> Mapping[str, Mapping[str, Any]]:
  """Returns what `write_run_list` wrote; empty where there is no list.

  Raises:
    UsageError: there is one, and it cannot be read or is damaged; says where.
  """
  path = directory / RUN_LIST
  try:
    content = json.loads(path.read_text())
  except FileNotFoundError:
    return {}
  except (OSError, ValueError, RecursionError) as error:
    raise UsageError(f"{path} is no list of runs: {error}") from None
  wrong = _find_wrong(content)
  if wrong:
    raise UsageError(f"{path} is no list of runs: {wrong}")
  return content["runs"]


def _find_wrong(content: Any) -> str | None:
  """Returns what is wrong with a list of runs; None where nothing is."""
  if not isinstance(content, dict) or "runs" not in content:
    return f"must be an object with a field runs, got {shown(content)}"
  if not isinstance(content["runs"], dict):
    return f"runs must be an object of runs by name, got {shown(content['runs'])}"
  for name, listed in content["runs"].items():
    if not name or not name.isprintable():
      return f"runs: a name must be one or more printable characters, got {shown(name)}"
    if not isinstance(listed, dict):
      return f"runs.{name} must be an object, got {shown(listed)}"
    wrong = find_wrong(listed, {"total_environment_steps": is_count})
    if wrong:
      return f"runs.{name}.{wrong}"
  return None
