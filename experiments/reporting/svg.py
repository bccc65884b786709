"""Matplotlib figures as inline SVG: the same bytes for the same figure, no global figure state.

Text stays text. Ink and grid colours are the page's, so that the dark scheme
and print apply to figures too; ids are unique within the page.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import html
import io
import re

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from experiments.reporting.markup import Markup

# Okabe and Ito 2008, without black: told apart by readers with any colour vision.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v")

# Stand-ins in the figure that become the page's colours.
_INK, _GRID, _PAPER = "#010203", "#010204", "#010205"
_FONT = "DejaVu Sans"
_NEEDS = "needs:"  # begins the ids of what filters hide
DASHED = (0, (3, 1.5))  # of lines that say: full distribution

STYLE = {
  "svg.fonttype": "none",
  "font.family": _FONT,
  "font.size": 9,
  "axes.titlesize": 10,
  "axes.titleweight": "bold",
  "axes.edgecolor": _INK,
  "axes.labelcolor": _INK,
  "axes.titlecolor": _INK,
  "text.color": _INK,
  "xtick.color": _INK,
  "ytick.color": _INK,
  "grid.color": _GRID,
  "grid.linewidth": 0.6,
  "axes.grid": True,
  "axes.axisbelow": True,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.linewidth": 0.7,
  "figure.facecolor": "none",
  "axes.facecolor": "none",
  "path.simplify": True,
}


@dataclasses.dataclass(frozen=True)
class Look:
  """How an agent is drawn: colour and marker both tell it."""

  colour: str
  marker: str


INK = Look(_INK, "*")
PAPER = _PAPER


def looks(agents: Sequence[str]) -> dict[str, Look]:
  """A look for every agent, by its place in `agents`."""
  return {
    agent: Look(PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)])
    for i, agent in enumerate(agents)
  }


@contextlib.contextmanager
def drawing(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
  """A figure of `width` by `height` inches with one set of axes, in the page's style."""
  with matplotlib.rc_context(STYLE):
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    yield figure, figure.add_subplot()


def mark(artist: Artist, needs: Mapping[str, str]) -> None:
  """Gives a part of a figure the attributes of `filters.needs`, so that it can be hidden."""
  for value in needs.values():
    artist.set_gid(f"{_NEEDS}{value}")


@contextlib.contextmanager
def marked(axes: Axes, needs: Mapping[str, str]) -> Iterator[None]:
  """Marks all that is drawn meanwhile."""
  before = set(axes.get_children())
  yield
  for artist in axes.get_children():
    if artist not in before:
      mark(artist, needs)


def inline(figure: Figure, *, identifier: str, label: str) -> Markup:
  """SVG of a figure, to stand in an HTML page.

  Args:
    figure: made by `drawing`.
    identifier: unique within the page; its ids begin with it.
    label: what the figure shows, for those who do not see it.
  """
  buffer = io.StringIO()
  metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
  with matplotlib.rc_context({**STYLE, "svg.hashsalt": identifier}):
    figure.savefig(buffer, format="svg", metadata=metadata)
  text = buffer.getvalue()
  text = text[text.index("<svg") :]
  opening, body = text.split(">", 1)
  (view_box,) = re.findall(r'viewBox="[^"]*"', opening)
  body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
  body = re.sub(rf'<g id="{_NEEDS}([^"]*)"', r'<g data-needs="\1"', body)
  body = re.sub(r'<g id="[^"]*"', "<g", body)
  body = re.sub(r'\bid="', f'id="{identifier}-', body)
  body = re.sub(r'href="#', f'href="#{identifier}-', body)
  body = re.sub(r"url\(#", f"url(#{identifier}-", body)
  body = body.replace(_INK, "currentColor").replace(_GRID, "var(--grid)")
  body = body.replace(_PAPER, "var(--paper)").replace(f"'{_FONT}'", "var(--font)")
  body = re.sub(r'="[^"]*"', _short, body)
  title = html.escape(label)
  head = f'<svg {view_box} role="img" aria-label="{title}"><title>{title}</title>'
  return Markup(head + body.strip())


def on_white(figure: Figure) -> str:
  """SVG of a figure made in `STYLE`, as a file: dark ink on white paper, letters as outlines."""
  buffer = io.StringIO()
  with matplotlib.rc_context({**STYLE, "svg.fonttype": "path", "svg.hashsalt": "procplan"}):
    figure.savefig(buffer, format="svg", facecolor=PAPER, metadata={"Date": None})
  text = re.sub(rf' id="{_NEEDS}[^"]*"', "", buffer.getvalue())
  for stand_in, colour in ((_INK, "#222222"), (_GRID, "#dddddd"), (_PAPER, "#ffffff")):
    text = text.replace(stand_in, colour)
  return text


def _short(attribute: re.Match[str]) -> str:
  """An attribute with two decimals and no line breaks: a hundredth of a point is enough."""
  return re.sub(r"(\.\d\d)\d+", r"\1", attribute[0].replace("\n", " "))


def swatch(look: Look, *, dashed: bool, filled: bool) -> Markup:
  """A legend's key: a line with a marker, filled or not."""
  dash = ' stroke-dasharray="5 3"' if dashed else ""
  fill = look.colour if filled else "var(--paper)"
  paint = f'fill="{fill}" stroke="{look.colour}" stroke-width="1.5"'
  line = f'<path d="M0 7H36" stroke="{look.colour}" stroke-width="2" fill="none"{dash}/>'
  drawn = f"{line}{_SHAPES[look.marker].format(paint=paint)}".replace(_INK, "currentColor")
  return Markup(f'<svg class="swatch" viewBox="0 0 36 14" aria-hidden="true">{drawn}</svg>')


_SHAPES = {
  "o": '<circle cx="18" cy="7" r="4" {paint}/>',
  "s": '<rect x="14" y="3" width="8" height="8" {paint}/>',
  "^": '<path d="M18 2L23 11H13Z" {paint}/>',
  "D": '<path d="M18 2L23 7L18 12L13 7Z" {paint}/>',
  "v": '<path d="M18 12L13 3H23Z" {paint}/>',
  "*": '<path d="M18 1L20 5H24L21 8L22 13L18 10L14 13L15 8L12 5H16Z" {paint}/>',
}
