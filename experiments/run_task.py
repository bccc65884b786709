"""One run as a task of an engine: its command, its files, how it stands."""

from pathlib import Path
import sys

from experiments.engines.interface import Task
from experiments.run_config import config_path, write_config
from experiments.run_lock import is_locked
from experiments.studies.study import RunSpec

PACKAGE_ROOT = Path(__file__).resolve().parents[1]  # `python -m experiments.train` works there


def make_task(run: RunSpec, directory: Path, *, cache: Path) -> Task:
  """Returns what it takes to make `run` a process.

  Args:
    run: which.
    directory: of the run; its config.yaml is written when the process starts.
    cache: of compiled functions, shared by the runs of a comparison.
  """
  own = directory.absolute()
  config = config_path(own)

  def prepare() -> None:
    own.mkdir(parents=True, exist_ok=True)
    if not config.exists():
      write_config(run.config, own)

  command = (sys.executable, "-m", "experiments.train", "--config", str(config), "--out", str(own))
  return Task(
    name=run.name,
    command=command,
    directory=PACKAGE_ROOT,
    environment={"PYTHONUNBUFFERED": "1", "JAX_COMPILATION_CACHE_DIR": str(cache.absolute())},
    log=own / "log.txt",
    prepare=prepare,
    is_finished=(own / "result.json").exists,
    is_elsewhere=lambda: is_locked(own / "run.lock"),
    progress=lambda: _last_checkpoint(own / "checkpoints"),
  )


def _last_checkpoint(directory: Path) -> int:
  """Returns the environment steps of a run's latest checkpoint, 0 if it has none."""
  steps = [int(path.stem) for path in directory.glob("manifests/*.json") if path.stem.isdigit()]
  return max(steps, default=0)
