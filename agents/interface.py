"""An agent is how to act, plus a tuple of learning phases.

Pure functions of arrays: no device, no thread, no file. The batch entries of
`act` and `make_targets` are independent of one another, so that they can be run
on any shard of a batch; statistics over a batch belong in `postprocess`, and in
`update`, which brings the shards of a minibatch together itself.
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any, NamedTuple

import jax

from replay.interface import Record, Rollouts, Sequences, Trajectory

TrainState = Any  # a frozen struct per agent, of arrays only
PolicyParams = Any  # what acting needs of it
Batch = Any  # a tree of [N, ...] arrays; minibatches are drawn along the first axis


class Ratio(NamedTuple):
  """A metric that some updates say more about than others, such as an error on rare steps.

  Over several updates totals and counts add up; the quotient is taken last.
  """

  total: jax.Array  # []
  count: jax.Array  # []


Metrics = Mapping[str, jax.Array | Ratio]  # by name; a scalar is a mean over the minibatch


class ActorOutput(NamedTuple):
  """What acting returns."""

  action: jax.Array  # [B] int32
  extras: Mapping[str, jax.Array]  # [B, ...] each, stored in the trajectory


class Priorities(NamedTuple):
  """How much is to be learnt from samples, told to the source that they were drawn from."""

  environment: jax.Array  # [...] int32, as drawn
  frame_number: jax.Array  # [...] int32, as drawn
  priority: jax.Array  # [...] float32, not negative


@dataclasses.dataclass(frozen=True)
class Shards:
  """The equal parts that a minibatch lies in, and what brings them together.

  An update is run once for every shard, and has to come to the same result for each.

  Attributes:
    count: D, shards of the minibatch.
    index: of the one that an update is given, from 0.
    gather: (`x`, axis) -> the shards' `x` side by side along that axis, in their order.
      Gradients flow back to the shard that an entry comes from.
    combine: (tree, tree) -> the mean over the shards of every array of the first, and
      `[D, ...]`, all shards' arrays, of the second. One message for all.
  """

  count: int
  index: jax.Array | int
  gather: Callable[[jax.Array, int], jax.Array]
  combine: Callable[[Any, Any], tuple[Any, Any]]


WHOLE = Shards(
  count=1,
  index=0,
  gather=lambda x, axis: x,
  combine=lambda mean, each: (mean, jax.tree.map(lambda x: x[None], each)),
)


@dataclasses.dataclass(frozen=True)
class Phase:
  """One way in which an agent learns, and where its data comes from.

  Attributes:
    name: prefix of its metrics.
    source: what it asks of replay.
    make_targets: (state, record, key) -> batch, once per draw. The record is
      time first, `[T, B, ...]`; the batch's first axis N is what minibatches are
      drawn from: single steps, or whole sequences. Consumes the key.
    update: (state, minibatch, key, shards) -> (state, metrics), one optimiser step on
      `[N / num_minibatches / shards.count, ...]`, one of the minibatch's shards. Consumes
      the key, the same for all shards. `shards` may be left out, and is `WHOLE` then.
    epochs: passes over a batch.
    num_minibatches: updates per pass; must divide N.
    priorities: batch -> what prioritised replay should know of its samples; None where
      the source draws without priorities.
    work: what a draw amounts to, counts by name; reported per second, and used for nothing
      else.
  """

  name: str
  source: Rollouts | Sequences
  make_targets: Callable[[TrainState, Record, jax.Array], Batch]
  update: Callable[[TrainState, Batch, jax.Array, Shards], tuple[TrainState, Metrics]]
  epochs: int = 1
  num_minibatches: int = 1
  priorities: Callable[[Batch], Priorities] | None = None
  work: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class ReportedValue:
  """What the `value` among the extras of acting is an estimate of.

    scale(state) value_t ~ sum_i discount^i r_{t+i+1}, to the end of the episode

  Attributes:
    discount: gamma.
    scale: train state -> [] float32, the reward that one unit of value stands for.
  """

  discount: float
  scale: Callable[[TrainState], jax.Array]


@dataclasses.dataclass(frozen=True)
class Agent:
  """How to act, plus a tuple of learning phases.

  Attributes:
    init: key -> train state.
    policy_params: train state -> what acting needs of it.
    act: (policy params, observation `[B, H, W, C]` uint8, key) -> ActorOutput,
      exploring. Consumes the key.
    act_greedy: the same without exploration or noise; the key only breaks ties.
    act_settled: the same with the exploration that is left when its schedule is over; None
      where `act` has no schedule. Evaluations that sample use it, so that agents are not
      told apart by how long they explore.
    postprocess: (train state, trajectory) -> (train state, record), once for
      every trajectory when it arrives. A record is a tree of `[T, B, ...]`.
    phases: run in this order, each when its source says that updates are due.
    rollout_length: T, steps of every environment between two learning turns.
    reported_value: how to read the `value` that acting reports; None where it reports none.
    work: what acting in one environment step amounts to, as `Phase.work`.
  """

  init: Callable[[jax.Array], TrainState]
  policy_params: Callable[[TrainState], PolicyParams]
  act: Callable[[PolicyParams, jax.Array, jax.Array], ActorOutput]
  act_greedy: Callable[[PolicyParams, jax.Array, jax.Array], ActorOutput]
  postprocess: Callable[[TrainState, Trajectory], tuple[TrainState, Record]]
  phases: tuple[Phase, ...]
  rollout_length: int
  act_settled: Callable[[PolicyParams, jax.Array, jax.Array], ActorOutput] | None = None
  reported_value: ReportedValue | None = None
  work: Mapping[str, int] = dataclasses.field(default_factory=dict)

  @property
  def policies(self) -> Mapping[str, Callable]:
    """How evaluations act, by the policy's name; each as `act` is."""
    return {"sampled": self.act_settled or self.act, "greedy": self.act_greedy}
