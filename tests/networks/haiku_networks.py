"""The networks a second time, in dm-haiku, from their descriptions in papers and docstrings.

What flax has no part in: layers, padding, pooling, initial scaling and heads are Haiku's
and jax.numpy's. The oracle for `networks`, and an example of Haiku code that can load what
`procplan export` writes.
"""

import haiku as hk
import jax
import jax.numpy as jnp

EPSILON = 1e-6  # of LayerNorm; Haiku's default is 1e-5


def layer_norm(name):
  """Over the channels of every position, with scale and offset."""
  return hk.LayerNorm(
    axis=-1, param_axis=-1, create_scale=True, create_offset=True, eps=EPSILON, name=name
  )


def same_conv(channels, kernel, *, stride=1, name):
  """A square convolution that keeps the frame's sides up to its stride."""
  return hk.Conv2D(channels, kernel_shape=kernel, stride=stride, padding="SAME", name=name)


def unit_interval(frames, dtype):
  """Bytes to [0, 1]."""
  return frames.astype(dtype) / 255


def zero_mean_unit_deviation(frames, dtype):
  """Every frame by itself, with the variance's own formula and jax.nn's epsilon of 1e-5."""
  x = frames.astype("float64" if dtype == "float64" else "float32") / 255
  deviation = x - jax.numpy.mean(x, (1, 2, 3), keepdims=True)
  variance = jax.numpy.mean(deviation**2, (1, 2, 3), keepdims=True)
  return (deviation / jax.numpy.sqrt(variance + 1e-5)).astype(dtype)


class FullPreActivation(hk.Module):
  """He et al. 2016b, figure 4e, with LayerNorm: two (norm, relu, conv), added to the input."""

  def __init__(self, channels, name):
    super().__init__(name)
    self.norms = [layer_norm(f"layer_norm_{i}") for i in range(2)]
    self.convs = [same_conv(channels, 3, name=f"conv_{i}") for i in range(2)]

  def __call__(self, x):
    branch = x
    for norm, conv in zip(self.norms, self.convs, strict=True):
      branch = conv(jax.nn.relu(norm(branch)))
    return x + branch


class ResNetV2(hk.Module):
  """Strided stem, (norm, relu) between its convolutions, blocks, and a last (norm, relu)."""

  def __init__(self, kernels, strides, channels, blocks, *, dtype, name="backbone"):
    super().__init__(name)
    self.dtype = dtype
    sizes = zip(channels, kernels, strides, strict=True)
    self.stem = [
      same_conv(width, kernel, stride=stride, name=f"stem_conv_{i}")
      for i, (width, kernel, stride) in enumerate(sizes)
    ]
    self.stem_norms = [layer_norm(f"stem_layer_norm_{i}") for i in range(1, len(self.stem))]
    self.blocks = [FullPreActivation(channels[-1], f"block_{i}") for i in range(blocks)]
    self.last_norm = layer_norm("final_layer_norm")

  def __call__(self, frames):
    first, *others = self.stem
    x = first(zero_mean_unit_deviation(frames, self.dtype))
    for norm, conv in zip(self.stem_norms, others, strict=True):
      x = conv(jax.nn.relu(norm(x)))
    return jax.nn.relu(self.last_norm(hk.Sequential(self.blocks)(x)))


class ImpalaResidual(hk.Module):
  """Espeholt et al. 2018, figure 3: (relu, conv) twice, added to the input."""

  def __init__(self, channels, name):
    super().__init__(name)
    self.first = same_conv(channels, 3, name="conv_0")
    self.second = same_conv(channels, 3, name="conv_1")

  def __call__(self, x):
    return self.second(jax.nn.relu(self.first(jax.nn.relu(x)))) + x


class ImpalaStack(hk.Module):
  """A convolution, a max-pool 3x3/2, residual blocks."""

  def __init__(self, channels, blocks, name):
    super().__init__(name)
    self.conv = same_conv(channels, 3, name="conv")
    self.pool = hk.MaxPool(window_shape=(3, 3, 1), strides=(2, 2, 1), padding="SAME")
    self.blocks = [ImpalaResidual(channels, f"block_{i}") for i in range(blocks)]

  def __call__(self, x):
    return hk.Sequential([self.conv, self.pool, *self.blocks])(x)


