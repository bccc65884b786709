"""What each of several processes has of a run. Every number of a configuration is of all.

Environments and replay are split evenly. Level sequences and draws come from a seed of each
process; those of the first are the seeds of a run of one.
"""

import dataclasses
from pathlib import Path

from experiments.config import ExperimentConfig
from experiments.errors import UsageError
from experiments.run_plan import spec_of
from replay.interface import Rollouts, Sequences
from training.keys import Purpose, derive_seed
from training.processes import Processes

_SPLIT = ("batch_size", "capacity", "min_size")


def own_directory(directory: Path, processes: Processes) -> Path:
  """Returns where a process keeps what it alone has; the first is at home in the run's own."""
  return directory if processes.is_first else directory / f"process-{processes.index}"


def check_process_count(directory: Path, processes: Processes) -> None:
  """Raises UsageError where `directory` holds a run of another number of processes."""
  if not (directory / "config.yaml").exists():
    return
  found = 1 + len(list(directory.glob("process-*")))
  if found != processes.count:
    raise UsageError(
      f"{directory} holds a run of {found} processes and this is one of {processes.count}: what "
      "each has of its environments and replay cannot be shared out anew. Choose another --out."
    )


def own_share(request: Rollouts | Sequences, processes: Processes) -> Rollouts | Sequences:
  """Returns what a process asks of its own part of a source.

  A part is drawn from as often as the whole would be: its share of the samples is earned by
  its share of the steps.
  """
  if processes.count == 1 or isinstance(request, Rollouts):
    return request
  shares = {name: getattr(request, name) // processes.count for name in _SPLIT}
  budget = request.memory_budget // processes.count
  return dataclasses.replace(request, **shares, memory_budget=budget)


def own_seed(seed: int, purpose: Purpose, *steps: int, processes: Processes) -> int:
  """Returns `derive_seed` for a process; the first has the same as a run of one process."""
  path = steps if processes.is_first else (*steps, processes.index)
  return derive_seed(seed, purpose, *path)


def check_shares(config: ExperimentConfig, *, num_processes: int) -> None:
  """Checks that what is not split over devices divides over the processes.

  Raises:
    UsageError: it does not; names the field.
  """
  for phase in config.agent.workload(spec_of(config)).phases:
    if isinstance(phase.source, Rollouts):
      continue
    for name in _SPLIT:
      value = getattr(phase.source, name)
      if value % num_processes:
        raise UsageError(
          f"agent.sequences.{name} must be a multiple of the {num_processes} processes, got {value}"
        )
