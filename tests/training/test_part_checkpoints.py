"""What one of several processes saves beside the first: whole, damaged and half gone."""

import numpy as np
import pytest

from training.checkpoint import CheckpointError, Snapshot
import training.part_checkpoints as module
from training.part_checkpoints import PartCheckpoints

STEPS = (8, 16, 24)


def snapshot(step):
  host = {"tracker/return": np.arange(3.0) + step, "environment/0": np.zeros(0, np.uint8)}
  return Snapshot({"checksum": f"{step:02x}"}, host, {"environment_steps": step})


@pytest.fixture
def directory(tmp_path):
  """Two checkpoints: of three, the oldest was dropped."""
  checkpoints = PartCheckpoints(tmp_path, keep=2)
  for step in STEPS:
    checkpoints.save(step, snapshot(step), before_dropping=lambda: None)
  return tmp_path


def test_what_is_saved_is_read(directory):
  checkpoints = PartCheckpoints(directory, keep=2)
  assert checkpoints.steps() == [16, 24]
  assert checkpoints.find_damage(24) is None
  found, expected = checkpoints.restore(24), snapshot(24)
  assert (found.train_state, found.counters) == (expected.train_state, expected.counters)
  assert found.host.keys() == expected.host.keys()
  for name, x in expected.host.items():
    np.testing.assert_array_equal(found.host[name], x)
    assert found.host[name].dtype == x.dtype


def test_an_old_one_is_dropped_only_once_the_others_have_theirs(tmp_path):
  checkpoints = PartCheckpoints(tmp_path, keep=1)
  there = []
  for step in STEPS:
    checkpoints.save(
      step, snapshot(step), before_dropping=lambda: there.append(checkpoints.steps())
    )
  assert there == [[8], [8, 16], [16, 24]]
  assert checkpoints.steps() == [24]


def cut(path):
  content = path.read_bytes()
  path.write_bytes(content[: len(content) // 2])


def flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(bytes(content))


@pytest.mark.parametrize(
  ("name", "harm"),
  [
    ("24.npz", cut),
    ("24.npz", flip),
    ("24.npz", lambda path: path.unlink()),
    ("24.json", cut),
    ("24.json", lambda path: path.write_text("{}")),
  ],
)
def test_a_damaged_one_is_told_dropped_and_written_anew(directory, name, harm):
  harm(directory / name)
  checkpoints = PartCheckpoints(directory, keep=2)
  assert str(directory) in checkpoints.find_damage(24)
  assert checkpoints.find_damage(16) is None
  checkpoints.drop_after(16)
  assert checkpoints.steps() == [16]
  assert not (directory / "24.npz").exists()
  checkpoints.save(24, snapshot(24), before_dropping=lambda: None)
  assert checkpoints.find_damage(24) is None


def test_one_without_its_listing_does_not_count(directory, monkeypatch):
  """The disk is full, or the process is killed, between the two files."""

  def full(path, content):
    raise OSError("no space left")

  monkeypatch.setattr(module, "write_json", full)
  checkpoints = PartCheckpoints(directory, keep=2)
  with pytest.raises(CheckpointError, match=r"step 32 in .*no space left"):
    checkpoints.save(32, snapshot(32), before_dropping=lambda: None)
  assert checkpoints.steps() == [16, 24]
