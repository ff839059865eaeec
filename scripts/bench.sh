#!/bin/sh
# Release builds on a platform of their own; each figure is printed with its floor from the same run.
# usage: scripts/bench.sh [SECTION...]; sections: admission scale creation writes reloads hold ready refusal
set -eu
. "$(dirname "$0")/tools.sh"

install_packages wrk
check_toolchains
command -v wrk >/dev/null 2>&1 || { say "installing: wrk" && as_root apt-get install -y --no-install-recommends wrk >.local/apt.log 2>&1; }
say "building release programs"
cargo build --quiet --locked --release --workspace --bins
platform=$(programs release)/platform
trap '"$platform" down --state .local/bench' EXIT
trap 'exit 130' INT TERM
cargo bench --quiet --locked -p tests --bench bench -- "$@"
