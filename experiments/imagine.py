"""`procplan imagine`: what a checkpoint's world model imagines, beside what came.

Plays the checkpoint's policy, unrolls the model along the actions that were taken, and
decodes its latents. An agent with a reconstruction loss has a decoder; for any other one
a decoder is trained here, on latents that stay as they are. The run is only read.
"""

import argparse
from collections.abc import Mapping, Sequence
import dataclasses
from pathlib import Path
import sys
from typing import Any

import numpy as np

from environments.level_list import is_level_list
from experiments.config import ExperimentConfig, load_config
from experiments.errors import EXIT_FAILED, EXIT_INTERRUPTED, UsageError, unknown
from experiments.evaluation_options import LARGEST_SEED, POLICIES
from experiments.evaluation_plan import resolve_level_set
from experiments.options import OptionParser, add_checkpoint, guarded

UPDATES, LEARNING_RATE, BATCH_SIZE = 300, 1e-3, 64
HELD_OUT = 4  # one environment in so many is shown and measured, the others train a decoder


def make_parser() -> OptionParser:
  """Returns the command's options."""
  parser = OptionParser(prog="procplan imagine", description=__doc__)
  parser.add_argument("run", metavar="RUN", type=Path, help="run directory")
  parser.add_argument(
    "--out", metavar="DIR", type=Path, required=True, help="directory of picture, film and figures"
  )
  add_checkpoint(parser)
  parser.add_argument(
    "--levels",
    metavar="SET",
    default="test",
    help="train, test, held-out or a level distribution",
  )
  parser.add_argument("--policy", metavar="NAME", default="sampled", help="sampled or greedy")
  for name, default, what in (
    ("horizon", 10, "K: model steps from every start"),
    ("rollouts", 4, "rollouts that are shown"),
    ("environments", 16, "environments that are played; a quarter is held out and shown"),
    ("steps", 256, "steps that each of them is played"),
  ):
    parser.add_argument(f"--{name}", metavar="N", type=int, default=default, help=what)
  parser.add_argument(
    "--seed", type=int, help="of levels, actions and decoder (default: the run's)"
  )
  parser.add_argument(
    "--decoder-updates",
    metavar="N",
    type=int,
    help="train a new decoder with so many updates, even if the agent has its own "
    f"(default where it has none: {UPDATES})",
  )
  parser.add_argument(
    "--decoder-learning-rate", metavar="X", type=float, help=f"Adam's (default: {LEARNING_RATE})"
  )
  parser.add_argument(
    "--decoder-batch", metavar="N", type=int, help=f"windows in an update (default: {BATCH_SIZE})"
  )
  return parser


def main(arguments: Sequence[str]) -> int:
  """Imagines; returns the exit code."""
  options = make_parser().parse_args(arguments)
  _check(options)
  if not (options.run / "config.yaml").is_file():
    raise UsageError(f"{options.run} holds no run: there is no config.yaml")
  config = load_config(options.run / "config.yaml")
  from training.checkpoint import CheckpointError  # here: JAX

  try:
    _imagine(options, config, command=arguments)
  except CheckpointError as error:
    raise UsageError(" ".join(str(error).split())) from error
  except OSError as error:
    print(f"error: {error}", file=sys.stderr)
    return EXIT_FAILED
  except KeyboardInterrupt:
    print("stopped", file=sys.stderr)
    return EXIT_INTERRUPTED
  return 0


def _check(options: argparse.Namespace) -> None:
  """Raises UsageError for a value that no run allows."""
  for name in ("horizon", "rollouts", "steps", "decoder_updates", "decoder_batch"):
    value = getattr(options, name)
    if value is not None and value < 1:
      raise UsageError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
  if options.environments < 2:
    raise UsageError(f"--environments must be at least 2, one is held out: {options.environments}")
  if options.steps <= options.horizon:
    raise UsageError(
      f"--steps must be more than --horizon ({options.horizon}), got {options.steps}"
    )
  rate = options.decoder_learning_rate
  if rate is not None and not rate > 0:
    raise UsageError(f"--decoder-learning-rate must be above 0, got {rate}")
  if options.policy not in POLICIES:
    raise unknown("policy", options.policy, POLICIES)
  if options.seed is not None and not 0 <= options.seed <= LARGEST_SEED:
    raise UsageError(f"--seed must be from 0 to {LARGEST_SEED}, got {options.seed}")
  if is_level_list(options.levels):
    raise UsageError("--levels: levels one by one are not played here; name a level distribution")
  if options.out.exists() and not options.out.is_dir():
    raise UsageError(f"--out {options.out} is a file; it must be a directory")


