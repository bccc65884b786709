"""Runs' parameters as Haiku trees and back: by another reader, through commands, with damage."""

import contextlib
import dataclasses
import hashlib
import json
import subprocess
import sys
import zipfile

import jax
import numpy as np
import pytest

from agents.config import OptimizerConfig, SelfSupervisionConfig
from agents.model import ModelConfig
from agents.muzero.config import GumbelSearchConfig, MuZeroConfig
from agents.ppg.config import PPGConfig
from agents.ppo.config import PPOConfig
from agents.q_learning.config import QLearningConfig, QNetworkConfig, ScalarHeadsConfig
from agents.sequences import SequenceConfig
from environments.config import EnvironmentConfig
from environments.factory import make_environment
from experiments import evaluate, runner, train
from experiments.command_line import run_command
from experiments.config import ExperimentConfig, load_config, save_config, to_mapping
from experiments.errors import UsageError
from experiments.haiku_file import read_haiku_file, read_header, write_haiku_file
from experiments.haiku_parameters import parameter_names
from experiments.options import guarded
from experiments.registry import AGENTS, make_agent
from losses.categorical_support import CategoricalSupport
from networks.config import ImpalaConfig, NatureCNNConfig, ResNetConfig
from networks.haiku_bridge import to_flax
from training.checkpoint import Checkpoints
from training.checkpoint_reader import CheckpointReader
from training.config import EvaluationConfig, TrainingConfig
from training.metrics import MetricsWriter

BACKBONE = ResNetConfig(stem_kernels=(4,), stem_strides=(4,), stem_channels=(4,), blocks=1)
SUPPORT = CategoricalSupport(low=-2.0, high=2.0, num_atoms=5)
MODEL = ModelConfig(
  head_channels=2, hidden=4, value_support=SUPPORT, reward_support=SUPPORT, dynamics_blocks=1
)
SEQUENCES = SequenceConfig(batch_size=8, capacity=2048, min_size=144)

AGENT_CONFIGS = {
  "ppo": PPOConfig(
    backbone=BACKBONE,
    hidden=8,
    rollout_length=16,
    epochs=1,
    num_minibatches=1,
    optimizer=OptimizerConfig(learning_rate=0.01),
  ),
  "ppg": PPGConfig(
    backbone=ImpalaConfig((3,), blocks_per_stack=1),
    hidden=8,
    rollout_length=16,
    rollouts_per_phase=2,
    num_minibatches=2,
    auxiliary_minibatches=2,
  ),
  "muzero": MuZeroConfig(
    backbone=BACKBONE,
    model=MODEL,
    sequences=SEQUENCES,
    search=GumbelSearchConfig(num_simulations=2, max_considered_actions=2),
  ),
  "q_learning": QLearningConfig(backbone=BACKBONE, model=MODEL, sequences=SEQUENCES),
}
# Further forms of Q-learning's network, down to a usual DQN's, each with what it reads of MODEL.
FORMS = {
  "dqn": QLearningConfig(
    backbone=NatureCNNConfig((4, 3), (2, 1), (3, 4)), sequences=SEQUENCES,
    network=QNetworkConfig(hidden=8), heads=ScalarHeadsConfig(), action_value="direct",
  ),
  "dqn, two categorical heads": QLearningConfig(
    backbone=NatureCNNConfig((4, 3), (2, 1), (3, 4)), sequences=SEQUENCES,
    model=ModelConfig(value_support=SUPPORT, reward_support=SUPPORT),
    network=QNetworkConfig(hidden=8),
  ),
  "scalar model step": QLearningConfig(
    backbone=BACKBONE, sequences=SEQUENCES, heads=ScalarHeadsConfig(),
    model=ModelConfig(head_channels=2, hidden=4),
    action_value="direct",
  ),
}  # fmt: skip


def experiment(agent, **fields):
  """A tiny run on Catch."""
  config = ExperimentConfig(
    agent=AGENT_CONFIGS[agent],
    environment=EnvironmentConfig(game="catch", levels="easy-20", num_environments=8),
    training=TrainingConfig(total_environment_steps=256, checkpoint_every=128),
    evaluation=EvaluationConfig(
      every=10_000, num_environments=4, episodes_per_environment=1, final_episodes_per_environment=1
    ),
    seed=5,
  )
  return dataclasses.replace(config, **fields)


