"""Imagined rollouts: windows against slow loops, decoders, and the command."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from planning_run import CONFIG, make_run, with_decoder
import pytest

from agents import decoding
from agents.model import make_world_model
from agents.ppo.config import PPOConfig
from experiments.imagination import (
  DecoderTraining,
  Imagination,
  all_starts,
  cut_windows,
  of_environments,
  whole_starts,
)
from experiments.imagine import main
from experiments.options import guarded
from experiments.restored_policy import restore_policy
from losses.value_transform import logits_to_scalar
from networks.world_model import WorldModel
from replay.interface import Trajectory
from training.checkpoint_reader import CheckpointReader

T, B, K = 20, 3, 4
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def trajectory():
  """Frames of Catch's size that say their step and environment, with ends here and there."""
  generator = np.random.default_rng(0)
  frames = np.zeros((T, B, 32, 32, 3), np.uint8)
  for t in range(T):
    for b in range(B):
      frames[t, b, 4 * b + 4 : 4 * b + 12, 4 : 4 + t] = 200
  discount = np.ones((T, B), np.float32)
  discount[[3, 9, 10], [0, 1, 1]] = 0
  discount[:, 2] = np.arange(T) % 2  # no episode of more than two steps
  return Trajectory(
    observation=frames,
    action=generator.integers(0, 3, (T, B), np.int32),
    reward=generator.normal(size=(T, B)).astype(np.float32),
    discount=discount,
    extras={},
    final_observation=frames[-1],
  )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  return make_run(tmp_path_factory.mktemp("runs") / "dreamer")


@pytest.fixture(scope="module")
def decoding_run(tmp_path_factory):
  return make_run(tmp_path_factory.mktemp("runs") / "decoder", with_decoder(CONFIG))


def restored(directory, config):
  reader = CheckpointReader(directory / "checkpoints")
  return restore_policy(config, reader, step=None, batch_sizes=[1])


@pytest.fixture(scope="module")
def model(run):
  """Nothing changes it: a decoder is trained on another one's latents."""
  return Imagination(CONFIG, restored(run, CONFIG), run="run", horizon=K)


def unrolled(network, params, windows):
  return jax.jit(functools.partial(decoding.unrolled_latents, network))(params, windows)


def test_windows_are_those_of_a_slow_loop(trajectory):
  starts = all_starts(trajectory, K)
  assert len(starts) == (T - K) * B
  windows = cut_windows(trajectory, starts, K)
  for r, (t, b) in enumerate(starts):
    inside = 1.0
    for k in range(K + 1):
      np.testing.assert_array_equal(windows.frames[k, r], trajectory.observation[t + k, b])
      assert windows.inside[k, r] == inside
      if k < K:
        assert windows.action[k, r] == trajectory.action[t + k, b]
        inside *= trajectory.discount[t + k, b]


def test_whole_starts_stay_in_their_episode(trajectory):
  starts = whole_starts(trajectory, K, seed=1)
  expected = {
    (t, b) for t in range(T - K) for b in range(B) if trajectory.discount[t : t + K, b].all()
  }
  assert {tuple(map(int, each)) for each in starts} == expected
  assert expected
  with pytest.raises(ValueError, match="smaller --horizon"):
    whole_starts(of_environments(trajectory, slice(2, 3)), K, seed=1)


def test_latents_are_unrolled_step_by_step(model, trajectory):
  windows = cut_windows(trajectory, all_starts(trajectory, K)[:5], K)
  latents = unrolled(model.network, model.params, windows)
  represent = jax.jit(functools.partial(model.network.apply, method=WorldModel.represent))
  follow = jax.jit(functools.partial(model.network.apply, method=WorldModel.follow))
  for r in range(5):
    latent = represent(model.params, windows.frames[0, r : r + 1])
    np.testing.assert_allclose(latents[0, r], latent[0], atol=1e-5)
    for k in range(K):
      action = windows.action[k, r : r + 1]
      latent = follow(model.params, latent, action)
      np.testing.assert_allclose(latents[k + 1, r], latent[0], atol=1e-4)


def test_no_gradient_reaches_the_model(model, trajectory):
  windows = cut_windows(trajectory, all_starts(trajectory, K)[:6], K)
  decoder = decoding.new_decoder(
    model.network.backbone, model.latents(trajectory), KEY, frame_shape=model.frame_shape
  )
  loss = functools.partial(decoding.probe_loss, model.network)
  depth = np.array([0, 1, 2, 3, 4, 4], np.int32)
  gradients = jax.jit(jax.grad(loss, argnums=(0, 1)))(model.params, decoder, windows, depth=depth)
  assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(gradients[0])) == 0
  assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(gradients[1])) > 0


