"""Frames from the latents of a world model that does not learn from them.

A decoder of the agent's own, trained with a reconstruction loss, or one that is trained
here on latents as they are: a probe of what is in them.
"""

from typing import Any, NamedTuple

import flax.struct
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


@flax.struct.dataclass
class LatentDecoder:
  """A decoder and the scale on which it is shown latents, after every number of model steps."""

  params: Any
  mean: jax.Array  # [K + 1, h, w, D], subtracted from latents
  deviation: jax.Array  # [K + 1, h, w, D], divides them


def own_decoder(params: Any, latent_shape: tuple[int, ...]) -> LatentDecoder | None:
  """Returns the decoder that an agent has learnt itself, None without one.

  Args:
    params: of the agent.
    latent_shape: K + 1, h, w, D.
  """
  own = params.get(HEADS, {}).get(DECODER)
  if own is None:
    return None
  return LatentDecoder(own, jnp.zeros(latent_shape), jnp.ones(latent_shape))


def new_decoder(
  backbone: BackboneConfig, latent: jax.Array, key: jax.Array, *, frame_shape: tuple[int, ...]
) -> LatentDecoder:
  """Returns an untrained decoder that is shown latents on the scale on which they vary.

  Latents of a model without a reconstruction loss may vary by a hundredth of their size
  over frames, and lie elsewhere after a model step: shown as they are, a decoder would
  learn their means for a long time.

  Args:
    backbone: which the decoder mirrors.
    latent: `[K + 1, R, h, w, D]` of many windows.
    key: consumed.
    frame_shape: H, W, C.
  """
  params = Decoder(backbone, frame_shape).init(key, latent[0, :1])["params"]
  deviation = jnp.std(latent, axis=1)
  least = 1e-3 * jnp.mean(deviation) + 1e-8  # entries that never vary stay near 0
  return LatentDecoder(params, jnp.mean(latent, axis=1), jnp.maximum(deviation, least))


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
  backbone: BackboneConfig,
  decoder: LatentDecoder,
  latent: jax.Array,
  *,
  depth: jax.Array,
  frame_shape: tuple[int, ...],
) -> jax.Array:
  """Frames `[X, R, H, W, C]` in units of [0, 1].

  Args:
    backbone: which the decoder mirrors.
    decoder: of latents after at most K model steps.
    latent: `[X, R, h, w, D]`.
    depth: `[X, R]` int32 in [0, K], model steps before each.
    frame_shape: H, W, C.
  """
  index = depth.reshape(-1)
  scaled = (flatten(latent) - decoder.mean[index]) / decoder.deviation[index]
  frames = Decoder(backbone, frame_shape).apply({"params": decoder.params}, scaled)
  return frames.reshape((*latent.shape[:2], *frames.shape[1:]))


def probe_loss(
  network: WorldModel, params: Any, decoder: LatentDecoder, windows: Windows, *, depth: jax.Array
) -> jax.Array:
  """Reconstruction loss on unrolled latents, whose gradient ends at the latents.

  One depth of every window: the mean over depths is that of the loss in training.

  Args:
    network: the latent model.
    params: its parameters; no gradient reaches them.
    decoder: whose parameters learn.
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
    network.backbone,
    decoder,
    latent[depth, column][None],
    depth=depth[None],
    frame_shape=frames.shape[2:],
  )
  term = reconstruction_loss(decoded, frames, inside)
  return mean_inside(term, inside, jnp.ones(inside.shape[1]), count=jnp.sum(inside))


def probe_update(
  network: WorldModel,
  params: Any,
  decoder: LatentDecoder,
  optimizer_state: Any,
  *,
  windows: Windows,
  depth: jax.Array,
  optimizer: optax.GradientTransformation,
) -> tuple[LatentDecoder, Any, jax.Array]:
  """One optimiser step of the decoder; arguments as in `probe_loss`.

  Returns:
    The decoder with new parameters, the optimiser's new state, and the loss before.
  """

  def loss(decoder_params):
    learning = decoder.replace(params=decoder_params)
    return probe_loss(network, params, learning, windows, depth=depth)

  value, gradient = jax.value_and_grad(loss)(decoder.params)
  updates, optimizer_state = optimizer.update(gradient, optimizer_state, decoder.params)
  decoder = decoder.replace(params=optax.apply_updates(decoder.params, updates))
  return decoder, optimizer_state, value
