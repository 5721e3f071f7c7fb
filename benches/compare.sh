#!/usr/bin/env bash
# Compares three durable nodes of ours with three of etcd, in turn, under the same load: one command, one table.
set -uo pipefail
export LC_ALL=C
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

usage() {
  cat <<'HELP'
Usage: benches/compare.sh [OPTIONS]

Starts three nodes of ours and three of etcd on this machine, puts the same load on them in turn, and
prints a table (Markdown) with what compares. Of Debian's packages etcd-server and redis-server it uses
what is installed; without etcd the table has ours alone. With Redis it has a yardstick: one Redis,
not replicated, that fsyncs every write (appendfsync always).

Options:
  -r RUNS       runs of each load on each system; the table has medians [default: 3]
  -s SECONDS    how long each run measures, after a second of warming up [default: 4]
  -k KILLS      how often each leader is killed [default: 10]
  -d FOLDER     where the data goes, in a new folder that is removed afterwards: a disk, no tmpfs
                [default: $TMPDIR, or else /tmp]
  -p PORT       the first of 60 ports of 127.0.0.1 that it may use [default: 27100]
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

say() { printf '%s\n' "$*" >&2; }
fail() { say "compare.sh: $*"; exit 1; }
wrong() { say "compare.sh: $*; --help tells what there is"; exit 2; }
calc() { awk "BEGIN { printf \"%.6g\", ($1) }"; }

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
    *) [[ $2 =~ ^[1-9][0-9]{0,4}$ ]] || wrong "$1 needs a whole number from 1 to 99999, not \"$2\"" ;;&
    -r) runs=$2 ;;
    -s) seconds=$2 ;;
    -k) kills=$2 ;;
    -p) port=$2; ((port <= 65475)) || wrong "-p may be 65475 at most" ;;
  esac
  shift 2
done
[[ -d $folder && -w $folder ]] && folder=$(cd "$folder" && pwd) || wrong "-d: \"$folder\" is no folder that can be written to"
disk=$(df --output=fstype "$folder" | tail -1)
[[ $disk != tmpfs ]] || wrong "$folder is in memory, where an fsync does nothing: name another folder with -d"
[[ -r /proc/self/stat ]] || fail "there is no /proc: this needs Linux"

# --- Processes, and how all of this ends ----------------------------------------------------------

declare -A pids=() # of what runs, by name
work=$(mktemp -d "$folder/raft-compare.XXXXXX") || fail "cannot make a folder in $folder"

launch() { # NAME COMMAND...
  local name=$1
  shift
  "$@" >>"$work/$name.log" 2>&1 </dev/null &
  pids[$name]=$!
}

stop() { # NAME...: at once, for their data is thrown away
  local name
  for name; do
    [[ -n ${pids[$name]-} ]] || continue
    kill -KILL "${pids[$name]}"
    wait "${pids[$name]}"
    unset "pids[$name]"
  done 2>/dev/null
}

clean_up() {
  trap '' INT TERM
  stop "${!pids[@]}"
  { kill -KILL $(jobs -p); wait; } 2>/dev/null # probes
  rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# --- The systems ----------------------------------------------------------------------------------

RAFT=${RAFT:-$ROOT/target/release/raft} RAFT_SHELL=${RAFT_SHELL:-$ROOT/target/release/raft-shell}
ETCD=$(command -v "${ETCD-etcd}") REDIS_SERVER=$(command -v "${REDIS_SERVER-redis-server}")
if [[ ! -x $RAFT || ! -x $RAFT_SHELL ]]; then
  say "building: cargo build --release"
  (cd "$ROOT" && cargo build --release) >&2 || fail "the build failed"
  [[ -x $RAFT && -x $RAFT_SHELL ]] || fail "there is no $RAFT, or no $RAFT_SHELL"
fi
# Each has the port for its clients in `client_port`, by name of the node; an URL for the load; a kind of probe.
declare -A client_port=([redis1]=$((port + 51))) scheme=([ours]=redis [etcd]=etcd [redis]=redis)
for n in 1 2 3; do client_port[ours$n]=$((port + 10 + n)) client_port[etcd$n]=$((port + 30 + n)); done
systems=(ours) clusters=(ours)
if [[ -n $ETCD ]]; then
  systems=(etcd ours) clusters=(etcd ours)
else
  say "etcd is not installed (Debian: etcd-server), so there is nothing to compare with: ours alone"
fi
[[ -z $REDIS_SERVER ]] || systems+=(redis)

nodes() { # SYSTEM: their names
  case $1 in redis) echo redis1 ;; *) echo "$1"{1,2,3} ;; esac
}

