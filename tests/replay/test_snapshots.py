"""Snapshots write what is new, go on bit for bit, and say which file is at fault."""

import json

from coded_frames import record, request
import numpy as np
import pytest

from replay.sequence_buffer import SequenceBuffer
from replay.snapshots import SnapshotError, Snapshots

FIELDS = {
  "raw": {"priority_exponent": 0.6, "importance_exponent": 0.4},
  "compressed": {
    "priority_exponent": 0.6,
    "importance_exponent": 0.4,
    "memory_budget": 10_000,
    "block_frames": 7,
  },
  "uniform": {},
}


def _buffer(fields="raw"):
  return SequenceBuffer(request(**FIELDS[fields]), seed=7)


def _play(buffer, turns):
  """Turns of a loop; returns everything that was drawn."""
  drawn = []
  for _ in range(turns):
    buffer.add(record(buffer.stored.stop, 3))
    for _ in range(buffer.updates_due()):
      drawn.append(buffer.draw())
      if "priorities/weights" in buffer.save_counters():
        priority = 0.1 + drawn[-1]["frame_number"] % 7
        buffer.update_priorities(drawn[-1]["environment"], drawn[-1]["frame_number"], priority)
  return drawn


def _assert_equal(one, other):
  assert len(one) == len(other)
  for a, b in zip(one, other, strict=True):
    assert a.keys() == b.keys()
    for name in a:
      np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def _frames_shards(directory, name):
  return [shard["file"] for shard in json.loads((directory / f"{name}.json").read_text())["shards"]]


