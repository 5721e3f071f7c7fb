#!/usr/bin/env bash
# Compares three durable nodes of ours with three of etcd, and one of our runtimes with the other, in turn, under the
# same load: one command, one table.
# shellcheck disable=SC2317 # start_KIND, probe_KIND and leads_KIND are called by nodes.sh
set -uo pipefail
# shellcheck source=benches/nodes.sh
source "$(dirname "${BASH_SOURCE[0]}")/nodes.sh"

usage() {
  cat <<'HELP'
Usage: benches/compare.sh [OPTIONS]

Starts three nodes of ours and three of etcd on this machine, puts the same load on them in turn, and
prints a table (Markdown) with what compares. Of Debian's packages etcd-server and redis-server it uses
what is installed. With Redis it has a yardstick: one Redis, not replicated, that fsyncs every write
(appendfsync always). The last column is ours, too, three nodes with Runtime = AsyncRuntime: what stands
first is ThreadedRuntime.

Options:
  -r RUNS       runs of each load on each system; the table has medians [default: 3]
  -s SECONDS    how long each run measures, after a second of warming up [default: 4]
  -k KILLS      how often each leader is killed [default: 10]
  -d FOLDER     where the data goes, in a new folder that is removed afterwards: a disk, no tmpfs
                [default: $TMPDIR, or else /tmp]
  -p PORT       the first of 90 ports of 127.0.0.1 that it may use [default: 27100]
  --quick       all of it once and in short (2 minutes or so), to see that it works: no figures to quote
  -h, --help    this text

What is measured:
  puts, gets    `raft-shell bench`: values of 256 bytes, 10,000 keys (--quick: 1,000), clients that share
                min(clients, 4) connections to the leader. Puts are acknowledged when they are fsynced on a
                majority; gets are linearizable.
  CPU           utime and stime of all nodes in /proc, in the middle of the puts of 64 clients
  memory        resident, of the node that has most, after 200,000 puts (--quick: 20,000) to a new cluster
  kill -9       from the signal to the leader to the first put served by another node. Two puts are tried every
                10 ms or so, one at each, whatever becomes of those before. Timers are the default ones.
  start         from the start of three processes without data to the first put that is served
  idle          utime and stime of the three nodes while nobody asks
  queue         RPUSH and LPOP of one message each, durable like puts (etcd has no queue)

The column "better" is how many times better ours is: a rate divided by the other's, and for everything else
the other's divided by ours. Load and nodes share this machine's cores: leave it alone meanwhile.

Programs: RAFT, RAFT_SHELL, ETCD and REDIS_SERVER in the environment name others than
target/release/raft, target/release/raft-shell (built if they are missing), etcd and redis-server.
ETCD= or REDIS_SERVER= (empty) leaves one out.

Exit code 0: all was measured; 1: something failed, and stderr says what; 2: the command line makes
no sense; 130: Ctrl-C. Whatever it started has ended by then.
HELP
}

# --- Options --------------------------------------------------------------------------------------

runs=3 seconds=4 kills=10 folder=${TMPDIR:-/tmp} port=27100 keys=10000 memory_puts=200000 idle_seconds=10
# Before the others, so that those mean the same on either side of it.
case " $* " in *" --quick "*) runs=1 seconds=1 kills=1 keys=1000 memory_puts=20000 idle_seconds=2 ;; esac
while (($#)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --quick) shift; continue ;;
    -[rskdp]) (($# > 1)) || wrong "$1 needs a value" ;;
    *) wrong "\"$1\" is no option" ;;
  esac
  case $1 in
    -d) folder=$2 ;;
    -r) runs=$2 ;;&
    -s) seconds=$2 ;;&
    -k) kills=$2 ;;&
    -[rsk]) whole "$1" "$2" 99999 ;;
    -p) port=$2; whole -p "$2" 65445 ;;
  esac
  shift 2
done
check_folder
work_in "$folder" raft-compare

# --- The systems ----------------------------------------------------------------------------------

