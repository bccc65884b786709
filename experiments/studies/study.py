"""What a study is: a grid, and the runs that it consists of. No JAX here."""

from collections.abc import Mapping, Sequence
import dataclasses

from experiments.config import ExperimentConfig, differing_fields
from experiments.errors import UsageError, unknown

AXES = ("agents", "games", "levels", "seeds")


@dataclasses.dataclass(frozen=True)
class RunSpec:
  """One run of a study.

  Attributes:
    name: of its directory; unique in the study.
    agent: label of the agent, a key of `Study.agents`.
    config: everything that determines the run.
  """

  name: str
  agent: str
  config: ExperimentConfig


@dataclasses.dataclass(frozen=True)
class Contrast:
  """Two agents of a study that differ by one named change.

  Attributes:
    group: of contrasts that are read together.
    change: its name.
    before: label of the agent without it.
    after: label of the agent with it.
    note: what changes, in words.
  """

  group: str
  change: str
  before: str
  after: str
  note: str


@dataclasses.dataclass(frozen=True)
class Study:
  """A grid of agents x games x level distributions x seeds; every point is one run.

  Attributes:
    agents: label -> a run's configuration, whose game, levels and seed the grid replaces.
    games: names of games.
    levels: names of training level distributions.
    seeds: of the runs.
    processes: how many runs go on side by side; None means one per core.
    steps_per_second: label -> environment steps per second of one run with everything
      in it, as measured; what is not there has not been measured.
    contrasts: what the report sets against one another; a label may be absent.
    figures: title -> labels of the agents that a figure over level distributions shows
      together; without any there is one figure of all.

  Raises:
    ValueError: an axis is empty or names something twice.
  """

  agents: Mapping[str, ExperimentConfig]
  games: tuple[str, ...]
  levels: tuple[str, ...]
  seeds: tuple[int, ...]
  processes: int | None = None
  steps_per_second: Mapping[str, float] = dataclasses.field(default_factory=dict)
  contrasts: tuple[Contrast, ...] = ()
  figures: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    for axis in AXES:
      values = tuple(getattr(self, axis))
      if not values or len(set(values)) < len(values):
        raise ValueError(f"{axis} must be one or more different values, got {list(values)}")

  def runs(self) -> tuple[RunSpec, ...]:
    """Returns every run; all cells of the first seed come before the next seed.

    Raises:
      ValueError: a game, level distribution or seed is not a valid one.
    """
    return tuple(
      _run_spec(agent, config, game=game, levels=levels, seed=seed)
      for seed in self.seeds
      for game in self.games
      for levels in self.levels
      for agent, config in self.agents.items()
    )


def select(
  study: Study,
  *,
  agents: Sequence[str] | None = None,
  games: Sequence[str] | None = None,
  levels: Sequence[str] | None = None,
  seeds: Sequence[int] | None = None,
) -> Study:
  """Returns `study` with the given axes in place of its own; None leaves an axis as it is.

  Raises:
    UsageError: an agent is not one of the study's, or an axis names something twice.
  """
  for name in agents or ():
    if name not in study.agents:
      raise unknown("agent", name, study.agents)
  chosen = {"games": games, "levels": levels, "seeds": seeds}
  axes = {axis: tuple(values) for axis, values in chosen.items() if values is not None}
  for axis, values in {"agents": tuple(agents or ()), **axes}.items():
    twice = sorted({str(value) for value in values if values.count(value) > 1})
    if twice:
      raise UsageError(f"--{axis} names {', '.join(twice)} more than once")
  if agents is not None:
    axes["agents"] = {name: study.agents[name] for name in agents}
  return dataclasses.replace(study, **axes)


def check_contrasts(study: Study, agents: Mapping[str, ExperimentConfig]) -> None:
  """Checks that fields which were set leave the study's contrasts as they are.

  Args:
    study: as it was.
    agents: its agents by the same labels, with fields set on all of them.

  Raises:
    UsageError: two agents no longer differ in a field that they are compared for.
  """
  for each in study.contrasts:
    if {each.before, each.after} <= set(agents):
      before = differing_fields(study.agents[each.before], study.agents[each.after])
      after = differing_fields(agents[each.before], agents[each.after])
      if lost := [field for field in before if field not in after]:
        raise UsageError(
          f"{lost[0]} belongs to the change {each.change!r}: with one value for all, "
          f"{each.before} and {each.after} no longer differ in it; leave it to the study, or "
          "choose other --agents"
        )


def _run_spec(
  agent: str, config: ExperimentConfig, *, game: str, levels: str, seed: int
) -> RunSpec:
  environment = dataclasses.replace(config.environment, game=game, levels=levels)
  name = f"{agent}_{game}_{levels}_seed-{seed}".replace("@", "-from-").replace(" ", "-")
  return RunSpec(name, agent, dataclasses.replace(config, environment=environment, seed=seed))
