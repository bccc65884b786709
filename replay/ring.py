"""A preallocated ring of arrays per environment, uncompressed."""

import numpy as np

from replay import windows


class Ring:
  """The latest `capacity` frames of B environments, each stored once.

  Environment by environment, so that a window lies in one piece.
  """

  def __init__(
    self, capacity: int, num_environments: int, *, shape: tuple[int, ...], dtype: np.dtype
  ):
    self._capacity = capacity
    self._array = np.zeros((num_environments, capacity, *shape), dtype)

  @property
  def nbytes(self) -> int:
    """Bytes held."""
    return self._array.nbytes

  def write(self, first: int, values: np.ndarray) -> None:
    """Stores frames.

    Args:
      first: number of the first.
      values: `[T, B, ...]`, T at most the capacity.
    """
    slot = first % self._capacity
    fitting = min(len(values), self._capacity - slot)
    values = values.swapaxes(0, 1)
    self._array[:, slot : slot + fitting] = values[:, :fitting]
    self._array[:, : values.shape[1] - fitting] = values[:, fitting:]

  def read(self, environment: np.ndarray, first: np.ndarray, *, length: int) -> np.ndarray:
    """Returns copies of windows: `[length, N, ...]` from `[N]` environments and first frames."""
    slot = windows.window_frames(first, length) % self._capacity
    flat = self._array.reshape(-1, *self._array.shape[2:])
    return np.take(flat, environment[None, :] * self._capacity + slot, axis=0)