def spec_of(config):
  environment = make_environment(
    "catch", levels=config.environment.level_distribution, num_environments=8, seed=0
  )
  environment.close()
  return environment.spec


def train_state(directory, step=None):
  """The train state of a checkpoint, as numpy arrays."""
  config = load_config(directory / "config.yaml")
  total = config.training.total_environment_steps
  agent = make_agent(config.agent, spec_of(config), total_environment_steps=total)
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  wanted = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here),
    jax.eval_shape(agent.init, jax.random.key(0)),
  )
  _, state = CheckpointReader(directory / "checkpoints").restore_train_state(wanted, step=step)
  return jax.device_get(state)


def equal(a, b):
  """Whether two trees are the same, bit for bit."""
  same = jax.tree.map(lambda x, y: x.dtype == y.dtype and np.array_equal(x, y), a, b)
  return all(jax.tree.leaves(same))


def contents(directory):
  """A digest of every file below a directory."""
  return {
    str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
    for path in directory.rglob("*")
    if path.is_file()
  }


def random_tree(config):
  """A tree that fits the configured agent's network."""
  generator = np.random.default_rng(0)
  tree = {}
  for each in parameter_names(config, spec_of(config)):
    array = generator.normal(size=each.shape, scale=0.3).astype(np.float32)
    tree.setdefault(each.module, {})[each.name] = array
  return tree


def refused(capsys, *arguments):
  """Runs a command that must end with exit code 2; returns what it says."""
  code = guarded(run_command, [str(each) for each in arguments])
  said = capsys.readouterr()
  assert (code, said.out) == (2, "")
  assert said.err.startswith("error: ")
  return said.err


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A finished run of PPO with two checkpoints; tests must not change it."""
  directory = tmp_path_factory.mktemp("runs") / "run"
  assert runner.run(experiment("ppo"), directory, command=["test"]) == 0
  return directory


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
  """The run's last parameters; tests must not change the file."""
  path = tmp_path_factory.mktemp("files") / "ppo.npz"
  before = contents(run)
  assert run_command(["export", str(run), "--to", str(path)]) == 0
  assert contents(run) == before
  return path


def test_the_file_holds_what_the_checkpoint_holds(run, exported):
  """Read as `--help` says, and looked up by hand."""
  file = np.load(exported)
  tree = {}
  for key in set(file.files) - {"header"}:
    module, _, name = key.rpartition("/")
    tree.setdefault(module, {})[name] = file[key]
  params = train_state(run).params["params"]
  by_hand = {
    ("actor_critic/~/backbone/~/stem_conv_0", "w"): params["backbone"]["stem_conv_0"]["kernel"],
    ("actor_critic/~/backbone/~/block_0/~/layer_norm_1", "offset"): params["backbone"]["block_0"][
      "norm_1"
    ]["bias"],
    ("actor_critic/~/linear", "b"): params["dense"]["bias"],
    ("actor_critic/~/policy_head", "w"): params["policy"]["dense"]["kernel"],
    ("actor_critic/~/value_head", "w"): params["value"]["dense"]["kernel"],
  }
  for (module, name), array in by_hand.items():
    assert equal(tree[module][name], array)
    assert np.any(array)
  count = len(jax.tree.leaves(params))
  assert sum(len(arrays) for arrays in tree.values()) == count == len(file.files) - 1


def test_the_header_says_where_they_come_from(run, exported):
  header = json.loads(str(np.load(exported)["header"]))
  assert header["config"] == json.loads(json.dumps(to_mapping(experiment("ppo"))))
  assert (header["agent"], header["step"]) == ("ppo", 256)
  assert header["commit"] == json.loads((run / "run.json").read_text())["commit"]
  assert (header["observation_shape"], header["num_actions"]) == ([32, 32, 3], 3)
  assert header["layer_norm_epsilon"] == 1e-6
  assert header["left_out"] == []


def test_an_earlier_checkpoint_on_request_and_equal_bytes_every_time(run, exported, tmp_path):
  again, early = tmp_path / "again.npz", tmp_path / "early.npz"
  run_command(["export", str(run), "--to", str(again)])
  assert again.read_bytes() == exported.read_bytes()
  run_command(["export", str(run), "--to", str(early), "--checkpoint", "128"])
  assert read_header(early)["step"] == 128
  assert not equal(read_haiku_file(early), read_haiku_file(exported))
  config = experiment("ppo")
  tree = to_flax(read_haiku_file(early), parameter_names(config, spec_of(config)))
  assert equal(tree, train_state(run, step=128).params)