start_node() { # NAME
  local n=${1: -1} system=${1%?}
  case $system in
    ours) launch "$1" "$RAFT" -c "$work/raft.ini" -n "$n" ;;
    etcd)
      local client=http://127.0.0.1:${client_port[$1]} peer=http://127.0.0.1
      launch "$1" "$ETCD" --name "etcd$n" --data-dir "$work/etcd/$n" \
        --listen-client-urls "$client" --advertise-client-urls "$client" \
        --listen-peer-urls "$peer:$((port + 40 + n))" --initial-advertise-peer-urls "$peer:$((port + 40 + n))" \
        --initial-cluster "etcd1=$peer:$((port + 41)),etcd2=$peer:$((port + 42)),etcd3=$peer:$((port + 43))" \
        --initial-cluster-token compare --quota-backend-bytes 8589934592 --logger zap --log-level warn
      ;;
    redis)
      mkdir -p "$work/redis"
      launch "$1" "$REDIS_SERVER" --port "${client_port[$1]}" --bind 127.0.0.1 --save '' --appendonly yes \
        --appendfsync always --dir "$work/redis"
      ;;
  esac
}

start_fresh() { # SYSTEM: without data; sets `ms`, the time to the first success
  local name began
  rm -rf "${work:?}/$1"
  began=${EPOCHREALTIME/./}
  for name in $(nodes "$1"); do start_node "$name"; done
  first_success "$1" "$began" $(nodes "$1")
}

ask() { # PORT METHOD PATH [BODY]: the answer to a request over HTTP
  local answer body=${4-}
  exec 3<>"/dev/tcp/127.0.0.1/$1" || return
  printf '%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s' "$2" "$3" ${#body} "$body" >&3
  IFS= read -r -d '' -t 2 answer <&3
  printf %s "$answer"
}

etcd_put='{"key":"cHJvYmU=","value":"eA=="}'
probe() { # SYSTEM PORT: whether a put is served there, within 5 s
  local line
  exec 3<>"/dev/tcp/127.0.0.1/$2" || return
  case $1 in
    etcd) printf 'POST /v3/kv/put HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s' ${#etcd_put} "$etcd_put" ;;
    *) printf '*3\r\n$3\r\nSET\r\n$5\r\nprobe\r\n$1\r\nx\r\n' ;;
  esac >&3
  read -r -t 5 line <&3 && [[ $line == +OK* || $line == "HTTP/1.1 200"* ]]
}

first_success() { # SYSTEM SINCE NODE...: sets `ms`, from SINCE (in µs) until a put is served by any of these nodes
  local system=$1 since=$2 name probes=() found=$work/found limit=$((SECONDS + 30))
  shift 2
  rm -f "$found"
  until [[ -s $found ]]; do
    for name; do
      { probe "$system" "${client_port[$name]}" && set -C && echo "${EPOCHREALTIME/./}" >"$found"; } 2>/dev/null &
      probes+=($!)
    done
    sleep 0.01
    for name; do
      kill -0 "${pids[$name]}" 2>/dev/null && ((SECONDS <= limit)) && continue
      tail -n 5 "$work/$name.log" >&2
      fail "$name ended, or served no put within 30 s; the last of its log is above"
    done
  done
  { kill "${probes[@]}"; wait "${probes[@]}"; } 2>/dev/null
  ms=$(calc "($(<"$found") - $since) / 1000")
}

