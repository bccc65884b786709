# Settings for every machine, each with its reason. Sourced by the scripts here:
#   ACCELERATOR=cuda . env.sh
# A value that is set already stays.

# What the scripts run on: cpu, cuda or tpu.
ACCELERATOR="${ACCELERATOR:-cpu}"

# JAX falls back to the CPU without an error where a plugin does not load, and a run of days
# then takes months. Named platforms are an error where the first cannot be had.
case "$ACCELERATOR" in
  cpu) export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}" ;;
  cuda) export JAX_PLATFORMS="${JAX_PLATFORMS:-cuda,cpu}" ;;
  tpu) export JAX_PLATFORMS="${JAX_PLATFORMS:-tpu,cpu}" ;;
  *) echo "ACCELERATOR must be cpu, cuda or tpu, got $ACCELERATOR" >&2; exit 2 ;;
esac

# Compiled functions, for every later start on a machine of the same kind: a resumed run
# begins in a second or two instead of in up to minutes. A sweep has its own in its directory.
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$HOME/.cache/procplan/compiled}"

# A log shows what was printed, and not what would have been had the buffer been full.
export PYTHONUNBUFFERED=1

# XLA's and cuDNN's notices below errors say nothing about a run.
export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-2}"

# Ray reports usage to its makers unless told not to.
export RAY_USAGE_STATS_ENABLED=0

# Ray starts its workers with a niceness of 15: the runs would go behind everything else.
export RAY_worker_niceness=0

if [ "$ACCELERATOR" = cuda ]; then
  # One allocation at the start, so that memory does not fragment over days. JAX takes .75 of a
  # GPU; .9 leaves enough for cuDNN's and NCCL's own. The local engine divides it where several
  # runs share a GPU.
  export XLA_PYTHON_CLIENT_MEM_FRACTION="${XLA_PYTHON_CLIENT_MEM_FRACTION:-.90}"

  # Resumed runs equal uninterrupted ones bit for bit only where no kernel adds up in the order
  # in which threads happen to come, and none is chosen by a stopwatch. Costs some speed;
  # DETERMINISTIC=0 gives it back.
  if [ "${DETERMINISTIC:-1}" = 1 ]; then
    export XLA_FLAGS="${XLA_FLAGS:-} --xla_gpu_deterministic_ops=true"
  fi
fi

# With DRY_RUN=1 a script prints its commands, quoted so that a shell takes them, and does nothing.
run() {
  if [ "${DRY_RUN:-0}" = 1 ]; then
    printf '%q ' "$@"
    printf '\n'
  else
    "$@"
  fi
}
