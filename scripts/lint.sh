#!/bin/sh
# Formatting, lints and documentation, as strict as `make test`.
set -eu
. "$(dirname "$0")/tools.sh"

cargo fmt --all --check
cargo clippy --locked --workspace --all-targets -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --locked --quiet --workspace --no-deps
