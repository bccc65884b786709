"""`procplan evaluate` with other searches than that of training, films and plots."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import imageio_ffmpeg
import jax
from matplotlib.figure import Figure
import numpy as np
from PIL import Image
from planning_run import CONFIG, STEP, make_run
import pytest

from agents.model import make_world_model
from environments.factory import environment_spec, make_environment
from environments.levels import parse_levels
from experiments import checkpoint_evaluation, evaluation_processes
from experiments.evaluate import main
from experiments.options import guarded
from experiments.planning_plot import _draw, _title
from experiments.registry import make_agent
from networks.world_model import WorldModel
from training.checkpoint_reader import CheckpointReader


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  return make_run(tmp_path_factory.mktemp("runs") / "planner")


@pytest.fixture(scope="module")
def evaluated(run, tmp_path_factory):
  """One call that asks for nearly everything; its folder and its result."""
  folder = tmp_path_factory.mktemp("evaluated")
  arguments = [
    run, "--policy", "greedy", "--simulations", 2, 0, "--levels", "train", "seeds:3,17,40",
    "--environments", 4, "--episodes-per-environment", 2, "--json", folder / "all.json",
    "--csv", folder / "episodes.csv", "--levels-csv", folder / "levels.csv",
    "--plot", folder / "plot.svg", "--video", folder / "films", "--video-episodes", 1,
  ]  # fmt: skip
  assert main([str(each) for each in arguments]) == 0
  (result,) = json.loads((folder / "all.json").read_text())["runs"]
  return folder, result


def restore_params(run):
  """The parameters of the network, and the network."""
  spec = environment_spec("catch", num_environments=8)
  agent = make_agent(CONFIG.agent, spec, total_environment_steps=1024)
  one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  wanted = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one),
    jax.eval_shape(agent.init, jax.random.key(0)),
  )
  _, state = CheckpointReader(run / "checkpoints").restore_train_state(wanted)
  network = make_world_model(CONFIG.agent.backbone, CONFIG.agent.model, num_actions=3)
  return network, state.params


def test_without_simulations_the_network_alone_plays(run, evaluated):
  """By other code: the argument of the maximum of its policy head, in a plain loop."""
  network, params = restore_params(run)
  latent = jax.jit(lambda p, x: network.apply(p, x, method=WorldModel.represent))
  head = jax.jit(lambda p, x: network.apply(p, x, method=WorldModel.predict).policy_logits)
  row = evaluated[1]["evaluations"][0]
  assert (row["level_set"], row["search"]) == ("train", {"kind": "none", "num_simulations": 0})
  environment = make_environment(
    "catch", levels=parse_levels("easy-20"), num_environments=4, seed=row["seed"]
  )
  expected = {b: [] for b in range(4)}
  for _ in range(14):  # two games of seven steps
    shown = environment.observe()
    action = np.argmax(head(params, latent(params, shown.observation)), axis=-1)
    environment.act(action.astype(np.int32))
    after = environment.observe()
    for b in np.flatnonzero(after.first):
      expected[int(b)].append((int(shown.level_seed[b]), float(after.reward[b])))
  played = {b: [] for b in range(4)}
  for episode in row["episode_records"]:
    played[episode["environment"]].append((episode["level_seed"], episode["episode_return"]))
  assert played == expected


def in_order(evaluation):
  return sorted(evaluation["episode_records"], key=lambda episode: episode["environment"])


def test_every_number_of_simulations_plays_the_same_levels(evaluated):
  evaluations = evaluated[1]["evaluations"]
  counts = [(each["search"]["num_simulations"], each["levels"]) for each in evaluations]
  assert counts == [(n, name) for n in (0, 2) for name in ("easy-20", "easy-seeds:3,17,40")]
  assert evaluations[2]["search"]["kind"] == "gumbel"
  for raw, searched in zip(evaluations[:2], evaluations[2:], strict=True):
    pairs = list(zip(in_order(raw), in_order(searched), strict=True))
    assert all(a["level_seed"] == b["level_seed"] for a, b in pairs)
    gains = [b["episode_return"] - a["episode_return"] for a, b in pairs]
    assert searched["gain"] == pytest.approx(np.mean(gains))
    assert raw["gain"] == 0
    assert raw["gain_interval"] == [0, 0]
    assert raw["episodes"] == searched["episodes"] == len(pairs)


def test_listed_levels_are_played_equally_often(evaluated):
  row = evaluated[1]["evaluations"][1]
  assert (row["num_environments"], row["episodes_per_environment"]) == (3, 2)
  assert row["level_seeds"] == [3, 17, 40]
  seeds = sorted(episode["level_seed"] for episode in row["episode_records"])
  assert seeds == [3, 3, 17, 17, 40, 40]
  assert [each["level_seed"] for each in row["by_level"]] == [3, 17, 40]
  assert [each["in_training"] for each in row["by_level"]] == [True, True, False]
  assert row["levels_shared_with_training"] == 2
  assert row["episodes_on_training_levels"] == 4
  for each in row["by_level"]:
    own = [e for e in row["episode_records"] if e["level_seed"] == each["level_seed"]]
    assert each["episodes"] == len(own) == 2
    assert each["success_rate"] == np.mean([e["level_complete"] for e in own])
    assert each["episode_return"] == np.mean([e["episode_return"] for e in own])
  # Greedy without noise in a game without chance: nothing varies within a level.
  assert row["episode_return_interval"] == [pytest.approx(row["episode_return"])] * 2


def test_values_are_calibrated_against_returns(evaluated):
  """Catch pays once, at the end: G at step t of 7 is gamma^(6 - t) times the return."""
  for row in evaluated[1]["evaluations"]:
    gamma = CONFIG.agent.discount
    mean = np.mean([gamma ** (6 - t) for t in range(7)]) * row["episode_return"]
    assert row["value_mean"] - row["value_bias"] == pytest.approx(mean)


def test_files_of_episodes_and_levels(evaluated):
  folder, result = evaluated
  lines = (folder / "episodes.csv").read_text().splitlines()
  assert len(lines) == 1 + sum(each["episodes"] for each in result["evaluations"])
  assert ",search,simulations," in lines[0]
  assert ",greedy,gumbel,2," in lines[-1]
  lines = (folder / "levels.csv").read_text().splitlines()
  assert len(lines) == 1 + sum(len(each["by_level"]) for each in result["evaluations"])


def test_the_title_of_a_plot_is_of_everything_in_it():
  """Runs have policies and quotas of their own, lists of levels an environment a level."""

  def result(game, policy, *episodes):
    searches = ({"kind": "none"}, {"kind": "gumbel"}, {"kind": "puct"})
    rows = zip(searches, episodes, strict=False)
    return {
      "game": game,
      "evaluations": [{"policy": policy, "search": s, "episodes": n} for s, n in rows],
    }

  one = result("maze", "greedy", 64, 64)
  assert _title([one]) == "maze: greedy, gumbel, 64 episodes a point"
  both = [one, result("leaper", "sampled", 256, 8, 256)]
  assert (
    _title(both) == "maze, leaper: greedy and sampled, gumbel and puct, 8 to 256 episodes a point"
  )


def test_without_matplotlib_nothing_is_played(run, tmp_path, monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, "matplotlib", None)
  arguments = [str(run), "--simulations", "0", "2", "--plot", str(tmp_path / "x.svg")]
  assert guarded(main, arguments) == 2
  said = capsys.readouterr()
  assert said.err == "error: --plot needs matplotlib: pip install 'procplan[report]'\n"
  assert said.out == ""


def test_the_plot_has_a_mark_for_every_number(evaluated):
  folder, result = evaluated
  text = (folder / "plot.svg").read_text()
  assert text.startswith("<?xml")
  assert "</svg>" in text
  axes = Figure().add_subplot()
  _draw(axes, [result])
  sets = list(dict.fromkeys(each["level_set"] for each in result["evaluations"]))
  assert [each.get_label() for each in axes.containers] == sets
  for name, container in zip(sets, axes.containers, strict=True):
    own = {
      e["search"]["num_simulations"]: e for e in result["evaluations"] if e["level_set"] == name
    }
    marks, _, (bars,) = container.lines
    np.testing.assert_allclose(marks.get_xdata(), np.log2([1, 3]), atol=0.1)  # 0 and 2
    np.testing.assert_allclose(marks.get_ydata(), [own[n]["episode_return"] for n in (0, 2)])
    ends = [own[n]["episode_return_interval"] for n in (0, 2)]
    np.testing.assert_allclose([segment[:, 1] for segment in bars.get_segments()], ends)


def test_films_show_the_episodes(evaluated):
  for each in evaluated[1]["evaluations"]:
    mp4, gif = each["films"]
    first = next(e for e in each["episode_records"] if e["environment"] == 0)
    assert f"level-{first['level_seed']}." in mp4
    how = "gumbel-2" if each["search"]["num_simulations"] else "raw"
    assert f"_greedy_{how}_environment-0" in mp4
    with Image.open(gif) as image:
      assert image.n_frames >= 7
      assert image.size == (960, 544)
    raw = decode(mp4)
    assert raw.shape == (7 + 15, 544, 960, 3)
    # Catch's first frame: the ball is white on black, in the top row, column s mod 8.
    board = raw[0, 16 : 16 + 512, 16 : 16 + 512].reshape(8, 64, 8, 64, 3).mean((1, 3, 4))
    assert int(np.argmax(board[0])) == first["level_seed"] % 8
    assert board[0].max() > 240
    assert board[1:7].max() < 20


def decode(path):
  command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(path)]
  command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
  raw = subprocess.run(command, capture_output=True, check=True).stdout
  return np.frombuffer(raw, np.uint8).reshape(-1, 544, 960, 3)


def test_by_default_it_searches_as_in_training(run, tmp_path, capsys):
  path = tmp_path / "e.json"
  arguments = [str(run), "--levels", "train", "--episodes-per-environment", "1"]
  assert main([*arguments, "--json", str(path)]) == 0
  row = json.loads(path.read_text())["runs"][0]["evaluations"][0]
  assert (row["search"]["kind"], row["search"]["num_simulations"]) == ("gumbel", 3)
  assert "gumbel 3" in capsys.readouterr().out
  assert main([*arguments, "--search", "puct", "--json", str(path)]) == 0
  row = json.loads(path.read_text())["runs"][0]["evaluations"][0]
  assert (row["search"]["kind"], row["search"]["num_simulations"]) == ("puct", 3)
  assert row["search"]["pb_c_init"] == 1.25


def test_runs_side_by_side_give_what_they_give_one_after_the_other(run, tmp_path, capsys):
  other = make_run(tmp_path / "another")
  arguments = [str(run), str(other), "--levels", "train", "seeds:1-2", "--simulations", "0"]
  results, shown = [], []
  for processes in ("1", "2"):
    path = tmp_path / f"{processes}.json"
    assert main([*arguments, "--processes", processes, "--json", str(path)]) == 0
    results.append(json.loads(path.read_text())["runs"])
    shown.append(capsys.readouterr().out)
  assert [each["run"] for each in results[0]] == [str(run), str(other)]
  for one, two in zip(*results, strict=True):
    one.pop("devices"), two.pop("devices")
    assert one == two
  assert shown[0].count("planner") == shown[1].count("planner") == 1
  assert shown[1].index("planner") < shown[1].index("another")


# In place of the evaluation of one run: writes its result, or plays until it is stopped.
STAND_IN = """
import os, pathlib, signal, sys, time
how, result, path, playing = sys.argv[1:]
if how == "quick":
  pathlib.Path(path).write_text(pathlib.Path(result).read_text())
