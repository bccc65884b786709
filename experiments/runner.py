"""Runs one configuration in one directory: builds everything, trains, writes the result."""

from collections.abc import Sequence
import contextlib
from pathlib import Path
import signal
import sys

import jax
from jax.sharding import Mesh

from agents.interface import Agent
from environments.factory import make_environment
from environments.levels import full_distribution
from experiments.config import ExperimentConfig
from experiments.errors import EXIT_INTERRUPTED, EXIT_PREEMPTED, UsageError
from experiments.registry import make_agent
from experiments.run_config import check_config, claim_config, read_earlier_result
from experiments.run_directory import record_run
from experiments.run_lock import locked
from experiments.run_memory import Room, check_memory, measure_room, with_train_state
from experiments.run_plan import RunPlan, plan_run, spec_of, to_mapping
from experiments.run_plan_text import count_lines, memory_lines
from experiments.run_shares import (
  check_process_count,
  check_shares,
  own_directory,
  own_seed,
  own_share,
)
from experiments.stop_requests import StopRequests, stop_requests
from replay.factory import make_snapshot_store, make_source
from replay.interface import Record, Source
from training import sharding
from training.actor import Actor, CompiledAct
from training.checkpoint import CheckpointError, Checkpoints
from training.evaluation import EvaluationSet
from training.json_file import write_json
from training.keys import Purpose, derive_seed
from training.learner import Learner, NonFiniteError
from training.loop import Interrupted, Loop
from training.metrics import MetricsWriter
from training.processes import ALONE, Processes
from training.sharding import make_mesh, make_own_mesh
from training.shared_checkpoints import SharedCheckpoints


def run(
  config: ExperimentConfig,
  directory: Path,
  *,
  command: Sequence[str],
  processes: Processes = ALONE,
) -> int:
  """Trains in `directory`, from the start or from its latest checkpoint.

  Args:
    config: of the run; a directory that holds another one is refused, a shorter one extended.
    directory: is made if needed; of several processes all have to see the same.
    command: recorded in run.json.
    processes: this one among those of the run; all call this.

  Returns:
    The exit code: 0 finished, 75 stopped by SIGTERM, 130 by Ctrl-C; both saved, unless a
    second Ctrl-C did not wait for it. Of several processes all return the same.

  Raises:
    UsageError: the directory belongs to another configuration or process, a batch does
      not divide over the devices, or the run does not fit in memory.
    NonFiniteError, CheckpointError: as in the loop.
    OSError: a file could not be written.
    KeyboardInterrupt: a second Ctrl-C in this one of several processes.
  """
  plan, room = plan_here(config)
  check_process_count(directory, processes)
  processes.wait("checked")
  own = own_directory(directory, processes)
  own.mkdir(parents=True, exist_ok=True)
  with locked(own):
    processes.wait("opened")
    if processes.is_first:
      claim_config(config, directory)
    processes.wait("claimed")
    if not processes.is_first and check_config(config, directory) is not None:
      raise UsageError(f"{directory} does not show yet that the first process has extended the run")
    if processes.any((directory / "result.json").exists()):
      if processes.is_first:
        print(f"{directory} is finished; nothing to do")
      return 0
    if processes.is_first:
      record_run(directory, command)
      write_json(directory / "plan.json", to_mapping(plan))
      print("\n".join([*count_lines(plan), *memory_lines(plan, room)]), flush=True)
    with contextlib.ExitStack() as stack:
      stop = stack.enter_context(stop_requests())
      return _train(config, directory, stop, stack, processes=processes)


def plan_here(config: ExperimentConfig) -> tuple[RunPlan, Room]:
  """Works out what a run takes on this machine; allocates nothing of it.

  Raises:
    UsageError: it does not fit, or something does not divide over the devices.
  """
  count = jax.device_count()
  check_devices(config, num_devices=count, num_processes=jax.process_count())
  check_shares(config, num_processes=jax.process_count())
  plan = plan_run(config, num_devices=count)
  plan = with_train_state(plan, config, num_devices=count)
  room = measure_room(jax.local_devices(), num_hosts=jax.process_count())
  check_memory(plan, room)
  return plan, room


