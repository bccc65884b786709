"""Fresh rollouts, each used exactly once, released in groups.

For agents that learn from what they have just done. Nothing is stored beyond the
group that is being filled.
"""

from collections.abc import Mapping

import numpy as np

from replay.interface import Record, Rollouts

_COUNTERS = ("count", "rollouts_added")
_LEAF = "rollouts/"


class RolloutQueue:
  """A Source that releases every `count` rollouts as one record.

  With `count = 1` the record that was added is the record that is drawn: the same
  object, no copy. With more, the host arrays `[T, count * B, ...]` of a group are
  allocated once, on the first `add`, every rollout is copied into its columns,
  and **the drawn record is those arrays**. They belong to the caller until the
  next `add`, which writes the next group's first rollout into them: what is
  needed longer has to be copied, and work on a device that reads them has to be
  finished by then.

  A complete group must be drawn before the next `add` and before `save_state`,
  as the training loop does.
  """

  def __init__(self, request: Rollouts):
    self._count = request.count
    self._added = 0  # rollouts of all time
    self._complete = False  # a group waits to be drawn
    self._waiting: Record | None = None  # count 1: the record itself
    self._arrays: dict[str, np.ndarray] = {}  # count > 1: [T, count * B, ...]
    self._restored: dict[str, np.ndarray] = {}  # [T, filled * B, ...] until the next add

  def add(self, record: Record) -> None:
    """Takes one rollout.

    Args:
      record: `[T, B, ...]` arrays by name, of numpy or on a device; the same names,
        shapes and dtypes every time.

    Raises:
      RuntimeError: a complete group has not been drawn yet.
      ValueError: a leaf does not fit the group; the message names it.
    """
    if self._complete:
      raise RuntimeError("a complete group waits: draw it before adding the next rollout")
    if self._count == 1:
      self._waiting = record
    else:
      self._copy_into_group(record)
    self._added += 1
    self._complete = self._added % self._count == 0

  def updates_due(self) -> int:
    """Returns 1 where a complete group waits, else 0."""
    return int(self._complete)

  def draw(self) -> Record:
    """Releases the complete group: `[T, count * B, ...]`, rollouts in order of arrival.

    Raises:
      RuntimeError: no group is complete.
    """
    if not self._complete:
      missing = self._count - self._added % self._count
      raise RuntimeError(f"no update is due: {missing} of {self._count} rollouts are missing")
    self._complete = False
    if self._count > 1:
      return dict(self._arrays)
    record, self._waiting = self._waiting, None
    return record

  def facts(self) -> dict[str, float]:
    """Returns nothing: rollouts are used once and in groups whose size is known."""
    return {}

  def save_state(self) -> dict[str, np.ndarray]:
    """Returns counters and a copy of the rollouts of a half-filled group.

    Returns:
      `count`, `rollouts_added`, and `rollouts/<leaf>`, `[T, filled * B, ...]`.

    Raises:
      RuntimeError: a complete group has not been drawn yet.
    """
    if self._complete:
      raise RuntimeError("a complete group waits: draw it before saving")
    state = {"count": np.int64(self._count), "rollouts_added": np.int64(self._added)}
    state = {name: np.asarray(value) for name, value in state.items()}
    filled = self._added % self._count
    if filled and self._restored:
      leaves = self._restored
    else:
      leaves = {name: self._columns(name, 0, filled) for name in self._arrays if filled}
    return state | {_LEAF + name: np.array(leaf) for name, leaf in leaves.items()}

  def restore_state(self, state: Mapping[str, np.ndarray]) -> None:
    """Continues from `state`; a half-filled group is complete with the next rollouts.

    Raises:
      ValueError: an entry is missing, unknown, or of another `count`.
    """
    for name in _COUNTERS:
      if name not in state:
        raise ValueError(f"the state of a rollout queue lacks {name!r}")
    if int(state["count"]) != self._count:
      raise ValueError(f"count is {self._count}, the state has count {int(state['count'])}")
    leaves = {}
    for name, value in state.items():
      if name.startswith(_LEAF):
        leaves[name[len(_LEAF) :]] = np.array(value)
      elif name not in _COUNTERS:
        raise ValueError(f"the state of a rollout queue has an unknown entry {name!r}")
    added = int(state["rollouts_added"])
    if bool(leaves) != bool(added % self._count):
      raise ValueError(
        f"rollouts_added is {added} with count {self._count}, but the state has"
        f" {len(leaves)} entries that begin with {_LEAF!r}"
      )
    self._added = added
    self._complete = False
    self._waiting, self._arrays = None, {}
    self._restored = leaves

  def _columns(self, name: str, start: int, stop: int) -> np.ndarray:
    """The rollouts `start` to `stop` of a group's leaf, a view `[T, (stop - start) * B, ...]`."""
    leaf = self._arrays[name]
    width = leaf.shape[1] // self._count
    return leaf[:, start * width : stop * width]

  def _copy_into_group(self, record: Record) -> None:
    """Writes a rollout into its columns; allocates the arrays if there are none."""
    leaves = {name: np.asarray(leaf) for name, leaf in record.items()}
    arrays = self._arrays or _allocate(leaves, self._count)
    _check(leaves, arrays, self._count)
    slot = self._added % self._count
    if self._restored:
      _check(self._restored, arrays, self._count, rollouts=slot)
    self._arrays = arrays
    for name, leaf in self._restored.items():
      self._columns(name, 0, slot)[...] = leaf
    self._restored = {}
    for name, leaf in leaves.items():
      self._columns(name, slot, slot + 1)[...] = leaf


def _allocate(leaves: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
  """Makes the arrays `[T, count * B, ...]` for rollouts of `[T, B, ...]`.

  Raises:
    ValueError: a leaf lacks the time or the environments axis, or T or B differ.
  """
  sizes = {}
  for name, leaf in leaves.items():
    if leaf.ndim < 2:
      raise ValueError(f"leaf {name!r} must be [T, B, ...], got the shape {leaf.shape}")
    sizes.setdefault(leaf.shape[:2], name)
  if len(sizes) != 1:
    raise ValueError(f"all leaves must share [T, B], got {sizes}")
  return {
    name: np.empty((leaf.shape[0], count * leaf.shape[1], *leaf.shape[2:]), leaf.dtype)
    for name, leaf in leaves.items()
  }


def _check(
  leaves: Mapping[str, np.ndarray],
  arrays: Mapping[str, np.ndarray],
  count: int,
  *,
  rollouts: int = 1,
) -> None:
  """Raises ValueError where `leaves`, of so many rollouts, do not fit a group's arrays."""
  if leaves.keys() != arrays.keys():
    odd = sorted(leaves.keys() ^ arrays.keys())
    raise ValueError(f"the leaves differ from the group's: {odd}")
  for name, leaf in leaves.items():
    group = arrays[name]
    wanted = (group.shape[0], rollouts * (group.shape[1] // count), *group.shape[2:])
    if leaf.shape != wanted or leaf.dtype != group.dtype:
      raise ValueError(
        f"leaf {name!r} is {leaf.dtype}{list(leaf.shape)},"
        f" the group takes {group.dtype}{list(wanted)}"
      )
