"""From what a phase asks for to the source that answers it."""

from replay.interface import Rollouts, Source
from replay.rollout_queue import RolloutQueue


def make_source(request: Rollouts) -> Source:
  """Builds the source for a phase's request.

  Args:
    request: what the phase asks for.

  Raises:
    TypeError: no source answers such a request.
  """
  if isinstance(request, Rollouts):
    return RolloutQueue(request)
  raise TypeError(f"no source answers a request of type {type(request).__name__}")
