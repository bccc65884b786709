"""An evaluation that gave no result, while those of other runs may have."""

from collections.abc import Sequence
import dataclasses

from experiments.errors import EXIT_FAILED, EXIT_USAGE


@dataclasses.dataclass(frozen=True)
class Failure:
  """Takes the place of a result.

  Attributes:
    reason: one line, which names the run.
    is_refusal: whether the run itself is the reason, such as a damaged checkpoint.
  """

  reason: str
  is_refusal: bool


def exit_code(failures: Sequence[Failure], *, evaluations: int) -> int:
  """Returns the command's exit code: 2 where nothing could be played, 1 where something failed."""
  if not failures:
    return 0
  all_refused = len(failures) == evaluations and all(each.is_refusal for each in failures)
  return EXIT_USAGE if all_refused else EXIT_FAILED
