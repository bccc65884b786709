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
import zlib

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from training.episodes import Episode
from training.json_file import read_json, write_json

_PIECE = 2**20  # bytes read at a time


class JsonLines:
  """A file of one JSON object a line, that can be cut back to a checkpoint.

  Attributes:
    checksum: CRC-32 of all that has been written, carried along with every row.
  """

  def __init__(self, path: Path):
    self._file = path.open("ab")
    self.checksum = _checksum(path, self._file.tell())

  def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
    """Appends rows, and hands them to the operating system together."""
    for row in rows:
      line = json.dumps(row, allow_nan=False).encode() + b"\n"
      self._file.write(line)
      self.checksum = zlib.crc32(line, self.checksum)
    self._file.flush()

  def position(self) -> int:
    """Returns the length in bytes, after making it durable."""
    self._file.flush()
    os.fsync(self._file.fileno())
    return self._file.tell()

  def check(self, position: int, checksum: int | None) -> None:
    """Compares what stands before `position` with what a checkpoint was made at.

    Args:
      position: length at the checkpoint, bytes.
      checksum: of these bytes; None compares the length alone.

    Raises:
      ValueError: rows are missing, or others than those that were written.
    """
    size = os.fstat(self._file.fileno()).st_size
    if size < position:
      raise ValueError(
        f"{self._file.name} has {size} bytes, the checkpoint was made at {position}: "
        "rows are missing"
      )
    if checksum is not None and _checksum(Path(self._file.name), position) != checksum:
      raise ValueError(
        f"{self._file.name} is damaged: its first {position} bytes are not those that the "
        "checkpoint was made at; put it back from a copy, or begin anew in another directory"
      )

  def cut_back(self, position: int) -> None:
    """Drops what was written after `position`; a shorter file is an error, see `check`."""
    self.check(position, None)
    self._file.truncate(position)
    self._file.seek(position)
    self.checksum = _checksum(Path(self._file.name), position)

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

  def put_back(
    self, rows: Iterable[Mapping[str, Any]], *, environment_steps: int, seconds: float
  ) -> None:
    """Writes evaluations that a checkpoint of the same step is older than, if they are missing.

    TensorBoard has them: what was written at a checkpoint's step stays there.
    """
    head = {"kind": "evaluation", "environment_steps": environment_steps}
    start = json.dumps(head)[:-1]  # as `write` puts it
    text = (self._directory / "metrics.jsonl").read_text(encoding="utf-8", errors="replace")
    if not any(line.startswith(f"{start},") for line in text.splitlines()):
      self._metrics.write([head | {"seconds": round(seconds, 3)} | dict(row) for row in rows])

  def write_episodes(self, episodes: list[Episode], *, environment_steps: int) -> None:
    """Records finished training episodes."""
    head = {"environment_steps": environment_steps}
    self._episodes.write(head | episode._asdict() for episode in episodes)

  def write_status(self, state: str, row: Mapping[str, Any]) -> None:
    """Says in status.json how the run stands."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    write_json(self._directory / "status.json", {"state": state, "updated": now, **row})

  def had_checkpoint(self) -> bool:
    """Whether status.json, as it is on disk, tells of a checkpoint."""
    return read_json(self._directory / "status.json").get("last_checkpoint") is not None

  def save_state(self) -> dict[str, Any]:
    """Returns how long the files are, and the checksums of what is in them."""
    return {
      "metrics": self._metrics.position(),
      "episodes": self._episodes.position(),
      "checksums": {"metrics": self._metrics.checksum, "episodes": self._episodes.checksum},
    }

  def restore_state(self, state: Mapping[str, Any]) -> None:
    """Cuts the files back to what they were at a checkpoint.

    Of checkpoints that were made before they had checksums only the lengths are compared.

    Raises:
      ValueError: one of them is shorter than that, or damaged; neither is touched.
    """
    checksums = state.get("checksums", {})
    self._metrics.check(state["metrics"], checksums.get("metrics"))
    self._episodes.check(state["episodes"], checksums.get("episodes"))
    self._metrics.cut_back(state["metrics"])
    self._episodes.cut_back(state["episodes"])

  def close(self) -> None:
    """Closes all files, each whatever becomes of the others."""
    with contextlib.ExitStack() as stack:
      stack.callback(self._metrics.close)
      stack.callback(self._episodes.close)
      if self._events is not None:
        stack.callback(self._events.close)


def _checksum(path: Path, size: int) -> int:
  """Returns the CRC-32 of the first `size` bytes of a file, read in pieces."""
  checksum = 0
  with path.open("rb") as file:
    while piece := file.read(min(size, _PIECE)):
      checksum, size = zlib.crc32(piece, checksum), size - len(piece)
  return checksum


def finite_or_none(value: float) -> float | None:
  """JSON has no NaN: a mean over nothing is written as null."""
  return value if math.isfinite(value) else None
