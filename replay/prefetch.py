"""Works ahead in a thread, without changing any result.

What is worked out ahead must depend on its index alone as long as the indices are
scheduled; before anything else that it reads changes, the schedule is cancelled.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Prefetcher:
  """Calls `function(index)` for the next scheduled indices while the caller is busy."""

  def __init__(self, function: Callable[[int], Any], *, ahead: int):
    """Starts no work yet.

    Args:
      function: called by one thread at a time.
      ahead: results to keep ready; 0 works in the caller's thread only.
    """
    self._function = function
    self._ahead = ahead
    self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="replay-prefetch")
    self._futures: deque[tuple[int, Future]] = deque()
    self._next = self._stop = 0

  def schedule(self, start: int, stop: int) -> None:
    """Allows work on the indices from `start` up to `stop`; drops what was scheduled before."""
    self.cancel()
    self._next, self._stop = start, stop
    self._submit()

  def take(self, index: int) -> Any:
    """Returns `function(index)`.

    Raises:
      Exception: whatever `function` raised, here or in the thread.
    """
    if not (self._futures and self._futures[0][0] == index):
      self.cancel()
      return self._function(index)
    future = self._futures[0][1]
    try:
      result = future.result()
    except BaseException:
      self.cancel()
      raise
    self._futures.popleft()
    self._submit()
    return result

  def cancel(self) -> None:
    """Drops the schedule; no call is running when this returns."""
    self._next = self._stop
    for _, future in self._futures:
      future.cancel()
    while self._futures:
      future = self._futures.popleft()[1]
      if not future.cancelled():
        future.exception()  # waits; a result or an error that nobody asked for is dropped

  def close(self) -> None:
    """Drops the schedule and ends the thread."""
    self.cancel()
    self._executor.shutdown()

  def _submit(self) -> None:
    """Keeps `ahead` results on their way."""
    while self._next < self._stop and len(self._futures) < self._ahead:
      future = self._executor.submit(self._function, self._next)
      self._futures.append((self._next, future))
      self._next += 1
