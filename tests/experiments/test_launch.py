"""Launch scripts: what a dry run prints, that what they start parses, and what they do.

Nothing here reaches a cloud: its programs are stand-ins, the "machine" is a folder.
"""

import os
from pathlib import Path
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

from experiments.command_line import run_command

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = ROOT / "experiments" / "launch"
SCRIPTS = sorted(path.name for path in LAUNCH.glob("*.sh"))
TPU = {"PROJECT": "p", "ZONE": "z-1", "BUCKET": "gs://b/r"}


def shell(*command, environment=None, **options):
  """Runs a command without what is set here; returns what it did."""
  kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
  return subprocess.run(
    command, env={**kept, **(environment or {})}, capture_output=True, text=True, timeout=120,
    **options,
  )  # fmt: skip


def dry_run(script, *arguments, **environment):
  """Returns the commands that a script would give, as lists of words."""
  done = shell(str(LAUNCH / script), *arguments, environment={"DRY_RUN": "1", **environment})
  assert (done.returncode, done.stderr) == (0, "")
  return [shlex.split(line) for line in done.stdout.splitlines()]


def check_procplan(words, capsys):
  """Checks that a `procplan` command parses: asked for help, it starts nothing."""
  assert words[0] == "procplan"
  try:
    code = run_command([*words[1:], "--help"])
  except SystemExit as stop:
    code = stop.code
  assert not code
  capsys.readouterr()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_bash_and_says_how_it_is_used(script):
  path = LAUNCH / script
  assert shell("bash", "-n", str(path)).stderr == ""
  text = path.read_text()
  assert re.search(rf"^# .*{re.escape(script)}( |$)", text, re.MULTILINE)
  if script != "env.sh":  # which is sourced
    assert os.access(path, os.X_OK)
    assert "set -euo pipefail" in text


@pytest.mark.parametrize(
  ("script", "arguments", "environment", "expected"),
  [
    ("machine.sh", "", {}, ["procplan sweep --engine local --preset gpu"]),
    (
      "machine.sh",
      "--preset smoke --out 'a b'",
      {"ACCELERATOR": "cpu"},
      ["procplan sweep --engine local --preset smoke --out 'a b'"],
    ),
    (
      "slurm.sh",
      "--preset paper --games maze",
      {"PARTITION": "long", "ACCOUNT": "me", "TIME": "1:00:00", "GPUS": "2"},
      [
        "procplan sweep --engine slurm --cpus 8 --gpus 2 --sbatch=--time=1:00:00"
        " --sbatch=--partition=long --sbatch=--account=me --preset paper --games maze"
      ],
    ),
    (
      "slurm.sh",
      "",
      {"ACCELERATOR": "cpu"},
      [
        "procplan sweep --engine slurm --cpus 8 --gpus 0 --sbatch=--time=24:00:00 --preset gpu",
      ],
    ),
    (
      "slurm_nodes.sh",
      "--preset paper",
      {"NODES": "n1 n2 n3", "SLURM_CPUS_PER_TASK": "32", "HOME": "/nowhere"},
      [
        "ray get-auth-token --generate",
        "srun --overlap --nodes=1 --ntasks=1 --nodelist=n1 ray start --block --disable-usage-stats"
        " --num-cpus 32 --head --include-dashboard=false --port 6379",
        "sleep 20",
        *(
          f"srun --overlap --nodes=1 --ntasks=1 --nodelist={node} ray start --block"
          " --disable-usage-stats --num-cpus 32 --address n1:6379"
          for node in ("n2", "n3")
        ),
        "sleep 20",
        "procplan sweep --engine ray --address n1:6379 --cpus 8 --gpus 1 --preset paper",
      ],
    ),
    (
      "copied.sh",
      "runs/x gs://b/x procplan sweep --preset gpu",
      {},
      [
        "mkdir -p runs/x",
        "gcloud storage rsync --recursive gs://b/x runs/x",
        "procplan sweep --preset gpu",
        "gcloud storage rsync --recursive runs/x gs://b/x",
      ],
    ),
    (
      "tpu.sh",
      "create",
      TPU,
      [
        "gcloud compute tpus tpu-vm create procplan --project=p --zone=z-1"
        " --accelerator-type=v5litepod-8 --version=v2-alpha-tpuv5-lite --spot"
      ],
    ),
    (
      "tpu.sh",
      "delete",
      {**TPU, "NAME": "mine"},
      ["gcloud compute tpus tpu-vm delete mine --project=p --zone=z-1 --quiet"],
    ),
    (
      "tpu.sh",
      "status",
      {**TPU, "OUT": "runs/a"},
      [
        "gcloud compute tpus tpu-vm ssh procplan --project=p --zone=z-1 --worker=all"
        " '--command=cd procplan && tail -n 3 sweep.log && .venv/bin/procplan status runs/a'"
      ],
    ),
  ],
)
def test_a_dry_run_prints_the_exact_commands(script, arguments, environment, expected, capsys):
  commands = dry_run(script, *shlex.split(arguments), **environment)
  assert commands == [shlex.split(line) for line in expected]
  for words in commands:
    if words[0] == "procplan":
      check_procplan(words, capsys)


