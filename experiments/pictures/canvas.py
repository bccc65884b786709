"""What pictures are drawn with: fonts, colours, enlarged frames, bars, curves. Pillow only.

The colours are told apart by readers with any colour vision (Okabe & Ito 2008).
"""

from collections.abc import Sequence
import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PAPER = (255, 255, 255)
INK = (20, 20, 24)
FAINT = (120, 120, 128)
GRID = (222, 222, 226)
BLUE = (0, 114, 178)
VERMILION = (213, 94, 0)

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont:
  """Returns Pillow's own font, which is there on every machine, `size` pixels high."""
  return ImageFont.load_default(size)


def blank(width: int, height: int) -> Image.Image:
  """Returns an empty picture."""
  return Image.new("RGB", (width, height), PAPER)


def text(
  image: Image.Image, position: tuple[int, int], words: str, *, size: int, colour=INK, anchor="la"
) -> None:
  """Writes one line; `anchor` is Pillow's: `la` is the left end of the line's top."""
  ImageDraw.Draw(image).text(position, words, fill=colour, font=font(size), anchor=anchor)


def enlarged(frame: np.ndarray, side: int) -> Image.Image:
  """Returns a frame `[H, W, C]` uint8 as the largest picture within `side` pixels.

  Every pixel becomes a square of equal size: nothing is smoothed.
  """
  height, width = frame.shape[:2]
  factor = max(1, side // max(height, width))
  picture = np.repeat(np.repeat(frame, factor, axis=0), factor, axis=1)
  return Image.fromarray(picture)


def paste_centred(image: Image.Image, picture: Image.Image, box: Box) -> None:
  """Puts a picture into the middle of a box."""
  left = box[0] + (box[2] - box[0] - picture.width) // 2
  top = box[1] + (box[3] - box[1] - picture.height) // 2
  image.paste(picture, (left, top))


def draw_bars(
  image: Image.Image, box: Box, values: Sequence[float], names: Sequence[str], *, chosen: int
) -> None:
  """Draws probabilities as bars with their names, one below the other; `chosen` stands out."""
  left, top, right, bottom = box
  height = (bottom - top) / len(values)
  size = max(9, min(14, int(height) - 3))
  start = left + int(6.2 * size)  # behind the names
  end = right - int(3.2 * size)  # before the percentages
  draw = ImageDraw.Draw(image)
  for i, (value, name) in enumerate(zip(values, names, strict=True)):
    y = int(top + i * height)
    middle = y + int(height) // 2
    colour = VERMILION if i == chosen else BLUE
    draw.rectangle((start, y + 2, end, y + int(height) - 2), fill=GRID)
    length = round((end - start) * float(value))
    if length:
      draw.rectangle((start, y + 2, start + length, y + int(height) - 2), fill=colour)
    ink = VERMILION if i == chosen else INK
    text(image, (start - 6, middle), name, size=size, colour=ink, anchor="rm")
    text(image, (right, middle), f"{100 * value:.0f} %", size=size, colour=ink, anchor="rm")


def draw_curves(
  image: Image.Image,
  box: Box,
  curves: Sequence[tuple[Sequence[float], tuple[int, int, int]]],
  *,
  length: int,
) -> None:
  """Draws curves over a common axis of `length` steps, with the range of values beside it.

  Args:
    image: drawn into.
    box: of the axes and their labels.
    curves: values, one per step, at most `length`, and a colour each.
    length: steps that the width stands for.
  """
  left, top, right, bottom = box
  values = np.concatenate([np.asarray(each, np.float64) for each, _ in curves])
  low, high = float(min(values.min(), 0.0)), float(max(values.max(), 0.0))
  high = max(high, low + 0.1)  # what hardly varies is drawn flat
  draw = ImageDraw.Draw(image)
  start = left + 44

  def place(step: int, value: float) -> tuple[float, float]:
    x = start + (right - start) * step / max(1, length - 1)
    return x, bottom - (bottom - top) * (value - low) / (high - low)

  for value in (low, 0.0, high):
    y = place(0, value)[1]
    draw.line((start, y, right, y), fill=GRID)
  for value in {low, high}:
    text(image, (start - 6, int(place(0, value)[1])), f"{value:.3g}", size=12, anchor="rm")
  for series, colour in curves:
    points = [place(step, float(value)) for step, value in enumerate(series)]
    if len(points) > 1:
      draw.line(points, fill=colour, width=2)
    x, y = points[-1]
    draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
