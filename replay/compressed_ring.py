"""A ring of frames in compressed blocks, for histories larger than memory.

Reads and writes like `Ring` and gives the same frames. Consecutive frames of an
environment are compressed together (zstd, level 1) once a block is full; a read
unpacks only the blocks that its windows touch, each once.
"""

from collections import defaultdict
import math

import numpy as np
import zstandard

from replay.byte_ring import ByteRing

_LEVEL = 1  # of zstd: higher ones take longer and save little on Procgen's frames


class CompressedRing:
  """The latest `capacity` frames of B environments, in at most `nbytes` bytes."""

  def __init__(
    self,
    capacity: int,
    num_environments: int,
    *,
    shape: tuple[int, ...],
    dtype: np.dtype,
    block_frames: int,
    nbytes: int,
  ):
    self._capacity = capacity
    self._block_frames = block_frames
    self._open = np.zeros((num_environments, block_frames, *shape), dtype)
    blocks = math.ceil(capacity / block_frames)
    self._position = np.zeros((num_environments, blocks), np.int64)  # block b lies in b % blocks
    self._size = np.zeros((num_environments, blocks), np.int64)
    left = nbytes - self._open.nbytes - self._position.nbytes - self._size.nbytes
    if left < 1:
      raise ValueError(
        f"{nbytes} bytes are too few for compressed frames: the block that is being filled and"
        f" the table of blocks take {nbytes - left}"
      )
    self._memory = ByteRing(left)
    self._first_block: int | None = None
    self._next = 0
    self._compressor = zstandard.ZstdCompressor(level=_LEVEL)
    self._decompressor = zstandard.ZstdDecompressor()

  @property
  def nbytes(self) -> int:
    """Bytes held."""
    return sum(x.nbytes for x in (self._open, self._position, self._size, self._memory))

  def write(self, first: int, values: np.ndarray) -> None:
    """Stores frames.

    Args:
      first: number of the first; after the first call, the number after the last.
      values: `[T, B, ...]`, T at most the capacity.

    Raises:
      MemoryError: the frames compress too badly for the memory given.
    """
    if self._first_block is None:
      self._first_block, self._next = first // self._block_frames, first
    while len(values):
      offset = self._next % self._block_frames
      piece = values[: self._block_frames - offset]
      self._open[:, offset : offset + len(piece)] = piece.swapaxes(0, 1)
      self._next += len(piece)
      values = values[len(piece) :]
      if self._next % self._block_frames == 0:
        self._close_block(self._next // self._block_frames - 1)

  def read(self, environment: np.ndarray, first: np.ndarray, *, length: int) -> np.ndarray:
    """Returns copies of windows: `[length, N, ...]` from `[N]` environments and first frames."""
    out = np.empty((length, len(first), *self._open.shape[2:]), self._open.dtype)
    touched = defaultdict(list)
    for column, (row, start) in enumerate(zip(environment.tolist(), first.tolist(), strict=True)):
      last = (start + length - 1) // self._block_frames
      for block in range(start // self._block_frames, last + 1):
        touched[row, block].append((column, block * self._block_frames - start))
    for (row, block), columns in touched.items():
      frames = self._read_block(row, block)
      for column, at in columns:  # frame 0 of the block is frame `at` of the window
        begin, end = max(at, 0), min(at + self._block_frames, length)
        out[begin:end, column] = frames[begin - at : end - at]
    return out

  def _close_block(self, block: int) -> None:
    """Compresses the full open block; what it displaces is freed."""
    slot = block % self._position.shape[1]
    oldest = max(self._first_block, (self._next - self._capacity) // self._block_frames)
    for row, frames in enumerate(self._open):
      piece = self._compressor.compress(frames.reshape(-1).data)
      stored = block > oldest or row > 0
      needed = int(self._position[0, oldest % self._position.shape[1]]) if stored else None
      try:
        self._position[row, slot] = self._memory.append(piece, oldest=needed)
      except MemoryError:
        kept = self._next - oldest * self._block_frames
        raise MemoryError(
          f"the {self.nbytes} bytes of memory_budget hold about {kept * len(self._open)} of the"
          f" capacity of {self._capacity * len(self._open)} frames, which compress"
          f" {self._open[row].nbytes / len(piece):.1f}-fold at present: raise memory_budget or"
          " lower capacity, and resume from the last checkpoint"
        ) from None
      self._size[row, slot] = len(piece)

  def _read_block(self, row: int, block: int) -> np.ndarray:
    """Returns the frames of one block of one environment, `[block_frames, ...]`."""
    if block == self._next // self._block_frames:
      return self._open[row]
    slot = block % self._position.shape[1]
    piece = self._memory.view(int(self._position[row, slot]), int(self._size[row, slot]))
    raw = self._decompressor.decompress(piece, max_output_size=self._open[row].nbytes)
    return np.frombuffer(raw, self._open.dtype).reshape(self._open.shape[1:])
