"""Index arithmetic of rings that all environments fill in step.

A frame is known by its number, counted from the start of its environment and never
used twice, so that a number also says whether a frame has been overwritten. A ring
of `capacity` slots holds the latest `capacity` frames; frame i lies in slot
i mod capacity. A window is `length` consecutive frames, known by its first.
"""

import numpy as np


def oldest_frame(frames: int, capacity: int) -> int:
  """Number of the oldest frame that is still stored, after `frames` frames."""
  return max(0, frames - capacity)


def num_windows(frames: int, capacity: int, *, length: int) -> int:
  """How many windows of one environment can be drawn.

    W = min(frames, capacity) - length + 1, at least 0

  A window may cross the end of the ring's memory, which means nothing, and never
  the write head: its frames are consecutive in time.

  Args:
    frames: frames added to the environment since the start.
    capacity: slots of one environment.
    length: frames in a window.
  """
  return max(0, min(frames, capacity) - length + 1)


def locate_window(
  index: np.ndarray, frames: int, capacity: int, *, length: int
) -> tuple[np.ndarray, np.ndarray]:
  """Maps a number in [0, B W) to a window, one to one.

  Args:
    index: `[N]` integers in [0, B W), with W from `num_windows`.
    frames: frames added to every environment since the start.
    capacity: slots of one environment.
    length: frames in a window.

  Returns:
    environment `[N]` and first frame `[N]`.
  """
  environment, offset = np.divmod(index, num_windows(frames, capacity, length=length))
  return environment, oldest_frame(frames, capacity) + offset


def window_frames(first: np.ndarray, length: int) -> np.ndarray:
  """Frame numbers of windows, time first: `[length, N]` from `[N]`."""
  return first[None, :] + np.arange(length)[:, None]


def frame_in_slot(slot: np.ndarray, frames: int, capacity: int) -> np.ndarray:
  """Number of the frame that a slot holds, after `frames` frames.

  Args:
    slot: `[N]` in [0, capacity), of slots that have been written.
    frames: frames added since the start.
    capacity: slots of one environment.

  Returns:
    `[N]`, in [oldest frame, frames).
  """
  oldest = oldest_frame(frames, capacity)
  return oldest + (slot - oldest) % capacity
