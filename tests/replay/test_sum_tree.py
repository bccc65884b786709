"""The sum tree against plain cumulative sums, and against flashbax's."""

from flashbax.buffers import sum_tree as flashbax_tree
from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from replay.sum_tree import SumTree, sum_tree_bytes


@settings(deadline=None, max_examples=60)
@given(size=st.integers(1, 700), seed=st.integers(0, 2**32 - 1), rounds=st.integers(1, 5))
def test_sets_and_finds_like_a_cumulative_sum(size, seed, rounds):
  rng = np.random.default_rng(seed)
  tree, naive = SumTree(size), np.zeros(size)
  for _ in range(rounds):
    index = rng.integers(0, size, rng.integers(1, 2 * size + 1))
    weight = rng.integers(0, 4, len(index)) / 4  # sums of quarters are exact: ties are real ties
    tree.set(index, weight)
    for i, w in zip(index, weight, strict=True):
      naive[i] = w
  np.testing.assert_array_equal(tree.get(np.arange(size)), naive)
  assert tree.total == naive.sum()
  if tree.total:
    mass = np.concatenate([np.arange(0, tree.total, 0.25), rng.random(50) * tree.total])
    expected = np.searchsorted(naive.cumsum(), mass, side="right")
    np.testing.assert_array_equal(tree.find(mass), expected)


def test_weights_of_zero_are_never_found_in_spite_of_rounding():
  rng = np.random.default_rng(0)
  for size in (5, 16, 17, 300, 5000):
    tree = SumTree(size)
    weight = np.where(rng.random(size) < 0.3, rng.random(size) ** 20, 0.0)
    weight[rng.integers(size)] = 1e-3
    tree.set(np.arange(size), weight)
    edges = np.concatenate([weight.cumsum(), [tree.total]])
    mass = np.concatenate([edges, np.nextafter(edges, 0), np.nextafter(edges, 1)])
    mass = mass[(mass >= 0) & (mass <= tree.total)]
    assert (weight[tree.find(mass)] > 0).all()


def test_sums_follow_from_the_leaves_alone():
  rng = np.random.default_rng(1)
  changed, fresh = SumTree(1000), SumTree(1000)
  for _ in range(200):
    changed.set(rng.integers(0, 1000, 30), rng.random(30) * 10.0 ** rng.integers(-8, 8, 30))
  fresh.set(np.arange(1000), changed.get(np.arange(1000)))
  assert changed.total == fresh.total
  mass = rng.random(1000) * changed.total
  np.testing.assert_array_equal(changed.find(mass), fresh.find(mass))


def test_agrees_with_flashbax():
  rng = np.random.default_rng(2)
  tree, theirs = SumTree(50), flashbax_tree.init(50)
  for _ in range(3):
    index = rng.permutation(50)[:20]
    weight = rng.integers(1, 100, 20).astype(np.float32)  # exact in their float32
    tree.set(index, weight)
    theirs = flashbax_tree.set_batch_scan(theirs, jnp.asarray(index), jnp.asarray(weight))
  np.testing.assert_array_equal(
    tree.get(np.arange(50)), flashbax_tree.get_batch(theirs, jnp.arange(50))
  )
  assert tree.total == float(theirs.nodes[0])
  unit = (np.arange(400) + 0.5) / 400
  found = jax.vmap(lambda u: flashbax_tree.sample(theirs, query_value=u))(jnp.asarray(unit))
  np.testing.assert_array_equal(tree.find(unit * tree.total), found)


@pytest.mark.parametrize("size", [1, 16, 17, 4096, 5000])
def test_bytes(size):
  assert SumTree(size).nbytes == sum_tree_bytes(size)
