"""A preallocated stretch of memory that pieces of any size pass through in order."""

import numpy as np


class ByteRing:
  """Pieces are freed in the order in which they came; each lies in one stretch."""

  def __init__(self, nbytes: int):
    self._memory = np.zeros(nbytes, np.uint8)
    self._head = 0  # where the next piece goes

  @property
  def nbytes(self) -> int:
    """Bytes held."""
    return self._memory.nbytes

  def append(self, piece: bytes, *, oldest: int | None) -> int:
    """Stores a piece.

    Args:
      piece: the bytes.
      oldest: position of the oldest piece that is still needed, None if there is none.

    Returns:
      Its position.

    Raises:
      MemoryError: there is no stretch of free memory long enough.
    """
    size, end = len(piece), len(self._memory)
    if oldest is None:
      position, stop = 0, end
    elif self._head < oldest:  # free: between the two; head = oldest would look like empty
      position, stop = self._head, oldest - 1
    elif self._head + size <= end:
      position, stop = self._head, end
    else:
      position, stop = 0, oldest - 1
    if position + size > stop:
      raise MemoryError(f"no room for {size} bytes in a ring of {end}")
    self._memory[position : position + size] = np.frombuffer(piece, np.uint8)
    self._head = position + size
    return position

  def view(self, position: int, size: int) -> memoryview:
    """Returns a piece's bytes, without a copy."""
    return self._memory[position : position + size].data
