"""How many rollouts wait for the rest of their group when a run is saved.

Answered in Python's integers, and no slower for a longer run: the counts repeat.
"""

from collections.abc import Sequence
import math


def waiting(counts: Sequence[int], *, turn: int) -> int:
  """Returns how many rollouts wait after `turn` rollouts, in queues that group `counts` of them."""
  return sum(turn % count for count in counts)


def most_waiting(
  counts: Sequence[int], *, turns: int, steps_per_turn: int, checkpoint_every: int
) -> int:
  """Returns the most rollouts that wait at any one of a run's regular checkpoints.

  Checkpoint k comes after turn ceil(k * checkpoint_every / steps_per_turn). As many wait at
  checkpoint k + p, for the least p whose steps are a whole number of groups of every queue:
  checkpoints 1 to p are looked at, or all if there are fewer.

  Args:
    counts: rollouts in a group, of each queue.
    turns: of the run, or as many of the first as are asked about.
    steps_per_turn: environment steps of a rollout, over all environments.
    checkpoint_every: environment steps.
  """
  if max(counts, default=1) == 1:
    return 0
  every = max(checkpoint_every, steps_per_turn)  # one after each turn, but no more than one
  checkpoints = turns * steps_per_turn // every
  period = math.lcm(every, steps_per_turn * math.lcm(*counts)) // every
  return max(
    (
      waiting(counts, turn=-(-k * every // steps_per_turn))
      for k in range(1, min(checkpoints, period) + 1)
    ),
    default=0,
  )
