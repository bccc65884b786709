"""Evaluates several runs side by side, one process each; the results come in their order."""

import argparse
from collections.abc import Iterator, Sequence
import concurrent.futures
import json
import os
from pathlib import Path
import queue
import subprocess
import sys
import tempfile
from typing import Any

from experiments.engines.local import Slot, share_out, usable_gpus
from experiments.errors import EXIT_USAGE, UsageError

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
) -> Iterator[dict[str, Any]]:
  """Yields the results of the runs in `directories`, in this order.

  Args:
    directories: of the runs.
    options: of the command; `processes` at a time.

  Raises:
    UsageError: an evaluation was refused, in its own words.
    OSError: an evaluation failed; with the end of what it printed.
  """
  count = min(options.processes, len(directories))
  slots: queue.SimpleQueue[Slot] = queue.SimpleQueue()
  for slot in share_out(count, cores=sorted(os.sched_getaffinity(0)), gpus=usable_gpus()):
    slots.put(slot)
  with (
    tempfile.TemporaryDirectory(prefix="procplan_evaluate_") as folder,
    concurrent.futures.ThreadPoolExecutor(count) as pool,
  ):
    futures = [
      pool.submit(_evaluate_one, directory, options, Path(folder) / f"{i}.json", slots=slots)
      for i, directory in enumerate(directories)
    ]
    try:
      for future in futures:
        yield future.result()
    finally:
      pool.shutdown(cancel_futures=True)


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


def _evaluate_one(
  directory: Path, options: argparse.Namespace, path: Path, *, slots: queue.SimpleQueue
) -> dict[str, Any]:
  """Runs one evaluation as a process on the cores of a free slot."""
  slot = slots.get()
  try:
    os.sched_setaffinity(0, slot.cores)  # of this thread, and of what it starts
    done = subprocess.run(
      [sys.executable, "-m", "experiments.evaluate", *child_arguments(directory, options, path)],
      cwd=PACKAGE_ROOT,
      env={**os.environ, **slot.environment()},
      stdin=subprocess.DEVNULL,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
    )
  finally:
    slots.put(slot)
  lines = done.stderr.splitlines()
  if done.returncode == EXIT_USAGE and lines:
    raise UsageError(lines[-1].removeprefix("error: "))
  if done.returncode != 0:
    raise OSError(f"the evaluation of {directory} failed: {' | '.join(lines[-5:])}")
  print("\n".join(lines), file=sys.stderr, flush=True)
  (result,) = json.loads(path.read_text())["runs"]
  return {**result, "run": str(directory)}
