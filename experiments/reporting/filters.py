"""Filters of the page: which parts belong to which agent, game and level distribution.

A part carries `data-needs`, from `needs`; the form and a small script hide the parts none
of whose agents, games or level distributions is chosen. Without a script there is no form,
and everything is shown; in print everything is shown as well.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments.reporting.markup import Markup, element, join, paragraph
from experiments.reporting.study import Cell, Study

_SCRIPT = Path(__file__).with_name("page.js")


def needs(
  study: Study,
  *,
  agents: Iterable[str] = (),
  games: Iterable[str] = (),
  levels: Iterable[str] = (),
) -> dict[str, str]:
  """Attributes of a part that is shown while one of each of these is chosen.

  Args:
    study: all runs.
    agents: labels; none where the part is of no agent.
    games: names.
    levels: names of level distributions.

  Returns:
    `data_needs`, e.g. `a0|a1 g2`: a word for each kind; empty where nothing is needed.
  """
  words = []
  for (kind, _, known), wanted in zip(_choices(study), (agents, games, levels), strict=True):
    places = sorted(known.index(each) for each in set(wanted) if each in known)
    words += ["|".join(f"{kind}{place}" for place in places)] if places else []
  return {"data_needs": " ".join(words)} if words else {}


def needs_of(study: Study, cells: Iterable[Cell]) -> dict[str, str]:
  """Attributes of a part that shows these cells."""
  cells = list(cells)
  return needs(
    study,
    agents=[cell.agent for cell in cells],
    games=[cell.game for cell in cells],
    levels=[cell.levels for cell in cells],
  )


def needs_all(study: Study, agents: Sequence[str], *, levels: Iterable[str] = ()) -> dict[str, str]:
  """Attributes of a part that compares these agents: it needs every one of them."""
  each = [needs(study, agents=[agent])["data_needs"] for agent in agents]
  return {"data_needs": " ".join([*each, *needs(study, levels=levels).values()])}


def form(study: Study) -> Markup:
  """The choice of agents, games and level distributions; empty where there is no choice."""
  groups = [
    _group(kind, heading, known) for kind, heading, known in _choices(study) if len(known) > 1
  ]
  if not groups:
    return Markup()
  said = element("span", "everything is shown", id="filters-state", role="status")
  note = paragraph(
    "Hides lines, figures and rows. What is computed over several games or agents (aggregates,"
    " the headline) stays as it is, and so do the scales of figures. Print shows everything.",
    class_="note",
  )
  return element(
    "form",
    element(
      "details",
      element("summary", "Filter: ", said),
      *groups,
      element("button", "Show everything", type="reset"),
      note,
    ),
    id="filters",
    hidden="",
    autocomplete="off",
    aria_label="Filters",
  )


def script(study: Study) -> Markup:
  """The script that makes the form work; empty where there is no form."""
  if not form(study):
    return Markup()
  return Markup(f"<script>\n{_SCRIPT.read_text(encoding='utf-8')}</script>")


def _choices(study: Study) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
  """(letter, heading, names) of agents, games and level distributions."""
  return (
    ("a", "Agents", study.agents),
    ("g", "Games", study.games),
    ("l", "Level distributions", study.levels),
  )


def _group(kind: str, heading: str, known: Sequence[str]) -> Markup:
  boxes = [
    element("label", Markup(f'<input type="checkbox" checked value="{kind}{place}">'), " ", name)
    for place, name in enumerate(known)
  ]
  buttons = [
    element("button", text, type="button", data_choose=text, data_kind=kind)
    for text in ("all", "none")
  ]
  legend = element("legend", heading)
  return element("fieldset", legend, join(boxes, " "), " ", join(buttons, " "))
