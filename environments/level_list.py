"""Levels named one by one, for evaluation: every one of them is played equally often.

A `LevelDistribution` is a range that is drawn from; this is an explicit list. Light:
nothing is loaded.
"""

import dataclasses
import re

from environments.games import MODES
from environments.levels import SEED_END, LevelDistribution
from environments.names import unknown_name

MOST_LEVELS = 1024  # each has an environment of its own: 0.6 MB and 20 ms to open

_PATTERN = re.compile(r"(?:(easy|hard)-)?seeds:(.*)")
_PART = re.compile(r"([0-9]+)(?:-([0-9]+))?")


@dataclasses.dataclass(frozen=True)
class LevelList:
  """Level seeds in one mode, each once.

  Attributes:
    name: how the list was asked for, with its mode.
    mode: `easy` or `hard`.
    seeds: in the order in which they were named.

  Raises:
    ValueError: an unknown mode, no seed, one twice, too many, or one out of range.
  """

  name: str
  mode: str
  seeds: tuple[int, ...]

  def __post_init__(self):
    if self.mode not in MODES:
      raise ValueError(f"LevelList.mode: {unknown_name('mode', self.mode, MODES)}")
    if not 1 <= len(self.seeds) <= MOST_LEVELS:
      raise ValueError(
        f"{self.name!r} must name 1 to {MOST_LEVELS} levels, got {len(self.seeds)}; "
        f"a longer range is drawn from as a level distribution, e.g. {self.mode}-5000@100"
      )
    for seed in self.seeds:
      if not 0 <= seed < SEED_END:
        raise ValueError(f"{self.name!r}: a level seed must be in [0, {SEED_END}), got {seed}")
    twice = [seed for seed in dict.fromkeys(self.seeds) if self.seeds.count(seed) > 1]
    if twice:
      raise ValueError(f"{self.name!r} names level {twice[0]} twice")

  def single_levels(self) -> list[LevelDistribution]:
    """Returns one level distribution of a single level for every seed."""
    return [LevelDistribution(f"{self.mode}-1@{s}", self.mode, 1, s) for s in self.seeds]


def is_level_list(text: str) -> bool:
  """Whether `text` has the form of a level list, be it right or wrong."""
  return _PATTERN.fullmatch(text) is not None


def parse_level_list(text: str, *, mode: str) -> LevelList:
  """Returns the levels that `text` names.

  `seeds:3,17,40-59` is levels 3, 17 and 40 to 59; `hard-seeds:3` says the mode.

  Args:
    text: what was asked for.
    mode: where the text does not say one.

  Raises:
    ValueError: the text is not of this form, or the list is wrong.
  """
  match = _PATTERN.fullmatch(text)
  parts = match.group(2).split(",") if match else []
  ranges = [_PART.fullmatch(part.strip()) for part in parts]
  if not ranges or None in ranges:
    raise ValueError(
      f"level list {text!r} must be seeds:LIST or MODE-seeds:LIST, with numbers and ranges "
      "such as seeds:3,17,40-59"
    )
  mode = match.group(1) or mode
  seeds: list[int] = []
  for part in ranges:
    first, last = int(part.group(1)), int(part.group(2) or part.group(1))
    if last < first:
      raise ValueError(f"level list {text!r}: the range {part.group(0)} ends before it begins")
    # Cut short where it is refused anyway: a range may be of billions.
    seeds.extend(range(first, min(last, first + MOST_LEVELS) + 1))
  return LevelList(f"{mode}-seeds:{match.group(2)}", mode, tuple(seeds))
