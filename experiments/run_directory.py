"""The record of a run's starts in its directory: code, command, versions, machine."""

from collections.abc import Sequence
import datetime
import importlib.metadata
import json
import os
from pathlib import Path
import platform
import subprocess
import sys
from typing import Any

import jax

from experiments import machine
from training.json_file import write_json

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "mctx", "numpy", "procgen-mirror")


def record_run(directory: Path, command: Sequence[str]) -> None:
  """Writes run.json; the starts of a resumed run are kept, a damaged file is set aside."""
  path = directory / "run.json"
  starts = _read_starts(path)
  commit, dirty = _git_commit()
  now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
  start = {"time": now, "commit": commit, "dirty": dirty, "process": os.getpid()}
  content = {
    "commit": commit,
    "dirty": dirty,
    "command": list(command),
    "versions": {name: _version(name) for name in PACKAGES} | {"python": platform.python_version()},
    "devices": [str(device) for device in jax.devices()],
    "hardware": {
      "machine": platform.machine(),
      "processor": machine.processor(),
      "cores": machine.usable_cores(),
    },
    "started": starts[0]["time"] if starts else now,
    "starts": [*starts, start],
  }
  write_json(path, content)


def _read_starts(path: Path) -> list[dict[str, Any]]:
  try:
    starts = json.loads(path.read_text())["starts"]
    return [{"time": each["time"], **each} for each in starts]
  except FileNotFoundError:
    return []
  except (ValueError, KeyError, TypeError) as error:
    aside = path.with_name(f"{path.name}.damaged")
    os.replace(path, aside)
    print(f"{path} cannot be read ({error!r}); it is now {aside}", file=sys.stderr)
    return []


def _git_commit() -> tuple[str | None, bool | None]:
  """Returns the commit of this code and whether it was changed, or None outside git."""
  root = Path(__file__).resolve().parent

  def git(*arguments):
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()

  try:
    return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
  except (OSError, subprocess.CalledProcessError):
    return None, None


def _version(package: str) -> str | None:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None
