"""Prioritised replay (Schaul et al. 2016) over windows of several starts.

Every stored frame has a priority. A window is drawn in proportion to the priority
of its first frame to the power alpha; only windows that are whole take part.
"""

import numpy as np

from replay import windows
from replay.interface import Sequences
from replay.sum_tree import SumTree, sum_tree_bytes


def priority_bytes(frames: int) -> int:
  """Bytes that the priorities of so many frames take."""
  return frames * np.dtype(np.float64).itemsize + sum_tree_bytes(frames)


class Priorities:
  """Priorities of the frames of B rings of `capacity` slots."""

  def __init__(self, request: Sequences, *, num_environments: int, capacity: int):
    self._request = request
    self._capacity = capacity
    self._num_environments = num_environments
    self._weight = np.zeros(num_environments * capacity)  # priority^alpha of stored frames
    self._tree = SumTree(num_environments * capacity)  # the same where a whole window begins
    self._largest = 1.0

  @property
  def nbytes(self) -> int:
    """Bytes held."""
    return self._weight.nbytes + self._tree.nbytes

  def add(self, frames: int, added: int) -> None:
    """Gives new frames the largest priority seen so far, so that each is soon drawn.

    Args:
      frames: frames of every environment before.
      added: how many each has got, at most the capacity.
    """
    new = np.arange(frames, frames + added)
    self._weight[self._leaves(new)] = self._largest**self._request.priority_exponent
    self._tree.set(self._leaves(new), np.zeros(1))
    last = frames + added - self._request.length  # the last frame that begins a whole window
    first = max(
      frames - self._request.length + 1, windows.oldest_frame(frames + added, self._capacity)
    )
    whole = self._leaves(np.arange(first, last + 1))
    self._tree.set(whole, self._weight[whole])

  def update(
    self, environment: np.ndarray, frame: np.ndarray, priority: np.ndarray, *, frames: int
  ) -> None:
    """Sets the priorities of stored frames.

    Args:
      environment: `[N]`.
      frame: `[N]` frame numbers, all still stored.
      priority: `[N]` above 0.
      frames: frames of every environment so far.
    """
    leaf = environment * self._capacity + frame % self._capacity
    self._weight[leaf] = priority**self._request.priority_exponent
    self._largest = max(self._largest, float(priority.max(initial=0.0)))
    begins = leaf[frame <= frames - self._request.length]
    self._tree.set(begins, self._weight[begins])

  def draw(self, generator: np.random.Generator, *, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws windows, independently of one another.

    Args:
      generator: consumed.
      frames: frames of every environment so far.

    Returns:
      environment `[N]` and first frame `[N]`, for N = batch_size.
    """
    mass = generator.random(self._request.batch_size) * self._tree.total
    environment, slot = np.divmod(self._tree.find(mass), self._capacity)
    return environment, windows.frame_in_slot(slot, frames, self._capacity)

  def importance_weights(self, environment: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Corrects each sample for how often it is drawn (Schaul et al. 2016, section 3.4).

      q_t = 1/S sum_u P(window begins at t - u),   u = 0 .. S - 1
      w_t = (q_t / min q)^-beta

    q_t is the exact probability that a sample of a draw is t, whichever window holds
    it; for S = 1 it is the paper's P(i), and w its (N P(i))^-beta / max w.

    Args:
      environment: `[N]`.
      first: `[N]` first frames of the windows of a draw.

    Returns:
      `[S, N]` float32, the largest of which is 1.
    """
    starts = self._request.starts
    begins = windows.window_frames(first - (starts - 1), 2 * starts - 1)
    leaf = environment[None, :] * self._capacity + begins % self._capacity
    # Frames beyond the oldest share slots with the newest, where no whole window begins.
    weight = self._tree.get(leaf)
    probability = np.stack([weight[s : s + starts].sum(axis=0) for s in range(starts)])
    relative = probability / probability.min()
    return (relative**-self._request.importance_exponent).astype(np.float32)

  def save_state(self, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns priority^alpha of the stored frames, `[B, T]`, and the largest priority, `[]`."""
    stored = np.arange(windows.oldest_frame(frames, self._capacity), frames)
    weight = self._weight[self._leaves(stored)].reshape(self._num_environments, len(stored))
    return weight, np.asarray(self._largest)

  def restore_state(self, weight: np.ndarray, largest: np.ndarray, *, frames: int) -> None:
    """Takes back what `save_state` returned, into an object that has seen no frame.

    Raises:
      ValueError: the weights are not those of the stored frames.
    """
    oldest = windows.oldest_frame(frames, self._capacity)
    wanted = (self._num_environments, frames - oldest)
    if weight.shape != wanted:
      raise ValueError(f"priorities/weights must be {list(wanted)}, got {list(weight.shape)}")
    self._weight[self._leaves(np.arange(oldest, frames))] = weight.reshape(-1)
    self._largest = float(largest)
    whole = self._leaves(np.arange(oldest, frames - self._request.length + 1))
    self._tree.set(whole, self._weight[whole])

  def _leaves(self, frames: np.ndarray) -> np.ndarray:
    """Leaves of these frames in every environment: `[B * len(frames)]`, environments outside."""
    rows = np.arange(self._num_environments)[:, None] * self._capacity
    return (rows + frames % self._capacity).reshape(-1)
