# Sourced by the other scripts: where things are, and what must be installed.

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
mkdir -p .local
chmod 711 .local
PATH=$PATH:/usr/local/go/bin:${HOME:-/root}/.cargo/bin:/usr/sbin:/sbin
export PATH

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "$*"
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# missing PROGRAM PACKAGE: prints the package unless the program is there.
missing() {
    command -v "$1" >/dev/null 2>&1 || [ -e "$1" ] || printf '%s ' "$2"
}

# The packages of which a program is missing; arguments are further programs that are packages of their name.
missing_packages() {
    for program in "$@"; do missing "$program" "$program"; done
    missing cc build-essential
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || printf 'postgresql '
    missing redis-server redis-server
    missing promtool prometheus
    missing pgbouncer pgbouncer
    [ "$(id -u)" = 0 ] || return 0
    missing ip iproute2
    missing nft nftables
    missing containerd containerd
    missing runc runc
    missing /usr/lib/cni/bridge containernetworking-plugins
}

# Installs what is missing, without starting services of the machine.
install_packages() {
    packages=$(missing_packages "$@")
    [ -n "$packages" ] || return 0
    command -v apt-get >/dev/null 2>&1 || fail "install these (as this distribution calls them): $packages"
    say "installing: $packages"
    # Debian starts a server when its package is installed; the policy says no for as long as this takes.
    policy=''
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        policy=/usr/sbin/policy-rc.d
        printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
        as_root chmod 755 $policy
    fi
    log=.local/apt.log
    result=0
    # shellcheck disable=SC2086
    { as_root apt-get update && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages; } >"$log" 2>&1 || result=$?
    [ -z "$policy" ] || as_root rm -f "$policy"
    [ "$result" = 0 ] || { tail -n 20 "$log" >&2; fail "apt-get failed (see $log); needed: $packages"; }
}

check_toolchains() {
    command -v cargo >/dev/null 2>&1 || fail "Rust is needed: https://rustup.rs"
    command -v go >/dev/null 2>&1 || fail "Go is needed: https://go.dev/dl"
}

# The folder of programs of a profile (debug or release).
programs() {
    printf '%s/%s/%s' "${CARGO_TARGET_DIR:-target}" "$(rustc --print host-tuple 2>/dev/null || rustc -vV | sed -n 's/^host: //p')" "${1:-debug}"
}
