"""What is read of a run that goes on, and how it is shown."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from experiments import progress as display
from experiments.engines.interface import Task
from experiments.processes import ELSEWHERE, FAILED, FINISHED, RUNNING, WAITING, Job
from experiments.progress import (
  PlainDisplay,
  Progress,
  ProgressReader,
  TableDisplay,
  duration,
  line_of,
  make_display,
  table_of,
)


def make_job(name, state=RUNNING, **fields):
  nothing = (lambda: None, lambda: False, lambda: False, lambda: 0)
  task = Task(name, ("true",), Path(), {}, Path("log.txt"), *nothing)
  return Job(task, state=state, **fields)


def evaluation(split, episode_return):
  return {"kind": "evaluation", "split": split, "episode_return": episode_return}


def write_rows(path, *rows, end="\n", mode="a"):
  with path.open(mode) as file:
    file.write("\n".join(json.dumps(row) for row in rows) + end)


class TestReader:
  def test_a_run_that_has_not_begun(self, tmp_path):
    assert ProgressReader(tmp_path / "none").read() == Progress()

  def test_status_and_the_latest_test_evaluation(self, tmp_path):
    status = {
      "state": "running", "environment_steps": 50, "total_environment_steps": 200,
      "seconds": 2.0, "seconds_left": 6.0, "episode_return": 3.5, "steps_per_second": 40.0,
    }  # fmt: skip
    (tmp_path / "status.json").write_text(json.dumps(status))
    metrics = tmp_path / "metrics.jsonl"
    write_rows(metrics, evaluation("test", 1.0), {"kind": "training"}, evaluation("train", 9.0))
    reader = ProgressReader(tmp_path)
    assert reader.read() == Progress(50, 200, 40.0, 2.0, 6.0, 3.5, 1.0)
    write_rows(metrics, evaluation("test", 2.0), evaluation("train", 8.0))
    assert reader.read().test_return == 2.0
    assert reader.evaluations == 4

  def test_a_half_written_row_is_read_when_it_is_whole(self, tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    write_rows(metrics, evaluation("test", 1.0))
    row = json.dumps(evaluation("test", 2.0))
    reader = ProgressReader(tmp_path)
    with metrics.open("a") as file:
      for end in range(0, len(row), 5):
        file.write(row[end : end + 5])
        file.flush()
        assert reader.read().test_return == 1.0
      file.write("\n")
    assert reader.read().test_return == 2.0
    assert reader.evaluations == 2

  def test_a_file_that_a_resumed_run_has_cut_back(self, tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    write_rows(metrics, evaluation("test", 1.0), evaluation("test", 2.0), {"kind": "training"})
    reader = ProgressReader(tmp_path)
    assert reader.read().test_return == 2.0
    write_rows(metrics, evaluation("test", 3.0), mode="w")
    assert reader.read().test_return == 3.0

  @pytest.mark.parametrize(
    "content", ["", "{", "[1]", "null", '{"state": ', '{"seconds": 9, "environment_steps": null}']
  )
  def test_a_status_that_cannot_be_read_says_nothing(self, tmp_path, content):
    (tmp_path / "status.json").write_text(content)
    assert ProgressReader(tmp_path).read() == Progress()

  def test_a_damaged_row_is_passed_over(self, tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"kind": "evaluation", \n["evaluation"]\n')
    write_rows(tmp_path / "metrics.jsonl", evaluation("test", 4.0))
    write_rows(tmp_path / "metrics.jsonl", evaluation("test", "x"), evaluation("test", None))
    assert ProgressReader(tmp_path).read().test_return == 4.0


FULL = Progress(120_000, 1_000_000, 812.4, 150.0, 1080.0, 3.1, 2.9)


class TestLine:
  def test_a_running_run(self):
    line = line_of(make_job("a"), FULL)
    assert line == (
      "a  running  120,000/1,000,000 steps  812 steps/s  18 min left  train 3.10  test 2.90"
    )

  def test_what_is_not_known_is_left_out(self):
    assert line_of(make_job("a"), Progress(total_environment_steps=10)) == "a  running  0/10 steps"

  def test_a_run_that_has_ended_has_no_speed_and_nothing_left(self):
    line = line_of(make_job("a", FAILED, detail="exit code 3"), FULL)
    assert "steps/s" not in line
    assert "left" not in line
    assert line.endswith("(exit code 3)")

  @pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (7200, "2.0 h")],
  )
  def test_durations(self, seconds, said):
    assert duration(seconds) == said


def shown(renderable, width=120):
  out = io.StringIO()
  Console(file=out, width=width).print(renderable)
  return out.getvalue()


class TestTable:
  def test_every_run_is_a_row(self):
    jobs = [make_job("a"), make_job("b", WAITING)]
    text = shown(table_of(jobs, [FULL, Progress(total_environment_steps=1000)]))
    assert "120,000/1,000,000" in text
    for part in ("steps/s", "left", "training return", "test return", "0/1,000", "waiting"):
      assert part in text

  def test_of_too_many_those_that_run_or_failed_are_shown(self):
    jobs = [make_job(f"done{i}", FINISHED) for i in range(5)]
    jobs += [make_job("now"), make_job("broken", FAILED), make_job("there", ELSEWHERE)]
    jobs += [make_job(f"later{i}", WAITING) for i in range(5)]
    text = shown(table_of(jobs, [Progress()] * len(jobs), rows=4))
    for name in ("now", "broken", "there", "later0"):
      assert name in text
    assert "done" not in text
    assert "5 waiting, 5 finished" in text

  def test_a_narrow_terminal_loses_no_run(self):
    names = [f"muzero_starpilot_easy-200_seed-{i}" for i in range(3)]
    text = shown(table_of([make_job(name) for name in names], [FULL] * 3), width=60)
    assert len([line for line in text.splitlines() if "running" in line]) == 3


class TestDisplays:
  def test_without_a_terminal_lines_with_one_a_table(self):
    assert isinstance(make_display(Console(file=io.StringIO())), PlainDisplay)
    live = make_display(Console(file=io.StringIO(), force_terminal=True, width=100))
    assert isinstance(live, TableDisplay)
    live.close([], [])

  def test_plain_lines_come_at_an_interval(self, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    plain = PlainDisplay(Console(file=out, width=20))
    jobs, progress = [make_job("a"), make_job("b", WAITING)], [FULL, Progress()]
    plain.show(jobs, progress)
    assert out.getvalue() == ""
    now[0] += display.LINE_SECONDS
    plain.show(jobs, progress)
    plain.show(jobs, progress)
    (line,) = out.getvalue().splitlines()  # not folded, and nothing of a run that waits
    assert line.endswith(line_of(jobs[0], FULL))

  def test_messages_are_taken_as_they_are(self):
    out = io.StringIO()
    PlainDisplay(Console(file=out)).say("[red]failed[/red] [/x] :smile:")
    assert out.getvalue().endswith("[red]failed[/red] [/x] :smile:\n")

  def test_the_last_table_stays_with_every_run(self):
    out = io.StringIO()
    live = TableDisplay(Console(file=out, force_terminal=True, width=100, height=10))
    jobs = [make_job(f"run{i}", FINISHED) for i in range(50)]
    live.show(jobs, [FULL] * 50)
    live.say("something happened")
    live.close(jobs, [FULL] * 50)
    assert all(f"run{i}" in out.getvalue() for i in range(50))
    assert "something happened" in out.getvalue()
