"""Whether a planned run fits in memory, before anything of it is allocated."""

from collections.abc import Sequence
import dataclasses
from typing import TYPE_CHECKING

from experiments import machine
from experiments.config import ExperimentConfig
from experiments.errors import UsageError
from experiments.memory_items import MemoryItem, gib
from experiments.registry import make_agent
from experiments.run_plan import RunPlan, spec_of

if TYPE_CHECKING:
  import jax


@dataclasses.dataclass(frozen=True)
class Room:
  """How much memory there is.

  Attributes:
    host: bytes that all hosts have available, None where that is not known.
    devices: bytes of all devices together, None where that is not known.
    num_devices: over which batches are split.
    shared: whether the devices use the host's memory, as a CPU does.
    num_hosts: over which a run is split, all like this one.
  """

  host: int | None
  devices: int | None
  num_devices: int
  shared: bool
  num_hosts: int = 1

  @property
  def owner(self) -> str:
    """Who has the host's memory."""
    return "this machine has" if self.num_hosts == 1 else f"{self.num_hosts} such machines have"


def measure_room(devices: "Sequence[jax.Device]", *, num_hosts: int = 1) -> Room:
  """Asks the system and the devices how much memory there is.

  Args:
    devices: of this host.
    num_hosts: that a run is split over; they are taken to be alike.
  """
  available = machine.available_bytes()
  limits = [(each.memory_stats() or {}).get("bytes_limit") for each in devices]
  return Room(
    host=None if available is None else available * num_hosts,
    devices=None if None in limits else sum(limits) * num_hosts,
    num_devices=len(devices) * num_hosts,
    shared=devices[0].platform == "cpu",
    num_hosts=num_hosts,
  )


def with_train_state(plan: RunPlan, config: ExperimentConfig, *, num_devices: int) -> RunPlan:
  """Adds what the agent itself takes, which JAX works out without allocating it.

  Every device holds all of it: the train state, the copy of the parameters that acts, and a
  gradient.

  Args:
    plan: of `config`.
    config: of the run.
    num_devices: each of which holds a copy.
  """
  import jax  # here: the rest is worked out without it

  agent = make_agent(
    config.agent,
    spec_of(config),
    total_environment_steps=config.training.total_environment_steps,
  )
  state = jax.eval_shape(agent.init, jax.random.key(0))
  acting = jax.eval_shape(agent.policy_params, state)
  copies = f"{num_devices} x " if num_devices > 1 else ""
  items = [
    ("train state", _tree_bytes(state), "parameters, their copies and the optimisers' moments"),
    ("acting parameters", _tree_bytes(acting), "a copy"),
    ("gradient", _tree_bytes(acting), "as large as the parameters"),
  ]
  added = [
    MemoryItem(name, size * num_devices, "device", f"{copies}{size:,} bytes: {what}")
    for name, size, what in items
  ]
  # What acting takes beside parameters, such as a chance of exploring, are scalars.
  parameters = sum(leaf.size for leaf in jax.tree.leaves(acting) if leaf.ndim)
  return dataclasses.replace(plan, memory=(*plan.memory, *added), parameters=parameters)


def check_memory(plan: RunPlan, room: Room) -> None:
  """Raises UsageError, with the arithmetic, where a plan does not fit."""
  if room.shared:
    _check(plan.memory, room.host, "memory", room.owner)
    return
  host = [item for item in plan.memory if item.place == "host"]
  device = [item for item in plan.memory if item.place == "device"]
  _check(host, room.host, "host memory", room.owner)
  what = "the device has" if room.num_devices == 1 else f"the {room.num_devices} devices have"
  _check(device, room.devices, "device memory", what)


def _check(items: Sequence[MemoryItem], available: int | None, what: str, who: str) -> None:
  total = sum(item.size for item in items)
  if available is None or total <= available:
    return
  largest = sorted(items, key=lambda item: -item.size)[:3]
  said = "; ".join(f"{item.name} {gib(item.size)} = {item.arithmetic}" for item in largest)
  raise UsageError(
    f"the run takes {gib(total)} of {what} and {who} {gib(available)} available: {said}"
  )


def _tree_bytes(tree) -> int:
  import jax

  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
