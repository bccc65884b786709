"""What to say when a name is not one that we know."""

from collections.abc import Iterable
import difflib


def unknown_name(kind: str, name: str, allowed: Iterable[str]) -> str:
  """Returns one line that names the nearest allowed name, and all of them.

  Args:
    kind: what was asked for, e.g. `game`.
    name: what was given.
    allowed: every valid name, at least one.

  Returns:
    The text of an error message.
  """
  allowed = list(allowed)
  (nearest,) = difflib.get_close_matches(str(name).lower(), allowed, n=1, cutoff=0.0)
  return f"unknown {kind} {name!r}: nearest is {nearest!r}; allowed: {', '.join(allowed)}"
