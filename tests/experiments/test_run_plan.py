"""The plan of a run against the agents themselves, against real buffers and against real trees."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import mctx
import numpy as np
import pytest

from agents.interface import ActorOutput
from agents.muzero.config import PUCTSearchConfig
from environments.factory import environment_spec, make_environment
from environments.levels import parse_levels
from experiments import machine
from experiments.command_line import run_command
from experiments.errors import UsageError
from experiments.memory_items import MemoryItem
from experiments.options import guarded
from experiments.presets import PRESETS, make_preset
from experiments.registry import AGENTS, make_agent
from experiments.run_memory import Room, check_memory, with_train_state
from experiments.run_plan import plan_run, spec_of, to_mapping
from replay.interface import Sequences, Trajectory
from replay.plan import leaf_specs
from replay.rollout_queue import RolloutQueue
from replay.sequence_buffer import SequenceBuffer
from training.config import EvaluationConfig, TrainingConfig

EVERY_PRESET = [(preset, agent) for preset, agents in PRESETS.items() for agent in agents]


def abstract_record(config, agent):
  """Returns the shapes of what the agent makes of a rollout, and of its train state."""
  spec, time = spec_of(config), agent.rollout_length
  state = jax.eval_shape(agent.init, jax.random.key(0))
  frame = jax.ShapeDtypeStruct((spec.num_environments, *spec.observation_shape), jnp.uint8)
  params = jax.eval_shape(agent.policy_params, state)
  output = jax.eval_shape(agent.act, params, frame, jax.random.key(0))
  assert isinstance(output, ActorOutput)

  def rollout(leaf):
    return jax.ShapeDtypeStruct((time, *leaf.shape), leaf.dtype)

  numbers = jax.ShapeDtypeStruct((time, spec.num_environments), jnp.float32)
  trajectory = Trajectory(
    observation=rollout(frame),
    action=rollout(output.action),
    reward=numbers,
    discount=numbers,
    extras=jax.tree.map(rollout, dict(output.extras)),
    final_observation=frame,
  )
  return jax.eval_shape(agent.postprocess, state, trajectory)[1]


@pytest.mark.parametrize(("preset", "agent"), EVERY_PRESET)
def test_the_counts_in_a_presets_words_are_those_of_its_plan(preset, agent):
  text = PRESETS[preset][agent].__doc__
  cost = text[text.index("Cost:") : text.index("Expected")]
  plan = plan_run(make_preset(preset, agent))
  counts = {
    "steps": plan.environment_steps,
    "updates": plan.updates,
    "searches": plan.acting_searches + plan.reanalysing_searches,
  }
  said = re.findall(r"([0-9.]+)([kM]) (steps|updates|searches)", cost)
  assert said or preset == "smoke" or "not measured yet" in cost
  for number, unit, what in said:
    value = float(number) * {"k": 1e3, "M": 1e6}[unit]
    assert value == pytest.approx(counts[what], rel=0.02), (number + unit, what)


@pytest.mark.parametrize("name", AGENTS)
def test_the_workload_is_the_agents_own(name):
  config = make_preset("smoke", name)
  agent = make_agent(config.agent, spec_of(config), total_environment_steps=4096)
  work = config.agent.workload(spec_of(config))
  assert work.rollout_length == agent.rollout_length
  for planned, phase in zip(work.phases, agent.phases, strict=True):
    for field in ("name", "source", "epochs", "num_minibatches"):
      assert getattr(planned, field) == getattr(phase, field), (planned.name, field)
  leaves = leaf_specs(abstract_record(config, agent))
  assert leaves == {key: (shape, np.dtype(kind)) for key, (shape, kind) in work.record.items()}


@pytest.mark.parametrize("game", ["catch", "leaper"])
def test_the_spec_is_the_environments_own(game):
  environment = make_environment(game, levels=parse_levels("easy-200"), num_environments=2, seed=0)
  environment.close()
  assert environment_spec(game, num_environments=2) == environment.spec


@pytest.mark.parametrize(("preset", "agent"), EVERY_PRESET)
def test_every_preset_can_be_planned(preset, agent):
  """Presets whose capacity was no multiple of their environments failed at the first rollout."""
  plan = plan_run(make_preset(preset, agent))
  assert plan.updates > 0
  assert plan.environment_steps >= make_preset(preset, agent).training.total_environment_steps
  assert all(item.size > 0 for item in plan.memory)


def item(plan, name):
  """Returns the bytes of one item of a plan's memory."""
  (found,) = [each.size for each in plan.memory if each.name == name]
  return found