else:
  if how == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
  pathlib.Path(path).with_suffix(".pid").write_text(str(os.getpid()))
  pathlib.Path(path).with_suffix(".pid").rename(playing)
  while True:
    time.sleep(0.01)
"""


@pytest.mark.parametrize(
  ("number", "how", "code"),
  [
    (signal.SIGTERM, "patient", 75),
    (signal.SIGINT, "patient", 130),
    (signal.SIGTERM, "stubborn", 75),
  ],
)
def test_a_signal_stops_what_plays_and_keeps_what_is_complete(
  run, evaluated, tmp_path, monkeypatch, capsys, number, how, code
):
  """Two at a time: the first and third play on, the second is complete, the fourth waits."""
  runs = [shutil.copytree(run, tmp_path / f"run_{i}") for i in range(4)]
  hows = {"run_0": how, "run_1": "quick", "run_2": how, "run_3": "quick"}
  playing = [tmp_path / f"{each}.playing" for each in ("run_0", "run_2")]
  make = evaluation_processes._make_task

  def make_stand_in(directory, options, path):
    name = directory.name
    files = (evaluated[0] / "all.json", path, tmp_path / f"{name}.playing")
    command = (sys.executable, "-S", "-E", "-c", STAND_IN, hows[name], *map(str, files))
    return dataclasses.replace(make(directory, options, path), command=command)

  def send():
    while not all(path.exists() for path in playing):
      time.sleep(0.01)
    os.kill(os.getpid(), number)

  monkeypatch.setattr(evaluation_processes, "_make_task", make_stand_in)
  if how == "stubborn":
    monkeypatch.setattr(evaluation_processes, "GRACE_SECONDS", 0.1)
  handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
  thread = threading.Thread(target=send)
  thread.start()
  saved = tmp_path / "all.json"
  assert main([*map(str, runs), "--processes", "2", "--json", str(saved)]) == code
  thread.join()
  assert [each["run"] for each in json.loads(saved.read_text())["runs"]] == [str(runs[1])]
  for path in playing:
    with pytest.raises(ProcessLookupError):
      os.kill(int(path.read_text()), 0)
  said = capsys.readouterr().err.splitlines()
  name = signal.Signals(number).name
  assert said[-1] == f"stopped by {name}: 1 of 4 evaluations were complete and are written"
  assert any("killed" in line for line in said) == (how == "stubborn")
  assert handlers == [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_stops_one_process_and_keeps_what_is_complete(
  run, evaluated, tmp_path, monkeypatch, capsys, number, code
):
  """The first run's evaluation is complete, the second plays on."""
  runs = [shutil.copytree(run, tmp_path / f"run_{i}") for i in range(2)]
  (result,) = json.loads((evaluated[0] / "all.json").read_text())["runs"]
  playing = threading.Event()

  def evaluate(plan, reader):
    if plan.directory == runs[0]:
      return {**result, "run": str(plan.directory)}
    playing.set()
    while True:
      time.sleep(0.01)

  def send():
    playing.wait()
    os.kill(os.getpid(), number)

  monkeypatch.setattr(checkpoint_evaluation, "evaluate_run", evaluate)
  handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
  thread = threading.Thread(target=send)
  thread.start()
  saved = tmp_path / "all.json"
  assert main([*map(str, runs), "--json", str(saved)]) == code
  thread.join()
  assert [each["run"] for each in json.loads(saved.read_text())["runs"]] == [str(runs[0])]
  said = capsys.readouterr().err.splitlines()
  name = signal.Signals(number).name
  assert said[-1] == f"stopped by {name}: 1 of 2 evaluations were complete and are written"
  assert handlers == [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]


