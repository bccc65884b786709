"""Which runs of a study are meant: conditions from the command line, and named subsets."""

from collections.abc import Sequence
import dataclasses
import fnmatch
from types import MappingProxyType

from experiments.config import flatten, to_mapping
from experiments.errors import UsageError, nearest, unknown
from experiments.studies.study import RunSpec

SHORT_KEYS = MappingProxyType(
  {"game": "environment.game", "levels": "environment.levels", "seed": "seed"}
)

# The games of Procgen's own `memory` and `exploration` modes: Cobbe et al. 2020
# (arXiv 1912.01588), and the release notes of the procgen package.
SUBSETS = MappingProxyType(
  {
    "memory": "game=caveflyer|dodgeball|heist|jumper|maze|miner",
    "exploration": "game=caveflyer|climber|coinrun|heist|jumper|leaper|maze|ninja",
    "easy": "levels=easy-*",
    "hard": "levels=hard-*",
    "all-levels": "levels=*-all",
    "few-levels": "levels!=*-all",
    "first-seed": "seed=0",
  }
)


@dataclasses.dataclass(frozen=True)
class Condition:
  """What one field of a run must or must not be.

  Attributes:
    key: `agent` (the label), one of `SHORT_KEYS`, or a field by its dotted name.
    patterns: values, where `*` stands for anything; one of them must match.
    negated: none of them may match instead.
  """

  key: str
  patterns: tuple[str, ...]
  negated: bool


def parse_conditions(text: str) -> list[Condition]:
  """Parses `key=value|value,key!=value`: all of them must hold.

  Raises:
    UsageError: it has another form.
  """
  conditions = []
  for part in text.split(","):
    key, sign, value = part.partition("=")
    negated = key.endswith("!")
    patterns = tuple(each.strip() for each in value.split("|"))
    key = key.removesuffix("!").strip()
    if not (sign and key and all(patterns)):
      raise UsageError(f"a filter is KEY=VALUE or KEY!=VALUE, joined by commas, got {text!r}")
    conditions.append(Condition(key, patterns, negated))
  return conditions


def subset_conditions(name: str) -> list[Condition]:
  """Returns what a named subset stands for.

  Raises:
    UsageError: there is none of this name.
  """
  if name not in SUBSETS:
    raise unknown("subset", name, SUBSETS)
  return parse_conditions(SUBSETS[name])


def filter_runs(runs: Sequence[RunSpec], conditions: Sequence[Condition]) -> tuple[RunSpec, ...]:
  """Returns the runs for which all conditions hold, in their order.

  Raises:
    UsageError: a condition names no field of any run, or none is left; says which values
      there are.
  """
  values = [_values(run) for run in runs]
  for condition in conditions:
    _check_key(condition, values)
  kept = [
    run
    for run, own in zip(runs, values, strict=True)
    if all(_holds(condition, own) for condition in conditions)
  ]
  if not kept:
    said = "; ".join(f"{each.key} is one of {_choices(each.key, values)}" for each in conditions)
    raise UsageError(f"no run is left by the filter; in this study {said}")
  return tuple(kept)


def _values(run: RunSpec) -> dict[str, str]:
  flat = {name: _text(value) for name, value in flatten(to_mapping(run.config)).items()}
  short = {key: flat[name] for key, name in SHORT_KEYS.items()}
  return {**flat, **short, "agent": run.agent}


def _text(value) -> str:
  return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _check_key(condition: Condition, values: Sequence[dict[str, str]]) -> None:
  if not any(condition.key in own for own in values):
    keys = sorted({key for own in values for key in own})
    raise UsageError(f"no run has a field {condition.key!r}.{nearest(condition.key, keys)}")


def _holds(condition: Condition, own: dict[str, str]) -> bool:
  """A field that a run does not have matches nothing."""
  value = own.get(condition.key)
  found = value is not None and any(fnmatch.fnmatchcase(value, p) for p in condition.patterns)
  return found != condition.negated


def _choices(key: str, values: Sequence[dict[str, str]]) -> str:
  return ", ".join(sorted({own[key] for own in values if key in own})[:20])