class ImpalaNetwork(hk.Module):
  """Stacks that halve the frame's sides, and a last relu."""

  def __init__(self, channels, blocks, *, dtype, name="backbone"):
    super().__init__(name)
    self.dtype = dtype
    self.stacks = [ImpalaStack(width, blocks, f"stack_{i}") for i, width in enumerate(channels)]

  def __call__(self, frames):
    x = unit_interval(frames, self.dtype)
    for stack in self.stacks:
      x = stack(x)
    return jax.nn.relu(x)


class NatureNetwork(hk.Module):
  """Mnih et al. 2015, methods: convolutions without padding, each with a relu behind it."""

  def __init__(self, kernels, strides, channels, *, dtype, name="backbone"):
    super().__init__(name)
    self.dtype = dtype
    self.convs = [
      hk.Conv2D(width, kernel_shape=kernel, stride=stride, padding="VALID", name=f"conv_{i}")
      for i, (kernel, stride, width) in enumerate(zip(kernels, strides, channels, strict=True))
    ]

  def __call__(self, frames):
    x = unit_interval(frames, self.dtype)
    for conv in self.convs:
      x = jax.nn.relu(conv(x))
    return x


class ActorCritic(hk.Module):
  """Cobbe et al. 2020: flattened backbone, one hidden layer, logits and a value from it."""

  def __init__(self, make_backbone, num_actions, hidden, *, name="actor_critic"):
    super().__init__(name)
    self.backbone = make_backbone("backbone")
    self.linear = hk.Linear(hidden, name="linear")
    self.policy_head = hk.Linear(num_actions, name="policy_head")
    self.value_head = hk.Linear(1, name="value_head")

  def __call__(self, frames):
    x = jax.nn.relu(self.linear(hk.Flatten()(self.backbone(frames))))
    return self.policy_head(x), jnp.squeeze(self.value_head(x), axis=-1)


class Trunk(hk.Module):
  """A backbone, flattened, and one hidden layer."""

  def __init__(self, make_backbone, hidden, name):
    super().__init__(name)
    self.backbone = make_backbone("backbone")
    self.linear = hk.Linear(hidden, name="linear")

  def __call__(self, frames):
    return jax.nn.relu(self.linear(hk.Flatten()(self.backbone(frames))))


class PhasicActorCritic(hk.Module):
  """Cobbe et al. 2021: a policy with an auxiliary value, and a value.

  The value has a trunk of its own (dual), the policy's (shared), or reads the policy's
  without a say in it (detached).
  """

  def __init__(self, make_backbone, num_actions, hidden, *, arch, name="phasic_actor_critic"):
    super().__init__(name)
    self.arch = arch
    names = ["policy_trunk", "value_trunk"] if arch == "dual" else ["trunk"]
    self.trunks = [Trunk(make_backbone, hidden, each) for each in names]
    self.policy_head = hk.Linear(num_actions, name="policy_head")
    self.value_head = hk.Linear(1, name="value_head")
    self.auxiliary_value_head = hk.Linear(1, name="auxiliary_value_head")

  def __call__(self, frames):
    hidden = [trunk(frames) for trunk in self.trunks]
    of_value = jax.lax.stop_gradient(hidden[0]) if self.arch == "detached" else hidden[-1]
    value, auxiliary = self.value_head(of_value), self.auxiliary_value_head(hidden[0])
    return self.policy_head(hidden[0]), value.ravel(), auxiliary.ravel()


class HeadFeatures(hk.Module):
  """A 1x1 convolution, norm and relu, then a hidden layer over all positions."""

  def __init__(self, channels, hidden, name):
    super().__init__(name)
    self.conv = same_conv(channels, 1, name="conv")
    self.norm = layer_norm("layer_norm")
    self.linear = hk.Linear(hidden, name="linear")

  def __call__(self, latent):
    x = hk.Flatten()(jax.nn.relu(self.norm(self.conv(latent))))
    return jax.nn.relu(self.linear(x))


