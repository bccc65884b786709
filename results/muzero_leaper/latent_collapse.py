"""Do latents go on telling frames apart while rewards are rare? Two ways to scale frames.

A random policy's frames on leaper easy-200 are kept; the world model of the `laptop` preset learns
rewards and 5-step values from them, bootstrapped from a target network, without any acting.
Printed as it goes: explained variance of the returns that came, the chance that a rewarding
step is predicted higher than another one (AUC), the mean reward predicted for rewarding steps (of
10), and which share of the latents' deviation differs between frames. All are of steps after
those that are learnt from.

  python results/muzero_leaper/latent_collapse.py standardised
  python results/muzero_leaper/latent_collapse.py standardised --batch-size 32
  python results/muzero_leaper/latent_collapse.py unit_interval --value-coefficient 0.25
"""

import argparse
from collections.abc import Callable
import dataclasses
import functools
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from agents.model import make_world_model
from environments.factory import make_environment
from environments.levels import parse_levels
from experiments.presets import make_preset
from losses.value_transform import categorical_value_loss, logits_to_scalar
from networks.config import FRAME_SCALINGS

STEPS, ENVIRONMENTS = 700, 64
LEARNT = 560  # steps of every environment that are learnt from
SAMPLES_PER_TARGET = 3_200  # learnt from between copies to the target network
AGENT = make_preset("laptop", "muzero").agent
SUPPORT = AGENT.model.value_support
N, GAMMA = AGENT.sequences.bootstrap_steps, AGENT.discount


class Data(NamedTuple):
  """What a random policy saw; `ended` says that an action ended its episode."""

  frames: np.ndarray  # [T, B, H, W, C] uint8
  action: np.ndarray  # [T, B] int32
  reward: np.ndarray  # [T, B] float32
  ended: np.ndarray  # [T, B] bool


class Minibatch(NamedTuple):
  """What is learnt from at once."""

  frames: np.ndarray  # [N, H, W, C] uint8
  action: np.ndarray  # [N] int32
  reward: np.ndarray  # [N] float32
  target: np.ndarray  # [N] float32, of the values


class Predicted(NamedTuple):
  """What the model says of N frames and actions."""

  latent: jax.Array  # [N, h, w, D]
  value: jax.Array  # [N]
  reward: jax.Array  # [N]
  some_reward: jax.Array  # [N], probability of any but 0


def collect(game: str, *, steps: int, seed: int) -> Data:
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


def returns(data: Data) -> np.ndarray:
  """Discounted returns `[T, B]`; nan where the episode's end was not seen."""
  result, following = np.zeros_like(data.reward), np.full(ENVIRONMENTS, np.nan)
  for t in reversed(range(len(data.reward))):
    following = data.reward[t] + GAMMA * np.where(data.ended[t], 0, following)
    result[t] = following
  return result


def n_step_targets(data: Data, t: np.ndarray, b: np.ndarray, value: Callable) -> np.ndarray:
  """Sum of n discounted rewards and the target network's value behind them."""
  total, weight = np.zeros(len(t), np.float32), np.ones(len(t), np.float32)
  for i in range(N):
    total += weight * data.reward[t + i, b]
    weight *= GAMMA * ~data.ended[t + i, b]
  return total + weight * np.asarray(value(data.frames[t + N, b], data.action[t + N, b]))


def area_under_curve(positive: np.ndarray, negative: np.ndarray) -> float:
  """Chance that one of the first is above one of the second; half of it where they are equal."""
  if len(positive) == 0 or len(negative) == 0:
    return float("nan")
  ordered = np.sort(negative)
  below, upto = (np.searchsorted(ordered, positive, side=side) for side in ("left", "right"))
  return float(np.mean(below + upto) / 2 / len(negative))


