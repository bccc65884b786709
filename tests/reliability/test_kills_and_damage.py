"""Bounded versions of the scripts here; each prints its counts when it is run by itself."""

import json
import os
from pathlib import Path
import signal
import subprocess
import sys

import damage
from fuzz_configs import fuzz
from kill_study import TURN, tiny_study
from memory_study import growth
import pytest

from experiments.command_line import run_command
from experiments.config import save_config
from experiments.options import guarded
from experiments.train import main

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FAULTY = ROOT / "tests" / "training" / "faulty_train.py"


@pytest.mark.parametrize("seed", [1, 2])
def test_a_wrong_field_or_value_is_never_a_traceback(seed):
  endings, defects = fuzz(45, seed=seed)
  assert not defects, "\n".join(defects)
  refused = {kind for kind, ending in endings if ending == "refused"}
  assert refused == {"options", "file", "words"}


def test_damage_is_told_and_nothing_wrong_is_restored(tmp_path):
  counts, defects = damage.check(tmp_path, every=29)
  assert not defects, "\n".join(defects)
  endings = {ending for _, ending in counts}
  assert {"fell back, said why", "not needed"} <= endings


class TestGrowth:
  """Of memory over a run, by tenths."""

  steps = range(1, 101)

  def test_what_comes_before_the_third_tenth_is_no_growth(self):
    resident = [50] * 10 + [120] * 10 + [100] * 80
    assert growth(self.steps, resident) == ([50, 120, *[100] * 8], 0)

  def test_a_leak_shows(self):
    resident = [1000 + step for step in self.steps]  # medians 1025.5 and 1095.5
    assert growth(self.steps, resident)[1] == pytest.approx(70 / 1025.5)

  def test_one_outlier_does_not(self):
    assert growth(self.steps, [100] * 99 + [500])[1] == 0

  def test_a_run_that_is_too_short_is_told(self):
    with pytest.raises(ValueError, match="longer runs"):
      growth([10, 20, 100], [1, 1, 1])


class TestJudge:
  """What the script counts as a defect, on outcomes made by hand."""

  digests = {"a": "latest", "b": "the one before"}  # noqa: RUF012

  @pytest.mark.parametrize(
    ("outcome", "path", "is_defect"),
    [
      ((None, "Traceback", None), "run.json", True),
      ((0, "", "c"), "checkpoints/steps/1024/host/d/x", True),
      ((0, "", "a"), "checkpoints/steps/1024/host/d/x", True),  # damaged, and not noticed
      ((0, "", "a"), "checkpoints/steps/512/host/d/x", False),
      ((0, "", "a"), "status.json", False),
      ((0, "", "a"), "metrics.jsonl", True),
      ((0, "", "b"), "checkpoints/steps/1024/host/d/x", True),
      ((0, "checkpoint 1024 is not used: file x", "b"), "checkpoints/steps/1024/x", False),
      ((1, "error: no", None), "replay/x", False),
      ((1, "", None), "replay/x", True),
    ],
  )
  def test_verdicts(self, outcome, path, is_defect):
    verdict = damage.judge(damage.Outcome(*outcome), Path(path), digests=self.digests)
    assert verdict[1] == is_defect, verdict


def test_two_processes_on_one_directory(tmp_path):
  """The second is refused while the first, which is held up, is at it; then the first ends."""
  (run,) = tiny_study([0]).runs()
  config, directory = tmp_path / "config.yaml", tmp_path / "run"
  save_config(run.config, config)
  arguments = ["--config", str(config), "--out", str(directory)]
  environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
  environment |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
  first = subprocess.Popen(
    [sys.executable, str(FAULTY), "SIGSTOP:turn:3", *arguments],
    env=environment,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )
  try:
    _, status = os.waitpid(first.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), first.stderr.read()
    before = (directory / "metrics.jsonl").read_bytes()
    second = subprocess.run(
      [sys.executable, "-m", "experiments.train", *arguments],
      env=environment,
      cwd=ROOT,
      capture_output=True,
      text=True,
      timeout=300,
    )
    assert second.returncode == 2
    assert second.stderr == f"error: another process is running in {directory}\n"
    assert (directory / "metrics.jsonl").read_bytes() == before
    os.kill(first.pid, signal.SIGCONT)
    assert first.wait(timeout=300) == 0, first.stderr.read()
  finally:
    first.kill()
    first.stderr.close()
  assert json.loads((directory / "status.json").read_text())["environment_steps"] == 12 * TURN


def test_a_full_disk_is_one_line(tmp_path, capfd):
  """/dev/full takes no byte: a directory cannot be made below it, nor a file be written."""
  (run,) = tiny_study([0]).runs()
  config = tmp_path / "config.yaml"
  save_config(run.config, config)
  assert guarded(main, ["--config", str(config), "--out", "/dev/full/run"]) == 1
  lines = capfd.readouterr().err.splitlines()
  assert len(lines) == 1
  assert lines[0].startswith("error: /dev/full/run: ")


def test_what_the_system_refuses_is_one_line(capsys):
  assert guarded(run_command, ["evaluate", "x" * 300]) == 1
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 1
  assert lines[0].startswith("error: [Errno 36] File name too long")
