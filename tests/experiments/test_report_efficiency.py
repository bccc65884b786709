"""Sample efficiency: over which steps areas are taken, and what a short run is said to reach."""

import json

import pytest
from synthetic_study import write_run

from experiments.reporting.efficiency import between, curve_of, efficiency_table
from experiments.reporting.runs import read_run
from experiments.reporting.study import make_study
from experiments.reporting.tables import score_table


def scored(directory, returns, **options):
  """A run whose test evaluations are these: environment steps -> mean episode return."""
  write_run(directory, **options)
  path = directory / "metrics.jsonl"
  training = [line for line in path.read_text().splitlines() if '"evaluation"' not in line]
  common = {"kind": "evaluation", "seconds": 1.0, "split": "test", "policy": "sampled"}
  rows = [
    json.dumps({**common, "environment_steps": steps, "episode_return": value})
    for steps, value in returns.items()
  ]
  path.write_text("\n".join([*rows, *training]) + "\n")
  result = directory / "result.json"
  if result.exists():
    result.write_text(json.dumps({**json.loads(result.read_text()), "evaluations": []}))
  return read_run(directory)


def rows_of(*runs):
  """Agent -> area, steps of the area, the baseline's score, steps to reach it."""
  made = str(efficiency_table(make_study(runs, bounds="train-procgen"), baseline="ppo"))
  rows = {}
  for row in made.split("<tbody>")[1].split("</tr>")[:-1]:
    cells = [" ".join(_text(cell).split()) for cell in row.split("</t")]
    rows[cells[2]] = cells[4:8]
  return rows


def _text(html):
  return " ".join(part.split(">", 1)[-1] for part in html.split("<") if ">" in part)


# coinrun, easy: a return of 5 counts as 0, one of 10 as 1.
def test_areas_are_over_the_steps_that_all_agents_share(tmp_path):
  long = scored(tmp_path / "ppo", {0: 5.0, 50_000: 7.0, 100_000: 9.0, 1_000_000: 10.0})
  short = scored(tmp_path / "ppg", {0: 5.0, 101_000: 6.0}, agent="ppg", state="running", done=0.12)
  rows = rows_of(long, short)
  # ppo: heights 0, 0.4, 0.8 at 0, 50k and 100k; ppg: 0 and 0.2.
  assert rows["ppo"][:2] == ["0.40", "0 to 100k"]
  assert rows["ppg"][:2] == ["0.10", "0 to 101k"]


def test_areas_without_shared_steps_are_marked(tmp_path):
  long = scored(tmp_path / "ppo", {0: 5.0, 1_000_000: 10.0})
  short = scored(tmp_path / "ppg", {0: 5.0, 100_000: 6.0}, agent="ppg")
  elsewhere = scored(tmp_path / "dqn", {0: 5.0, 700_000: 6.0}, agent="dqn", game="leaper")
  rows = rows_of(long, short, elsewhere)
  assert rows["ppo"][1] == "0 to 1M its own, not comparable"
  assert rows["ppg"][1] == "0 to 100k its own, not comparable"
  assert rows["dqn"][1] == "0 to 700k"  # alone on its game


def test_a_short_run_has_not_reached_a_score_within_its_own_steps(tmp_path):
  long = scored(tmp_path / "ppo", {0: 5.0, 1_000_000: 9.0})
  short = scored(tmp_path / "ppg", {0: 5.0, 51_200: 6.0}, agent="ppg", state="running", done=0.1)
  rows = rows_of(long, short)
  assert rows["ppg"][2:] == ["9.00 ppo at 1M", "not within 51.2k"]
  assert rows["ppo"][3] == "1M"


def test_a_baseline_that_has_not_finished_is_marked(tmp_path):
  going_on = scored(tmp_path / "ppo", {0: 5.0, 213_000: 6.0}, state="running", done=0.3)
  other = scored(tmp_path / "ppg", {0: 5.0, 100_000: 6.5}, agent="ppg")
  assert rows_of(going_on, other)["ppg"][2:] == ["6.00 ppo at 213k: not final", "100k"]
  assert "not final" in str(score_table(make_study([going_on], bounds="train-procgen")))


def test_a_finished_baseline_counts_before_a_better_one_that_has_not_finished(tmp_path):
  wide = {"backbone": {"kind": "ResNet", "width": 64}}
  done = scored(tmp_path / "done", {0: 5.0, 1_000_000: 6.0})
  going_on = scored(
    tmp_path / "on", {0: 5.0, 400_000: 9.0}, state="running", done=0.5, settings=wide
  )
  assert {row[2] for row in rows_of(done, going_on).values()} == {"6.00 ppo (width=32) at 1M"}


def test_a_part_of_a_curve_ends_at_the_nearest_steps(tmp_path):
  run = scored(tmp_path / "run", {0: 5.0, 99_000: 6.0, 200_000: 7.0, 300_000: 8.0})
  study = make_study([run], bounds="train-procgen")
  curve = curve_of(study, next(iter(study.cells.values())))
  part = between(curve, 100_000, 200_000)
  assert part.steps == (99_000, 200_000)
  assert part.returns.ravel() == pytest.approx([6.0, 7.0])
