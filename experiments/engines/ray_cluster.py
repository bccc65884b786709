"""The Ray engine: every command is a subprocess of an actor, somewhere on a Ray cluster.

Ray places the actors and counts the resources; it carries no data. Every node needs this
code, the interpreter and the study's directory under the same paths (a shared disk).
"""

from collections.abc import Mapping
import contextlib
import os
from pathlib import Path
import subprocess
import sys
import threading
from types import ModuleType
from typing import Any

from experiments.engines.interface import Task
from experiments.errors import EXIT_FAILED, UsageError

KILLED = -9
KILL_SECONDS = 10.0
OBJECT_STORE_BYTES = 100 * 2**20  # near the smallest that Ray takes: nothing is stored
TOKEN = Path.home() / ".ray" / "auth_token"
NICENESS = "RAY_worker_niceness"  # Ray itself takes 15: behind everything else on the machine
# Whatever its name says: with 0, Ray 2.60 listens on 127.0.0.1 alone, on Linux, too.
LOOPBACK_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"

# Carried out before the command. The run gets SIGTERM when its actor's process is gone, so
# that it saves and stops: it is to be started again elsewhere. Ray's workers block signals.
LAUNCH = (
  "import ctypes, os, signal, sys\n"
  "ctypes.CDLL(None).prctl(1, signal.SIGTERM)\n"
  "signal.pthread_sigmask(signal.SIG_SETMASK, [])\n"
  "os.getppid() == int(sys.argv[1]) or sys.exit(75)\n"
  "os.execv(sys.argv[2], sys.argv[2:])\n"
)


class CommandRunner:
  """Carries out one command in the process of a Ray actor. A log is appended to."""

  def __init__(self, task: Mapping[str, Any]):
    self._task = task
    self._process: subprocess.Popen | None = None
    self._lock = threading.Lock()
    self._first_signal: int | None = None

  def where(self) -> str:
    """Returns the actor's process and node, in words."""
    return f"Ray worker {os.getpid()} on {os.uname().nodename}"

  def run(self) -> int:
    """Returns the command's exit code, -N where signal N ended it."""
    task = self._task
    launch = (sys.executable, "-S", "-E", "-c", LAUNCH, str(os.getpid()))
    with open(task["log"], "ab") as log, self._lock:
      if self._first_signal is not None:
        return -self._first_signal
      self._process = subprocess.Popen(
        [*launch, *task["command"]],
        cwd=task["directory"],
        env={**os.environ, **task["environment"]},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
      )
    return self._process.wait()

  def send_signal(self, number: int) -> None:
    """Sends the command a signal; one that comes too early ends it before it starts."""
    with self._lock:
      if self._process is None:
        self._first_signal = number
      else:
        self._process.send_signal(number)


