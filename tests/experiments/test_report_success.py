"""Success by level, from episodes that are counted by hand."""

import json

import numpy as np
import pytest
from synthetic_study import write_run

from experiments.reporting import episodes
from experiments.reporting.episodes import read_recent_episodes
from experiments.reporting.runs import read_run
from experiments.reporting.study import make_study
from experiments.reporting.success import success_section
from experiments.reporting.summary import summary
from experiments.reporting.wording import NOTHING


def episode(steps, seed, *, complete, value=0.0):
  return {
    "environment_steps": steps,
    "environment": 0,
    "level_seed": seed,
    "episode_return": value,
    "length": 10,
    "level_complete": complete,
    "timed_out": False,
  }


def write(directory, rows):
  text = "".join(json.dumps(row) + "\n" for row in rows)
  (directory / "episodes.jsonl").write_text(text)


ROWS = [
  episode(100_000, 1, complete=True),  # before the last quarter
  episode(750_000, 1, complete=True, value=10.0),
  episode(800_000, 1, complete=False, value=4.0),
  episode(900_000, 2, complete=False),
  episode(1_000_000, 3, complete=True),
]


def section_of(*directories):
  study = make_study([read_run(each) for each in directories], bounds="train-procgen")
  return "".join(success_section(study)[2])


def test_the_last_quarter_is_counted_by_level(tmp_path):
  run = write_run(tmp_path / "run")
  write(run, ROWS)
  found = read_recent_episodes([read_run(run)])
  assert {seed: each.success for seed, each in found.levels.items()} == {1: 0.5, 2: 0.0, 3: 1.0}
  assert found.levels[1].mean_return == 7.0
  assert (found.count, found.first_step, found.problems) == (4, 750_000, ())


def test_runs_and_processes_are_counted_together(tmp_path):
  runs = [write_run(tmp_path / str(seed), seed=seed) for seed in (0, 1)]
  for run in runs:
    write(run, ROWS)
  (runs[0] / "process-1").mkdir()
  write(runs[0] / "process-1", [episode(990_000, 9, complete=True)])
  found = read_recent_episodes([read_run(run) for run in runs])
  assert found.count == 9
  assert sorted(found.levels) == [1, 2, 3, 9]
  assert len(found.levels[1].returns) == 4


def test_a_long_file_is_read_from_its_end(tmp_path, monkeypatch):
  run = write_run(tmp_path / "run")
  write(run, [episode(999_000, seed, complete=True) for seed in range(100)])
  size = (run / "episodes.jsonl").stat().st_size
  monkeypatch.setattr(episodes, "MOST_BYTES", size // 2)
  found = read_recent_episodes([read_run(run)])
  assert 45 <= found.count <= 50
  assert max(found.levels) == 99
  assert found.problems == ()


def test_what_is_damaged_is_said_and_a_half_written_end_is_not(tmp_path):
  run = write_run(tmp_path / "run", state="running")
  write(run, ROWS)
  with (run / "episodes.jsonl").open("a") as file:
    file.write('{"environment_steps": 1}\nnonsense\n{"environment_st')
  found = read_recent_episodes([read_run(run)])
  assert found.count == 4
  assert len(found.problems) == 1
  assert "2 damaged line(s)" in found.problems[0]
  assert "2 damaged line(s)" in section_of(run)


def test_the_table_counts_levels(tmp_path):
  run = write_run(tmp_path / "run")
  write(run, ROWS)
  text = section_of(run)
  row = text[text.index("<tbody>") :]
  cells = [part.split(">")[-1] for part in row.split("</t")[:-1]]
  assert cells[3:9] == ["4", "750k", "3 of 200", "50 %", "1", "1"]
  assert cells[9:11] == ["50 %", "50 %"]  # level_complete of the last evaluations


def with_time_outs(directory, count, **settings):
  """A run whose last evaluations' 128 episodes end by the clock that often; None says nothing."""
  run = write_run(directory, **settings)
  rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
  for row in rows[-2:]:
    assert row.pop("time_outs") == 0
    if count is not None:
      row["time_outs"] = count[row["split"]]
  (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  (run / "result.json").unlink()
  return run


@pytest.mark.parametrize(
  ("counts", "cells"),
  [
    ([{"train": 16, "test": 96}, {"train": 0, "test": 32}], ["6 %", "50 %"]),
    ([{"train": 16, "test": 64}, None], ["12 %", "50 %"]),
    ([None, None], [NOTHING, NOTHING]),
    ([{"train": 0, "test": 31}], ["0 %", "24 %"]),
  ],
)
def test_episodes_that_the_clock_ends_are_counted_and_many_are_said(tmp_path, counts, cells):
  runs = [with_time_outs(tmp_path / str(i), each, seed=i) for i, each in enumerate(counts)]
  for run in runs:
    write(run, ROWS)
  text = section_of(*runs)
  row = text[text.index("<tbody>") :]
  assert [part.split(">")[-1] for part in row.split("</t")[11:13]] == cells
  said = " ".join(summary(make_study(map(read_run, runs), bounds="train-procgen"), {}))
  many = "the time limit ended 50 % of ppo's on coinrun (easy-200);"
  assert (many in said) == (cells[1] == "50 %")
  assert ("time limit" in said) == (cells[1] == "50 %")


def test_the_worst_are_named_and_the_others_counted(tmp_path):
  """And none at step 0, where an untrained agent may well run into the time limit."""
  games = ("bigfish", "coinrun", "leaper", "maze", "ninja", "starpilot")
  runs = [
    with_time_outs(tmp_path / game, {"train": 0, "test": 40 + 10 * i}, game=game)
    for i, game in enumerate(games)
  ]
  (said,) = [line for line in summary(make_study(map(read_run, runs), bounds="train-procgen"), {})
             if "time limit" in line]  # fmt: skip
  ours = ["70 % of ppo's on starpilot", "62 % of ppo's on ninja", "55 % of ppo's on maze"]
  assert all(text in said for text in ours)
  assert said.index(ours[0]) < said.index(ours[1]) < said.index(ours[2])
  assert "47 % of ppo's on leaper (easy-200) and 2 more;" in said
  for run in runs:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    first = [row | {"time_outs": 128} for row in rows if row["environment_steps"] == 0]
    assert len(first) == 2
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in first))
  assert "time limit" not in " ".join(
    summary(make_study(map(read_run, runs), bounds="train-procgen"), {})
  )


def test_levels_without_end_have_no_rate_each(tmp_path):
  text = section_of(write_run(tmp_path / "run", levels="easy-all"))
  assert "<svg" not in text
  assert " of " not in text[text.index("<tbody>") :]


@pytest.mark.parametrize(("completed", "what"), [(3, "share of episodes"), (0, "mean episode")])
def test_games_that_hardly_end_are_shown_by_return(completed, what, tmp_path):
  run = write_run(tmp_path / "run")
  rows = [episode(900_000, i % 20, complete=i < completed, value=float(i)) for i in range(60)]
  write(run, rows)
  text = section_of(run)
  assert what in text
  assert ("completed: by return" in text) == (completed == 0)
  found = read_recent_episodes([read_run(run)])
  expected = {seed: np.mean([i for i in range(60) if i % 20 == seed]) for seed in range(20)}
  assert {seed: each.mean_return for seed, each in found.levels.items()} == expected


def test_without_episodes_there_is_no_section(tmp_path):
  run = write_run(tmp_path / "run")
  (run / "episodes.jsonl").unlink()
  assert section_of(run) == ""