find_programs
ETCD=$(command -v "${ETCD-etcd}") REDIS_SERVER=$(command -v "${REDIS_SERVER-redis-server}")
kind=([ours]=raft [AsyncRuntime]=raft [etcd]=etcd [redis]=redis) client_port=([redis1]=$((port + 51)))
for n in 1 2 3; do client_port[etcd$n]=$((port + 30 + n)); done
clusters=(ours AsyncRuntime) columns=(AsyncRuntime)
[[ -z $REDIS_SERVER ]] || columns=(redis "${columns[@]}")
if [[ -n $ETCD ]]; then
  clusters=(etcd "${clusters[@]}") columns=(etcd "${columns[@]}")
else
  say "etcd is not installed (Debian: etcd-server): only what is ours is compared"
fi
systems=(ours "${columns[@]}")

start_etcd() { # NODE
  local n=${1: -1} client=http://127.0.0.1:${client_port[$1]} peer=http://127.0.0.1
  launch "$1" "$ETCD" --name "etcd$n" --data-dir "$work/etcd/$n" \
    --listen-client-urls "$client" --advertise-client-urls "$client" \
    --listen-peer-urls "$peer:$((port + 40 + n))" --initial-advertise-peer-urls "$peer:$((port + 40 + n))" \
    --initial-cluster "etcd1=$peer:$((port + 41)),etcd2=$peer:$((port + 42)),etcd3=$peer:$((port + 43))" \
    --initial-cluster-token compare --quota-backend-bytes 8589934592 --logger zap --log-level warn
}

start_redis() { # NODE
  mkdir -p "$work/redis"
  launch "$1" "$REDIS_SERVER" --port "${client_port[$1]}" --bind 127.0.0.1 --save '' --appendonly yes \
    --appendfsync always --dir "$work/redis"
}