class Model:
  """The world model, its update and what it predicts."""

  def __init__(
    self,
    *,
    frame_scaling: str,
    seed: int,
    value_coefficient: float,
    learning_rate: float = AGENT.optimizer.learning_rate,
  ):
    backbone = dataclasses.replace(AGENT.backbone, frame_scaling=frame_scaling)
    self._network = make_world_model(backbone, AGENT.model, num_actions=15)
    frame, action = jnp.zeros((1, 64, 64, 3), jnp.uint8), jnp.zeros(1, jnp.int32)
    method = self._network.planning_parts
    self.params = self._network.init(jax.random.key(seed), frame, action, method=method)
    self._optimizer = optax.chain(
      optax.clip_by_global_norm(AGENT.optimizer.max_gradient_norm),
      optax.adamw(learning_rate, weight_decay=AGENT.optimizer.weight_decay),
    )
    self._state = self._optimizer.init(self.params)
    self._value_coefficient = value_coefficient
    self._update = jax.jit(self._descend)
    self.predict = jax.jit(self._predict)

  def value(self, params, frames, action) -> jax.Array:
    """Values `[N]` under some parameters; the action is of no consequence."""
    return self.predict(params, frames, action).value

  def learn(self, batch: Minibatch) -> None:
    """Takes one optimiser step."""
    self.params, self._state = self._update(self.params, self._state, batch)

  def predict_at(self, data: Data, t: np.ndarray, b: np.ndarray, *, parts: int) -> Predicted:
    """Predicts steps `t` of environments `b`, both `[N]`, in some parts, as numpy."""
    predicted = [
      jax.tree.map(np.asarray, self.predict(self.params, data.frames[i, j], data.action[i, j]))
      for i, j in zip(np.array_split(t, parts), np.array_split(b, parts), strict=True)
    ]
    return Predicted(*map(np.concatenate, zip(*predicted, strict=True)))

  def _apply(self, params, frames, action):
    latent = self._network.apply(params, frames, method=self._network.represent)
    prediction = self._network.apply(params, latent, method=self._network.predict)
    transition = self._network.apply(params, latent, action, method=self._network.step)
    return latent, prediction.value_logits, transition.reward_logits

  def _descend(self, params, state, batch: Minibatch):
    def loss(params):
      _, value, predicted = self._apply(params, batch.frames, batch.action)
      value_loss = jnp.mean(categorical_value_loss(value, batch.target, SUPPORT))
      reward_loss = jnp.mean(categorical_value_loss(predicted, batch.reward, SUPPORT))
      return self._value_coefficient * value_loss + reward_loss

    updates, state = self._optimizer.update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, updates), state

  def _predict(self, params, frames, action) -> Predicted:
    latent, value, reward = self._apply(params, frames, action)
    no_reward = jax.nn.softmax(reward)[:, SUPPORT.num_atoms // 2]  # the atom of 0
    scalars = (logits_to_scalar(each, SUPPORT) for each in (value, reward))
    return Predicted(latent, *scalars, 1 - no_reward)


def measure(model: Model, data: Data, came: np.ndarray, generator: np.random.Generator) -> str:
  """Measures the model on the steps that are not learnt from."""
  offset = np.array([LEARNT, 0])
  known = np.argwhere(~np.isnan(came[LEARNT:])) + offset
  rewarding = np.argwhere(data.reward[LEARNT:] > 0) + offset
  chosen = np.concatenate([generator.permutation(known)[:3000], rewarding])
  latent, value, reward, _ = model.predict_at(data, *chosen.T, parts=8)
  usual = slice(0, len(chosen) - len(rewarding))
  t, b = chosen[usual].T
  explained = 1 - np.var(came[t, b] - value[usual]) / np.var(came[t, b])
  area = area_under_curve(reward[len(t) :], reward[usual][data.reward[t, b] == 0])
  differing = latent[usual].std(0).mean() / latent[usual].std()
  return (
    f"explained {explained:6.3f}  AUC {area:.3f}  "
    f"rewards predicted {np.mean(reward[len(t) :]):.2f}  differing {differing:.3f}"
  )


def main() -> int:
  """Learns and prints; returns the exit code."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("frame_scaling", choices=FRAME_SCALINGS)
  parser.add_argument("--value-coefficient", type=float, default=1.0)
  parser.add_argument("--batch-size", type=int, default=128)
  parser.add_argument("--samples", type=int, default=70_000)
  parser.add_argument("--seed", type=int, default=0)
  options = parser.parse_args()
  data = collect("leaper", steps=STEPS, seed=options.seed)
  came = returns(data)
  generator = np.random.default_rng(options.seed)
  model = Model(
    frame_scaling=options.frame_scaling,
    seed=options.seed,
    value_coefficient=options.value_coefficient,
  )
  target, batch = model.params, options.batch_size
  interval = SAMPLES_PER_TARGET // batch
  print(f"0 samples  {measure(model, data, came, generator)}", flush=True)
  for update in range(1, options.samples // batch + 1):
    t, b = generator.integers(LEARNT - N, size=batch), generator.integers(ENVIRONMENTS, size=batch)
    value = n_step_targets(data, t, b, functools.partial(model.value, target))
    model.learn(Minibatch(data.frames[t, b], data.action[t, b], data.reward[t, b], value))
    if update % interval == 0:
      target = model.params
    if update % (10_000 // batch) == 0:
      print(f"{update * batch} samples  {measure(model, data, came, generator)}", flush=True)
  return 0


if __name__ == "__main__":
  sys.exit(main())
