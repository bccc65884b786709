"""A checking environment and a checking agent: every number says where and when it is from.

Frames are coded (environment, steps of all time, episode). The agent's action is a function
of the frame alone, and the environment refuses any other: acting on a frame of another
environment or another step is found at once.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from agents.interface import ActorOutput
from environments.interface import EnvironmentSpec, TimeStep

NUM_ACTIONS = 7
SHAPE = (1, 8, 1)  # environment, 4 bytes of the step, 2 bytes of the episode, nothing
TIME_LIMIT = 4


def expected_action(environment, step):
  """The one action that is right in a step."""
  return (3 * environment + 5 * step) % NUM_ACTIONS


def expected_reward(environment, step):
  """The reward after the action of a step; exact in float32."""
  return 1000.0 * environment + step


def episode_length(environment: int, episode: int) -> int:
  """Lengths from 1 to the time limit, different for every environment."""
  return 1 + (environment + 3 * episode) % TIME_LIMIT


def encode(environment: int, step: int, episode: int) -> np.ndarray:
  """Returns a frame."""
  values = [environment, *np.uint32(step).tobytes(), *np.uint16(episode).tobytes(), 0]
  return np.asarray(values, np.uint8).reshape(SHAPE)


def decode(frames):
  """Returns environment and step of frames `[..., 1, 8, 1]`, `[...]` int32 each."""
  x = frames[..., 0, :, 0].astype(np.int32)
  step = x[..., 1] + 256 * (x[..., 2] + 256 * (x[..., 3] + 256 * x[..., 4]))
  return x[..., 0], step


class CounterEnvironment:
  """B counters; see the module."""

  def __init__(self, num_environments: int):
    self.spec = EnvironmentSpec("counter", num_environments, SHAPE, NUM_ACTIONS, TIME_LIMIT)
    self.step = 0  # of all time
    self.age = np.zeros(num_environments, int)
    self.episode = np.zeros(num_environments, int)
    self.reward = np.zeros(num_environments, np.float32)
    self.first = np.ones(num_environments, bool)
    self.closed = False

  def observe(self) -> TimeStep:
    index = range(self.spec.num_environments)
    return TimeStep(
      observation=np.stack([encode(b, self.step, self.episode[b]) for b in index]),
      reward=self.reward.copy(),
      first=self.first.copy(),
      level_seed=np.asarray([100 * self.episode[b] + b for b in index], np.int32),
      previous_level_complete=self.first & (self.episode % 2 == 1),
    )

  def act(self, action: np.ndarray) -> None:
    index = np.arange(self.spec.num_environments)
    assert action.dtype == np.int32
    np.testing.assert_array_equal(action, expected_action(index, self.step))
    self.reward = expected_reward(index, self.step).astype(np.float32)
    self.age += 1
    lengths = [episode_length(b, self.episode[b]) for b in index]
    self.first = self.age == lengths
    self.age[self.first] = 0
    self.episode[self.first] += 1
    self.step += 1

  def save_state(self) -> list[bytes]:
    parts = zip(self.age, self.episode, self.reward, self.first, strict=True)
    return [np.asarray([self.step, *each], np.float64).tobytes() for each in parts]

  def restore_state(self, states: Sequence[bytes]) -> None:
    values = np.stack([np.frombuffer(each, np.float64) for each in states])
    self.step = int(values[0, 0])
    self.age, self.episode = values[:, 1].astype(int), values[:, 2].astype(int)
    self.reward, self.first = values[:, 3].astype(np.float32), values[:, 4].astype(bool)

  def close(self) -> None:
    self.closed = True


def checking_act(params, observation, key) -> ActorOutput:
  """Acts right if it is shown the right frame, and reports what it saw."""
  environment, step = decode(observation)
  extras = {
    "environment": environment,
    "step": step + params,
    "noise": jax.random.uniform(key, environment.shape),
  }
  return ActorOutput(expected_action(environment, step).astype(jnp.int32), extras)