probe_etcd() { # PORT
  local line body='{"key":"cHJvYmU=","value":"eA=="}'
  exec 3<>"/dev/tcp/127.0.0.1/$1" || return
  printf 'POST /v3/kv/put HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s' ${#body} "$body" >&3
  read -r -t 5 line <&3 && [[ $line == "HTTP/1.1 200"* ]]
}

leads_etcd() { # NODE
  ask "${client_port[$1]}" POST /v3/maintenance/status '{}' || return
  [[ $answer =~ \"member_id\":\"([0-9]+)\" ]] && [[ $answer == *"\"leader\":\"${BASH_REMATCH[1]}\""* ]]
}

# --- Measuring ------------------------------------------------------------------------------------

measure_start() {
  local run system
  for ((run = 1; run <= runs; run++)); do
    for system in $(in_turn $run "${clusters[@]}"); do
      start_fresh "$system"
      note start "$system" "$ms"
      say "start $run of $runs: $system $ms ms"
      stop_system "$system"
    done
  done
}

# To clusters that are new, which go on running.
measure_memory() {
  local system name now most left
  for system in "${clusters[@]}"; do
    start_fresh "$system"
    bench "$system" 256 0.2 --mix put=1
    for ((left = memory_puts - $(to_int "$rate * 1.2"); left > 0; left -= $(to_int "$rate * (1 + $now)"))); do
      now=$(calc "$left / $rate - 1 > 0.2 ? $left / $rate - 1 : 0.2")
      bench "$system" 256 "$now" --mix put=1
    done
    most=0
    for name in $(nodes "$system"); do
      now=$(awk '/^VmRSS/ { print $2 }' "/proc/${pids[$name]}/status")
      most=$((now > most ? now : most))
    done
    note memory "$system" "$(calc "$most / 1024")"
    say "memory after $memory_puts puts: $system $((most / 1024)) MiB"
  done
}

measure_idle() {
  local system share
  local -A before=()
  sleep 2
  for system in "${clusters[@]}"; do before[$system]=$(cpu_ticks "$system"); done
  sleep $idle_seconds
  for system in "${clusters[@]}"; do
    share=$(calc "($(cpu_ticks "$system") - ${before[$system]}) / $(getconf CLK_TCK) / $idle_seconds / 3 * 100")
    note idle "$system" "$share"
    say "idle: $system $share % of a core per node"
  done
}

measure_load() {
  local run clients what system turn=0
  for ((run = 1; run <= runs; run++)); do
    for clients in 1 64 256; do
      for what in put get; do
        for system in $(in_turn $((turn++)) "${systems[@]}"); do
          bench "$system" $clients "$seconds" --mix $what=1
          note "$what$clients" "$system" "$rate"
          note "$what${clients}_p99" "$system" "$p99"
          [[ $what$clients != put64 ]] || note cpu "$system" "$cpu"
          say "run $run of $runs, ${what}s, $clients clients: $system $(to_int "$rate") a second, p99 $p99 ms"
        done
      done
    done
  done
}

measure_queue() {
  local run system
  for ((run = 1; run <= runs; run++)); do
    for system in $(in_turn $run ours AsyncRuntime); do
      bench "$system" 64 "$seconds" --queue --mix put=1
      note publish "$system" "$rate"
      # For a third of the time, so that the queue does not run empty.
      bench "$system" 64 "$(calc "$seconds / 3")" --queue --mix get=1
      note consume "$system" "$rate"
      say "run $run of $runs, queue: $system published $(to_int "${samples[publish/$system]##* }") a second, consumed $(to_int "$rate")"
    done
  done
}

measure_kill() {
  local run system name others began
  for ((run = 1; run <= kills; run++)); do
    for system in $(in_turn $run "${clusters[@]}"); do
      sleep 2
      find_leader "$system"
      others=()
      for name in $(nodes "$system"); do [[ $name == "$leader" ]] || others+=("$name"); done
      began=${EPOCHREALTIME/./}
      kill -KILL "${pids[$leader]}" && { wait "${pids[$leader]}"; } 2>/dev/null
      unset "pids[$leader]"
      first_success "$system" "$began" "${others[@]}"
      note kill "$system" "$ms"
      say "kill $run of $kills: $system $ms ms"
      "start_${kind[$system]}" "$leader"
      first_success "$system" "$began" "$leader"
    done
  done
}

# --- The table ------------------------------------------------------------------------------------

# shellcheck disable=SC2059 # a FORMAT is one of printf
row() { # TITLE ROW rate|cost FORMAT [worst]
  local ours theirs system cells='' which=${5:-median}
  ours=$(of "$2" ours "$which")
  cells="| $1 | $(printf "$4" "$ours") |"
  for system in "${columns[@]}"; do
    theirs=$(of "$2" "$system" "$which")
    if [[ -z $theirs ]]; then cells+=" | |"; continue; fi
    cells+=" $(printf "$4" "$theirs") | $(awk -v a="$ours" -v b="$theirs" -v kind="$3" \
      'BEGIN { if (kind == "cost") { t = a; a = b; b = t }; if (b > 0) printf "%.2f", a / b; else print "-" }') |"
  done
  echo "$cells"
}

table() {
  local clients head='| | ours |' line='| --- | ---: |' system
  for system in "${columns[@]}"; do
    head+=" $system | better |" line+=' ---: | ---: |'
  done
  printf '%s\n%s\n' "$head" "$line"
  for clients in 1 64 256; do
    row "puts/s, clients: $clients" put$clients rate %.0f
    row "— p99, ms" put${clients}_p99 cost %.2f
  done
  for clients in 1 64 256; do
    row "linearizable gets/s, clients: $clients" get$clients rate %.0f
    row "— p99, ms" get${clients}_p99 cost %.2f
  done
  row "server CPU per 1,000 puts, 64 clients, all nodes, s" cpu cost %.4f
  row "resident memory per node after $memory_puts puts, MiB" memory cost %.1f
  row "kill -9 of the leader to the next success, ms, median of $kills" kill cost %.0f
  row "— worst" kill cost %.0f worst
  row "start of three processes to the first success, ms" start cost %.0f
  row "three nodes idle, % of a core per node" idle cost %.2f
  row "queue: published/s, 64 clients" publish rate %.0f
  row "queue: consumed/s, 64 clients" consume rate %.0f
}

# --- All of it ------------------------------------------------------------------------------------

check_ports "$port" 90
configure ours "$port"
configure AsyncRuntime $((port + 60))
sed -i -E "s/^(Runtime = )[A-Za-z]+/\1AsyncRuntime/" "$work/AsyncRuntime.ini"
look_around

measure_start
measure_memory
measure_idle
[[ -z $REDIS_SERVER ]] || start_fresh redis
measure_load
measure_queue
measure_kill

describe_machine
[[ -z $ETCD ]] || "$ETCD" --version | head -1
[[ -z $REDIS_SERVER ]] || echo "Redis $("$REDIS_SERVER" --version | grep -o 'v=[0-9.]*'), one node, fsync always"
echo "runs of each load: $runs of $seconds s; medians"
echo
table
end
