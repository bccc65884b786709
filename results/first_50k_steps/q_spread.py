"""How far apart are the values of actions that MuZero's search stretches to [0, 1]?

A run of MuZero plays in 32 environments from the first checkpoint that it keeps. In 384 of the
frames that it sees, every kept checkpoint's model, and its target network, say what each of the
15 actions is worth: reward and discounted value one step ahead. Printed are the state values,
percentiles of best minus worst action (to be held against `rescale_epsilon`), the share of
the actions' variance that is the same in all frames, and how the pattern that is left when
each frame's mean is taken off correlates between networks.

  python results/first_50k_steps/q_spread.py RUN
"""

from pathlib import Path
import sys

import jax
import jax.numpy as jnp
import numpy as np

from agents.model import make_world_model
from environments.factory import make_environment
from experiments.config import load_config
from experiments.restored_policy import restore_policy
from losses.value_transform import logits_to_scalar
from networks.world_model import WorldModel
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
  act = jax.jit(restored.agent.act)
  key, frames = jax.random.key(SEED), []
  for step in range(STEPS):
    key, action_key = jax.random.split(key)
    observation = environment.observe().observation
    if step % EVERY == EVERY // 2:
      frames.append(np.array(observation))
    environment.act(np.asarray(act(restored.policy_params, observation, action_key).action))
  environment.close()
  return np.concatenate(frames)


def make_look(agent, num_actions: int):
  """Returns a function from parameters and frames to values `[N]` and actions' `[N, A]`."""
  network = make_world_model(agent.backbone, agent.model, num_actions=num_actions)

  def value_of(params, latent):
    logits = network.apply(params, latent, method=WorldModel.predict).value_logits
    return logits_to_scalar(logits, agent.model.value_support)

  def look(params, frames):
    latent = network.apply(params, frames, method=WorldModel.represent)

    def ahead(action):
      actions = jnp.full(len(frames), action)
      transition = network.apply(params, latent, actions, method=WorldModel.step)
      reward = logits_to_scalar(transition.reward_logits, agent.model.reward_support)
      return reward + agent.discount * value_of(params, transition.latent)

    return value_of(params, latent), jax.vmap(ahead)(jnp.arange(num_actions)).T

  return jax.jit(look)


def main(run: Path) -> None:
  """Plays and prints."""
  config = load_config(run / "config.yaml")
  frames, patterns = None, []
  for step in sorted(int(each.name) for each in (run / "checkpoints/steps").iterdir()):
    restored = restore_policy(
      config, CheckpointReader(run / "checkpoints"), step=step, batch_sizes=[ENVIRONMENTS]
    )
    frames = play(config, restored) if frames is None else frames
    look = make_look(config.agent, restored.spec.num_actions)
    for name in ("params", "target_params"):
      value, action_value = map(np.asarray, look(getattr(restored.state, name), frames))
      spread = np.percentile(np.ptp(action_value, axis=1), [10, 50, 90])
      pattern = action_value - action_value.mean(1, keepdims=True)
      patterns.append(pattern.ravel())
      print(
        f"{run.name} {step:>7,} {name:13}  values {value.mean():.2f} +- {value.std():.2f}  "
        f"best minus worst action, 10/50/90 %: {' '.join(f'{x:.3f}' for x in spread)}  "
        f"same in all frames {pattern.mean(0).var() / pattern.var():.2f}"
      )
  print(np.round(np.corrcoef(patterns), 2))


if __name__ == "__main__":
  main(Path(sys.argv[1]))
