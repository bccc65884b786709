"""After how many samples does a world model know rewards, and does it know them on other frames?

A random policy's frames on easy-200 are kept; the representation, one model step and the reward
head of the `laptop` preset learn from them which reward an action brings, without policy,
unrolling or acting; with `--value-coefficient` values are learnt beside it, n-step targets with a
target network's bootstrap. Printed as it goes, for steps that are learnt from and for the later
ones that are not: the share of the rewards' variance that is explained (R2), the chance that a
rewarding step is given a higher probability of some reward than another one (AUC), and the
chance that more is predicted for a positive reward than for a negative one (sign).

  python results/dense_rewards/reward_learning.py fruitbot
  python results/dense_rewards/reward_learning.py starpilot --value-coefficient 1
"""

import argparse
import dataclasses
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from agents.model import make_world_model
from environments.factory import make_environment
from environments.games import GAMES
from environments.levels import parse_levels
from experiments.presets import make_preset
from losses.value_transform import categorical_value_loss, logits_to_scalar
from networks.config import FRAME_SCALINGS

ENVIRONMENTS = 64
HELD_OUT = 250  # last steps of every environment, which are not learnt from
MEASURED = 8_000  # steps of either kind
AGENT = make_preset("laptop", "muzero").agent
SUPPORT, VALUES = AGENT.model.reward_support, AGENT.model.value_support
N, GAMMA = AGENT.sequences.bootstrap_steps, AGENT.discount
TARGET_INTERVAL = AGENT.target_interval


class Data(NamedTuple):
  """What a random policy saw; `ended` says that an action ended its episode."""

  frames: np.ndarray  # [T, B, H, W, C] uint8
  action: np.ndarray  # [T, B] int32
  reward: np.ndarray  # [T, B] float32
  ended: np.ndarray  # [T, B] bool


def collect(game: str, steps: int, seed: int) -> Data:
  """Plays actions that are kept with probability 3/4 and drawn anew otherwise."""
  environment = make_environment(
    game, levels=parse_levels("easy-200"), num_environments=ENVIRONMENTS, seed=seed
  )
  generator = np.random.default_rng(seed)
  action = generator.integers(15, size=ENVIRONMENTS, dtype=np.int32)
  rows = []
  step = environment.observe()
  for _ in range(steps):
    renewed = generator.integers(15, size=ENVIRONMENTS, dtype=np.int32)
    action = np.where(generator.random(ENVIRONMENTS) < 0.25, renewed, action)
    environment.act(action)
    following = environment.observe()
    rows.append((step.observation, action, following.reward, following.first))
    step = following
  environment.close()
  return Data(*map(np.stack, zip(*rows, strict=True)))


def area_under_curve(positive: np.ndarray, negative: np.ndarray) -> float:
  """Chance that one of the first is above one of the second; half of it where they are equal."""
  if len(positive) == 0 or len(negative) == 0:
    return float("nan")
  ordered = np.sort(negative)
  below, upto = (np.searchsorted(ordered, positive, side=side) for side in ("left", "right"))
  return float(np.mean(below + upto) / 2 / len(negative))


def draw(
  generator: np.random.Generator, rewards: np.ndarray, size: int, share: float | None
) -> tuple[np.ndarray, np.ndarray]:
  """Draws steps and environments `[size]` of `rewards` `[T, B]`, a share of them rewarding."""
  t, b = (generator.integers(n, size=size) for n in rewards.shape)
  if share is not None:
    rewarding = np.argwhere(rewards != 0)
    chosen = rewarding[generator.integers(len(rewarding), size=round(share * size))]
    t[: len(chosen)], b[: len(chosen)] = chosen.T
  return t, b