def test_the_loss_is_the_mean_error_inside_the_episode(model, trajectory):
  windows = cut_windows(trajectory, all_starts(trajectory, K)[:9], K)
  latents = unrolled(model.network, model.params, windows)
  decoder = decoding.new_decoder(
    model.network.backbone, latents, KEY, frame_shape=model.frame_shape
  )
  depth = np.arange(9, dtype=np.int32) % (K + 1)
  decode = jax.jit(
    functools.partial(
      decoding.decode, model.network.backbone, decoder, frame_shape=model.frame_shape
    )
  )
  errors = []
  for r, k in enumerate(depth):
    if windows.inside[k, r]:
      decoded = np.asarray(decode(latents[k, r][None, None], depth=depth[r][None, None]))[0, 0]
      errors.append(np.mean((decoded - windows.frames[k, r] / 255.0) ** 2))
  assert 0 < len(errors) < 9
  loss = jax.jit(functools.partial(decoding.probe_loss, model.network))
  found = loss(model.params, decoder, windows, depth=depth)
  np.testing.assert_allclose(found, np.mean(errors), rtol=1e-4)


def test_a_decoder_is_shown_latents_on_the_scale_on_which_they_vary(model, trajectory):
  latents = model.latents(trajectory)
  windows = cut_windows(trajectory, all_starts(trajectory, K), K)
  expected = unrolled(model.network, model.params, windows)
  np.testing.assert_allclose(latents, expected, atol=1e-5)
  decoder = decoding.new_decoder(model.network.backbone, latents, KEY, frame_shape=(32, 32, 3))
  scaled = (latents - np.asarray(decoder.mean)[:, None]) / np.asarray(decoder.deviation)[:, None]
  for k in range(K + 1):
    varies = latents[k].std(axis=0) > 0.1 * latents[k].std()
    assert varies.any()
    np.testing.assert_allclose(scaled[k].mean(axis=0)[varies], 0, atol=1e-3)
    np.testing.assert_allclose(scaled[k].std(axis=0)[varies], 1, atol=1e-3)
    # By the law of total variance: what differs between frames, of all that differs.
    share = 1 - latents[k].mean(axis=0).var() / latents[k].var()
    assert model.latent_variation(trajectory)[k] == pytest.approx(share**0.5, rel=1e-2)


def test_a_decoder_learns_to_see(run, trajectory):
  """The trained error of frames that it saw is far below that of a grey picture."""
  training = DecoderTraining(updates=400, learning_rate=1e-2, batch_size=16, seed=0)
  model = Imagination(CONFIG, restored(run, CONFIG), run="run", horizon=1)
  before = jax.tree.map(np.array, model.params)
  reported = []
  losses = model.train_decoder(
    trajectory, training, report=lambda number, loss: reported.append(number)
  )
  assert len(losses) == reported[-1] == 400
  assert np.mean(losses[-20:]) < 0.4 * np.mean(losses[:5])
  jax.tree.map(np.testing.assert_array_equal, before, model.params)
  rollouts = model.imagine(trajectory, whole_starts(trajectory, 1, seed=0))
  spread = np.var(trajectory.observation / 255.0)
  assert rollouts.error["seen"].mean() < 0.5 * spread


