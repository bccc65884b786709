"""Model steps over batches of folded sequences, for MuZero and Q-learning alike."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from agents.figures import Figure, masked_mean
from agents.interface import Priorities
from losses.unroll import scale_gradient
from networks.world_model import WorldModel


class Unroll(NamedTuple):
  """What K model steps from R starts lead to."""

  latent: jax.Array  # [K + 1, R, h, w, D]
  reward_logits: jax.Array  # [K, R, M]


def unroll(network: WorldModel, params: Any, frames: jax.Array, action: jax.Array) -> Unroll:
  """Encodes R frames and takes K model steps.

  The gradient into each step's input is halved (Schrittwieser et al. 2020, appendix G).

  Args:
    network: the latent model.
    params: its parameters.
    frames: `[R, H, W, C]` uint8.
    action: `[K, R]` integers.
  """
  latent = network.apply(params, frames, method=WorldModel.represent)
  latents, rewards = [latent], []
  for step_action in action:
    transition = network.apply(
      params, scale_gradient(latents[-1], 0.5), step_action, method=WorldModel.step
    )
    latents.append(transition.latent)
    rewards.append(transition.reward_logits)
  return Unroll(jnp.stack(latents), jnp.stack(rewards))


def unroll_latents(
  network: WorldModel, params: Any, frames: jax.Array, action: jax.Array
) -> jax.Array:
  """The latents `[K + 1, R, h, w, D]` of `unroll`, of a model without a reward head."""
  latents = [network.apply(params, frames, method=WorldModel.represent)]
  for step_action in action:
    halved = scale_gradient(latents[-1], 0.5)
    latents.append(network.apply(params, halved, step_action, method=WorldModel.follow))
  return jnp.stack(latents)


def represent(network: WorldModel, params: Any, frames: jax.Array) -> jax.Array:
  """Latents `[L, N, h, w, D]` of frames `[L, N, H, W, C]`, each encoded once."""
  latent = network.apply(params, flatten(frames), method=WorldModel.represent)
  return latent.reshape((*frames.shape[:2], *latent.shape[1:]))


def flatten(x: jax.Array) -> jax.Array:
  """Joins the first two axes: `[L, N, ...]` to `[L * N, ...]`."""
  return x.reshape((-1, *x.shape[2:]))


def sequences_first(x: jax.Array) -> jax.Array:
  """Moves the sequence axis to the front: `[K, S, N, ...]` to `[N, K, S, ...]`."""
  return jnp.moveaxis(x, 2, 0)


def starts_joined(x: jax.Array) -> jax.Array:
  """Joins sequences and starts behind the unroll axis: `[N, K, S, ...]` to `[K, N * S, ...]`."""
  moved = jnp.moveaxis(x, 1, 0)
  return moved.reshape((moved.shape[0], -1, *moved.shape[3:]))


def sample_priorities(batch: Any) -> Priorities:
  """Reads the priorities of a batch of sequences, `[N, S]` each.

  A small constant keeps a sample without error in play (Schaul et al. 2016, section 3.3).
  """
  return Priorities(batch.environment, batch.frame_number, batch.priority + 1e-3)


def latent_drift(latent: jax.Array, inside: jax.Array, *, starts: int) -> Figure:
  """Distance of the last unrolled latent to the encoding of the frame that came.

  Relative to the encoding's norm; over the starts whose frame K steps on is itself a
  start of the sequence and in the same episode.

  Args:
    latent: `[K + 1, N * S, h, w, D]`, starts within sequences.
    inside: `[K + 1, N * S]`.
    starts: S.

  Returns:
    A figure; of nothing where no start qualifies (S <= K).
  """
  steps = latent.shape[0] - 1
  if starts <= steps:
    return masked_mean(jnp.zeros(1), jnp.zeros(1))
  by_sequence = latent.reshape((steps + 1, -1, starts, *latent.shape[2:]))
  unrolled = by_sequence[-1][:, : starts - steps]
  encoded = by_sequence[0][:, steps:]
  axes = (-3, -2, -1)
  distance = jnp.sqrt(jnp.sum(jnp.square(unrolled - encoded), axis=axes))
  norm = jnp.sqrt(jnp.sum(jnp.square(encoded), axis=axes))
  mask = inside[-1].reshape((-1, starts))[:, : starts - steps]
  return masked_mean(distance / (norm + 1e-6), mask)
