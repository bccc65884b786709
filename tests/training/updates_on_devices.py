"""One update of every phase's first batch on 1, 2 and 4 devices; run in a process that has four.

Takes an agent's name, or `muzero+ssl` for MuZero with all self-supervised losses. Prints a line
of JSON: by phase and number of devices, the largest difference to one device, and what
collectives there are in the compiled program; and, on 4 devices, in that of what makes the batch.
"""

from collections import Counter
import dataclasses
import json
import re
import sys

import jax
import numpy as np
from several import SELF_SUPERVISED, tiny

from environments.factory import make_environment
from experiments.registry import make_agent
from experiments.run_plan import spec_of
from experiments.runner import make_sources
from training import sharding
from training.actor import Actor, CompiledAct
from training.learner import Learner

COLLECTIVE = re.compile(
  r" (all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute|collective-broadcast)"
  r"(?:-start)?\("
)
KEY = jax.random.key(0)


def configured(name: str):
  """Returns the configuration that a name on the command line stands for."""
  config = tiny(name.removesuffix("+ssl"), turns=8, turn=32)
  if not name.endswith("+ssl"):
    return config
  agent = dataclasses.replace(config.agent, self_supervision=SELF_SUPERVISED)
  return dataclasses.replace(config, agent=agent)


def first_batches(config):
  """Yields each phase with a state, a record and the batch that it would learn from."""
  spec = spec_of(config)
  environment = make_environment(
    "catch",
    levels=config.environment.level_distribution,
    num_environments=spec.num_environments,
    seed=0,
  )
  agent = make_agent(config.agent, spec, total_environment_steps=256)
  mesh = sharding.make_mesh(jax.devices()[:1])
  actor = Actor(environment, CompiledAct(agent.act, mesh), rollout_length=agent.rollout_length)
  learner = Learner(agent, mesh=mesh, seed=0)
  sources = make_sources(agent, mesh=mesh, seed=0)
  records, rollout = {}, 0
  while len(records) < len(sources):
    trajectory, _ = actor.collect(learner.publish(), base_key=KEY, rollout=rollout)
    record = learner.postprocess(trajectory)
    for index, source in enumerate(sources):
      source.add(record)
      if source.updates_due():
        records[index] = source.draw()
    rollout += 1
  for index, phase in enumerate(agent.phases):
    batch = learner.make_targets(index, records[index], draw=0)
    yield phase, *jax.tree.map(np.array, (learner.state, dict(records[index]), batch))


def difference(a, b) -> float:
  """Returns the largest difference between two trees of arrays."""
  return max(
    float(np.max(np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64)), initial=0.0))
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  )


def compare(phase, state, record, batch) -> dict:
  """Makes the update on 1, 2 and 4 devices."""
  found, reference = {}, None
  for count in (1, 2, 4):
    mesh = sharding.make_mesh(jax.devices()[:count])
    placed = (
      sharding.place(state, mesh, sharding.REPLICATED),
      sharding.place(batch, mesh, sharding.BATCH_FIRST),
      KEY,
    )
    update = sharding.on_shards_together(phase.update, mesh).lower(*placed).compile()
    result = jax.tree.map(np.array, update(*placed))
    reference = reference or result
    found[count] = {
      "difference": difference(result, reference),
      "moved": difference(result[0].params, state.params),
      "update": Counter(COLLECTIVE.findall(update.as_text())),
    }
  making = sharding.on_shards(phase.make_targets, mesh, record=sharding.TIME_FIRST)
  program = making.lower(state, record, KEY).compile().as_text()
  return {"devices": found, "targets": Counter(COLLECTIVE.findall(program))}


if __name__ == "__main__":
  batches = first_batches(configured(sys.argv[1]))
  print(json.dumps({each[0].name: compare(*each) for each in batches}))
