#!/usr/bin/env bash
# Slurm, every run on one node: an array job, whose elements Slurm puts where there is room.
#
#   PARTITION=gpu slurm.sh --preset gpu --out runs/gpu                any options of `sweep`
#   DRY_RUN=1 slurm.sh --preset gpu                                   prints the commands
#
# Preempted and killed elements go back into the queue and continue from their checkpoint.
# The repository, the virtual environment and --out must be on a disk that all nodes share.
set -euo pipefail
ACCELERATOR="${ACCELERATOR:-cuda}"
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

CPUS="${CPUS:-8}"      # of each run: Procgen's environments and replay's compression use them
GPUS="${GPUS:-1}"      # of each run: with more, its batch is divided over them
TIME="${TIME:-24:00:00}"  # of each attempt: at the end a run saves and is queued again

[ "$#" -gt 0 ] || set -- --preset gpu
[ "$ACCELERATOR" = cuda ] || GPUS=0
run procplan sweep --engine slurm --cpus "$CPUS" --gpus "$GPUS" "--sbatch=--time=$TIME" \
  ${PARTITION:+"--sbatch=--partition=$PARTITION"} ${ACCOUNT:+"--sbatch=--account=$ACCOUNT"} "$@"
