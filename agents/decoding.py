"""Frames from the latents of a world model that does not learn from them.

A decoder of the agent's own, trained with a reconstruction loss, or one that is trained
here on latents as they are: a probe of what is in them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from agents.self_supervision import HEADS
from agents.unrolling import flatten
from losses.self_supervision import mean_inside, reconstruction_loss
from networks.config import BackboneConfig
from networks.self_supervision import Decoder
from networks.world_model import WorldModel

DECODER = "decoder"  # among the heads


class Windows(NamedTuple):
  """R windows of K steps from played trajectories."""

  frames: jax.Array  # [K + 1, R, H, W, C] uint8, what came
  action: jax.Array  # [K, R] int32, what was done
  inside: jax.Array  # [K + 1, R] float32, 1 in the episode of the window's start, else 0


def own_decoder(params: Any) -> Any | None:
  """Returns the parameters of the decoder that an agent has learnt itself, None without one."""
  return params.get(HEADS, {}).get(DECODER)


def unrolled_latents(network: WorldModel, params: Any, windows: Windows) -> jax.Array:
  """Encodes the first frames and takes the windows' actions in the model.

  Args:
    network: the latent model.
    params: its parameters; no gradient reaches them.
    windows: R windows; of the frames only the first are read.

  Returns:
    `[K + 1, R, h, w, D]`.
  """
  latents = [network.apply(params, windows.frames[0], method=WorldModel.represent)]
  for action in windows.action:
    latents.append(network.apply(params, latents[-1], action, method=WorldModel.follow))
  return jax.lax.stop_gradient(jnp.stack(latents))


def decode(
  backbone: BackboneConfig, decoder_params: Any, latent: jax.Array, *, frame_shape: tuple[int, ...]
) -> jax.Array:
  """Frames `[X, R, H, W, C]` in units of [0, 1] of latents `[X, R, h, w, D]`."""
  decoder = Decoder(backbone, frame_shape)
  frames = decoder.apply({"params": decoder_params}, flatten(latent))
  return frames.reshape((*latent.shape[:2], *frames.shape[1:]))


def init_decoder(
  backbone: BackboneConfig, latent: jax.Array, key: jax.Array, *, frame_shape: tuple[int, ...]
) -> Any:
  """Parameters of a new decoder of latents `[R, h, w, D]`; consumes the key."""
  return Decoder(backbone, frame_shape).init(key, latent[:1])["params"]


def probe_loss(
  network: WorldModel, params: Any, decoder_params: Any, windows: Windows, *, depth: jax.Array
) -> jax.Array:
  """Reconstruction loss on unrolled latents, whose gradient ends at the latents.

  One depth of every window: the mean over depths is that of the loss in training.

  Args:
    network: the latent model.
    params: its parameters; no gradient reaches them.
    decoder_params: what learns.
    windows: R windows of K steps.
    depth: `[R]` int32 in [0, K], after how many model steps each is decoded.

  Returns:
    A scalar: mean squared error per pixel and channel, frames in [0, 1].
  """
  latent = unrolled_latents(network, params, windows)
  column = jnp.arange(depth.shape[0])
  frames = windows.frames[depth, column][None]
  inside = windows.inside[depth, column][None]
  decoded = decode(
    network.backbone, decoder_params, latent[depth, column][None], frame_shape=frames.shape[2:]
  )
  term = reconstruction_loss(decoded, frames, inside)
  return mean_inside(term, inside, jnp.ones(inside.shape[1]))


def probe_update(
  network: WorldModel,
  params: Any,
  decoder_params: Any,
  optimizer_state: Any,
  *,
  windows: Windows,
  depth: jax.Array,
  optimizer: optax.GradientTransformation,
) -> tuple[Any, Any, jax.Array]:
  """One optimiser step of the decoder; arguments as in `probe_loss`.

  Returns:
    The decoder's new parameters, the optimiser's new state, and the loss before.
  """

  def loss(decoder_params):
    return probe_loss(network, params, decoder_params, windows, depth=depth)

  value, gradient = jax.value_and_grad(loss)(decoder_params)
  updates, optimizer_state = optimizer.update(gradient, optimizer_state, decoder_params)
  return optax.apply_updates(decoder_params, updates), optimizer_state, value
