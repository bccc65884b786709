"""Plays the policy of a checkpoint on level sets and sums the episodes up.

The same actors, keys and quota as the evaluations of training: with the run's own
numbers, the last evaluation of a run is repeated exactly.
"""

import dataclasses
import math
import sys
from typing import Any
import zlib

import jax
from jax.sharding import NamedSharding
import numpy as np

from environments.factory import make_environment
from environments.games import normalised_score, score_bounds
from environments.levels import overlap
from experiments.evaluation_plan import EvaluationPlan, LevelSet
from experiments.registry import agent_name, make_agent
from training import sharding
from training.actor import CompiledAct
from training.calibration import ValueReading, read_values
from training.checkpoint_reader import CheckpointReader
from training.episodes import Episode
from training.evaluation import play_and_summarise
from training.keys import Purpose, derive_key, derive_seed

RESAMPLES = 10_000
CONFIDENCE = 0.95

# Level sets that training evaluates on, with their numbers there: the same episodes here.
_NUMBERS = {"train": 0, "test": 1}


def open_checkpoints(plan: EvaluationPlan) -> CheckpointReader:
  """Returns the checkpoints of the plan's run, to read from."""
  return CheckpointReader(plan.directory / "checkpoints")


def evaluate_run(plan: EvaluationPlan, reader: CheckpointReader) -> dict[str, Any]:
  """Evaluates one run.

  Args:
    plan: what to play.
    reader: of the run's checkpoints.

  Returns:
    What was evaluated and one entry per level set, as plain values, ready for JSON.

  Raises:
    CheckpointError: no checkpoint can be read.
  """
  config = plan.config
  agent = make_agent(
    config.agent,
    _training_spec(plan),
    total_environment_steps=config.training.total_environment_steps,
  )
  mesh = sharding.make_mesh(_devices(plan.num_environments))
  placed = NamedSharding(mesh, sharding.REPLICATED)
  wanted = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placed),
    jax.eval_shape(agent.init, jax.random.key(0)),
  )
  step, state = reader.restore_train_state(wanted, step=plan.checkpoint)
  act = CompiledAct({"sampled": agent.act, "greedy": agent.act_greedy}[plan.policy], mesh)
  params, reading = agent.policy_params(state), read_values(agent, state)
  return {
    "run": str(plan.directory),
    "agent": agent_name(config.agent),
    "game": config.environment.game,
    "training_levels": config.environment.levels,
    "run_seed": config.seed,
    "checkpoint": step,
    "devices": [str(device) for device in mesh.devices.flat],
    "bootstrap": {"resamples": RESAMPLES, "confidence": CONFIDENCE, "seed": plan.seed},
    "evaluations": [
      _evaluate_set(plan, each, act, params, reading=reading) for each in plan.level_sets
    ],
  }


def bootstrap_interval(values: np.ndarray, *, seed: int) -> list[float] | None:
  """Percentile bootstrap interval of a mean (Efron & Tibshirani 1993, section 13.3).

  Episodes are resampled with replacement: how well the mean of this one policy is known.

  Args:
    values: `[N]`.
    seed: of the resampling.

  Returns:
    Ends of the 95 % interval, or None for fewer than two values.
  """
  if len(values) < 2:
    return None
  generator = np.random.default_rng(seed)
  # One resample at a time: 10,000 x N indices at once would be gigabytes for large N.
  means = [
    values[generator.integers(len(values), size=len(values))].mean() for _ in range(RESAMPLES)
  ]
  tail = 50 * (1 - CONFIDENCE)
  low, high = np.percentile(means, [tail, 100 - tail])
  return [float(low), float(high)]


def _training_spec(plan: EvaluationPlan):
  """What the environments of training look like; one is opened to find out."""
  environment = plan.config.environment
  opened = make_environment(
    environment.game, levels=environment.level_distribution, num_environments=1, seed=0
  )
  try:
    return dataclasses.replace(opened.spec, num_environments=environment.num_environments)
  finally:
    opened.close()


def _devices(num_environments: int) -> list[jax.Device]:
  """Returns as many devices as split the environments evenly."""
  devices = jax.devices()
  return devices[: math.gcd(num_environments, len(devices))]


def _evaluate_set(
  plan: EvaluationPlan, level_set: LevelSet, act, params, *, reading: ValueReading | None
) -> dict[str, Any]:
  number = _NUMBERS.get(level_set.name, zlib.crc32(level_set.name.encode()))
  seed = derive_seed(plan.seed, Purpose.EVALUATE, number)
  levels = level_set.levels
  print(
    f"{plan.directory}: {plan.episodes} episodes on {level_set.name} ({levels.name})",
    file=sys.stderr,
    flush=True,
  )
  environment = make_environment(
    plan.config.environment.game, levels=levels, num_environments=plan.num_environments, seed=seed
  )
  try:
    episodes, summary = play_and_summarise(
      environment,
      act,
      params,
      episodes_per_environment=plan.episodes_per_environment,
      key=derive_key(jax.random.key(plan.seed), Purpose.EVALUATE, number),
      reading=reading,
    )
  finally:
    environment.close()
  return {
    "level_set": level_set.name,
    "levels": levels.name,
    "mode": levels.mode,
    "num_levels": levels.num_levels,
    "start_level": levels.start_level,
    "policy": plan.policy,
    "num_environments": plan.num_environments,
    "episodes_per_environment": plan.episodes_per_environment,
    "seed": seed,
    **summary,
    **_scores(plan, level_set, episodes),
    **_overlap(plan, level_set, episodes),
    "episode_records": [episode._asdict() for episode in episodes],
  }


def _scores(plan: EvaluationPlan, level_set: LevelSet, episodes: list[Episode]) -> dict[str, Any]:
  """Interval of the mean return, and the normalised score with its bounds."""
  returns = np.asarray([episode.episode_return for episode in episodes])
  bounds = score_bounds(plan.config.environment.game, level_set.levels.mode, plan.bounds)
  interval = bootstrap_interval(returns, seed=plan.seed)
  scores = None if interval is None else [float(normalised_score(x, bounds)) for x in interval]
  return {
    "episode_return_interval": interval,
    "normalised_score": float(normalised_score(returns.mean(), bounds)),
    "normalised_score_interval": scores,
    "bounds": {"name": plan.bounds, "minimum": bounds.minimum, "maximum": bounds.maximum},
  }


def _overlap(plan: EvaluationPlan, level_set: LevelSet, episodes: list[Episode]) -> dict[str, int]:
  """How much of the level set, and how many of the episodes, training could have seen."""
  training = plan.config.environment.level_distribution
  same_mode = training.mode == level_set.levels.mode
  return {
    "levels_shared_with_training": overlap(level_set.levels, training),
    "episodes_on_training_levels": sum(
      same_mode and episode.level_seed in training.seeds for episode in episodes
    ),
  }
