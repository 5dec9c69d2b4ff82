#!/usr/bin/env bash
# Installs what the tests need of Debian's packages and is missing: a Redis server and a browser.
# Fails nowhere: where it cannot install, it says so, and the tests that need them are skipped.
set -euo pipefail

programs=(redis-server chromium) # each is also the name of its package

missing=()
for program in "${programs[@]}"; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null || missing+=("$program")
done
if [ ${#missing[@]} -eq 0 ]; then
    echo "services: all there (${programs[*]})"
    exit 0
fi

skipped() {
    echo "services: $1; tests that need ${missing[*]} are skipped"
    exit 0
}

command -v apt-get >/dev/null || skipped "no apt-get here"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || skipped "neither root nor sudo"
    as_root=(sudo)
    [ -t 0 ] || as_root=(sudo -n) # nobody is there to type a password
fi

apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "$@" >"$log" 2>&1
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Package lists may be old or absent: they are fetched only where installing from them fails.
if ! apt install --yes --no-install-recommends "${missing[@]}"; then
    if ! apt update || ! apt install --yes --no-install-recommends "${missing[@]}"; then
        tail -n 5 "$log" >&2
        skipped "apt-get could not install them (its last lines are above)"
    fi
fi
echo "services: installed ${missing[*]}"
