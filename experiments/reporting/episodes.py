"""The last training episodes of a run, by level: what `episodes.jsonl` says of them."""

from collections.abc import Iterable
import dataclasses
import json
from pathlib import Path
from typing import Any

from experiments.reporting.runs import Run, is_number

LAST_SHARE = 0.25  # of the run's environment steps
MOST_BYTES = 2 << 20  # read of every file, from its end: some 13,000 episodes


@dataclasses.dataclass(frozen=True)
class LevelRecord:
  """The episodes of one level.

  Attributes:
    returns: of every episode.
    completed: of every episode, whether it reached the level's end.
  """

  returns: tuple[float, ...]
  completed: tuple[bool, ...]

  @property
  def success(self) -> float:
    """Share of the episodes that were completed."""
    return sum(self.completed) / len(self.completed)

  @property
  def mean_return(self) -> float:
    """Mean return of the episodes."""
    return sum(self.returns) / len(self.returns)


@dataclasses.dataclass(frozen=True)
class RecentEpisodes:
  """The last training episodes of one run or several.

  Attributes:
    levels: level seed -> its episodes.
    first_step: environment steps after which the episodes ended, at least.
    problems: what could not be read, in words.
  """

  levels: dict[int, LevelRecord]
  first_step: int
  problems: tuple[str, ...]

  @property
  def count(self) -> int:
    """Number of episodes."""
    return sum(len(record.returns) for record in self.levels.values())


def read_recent_episodes(runs: Iterable[Run]) -> RecentEpisodes:
  """Reads the last quarter of these runs, as far as it is within `MOST_BYTES` of each file.

  Runs of several processes have a file of each. A damaged line is counted in `problems`;
  a half-written last one is what a run in progress looks like.
  """
  found: dict[int, tuple[list[float], list[bool]]] = {}
  problems: list[str] = []
  steps: list[int] = []
  for run in runs:
    begin = (1 - LAST_SHARE) * run.environment_steps
    for path in [run.directory / "episodes.jsonl", *_of_other_processes(run.directory)]:
      for row in _rows(path, problems):
        if row["environment_steps"] >= begin:
          returns, completed = found.setdefault(row["level_seed"], ([], []))
          returns.append(float(row["episode_return"]))
          completed.append(bool(row["level_complete"]))
          steps.append(row["environment_steps"])
  levels = {seed: LevelRecord(tuple(r), tuple(c)) for seed, (r, c) in sorted(found.items())}
  return RecentEpisodes(levels, min(steps, default=0), tuple(problems))


def _of_other_processes(directory: Path) -> list[Path]:
  return sorted(directory.glob("process-*/episodes.jsonl"))


def _rows(path: Path, problems: list[str]) -> list[dict[str, Any]]:
  try:
    with path.open("rb") as file:
      size = file.seek(0, 2)
      file.seek(max(0, size - MOST_BYTES))
      lines = file.read().split(b"\n")
  except FileNotFoundError:
    return []
  except OSError as error:
    problems.append(f"{path} cannot be read: {error}")
    return []
  # The first line is cut where reading begins in the middle, the last one has no end yet.
  whole = lines[1:-1] if size > MOST_BYTES else lines[:-1]
  rows = [row for row in map(_parse, whole) if row is not None]
  if len(rows) < len(whole):
    problems.append(f"{path}: {len(whole) - len(rows)} damaged line(s) left out")
  return rows


def _parse(line: bytes) -> dict[str, Any] | None:
  try:
    row = json.loads(line)
  except ValueError:
    return None
  names = ("environment_steps", "level_seed", "episode_return")
  is_row = isinstance(row, dict) and all(is_number(row.get(name)) for name in names)
  return row if is_row and isinstance(row.get("level_complete"), bool) else None