@pytest.mark.parametrize("fields", FIELDS)
@pytest.mark.parametrize("shard_bytes", [1, 5000, 2**20])
@pytest.mark.parametrize("stop", [0, 2, 9, 31])
def test_a_restart_goes_on_bit_for_bit(tmp_path, fields, shard_bytes, stop):
  whole, first, second = (_buffer(fields) for _ in range(3))
  expected = _play(whole, stop + 25)
  snapshots = Snapshots(tmp_path, shard_bytes=shard_bytes)
  found = _play(first, stop // 2)
  snapshots.save(first, "half")
  found += _play(first, stop - stop // 2)
  snapshots.save(first, "stop")
  _play(first, 5)
  resumed = Snapshots(tmp_path)
  resumed.restore(second, "stop")
  found += _play(second, 20)
  resumed.save(second, "later")  # shards of before and after the restart in one snapshot
  third = _buffer(fields)
  Snapshots(tmp_path).restore(third, "later")
  found += _play(third, 5)
  assert len(found) > 20
  _assert_equal(found, expected)
  for buffer in (whole, first, second, third):
    buffer.close()


def test_a_snapshot_taken_raw_is_restored_compressed(tmp_path):
  raw, compressed = _buffer("raw"), _buffer("compressed")
  _play(raw, 20)
  Snapshots(tmp_path).save(raw, "a")
  Snapshots(tmp_path).restore(compressed, "a")
  assert compressed.nbytes < raw.nbytes
  _assert_equal(_play(raw, 10), _play(compressed, 10))


def test_only_what_is_new_is_written(tmp_path):
  buffer, snapshots = _buffer(), Snapshots(tmp_path)
  covered = []
  for turn in range(8):
    _play(buffer, 5)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.shard")}
    index = json.loads(snapshots.save(buffer, str(turn)).read_text())
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.shard")}
    assert before.items() <= after.items()  # written once, never again
    new = [shard for shard in index["shards"] if shard["file"] not in before]
    covered += [frame for shard in new for frame in range(shard["first"], shard["stop"])]
    # What the index names holds every stored frame, and no shard without one.
    named = [frame for each in index["shards"] for frame in range(each["first"], each["stop"])]
    assert set(buffer.stored) <= set(named)
    assert all(shard["stop"] > buffer.stored.start for shard in index["shards"])
  assert covered == list(range(8 * 15))


def test_a_resumed_run_writes_only_what_is_new_to_it(tmp_path):
  buffer = _buffer()
  _play(buffer, 10)
  Snapshots(tmp_path).save(buffer, "a")
  resumed, snapshots = _buffer(), Snapshots(tmp_path)
  snapshots.restore(resumed, "a")
  _play(resumed, 1)
  index = json.loads(snapshots.save(resumed, "b").read_text())
  assert [(shard["first"], shard["stop"]) for shard in index["shards"]] == [(0, 30), (30, 33)]


def test_pruning_keeps_what_is_needed_and_nothing_else(tmp_path):
  buffer, snapshots = _buffer(), Snapshots(tmp_path)
  for turn in range(8):
    _play(buffer, 5)
    snapshots.save(buffer, str(turn))
  (tmp_path / "frames-cut-short.shard.partial").write_bytes(b"half")
  snapshots.prune(["6", "7"])
  named = {*_frames_shards(tmp_path, "6"), *_frames_shards(tmp_path, "7")}
  named |= {json.loads((tmp_path / f"{n}.json").read_text())["counters"]["file"] for n in "67"}
  assert {path.name for path in tmp_path.iterdir()} == {*named, "6.json", "7.json"}
  for name in "67":
    assert snapshots.find_damage(name) == []
    Snapshots(tmp_path).restore(_buffer(), name)


def test_nothing_is_pruned_beside_an_index_that_cannot_be_read(tmp_path):
  buffer, snapshots = _buffer(), Snapshots(tmp_path)
  for name in "ab":
    _play(buffer, 5)
    snapshots.save(buffer, name)
  (tmp_path / "a.json").write_text("{")
  before = sorted(tmp_path.iterdir())
  with pytest.raises(SnapshotError, match=r"a\.json cannot be read"):
    snapshots.prune(["a", "b"])
  assert sorted(tmp_path.iterdir()) == before


def _flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


@pytest.mark.parametrize(
  ("harm", "said"),
  [
    (lambda path: path.unlink(), "is missing"),
    (_flip, "is damaged"),
    (lambda path: path.write_bytes(path.read_bytes()[:-1]), "is damaged"),
    (lambda path: path.write_bytes(b""), "is damaged"),
  ],
)
@pytest.mark.parametrize("kind", ["frames", "counters"])
def test_a_missing_or_damaged_shard_is_named_and_the_snapshot_before_is_whole(
  tmp_path, kind, harm, said
):
  buffer, snapshots = _buffer(), Snapshots(tmp_path)
  _play(buffer, 6)
  snapshots.save(buffer, "before")
  _play(buffer, 6)
  index = json.loads(snapshots.save(buffer, "after").read_text())
  file = index["counters"]["file"] if kind == "counters" else index["shards"][-1]["file"]
  harm(tmp_path / file)
  resumed = _buffer()
  with pytest.raises(SnapshotError, match=f"{file} {said}"):
    Snapshots(tmp_path).restore(resumed, "after")
  assert not resumed.stored
  assert len(snapshots.find_damage("after")) == 1
  again = Snapshots(tmp_path)
  again.restore(resumed, "before")
  _play(resumed, 6)
  again.save(resumed, "after")  # the run writes it anew
  assert again.find_damage("after") == []
  _assert_equal(_play(buffer, 5), _play(resumed, 5))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 99, "shards": [], "counters": {}}'])
def test_an_index_that_is_none_is_named(tmp_path, content):
  snapshots = Snapshots(tmp_path)
  with pytest.raises(SnapshotError, match=r"a\.json cannot be read"):
    snapshots.restore(_buffer(), "a")
  (tmp_path / "a.json").write_text(content)
  with pytest.raises(SnapshotError, match=r"a\.json (cannot be read|has format)"):
    snapshots.restore(_buffer(), "a")


def test_a_snapshot_that_stops_half_way_leaves_the_ones_before(tmp_path, monkeypatch):
  buffer, snapshots = _buffer(), Snapshots(tmp_path, shard_bytes=3000)
  _play(buffer, 6)
  snapshots.save(buffer, "before")
  before = buffer.save_state()
  _play(buffer, 6)
  written = []

  def full_disk(self, buffer, numbers):
    written.extend(numbers)
    raise OSError("no space left")

  monkeypatch.setattr(Snapshots, "_split", full_disk)
  with pytest.raises(OSError, match="no space left"):
    snapshots.save(buffer, "after")
  monkeypatch.undo()
  assert written == list(range(18, 36))
  resumed = _buffer()
  Snapshots(tmp_path).restore(resumed, "before")
  _assert_equal([before], [resumed.save_state()])
  snapshots.save(buffer, "after")
  assert snapshots.find_damage("after") == []


def test_a_snapshot_of_another_replay_is_refused(tmp_path):
  buffer = _buffer()
  _play(buffer, 6)
  Snapshots(tmp_path).save(buffer, "a")
  with pytest.raises(ValueError, match="seed is 8 here and 7 in the state"):
    Snapshots(tmp_path).restore(SequenceBuffer(request(**FIELDS["raw"]), seed=8), "a")


@pytest.mark.parametrize("name", ["a/b", "../a", ""])
def test_names_stay_in_the_directory(tmp_path, name):
  with pytest.raises(ValueError, match="must be a plain file name"):
    Snapshots(tmp_path).save(_buffer(), name)
