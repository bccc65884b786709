"""Evaluations of checkpoints in the page: rows, planning, success by level, foreign files."""

import json
import re

import pytest
from synthetic_study import write_run

from experiments.options import guarded
from experiments.report import main, write_report
from experiments.reporting.beside_runs import find_evaluations


def row(level_set="test", *, simulations=None, value=5.0, episodes=4):
  seeds = (3, 17)
  search = None if simulations is None else {"kind": "gumbel", "num_simulations": simulations}
  return {
    "level_set": level_set,
    "levels": "easy-all",
    "policy": "greedy",
    "search": search,
    "episodes": 2 * episodes,
    "episode_return": value,
    "episode_return_interval": [value - 1, value + 1],
    "normalised_score": -0.25,
    "normalised_score_interval": None,
    "level_complete": 0.5,
    "by_level": [
      {"level_seed": seed, "episodes": episodes, "success_rate": rate}
      for seed, rate in zip(seeds, (0.25, 0.75), strict=True)
    ],
  }


def write(path, run, rows, *, game="coinrun"):
  result = {
    "run": str(run),
    "agent": "ppo",
    "game": game,
    "training_levels": "easy-200",
    "run_seed": 7,
    "checkpoint": 200_000,
    "evaluations": rows,
  }
  command = ["procplan", "evaluate", str(run)]
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps({"command": command, "runs": [result]}))
  return path


def section(tmp_path, *paths):
  page = write_report(paths, tmp_path / "report.html", resamples=100).read_text()
  found = re.search(r'<section id="evaluations".*?</section>', page, re.DOTALL)
  return found[0] if found else None


def rows_of(text):
  body = re.findall(r"<tr([^>]*)>(.*?)</tr>", text.partition("<tbody>")[2], re.DOTALL)
  return [(mark, re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", cells)) for mark, cells in body]


def test_every_evaluation_is_a_row_of_its_run(tmp_path):
  runs = [write_run(tmp_path / "runs" / name, game=name) for name in ("coinrun", "leaper")]
  # The directory was moved since: it is known by its name.
  path = write(tmp_path / "e.json", tmp_path / "before" / "leaper", [row()], game="leaper")
  text = section(tmp_path, *runs, path)
  ((mark, cells),) = rows_of(text)
  assert mark == ' data-needs="a0 g1 l0"'
  assert cells[:9] == [
    "easy-200", "leaper", "ppo", "7", "200k", "test: easy-all", "greedy", "\N{EN DASH}", "8"
  ]  # fmt: skip
  minus = "\N{MINUS SIGN}"
  assert cells[9:] == ["5.00 [4.00, 6.00]", f"{minus}0.25", "50 %", "\N{EN DASH}"]


def test_return_against_simulations_where_there_are_several(tmp_path):
  run = write_run(tmp_path / "run")
  rows = [row(simulations=n, value=v, episodes=1) for n, v in ((0, 1.0), (2, 3.0), (32, 2.0))]
  write(run / "e.json", run, rows)
  text = section(tmp_path, run)
  assert re.findall(r"<title>(.*?),", text) == ["Return against simulations"]
  ticks = re.findall(r"<text[^>]*>\s*(0|2|32)\s*</text>", text)
  assert {"0", "2", "32"} <= set(ticks)
  write(run / "e.json", run, rows[:1])
  assert "<svg" not in section(tmp_path, run).replace('<svg class="swatch"', "")


def test_success_by_level_where_levels_are_played_more_than_once(tmp_path):
  run = write_run(tmp_path / "run")
  write(run / "e.json", run, [row("train"), row("test", episodes=1)])
  text = section(tmp_path, run)
  assert re.findall(r"<title>(.*?),", text) == ["Success by level"]
  assert "solid train" in text
  assert "dashed" not in text


def test_a_run_that_is_not_in_the_report_is_named_with_its_path(tmp_path):
  run = write_run(tmp_path / "run")
  path = write(tmp_path / "e.json", "/elsewhere/gone", [row()])
  ((mark, cells),) = rows_of(section(tmp_path, run, path))
  assert (mark, cells[2]) == ("", "ppo in /elsewhere/gone")


def test_other_files_are_left_alone_and_older_ones_are_named(tmp_path):
  run = write_run(tmp_path / "run")
  (run / "other.json").write_text('{"command": ["procplan", "benchmark"]}')
  (run / "list.json").write_text("[1]")
  (run / "broken.json").write_text("{")
  assert section(tmp_path, run) is None
  old = row()
  del old["policy"]
  write(run / "old.json", run, [old])
  assert "run/old.json cannot be shown: it lacks 'policy'" in section(tmp_path, run).replace(
    "&#x27;", "'"
  )


@pytest.mark.parametrize("where", ["e.json", "."])
def test_the_command_takes_a_file_and_a_directory_of_evaluations(where, tmp_path):
  run = write_run(tmp_path / "run")
  write(tmp_path / "evaluations" / "e.json", run, [row()])
  path = tmp_path / "evaluations" / where
  assert len(find_evaluations([path])) == 1
  out = tmp_path / "r.html"
  assert guarded(main, [str(run), str(path), "--out", str(out), "--resamples", "100"]) == 0
  assert "Checkpoints evaluated" in out.read_text()
  assert "1 run: 1 finished" in out.read_text()
