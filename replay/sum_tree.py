"""A sum tree in float64: draws in proportion to weights in logarithmic time.

Every node is recomputed from its children, never corrected by a difference, so no
rounding error builds up and the tree follows from its leaves alone, bit for bit.
"""

import math

import numpy as np

FAN_OUT = 16  # children of a node: few levels, each a short row that numpy sums at once


def _rows(size: int) -> list[int]:
  """Rows of every level of a tree with so many leaves, leaves first."""
  rows = [math.ceil(size / FAN_OUT)]
  while rows[-1] > 1:
    rows.append(math.ceil(rows[-1] / FAN_OUT))
  return rows


def sum_tree_bytes(size: int) -> int:
  """Bytes of a tree with so many leaves."""
  return sum(_rows(size)) * FAN_OUT * np.dtype(np.float64).itemsize


class SumTree:
  """Weights of `size` leaves, all 0 at first."""

  def __init__(self, size: int):
    # Leaves first. A level ends with nodes of weight 0 that fill its last row.
    self._levels = [np.zeros((rows, FAN_OUT)) for rows in _rows(size)]

  @property
  def total(self) -> float:
    """Sum of all weights."""
    return float(self._levels[-1].sum())

  @property
  def nbytes(self) -> int:
    """Bytes held."""
    return sum(level.nbytes for level in self._levels)

  def get(self, index: np.ndarray) -> np.ndarray:
    """Returns the weights of leaves `index`, of any shape."""
    return self._levels[0].reshape(-1)[index]

  def set(self, index: np.ndarray, weight: np.ndarray) -> None:
    """Sets leaves and every sum above them.

    Args:
      index: `[N]`; where a leaf occurs twice, its last weight stays.
      weight: `[N]` or `[1]`, finite and at least 0.
    """
    self._levels[0].reshape(-1)[index] = weight
    for level, above in zip(self._levels, self._levels[1:], strict=False):
      index = np.unique(index // FAN_OUT)
      above.reshape(-1)[index] = level[index].sum(axis=1)

  def find(self, mass: np.ndarray) -> np.ndarray:
    """Finds the leaf in which each mass falls when the weights are laid side by side.

    A leaf of weight 0 is never found.

    Args:
      mass: `[N]` in [0, total).

    Returns:
      `[N]` leaves.
    """
    node = np.zeros(mass.shape, np.int64)
    for level in self._levels[::-1]:
      weight = level[node]
      edge = weight.cumsum(axis=1)
      child = (edge <= mass[:, None]).sum(axis=1)
      # Rounding may leave a mass just past the last edge: it belongs to the last weight above 0.
      last = FAN_OUT - 1 - (weight[:, ::-1] > 0).argmax(axis=1)
      child = np.minimum(child, last)
      before = np.where(child > 0, edge[np.arange(len(mass)), child - 1], 0.0)
      mass = mass - before
      node = node * FAN_OUT + child
    return node
