#!/bin/sh
# Starts AGENTS agents (3) at once, each invocation behind `flock -w 600`: one works, the others wait for its end.
#
#   claude-tokens run -- sh examples/concurrency-model/flock-wrapper.sh
set -eu

config=${CLAUDE_CONFIG_DIR:-$HOME/.claude}
lock_file=$config/session.lock

agent() {
  (
    flock -w 600 9 || exit 1
    claude -p "Reply: agent $1"
  ) 9>"$lock_file"
}

number=0
while [ "$number" -lt "${AGENTS:-3}" ]; do
  agent "$number" &
  number=$((number + 1))
done
wait
