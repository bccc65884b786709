"""Representation, dynamics and prediction: the latent model of MuZero and of its control.

Planning and model-free agents use the same module; what differs is how they use it.
"""

from typing import NamedTuple

import flax.linen as nn
from flax.typing import Initializer
import jax
import jax.numpy as jnp

from networks.backbones import PreActivationBlock, make_backbone
from networks.config import BackboneConfig
from networks.convolution import convolution
from networks.heads import CategoricalHead, PolicyHead


class Prediction(NamedTuple):
  """What the model says about B latents."""

  policy_logits: jax.Array  # [B, A] float32
  value_logits: jax.Array  # [B, M] float32


class Transition(NamedTuple):
  """Where one model step leads B latents."""

  latent: jax.Array  # [B, h, w, D] in [0, 1]
  reward_logits: jax.Array  # [B, M] float32


def scale_to_unit_interval(latent: jax.Array, *, epsilon: float = 1e-5) -> jax.Array:
  """Scales every latent to [0, 1] (Schrittwieser et al. 2020, appendix G).

    (s - min s) / (max s - min s + epsilon)

  Minimum and maximum are over positions and channels of one batch entry; gradients pass
  through both, to the first entry that has the extreme value.

  Args:
    latent: `[B, h, w, D]`.
    epsilon: what keeps a constant latent at 0.

  Returns:
    `[B, h, w, D]`.
  """
  rows = latent.reshape((latent.shape[0], -1))
  low, high = _extremes(rows)
  width = high - low + jnp.asarray(epsilon, latent.dtype)
  return ((rows - low[:, None]) / width[:, None]).reshape(latent.shape)


