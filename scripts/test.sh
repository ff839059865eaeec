#!/bin/sh
# Everything that decides whether a change may land: format, lints, unit tests, and the journeys on real components.
set -eu
. "$(dirname "$0")/tools.sh"

install_packages
check_toolchains
say "format"
cargo fmt --all --check
say "lints"
cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
say "alert rules"
scripts/alerts.sh
say "building the programs"
cargo build --quiet --locked --workspace --bins

say "unit tests"
cargo test --locked --workspace --lib --bins
say "journeys"
exec scripts/journeys.sh
