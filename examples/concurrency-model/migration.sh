#!/bin/sh
# The six steps from a mounted ~/.claude to a shared CLAUDE_CONFIG_DIR, in the HOME that it is given.
#
#   sh migration.sh          the six steps
#   sh migration.sh before   only starts the factory, as it was before them
#
# The factory is a stand-in: "up" starts AGENTS agents (2) at once, each in a container, and waits for them. A container
# is a mount namespace with a private home, where the old layout mounts ~/.claude, and the new one the shared folder at
# its own path. FACTORY=host starts the agents on the host, where namespaces are forbidden; both layouts are sound then.
#
# To be run by `claude-tokens run -- sh migration.sh`, or with a handle's `env(account, config_dir=…)`.
set -eu

scripts=$(cd "$(dirname "$0")" && pwd)
shared=${CLAUDE_SHARED_DIR:-$HOME/claude-shared} # on a real host below /var/lib

# Before it all: the login is in ~/.claude, and due for a refresh. Whoever watches the folder that it came from still
# finds it there.
mv "$CLAUDE_CONFIG_DIR" "$HOME/.claude"
ln -s "$HOME/.claude" "$CLAUDE_CONFIG_DIR"
unset CLAUDE_CONFIG_DIR
umask 077
login=$HOME/.claude/.credentials.json
sed 's/"expiresAt": *[0-9]*/"expiresAt": 0/' "$login" >"$login.due"
mv "$login.due" "$login"

# in_container PRIVATE MOUNTED AT COMMAND…: with PRIVATE as home, and MOUNTED mounted at AT.
in_container() {
  unshare --user --map-root-user --mount sh -c '
    mount --bind "$1" "$HOME" && mount --bind "$2" "$3" || exit 125
    shift 3
    exec "$@"' container "$@"
}

agent() {
  set -- "$1" sh "$scripts/start-agent.sh" claude -p "Reply: agent $1"
  if [ "${FACTORY:-containers}" = host ]; then
    shift
    "$@"
  else
    private=$HOME/containers/$1
    mkdir -p "$private/.claude" "$HOME/agent"
    if [ -n "${CLAUDE_CONFIG_DIR:-}" ]; then
      mounted=$shared at=$shared
    else
      mounted=$HOME/.claude at=$HOME/agent/.claude
    fi
    shift
    HOME=$HOME/agent in_container "$private" "$mounted" "$at" "$@"
  fi
}

factory() {
  echo "factory $1"
  [ "$1" = up ] || return 0
  number=0
  while [ "$number" -lt "${AGENTS:-2}" ]; do
    agent "$number" &
    number=$((number + 1))
  done
  wait
}

if [ "${1:-}" = before ]; then
  factory up
  exit
fi

# 1. Stop the factory
factory down

# 2. Create the shared directory
mkdir -p "$shared"

# 3. Move existing config
mv "$HOME/.claude" "$shared/config"

# 4. Create a back-compat symlink so that claude still works on the host
ln -sfn "$shared/config" "$HOME/.claude"

# 5. Export the variable
export CLAUDE_CONFIG_DIR="$shared/config"

# 6. Start the factory
factory up
