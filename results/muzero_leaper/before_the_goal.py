"""What a run's model says of the last step of an episode, where it was rewarded and where not.

Plays the training levels with a checkpoint's own policy. Printed: the value of the frame, the
reward and the following value that the model predicts for the action that was taken (10 and 0
would be right before a goal, 0 and 0 before a death), its probability, and how often it is the
best one by the model.

  python results/muzero_leaper/before_the_goal.py RUN [--step N]
"""

import argparse
from pathlib import Path
import sys

import jax
import jax.numpy as jnp
import numpy as np

from agents.model import make_world_model
from agents.muzero.acting import planning_model
from environments.factory import make_environment
from experiments.config import load_config
from experiments.restored_policy import restore_policy
from networks.world_model import WorldModel
from training.actor import Actor, CompiledAct
from training.checkpoint_reader import CheckpointReader
from training.sharding import make_own_mesh

ENVIRONMENTS, STEPS, ROLLOUTS = 64, 128, 8


def main() -> int:
  """Plays and prints; returns the exit code."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("run", type=Path)
  parser.add_argument("--step", type=int)
  options = parser.parse_args()
  config = load_config(options.run / "config.yaml")
  reader = CheckpointReader(options.run / "checkpoints")
  policy = restore_policy(config, reader, step=options.step, batch_sizes=[ENVIRONMENTS])
  actions = policy.spec.num_actions
  network = make_world_model(config.agent.backbone, config.agent.model, num_actions=actions)
  model = planning_model(network, config.agent)
  params = policy.policy_params

  @jax.jit
  def look(frames):
    latent = network.apply(params, frames, method=WorldModel.represent)
    root = model.root(params, latent)

    def take(action):
      output, _ = model.recurrent(params, None, jnp.full(ENVIRONMENTS, action), latent)
      return output.reward, output.value

    reward, value = jax.lax.map(take, jnp.arange(actions))
    return root.value, reward, value, jax.nn.softmax(root.prior_logits)

  environment = make_environment(
    config.environment.game,
    levels=config.environment.level_distribution,
    num_environments=ENVIRONMENTS,
    seed=123,
  )
  actor = Actor(environment, CompiledAct(policy.agent.act, make_own_mesh()), rollout_length=STEPS)
  rows = []
  for rollout in range(ROLLOUTS):
    trajectory, _ = actor.collect(params, base_key=jax.random.key(5), rollout=rollout)
    for t in range(STEPS):
      ended = np.flatnonzero(np.asarray(trajectory.discount[t]) == 0)
      if not len(ended):
        continue
      frames = np.asarray(trajectory.observation[t])
      value, reward, following, prior = map(np.asarray, look(frames))
      for b in ended:
        a = int(trajectory.action[t, b])
        best = np.argmax(reward[:, b] + config.agent.discount * following[:, b])
        came = float(trajectory.reward[t, b])
        rows.append((came, value[b], reward[a, b], following[a, b], prior[b, a], best == a))
  environment.close()
  table = np.array(rows, np.float64)
  for name, chosen in (("goal", table[:, 0] > 0), ("no reward", table[:, 0] == 0)):
    means = table[chosen, 1:].mean(axis=0)
    print(
      f"{name}: {chosen.sum()} episodes, value {means[0]:.2f}, reward predicted {means[1]:.3f}, "
      f"following value {means[2]:.2f}, probability {means[3]:.2f}, best {means[4]:.2f}"
    )
  return 0


if __name__ == "__main__":
  sys.exit(main())
