"""The Ray engine on a real cluster of two workers on this machine, with scripts as runs."""

from pathlib import Path
import subprocess
import sys

import pytest

pytest.importorskip("ray")
ROOT = Path(__file__).resolve().parents[2]

# Not in the process of the tests: Ray starts threads and processes of its own there.
DRIVER = """
from pathlib import Path
import sys, time
from experiments.engines.interface import Task
from experiments.engines.ray_cluster import RayEngine
from experiments.errors import UsageError
from experiments.processes import ProcessPool

SCRIPTS = {
  "good": "print(os.environ['NPROC'], os.environ['GIVEN'])",
  "bad": "raise SystemExit('why')",
  "killed": "if starts == 1: os.kill(os.getpid(), 9)",
  "preempted": "if starts == 1: sys.exit(75)",
  "lost": '''
if starts == 1:
  signal.signal(signal.SIGTERM, lambda *_: (open('saved', 'w').close(), os._exit(75)))
  time.sleep(2)
  os.kill(os.getppid(), 9)
  time.sleep(60)
''',
}
HEAD = '''
import os, signal, sys, time
open('starts', 'a').write('x')
starts = os.path.getsize('starts')
'''
TAIL = "\\nopen('result', 'w').close()\\n"

def make_task(name, directory, script):
  own = directory / name
  own.mkdir()
  command = (sys.executable, "-S", "-E", "-u", "-c", HEAD + script + TAIL)
  return Task(
    name=name, command=command, directory=own, environment={"GIVEN": "value"},
    log=own / "log.txt", prepare=lambda: None, is_finished=(own / "result").exists,
    is_elsewhere=lambda: False, progress=lambda: 0,
  )

tasks = [make_task(name, Path(sys.argv[1]), script) for name, script in SCRIPTS.items()]
with RayEngine(processes=2, cpus=1, gpus=0, address=None) as engine:
  pool = ProcessPool(tasks, engine=engine)
  while pool.is_active():
    for job in pool.advance():
      print("change", job.task.name, job.state, job.detail, flush=True)
    time.sleep(0.05)
  for job in pool.jobs:
    print("end", job.task.name, job.state, job.log_tail()[-1:])
try:
  with RayEngine(processes=1, cpus=1, gpus=1, address=None):
    pass
except UsageError as error:
  print("refused", error)
print("heavy", sorted({"jax", "flax"} & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
  """What the driver prints, and the folder of its tasks."""
  directory = tmp_path_factory.mktemp("ray")
  done = subprocess.run(
    [sys.executable, "-c", DRIVER, str(directory)],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=500,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout.splitlines(), directory


def test_every_task_ends_as_it_would_here(said):
  lines, _ = said
  ends = dict(line.split(maxsplit=2)[1:] for line in lines if line.startswith("end "))
  assert {name: end.split()[0] for name, end in ends.items()} == {
    "good": "finished",
    "bad": "failed",
    "killed": "finished",
    "preempted": "finished",
    "lost": "finished",
  }
  assert ends["good"] == "finished ['1 value']"
  assert ends["bad"] == "failed ['why']"


def test_what_was_killed_or_lost_was_started_again(said):
  _, directory = said
  starts = {path.parent.name: path.stat().st_size for path in directory.glob("*/starts")}
  assert starts == {"good": 1, "bad": 1, "killed": 2, "preempted": 2, "lost": 2}


def test_a_run_whose_worker_is_lost_gets_sigterm_and_saves(said):
  assert (said[1] / "lost" / "saved").exists()


def test_it_is_told_where_a_run_is(said):
  lines, _ = said  # one that waits: a short one may be over before it is asked
  assert any(line.startswith("change lost running Ray worker") for line in lines), lines


def test_what_no_node_has_is_refused(said):
  (line,) = (line for line in said[0] if line.startswith("refused"))
  assert "no node of the Ray cluster has 1 CPUs and 1 GPUs" in line


def test_the_driver_does_not_load_jax(said):
  assert "heavy []" in said[0]