@jax.custom_jvp
def _extremes(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Least and greatest of each row `[B, D]`; the gradient of either is that of one entry.

  JAX's own gradient of a minimum looks for the entry again, by equality. XLA:CPU may compute
  the rows twice, in two fusions that round differently: then no entry is equal, and the
  gradient is 0/0. Picking the values by index too would cost time in every forward pass.
  """
  return jnp.min(rows, axis=1), jnp.max(rows, axis=1)


@_extremes.defjvp
def _extremes_jvp(primals, tangents):
  (rows,), (tangent,) = primals, tangents

  def entries_at(index):
    chosen = jax.nn.one_hot(index, rows.shape[1], dtype=bool)
    return jnp.sum(jnp.where(chosen, tangent, 0), axis=1)

  changes = entries_at(jnp.argmin(rows, axis=1)), entries_at(jnp.argmax(rows, axis=1))
  return _extremes(rows), changes


class _Features(nn.Module):
  """From a latent to the features of a head: a 1x1 convolution, then a dense layer."""

  channels: int
  hidden: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, latent: jax.Array) -> jax.Array:
    """Maps `[B, h, w, D]` to `[B, hidden]`."""
    x = nn.Conv(
      self.channels,
      (1, 1),
      dtype=self.dtype,
      conv_general_dilated=convolution,
      name="conv",
    )(latent)
    x = nn.relu(nn.LayerNorm(dtype=self.dtype, name="norm")(x))
    x = x.reshape((x.shape[0], -1))
    return nn.relu(nn.Dense(self.hidden, dtype=self.dtype, name="dense")(x))


class _Join(nn.Module):
  """A 3x3 convolution of latents and, behind their channels, planes of one-hot actions.

  It is linear and the planes do not depend on the latent: what an action adds is the same for
  every latent, and is computed once. In bfloat16 the two parts are rounded one by one.
  """

  num_actions: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, latent: jax.Array, action: jax.Array | None) -> jax.Array:
    """Maps `[B, h, w, D]` and actions `[B]` to `[B, h, w, D]`, or None to `[B A, h, w, D]`."""
    *sides, channels = latent.shape[1:]
    shape = (3, 3, channels + self.num_actions, channels)
    kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
    bias = self.param("bias", nn.initializers.zeros_init(), (channels,))
    latent, kernel, bias = (x.astype(self.dtype) for x in (latent, kernel, bias))
    one_hot = jnp.eye(self.num_actions, dtype=self.dtype)
    planes = jnp.broadcast_to(one_hot[:, None, None], (self.num_actions, *sides, self.num_actions))
    of_action = convolution(planes, kernel[:, :, channels:], (1, 1), "SAME")
    of_latent = (
      convolution(latent, kernel[:, :, :channels], (1, 1), "SAME") + bias[None, None, None]
    )
    if action is None:
      joined = of_latent[:, None] + of_action[None]
      return joined.reshape((-1, *latent.shape[1:]))
    # A product instead of an index: the gradient of that would be a scatter.
    chosen = jnp.einsum("ba,ahwd->bhwd", one_hot[action], of_action, precision="highest")
    return of_latent + chosen


class _Dynamics(nn.Module):
  """One model step: action planes in, residual blocks, LayerNorm and relu out."""

  blocks: int
  num_actions: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, latent: jax.Array, action: jax.Array | None) -> jax.Array:
    """Maps `[B, h, w, D]` and actions `[B]` to `[B, h, w, D]`, or None to `[B A, h, w, D]`."""
    joined = _Join(self.num_actions, self.dtype, name="join")(latent, action)
    x = joined + (latent if action is not None else jnp.repeat(latent, self.num_actions, axis=0))
    for i in range(self.blocks):
      x = PreActivationBlock(latent.shape[-1], self.dtype, name=f"block_{i}")(x)
    return nn.relu(nn.LayerNorm(dtype=self.dtype, name="norm")(x))


class WorldModel(nn.Module):
  """MuZero's three functions (Schrittwieser et al. 2020) on a shared backbone.

  Attributes:
    backbone: of the representation.
    dynamics_blocks: residual blocks of one model step.
    head_channels: channels that a head reads at every position.
    hidden: width of a head's dense layer.
    num_actions: A.
    num_value_atoms: M of the value head.
    num_reward_atoms: M of the reward head.
    head_init: of the kernels of the value and the reward head; zeros by default.
  """

  backbone: BackboneConfig
  dynamics_blocks: int
  head_channels: int
  hidden: int
  num_actions: int
  num_value_atoms: int
  num_reward_atoms: int
  head_init: Initializer = nn.initializers.zeros_init()

  def setup(self):
    dtype = jnp.dtype(self.backbone.compute_dtype)
    self.representation = make_backbone(self.backbone)
    self.dynamics = _Dynamics(self.dynamics_blocks, self.num_actions, dtype)
    self.policy_features = _Features(self.head_channels, self.hidden, dtype)
    self.value_features = _Features(self.head_channels, self.hidden, dtype)
    self.reward_features = _Features(self.head_channels, self.hidden, dtype)
    self.policy_head = PolicyHead(self.num_actions)
    self.value_head = CategoricalHead(self.num_value_atoms, kernel_init=self.head_init)
    self.reward_head = CategoricalHead(self.num_reward_atoms, kernel_init=self.head_init)

  def represent(self, frames: jax.Array) -> jax.Array:
    """Maps frames `[B, H, W, C]` uint8 to latents `[B, h, w, D]` in [0, 1]."""
    return scale_to_unit_interval(self.representation(frames))

  def follow(self, latent: jax.Array, action: jax.Array | None) -> jax.Array:
    """Where actions `[B]` lead latents `[B, h, w, D]`, without a reward.

    None stands for every action, in turn for each latent: B A latents follow then.
    """
    return scale_to_unit_interval(self.dynamics(latent, action))

  def step(self, latent: jax.Array, action: jax.Array | None) -> Transition:
    """Takes actions `[B]` in latents `[B, h, w, D]`, or every action as `follow` does."""
    following = self.follow(latent, action)
    return Transition(following, self.reward_head(self.reward_features(following)))

  def value(self, latent: jax.Array) -> jax.Array:
    """Predicts the value of latents `[B, h, w, D]`: logits `[B, M]` float32."""
    return self.value_head(self.value_features(latent))

  def predict(self, latent: jax.Array) -> Prediction:
    """Predicts policy and value of latents `[B, h, w, D]`."""
    return Prediction(self.policy_head(self.policy_features(latent)), self.value(latent))

  def planning_parts(self, frames: jax.Array, action: jax.Array) -> tuple[Prediction, Transition]:
    """Touches every parameter that planning needs; initialise MuZero with it."""
    latent = self.represent(frames)
    return self.predict(latent), self.step(latent, action)

  def action_value_parts(self, frames: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Reward and value logits `[B, M]` after an action; initialise Q-learning with it.

    Planning's parts without the policy: a module that is not called has no parameters.
    """
    transition = self.step(self.represent(frames), action)
    return transition.reward_logits, self.value(transition.latent)

  def value_parts(self, frames: jax.Array, action: jax.Array) -> jax.Array:
    """Value logits `[B, M]` after an action; initialise Q-learning without a reward head."""
    return self.value(self.follow(self.represent(frames), action))
