"""How one run of a study stands, read from its directory alone, wherever it runs."""

from collections.abc import Mapping
import dataclasses
from pathlib import Path
from typing import Any

from experiments.progress import Progress, ProgressReader
from experiments.run_list import read_run_list
from experiments.run_lock import is_locked
from experiments.status_file import read_status

DAMAGED = "damaged"
FAILED = "failed"
STOPPED = "stopped"
RUNNING = "running"
INTERRUPTED = "interrupted"
WAITING = "waiting"
FINISHED = "finished"
STATES = (DAMAGED, FAILED, STOPPED, RUNNING, INTERRUPTED, WAITING, FINISHED)


@dataclasses.dataclass(frozen=True)
class Standing:
  """How a run stands.

  Attributes:
    name: of the run.
    directory: of the run.
    state: one of `STATES`.
    detail: why it failed, or what is damaged; empty where that is not known.
    progress: how far it is.
  """

  name: str
  directory: Path
  state: str
  detail: str
  progress: Progress

  def as_json(self) -> dict[str, Any]:
    """Returns everything as plain values."""
    return {
      "name": self.name,
      "directory": str(self.directory),
      "state": self.state,
      "detail": self.detail,
      **dataclasses.asdict(self.progress),
    }


def find_runs(study: Path) -> dict[str, tuple[Path, Mapping[str, Any]]]:
  """Returns name -> (directory, what the study's list says of it) of a study's runs.

  Args:
    study: a directory of runs with or without a list, or a single run's directory.

  Raises:
    UsageError: the study's list cannot be read.
  """
  if (study / "config.yaml").exists():
    return {study.name: (study, {})}
  listed = read_run_list(study)
  found = sorted(path.parent.name for path in study.glob("*/config.yaml"))
  names = [*listed, *(name for name in found if name not in listed)]
  return {name: (study / name, listed.get(name, {})) for name in names}


def read_standing(name: str, directory: Path, listed: Mapping[str, Any]) -> Standing:
  """Reads how a run stands.

  A run that says that it is running is believed where a process holds its lock: a killed
  one has left its last words behind. Where its status.json is damaged, that is its state.

  Args:
    name: of the run.
    directory: of the run; need not be there.
    listed: its entry in the study's list of runs.
  """
  progress = ProgressReader(directory).read()
  if progress.total_environment_steps is None:
    progress = dataclasses.replace(
      progress, total_environment_steps=listed.get("total_environment_steps")
    )
  status, damage = read_status(directory)
  state = DAMAGED if damage else _state(directory, status.get("state"))
  if state == FINISHED and progress.total_environment_steps is not None:
    done = max(progress.environment_steps, progress.total_environment_steps)
    progress = dataclasses.replace(progress, environment_steps=done)
  detail = status.get("error", "") if state == FAILED else damage
  return Standing(name, directory, state, detail, progress)


def _state(directory: Path, said: str | None) -> str:
  if (directory / "result.json").exists():
    return FINISHED
  if is_locked(directory / "run.lock"):
    return RUNNING
  if said in (FAILED, INTERRUPTED):
    return said
  began = said is not None or (directory / "run.lock").exists()
  return STOPPED if began or (directory / "log.txt").exists() else WAITING
