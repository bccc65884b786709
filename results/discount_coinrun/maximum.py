"""What keeps the values of places where nothing comes as high as they are?

A run of Q-learning plays 32 episodes from its latest checkpoint. In the environments in which no
episode has ended by the last step, the target network's action values are read: by how much the
best action's exceeds the mean over actions, and by how much an n-step target falls short of
its bootstrap because of the discount. Where the two are equal, a value that is bootstrapped from
its like stays where it is. Of the best action as the network that acts chooses it (double
Q-learning) the same.

  python results/discount_coinrun/maximum.py RUN
"""

from pathlib import Path
import sys

import jax
import jax.numpy as jnp
import numpy as np

from agents.q_learning.agent import make_action_values
from environments.factory import make_environment
from experiments.config import load_config
from experiments.restored_policy import restore_policy
from training.checkpoint_reader import CheckpointReader

ENVIRONMENTS, STEPS, LOOKS = 32, 300, 6  # the last 6 looks, 25 steps apart, are averaged
EVERY, SEED = 25, 5


def main(run: Path) -> None:
  """Plays and prints."""
  config = load_config(run / "config.yaml")
  restored = restore_policy(
    config, CheckpointReader(run / "checkpoints"), step=None, batch_sizes=[ENVIRONMENTS]
  )
  environment = make_environment(
    config.environment.game,
    levels=config.environment.level_distribution,
    num_environments=ENVIRONMENTS,
    seed=SEED,
  )
  values = make_action_values(config.agent, num_actions=restored.spec.num_actions)

  @jax.jit
  def action_values(params, frames):
    return values.of_latent(params, values.represent(params, frames[None])[0])

  act = jax.jit(restored.agent.act_settled)
  key, ended, frames = jax.random.key(SEED), np.zeros(ENVIRONMENTS, bool), []
  for step in range(STEPS):
    key, action_key = jax.random.split(key)
    observation = environment.observe().observation
    if step % EVERY == 0:
      frames.append(observation)
    environment.act(np.asarray(act(restored.policy_params, observation, action_key).action))
    ended |= environment.observe().first
  seen = jnp.asarray(np.concatenate([each[~ended] for each in frames[-LOOKS:]]))
  online, target = (
    np.asarray(action_values(params, seen), np.float64)
    for params in (restored.state.params, restored.state.target_params)
  )
  mean, chosen = target.mean(1), target[np.arange(len(target)), online.argmax(1)]
  best = target.max(1)
  lost = (1 - config.agent.discount**config.agent.sequences.bootstrap_steps) * best
  print(f"{run.name}, {restored.step:,} steps: {(~ended).sum()} of {ENVIRONMENTS} have not ended")
  for name, x in (
    ("best action value", best),
    ("lost by the discount in an n-step target", lost),
    ("best over the mean of the actions", best - mean),
    ("the same, chosen by the network that acts", chosen - mean),
  ):
    print(f"{x.mean():6.3f}  {name}")


if __name__ == "__main__":
  main(Path(sys.argv[1]))
