#!/bin/sh
# How long builds take: a node's, and the plain go command's on the same machine in the same run.
#
#   tests/bench/builds.sh [ROUNDS]        (after `cargo build --release`; needs go, curl and the module proxy)
#
# warm:  the standard library is compiled and the modules are at hand, for both: the node has just built the stripped
#        variant; the plain go command has the node's own standard-library cache, a file proxy and no checksum database.
# empty: the plain go command with nothing but its toolchain.
# Each of the node's rounds starts from a copy of one data directory, so no program is built twice. Nothing is removed
# before the end: ext4 without a journal makes files slowly for minutes after many were removed.
set -eu
cd "$(dirname "$0")/../.."
rounds=${1:-3}
go=go1.27.1
work=$(mktemp -d "$PWD/target/bench-XXXXXX")
node=
trap 'test -z "$node" || kill "$node" 2>/dev/null || true; chmod -R u+w "$work"; rm -rf "$work"' EXIT

start() { # DATA
    target/release/sumpeer serve --data "$1" --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 2>"$1.log" &
    node=$!
    until grep -q '^verifier key' "$1.log"; do sleep 0.1; done
    url=$(sed -n 's/^listening on //p' "$1.log")
}
stop() { kill "$node"; wait "$node" || true; node=; }
now() { date +%s%N; }
seconds() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", (b - a) / 1e9 }'; }

plain() { # HOME GOPROXY GOSUMDB PACKAGE
    env -i HOME="$1" GOCACHE="$1/cache" GOMODCACHE="$1/mod" GOPATH="$1/go" GOPROXY="$2" GOSUMDB="$3" GO111MODULE=on \
        CGO_ENABLED=0 GOOS=linux GOARCH=amd64 GOTOOLCHAIN=$go GOFLAGS=-modcacherw \
        "$work/data/toolchains/$go/bin/go" install -trimpath -ldflags=-buildid= -- "$4" 2>"$1.log" ||
        { cat "$1.log" >&2; exit 1; }
}

# Some proxies refuse lists of versions, which the go command wants even for an exact version: it gets them from here.
proxies=${GOPROXY:-$(go env GOPROXY)}
for module in filippo.io/age@v1.2.1 github.com/mjl-/mox@v0.0.17; do
    at="$work/lists/${module%@*}/@v"
    mkdir -p "$at"
    echo "${module#*@}" >"$at/list"
    for file in "${module#*@}.info" "${module#*@}.mod"; do
        curl -sSf -o "$at/$file" "${proxies%%[,|]*}/${module%@*}/@v/$file"
    done
done
mkdir "$work/data"
start "$work/data"
curl -sSf -m 900 "$url/tlog/lookup/rsc.io/2fa@v1.2.0/linux-amd64-$go/" >/dev/null
stop

for package in filippo.io/age/cmd/age@v1.2.1 github.com/mjl-/mox@v0.0.17; do
    case $package in
        filippo.io/age/*) spec=filippo.io/age@v1.2.1/cmd/age/linux-amd64-$go ;;
        *) spec=github.com/mjl-/mox@v0.0.17/linux-amd64-$go ;;
    esac
    home="$work/empty-home-${package##*/}"
    mkdir "$home"
    a=$(now); plain "$home" "file://$work/lists,$proxies" "" "$package"; b=$(now)
    echo "$package plain-empty $(seconds "$a" "$b")"
    download="$home/mod/cache/download"
    for round in $(seq "$rounds"); do
        home="$work/home-$round-${package##*/}"
        data="$work/data-$round-${package##*/}"
        mkdir "$home"
        cp -a "$work/data/seeds/$go/linux-amd64" "$home/cache"
        chmod -R u+w "$home/cache"
        a=$(now); plain "$home" "file://$download,file://$work/lists" off "$package"; b=$(now)
        echo "$package plain-warm $(seconds "$a" "$b")"

        cp -a "$work/data" "$data"
        start "$data"
        curl -sSf -m 900 "$url/tlog/lookup/$spec-stripped/" >/dev/null
        a=$(now); curl -sSf -m 900 "$url/tlog/lookup/$spec/" >/dev/null; b=$(now)
        echo "$package node-warm $(seconds "$a" "$b") ($(grep 'build ended' "$data.log" | tail -n 1 | grep -o 'toolchain_ms.*'))"
        stop
    done
done
