"""Numbers and lists in words, the same way all over the page."""

from collections.abc import Sequence

NOTHING = "\N{EN DASH}"  # an empty table cell
TIMES = "\N{MULTIPLICATION SIGN}"
_MINUS = "\N{MINUS SIGN}"


def steps_in_words(steps: float) -> str:
  """Three digits: 1_000_000 -> `1M`, 1_015_808 -> `1.02M`, 250_000 -> `250k`, 640 -> `640`."""
  rounded = float(f"{steps:.3g}")
  for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
    if abs(rounded) >= size:
      return f"{rounded / size:g}{unit}"
  return f"{rounded:g}"


def range_of_steps(steps: Sequence[float]) -> str:
  """`0 to 1M`, or `1M` where they are all equal."""
  return " to ".join(dict.fromkeys(steps_in_words(s) for s in (min(steps), max(steps))))


def seconds_in_words(seconds: float) -> str:
  """45 -> `45 s`, 300 -> `5.0 min`, 7200 -> `2.0 h`."""
  if seconds < 90:
    return f"{seconds:.0f} s"
  return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def score_in_words(score: float) -> str:
  """Two decimals, with a real minus sign, and none before zero."""
  return f"{round(score, 2) + 0.0:.2f}".replace("-", _MINUS)


def range_in_words(values: Sequence[float]) -> str:
  """`7.10 to 7.70`."""
  return f"{score_in_words(min(values))} to {score_in_words(max(values))}"


def list_in_words(items: Sequence[object]) -> str:
  """`a`, `a and b`, `a, b and c`."""
  items = [str(item) for item in items]
  return " and ".join(part for part in (", ".join(items[:-1]), *items[-1:]) if part)


def count_in_words(number: int, noun: str) -> str:
  """`1 run`, `2 runs`."""
  return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def slug(*parts: object) -> str:
  """An HTML id of the parts; different parts can only collide in punctuation."""
  text = "-".join(str(part) for part in parts)
  return "".join(letter if letter.isalnum() else "-" for letter in text.lower())
