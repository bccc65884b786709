import functools

import jax
import jax.numpy as jnp
from jax.test_util import check_grads
import numpy as np
import pytest

from networks.config import ResNetConfig
from networks.world_model import WorldModel, scale_to_unit_interval


def latents(seed=0, shape=(3, 2, 2, 5)):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_every_latent_is_scaled_by_its_own_extremes():
  latent = latents()
  scaled = scale_to_unit_interval(latent, epsilon=1e-5)
  for ours, x in zip(scaled, np.asarray(latent, np.float64), strict=True):
    expected = (x - x.min()) / (x.max() - x.min() + 1e-5)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_a_constant_latent_becomes_zero_and_its_gradient_is_finite():
  latent = jnp.full((2, 2, 2, 3), 0.7)
  assert np.all(scale_to_unit_interval(latent) == 0.0)
  gradient = jax.grad(lambda x: jnp.sum(scale_to_unit_interval(x)[..., 0]))(latent)
  assert np.all(np.isfinite(gradient))


def test_gradients_pass_through_the_extremes():
  check_grads(scale_to_unit_interval, (latents(1),), order=1, modes=["fwd", "rev"], eps=1e-3)


def test_the_gradient_of_a_tie_goes_to_one_entry():
  latent = jnp.asarray([0.0, 0.0, 1.0, 4.0, 4.0]).reshape((1, 1, 1, 5))
  gradient = jax.grad(lambda x: scale_to_unit_interval(x, epsilon=0.0)[0, 0, 0, 2])(latent)
  # s = (x - low) / (high - low):  ds/dx = 1/4, ds/dlow = (1 - 4)/16, ds/dhigh = -1/16
  np.testing.assert_allclose(gradient.ravel(), [-3 / 16, 0, 1 / 4, -1 / 16, 0], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_scaled_latent_keeps_its_dtype(dtype):
  assert scale_to_unit_interval(latents().astype(dtype)).dtype == dtype


def small_network(dtype="float32"):
  """8 channels and 4 actions."""
  backbone = ResNetConfig(
    stem_channels=(8,), stem_kernels=(8,), stem_strides=(8,), blocks=1, compute_dtype=dtype
  )
  return WorldModel(
    backbone,
    dynamics_blocks=1,
    head_channels=2,
    hidden=8,
    num_actions=4,
    num_value_atoms=1,
    num_reward_atoms=1,
  )


FRAMES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
ACTIONS = jnp.zeros((3,), jnp.int32)


def initialised(network):
  init = functools.partial(network.init, method=WorldModel.action_value_parts)
  return jax.jit(init)(jax.random.key(0), FRAMES, ACTIONS)


def test_the_convolution_of_latent_and_action_starts_as_one_over_all_its_channels():
  kernel = np.asarray(initialised(small_network())["params"]["dynamics"]["join"]["kernel"])
  assert kernel.shape == (3, 3, 8 + 4, 8)
  for part in (kernel[:, :, :8], kernel[:, :, 8:]):  # LeCun: variance 1 / fan-in, for both parts
    np.testing.assert_allclose(part.std(), (3 * 3 * 12) ** -0.5, rtol=0.1)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 0.1)])
def test_following_every_action_follows_each(dtype, tolerance):
  network = small_network(dtype)
  # Biases start at 0, which would hide one that is counted twice.
  params = jax.tree.map(lambda x: x + 0.1, initialised(network))
  latent = jax.jit(functools.partial(network.apply, method=WorldModel.represent))(params, FRAMES)
  follow = jax.jit(functools.partial(network.apply, method=WorldModel.follow))

  every = follow(params, latent, None)

  assert every.shape == (12, *latent.shape[1:])
  assert every.dtype == dtype
  for action in range(4):
    one = follow(params, latent, ACTIONS + action)
    ours, expected = (np.asarray(x, np.float32) for x in (every[action::4], one))
    np.testing.assert_allclose(ours, expected, atol=tolerance)
  assert jnp.abs(every[0] - every[1]).max() > 0.1  # actions make a difference
