"""JSON files that are replaced as a whole. Imports no JAX: light commands write them too."""

from collections.abc import Mapping
import json
from pathlib import Path
from typing import Any

from training.whole_file import whole_file


def write_json(path: Path, content: Mapping[str, Any]) -> None:
  """Replaces a JSON file as a whole: a reader sees the old or the new one."""
  text = json.dumps(content, indent=2, allow_nan=False) + "\n"
  with whole_file(path) as part:
    part.write_text(text)


def read_json(path: Path) -> dict[str, Any]:
  """Returns a file's object; an empty one if there is none that can be read."""
  try:
    content = json.loads(path.read_text())
  except (OSError, ValueError):
    return {}
  return content if isinstance(content, dict) else {}
