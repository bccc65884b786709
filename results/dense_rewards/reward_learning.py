"""After how many samples does a world model know rewards, and does it know them on other frames?

A random policy's frames on easy-200 are kept; the representation, one model step and the reward
head of the `laptop` preset learn from them which reward an action brings, without policy,
unrolling or acting; with `--value-coefficient` values are learnt beside it, n-step targets with a
target network's bootstrap. Printed as it goes, for steps that are learnt from and for the later
ones that are not: the share of the rewards' variance that is explained (R2), the chance that a
rewarding step is given a higher probability of some reward than another one (AUC), and the
chance that more is predicted for a positive reward than for a negative one (sign).

  python -m results.dense_rewards.reward_learning fruitbot
  python -m results.dense_rewards.reward_learning starpilot --value-coefficient 1
"""

import argparse
import functools
import sys
import time

import numpy as np

from environments.games import GAMES
from results.muzero_leaper.latent_collapse import (
  AGENT,
  ENVIRONMENTS,
  Data,
  Minibatch,
  Model,
  N,
  area_under_curve,
  collect,
  n_step_targets,
)

HELD_OUT = 250  # last steps of every environment, which are not learnt from
MEASURED = 8_000  # steps of either kind
LINES = 20  # at most, that are printed


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


def measure(model: Model, data: Data, steps: range, generator: np.random.Generator) -> str:
  """Measures the model on some of these steps of every environment."""
  chosen = generator.choice(len(steps) * ENVIRONMENTS, size=MEASURED)
  t, b = steps.start + chosen // ENVIRONMENTS, chosen % ENVIRONMENTS
  predicted = model.predict_at(data, t, b, parts=16)
  came = data.reward[t, b]
  explained = 1 - np.var(came - predicted.reward) / np.var(came)
  area = area_under_curve(predicted.some_reward[came != 0], predicted.some_reward[came == 0])
  sign = area_under_curve(predicted.reward[came > 0], predicted.reward[came < 0])
  return f"R2 {explained:6.3f} AUC {area:.3f} sign {sign:.3f}"


def learn(options: argparse.Namespace, data: Data) -> None:
  """Learns from all but the held out steps; prints as it goes."""
  learnt, generator = len(data.reward) - HELD_OUT, np.random.default_rng(options.seed)
  model = Model(
    frame_scaling=AGENT.backbone.frame_scaling,
    seed=options.seed,
    value_coefficient=options.value_coefficient,
    learning_rate=options.learning_rate,
  )
  updates, began = options.samples // options.batch_size, time.monotonic()
  for i in range(updates):
    if i % AGENT.target_interval == 0:
      value = functools.partial(model.value, model.params)  # the target network's
    t, b = draw(generator, data.reward[: learnt - N], options.batch_size, options.rewarding_share)
    target = n_step_targets(data, t, b, value) if options.value_coefficient else data.reward[t, b]
    model.learn(Minibatch(data.frames[t, b], data.action[t, b], data.reward[t, b], target))
    if (i + 1) % max(1, updates // LINES) == 0:
      print(
        f"{(i + 1) * options.batch_size} samples  "
        f"learnt from: {measure(model, data, range(learnt), generator)}  "
        f"others: {measure(model, data, range(learnt, learnt + HELD_OUT), generator)}  "
        f"{time.monotonic() - began:.0f} s",
        flush=True,
      )


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
  parser.add_argument("--value-coefficient", type=float, default=0.0)
  parser.add_argument("--rewarding-share", type=float, help="of a batch; default: as they come")
  parser.add_argument("--seed", type=int, default=0)
  options = parser.parse_args()
  steps = options.frames // ENVIRONMENTS + HELD_OUT
  data = collect(options.game, steps=steps, seed=options.seed)
  came = data.reward[data.reward != 0]
  print(
    f"{options}\nrewarding {np.mean(data.reward != 0):.4f}, rewards {data.reward.min()} to "
    f"{data.reward.max()}, of them positive {np.mean(came > 0):.3f}",
    flush=True,
  )
  learn(options, data)
  return 0


if __name__ == "__main__":
  sys.exit(main())
