"""The Slurm engine: one array job, whose elements are the runs.

It only submits: what goes into the queue again is settled by the script itself, on the
nodes. All nodes need this code, the interpreter and the study's directory under the same
paths (a shared disk).
"""

from collections.abc import Sequence
import dataclasses
from pathlib import Path
import shlex
import shutil
import subprocess

from experiments.engines.interface import Task
from experiments.errors import EXIT_PREEMPTED, UsageError
from experiments.processes import MAX_RETRIES

SECONDS_TO_SAVE = 120  # from SIGTERM to the end of the allocation
SUBMITTED = "submitted.txt"  # numbers of the array jobs, one a line
REQUEUES = "requeues.txt"  # of a run: the last checkpoint at every return to the queue, one a line


@dataclasses.dataclass(frozen=True)
class SlurmResources:
  """What every run asks of Slurm.

  Attributes:
    cpus: cores.
    gpus: GPUs.
    processes: runs side by side; None leaves it to Slurm.
    options: more options of sbatch, as on its command line.
  """

  cpus: int
  gpus: int
  processes: int | None
  options: tuple[str, ...] = ()


def make_script(tasks: Sequence[Task], directory: Path, resources: SlurmResources) -> str:
  """Returns the batch script of an array with one element for each task.

  A run that was stopped by SIGTERM (exit code 75) or ended by a signal goes back into the
  queue and continues from its checkpoint, at most `MAX_RETRIES` times without a new one. A
  run that fails ends its own element only.

  Args:
    tasks: of one program and environment; each has its files beside its log.
    directory: of the study.
    resources: of each run.
  """
  directory = directory.absolute()
  first = tasks[0]
  names = "\n".join(f"  {shlex.quote(task.log.parent.name)}" for task in tasks)
  variables = " ".join(f"{k}={shlex.quote(v)}" for k, v in first.environment.items())
  program = first.command[: first.command.index("--config")]
  return SCRIPT.format(
    header="\n".join(f"#SBATCH {option}" for option in _options(len(tasks), directory, resources)),
    names=names,
    study=shlex.quote(str(directory)),
    root=shlex.quote(str(first.directory)),
    variables=variables,
    program=shlex.join(program),
    preempted=EXIT_PREEMPTED,
    requeues=REQUEUES,
    retries=MAX_RETRIES,
  )


def _options(elements: int, directory: Path, resources: SlurmResources) -> list[str]:
  throttle = f"%{resources.processes}" if resources.processes else ""
  return [
    f"--job-name={shlex.quote(f'procplan-{directory.name}')}",
    f"--array=0-{elements - 1}{throttle}",
    "--nodes=1",
    "--ntasks=1",
    f"--cpus-per-task={resources.cpus}",
    *([f"--gres=gpu:{resources.gpus}"] if resources.gpus else []),
    "--requeue",
    f"--signal=TERM@{SECONDS_TO_SAVE}",
    "--open-mode=append",
    f"--output={shlex.quote(f'{directory}/slurm/%A_%a.txt')}",
    *resources.options,
  ]


def write_script(tasks: Sequence[Task], directory: Path, resources: SlurmResources) -> Path:
  """Prepares the runs' directories and writes the script; returns its path.

  Raises:
    OSError: something could not be written.
  """
  folder = directory / "slurm"
  folder.mkdir(parents=True, exist_ok=True)
  for task in tasks:
    task.prepare()
  path = folder / "sweep.sbatch"
  path.write_text(make_script(tasks, directory, resources))
  return path


def forget_requeues(tasks: Sequence[Task]) -> None:
  """Has the runs' returns to the queue counted anew: someone asks for those given up once more.

  Raises:
    OSError: a file could not be removed.
  """
  for task in tasks:
    (task.log.parent / REQUEUES).unlink(missing_ok=True)


def submit(script: Path) -> str:
  """Hands a script of `write_script` to Slurm; returns the number of the job.

  Raises:
    UsageError: there is no Slurm here, or it refuses the script.
  """
  number = _slurm("sbatch", "--parsable", str(script)).split(";")[0].strip()
  with (script.parent / SUBMITTED).open("a") as file:
    file.write(f"{number}\n")
  return number


def queued(directory: Path) -> list[str]:
  """Returns what is still in Slurm's queue of the arrays submitted for a study.

  Raises:
    UsageError: there is no Slurm here, or it does not answer.
  """
  try:
    numbers = set((directory / "slurm" / SUBMITTED).read_text().split())
  except FileNotFoundError:
    return []
  lines = _slurm("squeue", "--me", "--noheader", "--array", "--format=%F %i").splitlines()
  return [line.split()[1] for line in lines if line.split()[0] in numbers]


def _slurm(program: str, *arguments: str) -> str:
  if shutil.which(program) is None:
    raise UsageError(f"--engine slurm: there is no {program} here; --plan prints the script")
  done = subprocess.run([program, *arguments], capture_output=True, text=True)
  if done.returncode:
    raise UsageError(f"{program}: {' '.join(done.stderr.split())}")
  return done.stdout


SCRIPT = """\
#!/usr/bin/env bash
# Written by `procplan sweep --engine slurm`: every element of the array is one run.
{header}

RUNS=(
{names}
)
study={study}
run="$study/${{RUNS[$SLURM_ARRAY_TASK_ID]}}"
log="$run/log.txt"
cd {root} || exit 1
export {variables}
export NPROC="$SLURM_CPUS_PER_TASK"  # threads that XLA computes with

printf -- '--- %s Slurm job %s_%s on %s, start %s\\n' "$(date -Iseconds)" \\
  "$SLURM_ARRAY_JOB_ID" "$SLURM_ARRAY_TASK_ID" "$(hostname)" "${{SLURM_RESTART_COUNT:-0}}" >> "$log"
# A step of its own: --signal goes to steps. srun takes over no --cpus-per-task by itself.
srun --ntasks=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" \\
  {program} --config "$run/config.yaml" --out "$run" >> "$log" 2>&1
code=$?

[ -e "$run/result.json" ] && exit 0
if [ "$code" -ne {preempted} ] && [ "$code" -le 128 ]; then
  exit "$code"  # failed: the end of the log says why
fi
saved=$(find "$run/checkpoints/manifests" -name '*.json' 2> /dev/null | sort -V | tail -n 1)
printf '%s\\n' "${{saved:-none}}" >> "$run/{requeues}"
if [ "$(grep -cxF -- "${{saved:-none}}" "$run/{requeues}")" -gt {retries} ]; then
  printf 'exit code %s again and again without a new checkpoint: given up\\n' "$code" >> "$log"
  exit "$code"
fi
scontrol requeue "$SLURM_JOB_ID"
"""
