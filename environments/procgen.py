"""Procgen's vector environment as time steps, with exact state save and restore.

The library is loaded when the first environment is made. Not fork-safe: start
other processes with spawn.
"""

from collections.abc import Sequence
import warnings

import numpy as np

from environments.checks import checked_action, checked_integer
from environments.games import find_game
from environments.interface import EnvironmentSpec, TimeStep
from environments.levels import LevelDistribution
from environments.sealed_state import seal, unseal

NUM_ACTIONS = 15
OBSERVATION_SHAPE = (64, 64, 3)


def _load_library():
  """Returns the class and the version of Procgen.

  `import procgen` imports gym, which prints a notice about its own maintenance
  unless its table of notices is empty, and leaves its version file open, which
  is a ResourceWarning.
  """
  from gym_notices import notices

  notices.notices.clear()
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", ResourceWarning)
    import procgen

  return procgen.ProcgenGym3Env, procgen.__version__.strip()


def procgen_spec(game: str, *, num_environments: int) -> EnvironmentSpec:
  """Returns what B environments of a Procgen game look like; opens nothing.

  Raises:
    ValueError: another game, or no environment.
  """
  row = find_game(game)
  if row.family != "procgen":
    raise ValueError(f"{game!r} is not a Procgen game")
  return EnvironmentSpec(
    name=game,
    num_environments=checked_integer("num_environments", num_environments, minimum=1),
    observation_shape=OBSERVATION_SHAPE,
    num_actions=NUM_ACTIONS,
    time_limit=row.time_limit,
  )


class ProcgenEnvironment:
  """B environments of one Procgen game (Cobbe et al. 2020), stepped together.

  Facts about the binary, each checked by a test:
  - The results depend on `seed` and on the actions, not on `num_threads`.
  - What `set_state` restores includes reward, first and level seed of the
    present time step, and draws its frame again, equal bit for bit.
  - The level-complete flag is up only in time steps that are `first`.
  - With threads, `act` returns before the step is done, but after it has read the
    actions; every other call waits for the step. So acting twice loses nothing.

  Attributes:
    spec: see `EnvironmentSpec`.
  """

  def __init__(
    self,
    game: str,
    levels: LevelDistribution,
    *,
    num_environments: int,
    seed: int,
    num_threads: int = 4,
  ):
    """Opens the environments; each starts in a level drawn from `levels`.

    Args:
      game: one of the 16 games.
      levels: the levels that are drawn from at every reset.
      num_environments: B.
      seed: decides the sequence of level seeds of every environment.
      num_threads: threads that step; 0 steps in the caller's own.

    Raises:
      ValueError: an unknown game, or a number out of range.
    """
    self.spec = procgen_spec(game, num_environments=num_environments)
    make, version = _load_library()
    self._environment = make(
      num=self.spec.num_environments,
      env_name=game,
      distribution_mode=levels.mode,
      num_levels=levels.num_levels,
      start_level=levels.start_level,
      rand_seed=checked_integer("seed", seed, minimum=0),
      num_threads=checked_integer("num_threads", num_threads, minimum=0),
    )
    self._header = {
      "family": f"procgen {version}",
      "game": game,
      "mode": levels.mode,
      "num_levels": levels.num_levels,
      "start_level": levels.start_level,
    }

  def observe(self) -> TimeStep:
    """Returns the present time step; see `Environment.observe`."""
    environment = self._opened()
    # gym3's `observe` copies each array once. Its `get_info` would build a dict per
    # environment; the arrays behind it are filled by the same call.
    reward, observation, first = environment.observe()
    info = environment._info
    return TimeStep(
      observation=observation["rgb"],
      reward=reward,
      first=first,
      level_seed=info["level_seed"].copy(),
      previous_level_complete=info["prev_level_complete"] != 0,
    )

  def act(self, action: np.ndarray) -> None:
    """Takes `action`, `[B]` int32; see `Environment.act`."""
    environment = self._opened()
    environment.act(checked_action(action, self.spec))

  def save_state(self) -> list[bytes]:
    """Returns the exact state, about 20 to 50 kB for each environment."""
    return [seal(self._header, payload) for payload in self._opened().get_state()]

  def restore_state(self, states: Sequence[bytes]) -> None:
    """Continues bit for bit from `states`; see `Environment.restore_state`.

    Every state is checked before the first is used: the binary ends the process
    when it reads a damaged one, and a state brings its level range with it.
    """
    environment = self._opened()
    environment.set_state(unseal(states, self._header, count=self.spec.num_environments))

  def close(self) -> None:
    """Frees the environments; closing again does nothing."""
    if self._environment is not None:
      self._environment.close()
      self._environment = None

  def _opened(self):
    if self._environment is None:
      raise RuntimeError(f"the {self.spec.name} environments are closed")
    return self._environment