def small(agent, **settings):
  """Returns a small configuration of an agent that replays, its sequences changed."""
  config = make_preset("smoke", agent)
  sequences = dataclasses.replace(config.agent.sequences, **settings)
  return dataclasses.replace(config, agent=dataclasses.replace(config.agent, sequences=sequences))


def filled(source, config, *, rollouts):
  """Adds rollouts of random frames, as the agent's records are."""
  spec = spec_of(config)
  work = config.agent.workload(spec)
  generator = np.random.default_rng(0)
  for _ in range(rollouts):
    source.add(
      {
        name: generator.integers(
          255, size=(work.rollout_length, spec.num_environments, *shape)
        ).astype(dtype)
        for name, (shape, dtype) in work.record.items()
      }
    )
  return source


@pytest.mark.parametrize("agent", ["muzero", "q_learning"])
@pytest.mark.parametrize(
  "settings",
  [{}, {"priority_exponent": 0.6, "importance_exponent": 0.4}, {"memory_budget": 40 * 2**20}],
  ids=["uniform", "prioritised", "compressed"],
)
def test_replay_bytes_are_those_of_the_buffer(agent, settings):
  config = small(agent, **settings)
  request = config.agent.sequences.request()
  buffer = filled(SequenceBuffer(request, seed=0), config, rollouts=5)  # past min_size
  plan = plan_run(config)
  planned = item(plan, "model: replay, frames") + item(plan, "model: replay, the rest")
  assert buffer.nbytes == planned
  assert plan.replay_raw == 4096 * 12288
  assert (planned < plan.replay_raw) == ("memory_budget" in settings)
  drawn = sum(leaf.nbytes for leaf in buffer.draw().values())
  assert item(plan, "model: drawn batches") == 3 * drawn


def test_queue_bytes_are_those_of_a_group():
  config = make_preset("smoke", "ppg")
  queue = filled(
    RolloutQueue(config.agent.workload(spec_of(config)).phases[-1].source), config, rollouts=2
  )
  group = sum(leaf.nbytes for leaf in queue.draw().values())
  assert item(plan_run(config), "auxiliary: queue") == group


def test_ppgs_published_groups_take_6_4_gb():
  frames = item(plan_run(make_preset("gpu", "ppg")), "auxiliary: queue")
  assert 6.4e9 < frames < 6.7e9


@pytest.mark.parametrize(
  ("total", "every", "open_rollouts", "at_end"),
  [
    (8, 4, 0, 0),  # after turns 4 and 8, of groups of 4
    (8, 8, 0, 0),
    (8, 2, 2, 0),  # after turns 2, 4, 6 and 8
    (7, 4, 0, 3),  # after turn 4, and at the end after turn 7
    (7, 7, 0, 3),  # at the end only
    (10, 2.5, 3, 2),  # after turns 3, 5, 8 and 10, the first that reach a multiple of 2.5
  ],
)
def test_a_checkpoint_holds_the_rollouts_of_an_open_group(total, every, open_rollouts, at_end):
  """`total` and `every` in turns; as many bytes as the queue itself gives a checkpoint."""
  config = make_preset("smoke", "ppg")
  turn = config.agent.rollout_length * config.environment.num_environments
  agent = dataclasses.replace(config.agent, rollouts_per_phase=4, auxiliary_minibatches=16)
  training = TrainingConfig(total * turn, checkpoint_every=int(every * turn))
  plan = plan_run(dataclasses.replace(config, agent=agent, training=training))
  assert plan.open_rollouts == bytes_waiting(config, agent, rollouts=open_rollouts)
  assert plan.open_rollouts_at_end == bytes_waiting(config, agent, rollouts=at_end)
  assert plan.open_rollouts_if_stopped == bytes_waiting(config, agent, rollouts=3)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("agent", AGENTS)
