"""Checkpoints of a whole run: written as one, verified before they are read.

Orbax writes the arrays and makes a step visible only when it is complete; a manifest of
checksums beside it, written last, makes it count, and makes a damaged file known before
anything is loaded. Nothing in a checkpoint is executed when it is read.
"""

from collections.abc import Callable, Iterable, Mapping
import errno
import hashlib
import json
import logging
import os
from pathlib import Path
import shutil
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from training.json_file import write_json
from training.processes import this_process_alone

_SPACE_FOR_FILES = 512 * 2**10  # a hundred small files, of a block each
_NONE_LEFT = "none is left in it: put one back, or begin anew in another directory"

logger = logging.getLogger(__name__)


class CheckpointError(RuntimeError):
  """A checkpoint could not be written, or none can be read."""


class Snapshot(NamedTuple):
  """What a checkpoint holds."""

  train_state: Any  # a tree of device arrays
  host: Mapping[str, np.ndarray]  # flat: sources, actor, environments
  counters: Mapping[str, Any]  # JSON: counters, file positions


def _checksums(directory: Path) -> dict[str, str]:
  """Returns sha256 by path relative to `directory`, of every file below it."""
  files = sorted(path for path in directory.rglob("*") if path.is_file())
  return {str(path.relative_to(directory)): _checksum(path) for path in files}


def _checksum(path: Path) -> str:
  """Returns the sha256 of a file, read in pieces: a replay's can be larger than memory."""
  digest = hashlib.sha256()
  with path.open("rb") as file:
    while piece := file.read(2**20):
      digest.update(piece)
  return digest.hexdigest()


def find_damage(directory: Path, step: int, *, item: str = "") -> str | None:
  """Compares a checkpoint with its manifest; changes nothing.

  Args:
    directory: of the checkpoints.
    step: which checkpoint.
    item: `train_state`, `host` or `counters`, to look at this item's files only.

  Returns:
    What is wrong with it, or None.
  """
  manifest, files = directory / "manifests" / f"{step}.json", directory / "steps" / str(step)
  try:
    listed = dict(json.loads(manifest.read_text()))
  except (OSError, TypeError, ValueError) as error:
    return f"its manifest {manifest} cannot be read ({error})"
  prefix = f"{item}/" if item else ""
  expected = {name: digest for name, digest in listed.items() if name.startswith(prefix)}
  if not expected:
    return f"its manifest {manifest} lists no files"
  try:
    found = {prefix + name: digest for name, digest in _checksums(files / item).items()}
  except OSError as error:
    return f"it cannot be read ({error})"
  for name in sorted(expected.keys() | found.keys()):
    if expected.get(name) != found.get(name):
      state = "missing" if name not in found else "damaged or foreign"
      return f"file {files / name} is {state}"
  return None


def find_misfit(saved: Any, wanted: Any) -> str | None:
  """Compares two trees of things that have a shape and a dtype, one of them from a checkpoint.

  Returns:
    The first array that differs and how, or None.
  """
  saved, wanted = _arrays_by_path(saved), _arrays_by_path(wanted)
  for path in sorted(saved.keys() | wanted.keys()):
    if saved.get(path) != wanted.get(path):
      here, there = wanted.get(path, "absent"), saved.get(path, "absent")
      return f"{path} is {there} in the checkpoint, {here} in the agent"
  return None


def _arrays_by_path(tree: Any) -> dict[str, str]:
  """Returns `dtype[shape]` by dotted path: structs, tuples and dicts look alike when saved."""
  return {
    jax.tree_util.keystr(path, simple=True, separator="."): f"{x.dtype}{list(x.shape)}"
    for path, x in jax.tree_util.tree_flatten_with_path(tree)[0]
  }


def _target(x: Any) -> Any:
  """Returns what orbax is to restore an array as: of numpy, or on the devices where `x` is."""
  if isinstance(x, np.ndarray):
    return x
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)


def _check_space(directory: Path, arrays: Iterable[Any]) -> None:
  """Checks that the disk has room before orbax starts the threads that would find out.

  Raises:
    OSError: arrays of this size may not fit, uncompressed.
  """
  needed = sum(x.nbytes for x in arrays) + _SPACE_FOR_FILES
  free = shutil.disk_usage(directory).free
  if free < needed:
    raise OSError(
      errno.ENOSPC,
      f"{os.strerror(errno.ENOSPC)}: it takes up to {needed / 2**20:.1f} MiB and the disk has "
      f"{free / 2**20:.1f} MiB free",
    )


def _is_worth_logging(record: logging.LogRecord) -> bool:
  """Orbax logs a traceback of each of its threads, and raises the error all the same."""
  return "_SignalingThread.run()" not in record.getMessage()


