"""Windows of coded frames, counts, priorities and resume of the reanalyse replay."""

import threading

from coded_frames import FRAME_BYTES, NUM_ENVIRONMENTS, decode, record, request
import flashbax
from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from replay.factory import make_source
from replay.frame_store import FrameStore
from replay.interface import SAMPLE_LEAVES
from replay.plan import leaf_specs, plan_replay
from replay.sequence_buffer import SequenceBuffer

SMALL_BUDGET = 10_000  # bytes: too few for 60 or 120 raw frames of 192


def _add(buffer, steps):
  buffer.add(record(buffer.stored.stop, steps))


def _filled(asked, frames, **options):
  buffer = SequenceBuffer(asked, seed=0, **options)
  while buffer.stored.stop < frames:
    _add(buffer, min(7, frames - buffer.stored.stop))
  return buffer


def _draw_all(buffer):
  """Every draw that is due."""
  return [buffer.draw() for _ in range(buffer.updates_due())]


def _assert_equal(one, other):
  assert one.keys() == other.keys()
  for name in one:
    np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    assert one[name].dtype == other[name].dtype


@settings(deadline=None, max_examples=40)
@given(
  steps=st.lists(st.integers(1, 17), min_size=12, max_size=30),
  length=st.integers(2, 12),
  alpha=st.sampled_from([0.0, 1.0]),
  budget=st.sampled_from([2**20, SMALL_BUDGET]),
)
def test_windows_increase_by_one_over_several_wraps(steps, length, alpha, budget):
  asked = request(
    length=length,
    starts=2,
    capacity=20 * 3,
    min_size=20 * 3,
    samples_per_insert=1,
    priority_exponent=alpha,
    memory_budget=budget,
    block_frames=5,
  )
  buffer = SequenceBuffer(asked, seed=1)
  for step in steps:
    _add(buffer, step)
    for drawn in _draw_all(buffer):
      environment, frame = decode(drawn)
      assert frame.shape == (length, asked.batch_size)
      assert (np.diff(frame, axis=0) == 1).all()
      assert (environment == environment[:1]).all()
      assert frame.min() >= buffer.stored.start
      assert frame.max() < buffer.stored.stop
      np.testing.assert_array_equal(drawn["environment"], environment[:2])
      np.testing.assert_array_equal(drawn["frame_number"], frame[:2])
      np.testing.assert_array_equal(drawn["age"], buffer.stored.stop - frame[:2])
      assert {drawn[name].dtype.name for name in SAMPLE_LEAVES} == {"int32", "float32"}
  assert len(buffer.stored) <= 20
  buffer.close()


@pytest.mark.parametrize("frames", [10, 40, 97])
def test_every_window_is_drawn_equally_often_and_no_other(frames):
  asked = request(length=5, starts=1, batch_size=500, min_size=5 * 3, samples_per_insert=2000)
  buffer = _filled(asked, frames, ahead=0)
  drawn = [buffer.draw() for _ in range(40)]
  first = np.concatenate([each["frame_number"][0] for each in drawn])
  environment = np.concatenate([each["environment"][0] for each in drawn])
  possible = np.arange(max(0, frames - 40), frames - 5 + 1)
  assert set(first.tolist()) == set(possible.tolist())
  counts = [((environment == e) & (first == f)).sum() for e in range(3) for f in possible]
  assert sum(counts) == 20_000
  assert stats.chisquare(counts).pvalue > 1e-3


def test_the_windows_are_those_of_flashbax():
  theirs = flashbax.make_trajectory_buffer(
    add_batch_size=3,
    sample_batch_size=4096,
    sample_sequence_length=5,
    period=1,
    min_length_time_axis=5,
    max_length_time_axis=40,
  )
  state = theirs.init({"code": jnp.zeros((), jnp.int32)})
  asked = request(length=5, starts=1, batch_size=4096, min_size=5 * 3, samples_per_insert=20_000)
  buffer = SequenceBuffer(asked, seed=0)
  add, sample = jax.jit(theirs.add), jax.jit(theirs.sample)
  for turn in range(14):  # 98 frames: more than two wraps
    rows = record(7 * turn, 7)
    buffer.add(rows)
    state = add(state, {"code": jnp.asarray(rows["action"]).swapaxes(0, 1)})
    if turn in (1, 4, 7, 13):
      with jax.numpy_rank_promotion("allow"):
        theirs_drew = sample(state, jax.random.key(turn)).experience["code"]
      expected = np.unique(theirs_drew, axis=0)
      np.testing.assert_array_equal(np.unique(buffer.draw()["action"].T, axis=0), expected)
  buffer.close()


