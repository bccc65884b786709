"""What a comparison will take, against hand computation and a slow reference."""

import io
import json

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from experiments.plan import measured_speeds, seconds_in_all, show_plan, steps_left
from experiments.progress import Progress
from experiments.studies.registry import DEFAULT, make_named_study
from experiments.studies.study import select


def told(study, directory, processes=1):
  out = io.StringIO()
  show_plan(
    study, study.runs(), directory=directory, processes=processes, console=Console(file=out)
  )
  return out.getvalue()


def slow_schedule(seconds, processes):
  """Second by second: every free process takes the next run."""
  waiting, running, clock = list(seconds), [], 0
  while waiting or running:
    while waiting and len(running) < processes:
      running.append(waiting.pop(0))
    clock += 1
    running = [left - 1 for left in running if left > 1]
  return clock


@given(st.lists(st.integers(1, 20), max_size=12), st.integers(1, 5))
def test_time_in_all_is_that_of_a_schedule(seconds, processes):
  assert seconds_in_all(seconds, processes) == slow_schedule(seconds, processes)


def test_a_speed_is_over_all_runs_of_an_agent():
  study = select(make_named_study(DEFAULT, "smoke"), agents=["ppo"], seeds=[0])
  progress = [Progress(environment_steps=300, seconds=1.0), Progress(100, seconds=3.0)]
  assert measured_speeds(study.runs(), progress) == {"ppo": 100.0}
  assert measured_speeds(study.runs(), [Progress()] * 2) == {}


def test_what_is_done_is_not_left():
  run = make_named_study(DEFAULT, "smoke").runs()[0]
  total = run.config.training.total_environment_steps
  assert steps_left(run, Progress()) == total
  assert steps_left(run, Progress(environment_steps=total - 1)) == 1
  assert steps_left(run, Progress(environment_steps=total + 9)) == 0


def test_hours_are_told_once_a_run_has_been_measured(tmp_path):
  study = select(make_named_study(DEFAULT, "smoke"), agents=["ppo"], seeds=[0])
  runs = study.runs()
  total = runs[0].config.training.total_environment_steps
  assert "no speed has been measured for ppo" in told(study, tmp_path)
  (tmp_path / runs[0].name).mkdir()
  status = {"environment_steps": total, "seconds": 3600.0}
  (tmp_path / runs[0].name / "status.json").write_text(json.dumps(status))
  text = told(study, tmp_path)
  assert f"{total:,} environment steps left" in text  # of two runs, one is done
  assert "about 1.00 hours" in text


def test_the_studys_speeds_count_where_nothing_has_run(tmp_path):
  study = make_named_study(DEFAULT, "smoke")
  study = select(study, agents=["ppo"], seeds=[0, 1])
  total = study.agents["ppo"].training.total_environment_steps
  study = type(study)(**{**vars(study), "steps_per_second": {"ppo": total / 1800}})
  assert "about 1.00 hours" in told(study, tmp_path, processes=2)
  assert "about 2.00 hours" in told(study, tmp_path, processes=1)
