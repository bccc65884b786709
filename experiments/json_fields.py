"""What fields of a JSON file that someone may have edited or damaged must be."""

from collections.abc import Callable, Mapping
import sys
from typing import Any

LARGEST_COUNT = 2**63 - 1
LONGEST_SHOWN = 60  # characters of a wrong value


def is_count(value: Any) -> bool:
  """Whether it is a whole number from 0 to `LARGEST_COUNT`."""
  return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_COUNT


def is_number(value: Any) -> bool:
  """Whether it is a finite number."""
  is_one = isinstance(value, (int, float)) and not isinstance(value, bool)
  return is_one and abs(value) <= sys.float_info.max  # an int may be larger, NaN compares false


def is_number_or_null(value: Any) -> bool:
  """Whether it is a finite number, or JSON's null."""
  return value is None or is_number(value)


def is_text(value: Any) -> bool:
  """Whether it is a string."""
  return isinstance(value, str)


_WORDS = {
  is_count: f"a whole number from 0 to {LARGEST_COUNT}",
  is_number: "a finite number",
  is_number_or_null: "a finite number or null",
  is_text: "a string",
}


def find_wrong(
  content: Mapping[str, Any], rules: Mapping[str, Callable[[Any], bool]]
) -> str | None:
  """Returns which field is wrong, its value and what is allowed; None where nothing is.

  Args:
    content: of the file; fields may be missing, and others may be there.
    rules: field -> one of the functions above.
  """
  for name, is_right in rules.items():
    if name in content and not is_right(content[name]):
      return f"{name} must be {_WORDS[is_right]}, got {shown(content[name])}"
  return None


def shown(value: Any) -> str:
  """Returns a wrong value as it is told: shortened where it is long."""
  text = repr(value)
  return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
