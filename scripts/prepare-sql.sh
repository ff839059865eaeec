#!/bin/sh
# Makes .sqlx anew: the descriptions of all queries that sqlx's macros check, so that a build needs no database.
# usage: scripts/prepare-sql.sh [--check]; --check fails when the committed descriptions are not what the code needs.
#
# The server is a throw-away PostgreSQL of its own, with the migrations of this checkout: nothing else decides the result.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
check=${1:-}

binaries=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
[ -n "$binaries" ] || binaries=$(dirname "$(command -v postgres)")
work=$(mktemp -d "${TMPDIR:-/tmp}/prepare-sql.XXXXXX")
made=$(mktemp -d "$root/target/prepare-sql.XXXXXX" 2>/dev/null || { mkdir -p target && mktemp -d "$root/target/prepare-sql.XXXXXX"; })

# PostgreSQL refuses to run as root.
if [ "$(id -u)" = 0 ]; then
    chown postgres "$work"
    as_server() { setpriv --reuid=postgres --regid=postgres --init-groups -- "$@"; }
else
    as_server() { "$@"; }
fi
stop() {
    as_server "$binaries/pg_ctl" --pgdata="$work/data" --mode=immediate stop >/dev/null 2>&1 || true
    rm -rf "$work" "$made"
}
trap stop EXIT
trap 'exit 130' INT TERM

as_server "$binaries/initdb" --pgdata="$work/data" --username=postgres --auth=trust --encoding=UTF8 --no-sync >"$work.log"
rm -f "$work.log"
as_server "$binaries/pg_ctl" --pgdata="$work/data" --wait --log="$work/log" \
    --options="-c listen_addresses='' -c unix_socket_directories='$work' -c fsync=off" start >/dev/null
PGHOST=$work PGPORT=5432 PGUSER=postgres scripts/dev-database.sh prepare

# Only an expansion writes a description, and cargo skips what it has built: touch the crates that have queries.
packages=''
for crate in */; do
    crate=${crate%/}
    [ -f "$crate/Cargo.toml" ] || continue
    if grep -rqE 'query(_as|_scalar)?(_unchecked)?!\(' "$crate/src" "$crate/tests" 2>/dev/null; then
        packages="$packages --package $crate"
        find "$crate/src" "$crate/tests" -name '*.rs' -maxdepth 2 -exec touch {} + 2>/dev/null || true
    fi
done
[ -n "$packages" ] || { echo 'no checked queries'; exit 0; }
# shellcheck disable=SC2086
SQLX_OFFLINE=false SQLX_OFFLINE_DIR=$made DATABASE_URL="postgres://postgres@localhost/prepare?host=$work" \
    cargo check --quiet --all-targets $packages

if [ "$check" = --check ]; then
    diff -r .sqlx "$made" || { echo 'run scripts/prepare-sql.sh and commit .sqlx' >&2; exit 1; }
else
    rm -rf .sqlx
    mkdir .sqlx
    cp "$made"/*.json .sqlx/
    echo "$(ls .sqlx | wc -l) queries described"
fi