def test_an_error_that_was_not_foreseen_is_traced_and_stops_no_other(
  run, tmp_path, monkeypatch, capsys
):
  other = shutil.copytree(run, tmp_path / "another")

  def evaluate(plan, reader):
    if plan.directory == run:
      raise RuntimeError("out of\nmemory")
    raise OSError("disk full")

  monkeypatch.setattr(checkpoint_evaluation, "evaluate_run", evaluate)
  assert main([str(run), str(other)]) == 1
  said = capsys.readouterr().err.splitlines()
  assert said[0].startswith("Traceback")
  assert said[-2:] == [
    f"error: the evaluation of {run} failed: RuntimeError: out of memory",
    f"error: the evaluation of {other} failed: OSError: disk full",
  ]


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_run_that_is_refused_is_refused_in_its_own_words_and_stops_no_other(
  run, tmp_path, capsys, processes
):
  other = make_run(tmp_path / "another")
  damaged = next((other / "checkpoints" / "steps" / str(STEP) / "train_state").rglob("*_METADATA"))
  damaged.write_bytes(b"x" + damaged.read_bytes()[1:])
  saved = tmp_path / "all.json"
  arguments = [str(other), str(run), "--levels", "train", "--simulations", "0"]
  assert main([*arguments, "--processes", processes, "--json", str(saved)]) == 1
  assert [each["run"] for each in json.loads(saved.read_text())["runs"]] == [str(run)]
  errors = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
  assert len(errors) == 1
  assert "damaged" in errors[0]
  twice = shutil.copytree(other, tmp_path / "twice")  # nothing can be played
  arguments = [str(other), str(twice), *arguments[2:], "--processes", processes]
  assert main(arguments) == 2


@pytest.mark.parametrize(
  ("arguments", "expected"),
  [
    (["--simulations", "-1"], "--simulations"),
    (["--simulations", "2", "2"], "different numbers"),
    (["--search", "gumbell"], "Did you mean 'gumbel'?"),
    (["--plot", "x.svg"], "at least two"),
    (["--plot", "x.pdf", "--simulations", "0", "2"], ".svg or .png"),
    (["--video-episodes", "3"], "--video DIR"),
    (["--video-episodes", "0", "--video", "v"], "at least 1"),
    (["--processes", "0"], "--processes"),
    (["--levels", "seeds:3,3"], "names level 3 twice"),
    (["--levels", "seeds:"], "must be seeds:LIST"),
    (["--levels", "seeds:4", "--environments", "3"], "--environments has no effect"),
  ],
)
def test_wrong_options_get_one_line_and_exit_code_2(
  run, tmp_path, monkeypatch, capsys, arguments, expected
):
  monkeypatch.chdir(tmp_path)
  assert guarded(main, [str(run), *arguments]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert expected in line
