"""Records whose every entry tells environment and frame number, and requests that fit them."""

import numpy as np

from replay.interface import Sequences

NUM_ENVIRONMENTS = 3
FRAME_BYTES = 8 * 8 * 3


def record(first, steps, num_environments=NUM_ENVIRONMENTS):
  """Frames `first` to `first + steps` of every environment."""
  frame = np.repeat(np.arange(first, first + steps)[:, None], num_environments, axis=1)
  environment = np.repeat(np.arange(num_environments)[None, :], steps, axis=0)
  coded = np.stack([environment, frame % 256, frame // 256], axis=-1).astype(np.uint8)
  return {
    "observation": np.broadcast_to(coded[:, :, None, None, :], (*frame.shape, 8, 8, 3)).copy(),
    "action": (1000 * environment + frame).astype(np.int32),
    "policy": np.stack([environment, frame], axis=-1).astype(np.float32),
  }


def decode(drawn):
  """Returns environment and frame number `[L, N]` of a drawn record; its entries must agree."""
  frame = drawn["policy"][..., 1].astype(int)
  environment = drawn["policy"][..., 0].astype(int)
  observation = drawn["observation"].astype(int)
  assert (observation == observation[:, :, :1, :1]).all()
  np.testing.assert_array_equal(observation[:, :, 0, 0, 0], environment)
  np.testing.assert_array_equal(
    observation[:, :, 0, 0, 1] + 256 * observation[:, :, 0, 0, 2], frame
  )
  np.testing.assert_array_equal(drawn["action"], 1000 * environment + frame)
  return environment, frame


def request(**fields):
  """A request for small rings: 40 frames of each of the environments."""
  defaults = {
    "length": 6,
    "starts": 2,
    "batch_size": 4,
    "capacity": 40 * NUM_ENVIRONMENTS,
    "min_size": 8 * NUM_ENVIRONMENTS,
    "samples_per_insert": 2,
  }
  return Sequences(**defaults | fields)
