"""Small pieces of HTML: elements, tables, figures. Text is always escaped."""

from collections.abc import Iterable, Mapping, Sequence
import html


class Markup(str):
  """A string that is HTML already."""

  __slots__ = ()


def escape(content: object) -> Markup:
  """HTML of `content`: markup as it is, anything else escaped."""
  return content if isinstance(content, Markup) else Markup(html.escape(str(content)))


def element(tag: str, *content: object, **attributes: object) -> Markup:
  """One element. `class_` is `class`, and underscores in other names are hyphens."""
  names = {name: name.rstrip("_").replace("_", "-") for name in attributes}
  text = "".join(
    f' {names[name]}="{html.escape(str(value))}"' for name, value in attributes.items()
  )
  return Markup(f"<{tag}{text}>{join(content)}</{tag}>")


def join(parts: Iterable[object], separator: str = "") -> Markup:
  """The parts one after the other, escaped where they are not markup."""
  return Markup(separator.join(escape(part) for part in parts))


def paragraph(*content: object, **attributes: object) -> Markup:
  """A paragraph."""
  return element("p", *content, **attributes)


def unordered_list(items: Iterable[object]) -> Markup:
  """A list with one entry an item."""
  return element("ul", *(element("li", item) for item in items))


def with_note(content: object, note: object) -> Markup:
  """A table cell's content with a smaller line below it."""
  return join([content, Markup("<br>"), element("small", note)])


def table(
  caption: object,
  header: Sequence[object],
  rows: Iterable[Sequence[object]],
  *,
  heading_columns: int = 1,
  numeric_from: int | None = None,
  needs: Sequence[Mapping[str, str]] | None = None,
) -> Markup:
  """A table in a frame that scrolls sideways where the screen is too narrow.

  Args:
    caption: what the table shows.
    header: one heading a column.
    rows: as long as the header each.
    heading_columns: how many leading columns name the row.
    numeric_from: first column that holds numbers, right-aligned; None for none.
    needs: attributes of every row, from `filters.needs`; None where no row can be hidden.
  """
  rows = list(rows)
  start = len(header) if numeric_from is None else numeric_from
  head = element(
    "tr",
    *(
      element("th", text, scope="col", **({"class_": "number"} if i >= start else {}))
      for i, text in enumerate(header)
    ),
  )
  body = []
  for row, marks in zip(rows, needs or [{}] * len(rows), strict=True):
    if len(row) != len(header):
      raise ValueError(f"a row has {len(row)} cells, the header {len(header)}")
    cells = (_cell(i, x, heading_columns, start) for i, x in enumerate(row))
    body.append(element("tr", *cells, **marks))
  content = element(
    "table",
    element("caption", element("span", caption)),
    element("thead", head),
    element("tbody", *body),
  )
  return element("div", content, class_="scroll", tabindex="0", role="region", aria_label="Table")


def _cell(index: int, content: object, heading_columns: int, numeric_from: int) -> Markup:
  if index < heading_columns:
    return element("th", content, scope="row")
  return element("td", content, **({"class_": "number"} if index >= numeric_from else {}))


def figure(picture: Markup, caption: object, **attributes: object) -> Markup:
  """A picture with its caption."""
  return element("figure", picture, element("figcaption", caption), **attributes)


def section(heading: str, *content: object, identifier: str) -> Markup:
  """A section with its heading; `identifier` is its anchor."""
  return element(
    "section",
    element("h2", heading, id=f"{identifier}-heading"),
    *content,
    id=identifier,
    aria_labelledby=f"{identifier}-heading",
  )