def test_a_run_of_any_length_is_planned_at_once(agent):
  config = make_preset("smoke", agent)
  training = TrainingConfig(10**20 + 1, checkpoint_every=10**6 + 1)
  plan = plan_run(dataclasses.replace(config, training=training))
  turn = config.agent.rollout_length * config.environment.num_environments
  assert plan.turns == 10**20 // turn + 1
  assert plan.environment_steps == plan.turns * turn
  rollout = plan.open_rollouts_if_stopped  # smoke groups have two rollouts: at most one waits
  assert (rollout > 0) == (agent == "ppg")
  assert plan.open_rollouts == rollout
  assert plan.open_rollouts_at_end == rollout * (plan.turns % 2)


def bytes_waiting(config, agent, *, rollouts):
  """Returns the bytes of frames and the like that a queue with so many rollouts saves."""
  config = dataclasses.replace(config, agent=agent)
  queue = RolloutQueue(agent.workload(spec_of(config)).phases[-1].source)
  state = filled(queue, config, rollouts=rollouts).save_state()
  return sum(x.nbytes for name, x in state.items() if name.startswith("rollouts/"))


@pytest.mark.parametrize("preset", PRESETS)
def test_ppgs_presets_have_their_checkpoints_between_groups(preset):
  plan = plan_run(make_preset(preset, "ppg"))
  assert plan.open_rollouts == plan.open_rollouts_at_end == 0


@pytest.mark.parametrize(
  ("total", "every", "said"),
  [  # turns of 512 steps, groups of two
    ("4096", "2048", "between two groups of rollouts, none of which they hold"),
    ("4096", "1500", "one holds up to 6.0 MiB of rollouts of an open group; the last none"),
    (
      "4608",
      "2048",
      "none but the last holds rollouts of an open group; the last up to 6.0 MiB",
    ),
    ("4608", "1500", "one holds up to 6.0 MiB of rollouts of an open group; the last up to 6.0"),
  ],
)
def test_the_plan_says_what_a_checkpoint_holds(total, every, said, tmp_path, capsys):
  options = ["--preset", "smoke", "--plan", "--training.checkpoint_every", every]
  options += ["--training.total_environment_steps", total, "--out", str(tmp_path / "run")]
  assert guarded(run_command, ["train", "--agent", "ppg", *options]) == 0
  told = capsys.readouterr().out
  assert f"checkpoints: {said}" in told
  assert "; one of a run that is stopped up to 6.0 MiB" in told
  assert guarded(run_command, ["compare", "--agents", "ppg", "ppo", *options]) == 0
  assert f"checkpoints: {said}" in capsys.readouterr().out
  assert guarded(run_command, ["train", "--agent", "ppo", *options]) == 0
  assert "checkpoints:" not in capsys.readouterr().out


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["gumbel", "puct"])
def test_tree_bytes_are_those_of_mctx(monkeypatch, kind, dtype):
  config = make_preset("smoke", "muzero")
  backbone = dataclasses.replace(config.agent.backbone, compute_dtype=dtype)
  search = config.agent.search if kind == "gumbel" else PUCTSearchConfig(num_simulations=3)
  agent = dataclasses.replace(config.agent, backbone=backbone, search=search)
  config = dataclasses.replace(config, agent=agent)
  trees, run = [], mctx.search

  def recorded(*arguments, **named):
    trees.append(run(*arguments, **named))
    return trees[-1]

  monkeypatch.setattr("mctx._src.search.search", recorded)
  built = make_agent(agent, spec_of(config), total_environment_steps=4096)
  state = jax.eval_shape(built.init, jax.random.key(0))
  spec = spec_of(config)
  frames = jax.ShapeDtypeStruct((spec.num_environments, *spec.observation_shape), jnp.uint8)
  jax.eval_shape(built.act, state.params, frames, jax.random.key(0))
  (tree,) = trees
  leaves = jax.tree.leaves(tree)
  assert len(leaves) == (14 if kind == "gumbel" else 13)
  plan = plan_run(config)
  acting = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
  assert acting == spec.num_environments * agent.workload(spec).tree_bytes
  # A draw has 8 sequences of S + K = 9 positions, all searched at once; 16 environments act.
  assert item(plan, "search trees") == acting // 16 * (9 * 8)