def test_there_and_back_evaluates_alike_and_trains_on(run, exported, tmp_path, capsys):
  """The imported run's evaluation at step 0 is the exported run's last, episode by episode."""
  made, again = tmp_path / "new" / "made", tmp_path / "again.npz"
  assert run_command(["import", str(exported), "--out", str(made)]) == 0
  assert f"procplan train --config {made / 'config.yaml'} --out {made}" in capsys.readouterr().out
  assert sorted(path.name for path in made.parent.iterdir()) == ["made"]
  assert load_config(made / "config.yaml") == experiment("ppo")
  assert json.loads((made / "imported.json").read_text())["header"] == read_header(exported)
  run_command(["export", str(made), "--to", str(again)])
  assert equal(read_haiku_file(again), read_haiku_file(exported))
  rows = []
  for directory in (run, made):
    evaluate.main([str(directory), "--levels", "train", "--json", str(tmp_path / "e.json")])
    evaluated = json.loads((tmp_path / "e.json").read_text())["runs"][0]
    rows.append(evaluated["evaluations"][0]["episode_records"])
  assert rows[0] == rows[1]
  assert len(rows[0]) == 4
  config = load_config(made / "config.yaml")
  assert train.train(config, made, command=["test"]) == 0
  assert json.loads((made / "result.json").read_text())["environment_steps"] == 256
  metrics = [json.loads(line) for line in (made / "metrics.jsonl").read_text().splitlines()]
  assert metrics[0]["environment_steps"] == 0
  assert not equal(train_state(made).params, train_state(run).params)


@pytest.mark.parametrize("agent", AGENTS)
def test_every_agent_starts_from_imported_parameters(agent, tmp_path):
  """Everything else of the train state is what a new run begins with."""
  config, file, out = experiment(agent), tmp_path / "file.npz", tmp_path / "run"
  tree = random_tree(config)
  write_haiku_file(file, tree, header={})
  save_config(config, tmp_path / "config.yaml")
  arguments = ["import", str(file), "--config", str(tmp_path / "config.yaml"), "--out", str(out)]
  assert run_command(arguments) == 0
  state = train_state(out)
  imported = to_flax(tree, parameter_names(config, spec_of(config)))
  assert equal(state.params, imported)
  fields = {field.name for field in dataclasses.fields(state)}
  assert ("target_params" in fields) == (agent in ("muzero", "q_learning"))
  if "target_params" in fields:
    assert equal(state.target_params, imported)
  fresh = make_agent(config.agent, spec_of(config), total_environment_steps=256)
  initial = jax.device_get(fresh.init(jax.random.key(0)))
  for name in fields - {"params", "target_params"}:
    assert equal(getattr(state, name), getattr(initial, name)), name
  assert equal(resumed(config, out).params, imported)


def resumed(config, directory):
  """The train state of the run that the directory continues, after its first save."""
  with contextlib.ExitStack() as stack:
    metrics = MetricsWriter(directory)
    stack.callback(metrics.close)
    checkpoints = RecordedCheckpoints(directory / "checkpoints", keep=1)
    stack.callback(checkpoints.close)
    loop = runner.build_loop(
      config,
      checkpoints=checkpoints,
      metrics=metrics,
      replay_directory=directory / "replay",
      stack=stack,
    )
    loop.restore()
    assert loop.counters.environment_steps == 0
    loop.save()
    return jax.device_get(checkpoints.saved.train_state)


class RecordedCheckpoints(Checkpoints):
  """Checkpoints that keep what is saved instead of writing it."""

  def save(self, step, snapshot):
    assert step == 0
    self.saved = snapshot


def test_heads_without_names_are_told_and_begin_anew(tmp_path, capsys):
  """MuZero with a self-supervised loss: the network travels, the loss's heads do not."""
  agent = dataclasses.replace(
    AGENT_CONFIGS["muzero"],
    self_supervision=SelfSupervisionConfig(spr_coefficient=1.0, hidden=4, projection_size=3),
  )
  config = dataclasses.replace(experiment("muzero"), agent=agent)
  file, again, out = tmp_path / "file.npz", tmp_path / "again.npz", tmp_path / "run"
  tree = random_tree(config)
  write_haiku_file(file, tree, header={"config": to_mapping(config)})
  assert run_command(["import", str(file), "--out", str(out)]) == 0
  state = train_state(out)
  assert set(state.params) == {"params", "self_supervision"}
  imported = to_flax(tree, parameter_names(config, spec_of(config)))
  for params in (state.params, state.target_params):
    assert equal(params["params"], imported["params"])
    assert equal(params["self_supervision"], state.params["self_supervision"])
  capsys.readouterr()
  assert run_command(["export", str(out), "--to", str(again)]) == 0
  assert "left out, because they have no Haiku names: self_supervision" in capsys.readouterr().out
  assert read_header(again)["left_out"] == ["self_supervision"]
  assert equal(read_haiku_file(again), tree)


