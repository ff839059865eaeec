#!/bin/sh
# The same platform, and the same journeys, on a kind cluster of its own: its nodes enforce NetworkPolicy.
# Images are built here and loaded; nothing is pushed or pulled but kind's node image. Ends with the cluster's deletion.
set -eu
. "$(dirname "$0")/tools.sh"

docker info >/dev/null 2>&1 || fail "a container engine is needed: \`docker info\` does not answer"
for program in kind kubectl; do
    command -v $program >/dev/null 2>&1 || fail "$program is needed"
done
install_packages
check_toolchains
cargo build --quiet --locked --workspace --bins
# Another cluster that runs there would be kept.
for state in .local/test .local/test-2; do "$(programs)/platform" down --state "$state"; done
AGENT_READY_CLUSTER=kind
export AGENT_READY_CLUSTER
exec scripts/journeys.sh
