#!/usr/bin/env bash
# Cloud TPU: a study on a TPU VM, which may be taken away at any time (spot).
#
#   PROJECT=p ZONE=us-central1-a BUCKET=gs://b tpu.sh create
#   ... tpu.sh setup                    the code and the environment, on all workers
#   ... tpu.sh run --preset gpu         `procplan sweep`, on all workers, in the background
#   ... tpu.sh status                   what the runs say
#   ... tpu.sh babysit --preset gpu     all of the above, again whenever the VM is taken away
#   ... tpu.sh delete
#   DRY_RUN=1 ... prints the commands
#
# Runs one after the other use all chips of the VM. A sweep's run does not go over several hosts
# (docs/several_hosts.md has what does): take types of one host (v5litepod-8, v6e-8, v4-8), and
# several NAMEs with a --filter each for more.
set -euo pipefail
ACCELERATOR=tpu
LAUNCH="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
. "$LAUNCH/env.sh"

NAME="${NAME:-procplan}"
PROJECT="${PROJECT:?the project on Google Cloud}"
ZONE="${ZONE:?the zone of the TPU, such as us-central1-a}"
BUCKET="${BUCKET:?where results go, such as gs://bucket/procplan}"
TYPE="${TYPE:-v5litepod-8}"
VERSION="${VERSION:-v2-alpha-tpuv5-lite}"  # the runtime that belongs to the type
OUT="${OUT:-runs/tpu}"
POLL_SECONDS="${POLL_SECONDS:-60}"
where=("--project=$PROJECT" "--zone=$ZONE")

on_all() {  # a shell command on every worker of the VM
  run gcloud compute tpus tpu-vm ssh "$NAME" "${where[@]}" --worker=all "--command=$1"
}

state() {
  gcloud compute tpus tpu-vm describe "$NAME" "${where[@]}" "--format=value(state)" 2> /dev/null \
    || echo MISSING
}

create() {
  run gcloud compute tpus tpu-vm create "$NAME" "${where[@]}" \
    "--accelerator-type=$TYPE" "--version=$VERSION" --spot
}

setup() {  # ends at what fails, also where `set -e` does not reach
  run git -C "$LAUNCH/../.." archive --format=tar.gz --output=/tmp/procplan.tar.gz HEAD \
    && run gcloud compute tpus tpu-vm scp /tmp/procplan.tar.gz "$NAME:" "${where[@]}" --worker=all \
    && on_all "mkdir -p procplan && tar -xzf procplan.tar.gz -C procplan && cd procplan\
 && sudo apt-get update --quiet\
 && sudo apt-get install --yes --quiet python3.11-venv libgl1 libglib2.0-0\
 && python3.11 -m venv .venv && .venv/bin/pip install --quiet --editable '.[tpu,report]'"
}

start() {  # goes on when the connection ends; what it says is in sweep.log, its code in sweep.code
  [ "$#" -gt 0 ] || set -- --preset gpu
  inner=". experiments/launch/env.sh && experiments/launch/copied.sh $OUT $BUCKET\
 procplan sweep --engine local --processes 1 --out $OUT $(printf '%q ' "$@"); echo \$? > sweep.code"
  on_all "cd procplan && rm -f sweep.code && export PATH=\$PWD/.venv/bin:\$PATH ACCELERATOR=tpu\
 && (setsid bash -c $(printf '%q' "$inner") > sweep.log 2>&1 < /dev/null &)"
}

status() {
  on_all "cd procplan && tail -n 3 sweep.log && .venv/bin/procplan status $OUT"
}

delete() {
  run gcloud compute tpus tpu-vm delete "$NAME" "${where[@]}" --quiet
}

code_of_sweep() {  # prints nothing while it goes on, or where the VM does not answer
  gcloud compute tpus tpu-vm ssh "$NAME" "${where[@]}" --worker=0 \
    "--command=cat procplan/sweep.code 2> /dev/null || [ -e procplan/sweep.log ] || echo none" \
    2> /dev/null || true
}

babysit() {
  if [ "${DRY_RUN:-0}" = 1 ]; then
    create && setup && start "$@" && status && delete
    return
  fi
  while true; do
    case "$(state)" in
      READY) ;;
      CREATING | STARTING | REPAIRING | RESTARTING) sleep "$POLL_SECONDS"; continue ;;
      MISSING) create && setup && start "$@" || sleep "$POLL_SECONDS"; continue ;;
      *) delete || true; continue ;;  # PREEMPTED, TERMINATED: a spot VM cannot be started again
    esac
    case "$(code_of_sweep)" in
      "") sleep "$POLL_SECONDS" ;;
      none) setup && start "$@" || sleep "$POLL_SECONDS" ;;  # a new VM may refuse connections
      0) status; delete; return 0 ;;
      75 | 130 | 137 | 143) start "$@" ;;
      *) status; echo "the sweep failed; $NAME is still there" >&2; return 1 ;;
    esac
  done
}

action="${1:-}"
[ "$#" -eq 0 ] || shift
case "$action" in
  create | setup | status | delete) "$action" ;;
  run) start "$@" ;;
  babysit) babysit "$@" ;;
  *) echo "usage: tpu.sh create|setup|run|status|babysit|delete [OPTIONS OF sweep]" >&2; exit 2 ;;
esac
