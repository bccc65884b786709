"""Facts about the machine that a speed depends on: processor, cores, load, memory."""

import contextlib
import os
from pathlib import Path
import platform
import resource
import sys
import time
from typing import Any

# Load average per core above which other processes must have been at work.
QUIET_LOAD_PER_CORE = 0.25


def processor() -> str:
  """Returns the processor's name where the system tells it."""
  with contextlib.suppress(OSError):
    for line in Path("/proc/cpuinfo").read_text().splitlines():
      if line.startswith("model name"):
        return line.partition(":")[2].strip()
  return platform.processor() or platform.machine()


def usable_cores() -> int:
  """Returns how many cores this process may run on."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def describe() -> dict[str, Any]:
  """Returns processor, cores and load average of this moment."""
  return {
    "processor": processor(),
    "cores": usable_cores(),
    "cores_of_machine": os.cpu_count(),
    "load_average": [round(load, 2) for load in os.getloadavg()],
    "python": platform.python_version(),
    "system": platform.platform(),
  }


def is_quiet(load_average: float, cores_of_machine: int) -> bool:
  """Whether a load average of the last minute leaves the cores to a measurement."""
  return load_average <= QUIET_LOAD_PER_CORE * cores_of_machine


class CoreUse:
  """How many cores this process and all others use, from the kernel's counters."""

  def __init__(self):
    self._start = self._read()

  def since_start(self) -> dict[str, float | None]:
    """Returns `own` and `others`, in cores, since this was made; None where not told."""
    now = self._read()
    wall, own, busy = (
      None if a is None or b is None else b - a for a, b in zip(self._start, now, strict=True)
    )
    others = None if busy is None else round(max(0.0, (busy - own) / wall), 2)
    return {"own": round(own / wall, 2), "others": others}

  def _read(self) -> tuple[float, float, float | None]:
    return time.monotonic(), time.process_time(), _busy_seconds()


def _busy_seconds() -> float | None:
  """Core seconds that all processes have used since the machine started, or None."""
  try:
    counters = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _, _, interrupts, soft_interrupts = map(int, counters[:7])
  except (OSError, ValueError):
    return None
  ticks = user + nice + system + interrupts + soft_interrupts
  return ticks / os.sysconf("SC_CLK_TCK")


def peak_resident_bytes() -> int:
  """Returns the most memory that was resident, since the start or `reset_peak_resident`."""
  with contextlib.suppress(OSError):
    for line in Path("/proc/self/status").read_text().splitlines():
      if line.startswith("VmHWM:"):
        return int(line.split()[1]) * 1024
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == "darwin" else peak * 1024


def reset_peak_resident() -> bool:
  """Makes the present size the peak; returns whether the system can do that."""
  try:
    Path("/proc/self/clear_refs").write_text("5")
  except OSError:
    return False
  return True


def available_bytes() -> int | None:
  """Returns how much memory this process may still take, or None where that is not told.

  The least of what the kernel calls available and of what the control group leaves; its
  page cache counts as free.
  """
  known = [_available_of_machine(), *map(left_in_group, (_GROUP_V2, _GROUP_V1))]
  return min((each for each in known if each is not None), default=None)


# Directory, limit, use, and the entry of memory.stat that says what can be given back.
_GROUP_V2 = ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file")
_GROUP_V1 = (
  "/sys/fs/cgroup/memory",
  "memory.limit_in_bytes",
  "memory.usage_in_bytes",
  "total_inactive_file",
)


def _available_of_machine() -> int | None:
  with contextlib.suppress(OSError):
    for line in Path("/proc/meminfo").read_text().splitlines():
      if line.startswith("MemAvailable:"):
        return int(line.split()[1]) * 1024
  return None


def left_in_group(group: tuple[str, str, str, str]) -> int | None:
  """Returns what a control group's limit leaves, None where there is none."""
  directory, limit, use, cache = group
  try:
    words = [(Path(directory) / name).read_text().strip() for name in (limit, use)]
    statistics = (Path(directory) / "memory.stat").read_text().split()
  except OSError:
    return None
  if words[0] == "max":
    return None
  reclaimable = dict(zip(statistics[::2], statistics[1::2], strict=False)).get(cache, "0")
  return max(0, int(words[0]) - int(words[1]) + int(reclaimable))
