#!/bin/sh
# The availability run, ten minutes long, on a platform of its own: constant load of pods while replicas are killed, stopped and
# rolled, certificates replaced, the registration deleted and edited, and the apiserver restarted; every outcome is counted.
# usage: scripts/chaos.sh [SECONDS [SEED]]
set -eu
. "$(dirname "$0")/tools.sh"

install_packages
check_toolchains
say "building the programs"
cargo build --quiet --locked --workspace --bins
platform=$(programs)/platform
trap '"$platform" down --state .local/chaos' EXIT
trap 'exit 130' INT TERM
say "starting the platform (state and logs: .local/chaos)"
"$platform" up --state .local/chaos --purpose journeys
AVAILABILITY_SECONDS=${1:-600}
PLATFORM_STATE=$root/.local/chaos
export AVAILABILITY_SECONDS PLATFORM_STATE
[ -z "${2:-}" ] || export AVAILABILITY_SEED="$2"
cargo test --quiet --locked -p tests --test g8_availability -- --nocapture --exact \
    under_every_fault_the_gate_is_shut_and_ready_tenants_deploy
