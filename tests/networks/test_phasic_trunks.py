"""Row-normalised initial weights and PPG's trunks, against hand-computed norms and counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from networks.actor_critic import PHASIC_TRUNKS
from networks.config import ImpalaConfig, ResNetConfig
from networks.initialisers import (
  HEAD_NORM,
  num_blocks,
  row_normalised,
  row_normalised_trunk,
)

ACTIONS = 15
SMALL = (16, 16, 3)  # frames: row norms do not depend on their size


def make(trunk, config, *, hidden=256):
  return PHASIC_TRUNKS[trunk](
    config,
    num_actions=ACTIONS,
    hidden=hidden,
    initialisers=row_normalised_trunk(config),
    head_init=row_normalised(HEAD_NORM),
  )


def parameters(network, shape, *, seed=0):
  """Returns {path: array} of a network's parameters."""
  frames = jnp.zeros((1, *shape), jnp.uint8)
  tree = jax.jit(network.init)(jax.random.key(seed), frames)["params"]
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {"/".join(str(key.key) for key in path): np.asarray(x) for path, x in leaves}


def row_norms(kernel):
  """Euclidean length of every output's weights, written out for the last axis."""
  return np.array(
    [np.sqrt(np.sum(kernel[..., i].astype(np.float64) ** 2)) for i in range(kernel.shape[-1])]
  )


def expected_norm(path, residual):
  """The published norm of the kernel at `path` (SCIENCE.md section 4)."""
  if "dense" in path and "trunk" in path:
    return 1.4
  if path.split("/")[0] in ("policy", "value", "auxiliary_value"):
    return 0.1
  return residual if "_block_" in path or path.split("/")[2].startswith("block_") else 1.0


@pytest.mark.parametrize("trunk", ["dual", "shared", "detached"])
def test_initial_row_norms_are_the_published_ones(trunk):
  """1 for a stack's first convolution, .639 in residual blocks, 1.4 dense, .1 heads."""
  found = parameters(make(trunk, ImpalaConfig(), hidden=32), SMALL)
  seen = set()
  for path, x in found.items():
    if path.endswith("bias"):
      assert not x.any(), path
      continue
    wanted = expected_norm(path, 0.639)
    np.testing.assert_allclose(row_norms(x), wanted, atol=5e-4, err_msg=path)
    seen.add(wanted)
  assert seen == {1.0, 0.639, 1.4, 0.1}
  encoders = 2 if trunk == "dual" else 1
  # 3 stacks of 1 + 2 x 2 convolutions and a dense layer in each encoder; 3 heads.
  assert sum(path.endswith("kernel") for path in found) == encoders * 16 + 3


def test_a_backbone_with_other_blocks_has_other_residual_norms():
  """k blocks of row norm r in both convolutions: r^4 k = 1."""
  config = ResNetConfig(stem_kernels=(4,), stem_strides=(4,), stem_channels=(8,), blocks=3)
  found = parameters(make("shared", config, hidden=16), SMALL)
  norms = {p: row_norms(x) for p, x in found.items() if p.endswith("kernel") and "/block_" in p}
  assert len(norms) == 6
  for path, x in norms.items():
    np.testing.assert_allclose(3 * x**4, 1.0, rtol=1e-5, err_msg=path)
  stem = row_norms(found["trunk/backbone/stem_conv_0/kernel"])
  np.testing.assert_allclose(stem, 1.0, rtol=1e-6)


def test_rows_are_random_directions():
  """Uniform in the cube: every entry has the same second moment, norm^2 / fan-in."""
  initialise = row_normalised(2.0)
  x = np.asarray(initialise(jax.random.key(0), (3, 4, 20_000)))
  np.testing.assert_allclose(np.mean(x**2, axis=-1), 4.0 / 12, rtol=0.03)
  np.testing.assert_allclose(np.mean(x, axis=-1), 0.0, atol=0.02)
  rows = x.reshape(12, -1)
  correlation = np.corrcoef(rows)
  np.testing.assert_allclose(correlation, np.eye(12), atol=0.03)
  assert not np.array_equal(x, initialise(jax.random.key(1), x.shape))