find_leader() { # SYSTEM: sets `leader`, the name of its node, or the only one
  local try
  leader=redis1
  [[ $1 != redis ]] || return
  for ((try = 0; try < 100; try++)); do
    for leader in $(nodes "$1"); do ! "leads_$1" "${leader: -1}" 2>/dev/null || return 0; done
    sleep 0.1
  done
  fail "$1 has no leader after 10 s"
}

leads_ours() { [[ $(ask $((port + 20 + $1)) GET /status) == *'"role": "Leader"'* ]]; }

leads_etcd() {
  local answer
  answer=$(ask "${client_port[etcd$1]}" POST /v3/maintenance/status '{}')
  [[ $answer =~ \"member_id\":\"([0-9]+)\" ]] && [[ $answer == *"\"leader\":\"${BASH_REMATCH[1]}\""* ]]
}

# --- Measuring ------------------------------------------------------------------------------------

cpu_ticks() { # SYSTEM: what its processes have used
  local name fields sum=0
  for name in $(nodes "$1"); do
    fields=$(<"/proc/${pids[$name]}/stat") || fail "$name has ended"
    read -ra fields <<<"${fields##*) }" # from the third on; utime and stime are the 14th and the 15th
    sum=$((sum + fields[11] + fields[12]))
  done
  echo $sum
}

bench() { # SYSTEM CLIENTS SECONDS FLAGS...: sets `rate` (of answers with something) and `p99`, and `cpu`, in s per 1,000 requests
  local system=$1 clients=$2 time=$3 out=$work/bench.log before after began window
  shift 3
  find_leader "$system"
  rm -f "$out"
  launch bench "$RAFT_SHELL" --json bench "${scheme[$system]}://127.0.0.1:${client_port[$leader]}" --clients "$clients" \
    --seconds "$time" --keys $keys --svg "$work/plot.svg" "$@"
  sleep "$(calc "1 + 0.15 * $time")"
  before=$(cpu_ticks "$system") || exit
  began=${EPOCHREALTIME/./}
  sleep "$(calc "0.7 * $time")"
  after=$(cpu_ticks "$system") || exit
  window=$((${EPOCHREALTIME/./} - began))
  wait "${pids[bench]}" || failures+=("$system, $clients clients, $*: $(tail -c 1500 "$out")")
  unset 'pids[bench]'
  local answers='"all":\{"answered":([0-9]+),"latency_ms":\{[^}]*"p99":([0-9.e+-]+)[^}]*\},"nil":([0-9]+),"per_second":([0-9.e+]+)'
  [[ $(<"$out") =~ $answers ]] || fail "raft-shell bench on $system: $(<"$out")"
  p99=$(calc "${BASH_REMATCH[2]}") rate=$(calc "${BASH_REMATCH[4]} * (1 - ${BASH_REMATCH[3]} / (${BASH_REMATCH[1]} + 1e-9))")
  cpu=$(calc "($after - $before) / $(getconf CLK_TCK) / ($window / 1e6) / ($rate + 1e-9) * 1000")
}

declare -A samples=() # of each row and system
failures=()
note() { samples[$1/$2]+=" $3"; } # ROW SYSTEM VALUE

