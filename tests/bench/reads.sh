#!/bin/sh
# How many reads a second a node answers, on a log of 100,000 records, with the client on the same processors; and
# what it takes of memory, idle and with a large download under way.
#
#   tests/bench/reads.sh [SECONDS]        (after `cargo build --release`; needs wrk and curl)
set -eu
cd "$(dirname "$0")/../.."
for_seconds=${1:-10}
work=$(mktemp -d "$PWD/target/bench-XXXXXX")
node=
trap 'test -z "$node" || kill "$node" 2>/dev/null || true; rm -rf "$work"' EXIT
cargo bench --quiet --bench append -- 100000 --keep "$work/data"
# The walls are of no use here, and a list of proxies is not asked.
printf 'sandbox = "none"\ngoproxy = "off"\n[limits]\nexempt = ["127.0.0.0/8"]\n' >"$work/node.toml"
target/release/sumpeer serve --config "$work/node.toml" --data "$work/data" --listen 127.0.0.1:0 \
    --admin-listen 127.0.0.1:0 2>"$work/log" &
node=$!
until grep -q '^verifier key' "$work/log"; do sleep 0.1; done
url=$(sed -n 's/^listening on //p' "$work/log")
resident() { awk '/^VmRSS/ { print $2 " kB resident" }' "/proc/$node/status"; }
record=$(curl -sSf "$url/tlog/tile/8/data/200" | sed -n 2p)
spec=$(echo "$record" | awk '{ print $1 "@" $2 $3 "/" $4 "-" $5 "-" $6 "/" }')
sleep 2
echo "idle: $(resident)"
for path in /tlog/latest "/tlog/lookup/$spec" /tlog/tile/8/0/200 /tlog/tile/8/data/200; do
    curl -s -o /dev/null -w "%{http_code} $path: " "$url$path"
    wrk -t1 -c16 -d"${for_seconds}s" "$url$path" | grep Requests/sec
done
echo "after: $(resident)"
