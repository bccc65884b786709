"""What a run writes while it goes: metrics, episodes, status, TensorBoard events."""

from collections.abc import Mapping
import datetime
import json
import math
import os
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from training.episodes import Episode


def write_json(path: Path, content: Mapping[str, Any]) -> None:
  """Replaces a JSON file as a whole: a reader sees the old or the new one."""
  temporary = path.with_name(path.name + ".partial")
  temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
  os.replace(temporary, path)


class JsonLines:
  """A file of one JSON object a line, that can be cut back to a checkpoint."""

  def __init__(self, path: Path):
    self._file = path.open("ab")

  def write(self, row: Mapping[str, Any]) -> None:
    """Appends one row."""
    self._file.write(json.dumps(row, allow_nan=False).encode() + b"\n")
    self._file.flush()

  def position(self) -> int:
    """Returns the length in bytes, after making it durable."""
    self._file.flush()
    os.fsync(self._file.fileno())
    return self._file.tell()

  def cut_back(self, position: int) -> None:
    """Drops what was written after `position`.

    Raises:
      ValueError: the file is shorter than that, so rows are missing.
    """
    size = os.fstat(self._file.fileno()).st_size
    if size < position:
      raise ValueError(
        f"{self._file.name} has {size} bytes, its checkpoint was made at {position}: "
        "rows are missing"
      )
    self._file.truncate(position)
    self._file.seek(position)

  def close(self) -> None:
    """Closes the file."""
    self._file.close()


class MetricsWriter:
  """The files of one run directory that grow."""

  def __init__(self, directory: Path):
    self._directory = directory
    self._metrics = JsonLines(directory / "metrics.jsonl")
    self._episodes = JsonLines(directory / "episodes.jsonl")
    self._events: SummaryWriter | None = None

  def start(self, *, environment_steps: int) -> None:
    """Opens the TensorBoard events; later ones of an interrupted run are hidden."""
    self._events = SummaryWriter(
      str(self._directory / "tensorboard"), purge_step=environment_steps + 1
    )

  def write(self, kind: str, row: Mapping[str, Any], *, environment_steps: int, seconds: float):
    """Writes one row, of `kind` training or evaluation."""
    self._metrics.write(
      {
        "kind": kind,
        "environment_steps": environment_steps,
        "seconds": round(seconds, 3),
        **row,
      }
    )
    prefix = f"evaluation/{row['split']}/" if kind == "evaluation" else ""
    for name, value in row.items():
      if isinstance(value, (int, float)) and name != "seed":
        self._events.add_scalar(prefix + name, value, environment_steps)

  def write_episodes(self, episodes: list[Episode], *, environment_steps: int) -> None:
    """Records finished training episodes."""
    for episode in episodes:
      self._episodes.write({"environment_steps": environment_steps, **episode._asdict()})

  def write_status(self, state: str, row: Mapping[str, Any]) -> None:
    """Says in status.json how the run stands."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    write_json(self._directory / "status.json", {"state": state, "updated": now, **row})

  def save_state(self) -> dict[str, int]:
    """Returns how long the files are."""
    return {"metrics": self._metrics.position(), "episodes": self._episodes.position()}

  def restore_state(self, state: Mapping[str, int]) -> None:
    """Cuts the files back to what they were at a checkpoint."""
    self._metrics.cut_back(state["metrics"])
    self._episodes.cut_back(state["episodes"])

  def close(self) -> None:
    """Closes all files."""
    self._metrics.close()
    self._episodes.close()
    if self._events is not None:
      self._events.close()


def finite_or_none(value: float) -> float | None:
  """JSON has no NaN: a mean over nothing is written as null."""
  return value if math.isfinite(value) else None