in_turn() { # NUMBER SYSTEM...: the same, but the first moves on with each number, so that nobody is always first
  local first=$(($1 % ($# - 1)))
  shift
  echo "${@:first+1}" "${@:1:first}"
}

measure_start() {
  local run system
  for ((run = 1; run <= runs; run++)); do
    for system in $(in_turn $run "${clusters[@]}"); do
      start_fresh "$system"
      note start "$system" "$ms"
      say "start $run of $runs: $system $ms ms"
      stop $(nodes "$system")
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

to_int() { awk "BEGIN { printf \"%d\", ($1) }"; }

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
  local run clients kind system turn=0
  for ((run = 1; run <= runs; run++)); do
    for clients in 1 64 256; do
      for kind in put get; do
        for system in $(in_turn $((turn++)) "${systems[@]}"); do
          bench "$system" $clients $seconds --mix $kind=1
          note "$kind$clients" "$system" "$rate"
          note "$kind${clients}_p99" "$system" "$p99"
          [[ $kind$clients != put64 ]] || note cpu "$system" "$cpu"
          say "run $run of $runs, ${kind}s, $clients clients: $system $(to_int "$rate") a second, p99 $p99 ms"
        done
      done
    done
  done
}

measure_queue() {
  local run
  for ((run = 1; run <= runs; run++)); do
    bench ours 64 $seconds --queue --mix put=1
    note publish ours "$rate"
    # For a third of the time, so that the queue does not run empty.
    bench ours 64 "$(calc "$seconds / 3")" --queue --mix get=1
    note consume ours "$rate"
    say "run $run of $runs, queue: published $(to_int "${samples[publish/ours]##* }") a second, consumed $(to_int "$rate")"
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
      start_node "$leader"
      first_success "$system" "$began" "$leader"
    done
  done
}

# --- The table ------------------------------------------------------------------------------------

of() { # ROW SYSTEM median|worst: empty if there is none
  tr ' ' '\n' <<<"${samples[$1/$2]-}" | awk NF | sort -g |
    awk -v which="$3" '{ v[NR] = $1 } END { if (NR) print which == "worst" ? v[NR] : (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

row() { # TITLE ROW rate|cost FORMAT [worst]
  local ours theirs system cells='' which=${5:-median}
  ours=$(of "$2" ours "$which")
  cells="| $1 | $(printf "$4" "$ours") |"
  for system in etcd redis; do
    [[ " ${systems[*]} " == *" $system "* ]] || continue
    theirs=$(of "$2" $system "$which")
    if [[ -z $theirs ]]; then cells+=" | |"; continue; fi
    cells+=" $(printf "$4" "$theirs") | $(awk -v a="$ours" -v b="$theirs" -v kind="$3" \
      'BEGIN { if (kind == "cost") { t = a; a = b; b = t }; if (b > 0) printf "%.2f", a / b; else print "-" }') |"
  done
  echo "$cells"
}

table() {
  local clients head='| | ours |' line='| --- | ---: |' system
  for system in etcd redis; do
    [[ " ${systems[*]} " == *" $system "* ]] || continue
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

for ((n = port; n < port + 60; n++)); do
  ! (exec 3<>"/dev/tcp/127.0.0.1/$n") 2>/dev/null || fail "port $n is taken; -p names the first of 60 others"
done
(cd "$work" && "$RAFT" init --nodes 3 -o raft.ini >init.log 2>&1) || fail "raft init: $(<"$work/init.log")"
for n in 1 2 3; do
  sed -i -E "s/^(Port = )311$n\b/\1$((port + n))/; s/^(ClientPort = )411$n\b/\1${client_port[ours$n]}/" "$work/raft.ini"
  sed -i -E "s/^(HttpPort = )511$n\b/\1$((port + 20 + n))/" "$work/raft.ini"
done
sed -i -E "s|^(DataDirectory = )[^ ]*|\1$work/ours|" "$work/raft.ini"

busy_ticks() { awk '/^cpu / { print $2 + $3 + $4 + $7 + $8 + $9 }' /proc/stat; }
busy=$(busy_ticks)
sleep 1
busy=$(calc "($(busy_ticks) - $busy) / $(getconf CLK_TCK)")
[[ $(calc "$busy > 0.2") == 0 ]] || say "something else uses $busy cores: these figures will be off"

measure_start
measure_memory
measure_idle
[[ -z $REDIS_SERVER ]] || start_fresh redis
measure_load
measure_queue
measure_kill

echo "$(uname -sr), $(nproc) cores, $(sed -n 's/^model name[^:]*: //p;T;q' /proc/cpuinfo), data on $disk"
echo "others used $busy cores before it began"
"$RAFT" --version
[[ -z $ETCD ]] || "$ETCD" --version | head -1
[[ -z $REDIS_SERVER ]] || echo "Redis $("$REDIS_SERVER" --version | grep -o 'v=[0-9.]*'), one node, fsync always"
echo "runs of each load: $runs of $seconds s; medians"
echo
table
if ((${#failures[@]})); then
  say "" "requests failed, in these runs:" "${failures[@]}"
  exit 1
fi
