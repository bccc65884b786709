"""What agents are called: by their name, and by the settings that set a variant apart.

Runs of one agent whose settings differ within a cell are not seeds of one another. Each
such variant is labelled with the fewest of its settings that no other variant has.
"""

from collections.abc import Collection, Mapping, Sequence
import dataclasses
import functools
import itertools
from typing import Any

from experiments.config import flatten
from experiments.reporting.runs import Run
from networks.config import BACKBONES

# A run's config outside its cell: where one of these differs, it is another agent.
_VARIANT_PREFIXES = ("agent.", "evaluation.policy", "environment.num_environments")
_VARIANT_FIELDS = ("training.total_environment_steps",)
_BACKBONE = "agent.backbone"  # stands for the name of a backbone that has one
_LONGEST_LABEL = 28  # characters of settings; longer ones are numbered
_MOST_SETTINGS = 3  # in a label
_MOST_EXPLAINED = 8  # in what a label stands for

# Dotted name of a field of a run's config -> its value.
Settings = Mapping[str, Any]


def make_labels(runs: Sequence[Run]) -> tuple[dict[Run, str], dict[str, str]]:
  """Names the agent of every run.

  Args:
    runs: readable ones.

  Returns:
    A label for every run, the same for those that differ in game, levels and seed alone;
    and label -> all that sets the variant apart, for labels that do not say all of it.
  """
  labels, explained = {}, {}
  for agent, names in _differing_settings(runs).items():
    own = _own_settings([run for run in runs if run.label == agent], names)
    variants = list({repr(each): each for each in own.values()}.values())
    variants.sort(key=repr)
    texts, full = _short_texts(variants), [_full_text(each, variants) for each in variants]
    for place, variant in enumerate(variants):
      is_short = len(texts[place]) <= _LONGEST_LABEL
      label = f"{agent} ({texts[place]})" if is_short else f"{agent} #{place + 1}"
      label = label if texts[place] else agent
      labels |= {run: label for run, settings in own.items() if settings == variant}
      said = texts[place] if is_short else ""
      explained |= {label: full[place]} if full[place] != said else {}
  return labels, explained


def _differing_settings(runs: Sequence[Run]) -> dict[str, set[str]]:
  """Agent -> the settings that differ between its runs of one game and level distribution."""
  cells: dict[tuple[str, str, str], list[Run]] = {}
  for run in runs:
    cells.setdefault((run.label, run.levels, run.game), []).append(run)
  differing: dict[str, set[str]] = {}
  for (agent, _, _), members in cells.items():
    settings = [_settings(run) for run in members]
    names = {name for each in settings for name in each}
    varying = {name for name in names if len({repr(each.get(name)) for each in settings}) > 1}
    differing.setdefault(agent, set()).update(varying)
  return differing


def _settings(run: Run) -> Settings:
  return {
    name: value
    for name, value in flatten(run.config).items()
    if name in _VARIANT_FIELDS or name.startswith(_VARIANT_PREFIXES)
  }


def _own_settings(runs: Sequence[Run], names: Collection[str]) -> dict[Run, Settings]:
  """Each run's settings of these names; runs of equal ones are one variant.

  Where one of them is of the backbone, so is the backbone's name, if it has one. A run written
  before the backbone had all its fields takes the one name that fits, if another run has it.
  """
  own = {run: _chosen(_settings(run), names) for run in runs}
  if not any(name.startswith(f"{_BACKBONE}.") for name in names):
    return own
  backbones = {run: _backbone_name(run) for run in runs}
  for run in [run for run in runs if not backbones[run]]:
    beside = {backbones[each] for each in runs if own[each] == own[run]} - {""}
    own_fields = _backbone(run).items()
    fitting = [name for name in beside if own_fields <= _known_backbones()[name].items()]
    backbones[run] = fitting[0] if len(beside) == len(fitting) == 1 else ""
  return {
    run: {_BACKBONE: backbones[run], **settings} if backbones[run] else settings
    for run, settings in own.items()
  }


def _chosen(settings: Settings, names: Collection[str]) -> Settings:
  return {name: settings[name] for name in sorted(names) if name in settings}


def _backbone(run: Run) -> Settings:
  """The fields of the run's backbone."""
  return {name: x for name, x in _settings(run).items() if name.startswith(f"{_BACKBONE}.")}


