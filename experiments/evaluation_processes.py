"""Evaluates several runs side by side, one process each; the results come in their order."""

import argparse
from collections.abc import Iterator, Sequence
import contextlib
import json
import os
from pathlib import Path
import signal
import sys
import tempfile
import time
from typing import Any

from experiments.engines.interface import Task
from experiments.engines.local import LocalEngine, share_out, usable_gpus
from experiments.errors import EXIT_FAILED, EXIT_USAGE
from experiments.evaluation_failure import Failure
from experiments.processes import ENDED, FINISHED, INTERRUPTED, Job, ProcessPool, Stopping
from experiments.stop_requests import Stopped, StopSignals

GRACE_SECONDS = 10.0  # from a signal to the kill: an evaluation has nothing to save
POLL_SECONDS = 0.1
ERROR = "error: "
PACKAGE_ROOT = Path(__file__).resolve().parents[1]  # `python -m experiments.evaluate` works there

# Options of one run's evaluation: the others are the files of all runs together.
_PASSED_ON = (
  "checkpoint",
  "environments",
  "episodes_per_environment",
  "policy",
  "seed",
  "bounds",
  "search",
  "video",
  "video_episodes",
)
_PASSED_ON_LISTS = ("levels", "simulations")


def evaluate_side_by_side(
  directories: Sequence[Path], options: argparse.Namespace
) -> Iterator[dict[str, Any] | Failure]:
  """Yields the results of the runs in `directories`, in this order, or why there is none.

  Args:
    directories: of the runs.
    options: of the command; `processes` at a time.

  Raises:
    Stopped: by SIGTERM or Ctrl-C; the results that were there have been yielded.
  """
  count = min(options.processes, len(directories))
  slots = share_out(count, cores=sorted(os.sched_getaffinity(0)), gpus=usable_gpus())
  with contextlib.ExitStack() as stack:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="procplan_evaluate_")))
    signals = stack.enter_context(StopSignals(*_stop_signals()))
    tasks = [
      _make_task(directory, options, folder / f"{i}.json")
      for i, directory in enumerate(directories)
    ]
    # Not tried again: it saves nothing to go on from, and what killed it is to be told.
    pool = ProcessPool(tasks, engine=LocalEngine(slots), max_retries=0)
    stack.callback(pool.close)
    stopping = Stopping(pool, signals, seconds=GRACE_SECONDS)
    for job, directory in zip(pool.jobs, directories, strict=True):
      while job.state not in ENDED:
        for said in stopping.advance():
          print(said, file=sys.stderr, flush=True)
        if not pool.advance():
          time.sleep(POLL_SECONDS)
      if job.state != INTERRUPTED:
        yield _result_of(job, directory)
    if signals.number is not None:
      raise Stopped(signals.number)


def _stop_signals() -> list[int]:
  """Signals that stop all; a closed terminal too, of which the children would not know."""
  numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
  return [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]  # nohup


def child_arguments(directory: Path, options: argparse.Namespace, path: Path) -> list[str]:
  """Returns the command line that evaluates one run alone and writes its result to `path`."""
  arguments = [str(directory.absolute())]
  for name in _PASSED_ON_LISTS:
    values = getattr(options, name)
    if values is not None:
      arguments += [f"--{name}", *map(str, values)]
  for name in _PASSED_ON:
    value = getattr(options, name)
    if value is not None:
      value = value.absolute() if isinstance(value, Path) else value
      arguments += [f"--{name.replace('_', '-')}", str(value)]
  return [*arguments, "--json", str(path)]


def _make_task(directory: Path, options: argparse.Namespace, path: Path) -> Task:
  """Returns the evaluation of one run as a process; its log has what it says on stderr."""
  program = ("sh", "-c", 'exec "$0" "$@" > /dev/null', sys.executable)
  arguments = child_arguments(directory, options, path)
  return Task(
    name=str(directory),
    command=(*program, "-m", "experiments.evaluate", *arguments),
    directory=PACKAGE_ROOT,
    environment={},
    log=path.with_suffix(".txt"),
    prepare=lambda: None,
    is_finished=path.exists,
    is_elsewhere=lambda: False,
    progress=lambda: 0,
  )


def _result_of(job: Job, directory: Path) -> dict[str, Any] | Failure:
  """Returns the result of an evaluation that has ended, and passes on what it said."""
  said = job.task.log.read_bytes()[job.log_start :] if job.task.log.exists() else b""
  lines = said.decode(errors="replace").splitlines()
  reason = None
  if job.state != FINISHED:
    reason = f"the evaluation of {directory} failed, {job.detail}: {' | '.join(lines[-5:])}"
    if job.code in (EXIT_FAILED, EXIT_USAGE) and lines and lines[-1].startswith(ERROR):
      reason = lines.pop().removeprefix(ERROR)  # in its own words
  if lines:
    print("\n".join(lines), file=sys.stderr, flush=True)
  if reason is not None:
    return Failure(reason, is_refusal=job.code == EXIT_USAGE)
  (result,) = json.loads(job.task.log.with_suffix(".json").read_text())["runs"]
  return {**result, "run": str(directory)}
