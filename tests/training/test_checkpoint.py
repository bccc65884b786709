"""Checkpoints: what comes back, and that nothing damaged ever does."""

import json
import logging
from pathlib import Path
import resource
import shutil
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from training import checkpoint, sharding
from training.checkpoint import CheckpointError, Checkpoints, Snapshot


@flax.struct.dataclass
class State:
  """A train state with the dtypes that occur."""

  params: Any
  count: jax.Array
  mask: jax.Array


def make_state(value: float, num_devices: int = 2) -> State:
  mesh = sharding.make_mesh(jax.devices()[:num_devices])
  state = State(
    params={"w": np.full((3, 2), value, np.float32), "h": jnp.full(4, value, jnp.bfloat16)},
    count=np.int32(value),
    mask=np.asarray([True, False]),
  )
  return sharding.place(state, mesh, sharding.REPLICATED)


def make_snapshot(value: float) -> Snapshot:
  generator = np.random.default_rng(int(value))
  host = {
    "environment/0": generator.integers(0, 256, 1000 + int(value), np.uint8),
    "environment/1": np.zeros(0, np.uint8),
    "tracker/return": generator.normal(size=5),  # float64
    "tracker/length": np.asarray([2**40, -1]),  # int64
    "source/x/count": np.asarray(7),  # no axis
    "source/x/flags": np.asarray([True, False]),
    "source/x/half": generator.normal(size=3).astype(np.float16),
  }
  counters = {"environment_steps": int(value), "seconds": 0.1 + value, "recent": [[1.5, 2, 0.0]]}
  return Snapshot(make_state(value), host, counters)


def assert_equal(found: Snapshot, expected: Snapshot) -> None:
  jax.tree.map(np.testing.assert_array_equal, found.train_state, expected.train_state)
  for a, b in zip(
    jax.tree.leaves(found.train_state), jax.tree.leaves(expected.train_state), strict=True
  ):
    assert (a.dtype, a.sharding) == (b.dtype, b.sharding)
  assert found.host.keys() == expected.host.keys()
  for name, value in expected.host.items():
    assert isinstance(found.host[name], np.ndarray), name
    assert (found.host[name].dtype, found.host[name].shape) == (value.dtype, value.shape), name
    np.testing.assert_array_equal(found.host[name], value)
  assert found.counters == expected.counters


def save(directory: Path, *steps: int, keep: int = 2) -> None:
  checkpoints = Checkpoints(directory, keep=keep)
  for step in steps:
    checkpoints.save(step, make_snapshot(step))
  checkpoints.close()


def restore(directory: Path, *, keep: int = 2) -> tuple[int, Snapshot]:
  checkpoints = Checkpoints(directory, keep=keep)
  try:
    return checkpoints.restore(make_state(0))
  finally:
    checkpoints.close()


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory) -> Path:
  """A directory with good checkpoints at 100 and 200; copy it before touching it."""
  directory = tmp_path_factory.mktemp("checkpoints")
  save(directory, 100, 200)
  return directory


@pytest.fixture
def directory(two_checkpoints, tmp_path) -> Path:
  return shutil.copytree(two_checkpoints, tmp_path / "checkpoints")


def test_everything_comes_back_as_it_was(directory):
  step, snapshot = restore(directory)
  assert step == 200
  assert_equal(snapshot, make_snapshot(200))


def test_a_given_step_comes_back(directory):
  checkpoints = Checkpoints(directory, keep=2)
  step, snapshot = checkpoints.restore(make_state(0), step=100)
  assert step == 100
  assert_equal(snapshot, make_snapshot(100))
  with pytest.raises(CheckpointError, match="150"):
    checkpoints.restore(make_state(0), step=150)
  checkpoints.close()


def test_the_state_may_come_back_on_other_devices(directory):
  checkpoints = Checkpoints(directory, keep=2)
  _, snapshot = checkpoints.restore(make_state(0, num_devices=1))
  jax.tree.map(np.testing.assert_array_equal, snapshot.train_state, make_state(200))
  assert all(x.devices() == {jax.devices()[0]} for x in jax.tree.leaves(snapshot.train_state))
  checkpoints.close()


