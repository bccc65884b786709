"""The acting side and the record side of a rollout agree, step by step."""

from counter_environment import (
  CounterEnvironment,
  checking_act,
  decode,
  episode_length,
  expected_action,
  expected_reward,
)
import jax
import numpy as np
import pytest

from training.actor import Actor, CompiledAct
from training.sharding import make_mesh

T, B = 5, 4
PARAMS = np.int32(0)
KEY = jax.random.key(0)


@pytest.fixture(scope="module", params=[1, 2], ids=["one device", "two devices"])
def act(request):
  return CompiledAct(checking_act, make_mesh(jax.devices()[: request.param]))


def make_actor(act) -> Actor:
  return Actor(CounterEnvironment(B), act, rollout_length=T)


def ends() -> np.ndarray:
  """Whether the action of every step ends an episode, `[4 T, B]`, from the lengths alone."""
  result = np.zeros((4 * T, B), bool)
  for b in range(B):
    step, episode = -1, 0
    while step < 4 * T:
      step += episode_length(b, episode)
      episode += 1
      if step < 4 * T:
        result[step, b] = True
  return result


def test_every_entry_of_a_rollout_is_of_its_own_step(act):
  actor = make_actor(act)
  index = np.arange(B)[None]
  for rollout in range(4):
    trajectory, _ = actor.collect(PARAMS, base_key=KEY, rollout=rollout)
    steps = rollout * T + np.arange(T)[:, None]
    environment, step = decode(trajectory.observation)
    np.testing.assert_array_equal(environment, np.broadcast_to(index, (T, B)))
    np.testing.assert_array_equal(step, np.broadcast_to(steps, (T, B)))
    np.testing.assert_array_equal(trajectory.action, expected_action(index, steps))
    # The reward that followed the action, not the one that came with the observation.
    np.testing.assert_array_equal(trajectory.reward, expected_reward(index, steps))
    np.testing.assert_array_equal(trajectory.discount, 1.0 - ends()[rollout * T :][:T])
    np.testing.assert_array_equal(trajectory.extras["environment"], environment)
    np.testing.assert_array_equal(trajectory.extras["step"], step)
    environment, step = decode(trajectory.final_observation)
    np.testing.assert_array_equal(environment, index[0])
    np.testing.assert_array_equal(step, (rollout + 1) * T)
  assert act.compilations() == 1


def test_shapes_and_types(act):
  trajectory, _ = make_actor(act).collect(PARAMS, base_key=KEY, rollout=0)
  assert trajectory.observation.shape == (T, B, 1, 8, 1)
  assert trajectory.observation.dtype == np.uint8
  assert trajectory.final_observation.shape == (B, 1, 8, 1)
  assert (trajectory.action.dtype, trajectory.action.shape) == (np.int32, (T, B))
  for x in (trajectory.reward, trajectory.discount):
    assert (x.dtype, x.shape) == (np.float32, (T, B))
  assert trajectory.extras["step"].dtype == np.int32


def test_a_rollout_is_not_written_over_by_the_next(act):
  actor = make_actor(act)
  first, _ = actor.collect(PARAMS, base_key=KEY, rollout=0)
  kept = jax.tree.map(np.copy, first)
  actor.collect(PARAMS, base_key=KEY, rollout=1)
  jax.tree.map(np.testing.assert_array_equal, first, kept)


def test_it_acts_with_the_parameters_that_it_is_given(act):
  actor = make_actor(act)
  trajectory, _ = actor.collect(np.int32(100), base_key=KEY, rollout=0)
  _, step = decode(trajectory.observation)
  np.testing.assert_array_equal(trajectory.extras["step"], step + 100)


def test_noise_depends_on_the_rollouts_number_alone(act):
  def noise(rollout, key=KEY):
    return make_actor(act).collect(PARAMS, base_key=key, rollout=rollout)[0].extras["noise"]

  np.testing.assert_array_equal(noise(3), noise(3))
  everything = np.concatenate([noise(0), noise(1), noise(0, jax.random.key(1))])
  assert len(np.unique(everything)) == everything.size, "keys repeat over steps or environments"


def test_episodes_are_reported_in_the_rollout_in_which_they_end(act):
  actor = make_actor(act)
  for rollout in range(4):
    _, episodes = actor.collect(PARAMS, base_key=KEY, rollout=rollout)
    ended = ends()[rollout * T :][:T]
    assert len(episodes) == ended.sum()
    assert [e.environment for e in episodes] == [b for row in ended for b in np.flatnonzero(row)]


def test_a_restored_actor_continues_as_if_it_had_never_stopped(act):
  kept, stopped = make_actor(act), make_actor(act)
  for actor in (kept, stopped):
    actor.collect(PARAMS, base_key=KEY, rollout=0)
  state = stopped.save_state()
  continued = make_actor(act)
  for rollout in (7, 8):  # it has another past
    continued.collect(PARAMS, base_key=KEY, rollout=rollout)
  continued.restore_state(*state)
  for rollout in (1, 2):
    a, episodes_a = kept.collect(PARAMS, base_key=KEY, rollout=rollout)
    b, episodes_b = continued.collect(PARAMS, base_key=KEY, rollout=rollout)
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert episodes_a == episodes_b