@pytest.mark.parametrize("norm", [0.0, -1.0, float("nan")])
def test_a_wrong_norm_is_named(norm):
  with pytest.raises(ValueError, match=f"norm must be positive, got {norm}"):
    row_normalised(norm)


def test_blocks_are_counted():
  assert num_blocks(ImpalaConfig()) == 6
  assert num_blocks(ImpalaConfig(channels=(4, 4), blocks_per_stack=3)) == 6
  assert num_blocks(ResNetConfig(blocks=5)) == 5
  with pytest.raises(TypeError, match="got int"):
    num_blocks(5)


# Convolutions of the IMPALA network: a stack's first, and four in its two blocks, kernel 3x3
# and biases; then dense 8 x 8 x 32 to 256.
ENCODER = (
  (9 * 3 * 16 + 16 + 4 * (9 * 16 * 16 + 16))
  + (9 * 16 * 32 + 32 + 4 * (9 * 32 * 32 + 32))
  + (9 * 32 * 32 + 32 + 4 * (9 * 32 * 32 + 32))
  + (2048 * 256 + 256)
)
HEADS = (256 * ACTIONS + ACTIONS) + 2 * (256 + 1)


@pytest.mark.parametrize(
  ("trunk", "count"),
  [("dual", 2 * ENCODER + HEADS), ("shared", ENCODER + HEADS), ("detached", ENCODER + HEADS)],
)
def test_parameter_counts(trunk, count):
  frames = jnp.zeros((1, 64, 64, 3), jnp.uint8)
  tree = jax.eval_shape(make(trunk, ImpalaConfig()).init, jax.random.key(0), frames)
  assert sum(x.size for x in jax.tree.leaves(tree)) == count
  # PPO's network has one value head less.
  assert ENCODER + HEADS - 257 == 626_256


@pytest.mark.parametrize("trunk", ["dual", "shared", "detached"])
def test_outputs(trunk):
  network = make(trunk, ResNetConfig(stem_channels=(4, 4), blocks=0), hidden=8)
  frames = jax.random.randint(jax.random.key(1), (5, *SMALL), 0, 256).astype(jnp.uint8)
  params = network.init(jax.random.key(0), frames)
  output = jax.jit(network.apply)(params, frames)
  assert output.logits.shape == (5, ACTIONS)
  assert output.value.shape == output.auxiliary_value.shape == (5,)
  assert {x.dtype for x in output} == {jnp.dtype(jnp.float32)}
  assert not np.allclose(output.value, output.auxiliary_value), "the two value heads are one"


# Which part of the network each output depends on through gradients.
REACH = {
  "dual": {
    "logits": {"policy_trunk", "policy"},
    "value": {"value_trunk", "value"},
    "auxiliary_value": {"policy_trunk", "auxiliary_value"},
  },
  "shared": {
    "logits": {"trunk", "policy"},
    "value": {"trunk", "value"},
    "auxiliary_value": {"trunk", "auxiliary_value"},
  },
  "detached": {
    "logits": {"trunk", "policy"},
    "value": {"value"},
    "auxiliary_value": {"trunk", "auxiliary_value"},
  },
}


@pytest.mark.parametrize("name", ["logits", "value", "auxiliary_value"])
@pytest.mark.parametrize("trunk", ["dual", "shared", "detached"])
def test_what_a_gradient_reaches(trunk, name):
  network = make(trunk, ResNetConfig(stem_channels=(4, 4), blocks=0), hidden=8)
  frames = jax.random.randint(jax.random.key(1), (5, *SMALL), 0, 256).astype(jnp.uint8)
  params = network.init(jax.random.key(0), frames)

  def total(params):
    return jnp.sum(jnp.square(getattr(network.apply(params, frames), name)))

  gradient = jax.jit(jax.grad(total))(params)["params"]
  reached = {
    part for part, tree in gradient.items() if any(np.any(x) for x in jax.tree.leaves(tree))
  }
  assert reached == REACH[trunk][name]
