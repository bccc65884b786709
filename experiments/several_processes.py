"""A run as one of several processes that `jax.distributed` brings together, one on every host."""

from collections.abc import Callable
import os
import sys
import traceback

from experiments.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, UsageError

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


def run_together(run: Callable[[], int]) -> int:
  """Joins the other processes, runs, and leaves them.

  Args:
    run: returns an exit code; 1 and 2 say that this process has failed.

  Returns:
    The exit code, of an end that all have agreed on. A process that fails, or that Ctrl-C
    stops at once, ends here: it would wait at the exit for the others, which wait for it.
    They end with an error of their own.

  Raises:
    UsageError: the processes do not find one another.
  """
  import jax  # here, because it is slow

  _join()
  agreed = False
  try:
    code = run()
    agreed = code not in (EXIT_FAILED, EXIT_USAGE)
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
  except KeyboardInterrupt:
    print("stopped at once; the last checkpoint stays", file=sys.stderr)
    code = EXIT_INTERRUPTED
  except Exception:
    traceback.print_exc()
    code = EXIT_FAILED
  if not agreed:
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
