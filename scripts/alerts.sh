#!/bin/sh
# Runs the alert rules through promtool's checks and their own tests.
set -eu
. "$(dirname "$0")/tools.sh"

command -v promtool >/dev/null 2>&1 || fail "promtool is needed (Debian package prometheus)"
work=$(mktemp -d "${TMPDIR:-/tmp}/alerts.XXXXXX")
trap 'rm -rf "$work"' EXIT
# promtool reads the bare groups, the operator's resource has them below spec.
sed -n '/^spec:$/,$p' manifests/observability/alerts.yaml | sed '1d; s/^  //' >"$work/alerts.rules.yaml"
cp manifests/observability/alerts.test.yaml "$work"
promtool check rules "$work/alerts.rules.yaml" >"$work/log" 2>&1 && promtool test rules "$work/alerts.test.yaml" >>"$work/log" 2>&1 || {
    cat "$work/log" >&2
    exit 1
}
