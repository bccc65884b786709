"""Resident memory over long runs of every agent on Procgen: does it stay flat?

`memory_study.py DIRECTORY --steps 200000` trains every agent's `smoke` preset so long, with its
checkpoints and evaluations, and prints how the memory of its process went. Networks and replay
are small, so that what grows with steps, turns, checkpoints or evaluations is not hidden behind
them; the replay is full within the first tenth.
"""

import argparse
from collections.abc import Sequence
import json
import os
from pathlib import Path
import subprocess
import sys

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from experiments.presets import PRESETS  # noqa: E402, after the path

LIMIT = 0.02  # of growth, from the third tenth of the steps to the last
# What is freed goes back to the system at once. By default glibc keeps much of it, in pieces, and
# the resident size of a process wanders by some percent either way while nothing grows.
MALLOC = {
  "MALLOC_ARENA_MAX": "2",
  "MALLOC_MMAP_THRESHOLD_": "131072",
  "MALLOC_TRIM_THRESHOLD_": "131072",
}
PARTS = 10


def growth(steps: Sequence[int], resident: Sequence[int]) -> tuple[list[float], float]:
  """How the memory of a run went.

  Args:
    steps: environment steps at each measurement, ascending.
    resident: bytes at each.

  Returns:
    The median in every tenth of the steps, in bytes, and the share by which the last lies
    above the third: what is compiled and filled at the start is not growth.

  Raises:
    ValueError: a tenth has no measurement.
  """
  tenths = np.ceil(np.asarray(steps) * PARTS / steps[-1]).astype(int)
  parts = [np.asarray(resident)[tenths == part] for part in range(1, PARTS + 1)]
  if not all(len(part) for part in parts):
    raise ValueError(f"a tenth of the {steps[-1]} steps has no measurement; take longer runs")
  medians = [float(np.median(part)) for part in parts]
  return medians, medians[-1] / medians[2] - 1.0


def measure(run: Path) -> tuple[list[float], float]:
  """Reads `growth` from the metrics of a run."""
  rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
  rows = [row for row in rows if "memory/resident_bytes" in row]
  return growth(
    [row["environment_steps"] for row in rows], [row["memory/resident_bytes"] for row in rows]
  )


def main() -> int:
  """Trains every agent and prints its memory; 1 if one failed or grew by more than 2 %."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("directory", type=Path)
  parser.add_argument("--steps", type=int, default=200_000)
  parser.add_argument("--agents", nargs="+", default=list(PRESETS["smoke"]))
  options = parser.parse_args()
  bad = 0
  for agent in options.agents:
    run = options.directory / agent
    command = [
      *(sys.executable, "-m", "experiments.train", "--agent", agent, "--preset", "smoke"),
      *("--training.total_environment_steps", str(options.steps), "--out", str(run)),
      *("--training.checkpoint_every", "4096", "--evaluation.every", "20480"),
    ]
    environment = {**os.environ, **MALLOC}
    finished = subprocess.run(
      command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if finished.returncode:
      print(f"{agent}: exit {finished.returncode}: {finished.stderr.strip()[-500:]}", flush=True)
      bad += 1
      continue
    medians, grown = measure(run)
    tenths = " ".join(f"{each / 2**20:.0f}" for each in medians)
    print(f"{agent}: MiB in every tenth {tenths}; {grown:+.1%} from the third on", flush=True)
    bad += grown > LIMIT
  return int(bad > 0)


if __name__ == "__main__":
  sys.exit(main())
