"""Random keys, derived from what they are for and when, never carried.

A resumed run derives the same keys as one that was never stopped.
"""

import enum
import zlib

import jax
import numpy as np


class Purpose(enum.IntEnum):
  """What a key is for. Numbers are part of a run's identity: append, never renumber."""

  INITIALISE = 0
  ACT = 1
  MAKE_TARGETS = 2
  UPDATE = 3
  SHUFFLE = 4
  EVALUATE = 5
  ENVIRONMENT = 6
  SOURCE = 7


def derive_key(base: jax.Array, purpose: Purpose, *steps: int) -> jax.Array:
  """Returns the key for `purpose` at `steps`, a path of counters below 2^32."""
  key = jax.random.fold_in(base, int(purpose))
  for step in steps:
    key = jax.random.fold_in(key, np.uint32(step))
  return key


def derive_seed(seed: int, purpose: Purpose, *steps: int) -> int:
  """Returns a 31-bit seed for code outside JAX: environments, replay, shuffling."""
  path = ",".join(str(int(part)) for part in (seed, purpose, *steps))
  return zlib.crc32(path.encode()) & 0x7FFFFFFF
