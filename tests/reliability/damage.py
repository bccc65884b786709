"""Every file of a run damaged in turn, and what `procplan train` and `status` make of it.

`damage.py DIRECTORY` prints the counts. Damage to a checkpoint must be told: the run is
refused, or it goes on from the checkpoint before with a warning that names the file. What is
restored is compared bit for bit with what was saved; a traceback is a defect anywhere.
"""

import argparse
import collections
from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import hashlib
import io
import json
import logging
from pathlib import Path
import shutil
import sys
import traceback
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import jax  # noqa: E402, after the path
import numpy as np  # noqa: E402

from agents.model import ModelConfig  # noqa: E402
from agents.sequences import SequenceConfig  # noqa: E402
from environments.config import EnvironmentConfig  # noqa: E402
from experiments.command_line import run_command  # noqa: E402
from experiments.config import ExperimentConfig, save_config  # noqa: E402
from experiments.options import guarded  # noqa: E402
from experiments.presets import make_preset  # noqa: E402
from networks.config import ResNetConfig  # noqa: E402
from training.config import EvaluationConfig, TrainingConfig  # noqa: E402
from training.loop import Loop  # noqa: E402

TURN = 16 * 8
STEPS = (4 * TURN, 8 * TURN)  # of the two checkpoints
ROWS = ("metrics.jsonl", "episodes.jsonl")


def tiny() -> ExperimentConfig:
  """Q-learning on Catch: it has a replay beside its checkpoints."""
  preset = make_preset("smoke", "q_learning")
  agent = dataclasses.replace(
    preset.agent,
    backbone=ResNetConfig(stem_kernels=(8,), stem_strides=(8,), stem_channels=(4,), blocks=0),
    model=ModelConfig(dynamics_blocks=1, head_channels=4, hidden=8),
    sequences=SequenceConfig(
      starts=2, batch_size=8, capacity=2048, min_size=256, samples_per_insert=0.25
    ),
  )
  return dataclasses.replace(
    preset,
    agent=agent,
    environment=EnvironmentConfig("catch", "easy-200", num_environments=8),
    training=TrainingConfig(10 * TURN, 4 * TURN, keep_checkpoints=2),
    evaluation=EvaluationConfig(
      every=100 * TURN,
      num_environments=2,
      episodes_per_environment=1,
      final_episodes_per_environment=1,
    ),
  )


class Stopped(BaseException):
  """Stands for kill -9: nobody catches it."""