@settings(deadline=None, max_examples=30)
@given(
  ratio=st.sampled_from([0.3, 1, 7]),
  events=st.lists(st.tuples(st.integers(1, 20), st.integers(0, 50)), min_size=5, max_size=25),
)
def test_samples_per_insert_over_any_interleaving(ratio, events):
  asked = request(samples_per_insert=ratio)
  buffer = SequenceBuffer(asked, seed=0)
  inserted = draws = 0
  for steps, wanted in events:
    _add(buffer, steps)
    inserted += 3 * steps
    for _ in range(min(wanted, buffer.updates_due())):
      buffer.draw()
      draws += 1
    # The samples drawn and due never exceed what was earned, nor stay a whole draw behind.
    earned = ratio * max(0, inserted - asked.min_size)
    behind = earned - (draws + buffer.updates_due()) * asked.samples_per_draw
    assert -1e-9 < behind < asked.samples_per_draw
  buffer.close()


def test_drawing_early_is_refused():
  buffer = SequenceBuffer(request(), seed=0)
  with pytest.raises(RuntimeError, match="no update is due after 0 environment steps and 0 draws"):
    buffer.draw()
  _add(buffer, 8)
  assert buffer.updates_due() == 0
  with pytest.raises(RuntimeError, match="no update is due after 24"):
    buffer.draw()


@pytest.mark.parametrize("alpha", [0.0, 0.8])
def test_raw_and_compressed_draw_the_same(alpha):
  asked = {"priority_exponent": alpha, "importance_exponent": alpha, "block_frames": 7}
  raw = SequenceBuffer(request(**asked), seed=5)
  compressed = SequenceBuffer(request(**asked, memory_budget=SMALL_BUDGET), seed=5)
  draws = 0
  for steps in [8, 3, 15, 6, 30, 1, 1, 22, 40, 9]:
    for buffer in (raw, compressed):
      _add(buffer, steps)
    for one, other in zip(_draw_all(raw), _draw_all(compressed), strict=True):
      _assert_equal(one, other)
      draws += 1
  assert draws > 40
  assert raw.nbytes - compressed.nbytes == 120 * FRAME_BYTES - SMALL_BUDGET


@pytest.mark.parametrize("budget", [2**20, SMALL_BUDGET])
@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_bytes_are_those_of_the_plan(alpha, budget):
  asked = request(priority_exponent=alpha, memory_budget=budget, block_frames=7)
  leaves = leaf_specs(record(0, 1))
  plan = plan_replay(asked, num_environments=NUM_ENVIRONMENTS, leaves=leaves)
  buffer = _filled(asked, 60)
  assert buffer.nbytes == plan.total
  assert plan.compressed == (budget == SMALL_BUDGET)
  drawn = buffer.draw()
  assert sum(leaf.nbytes for leaf in drawn.values()) == plan.batch
  buffer.close()


def _play(buffer, turns, rng):
  """Turns of a loop that sets priorities; returns everything that was drawn."""
  drawn = []
  for _ in range(turns):
    _add(buffer, 3)
    for batch in _draw_all(buffer):
      drawn.append(batch)
      priority = rng.random(batch["frame_number"].shape) + 0.1
      buffer.update_priorities(batch["environment"], batch["frame_number"], priority)
  return drawn


COMPRESSED = {"memory_budget": SMALL_BUDGET, "block_frames": 7}
PRIORITISED = {"priority_exponent": 0.7, "importance_exponent": 0.4}


