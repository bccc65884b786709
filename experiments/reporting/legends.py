"""Legends of the page: which colour, marker and line is whose."""

from experiments.reporting.filters import needs
from experiments.reporting.markup import Markup, element, join
from experiments.reporting.study import Study
from experiments.reporting.svg import INK, looks, swatch


def legend(study: Study, *, with_published: bool = False) -> Markup:
  """Every agent on training levels and on the full distribution."""
  entries = []
  for agent, look in looks(study.agents).items():
    marks = needs(study, agents=[agent])
    train = join([swatch(look, dashed=False, filled=True), f"{agent}, training levels"])
    test = join([swatch(look, dashed=True, filled=False), f"{agent}, full distribution"])
    entries += [element("li", train, **marks), element("li", test, **marks)]
  if with_published:
    star = swatch(INK, dashed=False, filled=True)
    text = "published, ± std over runs (open: full distribution)"
    entries.append(element("li", star, text))
  return element("ul", *entries, class_="legend")


def colours(study: Study) -> Markup:
  """Every agent once."""
  entries = [
    element("li", swatch(look, dashed=False, filled=True), agent, **needs(study, agents=[agent]))
    for agent, look in looks(study.agents).items()
  ]
  return element("ul", *entries, class_="legend")
