#!/usr/bin/env bash
# Runs a command whose directory is copied to a place that outlives the machine.
#
#   copied.sh DIRECTORY PLACE COMMAND ...     PLACE: gs://bucket/path, or a directory
#
# First what is in PLACE is fetched, so that the command continues; then DIRECTORY is copied
# every COPY_SECONDS, and once more at the end. Checkpoints go first: the files that grow beside
# them are then never shorter than the checkpoint says, and a checkpoint that was copied half is
# not used, because its checksums do not fit.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

COPY_SECONDS="${COPY_SECONDS:-300}"
directory="$1"
place="$2"
shift 2

copy() {  # FROM TO: everything that is new, nothing deleted
  case "$1$2" in
    *gs://*) run gcloud storage rsync --recursive "$1" "$2" ;;
    *) run mkdir -p "$2" && run cp --recursive --update "$1/." "$2" ;;
  esac
}

copy_out() {
  for checkpoints in "$directory"/*/checkpoints; do
    [ -d "$checkpoints" ] || continue
    copy "$checkpoints" "$place/${checkpoints#"$directory"/}"
  done
  copy "$directory" "$place"
}

is_there() {  # who cannot be asked ends the script: begun anew, the runs would replace what is there
  case "$place" in
    gs://*)
      if [ "${DRY_RUN:-0}" = 1 ]; then return; fi
      if said="$(gcloud storage ls "$place" 2>&1)"; then return; fi
      case "$said" in *"matched no objects"*) return 1 ;; esac
      printf '%s\n' "$said" >&2
      exit 1 ;;
    *) [ -d "$place" ] ;;
  esac
}

run mkdir -p "$directory"
if is_there; then copy "$place" "$directory"; fi
if [ "${DRY_RUN:-0}" = 1 ]; then
  run "$@"
  copy "$directory" "$place"
  exit
fi

"$@" &
command=$!
trap 'kill -TERM "$command" 2> /dev/null' TERM INT
( while sleep "$COPY_SECONDS"; do copy_out || echo "could not be copied to $place" >&2; done ) &
copier=$!
code=0
wait "$command" || code=$?
while kill -0 "$command" 2> /dev/null; do  # a signal ended the wait, not the command
  code=0
  wait "$command" || code=$?
done
kill "$copier" 2> /dev/null || true
copy_out
exit "$code"