def test_drawing_ahead_changes_nothing():
  buffers = [SequenceBuffer(request(**PRIORITISED), seed=2, ahead=n) for n in (0, 1, 2, 5)]
  plays = [_play(buffer, 40, np.random.default_rng(0)) for buffer in buffers]
  assert len(plays[0]) > 50
  for play in plays[1:]:
    for one, other in zip(plays[0], play, strict=True):
      _assert_equal(one, other)
  for buffer in buffers:
    buffer.close()


def test_draws_left_over_see_what_was_added_since():
  plain, ahead = (SequenceBuffer(request(), seed=2, ahead=n) for n in (0, 2))
  for _ in range(20):
    for buffer in (plain, ahead):
      _add(buffer, 7)
    while plain.updates_due() > 3:
      one, other = plain.draw(), ahead.draw()
      _assert_equal(one, other)
      assert (one["age"] == plain.stored.stop - one["frame_number"]).all()
  ahead.close()


def test_other_seeds_draw_other_windows_and_equal_seeds_equal_ones():
  def draw(seed):
    buffer = _filled(request(batch_size=32, samples_per_insert=60), 40)
    buffer = SequenceBuffer(request(batch_size=32, samples_per_insert=60), seed=seed)
    buffer.add(record(0, 40))
    return [buffer.draw()["action"] for _ in range(2)]

  np.testing.assert_array_equal(draw(3), draw(3))
  assert (draw(3)[0] != draw(4)[0]).any()
  assert (draw(3)[0] != draw(3)[1]).any()


@pytest.mark.parametrize("stop", [0, 1, 3, 17, 30])
@pytest.mark.parametrize("fields", [{}, PRIORITISED, {**PRIORITISED, **COMPRESSED}])
def test_a_restart_anywhere_changes_nothing(fields, stop):
  whole = SequenceBuffer(request(**fields), seed=4)
  first, second = (SequenceBuffer(request(**fields), seed=4) for _ in range(2))

  def play(buffer, turns, rng):
    return _play(buffer, turns, rng) if fields else _play_uniform(buffer, turns)

  rng, other_rng = np.random.default_rng(0), np.random.default_rng(0)
  expected = play(whole, 45, rng)
  found = play(first, stop, other_rng)
  state = first.save_state()
  assert all(isinstance(value, np.ndarray) and value.size for value in state.values())
  play(first, 2, np.random.default_rng(9))  # what happens later does not reach the state
  second.restore_state(state)
  _assert_equal(state, second.save_state())
  found += play(second, 45 - stop, other_rng)
  assert len(expected) > 50
  for one, other in zip(expected, found, strict=True):
    _assert_equal(one, other)
  for buffer in (whole, first, second):
    buffer.close()


def _play_uniform(buffer, turns):
  drawn = []
  for _ in range(turns):
    _add(buffer, 3)
    drawn += _draw_all(buffer)
  return drawn


def test_a_restart_in_the_middle_of_a_turn_changes_nothing():
  first, second = (SequenceBuffer(request(samples_per_insert=9), seed=4) for _ in range(2))
  _add(first, 20)
  assert first.updates_due() > 5
  first.draw()
  second.restore_state(first.save_state())
  for _ in range(4):
    _assert_equal(first.draw(), second.draw())
  first.close()
  second.close()


