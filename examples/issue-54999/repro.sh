#!/usr/bin/env bash
# The experiment of anthropics/claude-code#54999: two prompts at a time, on one token, then on two. It knows nothing of
# tests: it needs a `claude` on PATH, and two setup-tokens in TOKEN_A and TOKEN_B. How long each prompt took is printed.
#
#   repro.sh [one|two]     one half only; TRIALS=10 says how often
set -u
cd "$(mktemp -d)" || exit
trials=${TRIALS:-10}
TIMEFORMAT=%R

ask() { # WHO TOKEN
  (time env CLAUDE_CODE_OAUTH_TOKEN="$2" claude -p "Reply: $1" </dev/null >>"$1.out" 2>&1) 2>&1 | sed "s/^/  $1 /"
}

if [ "${1:-one}" = one ]; then
  for trial in $(seq 1 "$trials"); do
    echo "one token, trial $trial"
    ask A "$TOKEN_A" &
    ask B "$TOKEN_A" &
    wait
  done
fi

if [ "${1:-two}" = two ]; then
  for trial in $(seq 1 "$trials"); do
    echo "two tokens, trial $trial"
    ask A "$TOKEN_A" &
    ask B "$TOKEN_B" &
    wait
  done
fi
