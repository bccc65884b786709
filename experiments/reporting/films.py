"""Films of episodes, from `procplan evaluate --video` and `procplan imagine`, in the page.

MP4 or GIF files become part of the page up to a stated size; others are named with their
path.
"""

import base64
from collections.abc import Sequence
import io
import os
from pathlib import Path

from PIL import Image

from experiments.reporting.beside_runs import Film
from experiments.reporting.filters import needs_of
from experiments.reporting.markup import Markup, element, figure, join, paragraph, unordered_list
from experiments.reporting.runs import Run
from experiments.reporting.sections import Section
from experiments.reporting.study import Study

MOST_FILM_BYTES = 4 << 20
MOST_PAGE_BYTES = 32 << 20
_MEGABYTE = 1 << 20
_ALT = "Film of an episode"
# How a file of each kind begins, after some bytes.
_SIGNATURES = {".mp4": (4, b"ftyp"), ".gif": (0, b"GIF8")}


def films_section(study: Study, films: Sequence[Film], relative_to: Path) -> Section:
  """The films, each with what it shows, and the names of those that are too large."""
  heading, anchor = "Films", "films"
  if not films:
    return heading, anchor, []
  shown: list[Markup] = []
  left_out: list[str] = []
  used = 0
  for film in films:
    name = Path(os.path.relpath(film.stem, relative_to)).as_posix()
    choice, why = _chosen(film, MOST_PAGE_BYTES - used)
    if choice is None:
      left_out += [f"{name}{path.suffix}: {why[path]}" for path in film.files]
      continue
    run = _run_of(study, film)
    picture, size = _embedded(film, choice)
    used += size
    cell = None if run is None else study.cell_of(run)
    marks = {} if cell is None else needs_of(study, [cell])
    shown.append(figure(picture, _caption(study, run, film, name=name), **marks))
  note = paragraph(
    f"Files of at most {MOST_FILM_BYTES / _MEGABYTE:g} MB each and"
    f" {MOST_PAGE_BYTES / _MEGABYTE:g} MB in all are part of this page.",
    class_="note",
  )
  content: list[object] = [note]
  if shown:
    content.append(element("div", *shown, class_="panels films"))
  if left_out:
    content += [paragraph("Not part of this page:"), unordered_list(left_out)]
  return heading, anchor, content


def _chosen(film: Film, room: int) -> tuple[Path | None, dict[Path, str]]:
  """The first file that fits and is a film; why the others are not taken."""
  why = {}
  for path in film.files:
    try:
      size = path.stat().st_size
      offset, signature = _SIGNATURES[path.suffix]
      with path.open("rb") as file:
        is_film = file.read(offset + len(signature))[offset:] == signature
    except OSError as error:
      why[path] = f"cannot be read ({error.strerror})"
      continue
    if not is_film:
      why[path] = "does not begin as such a file does"
    elif size > MOST_FILM_BYTES:
      why[path] = f"{size / _MEGABYTE:.1f} MB are more than a film may have"
    elif size > room:
      why[path] = f"its {size / _MEGABYTE:.1f} MB are more than is left of the page"
    else:
      return path, why
  return None, why


def _embedded(film: Film, path: Path) -> tuple[Markup, int]:
  """The element that holds the file, and the bytes that went into it."""
  content = path.read_bytes()
  if path.suffix == ".gif":
    source = _data("image/gif", content)
    return Markup(f'<img alt="{_ALT}" loading="lazy" src="{source}">'), len(content)
  source = _data("video/mp4", content)
  video = element(
    "video", controls="", loop="", muted="", playsinline="", preload="metadata",
    aria_label=_ALT, src=source,
  )  # fmt: skip
  still = _still(film)
  if not still:
    return video, len(content)
  source = _data("image/jpeg", still)
  picture = Markup(f'<img class="still" alt="A picture of the film" src="{source}">')
  return join([video, picture]), len(content) + len(still)


def _still(film: Film) -> bytes:
  """The middle picture of the GIF beside the film, for print; empty where there is none."""
  gif = film.stem.with_name(film.stem.name + ".gif")
  if gif not in film.files:
    return b""
  buffer = io.BytesIO()
  try:
    with Image.open(gif) as picture:
      picture.seek(picture.n_frames // 2)
      picture.convert("RGB").save(buffer, format="JPEG", quality=80)
  except (OSError, EOFError, ValueError):
    return b""  # the film itself is there
  return buffer.getvalue()


def _data(kind: str, content: bytes) -> str:
  return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _run_of(study: Study, film: Film) -> Run | None:
  """The run that holds the film, or else the only one that its directory is named after."""
  stem = film.stem.absolute()
  holding = [run for run in study.runs if run.directory.absolute() in stem.parents]
  named = [run for run in study.runs if run.directory.absolute().name == stem.parent.name]
  found = holding or named
  return found[0] if len(found) == 1 else None


def _caption(study: Study, run: Run | None, film: Film, *, name: str) -> str:
  if run is None:
    return name
  what = film.stem.name.replace("_", ", ").replace("environment-", "environment ")
  what = what.replace("level-", "level ")
  of = f"{study.label_of(run)} on {run.game}, trained on {run.levels}, seed {run.seed}"
  return f"{of}: {what} ({name})"
