"""The local engine: every command is a subprocess, a few of them side by side.

They share out the cores, and the GPUs where there are any.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import os
import shutil
import subprocess

from experiments.engines.interface import Task
from experiments.errors import UsageError

GPU_MEMORY = 0.9  # of a GPU, for all the runs on it together, where the variable does not say
FRACTION = "XLA_PYTHON_CLIENT_MEM_FRACTION"


@dataclasses.dataclass(frozen=True)
class Slot:
  """What one process at a time may use.

  Attributes:
    cores: numbers of CPU cores.
    gpus: numbers or names of GPUs, as CUDA_VISIBLE_DEVICES takes them.
    gpu_share: of the memory of each of these GPUs.
  """

  cores: tuple[int, ...]
  gpus: tuple[str, ...] = ()
  gpu_share: float = 1.0

  def environment(self) -> Mapping[str, str]:
    """Returns the variables that keep a process to its GPUs; none where there are no GPUs.

    Raises:
      UsageError: the share of a GPU's memory that is set here is no number.
    """
    if not self.gpus:
      return {}
    variables = {"CUDA_VISIBLE_DEVICES": ",".join(self.gpus)}
    if self.gpu_share < 1:
      variables[FRACTION] = f"{_gpu_memory() * self.gpu_share:.3f}"
    return variables


def share_out(processes: int, *, cores: Sequence[int], gpus: Sequence[str] = ()) -> list[Slot]:
  """Deals cores and GPUs out to slots, evenly; with fewer of a kind, several slots share one."""
  return [
    Slot(
      _deal(cores, i, processes),
      _deal(gpus, i, processes) if gpus else (),
      1 / -(-processes // len(gpus)) if gpus else 1.0,
    )
    for i in range(processes)
  ]


def usable_gpus() -> list[str]:
  """Returns the GPUs that this process may use: what CUDA_VISIBLE_DEVICES says, or all."""
  listed = os.environ.get("CUDA_VISIBLE_DEVICES")
  if listed is not None:
    return [name.strip() for name in listed.split(",") if name.strip()]
  program = shutil.which("nvidia-smi")
  if program is None:
    return []
  done = subprocess.run(
    [program, "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True
  )
  return done.stdout.split() if done.returncode == 0 else []


class LocalEngine:
  """Starts subprocesses of this process, one in every slot."""

  def __init__(self, slots: Sequence[Slot]):
    self._slots = slots
    self._attempts: list[LocalAttempt | None] = [None] * len(slots)

  def __enter__(self) -> "LocalEngine":
    return self

  def __exit__(self, *unused) -> None:
    """Nothing is held: the pool has ended what it started."""

  def has_room(self) -> bool:
    """Whether a slot is free."""
    return self._free() is not None

  def start(self, task: Task) -> "LocalAttempt":
    """Starts a command in a free slot; OSError where it cannot be started."""
    number = self._free()
    slot = self._slots[number]
    with task.log.open("ab") as log, _on_cores(slot.cores):
      process = subprocess.Popen(
        task.command,
        cwd=task.directory,
        env={**os.environ, **task.environment, **slot.environment()},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # a terminal's Ctrl-C comes through this process only
      )
    self._attempts[number] = LocalAttempt(process, slot)
    return self._attempts[number]

  def _free(self) -> int | None:
    """Returns the first slot whose command has ended."""
    for number, attempt in enumerate(self._attempts):
      if attempt is None or attempt.poll() is not None:
        return number
    return None


class LocalAttempt:
  """A subprocess and the slot that it is in."""

  def __init__(self, process: subprocess.Popen, slot: Slot):
    self.process = process
    self.slot = slot

  @property
  def label(self) -> str:
    """Says the process's number."""
    return f"process {self.process.pid}"

  def poll(self) -> int | None:
    """Returns the exit code, None while it runs."""
    return self.process.poll()

  def send_signal(self, number: int) -> None:
    """Sends it a signal."""
    with contextlib.suppress(ProcessLookupError):
      self.process.send_signal(number)

  def kill(self) -> None:
    """Kills it and waits for its end."""
    self.process.kill()
    self.process.wait()


def _gpu_memory() -> float:
  """Returns the share of a GPU's memory that all the runs on it together may take."""
  said = os.environ.get(FRACTION, str(GPU_MEMORY))
  try:
    return float(said)
  except ValueError:
    raise UsageError(f"{FRACTION} must be a number, got {said!r}") from None


def _deal(things: Sequence, i: int, processes: int) -> tuple:
  """Returns the i-th process's part of `things`, or the one that it shares."""
  return tuple(things[i::processes]) or (things[i % len(things)],)


@contextlib.contextmanager
def _on_cores(cores: Sequence[int]) -> Iterator[None]:
  """What this thread starts meanwhile may use `cores` only: XLA sizes its threads by that."""
  before = os.sched_getaffinity(0)
  os.sched_setaffinity(0, cores)
  try:
    yield
  finally:
    os.sched_setaffinity(0, before)