def test_a_state_of_another_replay_is_refused_and_changes_nothing():
  state = _filled(request(**PRIORITISED), 20).save_state()
  for fields, named in [({"length": 5}, "request/length"), ({"batch_size": 5}, "batch_size")]:
    with pytest.raises(ValueError, match=named):
      SequenceBuffer(request(**PRIORITISED | fields), seed=0).restore_state(state)
  with pytest.raises(ValueError, match="seed is 1 here and 0 in the state"):
    SequenceBuffer(request(**PRIORITISED), seed=1).restore_state(state)
  buffer = _filled(request(**PRIORITISED), 12)
  before = buffer.save_state()
  lost = {name: value for name, value in state.items() if not name.startswith("leaves/")}
  cut = state | {
    f"leaves/{n}": state[f"leaves/{n}"][:-1] for n in ("observation", "action", "policy")
  }
  for bad, named in [
    ({k: v for k, v in state.items() if k != "draws"}, r"lacks \['draws'\]"),
    ({k: v for k, v in state.items() if k != "priorities/weights"}, "priorities/weights"),
    (state | {"surplus": np.zeros(1)}, r"unknown entries \['surplus'\]"),
    (lost, "frames"),
    (cut, "frames"),
    (state | {"leaves/action": state["leaves/action"][:-1]}, "action"),
  ]:
    with pytest.raises(ValueError, match=named):
      buffer.restore_state(bad)
    _assert_equal(before, buffer.save_state())
  buffer.close()


def test_priorities_reach_the_draws_after_the_next_add():
  asked = request(
    length=4, starts=1, batch_size=1000, samples_per_insert=500, priority_exponent=1.0
  )
  buffer = _filled(asked, 40)
  everything = np.meshgrid(np.arange(3), np.arange(0, 40), indexing="ij")
  ignored = buffer.update_priorities(*everything, np.full((3, 40), 1e-9))
  assert ignored == 0
  buffer.update_priorities(np.array([[2]]), np.array([[30]]), np.array([[1.0]]))
  assert len(np.unique(buffer.draw()["frame_number"])) > 10  # not yet
  _add(buffer, 1)  # its frame begins no whole window, but frame 37 of before now does
  drawn = buffer.draw()
  assert (drawn["environment"] == 2).mean() > 0.99
  assert (drawn["frame_number"] == 30).mean() > 0.99
  buffer.close()


def test_an_overwritten_slot_keeps_its_new_priority():
  asked = request(
    length=4, starts=1, batch_size=4000, samples_per_insert=500, priority_exponent=1.0
  )
  buffer = _filled(asked, 45)  # frames 5 to 44 are stored; frame 40 lies where frame 0 was
  old = np.array([0, 4, 5])
  assert buffer.update_priorities(np.array([1, 1, 1]), old, np.full(3, 1e6)) == 2
  _add(buffer, 3)  # overwrites frame 5 as well
  drawn = buffer.draw()
  fresh = drawn["frame_number"][drawn["environment"] == 1]
  assert np.isin(np.arange(8, 45), fresh).all()
  assert fresh.min() == 8
  assert np.bincount(fresh[0] if fresh.ndim > 1 else fresh).max() < 100  # none of a millionfold
  buffer.close()


def test_bad_priorities_are_refused():
  buffer = _filled(request(**PRIORITISED), 20)
  one = np.array([1])
  with pytest.raises(ValueError, match="finite and above 0"):
    buffer.update_priorities(one, one, np.array([0.0]))
  with pytest.raises(ValueError, match="finite and above 0"):
    buffer.update_priorities(one, one, np.array([np.nan]))
  with pytest.raises(ValueError, match="shapes differ"):
    buffer.update_priorities(one, one, np.array([1.0, 2.0]))
  for environment, frame in [(3, 1), (-1, 1), (1, 20), (1, -1)]:
    with pytest.raises(ValueError, match="never stored"):
      buffer.update_priorities(np.array([environment]), np.array([frame]), np.array([1.0]))
  with pytest.raises(RuntimeError, match="priority_exponent is 0"):
    _filled(request(), 20).update_priorities(one, one, np.array([1.0]))
  buffer.close()


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"capacity": 121}, "multiple of the 3 environments, got 121; 120 is the next below"),
    ({"length": 50, "min_size": 100}, "length 50 is longer than the ring: .* keeps 40 frames"),
    ({"min_size": 17}, "length x environments = 6 x 3 = 18, got 17"),
    ({"memory_budget": 1400}, "120 x 192 bytes = .* do not fit memory_budget"),
    ({"memory_budget": 2000, "block_frames": 32}, "2000 bytes are too few"),
  ],
)
def test_requests_that_cannot_be_met(fields, message):
  buffer = SequenceBuffer(request(**fields), seed=0)
  with pytest.raises(ValueError, match=message):
    _add(buffer, 5)
  assert buffer.nbytes == 0


