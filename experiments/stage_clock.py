"""Time, memory and compilations of a program's stages, which may be nested."""

from collections.abc import Callable, Mapping
import contextlib
import re
import time
from typing import Any, NamedTuple

import jax

from experiments import machine

OUTSIDE = "outside"  # the stage of what happens in none

_TRACE = "/jax/core/compile/jaxpr_trace_duration"
_LOWER = "/jax/core/compile/jaxpr_to_mlir_module_duration"
_COMPILE = "/jax/core/compile/backend_compile_duration"


class Compilation(NamedTuple):
  """One compilation by XLA."""

  stage: str
  function: str
  seconds: float  # tracing, lowering and compiling


class Spent(NamedTuple):
  """What a stage took."""

  seconds: float  # wall-clock
  core_seconds: float  # of this process, over all its threads


NOTHING = Spent(0.0, 0.0)


class StageClock:
  """Adds up what stages take; a stage includes the stages inside it.

  Attributes:
    peak_resident: bytes by outermost stage, the largest so far; empty where the
      system cannot tell.
    compilations: all so far, each with the innermost stage that it happened in.
  """

  def __init__(
    self,
    *,
    now: Callable[[], float] = time.perf_counter,
    cores: Callable[[], float] = time.process_time,
  ):
    """Starts to listen for compilations.

    Args:
      now: the time in seconds.
      cores: core seconds that this process has used.
    """
    self._now = now
    self._cores = cores
    self._open: list[str] = []
    self._spent: dict[str, Spent] = {}
    self._unfinished: dict[str, float] = {}  # seconds of tracing and lowering by function
    self._listening = True
    self.peak_resident: dict[str, int] = {}
    self.compilations: list[Compilation] = []
    jax.monitoring.register_event_duration_secs_listener(self._hear)

  @contextlib.contextmanager
  def stage(self, name: str):
    """Counts what is done inside as `name`.

    Whoever calls waits for the devices inside: work that is only queued takes no time.
    """
    can_tell = not self._open and machine.reset_peak_resident()
    self._open.append(name)
    start = self.read()
    try:
      yield
    finally:
      end, before = self.read(), self._spent.get(name, NOTHING)
      self._spent[name] = Spent(
        *(total + b - a for total, a, b in zip(before, start, end, strict=True))
      )
      self._open.pop()
      if can_tell:
        peak = machine.peak_resident_bytes()
        self.peak_resident[name] = max(peak, self.peak_resident.get(name, 0))

  def read(self) -> Spent:
    """Returns the clocks themselves; differences of two readings are what was spent."""
    return Spent(self._now(), self._cores())

  def take(self) -> dict[str, Spent]:
    """Returns what each stage took since the last call."""
    spent, self._spent = self._spent, {}
    return spent

  def close(self) -> None:
    """Listens for compilations no longer; JAX has no way to take a listener off."""
    self._listening = False

  def _hear(self, event: str, seconds: float, **details) -> None:
    if not self._listening or event not in (_TRACE, _LOWER, _COMPILE):
      return
    function = re.sub(r"^jit[(_](.*?)\)?$", r"\1", str(details.get("fun_name", "?")))
    if event == _TRACE:
      # What is traced inside is told before and is part of it: the last one counts.
      self._unfinished[function] = seconds
    elif event == _LOWER:
      self._unfinished[function] = self._unfinished.get(function, 0.0) + seconds
    else:
      stage = self._open[-1] if self._open else OUTSIDE
      seconds += self._unfinished.pop(function, 0.0)
      self.compilations.append(Compilation(stage, function, seconds))


class Measured:
  """An object of which some methods are stages; everything else is the object's own.

  A measured method waits for the devices before its stage ends.
  """

  def __init__(
    self, target: Any, clock: StageClock, stages: Mapping[str, str | Callable[..., str]]
  ):
    """Wraps `target`.

    Args:
      target: whose methods are called.
      clock: told of every call.
      stages: the stage by the method's name, `__call__` for calling the object itself; a
        function gets the call's first argument and returns the stage.
    """
    self._target = target
    self._clock = clock
    self._methods = {
      name: self._measured(getattr(target, name), stage) for name, stage in stages.items()
    }

  def __getattr__(self, name: str) -> Any:
    return self._methods.get(name) or getattr(self._target, name)

  def __call__(self, *arguments, **named) -> Any:
    return self._methods.get("__call__", self._target)(*arguments, **named)

  def _measured(self, method: Callable, stage: str | Callable[..., str]) -> Callable:
    def call(*arguments, **named):
      with self._clock.stage(stage if isinstance(stage, str) else stage(arguments[0])):
        return jax.block_until_ready(method(*arguments, **named))

    return call
