"""Keys and seeds follow from what they are for and when."""

import itertools

import jax
import numpy as np

from training.keys import Purpose, derive_key, derive_seed

BASE = jax.random.key(5)


def data(*path) -> tuple[int, ...]:
  return tuple(np.asarray(jax.random.key_data(derive_key(BASE, *path))).tolist())


def test_the_same_path_gives_the_same_key():
  assert data(Purpose.ACT, 3, 4) == data(Purpose.ACT, 3, 4)


def test_different_paths_give_different_keys():
  paths = [
    (purpose, *steps)
    for purpose in Purpose
    for length in range(3)
    for steps in itertools.product(range(3), repeat=length)
  ]
  assert len({data(*path) for path in paths}) == len(paths)
  assert len({derive_seed(5, *path) for path in paths}) == len(paths)
  assert len({derive_seed(seed, Purpose.ENVIRONMENT) for seed in range(1000)}) == 1000


def test_counters_up_to_32_bits():
  assert data(Purpose.ACT, 2**32 - 1) != data(Purpose.ACT, 0)


def test_seeds_fit_what_takes_them():
  seeds = [derive_seed(seed, purpose) for seed in range(200) for purpose in Purpose]
  assert all(0 <= seed < 2**31 for seed in seeds)


def test_purposes_keep_their_numbers():
  """They are part of every run's identity: a changed one would break every resume."""
  assert {purpose.name: int(purpose) for purpose in Purpose} == {
    "INITIALISE": 0,
    "ACT": 1,
    "MAKE_TARGETS": 2,
    "UPDATE": 3,
    "SHUFFLE": 4,
    "EVALUATE": 5,
    "ENVIRONMENT": 6,
    "SOURCE": 7,
  }
