"""Where a turn's time goes, and how much is done in it. Nothing follows from what it says."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import time


class Stopwatch:
  """Adds up seconds of parts, which may lie inside one another, and counts of work."""

  def __init__(self, *, now: Callable[[], float] = time.perf_counter):
    """Starts.

    Args:
      now: the time in seconds.
    """
    self._now = now
    self._start = now()
    self._seconds: dict[str, float] = {}
    self._work: dict[str, float] = {}

  @contextlib.contextmanager
  def part(self, name: str) -> Iterator[None]:
    """Counts the time inside as `name`; whoever calls waits for the devices inside."""
    start = self._now()
    try:
      yield
    finally:
      self.add_seconds(name, self._now() - start)

  def add_seconds(self, name: str, seconds: float) -> None:
    """Counts seconds that were measured elsewhere as `name`."""
    self._seconds[name] = self._seconds.get(name, 0.0) + seconds

  def count(self, work: Mapping[str, float], *, times: int = 1) -> None:
    """Counts work by name, `times` over."""
    for name, amount in work.items():
      self._work[name] = self._work.get(name, 0.0) + amount * times

  def elapsed(self) -> float:
    """Returns the seconds since the start."""
    return self._now() - self._start

  def report(self) -> dict[str, float]:
    """Returns each part's share of the time since the start, and work per second of it.

    Returns:
      `speed/PART_share` in [0, 1] and `speed/WORK_per_second`.
    """
    elapsed = self.elapsed()
    shares = {f"speed/{name}_share": spent / elapsed for name, spent in self._seconds.items()}
    rates = {f"speed/{name}_per_second": amount / elapsed for name, amount in self._work.items()}
    return {**shares, **rates}
