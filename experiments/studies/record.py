"""What a directory of runs is a study of: `study.json` beside the runs, for reports.

It says which label each run has, and which agents are to be set against one another.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import json
from pathlib import Path
from typing import Any

from experiments.studies.study import Contrast, RunSpec, Study
from training.json_file import write_json

FILE = "study.json"


@dataclasses.dataclass(frozen=True)
class StudyRecord:
  """What `study.json` says.

  Attributes:
    name: of the study.
    preset: of the study.
    labels: name of a run's directory -> label of its agent.
    contrasts: pairs of agents that differ by one change.
    figures: title -> labels of agents shown together.
  """

  name: str
  preset: str
  labels: Mapping[str, str]
  contrasts: tuple[Contrast, ...]
  figures: Mapping[str, tuple[str, ...]]


def save_record(
  study: Study, runs: Sequence[RunSpec], directory: Path, *, name: str, preset: str
) -> None:
  """Writes `study.json`; labels of runs that other filters of the study made there stay.

  Args:
    study: what the runs are of.
    runs: those of this command.
    directory: of the study; made if needed.
    name: of the study.
    preset: of the study.

  Raises:
    OSError: it cannot be written.
  """
  directory.mkdir(parents=True, exist_ok=True)
  before = read_record(directory)
  labels = {} if before is None else dict(before.labels)
  labels |= {run.name: run.agent for run in runs}
  record = StudyRecord(name, preset, labels, study.contrasts, study.figures)
  write_json(directory / FILE, _plain(record))


def read_record(directory: Path) -> StudyRecord | None:
  """Reads `study.json`; None where there is none, or none that can be read."""
  try:
    content = json.loads((directory / FILE).read_text(encoding="utf-8"))
    return StudyRecord(
      name=str(content["name"]),
      preset=str(content["preset"]),
      labels={str(run): str(label) for run, label in content["labels"].items()},
      contrasts=tuple(Contrast(**each) for each in content["contrasts"]),
      figures={str(title): tuple(each) for title, each in content["figures"].items()},
    )
  except (OSError, ValueError, KeyError, TypeError, AttributeError):
    return None


def _plain(record: StudyRecord) -> dict[str, Any]:
  return {
    "name": record.name,
    "preset": record.preset,
    "labels": dict(record.labels),
    "contrasts": [dataclasses.asdict(each) for each in record.contrasts],
    "figures": {title: list(labels) for title, labels in record.figures.items()},
  }
