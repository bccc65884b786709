"""Self-supervised losses of agents that unroll a world model: MuZero and "QL + model".

The heads' parameters stand beside the network's, under a name of their own, and only if
a loss is on. What came is read off the drawn sequence itself: from the start s, after k
model steps, frame s + k.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from agents.config import SelfSupervisionConfig
from agents.interface import Shards
from agents.unrolling import flatten, starts_joined
from losses.self_supervision import (
  contrastive_loss,
  mean_inside,
  reconstruction_loss,
  spr_loss,
)
from losses.unroll import fold_windows
from networks.self_supervision import SelfSupervisionHeads
from networks.world_model import WorldModel

HEADS = "self_supervision"  # beside "params", the network's own

_PARTS = {
  "reconstruction": SelfSupervisionHeads.decode,
  "contrastive": SelfSupervisionHeads.project_for_contrast,
  "spr": SelfSupervisionHeads.predict_for_spr,
}


@flax.struct.dataclass
class Following:
  """What came after the starts of N sequences; without rows where no loss reads it."""

  frames: jax.Array  # [N, K, H, W, C] uint8, those behind the S starts', or [N, 0, H, W, C]
  projection: jax.Array  # [N, S + K - 1, P] by the target network, frames 1 on, or [N, 0, P]


def add_heads(
  network: WorldModel,
  config: SelfSupervisionConfig,
  params: Any,
  *,
  frame: jax.Array,
  key: jax.Array,
) -> Any:
  """Adds the parameters of the heads that the config asks for to the network's.

  Args:
    network: the latent model.
    config: which losses are on.
    params: of the network, as initialised.
    frame: `[1, H, W, C]` uint8, any.
    key: of which another is derived.

  Returns:
    `params` itself if every loss is off, else with the heads' under `HEADS`.
  """
  parts = [_PARTS[name] for name in config.coefficients]
  if not parts:
    return params
  latent = network.apply(params, frame, method=WorldModel.represent)
  heads = _heads(network, config, frame.shape[1:]).init(
    jax.random.fold_in(key, 1),
    latent,
    method=lambda module, x: [part(module, x) for part in parts],
  )
  return {**params, HEADS: heads["params"]}


def make_following(
  network: WorldModel,
  config: SelfSupervisionConfig,
  target_params: Any,
  *,
  observation: jax.Array,
  latent: jax.Array,
  starts: int,
) -> Following:
  """Makes what the losses compare with.

  Args:
    network: the latent model.
    config: which losses are on.
    target_params: of the target network.
    observation: `[S + K, N, H, W, C]` uint8, frames 0 .. S + K - 1.
    latent: `[S + K - 1, N, h, w, D]`, the target network's encodings of frames 1 on;
      read by SPR alone.
    starts: S.

  Returns:
    Following, sequences first.
  """
  reads_frames = config.coefficients.keys() & {"reconstruction", "contrastive"}
  frames = observation[starts:] if reads_frames else observation[:0]
  if config.spr_coefficient:
    project = SelfSupervisionHeads.project_for_spr
    heads = _heads(network, config, observation.shape[2:])
    projection = _apply(heads, target_params, latent, project)
  else:
    projection = jnp.zeros((0, observation.shape[1], config.projection_size))
  return Following(jnp.swapaxes(frames, 0, 1), jnp.swapaxes(projection, 0, 1))


def self_supervised_losses(
  network: WorldModel,
  params: Any,
  latent: jax.Array,
  batch: Any,
  *,
  config: SelfSupervisionConfig,
  shards: Shards,
) -> dict[str, jax.Array]:
  """The losses that are on, means over the positions inside their start's episode.

  All shards' positions are counted and all their keys contrasted with: each tells the others
  which of its positions are inside, and its keys. Reconstruction takes k = 0 .. K, the others
  1 .. K. Contrastive keys are the online network's, with gradient, SPR's the target network's.

  Args:
    network: the latent model.
    params: its parameters, and the heads'.
    latent: `[K + 1, N * S, h, w, D]`, unrolled.
    batch: with `observation` `[N, S, H, W, C]`, `inside` `[N, K + 1, S]`,
      `importance_weight` `[N, S]` and `following`; the own shard.
    config: which losses are on.
    shards: of the minibatch.

  Returns:
    Scalars by the loss's name, whose means over the shards are the minibatch's.
  """
  if not config.coefficients:
    return {}
  heads = _heads(network, config, batch.observation.shape[2:])
  starts = batch.observation.shape[1]
  inside = starts_joined(batch.inside)
  everywhere = shards.gather(inside, 1)  # [K + 1, D * N * S]

  def reconstruction():
    frames = jnp.concatenate([batch.observation, batch.following.frames], axis=1)
    decoded = _apply(heads, params, latent, SelfSupervisionHeads.decode)
    return reconstruction_loss(decoded, _by_start(frames, starts=starts), inside)

  def contrastive():
    project = SelfSupervisionHeads.project_for_contrast
    encoded = _encode_following(network, params, latent[0], batch)
    key = _by_start(_apply(heads, params, encoded, project), starts=starts)
    query = _apply(heads, params, latent[1:], project)
    first = shards.index * inside.shape[1]
    return contrastive_loss(
      query, shards.gather(key, 1), everywhere[1:], temperature=config.temperature, first=first
    )

  def spr():
    prediction = _apply(heads, params, latent[1:], SelfSupervisionHeads.predict_for_spr)
    target = _by_start(batch.following.projection, starts=starts)
    return spr_loss(prediction, target, inside[1:])

  terms = {"reconstruction": reconstruction, "contrastive": contrastive, "spr": spr}
  weight = batch.importance_weight.reshape(-1)
  return {
    name: _mean_of_all(terms[name](), inside, everywhere, weight=weight, shards=shards)
    for name in config.coefficients
  }


def _mean_of_all(
  term: jax.Array, inside: jax.Array, everywhere: jax.Array, *, weight: jax.Array, shards: Shards
) -> jax.Array:
  """What a shard adds to the mean over all shards' positions inside, of the term's last steps."""
  rows = slice(-term.shape[0], None)
  count = jnp.sum(everywhere[rows]) / shards.count
  return mean_inside(term, inside[rows], weight, count=count)


def _heads(network: WorldModel, config: SelfSupervisionConfig, frame_shape: tuple[int, ...]):
  return SelfSupervisionHeads(network.backbone, frame_shape, config.hidden, config.projection_size)


def _apply(heads: SelfSupervisionHeads, params: Any, latent: jax.Array, method) -> jax.Array:
  """Applies a head to latents `[X, Y, h, w, D]`; returns `[X, Y, ...]`."""
  output = heads.apply({"params": params[HEADS]}, flatten(latent), method=method)
  return output.reshape((*latent.shape[:2], *output.shape[1:]))


def _encode_following(network: WorldModel, params: Any, start_latent: jax.Array, batch: Any):
  """Encodings `[N, S + K - 1, h, w, D]` of frames 1 on; those of the starts are there."""
  frames = batch.following.frames
  later = network.apply(params, flatten(frames), method=WorldModel.represent)
  shape = start_latent.shape[1:]
  later = later.reshape((*frames.shape[:2], *shape))
  starts = start_latent.reshape((*batch.observation.shape[:2], *shape))
  return jnp.concatenate([starts[:, 1:], later], axis=1)


def _by_start(x: jax.Array, *, starts: int) -> jax.Array:
  """What follows each start: `[N, S + W - 1, ...]` to `[W, N * S, ...]`."""
  folded = jnp.swapaxes(fold_windows(jnp.swapaxes(x, 0, 1), num_starts=starts), 1, 2)
  return folded.reshape((folded.shape[0], -1, *folded.shape[3:]))