def _imagine(
  options: argparse.Namespace, config: ExperimentConfig, *, command: Sequence[str]
) -> None:
  """Plays, decodes, measures and draws."""
  from environments.action_names import action_names
  from experiments import imagination
  from experiments.pictures.imagination_film import write_film, write_picture
  from experiments.restored_policy import restore_policy
  from training.checkpoint_reader import CheckpointReader
  from training.json_file import write_json

  level_set = resolve_level_set(options.levels, config.environment.level_distribution)
  seed = config.seed if options.seed is None else options.seed
  reader = CheckpointReader(options.run / "checkpoints")
  policy = restore_policy(config, reader, step=options.checkpoint, batch_sizes=[1])
  model = imagination.Imagination(config, policy, run=str(options.run), horizon=options.horizon)
  training = _decoder_training(options, seed=seed, has_own=model.decoder is not None)
  trajectory = _play(options, config, policy, level_set=level_set, seed=seed)
  held_out = max(1, options.environments // HELD_OUT)
  shown = imagination.of_environments(trajectory, slice(0, held_out))
  starts = imagination.whole_starts(shown, options.horizon, seed=seed)
  if options.rollouts > len(starts):
    raise UsageError(
      f"--rollouts must be at most the {len(starts)} whole ones that were played (never more than "
      f"{imagination.MOST_MEASURED}), got {options.rollouts}"
    )
  losses = []
  if training is not None:
    print(f"decoder: {training.updates} updates on stopped gradients", file=sys.stderr)
    others = imagination.of_environments(trajectory, slice(held_out, None))
    losses = model.train_decoder(others, training, report=_report)
  rollouts = model.imagine(shown, starts)
  options.out.mkdir(parents=True, exist_ok=True)
  names = action_names(config.environment.game)
  result = {
    "command": ["procplan", "imagine", *command],
    "run": str(options.run),
    "checkpoint": policy.step,
    "levels": level_set.levels.name,
    "policy": options.policy,
    "seed": seed,
    "decoder": "own" if training is None else dataclasses.asdict(training),
    "decoder_losses": losses,
    "latent_variation": model.latent_variation(shown),
    "rollouts_measured": len(starts),
    "steps": _by_step(rollouts),
  }
  write_json(options.out / "imagination.json", result)
  heading = f"{options.run.resolve().name} at {policy.step:,} steps, {level_set.levels.name}"
  # The starts are in random order.
  few = rollouts.chosen(np.arange(options.rollouts))
  write_picture(few, options.out / "rollouts.png", heading=heading, names=names)
  write_film(few, options.out, heading=heading, names=names)
  _print(result, options.out)


def _decoder_training(options: argparse.Namespace, *, seed: int, has_own: bool) -> Any:
  """How to train a decoder; None where the agent's own is used."""
  from experiments.imagination import DecoderTraining

  details = (options.decoder_learning_rate, options.decoder_batch)
  if has_own and options.decoder_updates is None:
    if any(each is not None for each in details):
      raise UsageError(
        "the agent has a decoder of its own, which is not trained here: add --decoder-updates N "
        "to train a new one"
      )
    return None
  return DecoderTraining(
    updates=options.decoder_updates or UPDATES,
    learning_rate=options.decoder_learning_rate or LEARNING_RATE,
    batch_size=options.decoder_batch or BATCH_SIZE,
    seed=seed,
  )


def _play(options: argparse.Namespace, config: ExperimentConfig, policy, *, level_set, seed: int):
  """Plays the checkpoint's policy for the steps that were asked for."""
  import jax

  from environments.factory import make_environment
  from experiments.imagination import collect
  from training.actor import CompiledAct
  from training.keys import Purpose, derive_key, derive_seed

  act = policy.agent.policies[options.policy]
  environment = make_environment(
    config.environment.game,
    levels=level_set.levels,
    num_environments=options.environments,
    seed=derive_seed(seed, Purpose.EVALUATE, 2),
  )
  count = options.environments * options.steps
  print(f"{options.run}: {count} steps on {level_set.levels.name}", file=sys.stderr)
  try:
    return collect(
      environment,
      CompiledAct(act, policy.mesh),
      policy.policy_params,
      steps=options.steps,
      key=derive_key(jax.random.key(seed), Purpose.EVALUATE, 2),
    )
  finally:
    environment.close()


def _report(update: int, loss: float) -> None:
  print(f"  update {update}: loss {loss:.5f}", file=sys.stderr, flush=True)


def _by_step(rollouts: Any) -> list[dict[str, float | None]]:
  """Means over the rollouts, for every k."""
  rows = []
  for k in range(len(rollouts.came)):
    row: dict[str, float | None] = {"k": k}
    row |= {name: float(error[k].mean()) for name, error in rollouts.error.items()}
    row["reward_error"] = None
    if k and rollouts.predicted_reward is not None:
      off = abs(rollouts.predicted_reward[k - 1] - rollouts.reward[k - 1])
      row["reward_error"] = float(off.mean())
    rows.append(row)
  return rows


def _print(result: Mapping[str, Any], directory: Path) -> None:
  """Prints what was measured, and where the pictures are."""
  print(f"{'k':>3} {'imagined':>9} {'seen':>9} {'unchanged':>9} {'reward error':>13}")
  for row in result["steps"]:
    reward = "" if row["reward_error"] is None else f"{row['reward_error']:.3f}"
    errors = " ".join(f"{row[name]:9.5f}" for name in ("imagined", "seen", "unchanged"))
    print(f"{row['k']:>3} {errors} {reward:>13}")
  print(
    f"squared error per pixel, frames in [0, 1], means over {result['rollouts_measured']} rollouts "
    "of held-out environments.\n"
    "imagined: k model steps from the start's frame. seen: the frame that came, encoded and "
    "decoded.\nunchanged: the start's frame taken for the one that came."
  )
  variation = ", ".join(f"{100 * each:.2g}" for each in result["latent_variation"])
  print(
    f"latents: {variation} % of their deviation differs from frame to frame, after 0, 1, ... model "
    "steps;\nthe rest is the same whatever is seen."
  )
  for name in ("rollouts.png", "rollouts.mp4", "rollouts.gif", "imagination.json"):
    print(directory / name)


if __name__ == "__main__":
  sys.exit(guarded(main, sys.argv[1:]))