class Dynamics(hk.Module):
  """Adds a convolution of (latent, action) to the latent, then blocks, norm and relu."""

  def __init__(self, channels, num_actions, blocks, name="dynamics"):
    super().__init__(name)
    self.num_actions = num_actions
    self.join = same_conv(channels, 3, name="join_conv")
    self.blocks = [FullPreActivation(channels, f"block_{i}") for i in range(blocks)]
    self.norm = layer_norm("layer_norm")

  def __call__(self, latent, action):
    height, width = latent.shape[1:3]
    chosen = jnp.eye(self.num_actions, dtype=latent.dtype)[action]
    planes = jnp.tile(jnp.reshape(chosen, (-1, 1, 1, self.num_actions)), (1, height, width, 1))
    x = latent + self.join(jnp.concatenate((latent, planes), axis=3))
    return jax.nn.relu(self.norm(hk.Sequential(self.blocks)(x) if self.blocks else x))


def min_max_scaled(latent):
  """Schrittwieser et al. 2020, appendix G: every state to [0, 1]."""

  def scaled(state):
    # By position: where XLA computes a state twice, `state == state.max()` need not hold in
    # the gradient of `max`, which is then lost or NaN.
    flat = state.ravel()
    low, high = flat[jnp.argmin(flat)], flat[jnp.argmax(flat)]
    return (state - low) / (high - low + 1e-5)

  return jax.vmap(scaled)(latent)


class WorldModel(hk.Module):
  """Schrittwieser et al. 2020: representation, dynamics and prediction."""

  def __init__(self, make_backbone, sizes, *, channels, name="world_model"):
    super().__init__(name)
    self.representation = make_backbone("representation")
    self.dynamics = Dynamics(channels, sizes.num_actions, sizes.dynamics_blocks)
    outputs = {
      "policy": sizes.num_actions,
      "value": sizes.num_value_atoms,
      "reward": sizes.num_reward_atoms,
    }
    self.features = {
      what: HeadFeatures(sizes.head_channels, sizes.hidden, f"{what}_features") for what in outputs
    }
    self.heads = {what: hk.Linear(size, name=f"{what}_head") for what, size in outputs.items()}

  def predict(self, what, latent):
    """Logits of `what`."""
    return self.heads[what](self.features[what](latent))

  def plan(self, frames, actions):
    """Policy and value of the root and after each of several model steps, and rewards."""
    latent = min_max_scaled(self.representation(frames))
    outputs = [self.predict("policy", latent), self.predict("value", latent)]
    for action in actions:
      latent = min_max_scaled(self.dynamics(latent, action))
      outputs += [self.predict(what, latent) for what in ("reward", "policy", "value")]
    return (*outputs, latent)

  def action_value(self, frames, action):
    """Reward and next value of one model step; asks for no policy."""
    latent = min_max_scaled(self.dynamics(min_max_scaled(self.representation(frames)), action))
    return self.predict("reward", latent), self.predict("value", latent)

  def direct_value(self, frames, action):
    """The value after one model step; asks for no reward."""
    latent = min_max_scaled(self.dynamics(min_max_scaled(self.representation(frames)), action))
    return self.predict("value", latent)


class QNetwork(hk.Module):
  """Mnih et al. 2015: a hidden layer behind the convolutions, and outputs for every action."""

  def __init__(self, make_backbone, num_actions, hidden, heads, *, name="q_network"):
    super().__init__(name)
    self.num_actions = num_actions
    self.representation = make_backbone("representation")
    self.linear = hk.Linear(hidden, name="linear")
    self.heads = [
      hk.Linear(num_actions * size, name=f"{what}_head") for what, size in heads.items()
    ]

  def __call__(self, frames):
    hidden = jax.nn.relu(self.linear(hk.Flatten()(self.representation(frames))))
    return tuple(
      jnp.stack(jnp.split(head(hidden), self.num_actions, axis=1), axis=1) for head in self.heads
    )
