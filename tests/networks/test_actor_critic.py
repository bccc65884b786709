"""The shared actor-critic: its published size, and its two outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from networks.actor_critic import SharedActorCritic
from networks.backbones import make_backbone
from networks.config import BACKBONES, ImpalaConfig, ResNetConfig

FRAMES = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.uint8)
TINY = ResNetConfig(stem_kernels=(4,), stem_strides=(4,), stem_channels=(6,), blocks=1)


def frames(*shape):
  return jnp.asarray(np.random.default_rng(0).integers(0, 256, shape), jnp.uint8)


def test_impala_has_procgens_number_of_parameters():
  network = SharedActorCritic(ImpalaConfig(), num_actions=15)
  params = jax.eval_shape(network.init, jax.random.key(0), FRAMES)
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 626_256


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", BACKBONES)
def test_every_preset_gives_float32_logits_and_values(name, dtype):
  config = BACKBONES[name]()
  config = type(config)(**{**vars(config), "compute_dtype": dtype})
  network = SharedActorCritic(config, num_actions=15)
  output, _ = jax.eval_shape(network.init_with_output, jax.random.key(0), FRAMES)
  assert output.logits.shape == (2, 15)
  assert output.value.shape == (2,)
  assert output.logits.dtype == output.value.dtype == jnp.float32
  latent, _ = jax.eval_shape(make_backbone(config).init_with_output, jax.random.key(0), FRAMES)
  assert latent.shape[:3] == ((2, 4, 4) if name == "nature" else (2, 8, 8))
  assert latent.dtype == dtype


def test_heads_read_the_dense_layer_of_the_flat_latent():
  network = SharedActorCritic(TINY, num_actions=3, hidden=8)
  x = frames(4, 8, 8, 3)
  params = jax.jit(network.init)(jax.random.key(1), x)
  p = params["params"]
  latent = jax.jit(make_backbone(TINY).apply)({"params": p["backbone"]}, x)
  flat = np.asarray(latent).reshape(4, -1)
  hidden = np.maximum(flat @ p["dense"]["kernel"] + p["dense"]["bias"][None], 0)
  output = jax.jit(network.apply)(params, x)
  logits = hidden @ p["policy"]["dense"]["kernel"]
  value = hidden @ p["value"]["dense"]["kernel"][:, 0]
  np.testing.assert_allclose(output.logits, logits, atol=1e-5)
  np.testing.assert_allclose(output.value, value, atol=1e-5)


def test_the_policy_starts_nearly_uniform():
  network = SharedActorCritic(BACKBONES["laptop"](), num_actions=15)
  x = frames(8, 64, 64, 3)
  output = jax.jit(network.apply)(jax.jit(network.init)(jax.random.key(0), x[:1]), x)
  np.testing.assert_allclose(jax.nn.softmax(output.logits), 1 / 15, atol=0.01)


def test_bfloat16_frames_to_float32_outputs_match_float32():
  x = frames(4, 16, 16, 3)
  coarse = ResNetConfig(**{**vars(TINY), "compute_dtype": "bfloat16"})
  network = SharedActorCritic(TINY, num_actions=3)
  params = jax.jit(network.init)(jax.random.key(0), x)
  expected = jax.jit(network.apply)(params, x).value
  value = SharedActorCritic(coarse, num_actions=3).apply(params, x).value
  assert value.dtype == jnp.float32
  np.testing.assert_allclose(value, expected, atol=0.05)


def test_entries_of_a_batch_are_independent():
  network = SharedActorCritic(TINY, num_actions=3)
  x = frames(4, 16, 16, 3)
  params = jax.jit(network.init)(jax.random.key(0), x)
  together = jax.jit(network.apply)(params, x)
  alone = jax.jit(network.apply)(params, x[2:3])
  np.testing.assert_allclose(alone.logits[0], together.logits[2], atol=1e-6)
  np.testing.assert_allclose(alone.value[0], together.value[2], atol=1e-5)
