"""Writes films: MP4 through the ffmpeg that imageio-ffmpeg ships, GIF through Pillow.

Files appear when they are complete.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
import subprocess
import tempfile

import imageio_ffmpeg
import numpy as np
from PIL import Image

from training.whole_file import whole_file

MOST_GIF_FRAMES = 240


def write_mp4(path: Path, pictures: Iterable[Image.Image], *, frames_per_second: int) -> None:
  """Writes a film that browsers play: H.264, yuv420p, its index in front.

  Args:
    path: replaced as a whole.
    pictures: at least one; all of one size, whose sides are even.
    frames_per_second: of the film.

  Raises:
    ValueError: there is no picture, they differ in size, or a side is odd.
    OSError: it could not be written, with what ffmpeg says.
  """
  pictures = iter(pictures)
  first = next(pictures, None)
  if first is None:
    raise ValueError("a film needs at least one picture")
  width, height = first.size
  if width % 2 or height % 2:
    raise ValueError(f"the sides of a film must be even, got {width} x {height}")
  with whole_file(path) as part, tempfile.TemporaryFile() as said:
    process = subprocess.Popen(
      _ffmpeg_command(part, width, height, frames_per_second=frames_per_second),
      stdin=subprocess.PIPE,
      stdout=subprocess.DEVNULL,
      stderr=said,
    )
    try:
      _feed(process, first, pictures)
    except BaseException:
      process.kill()
      process.wait()
      raise
    if process.wait() != 0:
      said.seek(0)
      raise OSError(
        f"{path} was not written; ffmpeg: {said.read().decode(errors='replace')[-300:]}"
      )


def _ffmpeg_command(path: Path, width: int, height: int, *, frames_per_second: int) -> list[str]:
  source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
  source += ["-r", str(frames_per_second), "-i", "-"]
  coding = ["-an", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "18"]
  target = ["-movflags", "+faststart", "-f", "mp4", str(path)]
  return [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y", *source, *coding, *target]


def _feed(process: subprocess.Popen, first: Image.Image, others: Iterable[Image.Image]) -> None:
  """Writes the pictures' bytes and closes the pipe; where ffmpeg has ended, it says why."""
  try:
    process.stdin.write(np.asarray(first).tobytes())
    for picture in others:
      if picture.size != first.size:
        raise ValueError(f"the pictures of a film differ in size: {first.size}, {picture.size}")
      process.stdin.write(np.asarray(picture).tobytes())
    process.stdin.close()
  except BrokenPipeError:
    pass


def write_gif(path: Path, pictures: Sequence[Image.Image], *, frames_per_second: int) -> None:
  """Writes an animation that plays for ever, at the film's speed.

  At most `MOST_GIF_FRAMES` pictures: of a longer film every second one, or every third,
  and so on, each shown for as long.

  Args:
    path: replaced as a whole.
    pictures: at least one, all of one size.
    frames_per_second: of the film.

  Raises:
    ValueError: there is no picture.
    OSError: it could not be written.
  """
  if not pictures:
    raise ValueError("an animation needs at least one picture")
  stride = -(-len(pictures) // MOST_GIF_FRAMES)
  shown = [picture.quantize(128, dither=Image.Dither.NONE) for picture in pictures[::stride]]
  with whole_file(path) as part:
    shown[0].save(
      part,
      format="GIF",
      save_all=True,
      append_images=shown[1:],
      duration=round(1000 * stride / frames_per_second),
      loop=0,
    )
