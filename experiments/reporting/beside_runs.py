"""Finds what commands leave beside runs: films of episodes, and evaluations of checkpoints.

Films are the files that `procplan evaluate --video` and `procplan imagine` write,
evaluations those of `procplan evaluate --json`.
"""

from collections.abc import Iterable, Iterator, Mapping
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from experiments.reporting.runs import find_run_directories

FILM_KINDS = (".mp4", ".gif")
# What a run keeps for itself: directories of thousands of files, and the files of every run.
_NOT_SEARCHED = frozenset({"checkpoints", "replay", "tensorboard"})
_OF_RUNS = frozenset({"run.json", "result.json", "status.json", "plan.json", "study.json"})
# What a row of an evaluation must say.
_FIELDS = ("level_set", "levels", "policy", "episodes", "episode_return")


@dataclasses.dataclass(frozen=True)
class Film:
  """One film, as one file or as the same in two.

  Attributes:
    files: MP4 before GIF, at least one.
  """

  files: tuple[Path, ...]

  @property
  def stem(self) -> Path:
    """The path without its ending."""
    return self.files[0].with_suffix("")


@dataclasses.dataclass(frozen=True)
class EvaluationFile:
  """What one call of `procplan evaluate` wrote.

  Attributes:
    path: of the file.
    results: one for every run, with `run`, `checkpoint` and `evaluations`.
    problem: why there are none, in words; empty where there are.
  """

  path: Path
  results: tuple[Mapping[str, Any], ...]
  problem: str


def find_films(paths: Iterable[Path | str]) -> list[Film]:
  """Every film below these directories; MP4 and GIF of one name are one film."""
  found: dict[Path, set[Path]] = {}
  for path in _files(paths):
    if path.suffix in FILM_KINDS:
      found.setdefault(path.with_suffix(""), set()).add(path)
  return [Film(tuple(sorted(found[stem], reverse=True))) for stem in sorted(found)]


def find_evaluations(paths: Iterable[Path | str]) -> list[EvaluationFile]:
  """Every evaluation below these directories; other JSON files are not looked at further."""
  candidates = {p for p in _files(paths) if p.suffix == ".json" and p.name not in _OF_RUNS}
  read = [_read_evaluation(path) for path in sorted(candidates)]
  return [each for each in read if each is not None]


def holds_no_run(path: Path | str) -> bool:
  """Whether there are films or evaluations in a directory, and no run."""
  if find_run_directories([path]) != [Path(path)] or (Path(path) / "config.yaml").exists():
    return False
  return bool(find_films([path]) or find_evaluations([path]))


def _files(paths: Iterable[Path | str]) -> Iterator[Path]:
  """The files below these directories, and those that are named themselves."""
  for root in dict.fromkeys(map(Path, paths)):
    if root.is_file():
      yield root
    for directory, below, names in os.walk(root):
      below[:] = sorted(set(below) - _NOT_SEARCHED)
      yield from (Path(directory, name) for name in names)


def _read_evaluation(path: Path) -> EvaluationFile | None:
  """None for a file that is of no evaluation."""
  try:
    content = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError):
    return None
  if not isinstance(content, dict) or content.get("command", [])[:2] != ["procplan", "evaluate"]:
    return None
  try:
    for result in content["runs"]:
      for name in ("run", "agent", "game", "training_levels", "run_seed", "checkpoint"):
        result[name]
      for row in result["evaluations"]:
        {name: row[name] for name in _FIELDS}
  except (KeyError, TypeError) as error:
    return EvaluationFile(path, (), f"it lacks {error}, as one of an older version may")
  return EvaluationFile(path, tuple(content["runs"]), "")
