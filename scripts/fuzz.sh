#!/bin/sh
# Fuzzes what parses outside input, from the kept corpus on, until so many executions found nothing. What it finds stays in
# .local/fuzz; what is worth keeping of it is merged into tests/fuzz/corpus, over which `make test` runs the same checks.
# usage: scripts/fuzz.sh [EXECUTIONS [TARGET...]]; targets: review decision offline
set -eu
. "$(dirname "$0")/tools.sh"

executions=${1:-10000000}
[ $# -le 1 ] && set -- "$executions" review decision offline
shift
check_toolchains
command -v cargo-fuzz >/dev/null 2>&1 || {
    say "installing: cargo-fuzz"
    cargo install --quiet --locked cargo-fuzz
}
for target in "$@"; do
    case $target in
    review | decision) seeds=tests/fuzz/seeds/reviews ;;
    offline) seeds=tests/fuzz/seeds/manifests ;;
    *) fail "usage: scripts/fuzz.sh [EXECUTIONS [review|decision|offline...]]" ;;
    esac
    work=.local/fuzz/$target kept=tests/fuzz/corpus/$target.tar
    rm -rf "$work"
    mkdir -p "$work/known" "$work/new" "$work/kept"
    [ ! -e "$kept" ] || tar -xf "$kept" -C "$work/known"
    # Without a sanitizer: there is no unsafe code of ours, and the stable compiler has none.
    fuzz() {
        cargo fuzz run --fuzz-dir tests/fuzz --target-dir target/fuzz --sanitizer none "$target" "$@"
    }
    say "fuzzing $target: $executions executions (log: $work/log)"
    fuzz "$work/new" "$work/known" "$seeds" -- -runs="$executions" -dict=tests/fuzz/words.dict -max_len=8192 -timeout=10 \
        -print_final_stats=1 >"$work/log" 2>&1 || {
        tail -n 40 "$work/log" >&2
        fail "$target found something: the input is in tests/fuzz/artifacts/$target"
    }
    grep -aE 'DONE|stat::' "$work/log"
    fuzz "$work/kept" "$work/new" "$work/known" "$seeds" -- -set_cover_merge=1 >"$work/merge.log" 2>&1
    (cd "$work/kept" && tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$root/$kept" -- *)
    say "kept: $(find "$work/kept" -type f | wc -l) inputs in $kept"
done