ROOM = {"host": 4 * 2**30, "devices": None, "num_devices": 1, "shared": True}


def taking(host, device):
  """Returns a plan that takes so many GiB."""
  plan = plan_run(make_preset("smoke", "ppo"))
  items = (
    MemoryItem("queue", host * 2**30, "host", "so many rollouts"),
    MemoryItem("trees", device * 2**30, "device", "so many positions"),
  )
  return dataclasses.replace(plan, memory=items)


def test_devices_that_share_the_hosts_memory_are_added_to_it():
  check_memory(taking(3, 1), Room(**ROOM))
  with pytest.raises(UsageError, match=r"takes 5\.00 GiB of memory .* 4\.00 GiB available: queue"):
    check_memory(taking(3, 2), Room(**ROOM))


def test_devices_of_their_own_are_checked_apart():
  room = Room(host=3 * 2**30, devices=2 * 2**30, num_devices=2, shared=False)
  check_memory(taking(3, 2), room)
  with pytest.raises(UsageError, match=r"4\.00 GiB of host memory"):
    check_memory(taking(4, 2), room)
  with pytest.raises(UsageError, match=r"3\.00 GiB of device memory .* the 2 devices have 2\.00"):
    check_memory(taking(3, 3), room)
  check_memory(taking(4, 3), dataclasses.replace(room, host=None, devices=None))


def test_evaluations_are_those_of_the_loop():
  """25 turns of 256 steps: multiples of 1,000 are passed in turns 4, 8, 12, 16, 20 and 24."""
  config = make_preset("smoke", "muzero")
  config = dataclasses.replace(
    config,
    training=TrainingConfig(total_environment_steps=6200, checkpoint_every=6200),
    evaluation=EvaluationConfig(
      every=1000,
      num_environments=8,
      episodes_per_environment=2,
      final_episodes_per_environment=5,
    ),
  )
  plan = plan_run(config)
  assert (plan.turns, plan.environment_steps) == (25, 6400)
  assert plan.evaluations == 1 + 6 + 1
  assert plan.evaluation_episodes == 2 * 8 * (7 * 2 + 5)
  assert plan.evaluation_steps_at_most == 304 * 500  # leaper's time limit
  # An interval shorter than a turn: one evaluation after each turn but the last, and the two.
  often = dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, every=100))
  assert plan_run(often).evaluations == 1 + 24 + 1


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"capacity": 4095}, r"capacity must be a multiple .* \(16\), such as 4080 or 4096"),
    ({"min_size": 200}, r"min_size must be at least 224, one sequence of 14 frames"),
    ({"capacity": 208, "min_size": 208}, r"capacity must be at least 224"),
    ({"memory_budget": 2**20}, r"0\.05 GiB of frames do not fit memory_budget"),
  ],
)
def test_a_replay_that_cannot_be_built_is_refused(settings, message):
  with pytest.raises(ValueError, match=message):
    plan_run(small("muzero", **settings))


@pytest.mark.parametrize(("steps", "learns"), [(1024, False), (1025, True)])
def test_a_run_that_never_learns_is_refused(steps, learns):
  """1,024 frames come before learning, and 128 more earn the first draw of 32 at .25 each."""
  config = make_preset("smoke", "muzero")
  config = dataclasses.replace(config, training=TrainingConfig(steps, checkpoint_every=1024))
  if learns:  # the last turn is a whole one, of 256
    assert plan_run(config).updates == 2
  else:
    with pytest.raises(UsageError, match="must be at least 1152 for anything to be learnt, got 10"):
      plan_run(config)


def test_batches_must_divide_over_the_devices():
  plan_run(make_preset("smoke", "muzero"), num_devices=8)
  with pytest.raises(UsageError, match=r"gives 8 sequences, which must be a multiple of the 3"):
    plan_run(make_preset("smoke", "muzero"), num_devices=3)


def test_every_device_rounds_its_own_part_of_the_fraction():
  """Of 8 sequences .3 are 3; on each of 4 devices .3 of 2 are 1, so 4 together."""
  config = make_preset("smoke", "muzero")
  agent = dataclasses.replace(config.agent, reanalyse_fraction=0.3)
  config = dataclasses.replace(config, agent=agent)
  for devices, columns in ((1, 3), (4, 4)):
    plan = plan_run(config, num_devices=devices)
    assert plan.reanalysing_searches == 24 * 9 * columns
    tree = agent.workload(spec_of(config)).tree_bytes
    assert item(plan, "search trees") == tree * 9 * columns


