"""The pool of tasks on the local engine, with small scripts in place of training."""

import os
from pathlib import Path
import signal
import sys
import time

import pytest

from experiments.engines.interface import Task
from experiments.engines.local import LocalEngine, share_out
from experiments.processes import (
  ELSEWHERE,
  FAILED,
  FINISHED,
  INTERRUPTED,
  LOG_TAIL_LINES,
  MAX_RETRIES,
  RUNNING,
  WAITING,
  ProcessPool,
)

# Scripts run in the task's folder. `result` says that the task is finished, `attempts` holds a
# byte for each start, `saved` one for each piece of progress.
FINISH = "open('result', 'w').close()"
KILL_SELF = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
COUNT = "open('attempts', 'a').write('x')"
ATTEMPT = "len(open('attempts').read())"
SAVE = "open('saved', 'a').write('x')"


def make_task(folder, *lines, is_elsewhere=lambda: False):
  """A task that runs `lines` of Python in its own folder."""
  folder.mkdir()
  return Task(
    name=folder.name,
    command=(sys.executable, "-S", "-E", "-u", "-c", "\n".join([COUNT, *lines])),
    directory=folder,
    environment={},
    log=folder / "log.txt",
    prepare=lambda: None,
    is_finished=(folder / "result").exists,
    is_elsewhere=is_elsewhere,
    progress=lambda: count(folder / "saved"),
  )


def count(path: Path) -> int:
  return len(path.read_text()) if path.exists() else 0


def attempts(folder: Path) -> int:
  return count(folder / "attempts")


def run_all(pool):
  """Runs to the end; returns (name, state, detail) of every change."""
  changes = []
  while pool.is_active():
    changes += [(job.task.name, job.state, job.detail) for job in pool.advance()]
    time.sleep(0.01)
  return changes


def wait_for(pool, condition):
  while not condition():
    pool.advance()
    time.sleep(0.01)


@pytest.fixture
def make_pool():
  """Makes pools and kills what is left of them."""
  pools = []

  def make(*tasks, slots=1):
    cores = sorted(os.sched_getaffinity(0))
    engine = LocalEngine(share_out(slots, cores=cores))
    pools.append(ProcessPool(tasks, engine=engine))
    return pools[-1]

  yield make
  for pool in pools:
    pool.close()


def states(pool):
  return {job.task.name: job.state for job in pool.jobs}


def test_tasks_run_to_their_end(tmp_path, make_pool):
  pool = make_pool(*(make_task(tmp_path / name, FINISH) for name in "abc"), slots=2)
  run_all(pool)
  assert states(pool) == dict.fromkeys("abc", FINISHED)
  assert [attempts(tmp_path / name) for name in "abc"] == [1, 1, 1]


def test_a_finished_task_is_not_run_again(tmp_path, make_pool):
  task = make_task(tmp_path / "a", "raise SystemExit(1)")
  (tmp_path / "a" / "result").touch()
  pool = make_pool(task)
  assert run_all(pool) == [("a", FINISHED, "was finished already")]
  assert attempts(tmp_path / "a") == 0
  assert not task.log.exists()


def test_a_killed_task_is_run_again(tmp_path, make_pool):
  task = make_task(tmp_path / "a", f"if {ATTEMPT} == 1:", f"  {KILL_SELF}", FINISH)
  changes = run_all(make_pool(task))
  assert [state for _, state, _ in changes] == [RUNNING, WAITING, RUNNING, FINISHED]
  assert "SIGKILL" in changes[1][2]
  assert attempts(tmp_path / "a") == 2
  assert task.log.read_text().count("\n--- ") + task.log.read_text().startswith("--- ") == 2


def test_a_preempted_task_is_run_again(tmp_path, make_pool):
  pool = make_pool(
    make_task(tmp_path / "a", f"if {ATTEMPT} == 1:", "  raise SystemExit(75)", FINISH)
  )
  run_all(pool)
  assert states(pool) == {"a": FINISHED}
  assert attempts(tmp_path / "a") == 2


def test_a_task_that_is_killed_again_and_again_is_given_up(tmp_path, make_pool):
  pool = make_pool(make_task(tmp_path / "a", KILL_SELF))
  run_all(pool)
  assert states(pool) == {"a": FAILED}
  assert "SIGKILL" in pool.jobs[0].detail
  assert attempts(tmp_path / "a") == 1 + MAX_RETRIES


def test_without_retries_a_killed_task_has_failed(tmp_path):
  pool = ProcessPool(
    [make_task(tmp_path / "a", KILL_SELF)],
    engine=LocalEngine(share_out(1, cores=sorted(os.sched_getaffinity(0)))),
    max_retries=0,
  )
  assert run_all(pool)[-1] == ("a", FAILED, "killed by SIGKILL")
  assert attempts(tmp_path / "a") == 1
  assert pool.jobs[0].code == -signal.SIGKILL


def test_retries_are_not_counted_where_there_is_progress(tmp_path, make_pool):
  kills = 2 * MAX_RETRIES + 1
  pool = make_pool(
    make_task(tmp_path / "a", SAVE, f"if {ATTEMPT} <= {kills}:", f"  {KILL_SELF}", FINISH)
  )
  run_all(pool)
  assert states(pool) == {"a": FINISHED}
  assert attempts(tmp_path / "a") == 1 + kills