def check_devices(config: ExperimentConfig, *, num_devices: int, num_processes: int = 1) -> None:
  """Checks that everything divides over the devices; one process alone evaluates, on its own.

  Raises:
    UsageError: it does not; names the field.
  """
  counts = {
    "environment.num_environments": (config.environment.num_environments, num_devices),
    "evaluation.num_environments": (
      config.evaluation.num_environments,
      num_devices // num_processes,
    ),
  }
  for field, (count, devices) in counts.items():
    if count % devices:
      raise UsageError(f"{field} must be a multiple of the {devices} devices, got {count}")
  try:
    config.agent.check_batch(config.environment.num_environments // num_devices)
  except ValueError as error:
    raise UsageError(f"on each of {num_devices} devices: {error}") from None


def _train(
  config: ExperimentConfig,
  directory: Path,
  stop: StopRequests,
  stack: contextlib.ExitStack,
  *,
  processes: Processes,
) -> int:
  own = own_directory(directory, processes)
  metrics = MetricsWriter(own)
  stack.callback(metrics.close)
  checkpoints = _checkpoints(directory, processes, keep=config.training.keep_checkpoints)
  stack.callback(checkpoints.close)
  loop = build_loop(
    config,
    checkpoints=checkpoints,
    metrics=metrics,
    replay_directory=own / "replay",
    stack=stack,
    processes=processes,
  )
  if checkpoints.steps() or processes.any(metrics.had_checkpoint()):
    loop.restore()  # also where none of them is left: it says so, and nothing is begun anew
    steps = loop.counters.environment_steps
    goes_on = steps < config.training.total_environment_steps  # else it evaluates here anyway
    if processes.is_first and goes_on and (earlier := read_earlier_result(directory, steps)):
      loop.take_up(earlier)
  else:
    checkpoints.drop_after(0)
    metrics.restore_state({"metrics": 0, "episodes": 0})
  try:
    loop.write_status("running")
    result = loop.run(should_stop=stop.requested)
  except Interrupted as interrupted:
    loop.write_status("interrupted")
    if processes.is_first:
      print(f"{interrupted}; the same command continues", file=sys.stderr)
    preempted = processes.any(stop.signal == signal.SIGTERM)
    return EXIT_PREEMPTED if preempted else EXIT_INTERRUPTED
  except KeyboardInterrupt:
    loop.write_status("interrupted")
    if processes.count > 1:
      raise  # the others do not know of it
    print("stopped at once; the last checkpoint stays", file=sys.stderr)
    return EXIT_INTERRUPTED
  except (NonFiniteError, CheckpointError, OSError) as error:
    with contextlib.suppress(OSError):  # where the disk is full, the error itself matters
      loop.write_status("failed", error=str(error))
    raise
  if processes.is_first:
    write_json(directory / "result.json", result)
  loop.write_status("finished")
  return 0


def _checkpoints(
  directory: Path, processes: Processes, *, keep: int
) -> Checkpoints | SharedCheckpoints:
  all_of_them = [Processes(index, processes.count) for index in range(processes.count)]
  folders = [own_directory(directory, each) / "checkpoints" for each in all_of_them]
  if processes.count == 1:
    return Checkpoints(folders[0], keep=keep)
  return SharedCheckpoints(folders, keep=keep, processes=processes)


def build_loop(
  config: ExperimentConfig,
  *,
  checkpoints: Checkpoints | SharedCheckpoints,
  metrics: MetricsWriter,
  replay_directory: Path,
  stack: contextlib.ExitStack,
  processes: Processes = ALONE,
) -> Loop:
  """Puts a run, or this process's part of it, together; environments are closed with `stack`."""
  environment = make_environment(
    config.environment.game,
    levels=config.environment.level_distribution,
    num_environments=config.environment.num_environments // processes.count,
    seed=own_seed(config.seed, Purpose.ENVIRONMENT, processes=processes),
  )
  stack.callback(environment.close)
  agent = make_agent(
    config.agent,
    spec_of(config),
    total_environment_steps=config.training.total_environment_steps,
  )
  mesh, own_mesh = make_mesh(), make_own_mesh()
  acts = agent.policies
  return Loop(
    agent,
    actor=Actor(environment, CompiledAct(agent.act, own_mesh), rollout_length=agent.rollout_length),
    learner=Learner(agent, mesh=mesh, seed=config.seed),
    sources=make_sources(agent, mesh=mesh, seed=config.seed, processes=processes),
    snapshots=[
      make_snapshot_store(phase.source, replay_directory / phase.name) for phase in agent.phases
    ],
    evaluation_sets=evaluation_sets(config),
    evaluation_act=CompiledAct(acts[config.evaluation.policy], own_mesh),
    checkpoints=checkpoints,
    metrics=metrics,
    training=config.training,
    evaluation=config.evaluation,
    seed=config.seed,
    processes=processes,
  )


def make_sources(
  agent: Agent, *, mesh: Mesh, seed: int, processes: Processes = ALONE
) -> list[Source]:
  """Returns every phase's source, or this process's part of each.

  What is drawn ahead goes to the devices at once.
  """

  def place(record: Record) -> Record:
    return sharding.place(record, mesh, sharding.TIME_FIRST)

  return [
    make_source(
      own_share(phase.source, processes),
      seed=own_seed(seed, Purpose.SOURCE, index, processes=processes),
      prepare=place,
    )
    for index, phase in enumerate(agent.phases)
  ]


def evaluation_sets(config: ExperimentConfig) -> list[EvaluationSet]:
  """Returns the training levels and the full distribution of the same mode."""
  training_levels = config.environment.level_distribution
  sets = []
  for index, (split, levels) in enumerate(
    [("train", training_levels), ("test", full_distribution(training_levels))]
  ):
    seed = derive_seed(config.seed, Purpose.EVALUATE, index)
    sets.append(
      EvaluationSet(
        split=split,
        levels=levels.name,
        seed=seed,
        make_environment=_evaluation_environment(config, levels, seed),
      )
    )
  return sets


def _evaluation_environment(config: ExperimentConfig, levels, seed: int):
  def make():
    return make_environment(
      config.environment.game,
      levels=levels,
      num_environments=config.evaluation.num_environments,
      seed=seed,
    )

  return make
