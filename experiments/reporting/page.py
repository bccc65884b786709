"""The page: sections in order, each with its figures and words, in one HTML file.

A section without data says why, or is left out where it could not have any.
"""

from collections.abc import Sequence
from pathlib import Path

from experiments.reporting import diagnostics, filters, protocol, sections
from experiments.reporting.beside_runs import EvaluationFile, Film
from experiments.reporting.contributions import (
  all_contributions,
  contributions_section,
  headline,
)
from experiments.reporting.estimates import Estimates, estimate_all
from experiments.reporting.evaluations import evaluations_section
from experiments.reporting.films import films_section
from experiments.reporting.markup import (
  Markup,
  element,
  escape,
  join,
  paragraph,
  section,
  unordered_list,
)
from experiments.reporting.statistics import Estimate
from experiments.reporting.study import Study
from experiments.reporting.success import success_section
from experiments.reporting.summary import summary

# Nothing may be loaded from outside the file, whatever ends up in it.
_ALLOWED = (
  "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
  " img-src data:; media-src data:"
)
_CSS = Path(__file__).with_name("page.css")


def render_page(
  study: Study,
  *,
  films: Sequence[Film],
  evaluations: Sequence[EvaluationFile],
  title: str,
  relative_to: Path,
  resamples: int,
) -> str:
  """The whole page as text.

  Args:
    study: all runs.
    films: of their episodes.
    evaluations: of their checkpoints.
    title: heading of the page.
    relative_to: run directories are named relative to this one.
    resamples: bootstrap resamples of every interval.
  """
  numbers = estimate_all(study, resamples=resamples)
  measured = all_contributions(study, resamples=resamples)
  parts = [
    sections.curves_section(study),
    sections.aggregate_section(study, numbers),
    sections.gap_section(study),
    sections.scores_section(study),
    contributions_section(study, measured, resamples=resamples),
    sections.levels_section(study, resamples=resamples),
    success_section(study),
    sections.efficiency_section(study),
    evaluations_section(study, evaluations, relative_to),
    diagnostics.planning_section(study),
    films_section(study, films, relative_to),
    diagnostics.throughput_section(study),
    sections.protocol_section(study),
    sections.runs_section(study, relative_to),
    diagnostics.diagnostics_section(study),
  ]
  shown = [(name, identifier, content) for name, identifier, content in parts if content]
  links = [element("a", name, href=f"#{identifier}") for name, identifier, _ in shown]
  body = join(
    [
      _header(study, [*headline(measured), *summary(study, _iqm(numbers))], title, relative_to),
      element("nav", unordered_list(links), aria_label="Sections") if links else "",
      filters.form(study),
      element("main", *(section(n, *content, identifier=i) for n, i, content in shown)),
      filters.script(study),
    ]
  )
  return (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    '<meta name="color-scheme" content="light dark">\n'
    f'<meta http-equiv="Content-Security-Policy" content="{_ALLOWED}">\n'
    f"<title>{escape(title)}</title>\n<style>\n{_CSS.read_text(encoding='utf-8')}</style>\n"
    f"</head>\n<body>\n{body}\n</body>\n</html>\n"
  )


def _iqm(numbers: Estimates) -> dict[tuple[str, str, str], Estimate]:
  return {key: estimates["IQM"] for key, estimates in numbers.values.items()}


def _header(study: Study, said: Sequence[str], title: str, relative_to: Path) -> Markup:
  problems = protocol.problems(study, relative_to=relative_to)
  return element(
    "header",
    element("h1", title),
    paragraph(f"Data as of {protocol.data_as_of(study)}.", class_="note"),
    element("div", unordered_list(said), class_="headline"),
    element(
      "div",
      paragraph("Not everything went well:"),
      unordered_list(problems),
      class_="problems",
      role="note",
    )
    if problems
    else "",
  )
