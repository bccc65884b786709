"""Snapshots of a sequence replay on disk, in files that are never changed once written.

Stored frames go into shards, each of which is written once and shared by all
snapshots that need it, so a snapshot writes only what is new. Its index names its
shards and their checksums; a snapshot without an index does not exist.
"""

from collections.abc import Iterable, Iterator, Mapping
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from replay.sequence_buffer import SequenceBuffer

_SHARD_BYTES = 64 * 2**20  # of frames before compression: what a save or restore holds in memory
_FORMAT = 1


class SnapshotError(RuntimeError):
  """A snapshot cannot be read; the message names the files."""


class Snapshots:
  """The snapshots of one replay, in a directory of their own."""

  def __init__(self, directory: Path, *, shard_bytes: int = _SHARD_BYTES):
    """Creates the directory if there is none.

    Args:
      directory: for this replay alone.
      shard_bytes: of frames, before compression, that go into one shard.
    """
    self._directory = directory
    self._shard_bytes = shard_bytes
    self._shards: list[dict[str, Any]] = []  # of this replay's history, oldest first
    directory.mkdir(parents=True, exist_ok=True)

  def save(self, buffer: SequenceBuffer, name: str) -> Path:
    """Writes what is new since the last save or restore, then the index.

    Args:
      buffer: the replay, always the same one.
      name: of the snapshot; one of the same name is replaced.

    Returns:
      The index, durable together with all that it names.

    Raises:
      OSError: it could not be written; earlier snapshots are untouched.
    """
    path, stored = self._index(name), buffer.stored
    shards = [shard for shard in self._shards if shard["stop"] > stored.start]
    written = shards[-1]["stop"] if shards else stored.start
    for numbers in self._split(buffer, range(written, stored.stop)):
      frames = buffer.read_frames(numbers)
      entry = self._write("frames", {leaf: x.swapaxes(0, 1) for leaf, x in frames.items()})
      shards.append({"first": numbers.start, "stop": numbers.stop, **entry})
    index = {
      "format": _FORMAT,
      "first": stored.start,
      "shards": shards,
      "counters": self._write("counters", buffer.save_counters()),
    }
    _write_durably(path, json.dumps(index, indent=1).encode())
    self._shards = shards
    return path

  def restore(self, buffer: SequenceBuffer, name: str) -> None:
    """Continues from a snapshot, once every file of it has been checked.

    Raises:
      SnapshotError: a file is missing or damaged; `buffer` is as it was before.
      ValueError: the snapshot is of another replay.
    """
    if problems := self.find_damage(name):
      raise SnapshotError("; ".join(problems))
    index = json.loads(self._index(name).read_bytes())
    counters = _decode((self._directory / index["counters"]["file"]).read_bytes())
    buffer.restore(counters, self._pieces(index))
    self._shards = index["shards"]

  def find_damage(self, name: str) -> list[str]:
    """Returns what is wrong with a snapshot: one line for every file, none if it is good."""
    path = self._index(name)
    try:
      index = json.loads(path.read_bytes())
      files = [*index["shards"], index["counters"]]
      checksums = {entry["file"]: entry["sha256"] for entry in files}
    except (OSError, ValueError, KeyError, TypeError) as error:
      return [f"the replay's index {path} cannot be read ({error!r})"]
    if index.get("format") != _FORMAT:
      return [f"the replay's index {path} has format {index.get('format')}, not {_FORMAT}"]
    problems = []
    for file, checksum in checksums.items():
      shard = self._directory / file
      if not shard.is_file():
        problems.append(f"replay shard {shard} is missing")
      elif hashlib.sha256(shard.read_bytes()).hexdigest() != checksum:
        problems.append(f"replay shard {shard} is damaged: its checksum is not the index's")
    return problems

  def prune(self, keep: Iterable[str]) -> None:
    """Deletes all other snapshots, and the shards that none of those kept needs.

    Args:
      keep: names; what they need stays, also if they are damaged.

    Raises:
      SnapshotError: the index of a snapshot to be kept cannot be read; nothing is deleted.
    """
    kept = [self._index(name) for name in keep]
    needed = {path.name for path in kept}
    for path in kept:
      try:
        index = json.loads(path.read_bytes())
        needed |= {entry["file"] for entry in (*index["shards"], index["counters"])}
      except (OSError, ValueError, KeyError, TypeError) as error:
        raise SnapshotError(f"the replay's index {path} cannot be read ({error!r})") from error
    # Indices go first: one must never name a shard that is gone.
    for pattern in ("*.json", "*.shard", "*.partial"):
      for path in self._directory.glob(pattern):
        if path.name not in needed:
          path.unlink()
      _sync(self._directory)

  def _index(self, name: str) -> Path:
    """Returns the path of a snapshot's index; raises ValueError where that is no file name."""
    if not name or Path(name).name != name:
      raise ValueError(f"the name of a snapshot must be a plain file name, got {name!r}")
    return self._directory / f"{name}.json"

  def _split(self, buffer: SequenceBuffer, numbers: range) -> Iterator[range]:
    """Cuts frame numbers into shards."""
    if not numbers:
      return
    one = buffer.read_frames(numbers[:1])
    step = max(1, self._shard_bytes // sum(leaf.nbytes for leaf in one.values()))
    for start in numbers[::step]:
      yield range(start, min(start + step, numbers.stop))

  def _write(self, kind: str, leaves: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Writes a file named after its content; returns its entry in the index."""
    content = _encode(leaves)
    checksum = hashlib.sha256(content).hexdigest()
    file = f"{kind}-{checksum[:24]}.shard"
    _write_durably(self._directory / file, content)
    return {"file": file, "bytes": len(content), "sha256": checksum}

  def _pieces(self, index: Mapping[str, Any]) -> Iterator[dict[str, np.ndarray]]:
    """Yields the frames of a snapshot, oldest first, `[T_i, B, ...]` each."""
    for shard in index["shards"]:
      expired = max(0, index["first"] - shard["first"])
      leaves = _decode((self._directory / shard["file"]).read_bytes())
      yield {name: leaf.swapaxes(0, 1)[expired:] for name, leaf in leaves.items()}


def _encode(leaves: Mapping[str, np.ndarray]) -> bytes:
  """One line of JSON that says what follows, then every array, compressed."""
  compressor = zstandard.ZstdCompressor(level=1)
  pieces = [compressor.compress(np.ascontiguousarray(x).tobytes()) for x in leaves.values()]
  header = [
    {"name": name, "dtype": x.dtype.str, "shape": list(x.shape), "bytes": len(piece)}
    for (name, x), piece in zip(leaves.items(), pieces, strict=True)
  ]
  return b"".join([json.dumps(header).encode(), b"\n", *pieces])


def _decode(content: bytes) -> dict[str, np.ndarray]:
  """Takes apart what `_encode` put together."""
  decompressor = zstandard.ZstdDecompressor()
  start = content.index(b"\n") + 1
  leaves = {}
  for entry in json.loads(content[:start]):
    raw = decompressor.decompress(content[start : start + entry["bytes"]])
    leaves[entry["name"]] = np.frombuffer(raw, entry["dtype"]).reshape(entry["shape"])
    start += entry["bytes"]
  return leaves


def _write_durably(path: Path, content: bytes) -> None:
  """Writes a file that is there completely or not at all, whenever the machine stops."""
  partial = path.with_name(path.name + ".partial")
  with open(partial, "wb") as file:
    file.write(content)
    file.flush()
    os.fsync(file.fileno())
  partial.replace(path)
  _sync(path.parent)


def _sync(directory: Path) -> None:
  """Makes new names in a directory durable."""
  descriptor = os.open(directory, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
