"""Errors that are the user's to mend, told in one line, and the exit codes."""

from collections.abc import Iterable
import difflib

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_PREEMPTED = 75  # EX_TEMPFAIL: run me again
EXIT_INTERRUPTED = 130  # as after SIGINT


class UsageError(ValueError):
  """A wrong option, field or value; the message is one line and says what is allowed."""


def nearest(name: str, allowed: Iterable[str]) -> str:
  """Returns ` Did you mean 'x'?` for the nearest allowed name, or nothing."""
  found = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
  return f" Did you mean {found[0]!r}?" if found else ""


def unknown(what: str, name: str, allowed: Iterable[str]) -> UsageError:
  """Returns the error for a name that is not among the allowed ones."""
  allowed = sorted(allowed)
  choices = f" Allowed: {', '.join(allowed)}." if len(allowed) <= 20 else ""
  return UsageError(f"unknown {what} {name!r}.{nearest(name, allowed)}{choices}")
