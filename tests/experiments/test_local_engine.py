"""How the local engine shares a machine out."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from experiments.engines.local import FRACTION, GPU_MEMORY, Slot, share_out, usable_gpus
from experiments.errors import UsageError

CORES = st.lists(st.integers(0, 255), min_size=1, max_size=64, unique=True)


@given(CORES, st.integers(1, 80))
def test_cores_are_shared_out_evenly(cores, processes):
  slots = share_out(processes, cores=cores)
  assert len(slots) == processes
  sizes = [len(slot.cores) for slot in slots]
  assert max(sizes) - min(sizes) <= 1
  assert min(sizes) >= 1
  dealt = sorted(core for slot in slots for core in slot.cores)
  if processes <= len(cores):
    assert dealt == sorted(cores)
  else:
    uses = [dealt.count(core) for core in cores]
    assert max(uses) - min(uses) <= 1
  assert all(slot.environment() == {} for slot in slots)


@given(st.integers(1, 9), st.integers(1, 20))
def test_no_gpu_is_promised_more_memory_than_it_has(gpus, processes):
  slots = share_out(processes, cores=[0], gpus=[str(i) for i in range(gpus)])
  used = {name: sum(slot.gpu_share for slot in slots if name in slot.gpus) for name in "012345678"}
  assert all(share <= 1 + 1e-9 for share in used.values())
  if processes <= gpus:
    assert [used[str(i)] for i in range(gpus)] == [1] * gpus


@pytest.mark.parametrize(
  ("processes", "expected"),
  [
    (1, [{"CUDA_VISIBLE_DEVICES": "0,1,2"}]),
    (2, [{"CUDA_VISIBLE_DEVICES": "0,2"}, {"CUDA_VISIBLE_DEVICES": "1"}]),
    (
      4,  # the first and the last share a GPU; the others have half of theirs, too
      [{"CUDA_VISIBLE_DEVICES": name, FRACTION: f"{GPU_MEMORY / 2:.3f}"} for name in "0120"],
    ),
  ],
)
def test_a_process_sees_its_own_gpus(processes, expected, monkeypatch):
  monkeypatch.delenv(FRACTION, raising=False)
  slots = share_out(processes, cores=[0, 1], gpus=["0", "1", "2"])
  assert [slot.environment() for slot in slots] == expected


def test_the_share_of_memory_that_is_set_is_divided(monkeypatch):
  slots = share_out(2, cores=[0], gpus=["0"])
  monkeypatch.setenv(FRACTION, ".40")
  assert [slot.environment()[FRACTION] for slot in slots] == ["0.200", "0.200"]
  (alone,) = share_out(1, cores=[0], gpus=["0"])
  assert FRACTION not in alone.environment()  # it has the variable as it is
  monkeypatch.setenv(FRACTION, "half")
  with pytest.raises(UsageError, match="must be a number, got 'half'"):
    slots[0].environment()


def test_without_gpus_nothing_is_set():
  assert Slot((0,)).environment() == {}


def test_gpus_are_those_that_the_variable_or_the_driver_lists(tmp_path, monkeypatch):
  program = tmp_path / "nvidia-smi"
  program.write_text("#!/bin/sh\nprintf '0\\n1\\n'\n")
  program.chmod(0o755)
  monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
  monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
  assert usable_gpus() == ["0", "1"]
  program.write_text("#!/bin/sh\nexit 9\n")  # no driver
  assert usable_gpus() == []
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-5a,")
  assert usable_gpus() == ["2", "GPU-5a"]
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
  assert usable_gpus() == []