def _backbone_name(run: Run) -> str:
  """The name of the run's backbone; empty where it has none."""
  known = [name for name, fields in _known_backbones().items() if fields == _backbone(run)]
  return known[0] if known else ""


@functools.cache
def _known_backbones() -> dict[str, Settings]:
  """Name -> the fields of every backbone that `--backbone` names, as config.yaml has them."""
  found = {}
  for name, make in BACKBONES.items():
    fields = {"kind": type(make()).__name__, **dataclasses.asdict(make())}
    plain = {field: list(x) if isinstance(x, tuple) else x for field, x in fields.items()}
    found[name] = flatten(plain, f"{_BACKBONE}.")
  return found


def _short_texts(variants: Sequence[Settings]) -> list[str]:
  """For each variant the fewest settings that no other one has, in words; empty if it is alone."""
  names = dict.fromkeys(name for each in variants for name in each)
  last = [name.rpartition(".")[2] for name in names]
  short = {
    name: part if last.count(part) == 1 else name.removeprefix("agent.")
    for name, part in zip(names, last, strict=True)
  }
  texts = []
  for variant in variants:
    others = [each for each in variants if each is not variant]
    texts.append(_short_text(variant, others, short) if others else "")
  return texts


def _short_text(variant: Settings, others: Sequence[Settings], names: Mapping[str, str]) -> str:
  own = [name for name in variant if not _stands_for(variant, name)]
  for size in range(1, _MOST_SETTINGS + 1):
    found = [
      chosen
      for chosen in itertools.combinations(own, size)
      if all(any(_differs(other, variant, name) for name in chosen) for other in others)
    ]
    if found:
      most = max(sum(map(_is_kind, chosen)) for chosen in found)
      best = [chosen for chosen in found if sum(map(_is_kind, chosen)) == most]
      words = [_in_words(variant, {name: names[name] for name in chosen}) for chosen in best]
      return min(words, key=lambda text: (len(text), text))
  return _in_words(
    variant, {name: x for name, x in names.items() if not _stands_for(variant, name)}
  )


def _full_text(variant: Settings, variants: Sequence[Settings]) -> str:
  """All that differs; without the fields of a kind or named backbone that is this one's alone."""
  others = [each for each in variants if each is not variant]
  if not others:
    return ""
  names = dict.fromkeys(name for each in variants for name in each)
  own_kinds = tuple(
    name.removesuffix("kind")
    for name in names
    if name.endswith(".kind") and all(_differs(variant, other, name) for other in others)
  )
  shown = [
    name
    for name in names
    if name.endswith(".kind") or not (own_kinds and name.startswith(own_kinds))
  ]
  shown = [name for name in shown if not _stands_for(variant, name)]
  shown.sort(key=lambda name: not _is_kind(name))
  kept = shown[:_MOST_EXPLAINED] if len(shown) > _MOST_EXPLAINED + 1 else shown
  text = _in_words(variant, {name: name.removeprefix("agent.") for name in kept})
  more = len(shown) - len(kept)
  return f"{text}, and {more} other settings, which the protocol lists" if more else text


def _stands_for(variant: Settings, name: str) -> bool:
  """Whether the name of the variant's backbone says this field."""
  return _BACKBONE in variant and name.startswith(f"{_BACKBONE}.")


def _differs(a: Settings, b: Settings, name: str) -> bool:
  return repr(a.get(name)) != repr(b.get(name))


def _is_kind(name: str) -> bool:
  return name == _BACKBONE or name.endswith(".kind")


def _in_words(settings: Settings, names: Mapping[str, str]) -> str:
  """`impala, clip=0.1`: names of backbones and kinds are words of their own."""
  texts = []
  for name in sorted(names, key=lambda name: not _is_kind(name)):
    value = settings.get(name)
    if _is_kind(name):
      texts += [] if value is None else [str(value).removesuffix("Config")]
    elif value is not None or not _is_held_by_a_kind(name, settings):
      texts.append(f"{names[name]}={_plain(value)}")
  return ", ".join(texts)


def _is_held_by_a_kind(name: str, settings: Settings) -> bool:
  return f"{name.rpartition('.')[0]}.kind" in settings


def _plain(value: Any) -> str:
  return "-".join(map(str, value)) if isinstance(value, list) and value else str(value)
