"""Runs an agent's phases on the devices; owns the train state."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np

from agents.interface import Agent, Batch, Phase, PolicyParams, TrainState
from replay.interface import Record, Trajectory
from training import sharding
from training.averages import Metric, average, is_finite
from training.keys import Purpose, derive_key, derive_seed


class NonFiniteError(RuntimeError):
  """A metric of an update, or a number of the train state, is NaN or infinite."""


class Learner:
  """The train state and the compiled functions that change it."""

  def __init__(self, agent: Agent, *, mesh: Mesh, seed: int):
    self._mesh = mesh
    self._own_mesh = sharding.make_own_mesh() if mesh.is_multi_process else None
    self._seed = seed
    self._key = jax.random.key(seed)
    key = derive_key(self._key, Purpose.INITIALISE)
    self.state: TrainState = sharding.on_mesh(agent.init, mesh, results=sharding.REPLICATED)(key)
    self._publish = sharding.on_mesh(
      lambda state: jax.tree.map(jnp.copy, agent.policy_params(state)),
      mesh,
      results=sharding.REPLICATED,
    )
    self._postprocess = sharding.on_mesh(
      agent.postprocess, mesh, results=(sharding.REPLICATED, sharding.TIME_FIRST)
    )
    self._finite = sharding.on_mesh(
      lambda state: jax.tree.map(lambda x: jnp.all(jnp.isfinite(x)), state),
      mesh,
      results=sharding.REPLICATED,
    )
    self._phases = tuple(_CompiledPhase(phase, mesh) for phase in agent.phases)

  def publish(self) -> PolicyParams:
    """Returns a copy of what acting needs: the state itself is donated to updates.

    Of several processes each gets one on its own devices, to act without the others.
    """
    published = self._publish(self.state)
    return sharding.own_copy(published, self._own_mesh) if self._own_mesh else published

  def postprocess(self, trajectory: Trajectory) -> Record:
    """Turns an arriving trajectory into a record, on the devices.

    Of several processes each gives its own environments' and gets their record, as numpy.
    """
    specs = Trajectory(*(sharding.TIME_FIRST,) * 5, final_observation=sharding.BATCH_FIRST)
    specs = specs._replace(extras=dict.fromkeys(trajectory.extras, sharding.TIME_FIRST))
    placed = sharding.place(trajectory, self._mesh, specs)
    self.state, record = self._postprocess(self.state, placed)
    return sharding.own_part(record)

  def make_targets(self, index: int, record: Record, *, draw: int) -> Batch:
    """Makes phase `index`'s batch of a drawn record, `[T, B, ...]`.

    Args:
      index: of the phase among the agent's.
      record: drawn from the phase's source.
      draw: number of this draw in the run; the key follows from it.
    """
    key = derive_key(self._key, Purpose.MAKE_TARGETS, index, draw)
    if self._own_mesh:
      record = sharding.place(record, self._mesh, sharding.TIME_FIRST)
    return self._phases[index].make_targets(self.state, record, key)

  def update(self, index: int, batch: Batch, *, draw: int) -> dict[str, Metric]:
    """Learns from a batch, for all epochs and minibatches of phase `index`.

    Args:
      index: of the phase among the agent's.
      batch: of `make_targets`, `[N, ...]`.
      draw: number of this draw in the run; keys and shuffling follow from it.

    Returns:
      Metrics `phase/quantity`, of all updates together.

    Raises:
      NonFiniteError: a metric is not finite; names the phase, quantity and update.
    """
    compiled = self._phases[index]
    key = derive_key(self._key, Purpose.UPDATE, index, draw)
    generator = np.random.default_rng(derive_seed(self._seed, Purpose.SHUFFLE, index, draw))
    metrics = []
    for minibatch in compiled.minibatches(batch, generator):
      update_key = jax.random.fold_in(key, len(metrics))
      self.state, update_metrics = compiled.update(self.state, (batch, minibatch), update_key)
      metrics.append(update_metrics)
    return _summarise(compiled.phase.name, jax.device_get(metrics))

  def place_state(self, state: TrainState) -> None:
    """Takes a train state, the same in every process, and puts it on the devices of all."""
    self.state = sharding.place(state, self._mesh, sharding.REPLICATED)

  def check_finite(self) -> None:
    """Raises NonFiniteError, naming the place, unless every number of the state is finite.

    An update's metrics are of the parameters before it: they do not show that the last
    update has spoilt them.
    """
    finite = jax.device_get(self._finite(self.state))
    for path, is_good in jax.tree_util.tree_leaves_with_path(finite):
      if not is_good:
        raise NonFiniteError(f"the train state{jax.tree_util.keystr(path)} is not finite")

  def compilations(self) -> dict[str, int]:
    """Returns how often each function was compiled; more than 1 is a defect."""
    counts = {
      "publish": self._publish._cache_size(),
      "postprocess": self._postprocess._cache_size(),
      "check_finite": self._finite._cache_size(),
    }
    for compiled in self._phases:
      counts |= compiled.compilations()
    return counts


class _CompiledPhase:
  """One phase's compiled functions."""

  def __init__(self, phase: Phase, mesh: Mesh):
    self.phase = phase
    self._mesh = mesh
    self.make_targets = sharding.on_shards(phase.make_targets, mesh, record=sharding.TIME_FIRST)

    def update(state, drawn, key, shards):
      return phase.update(state, sharding.take(*drawn), key, shards)

    self.update = sharding.on_shards_together(update, mesh, donate_argnums=0)

  def minibatches(self, batch: Any, generator: np.random.Generator):
    """Yields `[M]` indices into the batch, for all epochs."""
    size = jax.tree.leaves(batch)[0].shape[0]
    count = self.phase.num_minibatches
    sharding.check_divides(size, count, mesh=self._mesh, what=f"phase {self.phase.name}")
    for _ in range(self.phase.epochs):
      indices = sharding.shuffled_minibatches(size, count, mesh=self._mesh, generator=generator)
      yield from (sharding.place_whole(row, self._mesh, sharding.BATCH_FIRST) for row in indices)

  def compilations(self) -> dict[str, int]:
    """Returns how often each function was compiled."""
    name = self.phase.name
    return {
      f"{name}/make_targets": self.make_targets._cache_size(),
      f"{name}/update": self.update._cache_size(),
    }


def _summarise(phase: str, metrics: list[Mapping[str, Metric]]) -> dict[str, Metric]:
  """Metrics of a phase's updates together, checked to be finite."""
  for number, update_metrics in enumerate(metrics):
    for name, value in update_metrics.items():
      if not is_finite(value):
        raise NonFiniteError(f"{phase}/{name} is {value} in update {number} of its draw")
  return {f"{phase}/{name}": metric for name, metric in average(metrics).items()}