def flip_a_bit(content: bytes) -> bytes:
  """Flips a bit in the middle."""
  changed = bytearray(content or b"\0")
  changed[len(changed) // 2] ^= 1
  return bytes(changed)


def cut_short(content: bytes) -> bytes:
  """Keeps the first half; of an empty file, makes one that is not."""
  return content[: len(content) // 2] if content else b"x"


def make_empty(content: bytes) -> bytes:
  """Keeps nothing; of an empty file, makes one that is not."""
  return b"" if content else b"x"


DAMAGES = (flip_a_bit, cut_short, make_empty)


class Outcome(NamedTuple):
  """What a command did to a damaged run.

  Attributes:
    code: the exit code; None where there was a traceback.
    said: what it printed on stderr, warnings included; the traceback.
    restored: digest of what the run continued from; None if it did not come so far.
  """

  code: int | None
  said: str
  restored: str | None


def make_run(directory: Path) -> None:
  """Trains until two checkpoints are there, and is killed two turns later."""
  config = directory.parent / "tiny.yaml"
  save_config(tiny(), config)
  report = Loop._report

  def struck(loop, *turn):
    if loop.counters.environment_steps > STEPS[-1] + TURN:
      raise Stopped
    report(loop, *turn)

  Loop._report = struck
  try:
    with contextlib.suppress(Stopped), contextlib.redirect_stdout(io.StringIO()):
      guarded(run_command, ["train", "--config", str(config), "--out", str(directory)])
  finally:
    Loop._report = report
  found = sorted(int(path.stem) for path in directory.glob("checkpoints/manifests/*.json"))
  assert found == list(STEPS), f"the run left checkpoints at {found}"


def digest(loop: Loop) -> str:
  """Returns a checksum of all that a run continues from."""
  sha = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(loop._learner.state)):
    sha.update(f"{jax.tree_util.keystr(path)}{leaf.dtype}{leaf.shape}".encode() + leaf.tobytes())
  tracker, environments = loop._actor.save_state()
  for name, value in sorted(tracker.items()):
    sha.update(name.encode() + np.asarray(value).tobytes())
  for state in environments:
    sha.update(state)
  for source, store in zip(loop._sources, loop._snapshots, strict=True):
    leaves = source.save_state() if store is None else source.save_counters()
    if store is not None and source.stored:
      leaves = leaves | source.read_frames(source.stored)
    for name, value in sorted(leaves.items()):
      sha.update(name.encode() + np.ascontiguousarray(value).tobytes())
  counters = dataclasses.asdict(loop.counters)
  sha.update(json.dumps(counters, sort_keys=True).encode())
  return sha.hexdigest()


def resume(directory: Path) -> Outcome:
  """Gives the command that continues the run, and stops it before its first turn."""
  restored: list[str] = []
  config = directory.parent / "tiny.yaml"

  def stop(loop, *, should_stop):
    del should_stop
    restored.append(digest(loop))
    raise Stopped

  return _run(["train", "--config", str(config), "--out", str(directory)], restored, stop)


def look(directory: Path) -> Outcome:
  """Gives the command that says how the run stands."""
  return _run(["status", str(directory)], [], None)


def _run(arguments: list[str], restored: list[str], stop: Callable | None) -> Outcome:
  original, error, handler = Loop.run, io.StringIO(), logging.StreamHandler()
  handler.setStream(error)
  logging.getLogger().addHandler(handler)
  Loop.run = stop or original
  try:
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
      code = guarded(run_command, arguments)
  except Stopped:
    code = 0
  except BaseException:
    return Outcome(None, traceback.format_exc(), None)
  finally:
    Loop.run = original
    logging.getLogger().removeHandler(handler)
  return Outcome(code, error.getvalue(), restored[0] if restored else None)


def judge(outcome: Outcome, path: Path, *, digests: dict[str, str]) -> tuple[str, bool]:
  """Returns what became of a damaged run in words, and whether that is a defect.

  Args:
    outcome: of the command that continues it.
    path: of the damaged file.
    digests: of what was saved -> which checkpoint it is of.
  """
  if outcome.code is None:
    return "traceback", True
  if outcome.restored is None:
    errors = [line for line in outcome.said.splitlines() if line.startswith("error: ")]
    if outcome.code in (1, 2) and len(errors) == 1:
      return "refused", False
    return "ended without a word", True
  which = digests.get(outcome.restored)
  if which is None:
    return "WRONG STATE", True
  if which == "latest":
    needed = is_of_latest(path)
    return "not noticed" if needed else "not needed", needed
  told = f"checkpoint {STEPS[1]} is not used: " in outcome.said
  named = path.name in outcome.said
  if told and not named:
    return "fell back, named another", False  # of a manifest, the file that it is wrong about
  return "fell back, said why" if told else "fell back without a word", not told


def is_of_latest(path: Path) -> bool:
  """Whether a file is a part of the latest checkpoint: below its folder, or in its index.

  So are the rows before it, among which is the middle of their file, where `DAMAGES` strike.
  """
  if path.name in ROWS:
    return True
  if str(STEPS[1]) in (path.stem, *path.parts):
    return "checkpoints" in path.parts or "replay" in path.parts
  index = path.with_name(f"{STEPS[1]}.json")
  return path.suffix == ".shard" and path.name in index.read_text()


def cases(run: Path, *, every: int) -> Iterator[tuple[Path, Callable]]:
  """Yields every file of a run with every damage, or each `every`-th of these."""
  files = sorted(path for path in run.rglob("*") if path.is_file() and path.name != "run.lock")
  together = [(path, damage) for path in files for damage in DAMAGES]
  yield from together[::every]


def check(directory: Path, *, every: int = 1) -> tuple[collections.Counter, list[str]]:
  """Damages a run in every way; returns how that ended, and a text for each defect."""
  run = directory / "run"
  make_run(run)
  digests = {}
  for which, hidden in (("latest", ()), ("the one before", (STEPS[1],))):
    copy = shutil.copytree(run, directory / "whole")
    for step in hidden:
      shutil.rmtree(copy / "checkpoints" / "steps" / str(step))
      (copy / "checkpoints" / "manifests" / f"{step}.json").unlink()
    outcome = resume(copy)
    assert outcome.restored is not None, outcome.said
    digests[outcome.restored] = which
    shutil.rmtree(copy)
  assert len(digests) == 2
  counts, defects = collections.Counter(), []
  for path, damage in cases(run, every=every):
    copy = shutil.copytree(run, directory / "damaged")
    target = copy / path.relative_to(run)
    target.write_bytes(damage(path.read_bytes()))
    looked = look(copy)
    outcome = resume(copy)
    ending, is_defect = judge(outcome, target, digests=digests)
    place = target.relative_to(copy).parts[0]
    kind = f"{place}/" if place in ("checkpoints", "replay", "tensorboard") else target.name
    counts[kind, ending] += 1
    if is_defect or looked.code is None:
      said = outcome.said if is_defect else looked.said
      defects.append(f"{damage.__name__} {target.relative_to(copy)}: {ending}\n{said}")
    shutil.rmtree(copy)
  return counts, defects


def main() -> int:
  """Prints the counts, and every defect; returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("directory", type=Path, help="to work in; must not be there yet")
  parser.add_argument("--every", type=int, default=1, help="only each so-many-th case")
  options = parser.parse_args()
  options.directory.mkdir(parents=True)
  counts, defects = check(options.directory.absolute(), every=options.every)
  for defect in defects:
    print(f"--- {defect}")
  for (kind, ending), count in sorted(counts.items()):
    print(f"{kind:16} {ending:24} {count}")
  print(f"{sum(counts.values())} damaged runs, {len(defects)} defects")
  return 1 if defects else 0


if __name__ == "__main__":
  sys.exit(main())
