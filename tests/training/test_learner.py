"""The learner with an agent of a few lines that records what it is given."""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agents.interface import WHOLE, ActorOutput, Agent, Phase
from replay.interface import Rollouts, Trajectory
from training import sharding
from training.learner import Learner, NonFiniteError

T, B = 3, 4
N = T * B
EPOCHS, MINIBATCHES = 2, 3


@flax.struct.dataclass
class State:
  """Parameters, how often each of the batch's N entries was learnt from, and noise seen."""

  params: jax.Array  # [2]
  seen: jax.Array  # [N] int32
  noise: jax.Array  # [EPOCHS * MINIBATCHES], the key's, by update
  updates: jax.Array  # [] int32


def init(key) -> State:
  return State(
    params=jax.random.normal(key, (2,)),
    seen=jnp.zeros(N, jnp.int32),
    noise=jnp.zeros(EPOCHS * MINIBATCHES),
    updates=jnp.zeros((), jnp.int32),
  )


def act(params, observation, key) -> ActorOutput:
  del params, key
  return ActorOutput(jnp.zeros(observation.shape[0], jnp.int32), {})


def postprocess(state, trajectory):
  # A statistic over the batch, and a record in which every entry has a number of its own.
  record = {"number": trajectory.action, "centred": trajectory.reward - trajectory.reward.mean()}
  return state.replace(params=state.params + trajectory.reward.mean()), record


def make_targets(state, record, key):
  batch = {name: x.reshape(-1) for name, x in record.items()}
  return batch | {"noise": jax.random.uniform(key, batch["number"].shape)}


def update(state, batch, key, shards=WHOLE):
  mean, each = shards.combine(
    {"centred": batch["centred"].mean()}, {"number": batch["number"].mean()}
  )
  state = state.replace(
    params=state.params - 0.1 * mean["centred"],
    seen=state.seen.at[shards.gather(batch["number"], 0)].add(1),
    noise=state.noise.at[state.updates % (EPOCHS * MINIBATCHES)].set(jax.random.uniform(key)),
    updates=state.updates + 1,
  )
  return state, {"number": each["number"].mean(), "updates": state.updates.astype(jnp.float32)}


PHASE = Phase(
  "phase", Rollouts(1), make_targets, update, epochs=EPOCHS, num_minibatches=MINIBATCHES
)
AGENT = Agent(init, lambda state: state.params, act, act, postprocess, (PHASE,), T)


def make_trajectory(seed: int = 0) -> Trajectory:
  generator = np.random.default_rng(seed)
  return Trajectory(
    observation=np.zeros((T, B, 1, 1, 1), np.uint8),
    action=np.arange(N, dtype=np.int32).reshape(T, B),
    reward=generator.normal(size=(T, B)).astype(np.float32),
    discount=np.ones((T, B), np.float32),
    extras={"value": np.zeros((T, B), np.float32)},
    final_observation=np.zeros((B, 1, 1, 1), np.uint8),
  )


@pytest.fixture(params=[1, 2], ids=["one device", "two devices"])
def mesh(request):
  return sharding.make_mesh(jax.devices()[: request.param])


def run_turn(learner: Learner, draw: int, trajectory=None) -> dict[str, float]:
  record = learner.postprocess(trajectory or make_trajectory(draw))
  return learner.update(0, learner.make_targets(0, record, draw=draw), draw=draw)


def test_every_entry_is_learnt_from_once_in_every_epoch(mesh):
  learner = Learner(AGENT, mesh=mesh, seed=0)
  run_turn(learner, 0)
  np.testing.assert_array_equal(learner.state.seen, np.full(N, EPOCHS))
  run_turn(learner, 1)
  np.testing.assert_array_equal(learner.state.seen, np.full(N, 2 * EPOCHS))
  assert learner.state.updates == 2 * EPOCHS * MINIBATCHES


