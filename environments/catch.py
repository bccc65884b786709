"""Catch in pixels: a small game with a known optimum, for tests and smoke runs.

A ball falls one row per step; the paddle on the bottom row moves left, stays or
moves right. The level seed fixes the ball's column. Numpy only.
"""

from collections.abc import Sequence

import numpy as np

from environments.checks import checked_action, checked_integer
from environments.interface import EnvironmentSpec, TimeStep
from environments.levels import LevelDistribution
from environments.sealed_state import seal, unseal

NUM_ACTIONS = 3  # left, stay, right
ROWS, COLUMNS, PIXELS = 8, 8, 4  # of the board that `make_environment` opens; side of a cell
BALL_COLOUR = (255, 255, 255)
PADDLE_COLOUR = (64, 192, 64)

# One environment's whole state. `stream` and `episode` decide the levels still to come.
_STATE = np.dtype(
  [
    ("stream", "<u8"),
    ("episode", "<u8"),
    ("level_seed", "<i4"),
    ("row", "<i4"),
    ("paddle", "<i4"),
    ("reward", "<f4"),
    ("first", "?"),
    ("complete", "?"),
  ]
)


def _mixed(x):
  """SplitMix64's output function (Steele et al. 2014): `[B]` uint64 -> `[B]` uint64."""
  x = x + np.uint64(0x9E3779B97F4A7C15)
  x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return x ^ (x >> np.uint64(31))


def catch_spec(
  num_environments: int, *, rows: int = ROWS, columns: int = COLUMNS, pixels: int = PIXELS
) -> EnvironmentSpec:
  """Returns what B environments of Catch look like; opens nothing."""
  return EnvironmentSpec(
    name="catch",
    num_environments=num_environments,
    observation_shape=(rows * pixels, columns * pixels, 3),
    num_actions=NUM_ACTIONS,
    time_limit=rows - 1,
  )


class CatchEnvironment:
  """B games of Catch, after bsuite (Osband et al. 2020), stepped together.

  Reward 1 when the ball lands on the paddle and -1 when it does not, 0 before.
  An episode takes `rows - 1` steps; every ball can be reached, so that the best
  mean return is 1. Both modes are the same game.

  Attributes:
    spec: see `EnvironmentSpec`.
  """

  def __init__(
    self,
    levels: LevelDistribution,
    *,
    num_environments: int,
    seed: int,
    rows: int = ROWS,
    columns: int = COLUMNS,
    pixels: int = PIXELS,
  ):
    """Opens the environments; each starts in a level drawn from `levels`.

    Args:
      levels: the levels that are drawn from at every reset; seed s drops the
        ball in column s mod `columns`.
      num_environments: B.
      seed: decides the sequence of level seeds of every environment.
      rows: height of the board; frames are `rows * pixels` high.
      columns: width of the board; frames are `columns * pixels` wide.
      pixels: side of one cell.

    Raises:
      ValueError: a number out of range, or a board on which the paddle cannot
        reach every column in time.
    """
    self._rows = checked_integer("rows", rows, minimum=2)
    self._columns = checked_integer("columns", columns, minimum=1)
    self._pixels = checked_integer("pixels", pixels, minimum=1)
    if rows - 1 < columns // 2:
      raise ValueError(
        f"rows must be more than columns // 2, or some balls cannot be caught: "
        f"got {rows} rows, {columns} columns"
      )
    self._levels = levels
    num_environments = checked_integer("num_environments", num_environments, minimum=1)
    self.spec = catch_spec(num_environments, rows=rows, columns=columns, pixels=pixels)
    self._header = {
      "family": "catch 1",
      "game": "catch",
      "mode": levels.mode,
      "num_levels": levels.num_levels,
      "start_level": levels.start_level,
      "board": f"{self._rows}x{self._columns}x{self._pixels}",
    }
    self._state = np.zeros(num_environments, _STATE)
    index = np.arange(num_environments, dtype=np.uint64)
    seed = checked_integer("seed", seed, minimum=0)
    self._state["stream"] = _mixed(_mixed(np.full(num_environments, seed, np.uint64)) + index)
    self._begin_episode(np.ones(num_environments, bool))

  def observe(self) -> TimeStep:
    """Returns the present time step; see `Environment.observe`."""
    state = self._opened()
    return TimeStep(
      observation=self._frames(state),
      reward=state["reward"].copy(),
      first=state["first"].copy(),
      level_seed=state["level_seed"].copy(),
      previous_level_complete=state["complete"].copy(),
    )

  def act(self, action: np.ndarray) -> None:
    """Takes `action`, `[B]` int32: 0 left, 1 stay, 2 right; see `Environment.act`."""
    state = self._opened()
    action = checked_action(action, self.spec)
    # The board has walls: moving against one leaves the paddle where it is.
    state["paddle"] = np.clip(state["paddle"] + action - 1, 0, self._columns - 1)
    state["row"] += 1
    landed = state["row"] == self._rows - 1
    caught = landed & (state["paddle"] == state["level_seed"] % self._columns)
    state["reward"] = np.where(landed, np.where(caught, 1.0, -1.0), 0.0)
    state["complete"] = caught
    self._begin_episode(landed)

  def save_state(self) -> list[bytes]:
    """Returns the exact state, one entry per environment."""
    return [seal(self._header, entry.tobytes()) for entry in self._opened()]

  def restore_state(self, states: Sequence[bytes]) -> None:
    """Continues bit for bit from `states`; see `Environment.restore_state`."""
    self._opened()
    payloads = unseal(states, self._header, count=self.spec.num_environments)
    self._state = np.frombuffer(b"".join(payloads), _STATE).copy()

  def close(self) -> None:
    """Frees the environments; closing again does nothing."""
    self._state = None

  def _opened(self):
    if self._state is None:
      raise RuntimeError("the catch environments are closed")
    return self._state

  def _begin_episode(self, which):
    """Marks `first` where `which`, `[B]` bool, and draws a new level there."""
    state, seeds = self._state, self._levels.seeds
    # A 64-bit number modulo less than 2**31: no seed is favoured by more than 2**-33.
    offset = _mixed(state["stream"] + state["episode"]) % np.uint64(len(seeds))
    drawn = offset.astype(np.int32) + np.int32(seeds.start)
    state["first"] = which
    state["level_seed"] = np.where(which, drawn, state["level_seed"])
    state["episode"] += which
    state["row"][which] = 0
    state["paddle"][which] = self._columns // 2

  def _frames(self, state):
    """Returns `[B, H, W, C]` uint8 frames of the boards."""
    b, rows, columns, p = self.spec.num_environments, self._rows, self._columns, self._pixels
    cells = np.zeros((b, rows, p, columns, p, 3), np.uint8)
    index = np.arange(b)
    cells[index, rows - 1, :, state["paddle"]] = PADDLE_COLOUR
    cells[index, state["row"], :, state["level_seed"] % columns] = BALL_COLOUR
    return cells.reshape(b, rows * p, columns * p, 3)