@pytest.mark.parametrize("agent", AGENTS)
def test_learning_early_changes_no_work_for_a_step(agent):
  config = make_preset("laptop", agent)
  early = dataclasses.replace(config, agent=config.agent.learning_early(64))
  usual, soon = plan_run(config), plan_run(early)
  for a, b in zip(usual.phases, soon.phases, strict=True):
    assert a.updates > 0
    assert b.uses_per_sample == pytest.approx(a.uses_per_sample, rel=0.01)
    assert b.samples / b.updates == a.samples / a.updates
    assert a.searches == pytest.approx(b.searches, rel=0.01)
  first = [
    each.source.min_size if isinstance(each.source, Sequences) else each.source.count * 16384
    for each in early.agent.workload(spec_of(early)).phases
  ]
  assert max(first) <= 16384


def test_the_plan_as_json_is_plain():
  plan = plan_run(make_preset("laptop", "muzero"))
  mapping = json.loads(json.dumps(to_mapping(plan), allow_nan=False))
  assert mapping["updates"] == sum(phase["updates"] for phase in mapping["phases"]) == 124544
  assert mapping["simulations"] == 8 * (1_000_448 + 13 * 4 * 124544)


class TestCommand:
  """`procplan train`, with and without `--plan`."""

  def arguments(self, directory, *more):
    return ["train", "--agent", "muzero", "--preset", "smoke", "--out", str(directory), *more]

  def test_a_plan_is_printed_and_nothing_is_started(self, tmp_path, capsys):
    out = tmp_path / "run"
    assert guarded(run_command, self.arguments(out, "--plan")) == 0
    shown = capsys.readouterr().out
    for text in (
      "4,096 environment steps (frames) in 16 turns of 256; 24 updates on 768 samples",
      "5,824 searches (4,096 acting, 1,728 reanalysing) x 2 simulations = 11,648 model steps",
      "72 positions (reanalysing) x 7,404 bytes",
      "replay: 4,096 frames, raw 48.0 MiB",
      "45,253 parameters",
      "--calibrate",
    ):
      assert text in shown
    assert not out.exists()

  @pytest.mark.parametrize("more", [[], ["--plan"]])
  def test_what_does_not_fit_is_refused_before_anything_is_made(
    self, more, tmp_path, capsys, monkeypatch
  ):
    monkeypatch.setattr(machine, "available_bytes", lambda: 32 * 2**20)
    out = tmp_path / "run"
    assert guarded(run_command, self.arguments(out, *more)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "available: model: replay, frames 48.0 MiB = 4,096 frames x 12,288 bytes" in error
    assert not out.exists()


def test_the_train_state_is_what_is_allocated():
  """Two sets of parameters, two moments, counters; and on each of two devices."""
  config = make_preset("smoke", "muzero")
  agent = make_agent(config.agent, spec_of(config), total_environment_steps=4096)
  state = jax.eval_shape(agent.init, jax.random.key(0))
  plan = with_train_state(plan_run(config), config, num_devices=2)
  count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
  assert plan.parameters == count
  assert item(plan, "gradient") == 2 * 4 * count
  assert 2 * 4 * 4 * count < item(plan, "train state") < 2 * (4 * 4 * count + 100)


@pytest.mark.parametrize(
  ("limit", "use", "left"), [("max", "10", None), ("1000", "700", 350), ("1000", "2000", 0)]
)
def test_a_control_groups_limit_counts(tmp_path, limit, use, left):
  (tmp_path / "memory.max").write_text(f"{limit}\n")
  (tmp_path / "memory.current").write_text(f"{use}\n")
  (tmp_path / "memory.stat").write_text("anon 600\ninactive_file 50\n")
  group = (str(tmp_path), "memory.max", "memory.current", "inactive_file")
  assert machine.left_in_group(group) == left
  assert machine.left_in_group((str(tmp_path / "none"), *group[1:])) is None
