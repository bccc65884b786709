"""What a run writes: whole rows, cut back to a checkpoint, an error where the disk is full."""

import json
from pathlib import Path
import struct

from full_disk import file_size_limit
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from training.episodes import Episode
from training.metrics import Events, JsonLines, MetricsWriter, finite_or_none


def read_rows(path: Path) -> list[dict]:
  return [json.loads(line) for line in path.read_text().splitlines()]


def read_events(directory: Path) -> list[Event]:
  """Reads TensorBoard's record format: length, checksum, data, checksum."""
  events = []
  for path in sorted(directory.glob("events*")):
    data = path.read_bytes()
    while data:
      (length,) = struct.unpack("<Q", data[:8])
      events.append(Event.FromString(data[12 : 12 + length]))
      data = data[12 + length + 4 :]
  return events


def test_rows_are_cut_back_to_a_position(tmp_path):
  path = tmp_path / "rows.jsonl"
  lines = JsonLines(path)
  lines.write([{"n": 1}, {"n": 2}])
  position = lines.position()
  lines.write([{"n": 3}])
  lines.close()
  with path.open("a") as file:
    file.write('{"n": 4, "cut short by a ki')
  lines = JsonLines(path)
  lines.cut_back(position)
  lines.write([{"n": 5}])
  assert read_rows(path) == [{"n": 1}, {"n": 2}, {"n": 5}]
  assert lines.position() == path.stat().st_size
  lines.close()


def test_rows_can_be_read_as_soon_as_they_are_written(tmp_path):
  lines = JsonLines(tmp_path / "rows.jsonl")
  lines.write({"n": n} for n in range(3))
  assert len(read_rows(tmp_path / "rows.jsonl")) == 3
  lines.close()


def test_missing_rows_are_an_error_and_nothing_is_touched(tmp_path):
  writer = MetricsWriter(tmp_path)
  writer.start(environment_steps=0)
  writer.write("training", {"a": 1}, environment_steps=1, seconds=1.0)
  writer.write_episodes([Episode(0, 1, 2.0, 3, False, False)], environment_steps=1)
  state = writer.save_state()
  writer.write("training", {"a": 2}, environment_steps=2, seconds=2.0)
  writer.close()
  episodes = tmp_path / "episodes.jsonl"
  episodes.write_text(episodes.read_text()[:-5])
  writer = MetricsWriter(tmp_path)
  with pytest.raises(ValueError, match=r"episodes\.jsonl has \d+ bytes, .* rows are missing"):
    writer.restore_state(state)
  writer.close()
  assert [row["a"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1, 2]


def flip(path: Path, place: int) -> None:
  """Flips a bit of a file's byte."""
  content = bytearray(path.read_bytes())
  content[place] ^= 1
  path.write_bytes(bytes(content))


def write_some(writer: MetricsWriter, steps: int) -> None:
  writer.write("training", {"a": steps}, environment_steps=steps, seconds=1.0)
  writer.write_episodes([Episode(0, 1, 2.0, steps, False, False)], environment_steps=steps)


@pytest.mark.parametrize("name", ["metrics.jsonl", "episodes.jsonl"])
def test_a_flipped_bit_before_the_checkpoint_is_an_error_and_nothing_is_touched(tmp_path, name):
  """In a file that has been cut back once: the checksum goes on from there."""
  writer = MetricsWriter(tmp_path)
  writer.start(environment_steps=0)
  write_some(writer, 1)
  first = writer.save_state()
  write_some(writer, 2)
  writer.close()
  writer = MetricsWriter(tmp_path)
  writer.restore_state(first)
  writer.start(environment_steps=1)
  write_some(writer, 3)
  second = writer.save_state()
  write_some(writer, 4)
  writer.close()

  flip(tmp_path / name, -3)  # after the checkpoint: it is dropped anyway
  writer = MetricsWriter(tmp_path)
  writer.restore_state(second)
  assert writer.save_state() == second
  writer.close()
  assert [row["a"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1, 3]

  flip(tmp_path / name, 3)
  before = {path.name: path.read_bytes() for path in tmp_path.glob("*.jsonl")}
  writer = MetricsWriter(tmp_path)
  for state in (second, first):
    with pytest.raises(ValueError, match=rf"{tmp_path / name} is damaged: its first \d+ bytes"):
      writer.restore_state(state)
  lengths_alone = {key: second[key] for key in ("metrics", "episodes")}
  assert {path.name: path.read_bytes() for path in tmp_path.glob("*.jsonl")} == before
  writer.restore_state(lengths_alone)  # of a checkpoint from before there were checksums
  writer.close()


def test_the_files_of_a_run(tmp_path):
  writer = MetricsWriter(tmp_path)
  writer.start(environment_steps=0)
  row = {"training/episode_return": None, "policy/loss": 0.5}
  writer.write("training", row, environment_steps=64, seconds=1.23456)
  row = {"split": "test", "episode_return": 3.0, "seed": 12, "levels": "easy-all"}
  writer.write("evaluation", row, environment_steps=64, seconds=2.0)
  writer.write_episodes([Episode(1, 2, 3.0, 4, True, False)], environment_steps=64)
  writer.write_status("running", {"environment_steps": 64})
  writer.close()
  assert read_rows(tmp_path / "metrics.jsonl") == [
    {"kind": "training", "environment_steps": 64, "seconds": 1.235}
    | {"training/episode_return": None, "policy/loss": 0.5},
    {"kind": "evaluation", "environment_steps": 64, "seconds": 2.0} | row,
  ]
  assert read_rows(tmp_path / "episodes.jsonl") == [
    {
      "environment_steps": 64,
      "environment": 1,
      "level_seed": 2,
      "episode_return": 3.0,
      "length": 4,
      "level_complete": True,
      "timed_out": False,
    }
  ]
  status = json.loads((tmp_path / "status.json").read_text())
  assert (status["state"], status["environment_steps"]) == ("running", 64)
  points = {
    (value.tag, event.step): value.simple_value
    for event in read_events(tmp_path / "tensorboard")
    for value in event.summary.value
  }
  assert points == {("policy/loss", 64): 0.5, ("evaluation/test/episode_return", 64): 3.0}


@pytest.mark.parametrize(("steps", "first_hidden"), [(0, 0), (128, 129)])
def test_a_resumed_run_hides_what_it_writes_again(tmp_path, steps, first_hidden):
  """What was written at a checkpoint's own step is in the checkpoint and stays."""
  for environment_steps in (0, steps):
    writer = MetricsWriter(tmp_path)
    writer.start(environment_steps=environment_steps)
    writer.close()
  starts = [
    event.step
    for event in read_events(tmp_path / "tensorboard")
    if event.session_log.status == SessionLog.START
  ]
  assert first_hidden in starts


def test_a_full_disk_is_an_error_and_does_not_hang(tmp_path):
  """tensorboardX's own writer waits for ever here."""
  lines = JsonLines(tmp_path / "rows.jsonl")
  events = Events(tmp_path / "tensorboard", first_step=0)
  many = [{"n": n} for n in range(1000)]
  with file_size_limit(1000):
    with pytest.raises(OSError, match="File too large"):
      lines.write(many)
    with pytest.raises(OSError, match="File too large"):
      events.write({str(n): n for n in range(1000)}, step=0)
  lines.close()
  events.close()


def test_json_has_no_nan():
  assert finite_or_none(float("nan")) is None
  assert finite_or_none(float("inf")) is None
  assert finite_or_none(2.0) == 2.0