def test_rollouts_say_what_came_and_what_nothing_imagined_would_cost(decoding_run, trajectory):
  config = with_decoder(CONFIG)
  policy = restored(decoding_run, config)
  model = Imagination(config, policy, run="run", horizon=K)
  own = policy.state.params["self_supervision"]["decoder"]
  jax.tree.map(np.testing.assert_array_equal, model.decoder.params, own)
  starts = whole_starts(trajectory, K, seed=0)
  rollouts = model.imagine(trajectory, starts)
  for r, (t, b) in enumerate(starts):
    window = trajectory.observation[t : t + K + 1, b]
    np.testing.assert_array_equal(rollouts.came[:, r], window)
    np.testing.assert_array_equal(rollouts.reward[:, r], trajectory.reward[t : t + K, b])
    unchanged = np.mean((window / 255.0 - window[0] / 255.0) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(rollouts.error["unchanged"][:, r], unchanged, atol=1e-6)
  # Nothing is imagined at k = 0: the first frame is seen.
  np.testing.assert_allclose(rollouts.error["imagined"][0], rollouts.error["seen"][0], rtol=1e-4)
  assert not np.allclose(rollouts.error["imagined"][1:], rollouts.error["seen"][1:], rtol=1e-2)
  network = make_world_model(config.agent.backbone, config.agent.model, num_actions=3)
  latents = unrolled(network, model.params, cut_windows(trajectory, starts, K))
  step = jax.jit(functools.partial(network.apply, method=WorldModel.step))
  transition = step(model.params, latents[0], rollouts.action[0])
  expected = logits_to_scalar(transition.reward_logits, config.agent.model.reward_support)
  np.testing.assert_allclose(rollouts.predicted_reward[0], expected, rtol=1e-3, atol=1e-4)


def imagine(directory, out, *arguments):
  """Runs the command with little to do; returns its JSON file."""
  few = ["--steps", "24", "--horizon", "3", "--environments", "6", "--rollouts", "2"]
  assert main([str(directory), "--out", str(out), *few, *arguments]) == 0
  return json.loads((out / "imagination.json").read_text())


def test_the_command_with_a_new_decoder(run, tmp_path, capsys):
  result = imagine(run, tmp_path / "out", "--decoder-updates", "12", "--decoder-batch", "4")
  assert result["decoder"]["updates"] == len(result["decoder_losses"]) == 12
  assert [row["k"] for row in result["steps"]] == [0, 1, 2, 3]
  assert result["steps"][0]["unchanged"] == 0
  captured = capsys.readouterr()
  assert "update 12: loss" in captured.err
  assert "rollouts.png" in captured.out
  with Image.open(tmp_path / "out" / "rollouts.png") as image:
    assert image.width > 4 * 64
  with Image.open(tmp_path / "out" / "rollouts.gif") as image:
    assert image.n_frames >= 4
  assert (tmp_path / "out" / "rollouts.mp4").stat().st_size > 1000


def test_the_command_with_the_agents_own_decoder(decoding_run, tmp_path, capsys):
  result = imagine(decoding_run, tmp_path / "out", "--policy", "greedy")
  assert (result["decoder"], result["decoder_losses"]) == ("own", [])
  assert "update" not in capsys.readouterr().err
  again = imagine(decoding_run, tmp_path / "again", "--policy", "greedy")
  assert again["steps"] == result["steps"]
  new = imagine(decoding_run, tmp_path / "new", "--policy", "greedy", "--decoder-updates", "1")
  assert new["steps"] != result["steps"]
  few = [str(decoding_run), "--out", str(tmp_path / "x"), "--decoder-batch", "4"]
  assert guarded(main, few) == 2
  assert "decoder of its own" in capsys.readouterr().err


def test_an_agent_without_a_model_is_refused(tmp_path, capsys):
  agent = PPOConfig(backbone=CONFIG.agent.backbone, hidden=8, rollout_length=8, num_minibatches=1)
  directory = make_run(tmp_path / "run", dataclasses.replace(CONFIG, agent=agent))
  assert guarded(main, [str(directory), "--out", str(tmp_path / "out")]) == 2
  assert "no world model" in capsys.readouterr().err
  assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
  ("arguments", "expected"),
  [
    (["--horizon", "0"], "--horizon"),
    (["--steps", "5", "--horizon", "5"], "more than --horizon"),
    (["--steps", "12", "--horizon", "9", "--environments", "2"], "smaller --horizon"),
    (["--environments", "1"], "--environments"),
    (["--steps", "24", "--horizon", "3", "--rollouts", "999"], "--rollouts must be at most the "),
    (["--decoder-learning-rate", "0"], "above 0"),
    (["--policy", "gredy"], "Did you mean 'greedy'?"),
    (["--levels", "tset"], "Did you mean 'test'?"),
    (["--levels", "seeds:3"], "one by one"),
    (["--checkpoint", "5"], "5"),
    (["--seed", "-1"], "--seed"),
  ],
)
def test_wrong_options_get_one_line_and_exit_code_2(run, tmp_path, capsys, arguments, expected):
  assert guarded(main, [str(run), "--out", str(tmp_path / "out"), *arguments]) == 2
  errors = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
  assert len(errors) == 1
  assert expected in errors[0]
