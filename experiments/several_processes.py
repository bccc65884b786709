"""A run as one of several processes that `jax.distributed` brings together, one on every host."""

from collections.abc import Callable
import os
import sys
import traceback

from experiments.errors import EXIT_FAILED, EXIT_USAGE, UsageError

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


def run_together(run: Callable[[], int]) -> int:
  """Joins the other processes, runs, and leaves them.

  Args:
    run: returns an exit code; 1 and 2 say that this process has failed.

  Returns:
    The exit code. A process that fails ends here at once: it would wait at the exit for
    the others, which wait for it. They end with an error of their own.

  Raises:
    UsageError: the processes do not find one another.
  """
  import jax  # here, because it is slow

  _join()
  try:
    code = run()
  except UsageError as error:
    print(f"error: {error}", file=sys.stderr)
    code = EXIT_USAGE
  except jax.errors.JaxRuntimeError as error:
    reason = " ".join(str(error).split())
    print(
      f"error: another process of the run has ended or is out of reach ({reason}); once all have "
      "ended the same command, on every host, continues",
      file=sys.stderr,
    )
    code = EXIT_FAILED
  except Exception:
    traceback.print_exc()
    code = EXIT_FAILED
  if code in (EXIT_FAILED, EXIT_USAGE):
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
  jax.distributed.shutdown()
  return code


def _join() -> None:
  """Calls `jax.distributed.initialize` with what the environment says.

  Raises:
    UsageError: the environment says too little or something wrong.
  """
  import jax

  address, *numbers = (os.environ.get(name) for name in VARIABLES)
  try:
    count, index = (None if each is None else int(each) for each in numbers)
    jax.distributed.initialize(address, count, index)
  except (ValueError, RuntimeError) as error:
    reason = " ".join(str(error).split())
    raise UsageError(
      f"--distributed: set {', '.join(VARIABLES)}, or start under Slurm or on a Cloud TPU: {reason}"
    ) from None
