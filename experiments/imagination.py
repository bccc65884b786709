"""What an agent's model imagines, as frames, beside what came.

Frames are collected with the checkpoint's own policy. A decoder that is trained here
sees the frames of some environments; everything that is shown and measured is of the
others.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from agents import decoding
from agents.decoding import Windows
from agents.model import make_world_model
from environments.interface import Environment
from experiments.config import ExperimentConfig
from experiments.errors import UsageError
from experiments.restored_policy import RestoredPolicy
from losses.value_transform import logits_to_scalar
from networks.world_model import WorldModel
from replay.interface import Trajectory
from training.actor import Actor, CompiledAct

MOST_MEASURED = 256  # windows, side by side


@dataclasses.dataclass(frozen=True)
class DecoderTraining:
  """How a decoder is trained.

  Attributes:
    updates: of the decoder.
    learning_rate: of Adam.
    batch_size: windows in an update, each decoded at one depth.
    seed: of initialisation and windows.
  """

  updates: int
  learning_rate: float
  batch_size: int
  seed: int


@dataclasses.dataclass(frozen=True, eq=False)
class Rollouts:
  """R windows of K steps, what was imagined of them, and how far that is off.

  Attributes:
    came: `[K + 1, R, H, W, C]` uint8.
    imagined: the same shape, decoded from the latents after k model steps; what a
      decoder puts beyond black or white is shown as that.
    action: `[K, R]`.
    reward: `[K, R]`, after each action.
    predicted_reward: `[K, R]`, the model's; None where it has no such head.
    error: by name, `[K + 1, R]` mean squared errors, frames in [0, 1]: `imagined`; `seen`,
      of the frame that came, encoded and decoded: what the decoder itself gets wrong; and
      `unchanged`, of the first frame, which imagines nothing.
  """

  came: np.ndarray
  imagined: np.ndarray
  action: np.ndarray
  reward: np.ndarray
  predicted_reward: np.ndarray | None
  error: dict[str, np.ndarray]

  def chosen(self, which: np.ndarray) -> "Rollouts":
    """Returns some of the windows, by their indices."""
    predicted = self.predicted_reward
    return Rollouts(
      came=self.came[:, which],
      imagined=self.imagined[:, which],
      action=self.action[:, which],
      reward=self.reward[:, which],
      predicted_reward=None if predicted is None else predicted[:, which],
      error={name: x[:, which] for name, x in self.error.items()},
    )


class Imagination:
  """A checkpoint's world model and what decodes its latents."""

  def __init__(self, config: ExperimentConfig, policy: RestoredPolicy, *, run: str, horizon: int):
    """Takes the model of a restored policy, to be unrolled for `horizon` steps, K.

    Raises:
      UsageError: the agent has no model that could be unrolled.
    """
    params = getattr(policy.state, "params", {})
    if "dynamics" not in params.get("params", {}):
      raise UsageError(f"{run}: the agent has no world model, it imagines nothing")
    agent = config.agent
    self.params = params
    self.frame_shape = policy.spec.observation_shape
    self.network: WorldModel = make_world_model(
      agent.backbone, agent.model, num_actions=policy.spec.num_actions
    )
    self._unroll = jax.jit(functools.partial(decoding.unrolled_latents, self.network))
    self._reward_head = _reward_head(params, agent.model)
    frame = jnp.zeros((1, *self.frame_shape), jnp.uint8)
    latent = jax.eval_shape(self._represent, params, frame)
    self.horizon = horizon
    self.decoder = decoding.own_decoder(params, (horizon + 1, *latent.shape[1:]))

  def _represent(self, params: Any, frames: jax.Array) -> jax.Array:
    return self.network.apply(params, frames, method=WorldModel.represent)

  def latents(self, trajectory: Trajectory) -> np.ndarray:
    """Unrolls some windows, at most `MOST_MEASURED`: `[K + 1, R, h, w, D]`."""
    starts = all_starts(trajectory, self.horizon)
    windows = cut_windows(trajectory, starts[:: -(-len(starts) // MOST_MEASURED)], self.horizon)
    return np.asarray(self._unroll(self.params, windows), np.float32)

  def latent_variation(self, trajectory: Trajectory) -> list[float]:
    """How much latents differ from window to window, after 0 to K model steps.

    The share of that in the deviation of all their entries: 0 is a latent that says
    nothing about the frame.
    """
    return [
      float(np.sqrt(x.var(axis=0).mean() / max(x.var(), 1e-12))) for x in self.latents(trajectory)
    ]

  def train_decoder(
    self,
    trajectory: Trajectory,
    training: DecoderTraining,
    *,
    report: Callable[[int, float], None],
  ) -> list[float]:
    """Trains a decoder on latents that stay as they are; returns the loss of every update.

    Every depth from 0 to K is decoded as often.

    Args:
      trajectory: `[T, B, ...]`, of whose every window it may learn.
      training: how.
      report: called with the update's number and loss, every so often and at the end.
    """
    generator = np.random.default_rng(training.seed)
    optimizer = optax.adam(training.learning_rate)
    starts = all_starts(trajectory, self.horizon)
    key = jax.random.key(training.seed)
    decoder = decoding.new_decoder(
      self.network.backbone, self.latents(trajectory), key, frame_shape=self.frame_shape
    )
    optimizer_state = optimizer.init(decoder.params)
    update = jax.jit(functools.partial(decoding.probe_update, self.network, optimizer=optimizer))
    losses = []
    for number in range(training.updates):
      picked = starts[generator.integers(len(starts), size=training.batch_size)]
      depth = generator.integers(self.horizon + 1, size=training.batch_size, dtype=np.int32)
      decoder, optimizer_state, loss = update(
        self.params,
        decoder,
        optimizer_state,
        windows=cut_windows(trajectory, picked, self.horizon),
        depth=depth,
      )
      losses.append(float(loss))
      if number % max(1, training.updates // 5) == 0 or number + 1 == training.updates:
        report(number + 1, losses[-1])
    self.decoder = decoder
    return losses

  def imagine(self, trajectory: Trajectory, starts: np.ndarray) -> Rollouts:
    """Imagines K steps from each of the starts.

    Args:
      trajectory: `[T, B, ...]`.
      starts: `[R, 2]` steps and environments.
    """
    windows = cut_windows(trajectory, starts, self.horizon)
    depth = np.repeat(np.arange(self.horizon + 1, dtype=np.int32)[:, None], len(starts), axis=1)
    decode = functools.partial(decoding.decode, self.network.backbone, frame_shape=self.frame_shape)

    @jax.jit
    def run(params, decoder, windows):
      latent = decoding.unrolled_latents(self.network, params, windows)
      seen = self.network.apply(
        params, decoding.flatten(windows.frames), method=WorldModel.represent
      ).reshape(latent.shape)
      reward = None
      if self._reward_head is not None:
        reward = self._reward_head(self.network, params, latent[1:])
      imagined = decode(decoder, latent, depth=depth)
      return imagined, decode(decoder, seen, depth=0 * depth), reward

    imagined, seen, reward = jax.device_get(run(self.params, self.decoder, windows))
    truth = windows.frames.astype(np.float32) / 255
    guesses = {"imagined": imagined, "seen": seen, "unchanged": truth[:1]}
    t, b = starts.T
    return Rollouts(
      came=windows.frames,
      imagined=np.round(255 * np.minimum(np.maximum(imagined, 0), 1)).astype(np.uint8),
      action=windows.action,
      reward=np.stack([trajectory.reward[t + k, b] for k in range(self.horizon)]),
      predicted_reward=reward,
      error={name: np.square(x - truth).mean(axis=(2, 3, 4)) for name, x in guesses.items()},
    )


def collect(
  environment: Environment, act: CompiledAct, params: Any, *, steps: int, key: jax.Array
) -> Trajectory:
  """Plays T steps with a policy; returns `[T, B, ...]`."""
  actor = Actor(environment, act, rollout_length=steps)
  trajectory, _ = actor.collect(params, base_key=key, rollout=0)
  return trajectory


def of_environments(trajectory: Trajectory, which: slice) -> Trajectory:
  """Returns a trajectory of some of the environments."""
  return Trajectory(
    observation=trajectory.observation[:, which],
    action=trajectory.action[:, which],
    reward=trajectory.reward[:, which],
    discount=trajectory.discount[:, which],
    extras={name: x[:, which] for name, x in trajectory.extras.items()},
    final_observation=trajectory.final_observation[which],
  )


def all_starts(trajectory: Trajectory, horizon: int) -> np.ndarray:
  """Returns steps and environments `[N, 2]` whose frame K steps on is in the trajectory."""
  steps, environments = trajectory.action.shape
  grid = np.meshgrid(np.arange(steps - horizon), np.arange(environments), indexing="ij")
  return np.stack(grid, axis=-1).reshape(-1, 2)


def cut_windows(trajectory: Trajectory, starts: np.ndarray, horizon: int) -> Windows:
  """Returns the windows of K steps from `starts`, `[R, 2]` steps and environments."""
  t, b = starts.T
  return Windows(
    frames=np.stack([trajectory.observation[t + k, b] for k in range(horizon + 1)]),
    action=np.stack([trajectory.action[t + k, b] for k in range(horizon)]),
    inside=_inside(trajectory, starts, horizon),
  )


def _inside(trajectory: Trajectory, starts: np.ndarray, horizon: int) -> np.ndarray:
  """`[K + 1, R]`, 1 where the frame k steps after the start is of the start's episode."""
  t, b = starts.T
  inside = [np.ones(len(starts), np.float32)]
  for k in range(horizon):
    inside.append(inside[-1] * trajectory.discount[t + k, b])
  return np.stack(inside)


def whole_starts(trajectory: Trajectory, horizon: int, *, seed: int) -> np.ndarray:
  """Returns starts whose episode goes on for K steps, in random order, at most `MOST_MEASURED`.

  Raises:
    UsageError: there is none.
  """
  starts = all_starts(trajectory, horizon)
  whole = starts[_inside(trajectory, starts, horizon)[-1] > 0]
  if not len(whole):
    raise UsageError(
      f"none of the {trajectory.action.size} held-out steps is followed by {horizon} steps of the "
      "same episode: choose a smaller --horizon, or more --steps"
    )
  order = np.random.default_rng(seed).permutation(len(whole))
  return whole[order[:MOST_MEASURED]]


def _reward_head(params: Any, model_config: Any) -> Callable[..., jax.Array] | None:
  """Returns what reads rewards `[K, R]` off latents; None where no categorical head does."""
  support = model_config.reward_support
  head = params["params"].get("reward_head")
  if head is None or support.num_atoms not in {leaf.shape[-1] for leaf in jax.tree.leaves(head)}:
    return None

  def read(network: WorldModel, params: Any, latent: jax.Array) -> jax.Array:
    logits = network.apply(
      params,
      decoding.flatten(latent),
      method=lambda module, x: module.reward_head(module.reward_features(x)),
    )
    return jnp.reshape(logits_to_scalar(logits, support), latent.shape[:2])

  return read