def main() -> int:
  """Collects, learns and prints; returns the exit code."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("game", choices=GAMES)
  parser.add_argument("--frames", type=int, default=102_400, help="that are learnt from")
  parser.add_argument("--samples", type=int, default=1_024_000)
  parser.add_argument("--batch-size", type=int, default=256)
  parser.add_argument("--learning-rate", type=float, default=AGENT.optimizer.learning_rate)
  parser.add_argument("--frame-scaling", choices=FRAME_SCALINGS, default="standardised")
  parser.add_argument("--stem-strides", type=int, nargs=2, default=AGENT.backbone.stem_strides)
  parser.add_argument("--value-coefficient", type=float, default=0.0)
  parser.add_argument("--rewarding-share", type=float, help="of a batch; default: as they come")
  parser.add_argument("--seed", type=int, default=0)
  options = parser.parse_args()
  learnt = options.frames // ENVIRONMENTS
  data = collect(options.game, learnt + HELD_OUT, options.seed)
  frames, actions, rewards = data.frames, data.action, data.reward
  generator = np.random.default_rng(options.seed)

  backbone = dataclasses.replace(
    AGENT.backbone,
    frame_scaling=options.frame_scaling,
    stem_strides=tuple(options.stem_strides),
  )
  network = make_world_model(backbone, AGENT.model, num_actions=15)
  params = network.init(
    jax.random.key(options.seed), frames[0, :1], actions[0, :1], method=network.planning_parts
  )
  optimizer = optax.chain(
    optax.clip_by_global_norm(AGENT.optimizer.max_gradient_norm),
    optax.adamw(options.learning_rate, weight_decay=AGENT.optimizer.weight_decay),
  )
  state = optimizer.init(params)

  def apply(params, frames, action):
    latent = network.apply(params, frames, method=network.represent)
    transition = network.apply(params, latent, action, method=network.step)
    return transition.reward_logits, network.apply(params, latent, method=network.value)

  @jax.jit
  def value(params, frames):
    latent = network.apply(params, frames, method=network.represent)
    return logits_to_scalar(network.apply(params, latent, method=network.value), VALUES)

  def n_step_targets(target, t, b):
    total, weight = np.zeros(len(t), np.float32), np.ones(len(t), np.float32)
    for i in range(N):
      total += weight * rewards[t + i, b]
      weight *= GAMMA * ~data.ended[t + i, b]
    return total + weight * np.asarray(value(target, frames[t + N, b]))

  @jax.jit
  def predict(params, frames, action):
    logits, _ = apply(params, frames, action)
    none = SUPPORT.num_atoms // 2  # the atom of zero
    return logits_to_scalar(logits, SUPPORT), 1 - jax.nn.softmax(logits)[:, none]

  @jax.jit
  def update(params, state, frames, action, reward, returns):
    def loss(params):
      reward_logits, value_logits = apply(params, frames, action)
      losses = categorical_value_loss(reward_logits, reward, SUPPORT)
      if options.value_coefficient:
        value_losses = categorical_value_loss(value_logits, returns, VALUES)
        losses += options.value_coefficient * value_losses
      return jnp.mean(losses)

    updates, state = optimizer.update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, updates), state

  def measure(first: int, last: int) -> str:
    chosen = generator.choice((last - first) * ENVIRONMENTS, size=MEASURED)
    t, b = first + chosen // ENVIRONMENTS, chosen % ENVIRONMENTS
    parts = [
      predict(params, frames[t[i], b[i]], actions[t[i], b[i]])
      for i in np.array_split(np.arange(MEASURED), MEASURED // 500)
    ]
    predicted, some = (np.concatenate(x) for x in zip(*parts, strict=True))
    reward = rewards[t, b]
    explained = 1 - np.var(reward - predicted) / np.var(reward)
    area = area_under_curve(some[reward != 0], some[reward == 0])
    sign = area_under_curve(predicted[reward > 0], predicted[reward < 0])
    return f"R2 {explained:6.3f} AUC {area:.3f} sign {sign:.3f}"

  low, high = rewards.min(), rewards.max()
  print(
    f"{options}\nrewarding {np.mean(rewards != 0):.4f}, rewards {low} to {high}, "
    f"of them positive {np.mean(rewards[rewards != 0] > 0):.3f}",
    flush=True,
  )
  began = time.monotonic()
  for i in range(1, options.samples // options.batch_size + 1):
    t, b = draw(generator, rewards[: learnt - N], options.batch_size, options.rewarding_share)
    if (i - 1) % TARGET_INTERVAL == 0:
      target = params
    returns = n_step_targets(target, t, b) if options.value_coefficient else rewards[t, b]
    params, state = update(params, state, frames[t, b], actions[t, b], rewards[t, b], returns)
    if i % max(1, options.samples // options.batch_size // 20) == 0:
      print(
        f"{i * options.batch_size} samples  learnt from: {measure(0, learnt)}  "
        f"others: {measure(learnt, learnt + HELD_OUT)}  {time.monotonic() - began:.0f} s",
        flush=True,
      )
  return 0


if __name__ == "__main__":
  sys.exit(main())
