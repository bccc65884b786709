"""Plays the policy of a checkpoint on level sets and sums the episodes up.

The same actors, keys and quota as the evaluations of training: with the run's own
numbers, the last evaluation of a run is repeated exactly.
"""

import dataclasses
import sys
from typing import Any
import zlib

import jax

from environments.factory import make_environment, make_one_per_level
from environments.games import score_bounds
from environments.interface import Environment
from experiments.evaluation_plan import EvaluationPlan, LevelSet
from experiments.evaluation_scores import (
  CONFIDENCE,
  RESAMPLES,
  by_level,
  paired_gain,
  scores,
  training_overlap,
)
from experiments.pictures.episode_film import EpisodeRecorder, FilmTitle, write_films
from experiments.registry import act_with_search, agent_name
from experiments.restored_policy import RestoredPolicy, restore_policy
from training.actor import CompiledAct
from training.calibration import ValueReading, read_values
from training.checkpoint_reader import CheckpointReader
from training.episodes import Episode
from training.evaluation import play_and_summarise
from training.keys import Purpose, derive_key, derive_seed

# Level sets that training evaluates on, with their numbers there: the same episodes here.
_NUMBERS = {"train": 0, "test": 1}


@dataclasses.dataclass(frozen=True, eq=False)
class _Player:
  """How to act in one evaluation."""

  act: CompiledAct
  params: Any
  reading: ValueReading | None
  search: dict[str, Any] | None  # its settings; None where the agent does not plan


def open_checkpoints(plan: EvaluationPlan) -> CheckpointReader:
  """Returns the checkpoints of the plan's run, to read from."""
  return CheckpointReader(plan.directory / "checkpoints")


def evaluate_run(plan: EvaluationPlan, reader: CheckpointReader) -> dict[str, Any]:
  """Evaluates one run.

  Args:
    plan: what to play.
    reader: of the run's checkpoints.

  Returns:
    What was evaluated and one entry per number of simulations and level set, as plain
    values, ready for JSON.

  Raises:
    CheckpointError: no checkpoint can be read.
    OSError: a film could not be written.
  """
  config = plan.config
  batch_sizes = [plan.environments_on(each) for each in plan.level_sets]
  policy = restore_policy(config, reader, step=plan.checkpoint, batch_sizes=batch_sizes)
  evaluations = []
  references: dict[str, list[Episode]] = {}  # of the first number of simulations
  for num_simulations in plan.simulations or (None,):
    player = _make_player(plan, policy, num_simulations)
    for level_set in plan.level_sets:
      row, episodes = _evaluate_set(plan, level_set, player)
      reference = references.setdefault(level_set.name, episodes)
      if len(plan.simulations) > 1:
        row |= paired_gain(episodes, reference, level_set, seed=plan.seed)
      evaluations.append(row)
  return {
    "run": str(plan.directory),
    "agent": agent_name(config.agent),
    "game": config.environment.game,
    "training_levels": config.environment.levels,
    "run_seed": config.seed,
    "checkpoint": policy.step,
    "devices": [str(device) for device in policy.mesh.devices.flat],
    "bootstrap": {"resamples": RESAMPLES, "confidence": CONFIDENCE, "seed": plan.seed},
    "evaluations": evaluations,
  }


def _make_player(
  plan: EvaluationPlan, policy: RestoredPolicy, num_simulations: int | None
) -> _Player:
  """How to act with so many simulations; None is for agents that do not plan."""
  acts, search = policy.agent.policies, None
  if num_simulations is not None:
    acting, search = act_with_search(
      plan.config.agent, policy.spec, search=plan.search, num_simulations=num_simulations
    )
    acts = {"sampled": acting.sampled, "greedy": acting.greedy}
  return _Player(
    act=CompiledAct(acts[plan.policy], policy.mesh),
    params=policy.policy_params,
    reading=read_values(policy.agent, policy.state),
    search=search,
  )


def _evaluate_set(
  plan: EvaluationPlan, level_set: LevelSet, player: _Player
) -> tuple[dict[str, Any], list[Episode]]:
  """Plays one level set; returns the entry of the result, and the episodes."""
  config = plan.config
  training = config.environment.level_distribution
  number = _NUMBERS.get(level_set.name, zlib.crc32(level_set.name.encode()))
  seed = derive_seed(plan.seed, Purpose.EVALUATE, number)
  recorder = EpisodeRecorder(
    plan.video.episodes if plan.video else 0, reading=player.reading, game=config.environment.game
  )
  _announce(plan, level_set, player)
  environment = _open(plan, level_set, seed=seed)
  try:
    episodes, summary = play_and_summarise(
      environment,
      player.act,
      player.params,
      episodes_per_environment=plan.episodes_per_environment,
      key=derive_key(jax.random.key(plan.seed), Purpose.EVALUATE, number),
      reading=player.reading,
      watchers=(recorder.watch,),
    )
  finally:
    environment.close()
  levels = level_set.levels
  bounds = score_bounds(config.environment.game, levels.mode, plan.bounds)
  row = {
    "level_set": level_set.name,
    "levels": levels.name,
    "mode": levels.mode,
    "num_levels": level_set.num_levels,
    "start_level": None if level_set.is_list else levels.start_level,
    "level_seeds": list(levels.seeds) if level_set.is_list else None,
    "policy": plan.policy,
    "search": player.search,
    "num_environments": plan.environments_on(level_set),
    "episodes_per_environment": plan.episodes_per_environment,
    "seed": seed,
    **summary,
    **scores(episodes, level_set, bounds, name=plan.bounds, seed=plan.seed),
    **training_overlap(episodes, level_set, training),
    "by_level": by_level(episodes, level_set, training),
    "episode_records": [episode._asdict() for episode in episodes],
    "films": _write_films(plan, level_set, player, recorder=recorder),
  }
  return row, episodes


def _open(plan: EvaluationPlan, level_set: LevelSet, *, seed: int) -> Environment:
  game = plan.config.environment.game
  if level_set.is_list:
    return make_one_per_level(game, levels=level_set.levels, seed=seed)
  return make_environment(
    game, levels=level_set.levels, num_environments=plan.num_environments, seed=seed
  )


def _announce(plan: EvaluationPlan, level_set: LevelSet, player: _Player) -> None:
  count = plan.environments_on(level_set) * plan.episodes_per_environment
  print(
    f"{plan.directory}: {count} episodes on {level_set.name} ({level_set.levels.name})"
    f"{_with_search(player)}",
    file=sys.stderr,
    flush=True,
  )


def _with_search(player: _Player) -> str:
  if player.search is None:
    return ""
  count = player.search["num_simulations"]
  return f", {player.search['kind']} {count}" if count else ", raw policy"


def _write_films(
  plan: EvaluationPlan, level_set: LevelSet, player: _Player, *, recorder: EpisodeRecorder
) -> list[str]:
  """Writes what was recorded; returns the files."""
  if plan.video is None:
    return []
  config = plan.config
  title = FilmTitle(
    head=f"{agent_name(config.agent)} on {config.environment.game}, {level_set.levels.name}",
    how=f"{plan.policy}{_with_search(player)}",
    policy="search policy" if player.search and player.search["num_simulations"] else "policy",
  )
  name = f"{level_set.levels.mode}-seeds" if level_set.is_list else level_set.name
  stem = f"{name}_{plan.policy}"
  if player.search is not None:
    count = player.search["num_simulations"]
    stem += f"_{player.search['kind']}-{count}" if count else "_raw"
  return [
    str(path) for path in write_films(recorder.episodes, plan.video.directory, stem, title=title)
  ]
