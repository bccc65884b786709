"""Level distributions: which levels are trained and tested on.

A level is what a level seed generates in one mode. Light: nothing is loaded.
"""

import dataclasses
import re

from environments.games import MODES
from environments.names import unknown_name

# Seeds are drawn from [0, SEED_END) where num_levels is 0, and from
# [start_level, start_level + num_levels) otherwise; both ends must stay in int32.
SEED_END = 2**31 - 1

NAMED = ("hard-10", "hard-100", "hard-500", "hard-all", "easy-200", "easy-all")

_FORMS = (
  "MODE-N or MODE-N@START, both also with -held-out, or MODE-all, "
  "where MODE is easy or hard, N at least 1 and START at least 0"
)
_PATTERN = re.compile(r"(easy|hard)-(all|[0-9]+)(?:@([0-9]+))?(-held-out)?")


@dataclasses.dataclass(frozen=True)
class LevelDistribution:
  """A set of level seeds in one mode, drawn uniformly and with replacement.

  Attributes:
    name: how it is called in configs and reports.
    mode: `easy` or `hard`.
    num_levels: size of the set; 0 means every level.
    start_level: the first seed of the set.

  Raises:
    ValueError: an unknown mode, a wrong type, a range that leaves int32, or a
      `start_level` without a number of levels.
  """

  name: str
  mode: str
  num_levels: int
  start_level: int = 0

  def __post_init__(self):
    if not isinstance(self.name, str) or not self.name:
      raise ValueError(f"LevelDistribution.name must be a name, got {self.name!r}")
    if self.mode not in MODES:
      raise ValueError(f"LevelDistribution.mode: {unknown_name('mode', self.mode, MODES)}")
    for field in ("num_levels", "start_level"):
      value = getattr(self, field)
      if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < SEED_END:
        raise ValueError(
          f"LevelDistribution.{field} must be an integer in [0, {SEED_END}), got {value!r}"
        )
    if self.num_levels == 0 and self.start_level != 0:
      raise ValueError(
        f"LevelDistribution.start_level={self.start_level} has no effect with num_levels=0: "
        "Procgen ignores it and plays every level; give a number of levels, "
        f"e.g. {self.mode}-1000@{self.start_level}"
      )
    if self.start_level + self.num_levels > SEED_END:
      raise ValueError(
        f"LevelDistribution: start_level + num_levels must be at most {SEED_END}, "
        f"got {self.start_level} + {self.num_levels}"
      )

  @property
  def seeds(self) -> range:
    """The level seeds, `[start_level, start_level + num_levels)`, or all of them."""
    if self.num_levels == 0:
      return range(SEED_END)
    return range(self.start_level, self.start_level + self.num_levels)


def parse_levels(text: str) -> LevelDistribution:
  """Returns the level distribution that `text` names.

  `easy-200` is levels 0 to 199 of easy mode, `easy-200@1000` levels 1000 to
  1199, `easy-all` every level, `easy-200-held-out` every level past the 200.
  `NAMED` lists those of SCIENCE.md, section 2.

  Raises:
    ValueError: `text` has none of these forms, or asks for what cannot be.
  """
  match = _PATTERN.fullmatch(text) if isinstance(text, str) else None
  if match is None:
    raise ValueError(f"{unknown_name('level distribution', text, NAMED)}; in general {_FORMS}")
  mode, count, start, is_held_out = match.groups()
  num_levels, start_level = 0 if count == "all" else int(count), int(start or 0)
  if num_levels == 0 and count != "all":
    raise ValueError(f"level distribution {text!r} has no levels; every level is {mode}-all")
  name = f"{mode}-{num_levels or 'all'}" + (f"@{start_level}" if start_level else "")
  levels = LevelDistribution(name, mode, num_levels, start_level)
  return held_out(levels) if is_held_out else levels


def full_distribution(levels: LevelDistribution) -> LevelDistribution:
  """Returns every level of the same mode: the published test distribution."""
  return LevelDistribution(f"{levels.mode}-all", levels.mode, 0, 0)


def held_out(levels: LevelDistribution) -> LevelDistribution:
  """Returns every level past the training range: disjoint from `levels`.

  With `start_level` 0 that is the full distribution without the training
  levels. Where `start_level` is larger, the levels before it are left out too,
  since Procgen draws from one range only.

  Raises:
    ValueError: `levels` are all levels, or reach the last one.
  """
  end = levels.seeds.stop
  if end == SEED_END:
    raise ValueError(
      f"level distribution {levels.name!r} has no held-out set: "
      f"it leaves no level past its own (they end at {SEED_END}); "
      f"test on {levels.mode}-all, or train on a number of levels, e.g. {levels.mode}-200"
    )
  return LevelDistribution(f"{levels.name}-held-out", levels.mode, SEED_END - end, end)


def overlap(a: LevelDistribution, b: LevelDistribution) -> int:
  """Returns how many level seeds `a` and `b` share.

  Another mode makes another level of the same seed, so that distributions of
  different modes share none. Different seeds can still look alike.
  """
  if a.mode != b.mode:
    return 0
  return max(0, min(a.seeds.stop, b.seeds.stop) - max(a.seeds.start, b.seeds.start))
