#!/usr/bin/env bash
#SBATCH --job-name=procplan-nodes
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --requeue
#SBATCH --signal=B:TERM@180
#SBATCH --open-mode=append
# Slurm, several nodes in one allocation: a Ray cluster over them, which shares them out to runs.
#
#   sbatch --nodes=4 --gres=gpu:8 slurm_nodes.sh --preset paper --out runs/paper
#   DRY_RUN=1 NODES="a b" slurm_nodes.sh --preset paper               prints the commands
#
# For sites that give whole nodes, or few jobs to a user; else slurm.sh is simpler. A run is on
# one node. When the time is over the runs save, and the job goes back into the queue.
set -euo pipefail
# In a job, Slurm runs a copy of this file: the folder comes from where it was submitted.
LAUNCH="${LAUNCH:-$([ -e "${SLURM_SUBMIT_DIR:-.}/experiments/launch/env.sh" ] \
  && echo "${SLURM_SUBMIT_DIR:-.}/experiments/launch" || dirname "${BASH_SOURCE[0]}")}"
ACCELERATOR="${ACCELERATOR:-cuda}"
. "$LAUNCH/env.sh"

CPUS="${CPUS:-8}"  # of each run
GPUS="${GPUS:-1}"
PORT="${PORT:-6379}"
NODES="${NODES:-$(scontrol show hostnames "${SLURM_JOB_NODELIST:-}")}"
HEAD="${NODES%%[[:space:]]*}"
[ "$#" -gt 0 ] || set -- --preset paper
[ "$ACCELERATOR" = cuda ] || GPUS=0

on() {  # a step on one node, beside the others
  node="$1"
  shift
  run srun --overlap --nodes=1 --ntasks=1 --nodelist="$node" "$@"
}

quietly() {  # a command that prints what no log should have
  if [ "${DRY_RUN:-0}" = 1 ]; then run "$@"; else "$@" > /dev/null; fi
}

beside() {  # a command that goes on while the script does
  if [ "${DRY_RUN:-0}" = 1 ]; then "$@"; else "$@" & fi
}

# Whoever can reach the ports could run code on the cluster, were there no token. It is kept in
# ~/.ray, on the disk that the nodes share.
export RAY_AUTH_MODE=token
[ -s ~/.ray/auth_token ] || quietly ray get-auth-token --generate

ray_start=(ray start --block --disable-usage-stats --num-cpus "${SLURM_CPUS_PER_TASK:-16}")
beside on "$HEAD" "${ray_start[@]}" --head --include-dashboard=false --port "$PORT"
run sleep 20  # the head has to listen before the others call
for node in $NODES; do
  [ "$node" = "$HEAD" ] || beside on "$node" "${ray_start[@]}" --address "$HEAD:$PORT"
done
run sleep 20

sweep=(procplan sweep --engine ray --address "$HEAD:$PORT" --cpus "$CPUS" --gpus "$GPUS" "$@")
if [ "${DRY_RUN:-0}" = 1 ]; then
  run "${sweep[@]}"
  exit
fi
"${sweep[@]}" &
driver=$!
trap 'kill -TERM "$driver"' TERM  # the runs save, and the sweep ends with 75
code=0
wait "$driver" || code=$?
[ "$code" -le 128 ] || { code=0; wait "$driver" || code=$?; }  # the first wait ends at the signal
if [ "$code" -eq 75 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
