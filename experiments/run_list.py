"""runs.json: which runs a study's directory is about, the ones that have not begun included."""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
from typing import Any

from experiments.errors import UsageError
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
    UsageError: there is one, and it cannot be read.
  """
  path = directory / RUN_LIST
  try:
    return dict(json.loads(path.read_text())["runs"])
  except FileNotFoundError:
    return {}
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UsageError(f"{path} is no list of runs ({error!r})") from None
