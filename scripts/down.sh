#!/bin/sh
# Ends the platforms of this checkout; logs stay in .local.
set -eu
. "$(dirname "$0")/tools.sh"

platform=$(programs)/platform
[ -x "$platform" ] || cargo build --quiet --locked -p tests --bin platform
for state in .local/up .local/test .local/test-2 .local/bench .local/chaos; do
    [ ! -d "$state" ] || "$platform" down --state "$state"
done
rm -f .local/env
