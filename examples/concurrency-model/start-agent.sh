#!/bin/sh
# Starts a command in a container if somebody is logged in there:  sh start-agent.sh claude -p "Reply: A"
#
# It looks where the client will look: CLAUDE_CODE_OAUTH_TOKEN, else CLAUDE_CONFIG_DIR, else ~/.claude. A login that was
# lost to `invalid_grant` leaves a file without a refresh token, which counts as none. The file is read, and
# `claude auth status` is not asked: with an expired login, release 2.1.123 begins a refresh there and exits before its
# end, so that the question can lose the login.
set -eu

login=${CLAUDE_CONFIG_DIR:-$HOME/.claude}/.credentials.json

if [ -n "${CLAUDE_CODE_OAUTH_TOKEN:-}" ]; then
  echo "logged in: by a token in the environment" >&2
elif [ -r "$login" ] && grep -q '"refreshToken": *"[^"]' "$login"; then
  echo "logged in: $login" >&2
else
  echo "nobody is logged in: no login in $login" >&2
  exit 1
fi
exec "$@"