def test_fields_on_top_of_the_recorded_configuration(exported, tmp_path):
  out = tmp_path / "run"
  arguments = ["import", str(exported), "--out", str(out), "--seed", "9"]
  assert run_command([*arguments, "--environment.levels", "easy-all"]) == 0
  config = load_config(out / "config.yaml")
  assert (config.seed, config.environment.levels) == (9, "easy-all")
  assert config.agent == AGENT_CONFIGS["ppo"]


def test_every_mismatch_is_named_and_nothing_is_made(exported, tmp_path, capsys):
  tree = {module: dict(arrays) for module, arrays in read_haiku_file(exported).items()}
  del tree["actor_critic/~/value_head"]["b"]
  tree["actor_critic/~/linear"]["w"] = tree["actor_critic/~/linear"]["w"][:, :-1]
  tree["actor_critic/~/linear"]["b"] = tree["actor_critic/~/linear"]["b"].astype(np.float64)
  tree["actor_critic/~/policy_head"]["b"] = np.full(3, np.nan, np.float32)
  tree["actor_critic/~/extra"] = {"w": np.zeros(2, np.float32)}
  file, out = tmp_path / "file.npz", tmp_path / "deep" / "run"
  write_haiku_file(file, tree, header=read_header(exported))
  said = refused(capsys, "import", file, "--out", out)
  assert [line.strip() for line in said.splitlines()[1:]] == [
    "missing: actor_critic/~/value_head/b, float32[1]",
    "wrong shape: actor_critic/~/linear/w is [256, 7], must be [256, 8]",
    "wrong dtype: actor_critic/~/linear/b is float64, must be float32",
    "superfluous: actor_critic/~/extra/w, float32[2]",
    "not finite: actor_critic/~/policy_head/b",
  ]
  assert f"{file}: 5 parameters do not fit:" in said
  assert [path.name for path in tmp_path.iterdir()] == ["file.npz"]


def test_another_agents_file_is_refused(exported, tmp_path, capsys):
  config = experiment("q_learning")
  save_config(config, tmp_path / "config.yaml")
  out = tmp_path / "run"
  said = refused(capsys, "import", exported, "--config", tmp_path / "config.yaml", "--out", out)
  assert "missing: world_model/~/value_head/w, float32[4, 5]" in said
  assert "superfluous: actor_critic/~/value_head/w, float32[8, 1]" in said
  assert not out.exists()


def test_files_that_are_no_trees(exported, tmp_path, capsys):
  file = tmp_path / "file.npz"
  options = ("--agent", "ppo", "--out", tmp_path / "run")
  assert "there is no file" in refused(capsys, "import", file, *options)
  file.write_bytes(b"parameters")
  assert "is no .npz file" in refused(capsys, "import", file, *options)
  np.savez(file, **{"net/w": np.array([{"a": 1}], dtype=object), "net/b": np.zeros(2)})
  said = refused(capsys, "import", file, *options)
  assert "1 entry cannot be read" in said
  assert "net/w: Object arrays cannot be loaded" in said
  with zipfile.ZipFile(file, "w") as archive:
    archive.writestr("net/w", b"no array")
    archive.writestr("net/b", b"nor this")
  said = refused(capsys, "import", file, *options)
  assert "net/w: it is no array" in said
  assert "net/b: it is no array" in said
  np.savez(file, weights=np.zeros(2, np.float32))
  assert "superfluous: weights, float32[2]" in refused(capsys, "import", file, *options)
  assert sorted(path.name for path in tmp_path.iterdir()) == ["file.npz"]