def test_babysitting_creates_sets_up_runs_looks_and_deletes():
  commands = dry_run("tpu.sh", "babysit", "--preset", "gpu", **TPU)
  assert [words[4] for words in commands if words[0] == "gcloud"] == [
    "create", "scp", "ssh", "ssh", "ssh", "delete"
  ]  # fmt: skip
  assert all("--worker=all" in words for words in commands if words[4:5] == ["ssh"])


def test_without_options_a_tpu_runs_what_the_other_scripts_do():
  (command,) = dry_run("tpu.sh", "run", **TPU)
  assert "--out runs/tpu --preset gpu" in command[-1].replace("\\", "")


def test_without_a_project_the_tpu_script_says_what_is_missing():
  done = shell(str(LAUNCH / "tpu.sh"), "create")
  assert done.returncode != 0
  assert "PROJECT: the project" in done.stderr
  done = shell(str(LAUNCH / "tpu.sh"), "creat", environment=TPU)
  assert done.returncode == 2
  assert "usage: tpu.sh" in done.stderr


class TestEnvironment:
  def settings(self, **environment):
    done = shell("bash", "-c", f". {LAUNCH}/env.sh && env", environment=environment)
    assert done.stderr == ""
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)

  def test_every_setting_has_a_reason(self):
    text = (LAUNCH / "env.sh").read_text()
    blocks = re.split(r"\n\s*\n", text)
    setting = [block for block in blocks if re.search(r"^\s*export ", block, re.MULTILINE)]
    assert len(setting) >= 6
    assert all(block.lstrip().startswith(("#", "if ")) and "# " in block for block in setting)

  @pytest.mark.parametrize(
    ("accelerator", "platforms"), [("cpu", "cpu"), ("cuda", "cuda,cpu"), ("tpu", "tpu,cpu")]
  )
  def test_no_silent_fall_back_to_the_cpu(self, accelerator, platforms):
    assert self.settings(ACCELERATOR=accelerator)["JAX_PLATFORMS"] == platforms

  def test_only_gpus_get_the_settings_of_gpus(self):
    cuda, cpu = self.settings(ACCELERATOR="cuda"), self.settings()
    assert "--xla_gpu_deterministic_ops=true" in cuda["XLA_FLAGS"]
    assert cuda["XLA_PYTHON_CLIENT_MEM_FRACTION"] == ".90"
    assert {"XLA_FLAGS", "XLA_PYTHON_CLIENT_MEM_FRACTION"}.isdisjoint(cpu)

  def test_what_is_set_already_stays(self):
    own = {"XLA_FLAGS": "--a", "JAX_PLATFORMS": "cuda", "XLA_PYTHON_CLIENT_MEM_FRACTION": ".4"}
    settings = self.settings(ACCELERATOR="cuda", DETERMINISTIC="0", **own)
    assert {name: settings[name] for name in own} == own

  def test_an_unknown_accelerator_is_refused(self):
    done = shell("bash", "-c", f". {LAUNCH}/env.sh", environment={"ACCELERATOR": "gpu"})
    assert done.returncode == 2
    assert "cpu, cuda or tpu" in done.stderr

  def test_xla_takes_the_flags(self):
    """XLA ends a process whose flags it does not know."""
    flags = self.settings(ACCELERATOR="cuda")["XLA_FLAGS"]
    code = "import jax; jax.devices()"
    done = shell(
      sys.executable, "-c", code, environment={"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    )
    assert done.returncode == 0, done.stderr


class TestCopied:
  """`copied.sh`, for real, with a directory in place of a bucket."""

  def start(self, directory, place, code, **environment):
    command = [str(LAUNCH / "copied.sh"), str(directory), str(place)]
    return subprocess.Popen(
      [*command, sys.executable, "-S", "-E", "-c", code, str(directory)],
      env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **environment},
      start_new_session=True,
    )

  def test_what_was_saved_outlives_the_machine(self, tmp_path):
    """The machine is lost, with all its processes and files; another one continues."""
    count = (
      "import pathlib, sys, time\n"
      "own = pathlib.Path(sys.argv[1]) / 'run' / 'checkpoints'\n"
      "own.mkdir(parents=True, exist_ok=True)\n"
      "while True:\n"
      "  n = len(list(own.iterdir()))\n"
      "  if n == 20: sys.exit(7)\n"
      "  (own / f'{n:02}').write_text(str(n))\n"
      "  time.sleep(0.02)\n"
    )
    slow = count.replace("0.02", "0.2")
    place = tmp_path / "place"
    lost = self.start(tmp_path / "a", place, slow, COPY_SECONDS="0.1")
    while not list(place.glob("run/checkpoints/0[3-9]")):
      time.sleep(0.05)
    os.killpg(lost.pid, signal.SIGKILL)
    lost.wait()
    shutil.rmtree(tmp_path / "a")
    saved = len(list(place.glob("run/checkpoints/*")))
    assert 3 < saved < 20
    done = self.start(tmp_path / "b", place, count, COPY_SECONDS="60")
    assert done.wait(timeout=60) == 7  # the command's own exit code
    assert len(list(place.glob("run/checkpoints/*"))) == 20

  def test_sigterm_reaches_the_command_and_what_it_then_saves_is_copied(self, tmp_path):
    code = (
      "import pathlib, signal, sys, time\n"
      "own = pathlib.Path(sys.argv[1])\n"
      "def stop(*_):\n"
      "  (own / 'saved').touch(); sys.exit(75)\n"
      "signal.signal(signal.SIGTERM, stop)\n"
      "(own / 'ready').touch()\n"
      "while True: time.sleep(0.02)\n"
    )
    process = self.start(tmp_path / "a", tmp_path / "place", code, COPY_SECONDS="60")
    while not (tmp_path / "a" / "ready").exists():
      time.sleep(0.02)
    process.terminate()
    assert process.wait(timeout=60) == 75
    assert (tmp_path / "place" / "saved").exists()

  def test_a_bucket_that_cannot_be_asked_is_not_taken_for_an_empty_one(self, tmp_path):
    """Runs that begin anew would be copied over those that are there."""
    gcloud = tmp_path / "bin" / "gcloud"
    gcloud.parent.mkdir()
    place, told = tmp_path / "a", tmp_path / "told"
    for words, code, called in (
      ("ERROR: (gcloud.storage.ls) One or more URLs matched no objects.", 7, True),
      ("ERROR: (gcloud.storage.ls) HTTPError 503: try again", 1, False),
    ):
      gcloud.write_text(
        f'#!/bin/sh\n[ "$2" = ls ] || {{ echo "$2" >> {told}; exit 0; }}\n'
        f"echo '{words}' >&2\nexit 1\n"
      )
      gcloud.chmod(0o755)
      ran = "import pathlib, sys; (pathlib.Path(sys.argv[1]) / 'ran').touch(); sys.exit(7)"
      path = f"{gcloud.parent}:{os.environ['PATH']}"
      process = self.start(place, "gs://b/x", ran, PATH=path)
      assert process.wait(timeout=60) == code
      assert (place / "ran").exists() == called
      assert told.exists() == called
      shutil.rmtree(place)
      told.unlink(missing_ok=True)


# Google Cloud, as far as tpu.sh uses it: the virtual machine is the folder `vm`. Every look at
# its state may find that it has been taken away: `states` says so, one line a look.
GCLOUD = """#!/bin/bash
echo "$4" >> "$CLOUD/calls"
case "$4" in
  create) mkdir "$CLOUD/vm" ;;
  delete) rm -r "$CLOUD/vm" ;;
  scp) [ ! -e "$CLOUD/refuses" ] || { rm "$CLOUD/refuses"; exit 255; }; cp "$5" "$CLOUD/vm" ;;
  describe)
    [ -d "$CLOUD/vm" ] || exit 1
    state=$(head -n 1 "$CLOUD/states")
    sed -i 1d "$CLOUD/states"
    echo "${state:-READY}" ;;
  ssh)
    for word in "$@"; do case "$word" in --command=*) command="${word#--command=}" ;; esac; done
    cd "$CLOUD/vm" && HOME="$CLOUD/vm" bash -c "$command" ;;
esac
"""
PYTHON = """#!/bin/bash
mkdir -p .venv/bin
ln -sf "$CLOUD/bin/pip" "$CLOUD/bin/procplan" .venv/bin
"""
# The sweep: ends with the next exit code of the file `codes`.
PROCPLAN = """#!/bin/bash
[ "$1" = sweep ] || exit 0
printf '%s\\n' "$*" >> "$CLOUD/sweeps"
ls runs/tpu >> "$CLOUD/found"
touch "runs/tpu/start-$(wc -l < "$CLOUD/sweeps")"
code=$(head -n 1 "$CLOUD/codes")
sed -i 1d "$CLOUD/codes"
exit "$code"
"""


@pytest.fixture
def cloud(tmp_path):
  """The environment of a script that uses a cloud which is a folder."""
  folder = tmp_path / "cloud"
  (folder / "bin").mkdir(parents=True)
  programs = {"gcloud": GCLOUD, "python3.11": PYTHON, "procplan": PROCPLAN}
  for name in ("sudo", "pip"):
    programs[name] = "#!/bin/sh\nexit 0\n"
  for name, text in programs.items():
    (folder / "bin" / name).write_text(text)
    (folder / "bin" / name).chmod(0o755)
  return folder


def babysit(cloud, *, states, codes):
  """Babysits a sweep to its end."""
  (cloud / "states").write_text("".join(f"{state}\n" for state in states))
  (cloud / "codes").write_text("".join(f"{code}\n" for code in codes))
  environment = {
    "CLOUD": str(cloud),
    "PATH": f"{cloud}/bin:{os.environ['PATH']}",
    "PROJECT": "p",
    "ZONE": "z",
    "BUCKET": str(cloud / "bucket"),
    "POLL_SECONDS": "0.2",
    "COPY_SECONDS": "0.2",
  }
  return shell(
    str(LAUNCH / "tpu.sh"), "babysit", "--preset", "gpu", "--filter", "game=starpilot|coinrun",
    environment=environment,
  )  # fmt: skip


@pytest.mark.skipif(shutil.which("setsid") is None, reason="util-linux is not there")
class TestBabysit:
  def test_a_sweep_that_is_done_is_deleted(self, cloud, capsys):
    done = babysit(cloud, states=[], codes=[0])
    assert done.returncode == 0, done.stderr
    calls = (cloud / "calls").read_text().split()
    assert [name for name in calls if name not in ("describe", "ssh")] == [
      "create",
      "scp",
      "delete",
    ]
    (sweep,) = (cloud / "sweeps").read_text().splitlines()
    expected = "sweep --engine local --processes 1 --out runs/tpu --preset gpu --filter"
    assert sweep == f"{expected} game=starpilot|coinrun"
    check_procplan(["procplan", *sweep.split()], capsys)
    assert (cloud / "bucket" / "start-1").exists()

  def test_a_preempted_vm_is_made_again_and_the_sweep_continues(self, cloud):
    done = babysit(cloud, states=["READY", "PREEMPTED"], codes=[75, 75, 0])
    assert done.returncode == 0, done.stderr
    calls = (cloud / "calls").read_text().split()
    assert calls.count("create") == calls.count("delete") == 2
    # The second machine found what the first had left in the bucket.
    assert "start-1" in (cloud / "found").read_text()

  def test_a_new_vm_that_refuses_the_first_connection_is_set_up_all_the_same(self, cloud):
    (cloud / "refuses").touch()
    done = babysit(cloud, states=[], codes=[0])
    assert done.returncode == 0, done.stderr
    calls = (cloud / "calls").read_text().split()
    assert [calls.count(name) for name in ("create", "scp", "delete")] == [1, 2, 1]
    assert len((cloud / "sweeps").read_text().splitlines()) == 1

  def test_a_failed_sweep_leaves_the_vm_to_be_looked_at(self, cloud):
    done = babysit(cloud, states=[], codes=[1])
    assert done.returncode == 1
    assert "the sweep failed" in done.stderr
    assert (cloud / "vm").is_dir()


class TestSkyPilot:
  task = yaml.safe_load((LAUNCH / "sky.yaml").read_text())

  def test_its_fields_are_those_of_a_task(self):
    assert set(self.task) <= {
      "name", "workdir", "num_nodes", "resources", "envs", "file_mounts", "setup", "run"
    }  # fmt: skip
    assert self.task["resources"]["use_spot"] is True

  @pytest.mark.parametrize("part", ["setup", "run"])
  def test_its_scripts_are_bash(self, part):
    assert shell("bash", "-n", "-c", self.task[part]).stderr == ""

  def test_it_keeps_its_runs_in_the_bucket_and_its_command_parses(self, tmp_path, capsys):
    line = self.task["run"].strip().splitlines()[-1]
    words = shlex.split(line.replace("$OPTIONS", self.task["envs"]["OPTIONS"]))
    assert words[0] == "experiments/launch/copied.sh"
    assert words[2].startswith("/bucket/")
    assert next(iter(self.task["file_mounts"])) == "/bucket"
    check_procplan(words[3:], capsys)


def test_an_image_has_nothing_that_git_ignores():
  """Else a build would take along gigabytes of runs, and an environment for another path."""
  ignored = [
    {line.strip("/") for line in (ROOT / name).read_text().split("\n") if line[:1] not in ("", "#")}
    for name in (".gitignore", ".dockerignore")
  ]
  assert {name.removeprefix("**/") for name in ignored[1]} >= ignored[0] | {".git"}


@pytest.mark.parametrize("kind", ["cpu", "cuda", "tpu"])
class TestDocker:
  def test_what_it_installs_is_there(self, kind):
    text = (LAUNCH / f"Dockerfile.{kind}").read_text()
    extras = re.search(r"--editable '\.\[([a-z,]+)\]'", text).group(1).split(",")
    setup = (ROOT / "setup.py").read_text()
    assert all(f'"{extra}": ' in setup for extra in extras)
    assert (kind in extras) == (kind != "cpu")
    assert "FROM python:3.11" in text
    assert f"ENV ACCELERATOR={kind}" in text

  def test_its_entry_point_hands_the_command_over(self, kind, tmp_path):
    text = (LAUNCH / f"Dockerfile.{kind}").read_text()
    entry = yaml.safe_load(re.search(r"^ENTRYPOINT (.*)$", text, re.MULTILINE).group(1))
    program = tmp_path / "procplan"
    program.write_text('#!/bin/sh\necho "$JAX_PLATFORMS" "$@"\n')
    program.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    environment = {"PATH": path, "ACCELERATOR": kind}
    done = shell(*entry, "status", "a b", environment=environment, cwd=ROOT)
    assert done.stdout.split()[1:] == ["status", "a", "b"]
    assert done.stdout.startswith(kind)

  def test_the_command_in_its_head_parses(self, kind, capsys):
    text = (LAUNCH / f"Dockerfile.{kind}").read_text()
    words = shlex.split(re.search(rf"procplan:{kind} (\w+ .*)$", text, re.MULTILINE).group(1))
    check_procplan(["procplan", *words], capsys)
