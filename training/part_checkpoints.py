"""What one of several processes saves beside the first: arrays of its own, and counters.

Not through orbax, which leaves numpy arrays of all processes but the first unwritten and does
not say so. A file of arrays (`.npz`), and beside it, written last, one that makes it count.
Nothing in them is executed when they are read.
"""

from collections.abc import Callable, Mapping
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from training.checkpoint import CheckpointError, Snapshot
from training.json_file import write_json
from training.whole_file import whole_file


class PartCheckpoints:
  """The checkpoints of one process; `Snapshot.train_state` is a mapping for JSON."""

  def __init__(self, directory: Path, *, keep: int):
    self._directory = directory
    self._keep = keep
    directory.mkdir(parents=True, exist_ok=True)

  def steps(self) -> list[int]:
    """Returns the steps that have a checkpoint, oldest first."""
    names = [path.stem for path in self._directory.glob("*.json")]
    return sorted(int(name) for name in names if name.isdigit())

  def save(self, step: int, snapshot: Snapshot, *, before_dropping: Callable[[], None]) -> None:
    """Writes a checkpoint; as `Checkpoints.save`."""
    content = io.BytesIO()
    np.savez(content, **snapshot.host)
    try:
      with whole_file(self._arrays(step)) as part, part.open("wb") as file:
        file.write(content.getbuffer())
        file.flush()
        os.fsync(file.fileno())
      listed = {
        "sha256": hashlib.sha256(content.getbuffer()).hexdigest(),
        "train_state": snapshot.train_state,
        "counters": snapshot.counters,
      }
      write_json(self._listing(step), listed)
    except OSError as error:
      raise CheckpointError(
        f"could not write the checkpoint at step {step} in {self._directory}: {error}"
      ) from error
    before_dropping()
    for old in self.steps()[: -self._keep]:
      self._drop(old)

  def find_damage(self, step: int) -> str | None:
    """Returns what is wrong with a checkpoint, or None."""
    try:
      listed = self._read_listing(step)
      found = hashlib.sha256(self._arrays(step).read_bytes()).hexdigest()
    except (OSError, ValueError, KeyError, TypeError) as error:
      return f"{self._listing(step)} or what it lists cannot be read ({error})"
    return None if found == listed["sha256"] else f"file {self._arrays(step)} is damaged"

  def restore(self, step: int) -> Snapshot:
    """Reads a checkpoint in which `find_damage` has found none."""
    listed = self._read_listing(step)
    with np.load(self._arrays(step), allow_pickle=False) as arrays:
      host = {name: arrays[name] for name in arrays.files}
    return Snapshot(listed["train_state"], host, listed["counters"])

  def drop_after(self, step: int) -> None:
    """Deletes later checkpoints, which not every process has in good order."""
    for later in [each for each in self.steps() if each > step]:
      self._drop(later)

  def close(self) -> None:
    """Does nothing: what `save` has written is durable when it returns."""

  def _drop(self, step: int) -> None:
    self._listing(step).unlink()  # first: it must never list what is gone
    self._arrays(step).unlink(missing_ok=True)  # lost ones are why it may be dropped

  def _read_listing(self, step: int) -> Mapping[str, Any]:
    listed = json.loads(self._listing(step).read_text())
    return {name: listed[name] for name in ("sha256", "train_state", "counters")}

  def _arrays(self, step: int) -> Path:
    return self._directory / f"{step}.npz"

  def _listing(self, step: int) -> Path:
    return self._directory / f"{step}.json"
