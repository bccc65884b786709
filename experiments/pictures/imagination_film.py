"""A picture and a film of decoded rollouts: what is imagined beside what came."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.imagination import Rollouts
from experiments.pictures import canvas
from experiments.pictures.video_file import write_gif, write_mp4
from training.whole_file import whole_file

FRAMES_PER_SECOND = 4
END_FRAMES = 4  # for which the last step of a rollout stays
MARGIN = 16
SIDE = 384  # of a frame in the film
NAMES_WIDTH = 84  # of the rows' names, left of the picture's tiles
LINE = 18  # height of a line of small text
WIDEST = 2400  # pixels that the tiles of the picture may take side by side


def write_picture(rollouts: Rollouts, path: Path, *, heading: str, names: Sequence[str]) -> None:
  """Writes one picture of all rollouts, one column for every step.

  Args:
    rollouts: R of K steps.
    path: of a .png file.
    heading: what stands above.
    names: of the actions.

  Raises:
    OSError: it could not be written.
  """
  steps, count = rollouts.came.shape[:2]
  tile = _tile_side(steps)
  block = 2 * tile + 3 * LINE + 10
  width = max(MARGIN + NAMES_WIDTH + steps * (tile + 4) + MARGIN, 760)
  image = canvas.blank(width, MARGIN + 3 * LINE + count * block + MARGIN)
  canvas.text(image, (MARGIN, MARGIN), heading, size=15)
  for k in range(steps):
    x = MARGIN + NAMES_WIDTH + k * (tile + 4)
    canvas.text(image, (x + tile // 2, MARGIN + 2 * LINE), f"k = {k}", size=13, anchor="ma")
  for r in range(count):
    top = MARGIN + 3 * LINE + r * block
    for row, word in enumerate(("came", "imagined")):
      middle = top + LINE + row * (tile + LINE) + tile // 2
      canvas.text(image, (MARGIN, middle), word, size=14, anchor="lm")
    for k in range(steps):
      left = MARGIN + NAMES_WIDTH + k * (tile + 4)
      _draw_tile(image, (left, top), rollouts.chosen(np.array([r])), k, names=names, tile=tile)
  with whole_file(path) as part:
    image.save(part, format="PNG")


def _draw_tile(
  image: Image.Image,
  corner: tuple[int, int],
  rollout: Rollouts,
  k: int,
  *,
  names: Sequence[str],
  tile: int,
) -> None:
  """Draws step k of one rollout: the action before it, what came, what was imagined, rewards."""
  left, top = corner
  middle = left + tile // 2
  if k:
    action = names[rollout.action[k - 1, 0]]
    canvas.text(image, (middle, top), action, size=12, colour=canvas.FAINT, anchor="ma")
  for row, frames in enumerate((rollout.came, rollout.imagined)):
    y = top + LINE + row * (tile + LINE)
    box = (left, y, left + tile, y + tile)
    canvas.paste_centred(image, canvas.enlarged(frames[k, 0], tile), box)
    if k:
      rewards = (rollout.reward, rollout.predicted_reward)[row]
      if rewards is not None:
        colour = canvas.VERMILION if abs(rewards[k - 1, 0]) >= 0.5 else canvas.FAINT
        words = f"reward {round(float(rewards[k - 1, 0]), 1) + 0.0:.1f}"  # no -0.0
        canvas.text(image, (middle, y + tile + 1), words, size=12, colour=colour, anchor="ma")


def _tile_side(steps: int) -> int:
  return 64 * max(1, min(2, WIDEST // (64 * steps)))


def write_film(
  rollouts: Rollouts, directory: Path, *, heading: str, names: Sequence[str]
) -> list[Path]:
  """Writes the rollouts one after the other as MP4 and GIF; returns the files.

  Args:
    rollouts: R of K steps.
    directory: of the files.
    heading: what stands above.
    names: of the actions.

  Raises:
    OSError: one could not be written.
  """
  pictures = [
    picture
    for r in range(rollouts.came.shape[1])
    for picture in draw_rollout(
      rollouts.chosen(np.array([r])), heading=f"{heading}, rollout {r + 1}", names=names
    )
  ]
  paths = [directory / "rollouts.mp4", directory / "rollouts.gif"]
  write_mp4(paths[0], pictures, frames_per_second=FRAMES_PER_SECOND)
  write_gif(paths[1], pictures, frames_per_second=FRAMES_PER_SECOND)
  return paths


def draw_rollout(rollout: Rollouts, *, heading: str, names: Sequence[str]) -> Iterator[Image.Image]:
  """Yields a picture for every step of one rollout, then the last one for a second."""
  image = None
  for k in range(len(rollout.came)):
    image = _draw_step(rollout, k, heading=heading, names=names)
    yield image
  for _ in range(END_FRAMES):
    yield image


def _draw_step(rollout: Rollouts, k: int, *, heading: str, names: Sequence[str]) -> Image.Image:
  image = canvas.blank(3 * MARGIN + 2 * SIDE, 2 * MARGIN + SIDE + 6 * LINE)
  canvas.text(image, (MARGIN, MARGIN), heading, size=15)
  action = f"k = {k}, after {names[rollout.action[k - 1, 0]]}" if k else "k = 0, the start"
  canvas.text(image, (MARGIN, MARGIN + 24), action, size=18)
  error = rollout.error
  for column, (word, frames, rewards) in enumerate(
    (
      ("came", rollout.came, rollout.reward),
      ("imagined", rollout.imagined, rollout.predicted_reward),
    )
  ):
    left = MARGIN + column * (SIDE + MARGIN)
    top = MARGIN + 3 * LINE
    canvas.paste_centred(
      image, canvas.enlarged(frames[k, 0], SIDE), (left, top, left + SIDE, top + SIDE)
    )
    words = word
    if k and rewards is not None:
      words += f", reward {round(float(rewards[k - 1, 0]), 2) + 0.0:.2f}"
    canvas.text(image, (left, top + SIDE + 6), words, size=16)
  words = f"squared error {error['imagined'][k, 0]:.4f}; of an unchanged frame "
  words += (
    f"{error['unchanged'][k, 0]:.4f}; of this frame seen, not imagined {error['seen'][k, 0]:.4f}"
  )
  canvas.text(image, (MARGIN, MARGIN + 4 * LINE + SIDE + 14), words, size=14, colour=canvas.FAINT)
  return image