def test_more_than_the_machine_has_is_refused():
  asked = request(capacity=3 * 10**13, memory_budget=2**60)
  with pytest.raises(ValueError, match=r"GiB .* this machine has"):
    _add(SequenceBuffer(asked, seed=0), 5)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda r: {k: v for k, v in r.items() if k != "observation"}, "'observation'"),
    (lambda r: r | {"age": r["action"]}, r"\['age'\] itself"),
    (lambda r: r | {"action": r["action"][:-1]}, "share"),
    (lambda r: r | {"action": r["action"][:, 0]}, r"'action' must be \[T, B"),
    (lambda r: {name: x[:0] for name, x in r.items()}, "share"),
  ],
)
def test_records_that_cannot_be_stored(change, message):
  buffer = SequenceBuffer(request(), seed=0)
  with pytest.raises(ValueError, match=message):
    buffer.add(change(record(0, 5)))
  with pytest.raises(TypeError, match="a record maps names to arrays, got list"):
    buffer.add([record(0, 5)])


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda r: r | {"action": r["action"].astype(np.int64)}, r"\['action'\] differ"),
    (lambda r: r | {"policy": r["policy"][..., :1]}, r"\['policy'\] differ"),
    (lambda r: {k: v for k, v in r.items() if k != "policy"}, r"\['policy'\] differ"),
    (lambda r: r | {"value": r["action"]}, r"\['value'\] differ"),
    (lambda r: {name: x[:, :2] for name, x in r.items()}, "has 2 environments"),
    (lambda r: record(9, 41), "41 steps is longer than the ring, which keeps 40"),
  ],
)
def test_records_unlike_the_first_are_refused_and_change_nothing(change, message):
  buffer = _filled(request(), 9)
  before = buffer.save_state()
  with pytest.raises(ValueError, match=message):
    buffer.add(change(record(9, 5)))
  _assert_equal(before, buffer.save_state())
  _add(buffer, 5)
  decode(buffer.draw())
  buffer.close()


def test_device_arrays_come_in_and_prepared_batches_come_out():
  buffer = make_source(request(), seed=3, prepare=lambda drawn: jax.tree.map(jnp.asarray, drawn))
  rows = record(0, 20)
  buffer.add({name: jnp.asarray(leaf) for name, leaf in rows.items()})
  drawn = buffer.draw()
  assert all(isinstance(leaf, jax.Array) for leaf in drawn.values())
  environment, frame = decode({name: np.asarray(leaf) for name, leaf in drawn.items()})
  assert (np.diff(frame, axis=0) == 1).all()
  np.testing.assert_array_equal(drawn["environment"], environment[:2])
  buffer.close()


def test_an_error_in_the_thread_reaches_the_caller():
  def fail(_):
    raise OSError("no device")

  buffer = SequenceBuffer(request(), seed=0, prepare=fail)
  _add(buffer, 20)
  with pytest.raises(OSError, match="no device"):
    buffer.draw()
  buffer.close()


def test_nothing_is_written_while_a_batch_is_being_drawn_ahead(monkeypatch):
  started, finish, seen = threading.Event(), threading.Event(), []

  def slow(drawn):
    started.set()
    finish.wait()
    return drawn

  write = FrameStore.write

  def watched(store, rows):
    seen.append(finish.is_set())
    return write(store, rows)

  buffer = SequenceBuffer(request(), seed=0, prepare=slow)
  _add(buffer, 20)
  started.wait()
  monkeypatch.setattr(FrameStore, "write", watched)
  threading.Timer(0.05, finish.set).start()
  _add(buffer, 5)
  assert seen == [True]
  buffer.close()


@pytest.mark.parametrize("options", [{"seed": -1}, {"seed": 0, "ahead": -1}])
def test_bad_options(options):
  with pytest.raises(ValueError, match="must be at least 0, got -1"):
    SequenceBuffer(request(), **options)
