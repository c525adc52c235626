#!/bin/bash
# Records port and flow counters of a real Open vSwitch while iperf3 makes a workload, with and without a migration stream
# beside it: record.sh DIRECTORY [SECONDS]. Needs root, Open vSwitch and iperf3; see ../README.md.
#
#   guest (namespace) -- port 1 |                 |
#   hypervisor        -- port 3 | bridge, netdev  | port 2 -- peer (namespace)     100 Mbit/s each way on port 2
#
# The stream goes from the hypervisor to the peer, TCP port 49152, and has flows of its own, as the controller would set them.
set -euo pipefail
out=$(realpath "${1:?the directory to write to}")
seconds=${2:-20}
id=$$
ovs=cnt$id-s guest=cnt$id-g hyper=cnt$id-h peer=cnt$id-p
dir=$(mktemp -d /tmp/fairway-counters-XXXXXX)
pids=()

clean() {
  trap - EXIT INT TERM
  for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done
  for n in $ovs $guest $hyper $peer; do
    for p in $(ip netns pids "$n" 2>/dev/null || true); do kill -9 "$p" 2>/dev/null || true; done
    ip netns del "$n" 2>/dev/null || true
  done
  rm -rf "$dir"
}
trap clean EXIT
trap 'exit 130' INT TERM

for n in $ovs $guest $hyper $peer; do
  ip netns add "$n"
  ip -n "$n" link set lo up
done
in_ovs() { ip netns exec $ovs "$@"; }
ovsdb-tool create "$dir/conf.db" /usr/share/openvswitch/vswitch.ovsschema
in_ovs ovsdb-server "$dir/conf.db" --remote=punix:"$dir/db" --unixctl="$dir/db.ctl" 2>"$dir/db.log" &
pids+=($!)
until [ -S "$dir/db" ]; do sleep 0.1; done
export OVS_RUNDIR=$dir
in_ovs ovs-vsctl --db=unix:"$dir/db" --no-wait init
in_ovs ovs-vswitchd unix:"$dir/db" --unixctl="$dir/switchd.ctl" 2>"$dir/switchd.log" &
pids+=($!)
until [ -S "$dir/switchd.ctl" ]; do sleep 0.1; done
vsctl() { in_ovs ovs-vsctl --db=unix:"$dir/db" "$@"; }
ofctl() { in_ovs ovs-ofctl -O OpenFlow13 "$1" "$dir/br0.mgmt" "${@:2}"; }
vsctl add-br br0 -- set bridge br0 datapath_type=netdev fail_mode=secure protocols=OpenFlow13

# name namespace port address
plug() {
  ip link add "fc$id$1" netns $ovs type veth peer name eth0 netns "$2"
  in_ovs ip link set "fc$id$1" up
  in_ovs ethtool -K "fc$id$1" tx off >/dev/null
  ip netns exec "$2" ethtool -K eth0 tx off >/dev/null
  ip -n "$2" addr add "$4/24" dev eth0
  ip -n "$2" link set eth0 up
  vsctl add-port br0 "fc$id$1" -- set interface "fc$id$1" ofport_request="$3"
}
plug g $guest 1 10.9.0.1
plug u $peer 2 10.9.0.2
plug h $hyper 3 10.9.0.3
in_ovs tc qdisc replace dev "fc${id}u" root tbf rate 100mbit burst 64k latency 30ms
ip netns exec $peer tc qdisc replace dev eth0 root tbf rate 100mbit burst 64k latency 30ms
ofctl add-flow 'priority=10,actions=NORMAL'
ofctl add-flow 'cookie=1,priority=20,in_port=3,tcp,tcp_dst=49152,actions=output:2'
ofctl add-flow 'cookie=2,priority=20,in_port=2,tcp,tcp_src=49152,actions=output:3'

for port in 5201 5202; do
  ip netns exec $peer iperf3 -s -p $port >/dev/null 2>&1 &
  pids+=($!)
done
ip netns exec $peer iperf3 -s -p 49152 >/dev/null 2>&1 &
pids+=($!)
sleep 1

# One line: time, bytes received and sent by port 1 and by port 2, bytes of the stream and of the answers to it.
sample() {
  # Both are asked for at once, as the controller does: what lies between would look like traffic.
  ofctl dump-flows >"$dir/flows" &
  local asked=$!
  ofctl dump-ports >"$dir/ports"
  wait $asked
  { echo "now $(date +%s%3N)"; cat "$dir/ports" "$dir/flows"; } | awk '
    function number(text, key,   a) { if (match(text, key "=[0-9]+")) { split(substr(text, RSTART, RLENGTH), a, "="); return a[2] } return 0 }
    /^now/ { at = $2 }
    # The switch numbers ports as 1 or by name, and prints what it received on one line and what it sent on the next.
    /port +[0-9"a-z]+.*: rx/ { p = $0; sub(/: rx.*/, "", p); sub(/.*port +/, "", p); gsub(/"/, "", p); rx[p] = number($0, "bytes") }
    / tx pkts/ { tx[p] = number($0, "bytes") }
    /cookie=0x1,/ { stream = number($0, "n_bytes") }
    /cookie=0x2,/ { answers = number($0, "n_bytes") }
    END {
      for (p in rx) { if (p == "1" || p ~ /g$/) g = p; if (p == "2" || p ~ /u$/) u = p }
      printf "%s,%s,%s,%s,%s,%s,%s\n", at, rx[g], tx[g], rx[u], tx[u], stream, answers
    }'
}

client() { ip netns exec "$1" iperf3 -c 10.9.0.2 "${@:2}" >/dev/null 2>&1; }
# What the guest does, for so many seconds.
workload() {
  case $1 in
    none) sleep "$seconds" ;;
    out) client $guest -p 5201 -b 40M -t "$seconds" ;;
    in) client $guest -p 5201 -b 40M -R -t "$seconds" ;;
    both) client $guest -p 5201 -b 25M -t "$seconds" & client $guest -p 5202 -b 20M -R -t "$seconds"; wait $! ;;
    bursty)
      # A second of sending as fast as it goes, a pause, some receiving: never the same way for long.
      local until=$(($(date +%s) + seconds))
      while [ "$(date +%s)" -lt $until ]; do
        client $guest -p 5201 -b 70M -t 1 || true
        sleep 0.7
        client $guest -p 5202 -b 50M -R -t 1 || true
        sleep 0.4
      done ;;
  esac
}

mkdir -p "$out"
for stream in alone stream; do
  for what in none in out both bursty; do
    file=$out/$what-$stream.csv
    echo "$what, $stream: $seconds s" >&2
    echo 'at_ms,guest_rx_bytes,guest_tx_bytes,uplink_rx_bytes,uplink_tx_bytes,stream_bytes,answer_bytes' >"$file"
    workload $what &
    load=$!
    if [ $stream = stream ]; then
      # It comes when the workload has been seen for a while, and goes before that does.
      (sleep $((seconds / 4)); client $hyper -p 49152 -b 60M -t $((seconds / 2)) || true) &
      copy=$!
    fi
    while kill -0 $load 2>/dev/null; do
      sample >>"$file"
      sleep 1
    done
    wait $load || true
    [ $stream = alone ] || wait $copy || true
    sleep 1
  done
done