def test_damaged_bytes_are_found(exported, tmp_path):
  """Whatever byte changes, the parameters are refused or are what they were."""
  content, damaged = exported.read_bytes(), tmp_path / "damaged.npz"
  tree, generator = read_haiku_file(exported), np.random.default_rng(0)
  refusals = 0
  for position in generator.integers(len(content), size=60):
    changed = bytearray(content)
    changed[position] ^= 0xFF
    damaged.write_bytes(changed)
    try:
      read_header(damaged)
      found = read_haiku_file(damaged)
    except UsageError:
      refusals += 1
      continue
    assert equal(found, tree)
  for length in (0, 30, len(content) // 2, len(content) - 1):
    damaged.write_bytes(content[:length])
    with pytest.raises(UsageError):
      read_haiku_file(damaged)
  assert refusals > 30


def test_headers_that_say_too_little(exported, tmp_path, capsys):
  file, tree = tmp_path / "file.npz", read_haiku_file(exported)
  out = ("--out", tmp_path / "run")
  arrays = {f"{module}/{name}": x for module, xs in tree.items() for name, x in xs.items()}
  np.savez(file, **arrays)
  assert read_header(file) is None
  assert "does not say its configuration" in refused(capsys, "import", file, *out)
  write_haiku_file(file, tree, header={"config": {"agent_name": "pppo"}})
  assert "'ppo'" in refused(capsys, "import", file, *out)
  np.savez(file, header=np.array('{"format": 2}'), **arrays)
  assert "not of format 1" in refused(capsys, "import", file, *out)
  np.savez(file, header=np.array("{"), **arrays)
  assert "its header cannot be read" in refused(capsys, "import", file, *out)
  assert not (tmp_path / "run").exists()


def test_a_directory_with_something_in_it_is_left_alone(run, exported, capsys):
  before = contents(run)
  assert "is there already" in refused(capsys, "import", exported, "--out", run)
  assert contents(run) == before


def test_a_failure_in_the_middle_leaves_nothing(exported, tmp_path, monkeypatch, capsys):
  def fail(*_, **__):
    raise OSError("disk full")

  monkeypatch.setattr("experiments.haiku_exchange.write_json", fail)
  out = tmp_path / "run"
  assert guarded(run_command, ["import", str(exported), "--out", str(out)]) == 1
  assert "disk full" in capsys.readouterr().err
  assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported(run, tmp_path, capsys):
  file = tmp_path / "file.npz"
  assert "no config.yaml" in refused(capsys, "export", tmp_path, "--to", file)
  assert "no usable checkpoint" in refused(capsys, "export", run, "--to", file, "--checkpoint", "7")
  nowhere = tmp_path / "absent" / "file.npz"
  assert "cannot write" in refused(capsys, "export", run, "--to", nowhere)
  assert "--to" in refused(capsys, "export", run)
  assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_replaced_stays(exported, tmp_path):
  file = tmp_path / "file.npz"
  write_haiku_file(file, read_haiku_file(exported), header={})
  before = file.read_bytes()
  with pytest.raises(TypeError):
    write_haiku_file(file, {"net": {"w": np.zeros(1)}}, header={"a": object()})
  with pytest.raises(OSError, match="directory"):
    write_haiku_file(tmp_path / "absent" / "file.npz", {}, header={})
  assert file.read_bytes() == before
  assert list(tmp_path.iterdir()) == [file]


def test_import_needs_a_file_and_a_directory(exported, capsys):
  assert "needs a file and --out" in refused(capsys, "import", exported)
  assert "needs a file and --out" in refused(capsys, "import", "--out", "x")


@pytest.mark.parametrize("command", ["export", "import"])
def test_help_is_light(command):
  heavy = {"jax", "flax", "haiku", "orbax"}
  code = (
    "import sys; from experiments.command_line import run_command\n"
    f"try: run_command(['{command}', '--help'])\nexcept SystemExit: pass\n"
    f"print({heavy!r} & set(sys.modules))"
  )
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert done.stdout.splitlines()[-1] == "set()"
  assert f"usage: procplan {command}" in done.stdout


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_q_learning_has_its_table(form):
  """Names and shapes are those of the parameters that the agent makes."""
  config = dataclasses.replace(experiment("q_learning"), agent=FORMS[form])
  spec = spec_of(config)
  agent = make_agent(config.agent, spec, total_environment_steps=10**6)
  params = jax.eval_shape(agent.init, jax.random.key(0)).params["params"]
  made = {
    tuple(key.key for key in path): x.shape
    for path, x in jax.tree_util.tree_leaves_with_path(params)
  }
  assert {each.path: each.shape for each in parameter_names(config, spec)} == made
