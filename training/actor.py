"""Collects trajectories: one loop over environment steps, one compiled function."""

from collections.abc import Callable, Mapping
import time

import jax
from jax.sharding import Mesh
import numpy as np

from agents.interface import ActorOutput, PolicyParams
from environments.interface import Environment, TimeStep
from replay.interface import Trajectory
from training import sharding
from training.episodes import Episode, EpisodeTracker
from training.keys import Purpose, derive_key


class CompiledAct:
  """An agent's `act` or `act_greedy`, compiled; each shard of environments by itself."""

  def __init__(self, act: Callable, mesh: Mesh):
    self._mesh = mesh
    self._act = sharding.on_shards(act, mesh, record=sharding.BATCH_FIRST)

  def __call__(self, params: PolicyParams, observation: np.ndarray, key: jax.Array) -> ActorOutput:
    """Acts on `[B, H, W, C]` uint8; consumes the key."""
    return self._act(params, sharding.place(observation, self._mesh, sharding.BATCH_FIRST), key)

  def compilations(self) -> int:
    """Returns how often it was compiled; more than 1 is a defect."""
    return self._act._cache_size()


class Actor:
  """Steps B environments and stores what they show, every frame once.

  Attributes:
    inference_seconds: of the last rollout, spent in choosing actions.
  """

  def __init__(self, environment: Environment, act: CompiledAct, *, rollout_length: int):
    self._environment = environment
    self._act = act
    self._rollout_length = rollout_length
    self.inference_seconds = 0.0
    self._tracker = EpisodeTracker(environment.spec)
    self._time_step = environment.observe()
    self._tracker.start(self._time_step)

  @property
  def steps_per_rollout(self) -> int:
    """Environment steps in one trajectory, T * B."""
    return self._rollout_length * self._environment.spec.num_environments

  def compilations(self) -> int:
    """Returns how often acting was compiled."""
    return self._act.compilations()

  def collect(
    self, params: PolicyParams, *, base_key: jax.Array, rollout: int
  ) -> tuple[Trajectory, list[Episode]]:
    """Acts for T steps.

    Args:
      params: what acting needs.
      base_key: the run's key.
      rollout: number of this rollout in the run; keys follow from it.

    Returns:
      The trajectory `[T, B, ...]`, and the episodes that ended in it.
    """
    key = derive_key(base_key, Purpose.ACT, rollout)
    keys = jax.random.split(key, self._rollout_length)
    storage = _Storage(self._rollout_length, self._time_step)
    episodes = []
    self.inference_seconds = 0.0
    for t in range(self._rollout_length):
      observation = self._time_step.observation
      start = time.perf_counter()
      output = self._act(params, observation, keys[t])
      action = np.asarray(output.action)
      self.inference_seconds += time.perf_counter() - start
      self._environment.act(action)
      self._time_step = self._environment.observe()
      storage.write(t, observation, output, time_step=self._time_step)
      episodes.extend(self._tracker.update(self._time_step))
    return storage.trajectory(self._time_step.observation), episodes

  def save_state(self) -> tuple[dict[str, np.ndarray], list[bytes]]:
    """Returns the unfinished episodes and the environments' exact states."""
    return self._tracker.save_state(), self._environment.save_state()

  def restore_state(self, tracker: Mapping[str, np.ndarray], environments: list[bytes]) -> None:
    """Takes back what `save_state` returned."""
    self._environment.restore_state(environments)
    self._time_step = self._environment.observe()
    self._tracker.restore_state(tracker)


class _Storage:
  """Preallocated arrays of one trajectory."""

  def __init__(self, length: int, time_step: TimeStep):
    batch = time_step.reward.shape[0]
    self._observation = np.empty((length, *time_step.observation.shape), np.uint8)
    self._action = np.empty((length, batch), np.int32)
    self._reward = np.empty((length, batch), np.float32)
    self._discount = np.empty((length, batch), np.float32)
    self._extras: dict[str, np.ndarray] = {}
    self._length = length

  def write(
    self,
    t: int,
    observation: np.ndarray,
    output: ActorOutput,
    *,
    time_step: TimeStep,
  ) -> None:
    """Stores step t, what was done in it and what came after it."""
    self._observation[t] = observation
    self._action[t] = output.action
    self._reward[t] = time_step.reward
    self._discount[t] = 1.0 - time_step.first
    for name, value in output.extras.items():
      value = np.asarray(value)
      if name not in self._extras:
        self._extras[name] = np.empty((self._length, *value.shape), value.dtype)
      self._extras[name][t] = value

  def trajectory(self, final_observation: np.ndarray) -> Trajectory:
    """Hands the arrays over."""
    return Trajectory(
      observation=self._observation,
      action=self._action,
      reward=self._reward,
      discount=self._discount,
      extras=self._extras,
      final_observation=final_observation,
    )
