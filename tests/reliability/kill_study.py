"""A study whose processes are killed (-9) at random, compared with one that is left alone.

`kill_study.py --engine ray --kills 6 DIRECTORY` prints how many were killed, and whether the
results are equal bit for bit. The runs are PPO on Catch with a tiny network, or with `--smoke` the
smoke comparison: every agent on Procgen.
"""

import argparse
from collections.abc import Sequence
import dataclasses
import json
import os
from pathlib import Path
import random
import signal
import sys
import threading
import time

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "training")]

from environments.config import EnvironmentConfig  # noqa: E402, after the path
from experiments import live_report  # noqa: E402
from experiments.compare import make_local_engine  # noqa: E402
from experiments.comparison import compare  # noqa: E402
from experiments.engines.ray_cluster import RayEngine  # noqa: E402
from experiments.engines.slurm_array import SlurmResources, queued  # noqa: E402
from experiments.presets import make_preset  # noqa: E402
from experiments.studies.registry import DEFAULT, make_named_study  # noqa: E402
from experiments.studies.study import RunSpec, Study  # noqa: E402
from experiments.sweep import submit_array  # noqa: E402
from networks.config import ResNetConfig  # noqa: E402
from training.config import EvaluationConfig, TrainingConfig  # noqa: E402

TURN = 16 * 8
TURNS = 12


def tiny_study(seeds) -> Study:
  """Runs of 12 turns, with a checkpoint after every second one."""
  preset = make_preset("smoke", "ppo")
  backbone = ResNetConfig(stem_kernels=(8,), stem_strides=(8,), stem_channels=(4,), blocks=0)
  agent = dataclasses.replace(
    preset.agent, backbone=backbone, hidden=8, rollout_length=16, num_minibatches=2, epochs=1
  )
  config = dataclasses.replace(
    preset,
    agent=dataclasses.replace(agent, gradient_chunk=0),
    environment=EnvironmentConfig("catch", "easy-200", num_environments=8),
    training=TrainingConfig(TURNS * TURN, 2 * TURN, keep_checkpoints=2),
    evaluation=EvaluationConfig(
      every=6 * TURN,
      num_environments=2,
      episodes_per_environment=1,
      final_episodes_per_environment=1,
    ),
  )
  return Study({"ppo": config}, ("catch",), ("easy-200",), tuple(seeds))


def training_processes(directory: Path) -> dict[str, int]:
  """Returns run -> number of the process that trains it."""
  found = {}
  for path in Path("/proc").glob("[0-9]*/cmdline"):
    try:
      words = path.read_bytes().decode(errors="replace").split("\0")
    except OSError:
      continue
    if "experiments.train" in words and "--out" in words:
      own = Path(words[words.index("--out") + 1])
      if own.parent == directory.absolute():
        found[own.name] = int(path.parent.name)
  return found


class Killer(threading.Thread):
  """Kills a run's process as soon as it has come so far, again and again."""

  def __init__(
    self, runs: Sequence[RunSpec], directory: Path, *, kills: int, seed: int, parents: bool
  ):
    super().__init__(daemon=True)
    self.killed: list[tuple[str, int]] = []
    self._totals = {run.name: run.config.training.total_environment_steps for run in runs}
    self._directory, self._kills, self._parents = directory, kills, parents
    self._random = random.Random(seed)
    self._targets: dict[str, int] = {}

  def run(self):
    """Goes on until as many have been killed as were asked for."""
    while len(self.killed) < self._kills:
      time.sleep(0.3)
      for name, process in training_processes(self._directory).items():
        steps = self._steps(name)
        target = self._targets.setdefault(name, self._moment(name))
        if steps >= target and len(self.killed) < self._kills:
          self._kill(name, process, steps)
          self._targets[name] = self._moment(name)

  def _moment(self, name: str) -> float:
    """Draws the steps that a run must have; below 0: it may still be starting."""
    return self._totals[name] * self._random.uniform(-0.1, 0.9)

  def _steps(self, name: str) -> int:
    try:
      return json.loads((self._directory / name / "status.json").read_text())["environment_steps"]
    except (OSError, ValueError):
      return -1  # not there yet: it is still starting

  def _kill(self, name: str, process: int, steps: int) -> None:
    number = process
    if self._parents and self._random.random() < 0.5:  # the Ray worker instead of the run
      words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
      number = int(words[1])
    time.sleep(self._random.random() * 2)  # somewhere in the middle of whatever it is doing
    try:
      os.kill(number, signal.SIGKILL)
    except ProcessLookupError:
      return
    self.killed.append((name, steps))
    print(f"killed {'worker of ' if number != process else ''}{name} at {steps} steps", flush=True)


def main() -> int:
  """Runs both studies and compares them; returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("directory", type=Path)
  parser.add_argument("--engine", choices=("local", "ray", "slurm"), default="local")
  parser.add_argument("--smoke", action="store_true", help="the smoke comparison instead")
  parser.add_argument("--kills", type=int, default=6)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
  options = parser.parse_args()
  live_report.WRITE = "import sys; open(sys.argv[1], 'w')"  # the page is not what is tested
  study = make_named_study(DEFAULT, "smoke") if options.smoke else tiny_study(options.seeds)
  runs = study.runs()
  reference = options.directory / "reference"
  if compare(runs, reference, engine=make_local_engine(2)):
    return 1
  disturbed = options.directory / options.engine
  killer = Killer(
    runs, disturbed, kills=options.kills, seed=options.seed, parents=options.engine == "ray"
  )
  killer.start()
  commands = 1
  while carry_out(runs, disturbed, options.engine):
    commands += 1  # given up after too many kills in a row without progress: the same again
  from same_run import assert_same_run

  for run in runs:
    assert_same_run(disturbed / run.name, reference / run.name)
    starts = json.loads((disturbed / run.name / "run.json").read_text())["starts"]
    print(f"{run.name}: equal bit for bit after {len(starts)} starts")
  print(
    f"{options.engine}: {len(killer.killed)} kills, {len(runs)} runs equal, {commands} commands"
  )
  return 0


def carry_out(runs, directory: Path, engine: str) -> int:
  """Gives the command of a study once; returns whether something is left to be done."""
  if engine == "local":
    return compare(runs, directory, engine=make_local_engine(2))
  if engine == "ray":
    return compare(runs, directory, engine=RayEngine(processes=2, cpus=1, gpus=0, address=None))
  submit_array(runs, directory, SlurmResources(cpus=1, gpus=0, processes=2))
  while queued(directory):
    time.sleep(2)
  return any(not (directory / run.name / "result.json").exists() for run in runs)


if __name__ == "__main__":
  sys.exit(main())