@pytest.mark.parametrize("keep", [1, 2])
def test_the_latest_are_kept(tmp_path, keep):
  save(tmp_path, 100, 200, 300, keep=keep)
  checkpoints = Checkpoints(tmp_path, keep=keep)
  assert checkpoints.steps() == [100, 200, 300][-keep:]
  checkpoints.close()
  assert len(list((tmp_path / "manifests").iterdir())) == keep
  assert len(list((tmp_path / "steps").iterdir())) == keep


def test_the_last_one_stays_until_the_next_counts(tmp_path, monkeypatch):
  """Even with keep=1, a kill before the manifest is written leaves one to continue from."""
  save(tmp_path, 100, keep=1)

  def killed(path, content):
    raise KeyboardInterrupt

  monkeypatch.setattr(checkpoint, "write_json", killed)
  checkpoints = Checkpoints(tmp_path, keep=1)
  with pytest.raises(KeyboardInterrupt):
    checkpoints.save(200, make_snapshot(200))
  checkpoints.close()
  monkeypatch.undo()
  step, snapshot = restore(tmp_path, keep=1)
  assert step == 100
  assert_equal(snapshot, make_snapshot(100))


def test_nothing_saved_is_an_error(tmp_path):
  with pytest.raises(CheckpointError, match="none is left in it"):
    restore(tmp_path)


def files_of(directory: Path) -> list[Path]:
  """Returns every file of the latest checkpoint, its manifest included."""
  below = (directory / "steps" / "200").rglob("*")
  files = [directory / "manifests" / "200.json", *sorted(path for path in below if path.is_file())]
  assert len(files) > 10
  return files


def flip_a_bit(path: Path) -> None:
  data = bytearray(path.read_bytes()) or bytearray(b"not empty any more")
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