def test_a_failed_task_is_reported_and_the_others_go_on(tmp_path, make_pool):
  lines = [f"for i in range({LOG_TAIL_LINES} + 5): print('line', i)", "raise SystemExit('why')"]
  pool = make_pool(make_task(tmp_path / "bad", *lines), make_task(tmp_path / "good", FINISH))
  run_all(pool)
  assert states(pool) == {"bad": FAILED, "good": FINISHED}
  bad = pool.jobs[0]
  assert bad.detail == "exit code 1"
  assert attempts(tmp_path / "bad") == 1
  tail = bad.log_tail()
  assert tail[-1] == "why"
  assert tail[-2] == f"line {LOG_TAIL_LINES + 4}"
  assert len(tail) == LOG_TAIL_LINES


def test_the_log_tail_is_of_the_last_attempt(tmp_path, make_pool):
  task = make_task(tmp_path / "a", "raise SystemExit('new')")
  task.log.write_text("old\n" * 5)
  pool = make_pool(task)
  run_all(pool)
  assert pool.jobs[0].log_tail() == ["new"]
  assert task.log.read_text().startswith("old\n")


def test_success_without_a_result_is_a_failure(tmp_path, make_pool):
  pool = make_pool(make_task(tmp_path / "a"))
  run_all(pool)
  assert states(pool) == {"a": FAILED}
  assert "no result" in pool.jobs[0].detail


def test_a_command_that_cannot_be_started_is_a_failure(tmp_path, make_pool):
  tasks = make_task(tmp_path / "a", FINISH), make_task(tmp_path / "b", FINISH)
  broken = Task(**{**vars(tasks[0]), "command": (str(tmp_path / "none"),)})
  pool = make_pool(broken, tasks[1])
  run_all(pool)
  assert states(pool) == {"a": FAILED, "b": FINISHED}
  assert "could not be started" in pool.jobs[0].detail


def test_a_folder_that_cannot_be_prepared_is_a_failure(tmp_path, make_pool):
  def prepare():
    raise OSError("No space left on device")

  task = make_task(tmp_path / "a", FINISH)
  pool = make_pool(Task(**{**vars(task), "prepare": prepare}))
  run_all(pool)
  assert states(pool) == {"a": FAILED}
  assert "No space left" in pool.jobs[0].detail


def test_a_task_that_another_process_is_at_is_waited_for(tmp_path, make_pool):
  busy = [True]
  pool = make_pool(
    make_task(tmp_path / "a", FINISH, is_elsewhere=lambda: busy[0]),
    make_task(tmp_path / "b", FINISH),
  )
  wait_for(pool, lambda: states(pool)["b"] == FINISHED)
  assert states(pool) == {"a": ELSEWHERE, "b": FINISHED}
  assert attempts(tmp_path / "a") == 0
  busy[0] = False
  run_all(pool)
  assert states(pool) == {"a": FINISHED, "b": FINISHED}


def test_no_more_run_at_once_than_there_are_slots(tmp_path, make_pool):
  pool = make_pool(*(make_task(tmp_path / name, FINISH) for name in "abcde"), slots=2)
  most = 0
  while pool.is_active():
    pool.advance()
    running = [job for job in pool.jobs if job.state == RUNNING and job.attempt.poll() is None]
    assert len({id(job.attempt.slot) for job in running}) == len(running)
    most = max(most, len(running))
    time.sleep(0.01)
  assert most == 2
  assert set(states(pool).values()) == {FINISHED}


def test_a_task_sees_only_the_cores_of_its_slot(tmp_path, make_pool):
  before = os.sched_getaffinity(0)
  tell = "import os; print(sorted(os.sched_getaffinity(0)), os.getsid(0) == os.getpid())"
  pool = make_pool(*(make_task(tmp_path / name, tell, FINISH) for name in "ab"), slots=2)
  run_all(pool)
  slots = share_out(2, cores=sorted(before))
  assert {tuple(job.log_tail()) for job in pool.jobs} <= {(f"{list(s.cores)} True",) for s in slots}
  assert os.sched_getaffinity(0) == before


def test_stop_is_forwarded_and_nothing_more_is_started(tmp_path, make_pool):
  wait = [
    "import signal, sys, time",
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))",
    "open('ready', 'w').close()",
    "while True: time.sleep(0.01)",
  ]
  pool = make_pool(make_task(tmp_path / "a", *wait), make_task(tmp_path / "b", FINISH))
  wait_for(pool, (tmp_path / "a" / "ready").exists)
  pool.stop(signal.SIGTERM)
  run_all(pool)
  assert states(pool) == {"a": INTERRUPTED, "b": INTERRUPTED}
  assert "75" in pool.jobs[0].detail
  assert attempts(tmp_path / "a") == 1
  assert attempts(tmp_path / "b") == 0


def test_a_task_that_fails_while_it_is_stopped_has_failed(tmp_path, make_pool):
  wait = [
    "import signal, sys, time",
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit('disk full'))",
    "open('ready', 'w').close()",
    "while True: time.sleep(0.01)",
  ]
  pool = make_pool(make_task(tmp_path / "a", *wait))
  wait_for(pool, (tmp_path / "a" / "ready").exists)
  pool.stop(signal.SIGTERM)
  run_all(pool)
  assert states(pool) == {"a": FAILED}
  assert pool.jobs[0].log_tail() == ["disk full"]