class RayEngine:
  """Starts commands on a Ray cluster: the one at `address`, or one on this machine.

  Attributes:
    address: of a running cluster; None starts one for as long as the engine is entered.
    processes: commands that are handed to Ray at a time; what does not fit waits there.
    cpus: of each command; also the threads that XLA computes with.
    gpus: of each command.
  """

  def __init__(self, *, processes: int, cpus: int, gpus: float, address: str | None):
    self._processes, self._cpus, self._gpus = processes, cpus, gpus
    self._address = address
    self._attempts: list[RayAttempt] = []
    self._ray: ModuleType | None = None

  def __enter__(self) -> "RayEngine":
    """Connects; UsageError where that fails or where no node is large enough."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if self._address is None:
      os.environ[LOOPBACK_ONLY] = "0"
      os.environ[NICENESS] = "0"
    elif TOKEN.exists():  # what `ray start` goes by, and ray.init with an address does not
      os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
      import ray
    except ImportError:
      raise UsageError("--engine ray needs Ray: pip install 'procplan[sweep]'") from None
    self._ray = ray
    settings = {"log_to_driver": False, "logging_level": "error"}
    if self._address is None:
      settings |= {
        "address": "local",  # a cluster of our own, even where another runs on this machine
        "num_cpus": self._processes * self._cpus,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
      }
    else:
      settings["address"] = self._address
    try:
      ray.init(**settings)
    except (ConnectionError, ValueError, RuntimeError) as error:
      what = "--engine ray" if self._address is None else f"--address {self._address}"
      raise UsageError(f"{what}: {_one_line(error)}") from None
    try:
      self._check_nodes()
    except UsageError:
      ray.shutdown()
      raise
    return self

  def __exit__(self, *unused) -> None:
    """Disconnects, and ends a cluster that was started here."""
    self._ray.shutdown()

  def has_room(self) -> bool:
    """Whether fewer than `processes` commands are with Ray."""
    self._attempts = [each for each in self._attempts if each.poll() is None]
    return len(self._attempts) < self._processes

  def start(self, task: Task) -> "RayAttempt":
    """Hands a command to Ray, which starts it as soon as its resources are free."""
    content = {
      "command": task.command,
      "directory": str(task.directory),
      "environment": {"NPROC": str(self._cpus), **task.environment},
      "log": str(task.log),
    }
    actor = self._ray.remote(CommandRunner).options(
      num_cpus=self._cpus,
      num_gpus=self._gpus,
      max_concurrency=2,  # a signal comes while the command runs
      max_restarts=0,  # the pool tries again
    )
    attempt = RayAttempt(self._ray, actor.remote(content), task)
    self._attempts.append(attempt)
    return attempt

  def _check_nodes(self) -> None:
    nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
    if not any(
      node.get("CPU", 0) >= self._cpus and node.get("GPU", 0) >= self._gpus for node in nodes
    ):
      has = ", ".join(f"{node.get('CPU', 0):g} and {node.get('GPU', 0):g}" for node in nodes)
      raise UsageError(
        f"no node of the Ray cluster has {self._cpus} CPUs and {self._gpus:g} GPUs; they have {has}"
      )


class RayAttempt:
  """A command that Ray has been given."""

  def __init__(self, ray: ModuleType, actor: Any, task: Task):
    self._ray, self._actor, self._task = ray, actor, task
    self._where = actor.where.remote()
    self._result = actor.run.remote()
    self._code: int | None = None

  @property
  def label(self) -> str:
    """Says which node runs it, or that it waits for one."""
    ready, _ = self._ray.wait([self._where], timeout=0)
    if not ready:
      return "handed to Ray, waits for a place"
    try:
      return self._ray.get(self._where)
    except self._ray.exceptions.RayError:
      return "on a Ray worker that was lost"

  def poll(self) -> int | None:
    """Returns the exit code; that of SIGKILL where Ray has lost the worker or its node."""
    if self._code is None and self._ray.wait([self._result], timeout=0)[0]:
      self._code = self._take_result()
      self._ray.kill(self._actor)
    return self._code

  def send_signal(self, number: int) -> None:
    """Has the actor send its command a signal."""
    self._actor.send_signal.remote(number)

  def kill(self) -> None:
    """Ends the command, then the actor."""
    with contextlib.suppress(self._ray.exceptions.RayError):
      self._ray.get(self._actor.send_signal.remote(-KILLED), timeout=KILL_SECONDS)
    self._ray.kill(self._actor)
    self._code = KILLED if self._code is None else self._code

  def _take_result(self) -> int:
    exceptions = self._ray.exceptions
    try:
      return self._ray.get(self._result)
    except exceptions.RayTaskError as error:  # the command could not be started
      self._say(error)
      return EXIT_FAILED
    except exceptions.RayError as error:
      self._say(error)
      return KILLED

  def _say(self, error: Exception) -> None:
    with contextlib.suppress(OSError), self._task.log.open("a") as log:
      log.write(f"{type(error).__name__}: {_one_line(error)}\n")


def _one_line(error: Exception) -> str:
  return (str(error).strip().splitlines() or [type(error).__name__])[0]
