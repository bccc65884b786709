"""The reanalyse replay: stored frames, drawn again and again as windows.

Knows counts, indices and arrays only. Targets are made of what it draws by the
learner, so it never holds one.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from replay import windows
from replay.frame_store import FrameStore
from replay.interface import Record, Sequences
from replay.plan import DRAWN_AHEAD
from replay.prefetch import Prefetcher
from replay.priorities import Priorities
from replay.sequence_state import check_entries, identity

_COUNTERS = ("num_environments", "frames", "draws")
_LEAF = "leaves/"
_WEIGHTS = ("priorities/weights", "priorities/largest_priority")
_PENDING = ("pending/environment", "pending/frame_number", "pending/priority")


class SequenceBuffer:
  """A Source of windows; see `Sequences` for what is drawn and how often.

  A draw follows from the seed, its number, and what was stored by the last `add`:
  nothing that happens between two calls of `add` changes it. Priorities set by
  `update_priorities` therefore count from the next `add` on. So batches can be
  drawn ahead, and a resumed run draws the same ones.
  """

  def __init__(
    self,
    request: Sequences,
    *,
    seed: int,
    prepare: Callable[[Record], Any] = lambda record: record,
    ahead: int = DRAWN_AHEAD,
  ):
    """Allocates nothing: shapes are learnt from the first record.

    Args:
      request: what is asked for.
      seed: of the draws, at least 0.
      prepare: applied to every drawn record, in the prefetching thread, for
        example to place it on a device.
      ahead: draws to have ready before they are asked for.

    Raises:
      ValueError: seed or ahead is negative.
    """
    for name, value in (("seed", seed), ("ahead", ahead)):
      if value < 0:
        raise ValueError(f"{name} must be at least 0, got {value}")
    self._request = request
    self._seed = seed
    self._prepare = prepare
    self._prefetcher = Prefetcher(self._sample, ahead=ahead)
    self._store = FrameStore(request)
    self._priorities: Priorities | None = None
    self._pending: list[tuple[np.ndarray, ...]] = []  # arguments of update_priorities
    self._draws = 0

  @property
  def nbytes(self) -> int:
    """Bytes of everything that is stored; the drawn batches come on top."""
    return self._store.nbytes + (self._priorities.nbytes if self._priorities else 0)

  @property
  def stored(self) -> range:
    """Numbers of the frames that every environment has stored."""
    return range(self._store.oldest, self._store.frames)

  def add(self, record: Record) -> None:
    """Stores a copy of T frames of every environment.

    Args:
      record: `[T, B, ...]` arrays by name, of numpy or on a device; `observation`
        is required. The same names, shapes, dtypes and B every time.

    Raises:
      TypeError: the record is not a mapping of names to arrays.
      ValueError: an entry does not fit, or the request cannot be met; nothing is stored.
      MemoryError: compressed observations outgrow their budget.
    """
    self._prefetcher.cancel()
    before = self._store.frames
    steps = self._store.write(record)
    if self._request.priority_exponent:
      self._add_priorities(before, steps)
    self._schedule()

  def updates_due(self) -> int:
    """Returns how many draws the inserted steps have earned that were not made yet."""
    return self._request.draws_earned(self._inserted()) - self._draws

  def draw(self) -> Record:
    """Returns the next windows.

    Returns:
      every stored entry, `[L, N, ...]`, and those of `SAMPLE_LEAVES`, `[S, N]`, for
      N = batch_size; or what `prepare` makes of that.

    Raises:
      RuntimeError: no update is due.
    """
    if self.updates_due() < 1:
      raise RuntimeError(
        f"no update is due after {self._inserted()} environment steps and {self._draws} draws"
      )
    record = self._prefetcher.take(self._draws)
    self._draws += 1
    return record

  def update_priorities(
    self, environment: np.ndarray, frame_number: np.ndarray, priority: np.ndarray
  ) -> int:
    """Sets priorities of drawn samples, from the next `add` on.

    Args:
      environment: as drawn, of any shape.
      frame_number: as drawn, of the same shape. Frames that have been overwritten
        since are left alone.
      priority: of the same shape, finite and above 0. Where a sample occurs twice,
        its last priority stays.

    Returns:
      How many samples were left alone.

    Raises:
      RuntimeError: draws are uniform.
      ValueError: the shapes differ, a priority is not positive, or a sample was
        never stored.
    """
    if not self._request.priority_exponent:
      raise RuntimeError("priorities have no effect on uniform draws: priority_exponent is 0")
    environment, frame = np.array(environment, np.int64), np.array(frame_number, np.int64)
    priority = np.array(priority, np.float64)
    if not environment.shape == frame.shape == priority.shape:
      raise ValueError(
        f"shapes differ: environment {environment.shape}, frame_number {frame.shape}, priority"
        f" {priority.shape}"
      )
    if not (np.isfinite(priority) & (priority > 0)).all():
      raise ValueError("every priority must be finite and above 0: add a small constant to errors")
    known = (environment >= 0) & (environment < self._store.num_environments)
    if not (known & (frame >= 0) & (frame < self._store.frames)).all():
      raise ValueError("priorities of samples that were never stored")
    stored = frame >= self._store.oldest
    self._pending.append((environment[stored], frame[stored], priority[stored]))
    return int((~stored).sum())

  def facts(self) -> dict[str, float]:
    """Returns how many frames are stored, over all environments."""
    return {"frames": float(len(self.stored) * self._store.num_environments)}

  def save_state(self) -> dict[str, np.ndarray]:
    """Returns counters, priorities and a copy of all stored frames.

    Fit for small rings; `replay.snapshots` saves large ones piece by piece.
    """
    leaves = self.read_frames(self.stored) if self.stored else {}
    return self.save_counters() | {_LEAF + name: leaf for name, leaf in leaves.items()}

  def restore_state(self, state: Mapping[str, np.ndarray]) -> None:
    """Takes back what `save_state` returned.

    Raises:
      ValueError: the state does not fit this source; the message names the entry.
    """
    leaves = {name[len(_LEAF) :]: x for name, x in state.items() if name.startswith(_LEAF)}
    counters = {name: x for name, x in state.items() if not name.startswith(_LEAF)}
    self.restore(counters, [leaves] if leaves else [])

  def save_counters(self) -> dict[str, np.ndarray]:
    """Returns everything but the stored frames."""
    store = self._store
    values = (store.num_environments, store.frames, self._draws)
    state = identity(self._request, self._seed) | dict(zip(_COUNTERS, values, strict=True))
    if self._priorities:
      weights = self._priorities.save_state(store.frames)
      state |= dict(zip(_WEIGHTS, weights, strict=True))
    columns = [np.concatenate(column) for column in zip(*self._pending, strict=True)]
    if columns and len(columns[0]):
      state |= dict(zip(_PENDING, columns, strict=True))
    return {name: np.asarray(value) for name, value in state.items()}

  def read_frames(self, numbers: range) -> dict[str, np.ndarray]:
    """Returns stored frames of every environment.

    Args:
      numbers: consecutive frame numbers, all stored.

    Returns:
      `[len(numbers), B, ...]` by name.
    """
    self._prefetcher.cancel()
    environment = np.arange(self._store.num_environments)
    first = np.full_like(environment, numbers.start)
    leaves = self._store.read(environment, first, length=len(numbers))
    self._schedule()
    return leaves

  def restore(
    self, counters: Mapping[str, np.ndarray], pieces: Iterable[Mapping[str, np.ndarray]]
  ) -> None:
    """Continues bit for bit.

    Args:
      counters: from `save_counters`.
      pieces: the stored frames, oldest first, in records `[T_i, B, ...]`.

    Raises:
      ValueError: they do not fit this source, which is then as it was before; the
        message names the entry.
    """
    prioritised = bool(self._request.priority_exponent and int(counters.get("frames", 0)))
    check_entries(
      counters,
      expected=identity(self._request, self._seed),
      required=(*_COUNTERS, *(_WEIGHTS if prioritised else ())),
      optional=_PENDING,
    )
    frames, num_environments = int(counters["frames"]), int(counters["num_environments"])
    oldest = windows.oldest_frame(frames, self._request.capacity // max(1, num_environments))
    store = FrameStore(self._request, first=oldest)
    for piece in pieces:
      store.write(piece)
    if (store.frames, store.num_environments) != (frames, num_environments):
      raise ValueError(
        f"the state's frames end at {store.frames} of {store.num_environments} environments, its"
        f" entries 'frames' and 'num_environments' say {frames} of {num_environments}"
      )
    priorities = None
    if prioritised:
      priorities = self._new_priorities(store)
      priorities.restore_state(*(counters[name] for name in _WEIGHTS), frames=frames)
    self._prefetcher.cancel()
    self._store, self._priorities, self._draws = store, priorities, int(counters["draws"])
    pending = _PENDING[0] in counters
    self._pending = [tuple(np.array(counters[name]) for name in _PENDING)] if pending else []
    self._schedule()

  def close(self) -> None:
    """Ends the prefetching thread."""
    self._prefetcher.close()

  def _inserted(self) -> int:
    """Environment steps of all time."""
    return self._store.frames * self._store.num_environments

  def _schedule(self) -> None:
    """Lets the prefetcher work on what is due."""
    self._prefetcher.schedule(self._draws, self._draws + self.updates_due())

  def _new_priorities(self, store: FrameStore) -> Priorities:
    return Priorities(
      self._request, num_environments=store.num_environments, capacity=store.capacity
    )

  def _add_priorities(self, frames: int, added: int) -> None:
    """Applies what `update_priorities` was told, then lets new frames in."""
    if self._priorities is None:
      self._priorities = self._new_priorities(self._store)
    for environment, frame, priority in self._pending:
      self._priorities.update(environment, frame, priority, frames=frames)
    self._pending = []
    self._priorities.add(frames, added)

  def _sample(self, draw: int) -> Any:
    """Makes draw number `draw` of what is stored now."""
    request, store = self._request, self._store
    generator = np.random.Generator(np.random.Philox(key=np.array([self._seed, draw], np.uint64)))
    if self._priorities:
      environment, first = self._priorities.draw(generator, frames=store.frames)
      weight = self._priorities.importance_weights(environment, first)
    else:
      windows_each = windows.num_windows(store.frames, store.capacity, length=request.length)
      index = generator.integers(store.num_environments * windows_each, size=request.batch_size)
      environment, first = windows.locate_window(
        index, store.frames, store.capacity, length=request.length
      )
      weight = np.ones((request.starts, request.batch_size), np.float32)
    record = store.read(environment, first, length=request.length)
    frame = windows.window_frames(first, request.starts)
    record["environment"] = np.broadcast_to(environment, frame.shape).astype(np.int32)
    record["frame_number"] = frame.astype(np.int32)
    record["age"] = (store.frames - frame).astype(np.int32)
    record["importance_weight"] = weight
    return self._prepare(record)
