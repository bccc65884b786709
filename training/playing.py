"""Plays a fixed quota of episodes in every environment, for whoever watches."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import numpy as np

from agents.interface import ActorOutput, PolicyParams
from environments.interface import Environment, TimeStep
from training.episodes import Episode, EpisodeTracker


class PlayedStep(NamedTuple):
  """One step of B environments."""

  before: TimeStep  # what was acted on
  output: ActorOutput
  after: TimeStep  # what came
  counts: np.ndarray  # [B] bool, the step is of an episode within the quota
  ended: list[Episode]  # those within the quota that this step ended


Watcher = Callable[[PlayedStep], None]


def play_episodes(
  environment: Environment,
  act: Callable[..., ActorOutput],
  params: PolicyParams,
  *,
  episodes_per_environment: int,
  key: jax.Array,
  watchers: Iterable[Watcher] = (),
) -> list[Episode]:
  """Plays until every environment has finished its quota; later episodes do not count.

  Args:
    environment: B fresh environments.
    act: compiled `act` or `act_greedy`.
    params: what acting needs.
    episodes_per_environment: the quota.
    key: consumed.
    watchers: called after every step, in this order.

  Returns:
    B * quota episodes, in the order in which they ended.
  """
  tracker = EpisodeTracker(environment.spec)
  time_step = environment.observe()
  tracker.start(time_step)
  remaining = np.full(environment.spec.num_environments, episodes_per_environment)
  episodes: list[Episode] = []
  step = 0
  while remaining.any():
    before, counts = time_step, remaining > 0
    output = act(params, before.observation, jax.random.fold_in(key, step))
    environment.act(np.asarray(output.action))
    time_step = environment.observe()
    ended = [each for each in tracker.update(time_step) if counts[each.environment]]
    for episode in ended:
      remaining[episode.environment] -= 1
    episodes.extend(ended)
    for watch in watchers:
      watch(PlayedStep(before, output, time_step, counts, ended))
    step += 1
  return episodes