def test_metrics_are_means_over_the_updates_and_named_after_the_phase(mesh):
  metrics = run_turn(Learner(AGENT, mesh=mesh, seed=0), 0)
  assert metrics == {
    "phase/number": pytest.approx(np.arange(N).mean()),
    "phase/updates": pytest.approx(np.arange(1, EPOCHS * MINIBATCHES + 1).mean()),
  }
  assert all(type(value) is float for value in metrics.values())


def test_statistics_are_over_all_devices():
  states = []
  for count in (1, 2):
    learner = Learner(AGENT, mesh=sharding.make_mesh(jax.devices()[:count]), seed=0)
    learner.postprocess(make_trajectory())
    states.append(np.asarray(learner.state.params))
  np.testing.assert_allclose(*states, rtol=1e-6)


def test_noise_follows_from_seed_and_draw(mesh):
  def noise(learner, draw):
    record = learner.postprocess(make_trajectory())
    batch = learner.make_targets(0, record, draw=draw)
    learner.update(0, batch, draw=draw)
    return np.concatenate([batch["noise"], learner.state.noise])

  learner, again, other = (Learner(AGENT, mesh=mesh, seed=seed) for seed in (5, 5, 6))
  first = noise(learner, 2)
  np.testing.assert_array_equal(noise(again, 2), first)
  everything = np.concatenate([first, noise(again, 3), noise(other, 2)])
  assert len(np.unique(everything)) == everything.size, "a key was used twice"


def test_what_was_published_outlives_the_updates(mesh):
  """The state is donated to updates: whoever acts must hold a copy."""
  learner = Learner(AGENT, mesh=mesh, seed=0)
  before = np.array(learner.state.params)
  published = learner.publish()
  for draw in range(3):
    run_turn(learner, draw)
  np.testing.assert_array_equal(published, before)
  assert not np.array_equal(np.asarray(learner.publish()), before)


def test_each_function_compiles_once(mesh):
  learner = Learner(AGENT, mesh=mesh, seed=0)
  for draw in range(4):
    learner.publish()
    run_turn(learner, draw)
    learner.check_finite()
  assert set(learner.compilations().values()) == {1}, learner.compilations()
  assert set(learner.compilations()) >= {"publish", "postprocess", "phase/update"}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_metric_that_is_not_finite_is_named(mesh, bad):
  def spoilt(state, batch, key, shards):
    state, metrics = update(state, batch, key, shards)
    return state, metrics | {"loss": jnp.where(state.updates == 4, bad, 0.5)}

  agent = dataclasses.replace(AGENT, phases=(dataclasses.replace(PHASE, update=spoilt),))
  with pytest.raises(NonFiniteError, match=rf"phase/loss is {bad} in update 3 of its draw"):
    run_turn(Learner(agent, mesh=mesh, seed=0), 0)


def test_a_state_that_the_last_update_has_spoilt_is_named(mesh):
  """Its metrics are of the parameters before it."""

  def spoilt(state, batch, key, shards):
    state, metrics = update(state, batch, key, shards)
    last = state.updates == EPOCHS * MINIBATCHES
    return state.replace(params=jnp.where(last, jnp.inf, state.params)), metrics

  agent = dataclasses.replace(AGENT, phases=(dataclasses.replace(PHASE, update=spoilt),))
  learner = Learner(agent, mesh=mesh, seed=0)
  learner.check_finite()
  assert all(np.isfinite(value) for value in run_turn(learner, 0).values())
  with pytest.raises(NonFiniteError, match=r"train state\.params is not finite"):
    learner.check_finite()


def test_a_batch_that_does_not_divide_is_refused():
  agent = dataclasses.replace(AGENT, phases=(dataclasses.replace(PHASE, num_minibatches=5),))
  with pytest.raises(ValueError, match="phase phase: 12 entries do not split into 5 minibatches"):
    run_turn(Learner(agent, mesh=sharding.make_mesh(jax.devices()[:2]), seed=0), 0)


def test_a_trajectory_without_extras(mesh):
  learner = Learner(AGENT, mesh=mesh, seed=0)
  run_turn(learner, 0, make_trajectory()._replace(extras={}))
  np.testing.assert_array_equal(learner.state.seen, np.full(N, EPOCHS))
