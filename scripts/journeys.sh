#!/bin/sh
# All journeys, dealt out to platforms that know nothing of each other. On each, one file runs after another, for journeys
# stop servers that all of them use; most of their time they wait, so that two platforms have room on two cores.
# Ends with the platforms; their logs stay.
# usage: scripts/journeys.sh [FILE...]; without names all files of tests/tests are run
set -eu
. "$(dirname "$0")/tools.sh"

platform=$(programs)/platform
# Those that take minutes come first, so that none of them is left for the end.
long='t2_saga_faults g8_availability g10_removal g9_certificates'
# Those that hold the product to a time of a second or less come last, with nothing beside them.
alone='g2_release i1_login'

# The next file; nothing when all are dealt out.
next() (
    flock 9
    head -n 1 "$work/queue"
    sed -i 1d "$work/queue"
) 9>"$work/lock"

# lane STATE: a platform, and files until none is left in the queue.
lane() {
    "$platform" up --state "$1" --purpose journeys
    file=$(next)
    while [ -n "$file" ]; do
        began=$(date +%s)
        result=ok
        PLATFORM_STATE="$root/$1" cargo test --locked -p tests --test "$file" -- --test-threads=1 --show-output >"$work/$file.log" 2>&1 ||
            result=FAILED
        printf '%s %s %s s, on %s\n' "$file" "$result" "$(($(date +%s) - began))" "$1" >"$work/$file.result"
        # In one piece.
        cat "$work/$file.result" "$work/$file.log"
        file=$(next)
    done
    "$platform" status --state "$1"
}

if [ "${1:-}" = --lane ]; then
    work=$3
    lane "$2"
    exit
fi

first=.local/test
second=.local/test-2
# There is one cluster then.
[ "${AGENT_READY_CLUSTER:-}" != kubeconfig ] || second=''
work=$(mktemp -d "$root/.local/journeys.XXXXXX")
lanes=''
end() {
    # Each lane leads a process group: with it ends what it waits for.
    for lane in $lanes; do kill -s TERM -- "-$lane" 2>/dev/null || true; done
    for state in $first $second; do "$platform" down --state "$state" || true; done
    rm -rf "$work"
}
trap end EXIT
trap 'exit 130' INT TERM

if [ $# -gt 0 ]; then
    for file in "$@"; do echo "$file"; done
else
    for file in $long; do echo "$file"; done
    for path in tests/tests/*.rs; do basename "$path" .rs; done
fi | awk '!seen[$0]++' >"$work/files"
for file in $alone; do
    [ -f "tests/tests/$file.rs" ] || fail "tests/tests/$file.rs is gone: say in $0 which journeys run alone"
    echo "$file"
done >"$work/alone"
# All at once, before two look for what is to be built.
# shellcheck disable=SC2046
cargo test --quiet --locked -p tests $(sed 's/^/--test /' "$work/files") --no-run

# run STATE...: the queue, dealt out to these platforms.
run() {
    for state in "$@"; do
        say "starting a platform (state and logs: $state)"
        setsid "$0" --lane "$state" "$work" &
        began="$began $!"
    done
    lanes="$lanes $began"
    for lane in $began; do wait "$lane" || failed=1; done
    began=''
}
failed=0
began=''
grep -vxF -f "$work/alone" "$work/files" >"$work/queue" &&
    # shellcheck disable=SC2086
    run $first $second
[ -z "$second" ] || "$platform" down --state "$second" || failed=1
grep -xF -f "$work/alone" "$work/files" >"$work/queue" && run "$first"

# A file without a result was not run to its end, whatever became of its lane.
while read -r file; do
    if [ -f "$work/$file.result" ]; then cat "$work/$file.result"; else echo "$file was NOT RUN"; fi
done <"$work/files" >"$work/summary"
sort -k 3 -n -r "$work/summary" >&2
others=$(awk '$2 != "ok" { printf " %s", $1 }' "$work/summary")
[ -z "$others" ] || fail "journeys failed:$others"
[ "$failed" = 0 ] || fail "a platform failed: its words are above, its logs in $first or $second"
