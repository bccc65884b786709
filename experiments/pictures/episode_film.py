"""Films of episodes: the frame, and beside it value, policy and running return."""

from collections.abc import Iterator, Sequence
import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from environments.action_names import action_names
from experiments.pictures import canvas
from experiments.pictures.video_file import write_gif, write_mp4
from training.calibration import ValueReading, discounted_returns
from training.episodes import Episode
from training.playing import PlayedStep

FRAMES_PER_SECOND = 15
END_FRAMES = 15  # for which the last frame stays, with how the episode ended
SIDE = 512  # of the frame
WIDTH, HEIGHT = 960, 544


class FilmTitle(NamedTuple):
  """What stands above every picture."""

  head: str  # agent, game, levels
  how: str  # policy and search
  policy: str  # what the bars are


@dataclasses.dataclass
class RecordedEpisode:
  """One episode as it was played, T steps.

  Attributes:
    game: whose actions are named.
    frames: `[T, H, W, C]` uint8, what was acted on; the terminal frame is never shown.
    actions: `[T]`.
    rewards: `[T]`, after each action.
    values: `[T]` in units of reward, as acting predicted; None where it predicts none.
    came: `[T]`, the discounted return that followed; None with the values.
    policy: `[T, A]`, from which acting chose; None where it does not report it.
    outcome: return, length, level, completion.
  """

  game: str
  frames: np.ndarray
  actions: np.ndarray
  rewards: np.ndarray
  values: np.ndarray | None
  came: np.ndarray | None
  policy: np.ndarray | None
  outcome: Episode


class EpisodeRecorder:
  """Keeps the first episode of each of the first environments.

  Attributes:
    episodes: those that have ended, in the order in which they did.
  """

  def __init__(self, count: int, *, reading: ValueReading | None, game: str):
    self.episodes: list[RecordedEpisode] = []
    self._reading = reading
    self._game = game
    self._steps: dict[int, list[dict[str, np.ndarray]]] = {b: [] for b in range(count)}

  def watch(self, step: PlayedStep) -> None:
    """Takes one step of all environments."""
    if not self._steps:
      return
    shown = {
      "frames": step.before.observation,
      "actions": np.asarray(step.output.action),
      "rewards": step.after.reward,
    }
    extras = step.output.extras
    if "search_policy" in extras:
      shown["policy"] = np.asarray(extras["search_policy"])
    if self._reading is not None:
      shown["values"] = np.asarray(extras["value"], np.float64) * self._reading.scale
    for b, steps in self._steps.items():
      if b < len(step.counts):
        steps.append({name: np.array(x[b]) for name, x in shown.items()})
    for episode in step.ended:
      steps = self._steps.pop(episode.environment, None)
      if steps is not None:
        self.episodes.append(self._finish(steps, episode))

  def _finish(self, steps: list[dict[str, np.ndarray]], episode: Episode) -> RecordedEpisode:
    arrays = {name: np.stack([each[name] for each in steps]) for name in steps[0]}
    came = None
    if "values" in arrays:
      came = discounted_returns(arrays["rewards"], self._reading.discount)
    return RecordedEpisode(
      game=self._game,
      frames=arrays["frames"],
      actions=arrays["actions"],
      rewards=arrays["rewards"],
      values=arrays.get("values"),
      came=came,
      policy=arrays.get("policy"),
      outcome=episode,
    )


def write_films(
  episodes: Sequence[RecordedEpisode], directory: Path, stem: str, *, title: FilmTitle
) -> list[Path]:
  """Writes each episode as MP4 and GIF.

  Args:
    episodes: what was recorded.
    directory: is made if needed.
    stem: that the files' names begin with.
    title: what stands above every picture.

  Returns:
    The files.

  Raises:
    OSError: one could not be written.
  """
  directory.mkdir(parents=True, exist_ok=True)
  paths = []
  for episode in episodes:
    outcome = episode.outcome
    name = f"{stem}_environment-{outcome.environment}_level-{outcome.level_seed}"
    pictures = list(draw_episode(episode, title))
    paths += [directory / f"{name}.mp4", directory / f"{name}.gif"]
    write_mp4(paths[-2], pictures, frames_per_second=FRAMES_PER_SECOND)
    write_gif(paths[-1], pictures, frames_per_second=FRAMES_PER_SECOND)
  return paths


def draw_episode(episode: RecordedEpisode, title: FilmTitle) -> Iterator[Image.Image]:
  """Yields a picture for every step, then the last one for a second, with how it ended."""
  last = None
  for t in range(len(episode.actions)):
    last = _draw_step(episode, t, title)
    yield last
  outcome = episode.outcome
  ending = "completed" if outcome.level_complete else "not completed"
  ending = "timed out" if outcome.timed_out else ending
  words = f"{ending}: return {outcome.episode_return:g} in {outcome.length} steps"
  strip = (16, 16 + SIDE - 44, 16 + SIDE, 16 + SIDE)
  final = last.copy()
  final.paste(canvas.PAPER, strip)
  middle = ((strip[0] + strip[2]) // 2, (strip[1] + strip[3]) // 2)
  canvas.text(final, middle, words, size=22, anchor="mm")
  for _ in range(END_FRAMES):
    yield final


def _draw_step(episode: RecordedEpisode, t: int, title: FilmTitle) -> Image.Image:
  image = canvas.blank(WIDTH, HEIGHT)
  left, right = 16 + SIDE + 20, WIDTH - 16
  canvas.paste_centred(
    image, canvas.enlarged(episode.frames[t], SIDE), (16, 16, 16 + SIDE, 16 + SIDE)
  )
  names = action_names(episode.game)
  outcome = episode.outcome
  canvas.text(image, (left, 14), title.head, size=16)
  canvas.text(
    image, (left, 36), f"level {outcome.level_seed}, {title.how}", size=14, colour=canvas.FAINT
  )
  total = float(episode.rewards[:t].sum())  # before this action
  canvas.text(image, (left, 62), f"step {t + 1} of {outcome.length}", size=18)
  canvas.text(image, (right, 62), f"return {total:g}", size=18, anchor="ra")
  top = 92
  if episode.values is not None:
    value = f"value {episode.values[t]:.2f}"
    canvas.text(image, (left, top), value, size=16, colour=canvas.BLUE)
    canvas.text(
      image,
      (right, top + 2),
      f"discounted return that came {episode.came[t]:.2f}",
      size=14,
      colour=canvas.FAINT,
      anchor="ra",
    )
    curves = [
      (episode.came[: t + 1], canvas.FAINT),
      (episode.values[: t + 1], canvas.BLUE),
    ]
    box = (left, top + 30, right, top + 118)
    canvas.draw_curves(image, box, curves, length=len(episode.actions))
    top += 140
  chosen = int(episode.actions[t])
  if episode.policy is None:
    canvas.text(image, (left, top), f"action {names[chosen]}", size=16, colour=canvas.VERMILION)
  else:
    canvas.text(image, (left, top), title.policy, size=14, colour=canvas.FAINT)
    bottom = min(16 + SIDE, top + 22 + 24 * len(names))
    canvas.draw_bars(
      image, (left, top + 22, right, bottom), episode.policy[t], names, chosen=chosen
    )
  return image