class Checkpoints:
  """The checkpoints of one run directory."""

  def __init__(self, directory: Path, *, keep: int):
    self._directory = directory.absolute()
    self._keep = keep
    self._manifests = self._directory / "manifests"
    self._manifests.mkdir(parents=True, exist_ok=True)
    logging.getLogger("absl").addFilter(_is_worth_logging)
    self._set_aside_incomplete()
    (self._directory / "steps").mkdir(exist_ok=True)
    self._manager = ocp.CheckpointManager(
      self._directory / "steps",
      item_names=("train_state", "host", "counters"),
      options=ocp.CheckpointManagerOptions(
        enable_async_checkpointing=False,
        cleanup_tmp_directories=True,
        create=False,
        multiprocessing_options=this_process_alone(),
      ),
    )

  def steps(self) -> list[int]:
    """Returns the steps that have a checkpoint, oldest first."""
    return sorted(self._manager.all_steps())

  def save(
    self,
    step: int,
    snapshot: Snapshot,
    *,
    before_dropping: Callable[[], None] = lambda: None,
  ) -> None:
    """Writes a checkpoint, then the checksums that make it count, then drops old ones.

    Args:
      step: its number.
      snapshot: its content.
      before_dropping: called once it counts.

    Raises:
      CheckpointError: it could not be written, for example on a full disk; earlier
        checkpoints are untouched.
    """
    host = {name: np.asarray(value) for name, value in snapshot.host.items()}
    shapes = {name: [list(value.shape), str(value.dtype)] for name, value in host.items()}
    try:
      _check_space(self._directory, [*jax.tree.leaves(snapshot.train_state), *host.values()])
      written = self._manager.save(
        step,
        args=ocp.args.Composite(
          train_state=ocp.args.StandardSave(snapshot.train_state),
          # Orbax refuses arrays without entries; their shape says all.
          host=ocp.args.StandardSave({name: x for name, x in host.items() if x.size}),
          counters=ocp.args.JsonSave({"counters": dict(snapshot.counters), "host": shapes}),
        ),
      )
      if not written:
        raise ValueError(f"there is one at step {self._manager.latest_step()} already")
      write_json(self._manifest(step), _checksums(self._step_directory(step)))
    except Exception as error:
      raise CheckpointError(
        f"could not write the checkpoint at step {step} in {self._directory}: {error}"
      ) from error
    before_dropping()
    # Only now: until its manifest is there, the new one does not count.
    for old in self.steps()[: -self._keep]:
      self._manager.delete(old)
    for manifest in self._manifests.glob("*.json"):
      if int(manifest.stem) not in self.steps():
        manifest.unlink()

  def restore(
    self,
    train_state: Any,
    *,
    step: int | None = None,
    damage_beside: Callable[[int], list[str]] = lambda step: [],
  ) -> tuple[int, Snapshot]:
    """Reads the latest good checkpoint, or the one at `step`.

    Args:
      train_state: of the same structure; its arrays say where the restored ones go.
      step: which checkpoint; by default the latest that is undamaged.
      damage_beside: step -> what is wrong with that checkpoint's parts that are kept
        elsewhere, one line each.

    Returns:
      The step and what was saved.

    Raises:
      CheckpointError: there is none, or none is undamaged; says what is wrong with each.
    """
    candidates = self.steps()[::-1] if step is None else [step]
    problems = []
    for candidate in candidates:
      problem = self.find_damage(candidate) or "; ".join(damage_beside(candidate))
      if not problem:
        return candidate, self._read(candidate, train_state)
      logger.warning("checkpoint %d is not used: %s", candidate, problem)
      problems.append(f"{candidate}: {problem}")
    found = "; ".join(problems) if problems else _NONE_LEFT
    raise CheckpointError(f"no usable checkpoint in {self._directory} ({found})")

  def drop_after(self, step: int) -> None:
    """Sets aside later checkpoints, which were found damaged, so that they can be rewritten."""
    for later in [each for each in self.steps() if each > step]:
      self._set_aside(self._step_directory(later))
      self._manifest(later).unlink(missing_ok=True)
    self._manager.reload()

  def close(self) -> None:
    """Waits for what is being written."""
    self._manager.close()

  def _step_directory(self, step: int) -> Path:
    return self._directory / "steps" / str(step)

  def _manifest(self, step: int) -> Path:
    return self._manifests / f"{step}.json"

  def _set_aside_incomplete(self) -> None:
    """Moves steps without a manifest away: they were cut short after being written."""
    for path in (self._directory / "steps").glob("*"):
      if path.name.isdigit() and not self._manifest(int(path.name)).exists():
        logger.warning("checkpoint %s was cut short: it has no manifest; it is set aside", path)
        self._set_aside(path)

  def _set_aside(self, path: Path) -> None:
    target = self._directory / "set-aside" / path.name
    target.parent.mkdir(exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    path.rename(target)

  def find_damage(self, step: int) -> str | None:
    """Returns what is wrong with a checkpoint, or None."""
    return find_damage(self._directory, step)

  def _read(self, step: int, train_state: Any) -> Snapshot:
    content = self._manager.restore(step, args=ocp.args.Composite(counters=ocp.args.JsonRestore()))[
      "counters"
    ]
    host = {name: np.empty(shape, dtype) for name, (shape, dtype) in content["host"].items()}
    stored = {name: x for name, x in host.items() if x.size}
    target = jax.tree.map(_target, train_state)
    # Before reading: a restore that fails half-way leaves its unfinished reads behind.
    path = self._step_directory(step) / "train_state"
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=this_process_alone())
    misfit = find_misfit(handler.metadata(path).tree, target)
    if misfit is not None:
      raise CheckpointError(f"{path} is of another agent than the run's: {misfit}")
    restored = self._manager.restore(
      step,
      args=ocp.args.Composite(
        train_state=ocp.args.StandardRestore(target), host=ocp.args.StandardRestore(stored)
      ),
    )
    return Snapshot(restored["train_state"], host | restored["host"], content["counters"])
