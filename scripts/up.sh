#!/bin/sh
# Builds everything, starts the platform on this machine, shows the main job and leaves it running.
set -eu
. "$(dirname "$0")/tools.sh"

install_packages
check_toolchains
say "building the programs"
cargo build --quiet --locked --workspace --bins
say "starting the platform (state and logs: .local/up)"
platform=$(programs)/platform
"$platform" up --state .local/up
"$platform" demo --state .local/up --env-file .local/env
