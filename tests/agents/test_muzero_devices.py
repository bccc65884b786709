"""MuZero on two devices: no collective in the compiled programs of acting and reanalyse.

Under plain jit XLA's partitioner is free to put one into every simulation of the search.
"""

import re

from coded_network import MODEL, CodedNetwork, make_record, spec
import jax
import numpy as np
import pytest

import agents.muzero.agent as muzero
from agents.muzero.config import GumbelSearchConfig, MuZeroConfig, PUCTSearchConfig
from agents.sequences import SequenceConfig
from training import sharding

KEY = jax.random.key(0)
COLLECTIVE = re.compile(
  r"\b(all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute|collective-broadcast)"
)
SEQUENCES = SequenceConfig(
  starts=2, unroll_steps=2, bootstrap_steps=2, batch_size=8, capacity=1000, min_size=100
)


def two_devices():
  return sharding.make_mesh(jax.devices()[:2])


def program(function, mesh, *arguments, record):
  """The compiled program's text, as the actor and the learner compile it."""
  return sharding.on_shards(function, mesh, record=record).lower(*arguments).compile().as_text()


@pytest.mark.parametrize("search", [GumbelSearchConfig, PUCTSearchConfig])
def test_no_collective_in_acting_and_reanalyse(monkeypatch, search):
  monkeypatch.setattr(muzero, "make_world_model", lambda *_, **__: CodedNetwork())
  config = MuZeroConfig(model=MODEL, sequences=SEQUENCES, search=search(num_simulations=3))
  agent = muzero.make_muzero(config, spec(), total_environment_steps=1000)
  mesh, state = two_devices(), agent.init(KEY)
  record = make_record(np.ones((SEQUENCES.length, 4)), starts=SEQUENCES.starts)
  acting = program(
    agent.act,
    mesh,
    agent.policy_params(state),
    record["observation"][0],
    KEY,
    record=sharding.BATCH_FIRST,
  )
  making = program(
    agent.phases[0].make_targets, mesh, state, record, KEY, record=sharding.TIME_FIRST
  )
  for text in (acting, making):
    assert " while(" in text, "the search is not in this program"
    assert "num_partitions=2" in text
    assert COLLECTIVE.findall(text) == []


def test_a_collective_would_be_found():
  def summed(replicated, shard, key):
    del key
    return jax.lax.psum(shard * replicated, sharding.AXIS)

  text = program(
    summed, two_devices(), np.float32(2.0), np.ones(4), KEY, record=sharding.BATCH_FIRST
  )
  assert COLLECTIVE.findall(text)
