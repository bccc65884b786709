"""How much memory the process holds, for a row of every turn: it should stay flat."""

from pathlib import Path
import resource

STATUS = Path("/proc/self/statm")  # pages: in all, resident, ...


def resident_bytes() -> int | None:
  """Returns the memory that is resident now, or None where the system does not tell (no /proc)."""
  try:
    return int(STATUS.read_text().split()[1]) * resource.getpagesize()
  except OSError:
    return None
