#!/usr/bin/env bash
# One machine, with or without GPUs: a study, one run on each GPU at a time.
#
#   machine.sh --preset gpu --games starpilot --out runs/starpilot     any options of `sweep`
#   DRY_RUN=1 machine.sh --preset gpu                                  prints the commands
#
# Stop it with Ctrl-C or SIGTERM; the same command continues. ACCELERATOR=cpu for a machine
# without GPUs.
set -euo pipefail
ACCELERATOR="${ACCELERATOR:-cuda}"
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

[ "$#" -gt 0 ] || set -- --preset gpu
run procplan sweep --engine local "$@"
