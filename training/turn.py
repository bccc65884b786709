"""One turn: collect a rollout, hand it to the sources, run every phase that is due."""

from collections.abc import Iterator, Sequence
import contextlib
from typing import Any

import jax
import numpy as np

from agents.interface import Agent
from replay.interface import Source
from training import sharding
from training.actor import Actor
from training.averages import Metric, average, settled
from training.counters import Counters
from training.episodes import Episode
from training.learner import Learner, NonFiniteError
from training.processes import ALONE, Processes
from training.stopwatch import Stopwatch


class Turn:
  """What a turn does, in the order in which it does it."""

  def __init__(
    self,
    agent: Agent,
    *,
    actor: Actor,
    learner: Learner,
    sources: Sequence[Source],
    key: jax.Array,
    processes: Processes = ALONE,
  ):
    self._agent = agent
    self._actor = actor
    self._learner = learner
    self._sources = sources
    self._key = key
    self._processes = processes

  def run(self, counters: Counters) -> tuple[dict[str, Any], list[Episode]]:
    """Makes a turn.

    Args:
      counters: of the run; are moved on.

    Returns:
      The turn's metrics: those of all draws together, what the sources say, `speed/...`. And the
      episodes that ended in it.

    Raises:
      NonFiniteError: a loss is not finite; names the environment step.
    """
    watch = Stopwatch()
    episodes = self._collect(counters, watch)
    counters.rollouts += 1
    counters.environment_steps += self._steps_of_all()
    counters.add_episodes(episodes)
    row = self._learn(counters, watch)
    for phase, source in zip(self._agent.phases, self._sources, strict=True):
      row |= {f"{phase.name}/replay_{name}": fact for name, fact in source.facts().items()}
    counters.seconds += watch.elapsed()
    return {**row, **watch.report()}, episodes

  def _steps_of_all(self) -> int:
    """Returns the environment steps of one rollout, over all processes."""
    return self._actor.steps_per_rollout * self._processes.count

  def _collect(self, counters: Counters, watch: Stopwatch) -> list[Episode]:
    """Hands one rollout to every phase's source; returns the episodes that ended in it."""
    params = self._learner.publish()
    with watch.part("acting"):
      trajectory, episodes = self._actor.collect(
        params, base_key=self._key, rollout=counters.rollouts
      )
    watch.add_seconds("inference", self._actor.inference_seconds)
    watch.count({"steps": 1, **self._agent.work}, times=self._steps_of_all())
    record = self._learner.postprocess(trajectory)
    with watch.part("replay"):
      for source in self._sources:
        source.add(record)
    return episodes

  def _learn(self, counters: Counters, watch: Stopwatch) -> dict[str, float]:
    """Runs every phase that is due; returns its metrics over the draws."""
    row: dict[str, float] = {}
    for index, source in enumerate(self._sources):
      draws = []
      while source.updates_due():
        with naming_the_step(counters):
          draws.append(self._run_phase(index, counters.draws[index], watch))
        counters.draws[index] += 1
      if draws:
        row |= settled(average(draws))
    return row

  def _run_phase(self, index: int, draw: int, watch: Stopwatch) -> dict[str, Metric]:
    """Runs a phase on one draw; returns its metrics."""
    phase, source = self._agent.phases[index], self._sources[index]
    with watch.part("replay"):
      record = source.draw()
    with watch.part(f"{phase.name}_targets"):
      batch = jax.block_until_ready(self._learner.make_targets(index, record, draw=draw))
    if phase.priorities is not None:
      with watch.part("replay"):
        priorities = sharding.own_part(tuple(phase.priorities(batch)))
        source.update_priorities(*map(np.asarray, priorities))
    with watch.part(f"{phase.name}_update"):
      metrics = self._learner.update(index, batch, draw=draw)
    watch.count({"updates": phase.epochs * phase.num_minibatches, **phase.work})
    return metrics


@contextlib.contextmanager
def naming_the_step(counters: Counters) -> Iterator[None]:
  """Adds the environment step to what a NonFiniteError says."""
  try:
    yield
  except NonFiniteError as error:
    steps = counters.environment_steps
    raise NonFiniteError(f"at environment step {steps}: {error}") from None
