"""What a run writes while it goes: metrics, episodes, status, TensorBoard events.

Every write is done when its call returns: what the disk refuses raises where it was written.
"""

from collections.abc import Iterable, Mapping
import contextlib
import datetime
import json
import math
import os
from pathlib import Path
import time
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from training.episodes import Episode
from training.json_file import write_json


class JsonLines:
  """A file of one JSON object a line, that can be cut back to a checkpoint."""

  def __init__(self, path: Path):
    self._file = path.open("ab")

  def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
    """Appends rows, and hands them to the operating system together."""
    for row in rows:
      self._file.write(json.dumps(row, allow_nan=False).encode() + b"\n")
    self._file.flush()

  def position(self) -> int:
    """Returns the length in bytes, after making it durable."""
    self._file.flush()
    os.fsync(self._file.fileno())
    return self._file.tell()

  def check(self, position: int) -> None:
    """Raises ValueError if the file is shorter than `position`: rows are missing."""
    size = os.fstat(self._file.fileno()).st_size
    if size < position:
      raise ValueError(
        f"{self._file.name} has {size} bytes, the checkpoint was made at {position}: "
        "rows are missing"
      )

  def cut_back(self, position: int) -> None:
    """Drops what was written after `position`; see `check`."""
    self.check(position)
    self._file.truncate(position)
    self._file.seek(position)

  def close(self) -> None:
    """Closes the file."""
    self._file.close()


class Events:
  """A TensorBoard events file.

  tensorboardX's `SummaryWriter` writes from a thread: where the disk is full the thread
  ends, and the next calls wait for it for ever. This writes in the caller's own.
  """

  def __init__(self, directory: Path, *, first_step: int):
    """Opens a new file; events at `first_step` and later in older files are hidden."""
    directory.mkdir(exist_ok=True)
    # The process distinguishes files that are opened in the same second.
    self._file = EventsWriter(str(directory / "events"), f".{os.getpid()}")
    start = SessionLog(status=SessionLog.START)
    self._file.write_event(Event(wall_time=time.time(), step=first_step, session_log=start))

  def write(self, values: Mapping[str, float], *, step: int) -> None:
    """Adds a point to the curve of every name."""
    now = time.time()
    for name, value in values.items():
      self._file.write_event(Event(wall_time=now, step=step, summary=scalar(name, value)))
    self._file.flush()

  def close(self) -> None:
    """Closes the file."""
    self._file.close()


class MetricsWriter:
  """The files of one run directory that grow."""

  def __init__(self, directory: Path):
    self._directory = directory
    self._metrics = JsonLines(directory / "metrics.jsonl")
    self._episodes = JsonLines(directory / "episodes.jsonl")
    self._events: Events | None = None

  def start(self, *, environment_steps: int) -> None:
    """Opens the TensorBoard events; later ones of an interrupted run are hidden."""
    # What was written at the step itself stays, but for step 0, of which no checkpoint is made.
    first_step = environment_steps + 1 if environment_steps else 0
    self._events = Events(self._directory / "tensorboard", first_step=first_step)

  def write(
    self, kind: str, row: Mapping[str, Any], *, environment_steps: int, seconds: float
  ) -> None:
    """Writes one row, of `kind` training or evaluation."""
    head = {"kind": kind, "environment_steps": environment_steps, "seconds": round(seconds, 3)}
    self._metrics.write([head | dict(row)])
    prefix = f"evaluation/{row['split']}/" if kind == "evaluation" else ""
    numbers = {
      prefix + name: value
      for name, value in row.items()
      if isinstance(value, (int, float)) and name != "seed"
    }
    self._events.write(numbers, step=environment_steps)

  def write_episodes(self, episodes: list[Episode], *, environment_steps: int) -> None:
    """Records finished training episodes."""
    head = {"environment_steps": environment_steps}
    self._episodes.write(head | episode._asdict() for episode in episodes)

  def write_status(self, state: str, row: Mapping[str, Any]) -> None:
    """Says in status.json how the run stands."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    write_json(self._directory / "status.json", {"state": state, "updated": now, **row})

  def save_state(self) -> dict[str, int]:
    """Returns how long the files are."""
    return {"metrics": self._metrics.position(), "episodes": self._episodes.position()}

  def restore_state(self, state: Mapping[str, int]) -> None:
    """Cuts the files back to what they were at a checkpoint.

    Raises:
      ValueError: one of them is shorter than that; neither is touched.
    """
    self._metrics.check(state["metrics"])
    self._episodes.check(state["episodes"])
    self._metrics.cut_back(state["metrics"])
    self._episodes.cut_back(state["episodes"])

  def close(self) -> None:
    """Closes all files, each whatever becomes of the others."""
    with contextlib.ExitStack() as stack:
      stack.callback(self._metrics.close)
      stack.callback(self._episodes.close)
      if self._events is not None:
        stack.callback(self._events.close)


def finite_or_none(value: float) -> float | None:
  """JSON has no NaN: a mean over nothing is written as null."""
  return value if math.isfinite(value) else None
