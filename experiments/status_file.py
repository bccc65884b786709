"""status.json of a run, as it is read by those who look on."""

from collections.abc import Mapping
import json
from pathlib import Path
from typing import Any

from experiments.json_fields import find_wrong, is_count, is_number_or_null, is_text, shown

STATUS_FILE = "status.json"
_RULES = {
  "state": is_text,
  "error": is_text,
  "environment_steps": is_count,
  "total_environment_steps": is_count,
  "steps_per_second": is_number_or_null,
  "seconds": is_number_or_null,
  "seconds_left": is_number_or_null,
  "episode_return": is_number_or_null,
}


def read_status(directory: Path) -> tuple[Mapping[str, Any], str]:
  """Reads what a run says of itself.

  Args:
    directory: of the run; need not be there.

  Returns:
    The fields, of which any may be missing, and what is wrong with the file: nothing where
    it is whole or not there. Of a file that is wrong no field is believed.
  """
  path = directory / STATUS_FILE
  try:
    content = json.loads(path.read_text())
  except (FileNotFoundError, NotADirectoryError):
    return {}, ""
  except (OSError, ValueError, RecursionError) as error:
    return {}, f"{path} cannot be read: {error}"
  if not isinstance(content, dict):
    return {}, f"{path} must be an object, got {shown(content)}"
  wrong = find_wrong(content, _RULES)
  return ({}, f"{path}: {wrong}") if wrong else (content, "")
