"""What a run has done so far: host integers, all of them in every checkpoint."""

from collections.abc import Sequence
import dataclasses

import numpy as np

from training.episodes import Episode
from training.metrics import finite_or_none

RECENT_EPISODES = 100  # published training returns are means over the last 100 episodes


@dataclasses.dataclass
class Counters:
  """What a run has done so far.

  Attributes:
    environment_steps: over all environments.
    rollouts: trajectories collected.
    episodes: finished in training.
    time_outs: of these, ended by the clock.
    seconds: of this run, over all resumes.
    draws: batches learnt from, per phase.
    recent: return, length and completion of the last episodes, oldest first.
  """

  environment_steps: int = 0
  rollouts: int = 0
  episodes: int = 0
  time_outs: int = 0
  seconds: float = 0.0
  draws: list[int] = dataclasses.field(default_factory=list)
  recent: list[list[float]] = dataclasses.field(default_factory=list)

  def add_episodes(self, episodes: Sequence[Episode]) -> None:
    """Counts episodes that ended."""
    self.episodes += len(episodes)
    self.time_outs += sum(episode.timed_out for episode in episodes)
    self.recent += [
      [episode.episode_return, episode.length, float(episode.level_complete)]
      for episode in episodes
    ]
    del self.recent[:-RECENT_EPISODES]

  def recent_means(self) -> list[float | None]:
    """Returns the mean return, length and completion of the last episodes, None before any."""
    if not self.recent:
      return [None, None, None]
    return [finite_or_none(float(x)) for x in np.mean(self.recent, axis=0)]
