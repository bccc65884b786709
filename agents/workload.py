"""What an agent's settings amount to, in counts: nothing is built and no JAX is needed.

Every agent's config answers `workload(spec, num_devices=...)`; the plan of a run is made of it.
"""

from collections.abc import Mapping
import dataclasses

from replay.interface import Rollouts, Sequences

Leaf = tuple[tuple[int, ...], str]  # shape of one environment's entry at one step, dtype


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhaseWork:
  """What one draw of a phase leads to.

  Attributes:
    name: of the phase.
    source: what it asks of replay.
    epochs: passes over a draw.
    num_minibatches: updates in a pass.
    searches: positions that are searched anew for a draw's targets.
    searched_at_once: positions whose search trees are in memory together.
  """

  name: str
  source: Rollouts | Sequences
  epochs: int = 1
  num_minibatches: int = 1
  searches: int = 0
  searched_at_once: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
  """What an agent does with its environments' steps.

  Attributes:
    rollout_length: T, steps of every environment between two learning turns.
    record: what becomes of a step on arrival: entries by name, as sources get them.
    phases: in order.
    simulations: model steps of one search, 0 for an agent that does not search. Acting
      searches every position that it acts in.
    tree_bytes: of one position's search tree.
  """

  rollout_length: int
  record: Mapping[str, Leaf]
  phases: tuple[PhaseWork, ...]
  simulations: int = 0
  tree_bytes: int = 0
