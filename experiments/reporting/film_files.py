"""Finds films of episodes: the files that `procplan evaluate --video` and `imagine` write."""

from collections.abc import Iterable
import dataclasses
import os
from pathlib import Path

from experiments.reporting.runs import find_run_directories

KINDS = (".mp4", ".gif")
# What a run keeps for itself: thousands of files, none of them a film.
_NOT_SEARCHED = frozenset({"checkpoints", "replay", "tensorboard"})


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


def find_films(paths: Iterable[Path | str]) -> list[Film]:
  """Every film below these directories; MP4 and GIF of one name are one film."""
  found: dict[Path, set[Path]] = {}
  for root in dict.fromkeys(map(Path, paths)):
    for directory, below, names in os.walk(root):
      below[:] = sorted(set(below) - _NOT_SEARCHED)
      for path in (Path(directory, name) for name in names):
        if path.suffix in KINDS:
          found.setdefault(path.with_suffix(""), set()).add(path)
  return [Film(tuple(sorted(found[stem], reverse=True))) for stem in sorted(found)]


def holds_films_alone(path: Path | str) -> bool:
  """Whether there are films in a directory, and no run."""
  if find_run_directories([path]) != [Path(path)] or (Path(path) / "config.yaml").exists():
    return False
  return bool(find_films([path]))
