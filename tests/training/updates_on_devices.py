"""One update of the same batch on 1, 2 and 4 devices; run in a process that has four.

Prints a line of JSON: by agent and number of devices, the largest difference to one device, and
what collectives there are in the compiled programs of the update and of what makes its batch.
"""

from collections import Counter
import json
import re
import sys

import jax
import numpy as np
from several import tiny

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


def first_batch(name: str):
  """Returns the phase, the state, the record and the batch from which an agent first learns."""
  config = tiny(name, turns=8, turn=32)
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
  (source,) = make_sources(agent, mesh=mesh, seed=0)
  rollout = 0
  while not source.updates_due():
    trajectory, _ = actor.collect(learner.publish(), base_key=KEY, rollout=rollout)
    source.add(learner.postprocess(trajectory))
    rollout += 1
  record = source.draw()
  batch = learner.make_targets(0, record, draw=0)
  return agent.phases[0], *jax.tree.map(np.array, (learner.state, dict(record), batch))


def difference(a, b) -> float:
  """Returns the largest difference between two trees of arrays."""
  return max(
    float(np.max(np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64)), initial=0.0))
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  )


def compare(name: str) -> dict:
  """Makes the update on 1, 2 and 4 devices."""
  phase, state, record, batch = first_batch(name)
  found, reference = {}, None
  for count in (1, 2, 4):
    mesh = sharding.make_mesh(jax.devices()[:count])
    placed = (
      sharding.place(state, mesh, sharding.REPLICATED),
      sharding.place(batch, mesh, sharding.BATCH_FIRST),
      KEY,
    )
    update = sharding.on_mesh(phase.update, mesh, results=sharding.REPLICATED)
    making = sharding.on_shards(phase.make_targets, mesh, record=sharding.TIME_FIRST)
    result = jax.tree.map(np.array, update(*placed))
    reference = reference or result
    texts = {
      "update": update.lower(*placed).compile().as_text(),
      "targets": making.lower(state, record, KEY).compile().as_text(),
    }
    found[count] = {
      "difference": difference(result, reference),
      "moved": difference(result[0], state),
      **{part: Counter(COLLECTIVE.findall(text)) for part, text in texts.items()},
    }
  parameters = sum(x.size for x in jax.tree.leaves(state.params))
  leaves = len(jax.tree.leaves(state.params))
  return {"devices": found, "parameters": parameters, "leaves": leaves}


if __name__ == "__main__":
  print(json.dumps({name: compare(name) for name in sys.argv[1:]}))
