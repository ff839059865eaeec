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
say "building the programs"
cargo build --quiet --locked --workspace --bins

# The platform ends with the script, however that ends; its logs stay.
platform=$(programs)/platform
trap '"$platform" down --state .local/test' EXIT
trap 'exit 130' INT TERM
say "unit tests"
cargo test --locked --workspace --lib --bins
say "starting the platform (state and logs: .local/test)"
"$platform" up --state .local/test --purpose journeys
say "journeys"
# One after another: they stop servers that all of them use.
cargo test --locked -p tests --test '*' --no-fail-fast -- --test-threads=1
"$platform" status --state .local/test