def cut_short(path: Path) -> None:
  size = path.stat().st_size
  path.write_bytes(path.read_bytes()[: size // 2] if size else b"not empty any more")


@pytest.mark.parametrize("damage", [flip_a_bit, cut_short, Path.unlink])
def test_damage_to_any_file_is_found(two_checkpoints, tmp_path, damage, caplog):
  """The damaged one is named, and the one before it is used."""
  for number, original in enumerate(files_of(two_checkpoints)):
    directory = shutil.copytree(two_checkpoints, tmp_path / str(number))
    damaged = directory / original.relative_to(two_checkpoints)
    damage(damaged)
    caplog.clear()
    checkpoints = Checkpoints(directory, keep=2)
    step, snapshot = checkpoints.restore(make_state(0))
    checkpoints.close()
    assert step == 100, f"damage to {damaged} was not found"
    assert_equal(snapshot, make_snapshot(100))
    (record,) = (each for each in caplog.records if each.name == "training.checkpoint")
    assert record.levelno == logging.WARNING
    assert "200" in record.getMessage()


def test_a_foreign_file_is_found(directory):
  (directory / "steps" / "200" / "host" / "more").write_text("x")
  assert restore(directory)[0] == 100


def test_a_checkpoint_without_manifest_is_set_aside(directory, caplog):
  """It was cut short after its files were written."""
  (directory / "manifests" / "200.json").unlink()
  assert restore(directory)[0] == 100
  assert "200 was cut short" in caplog.text
  assert not (directory / "steps" / "200").exists()
  assert (directory / "set-aside" / "200" / "host").exists()


def test_a_half_written_checkpoint_is_cleaned_up(directory):
  """A kill while orbax writes leaves a directory under another name."""
  shutil.copytree(
    directory / "steps" / "200", directory / "steps" / "300.orbax-checkpoint-tmp-1795000000"
  )
  step, snapshot = restore(directory)
  assert step == 200
  assert_equal(snapshot, make_snapshot(200))


def test_if_all_are_damaged_each_is_named(directory):
  """Beginning anew would drop what was learnt, without a word."""
  for step in ("100", "200"):
    flip_a_bit(directory / "steps" / step / "counters" / "metadata")
  with pytest.raises(CheckpointError, match=r"200: file \S+ is damaged.*100: file \S+ is damaged"):
    restore(directory)


def test_a_damaged_one_can_be_written_again(directory):
  """The run continues from 100, reaches 200 again and saves it again."""
  flip_a_bit(directory / "steps" / "200" / "counters" / "metadata")
  checkpoints = Checkpoints(directory, keep=2)
  step, _ = checkpoints.restore(make_state(0))
  checkpoints.drop_after(step)
  assert checkpoints.steps() == [100]
  checkpoints.save(200, make_snapshot(200))
  checkpoints.close()
  assert (directory / "set-aside" / "200").exists()
  step, snapshot = restore(directory)
  assert step == 200
  assert_equal(snapshot, make_snapshot(200))


@pytest.mark.parametrize("step", [100, 150, 200])
def test_a_step_that_is_not_the_latest_is_refused_aloud(directory, step):
  """Orbax alone would skip it without a word."""
  checkpoints = Checkpoints(directory, keep=2)
  with pytest.raises(CheckpointError, match=f"could not write the checkpoint at step {step}"):
    checkpoints.save(step, make_snapshot(step))
  assert checkpoints.steps() == [100, 200]
  checkpoints.close()


# Orbax's threads end with the error too, and leave files open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("limit", [0, 200, 1200])
def test_a_full_disk_is_told_and_loses_nothing(directory, limit, caplog):
  """The system refuses to let any file grow past a limit, as a full disk would."""
  checkpoints = Checkpoints(directory, keep=2)
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
  try:
    with pytest.raises(CheckpointError, match="could not write the checkpoint at step 300"):
      checkpoints.save(300, make_snapshot(300))
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  checkpoints.close()
  assert [record.getMessage() for record in caplog.records if record.exc_info] == []  # tracebacks
  for step in (200, 100):
    checkpoints = Checkpoints(directory, keep=2)
    _, snapshot = checkpoints.restore(make_state(0), step=step)
    assert_equal(snapshot, make_snapshot(step))
    checkpoints.close()
  assert restore(directory)[0] == 200
  save(directory, 300)
  assert restore(directory)[0] == 300


def test_what_may_not_fit_is_refused_before_it_is_begun(directory, monkeypatch):
  """Threads of orbax that meet a full disk print tracebacks that nobody can catch."""
  free = [0]
  usage = shutil.disk_usage(directory)
  monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free[0]))
  before = sorted(directory.rglob("*"))
  checkpoints = Checkpoints(directory, keep=2)
  with pytest.raises(CheckpointError, match=r"No space left.* takes up to .* has 0\.0 MiB free"):
    checkpoints.save(300, make_snapshot(300))
  assert sorted(directory.rglob("*")) == before
  free[0] = usage.free
  checkpoints.save(300, make_snapshot(300))
  checkpoints.close()
  assert restore(directory)[0] == 300


def test_another_agents_state_is_refused(directory):
  checkpoints = Checkpoints(directory, keep=2)
  other = make_state(0)
  mesh = sharding.make_mesh()
  wider = {"w": np.zeros((3, 9), np.float32), "h": other.params["h"]}
  other = other.replace(params=sharding.place(wider, mesh, sharding.REPLICATED))
  with pytest.raises(CheckpointError, match=r"another agent .*params\.w is float32\[3, 2\] in the"):
    checkpoints.restore(other)
  checkpoints.close()


def test_a_manifest_lists_every_file(directory):
  manifest = json.loads((directory / "manifests" / "200.json").read_text())
  step = directory / "steps" / "200"
  assert sorted(manifest) == sorted(
    str(path.relative_to(step)) for path in step.rglob("*") if path.is_file()
  )
