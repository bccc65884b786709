"""Q(s, a) from a network: as one number or as reward plus value, after a model step or at once.

Which heads there are settles what Q is: with `reward` and `value`, r(s, a) + gamma V(s, a);
with `value` alone, that is Q itself.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from agents.q_learning.heads import Head
from agents.unrolling import flatten, represent, unroll, unroll_latents
from networks.q_network import QNetwork
from networks.world_model import WorldModel


class Part(NamedTuple):
  """One term of Q."""

  head: Head
  weight: float  # of what the head says, in Q


Parts = Mapping[str, Part]  # `value`, or `reward` and `value`


class Outputs(NamedTuple):
  """What the network says of R starts and the U actions that follow each."""

  latent: jax.Array  # [X, R, h, w, D], the starts' encodings, then those after model steps if any
  heads: Mapping[str, jax.Array]  # [U, R, M] by part


class ModelStepValues(NamedTuple):
  """Q read off a world model after one model step with the action."""

  network: WorldModel
  parts: Parts

  def init(self, key: jax.Array, frame: jax.Array) -> Any:
    """Returns parameters, none for a head that no part has; frame: `[1, H, W, C]` uint8."""
    touch = WorldModel.action_value_parts if "reward" in self.parts else WorldModel.value_parts
    return self.network.init(key, frame, jnp.zeros((1,), jnp.int32), method=touch)

  def represent(self, params: Any, frames: jax.Array) -> jax.Array:
    """Latents `[L, N, h, w, D]` of frames `[L, N, H, W, C]`."""
    return represent(self.network, params, frames)

  def of_latent(self, params: Any, latent: jax.Array) -> jax.Array:
    """Action values `[B, A]` of latents `[B, h, w, D]`: one model step for every action."""
    return _weighted_sum(self.parts, self._behind(params, latent, None)).reshape((len(latent), -1))

  def of_action(self, params: Any, latent: jax.Array, action: jax.Array) -> dict[str, jax.Array]:
    """Outputs `[B, M]` by part for actions `[B]` in latents `[B, h, w, D]`."""
    return self._behind(params, latent, action)

  def _behind(self, params, latent, action: jax.Array | None) -> dict[str, jax.Array]:
    """Outputs by part behind a model step with an action each, or with every action."""
    if "reward" in self.parts:
      transition = self.network.apply(params, latent, action, method=WorldModel.step)
      following, outputs = transition.latent, {"reward": transition.reward_logits}
    else:
      following = self.network.apply(params, latent, action, method=WorldModel.follow)
      outputs = {}
    return {**outputs, "value": self.network.apply(params, following, method=WorldModel.value)}

  def outputs(self, params: Any, frames: jax.Array, action: jax.Array) -> Outputs:
    """Takes model steps with actions `[U, R]` from frames `[R, H, W, C]`."""
    if "reward" in self.parts:
      steps = unroll(self.network, params, frames, action)
      latent, heads = steps.latent, {"reward": steps.reward_logits}
    else:
      latent, heads = unroll_latents(self.network, params, frames, action), {}
    value = self.network.apply(params, flatten(latent[1:]), method=WorldModel.value)
    return Outputs(latent, {**heads, "value": value.reshape((*action.shape, -1))})


class OutputPerActionValues(NamedTuple):
  """Q read off a frame's encoding for all actions at once, as in a usual DQN."""

  network: QNetwork
  parts: Parts

  def init(self, key: jax.Array, frame: jax.Array) -> Any:
    """Returns parameters, none for a head that no part has; frame: `[1, H, W, C]` uint8."""
    return self.network.init(
      key, frame, method=lambda module, x: self._heads(module, module.represent(x))
    )

  def represent(self, params: Any, frames: jax.Array) -> jax.Array:
    """Latents `[L, N, h, w, D]` of frames `[L, N, H, W, C]`."""
    latent = self.network.apply(params, flatten(frames), method=QNetwork.represent)
    return latent.reshape((*frames.shape[:2], *latent.shape[1:]))

  def of_latent(self, params: Any, latent: jax.Array) -> jax.Array:
    """Action values `[B, A]` of latents `[B, h, w, D]`."""
    return _weighted_sum(self.parts, self.network.apply(params, latent, method=self._heads))

  def of_action(self, params: Any, latent: jax.Array, action: jax.Array) -> dict[str, jax.Array]:
    """Outputs `[B, M]` by part for actions `[B]` in latents `[B, h, w, D]`."""
    outputs = self.network.apply(params, latent, method=self._heads)
    index = action[:, None, None]
    return {name: jnp.take_along_axis(x, index, axis=1)[:, 0] for name, x in outputs.items()}

  def outputs(self, params: Any, frames: jax.Array, action: jax.Array) -> Outputs:
    """Outputs for actions `[1, R]` at frames `[R, H, W, C]`; there is no second step."""
    latent = self.network.apply(params, frames, method=QNetwork.represent)
    heads = self.of_action(params, latent, action[0])
    return Outputs(latent[None], {name: x[None] for name, x in heads.items()})

  def _heads(self, module: QNetwork, latent: jax.Array) -> dict[str, jax.Array]:
    """Outputs `[B, A, M]` by part."""
    return {name: getattr(module, name)(latent) for name in self.parts}


ActionValues = ModelStepValues | OutputPerActionValues


def _weighted_sum(parts: Parts, outputs: Mapping[str, jax.Array]) -> jax.Array:
  """Q `[...]` of outputs `[..., M]` by part."""
  return sum(part.weight * part.head.read(outputs[name]) for name, part in parts.items())
