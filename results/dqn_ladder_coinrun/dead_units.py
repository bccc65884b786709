"""How much of a usual DQN's network answers to what it sees?

A run with Nature's convolutions plays in 32 environments from its latest checkpoint; every
20th frame of the first 240 steps is looked at. For each layer: the units that are 0 in all
384 of them, and then how far the action values of a frame are apart, and those of an action.

  python results/dqn_ladder_coinrun/dead_units.py RUN
"""

from pathlib import Path
import sys

import jax
import numpy as np

from agents.q_learning.agent import make_action_values
from environments.factory import make_environment
from experiments.config import load_config
from experiments.imagination import collect
from experiments.restored_policy import restore_policy
from training.actor import CompiledAct
from training.checkpoint_reader import CheckpointReader

ENVIRONMENTS, STEPS, EVERY, SEED = 32, 240, 20, 5


def play(config, restored) -> np.ndarray:
  """Returns frames `[N, H, W, C]`, one in `EVERY`, of playing with a restored policy."""
  environment = make_environment(
    config.environment.game,
    levels=config.environment.level_distribution,
    num_environments=ENVIRONMENTS,
    seed=SEED,
  )
  act = CompiledAct(restored.agent.act, restored.mesh)
  key = jax.random.key(SEED)
  trajectory = collect(environment, act, restored.policy_params, steps=STEPS, key=key)
  environment.close()
  frames = trajectory.observation[EVERY // 2 :: EVERY]
  return frames.reshape((-1, *frames.shape[2:]))


def main(run: Path) -> None:
  """Plays and prints."""
  config = load_config(run / "config.yaml")
  step = max(int(each.name) for each in (run / "checkpoints/steps").iterdir())
  restored = restore_policy(
    config, CheckpointReader(run / "checkpoints"), step=step, batch_sizes=[ENVIRONMENTS]
  )
  frames = play(config, restored)
  values = make_action_values(config.agent, num_actions=restored.spec.num_actions)
  q, kept = values.network.apply(
    restored.state.params,
    frames,
    method=lambda module, x: module.value(module.represent(x)),
    capture_intermediates=True,
  )
  layers = kept["intermediates"]
  before_relu = {**layers["representation"], "features": layers["features"]}
  for name, outputs in before_relu.items():
    if name != "__call__":
      (x,) = outputs["__call__"]
      units = np.asarray(x).reshape((-1, x.shape[-1])).max(axis=0)
      print(f"{run.name} {step:,} {name:9} {np.sum(units <= 0):3} of {len(units)} units always 0")
  q = np.asarray(q)[..., 0]
  print(
    f"action values: mean {q.mean():.3f}, best minus worst action of a frame "
    f"{np.median(np.ptp(q, axis=1)):.4f} (median), deviation over frames {q.std(axis=0).max():.4f}"
  )


if __name__ == "__main__":
  main(Path(sys.argv[1]))
