#!/usr/bin/env bash
# Compares a new cluster of ours with one that has a history, in turn, under the same load: one command, one table.
# shellcheck disable=SC2015,SC2317 # "a && b || fail" is meant; give_CASE, check_CASE and row_CASE are called by name
set -uo pipefail
# shellcheck source=benches/nodes.sh
source "$(dirname "${BASH_SOURCE[0]}")/nodes.sh"

usage() {
  cat <<'HELP'
Usage: benches/history.sh [OPTIONS] [CASE...]

Shows that what a put costs does not grow with what a cluster has behind it. For each case it starts two
clusters of three durable nodes on this machine, of which one is new and the other has a history, puts the
same load on them in turn, and prints a table (Markdown): how many puts a second the new one served, how
many the other one, and their ratio. It is Linux, bash and the programs that are measured, nothing else.

Cases (without any: all four), and how each makes sure that it is what it says, or else fails:
  entries       10,000,000 entries of the log, put before by 256 clients.
                Every node has applied that many.
  state         1 GiB of state: 1,048,576 keys with values of 1,024 bytes, beside the keys of the load.
                The cluster counts them, before and after each run, and the last one has its size; every
                node has applied them.
  idle          1,000 connections to its leader that say nothing.
                The leader counts them (metric raft_clients), before and after each run.
  slow          a follower that is stopped for 20 ms and goes on for 20 ms, again and again (SIGSTOP, SIGCONT).
                In each run it is seen stopped while it lacks more entries than there are clients, and so
                some that were acknowledged without it.

Options:
  -n ENTRIES    entries of the case of that name [default: 10000000]
  -r RUNS       runs on each cluster; the table has medians [default: 5]
  -s SECONDS    how long each run measures, after a second of warming up [default: 3]
  -d FOLDER     where the data goes, in a new folder that is removed afterwards: a disk, no tmpfs, with 10 GB
                free for `state`, which takes half as much memory [default: $TMPDIR, or else /tmp]
  -p PORT       the first of 60 ports of 127.0.0.1 that it may use [default: 27200]
  --quick       20,000 entries, 10 MiB of state, one run of a second (half a minute for all), to see that it
                works: no figures to quote
  -h, --help    this text

The load is `raft-shell bench`: puts of 256 bytes to 10,000 keys (--quick: 1,000), 64 clients that share four
connections to the leader. A put is acknowledged when it is fsynced on a majority. Who goes first moves on;
the other cluster runs meanwhile, with what it has behind it and nothing to do. Load and nodes share this
machine's cores: leave it alone meanwhile. A ratio under 0.85 is marked.

Examples:
  benches/history.sh                     all of it; most of the time goes into putting entries and state
  benches/history.sh idle slow           these two, a minute and a half
  benches/history.sh -n 1000000 entries

Programs: RAFT and RAFT_SHELL in the environment name others than target/release/raft and
target/release/raft-shell (built if they are missing).

Exit code 0: all was measured, whatever came of it; 1: something failed, or was not what the case is about,
and stderr says what; 2: the command line makes no sense; 130: Ctrl-C. Whatever it started has ended by then.
HELP
}

# --- Options --------------------------------------------------------------------------------------

entries=10000000 state_keys=1048576 runs=5 seconds=3 folder=${TMPDIR:-/tmp} port=27200 keys=10000 cases=()
connections=1000 clients=64 state_bytes=1024 least_ratio=0.85
# Before the others, so that those mean the same on either side of it.
case " $* " in *" --quick "*) entries=20000 state_keys=10240 runs=1 seconds=1 keys=1000 ;; esac
while (($#)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --quick) shift; continue ;;
    entries | state | idle | slow)
      [[ " ${cases[*]} " == *" $1 "* ]] || cases+=("$1")
      shift
      continue
      ;;
    -[nrsdp]) (($# > 1)) || wrong "$1 needs a value" ;;
    -*) wrong "\"$1\" is no option" ;;
    *) wrong "\"$1\" is no case: there are entries, state, idle and slow" ;;
  esac
  case $1 in
    -d) folder=$2 ;;
    -n) entries=$2; whole -n "$2" 1000000000 ;;
    -r) runs=$2; whole -r "$2" 99999 ;;
    -s) seconds=$2; whole -s "$2" 86400 ;;
    -p) port=$2; whole -p "$2" 65475 ;;
  esac
  shift 2
done
((${#cases[@]})) || cases=(entries state idle slow)
check_folder
if [[ " ${cases[*]} " == *" idle "* ]]; then
  # For the leader's sockets, and for those at the other end of them.
  ulimit -Sn hard
  [[ $(ulimit -n) == unlimited ]] || (($(ulimit -n) >= connections + 500)) ||
    fail "idle needs $((connections + 500)) open files in a process, and the limit is $(ulimit -n) (ulimit -Hn)"
fi
work_in "$folder" raft-history
find_programs
kind=([new]=raft [old]=raft)

# --- What the old cluster knows of itself ---------------------------------------------------------

grouped() { sed -E ':a;s/([0-9])([0-9]{3})($|,)/\1,\2\3/;ta' <<<"$1"; } # NUMBER

number() { # NODE PATTERN PATH: sets `number`, the first match's group in what the node answers there
  ask "${http_port[$1]}" GET "$3" && [[ $answer =~ $2 ]] || fail "$1 does not answer GET $3: ${answer:-nothing came}"
  number=${BASH_REMATCH[1]}
}

last() { number "$1" '"last": ([0-9]+)' /status; }         # NODE: of its log
applied() { number "$1" '"applied": ([0-9]+)' /status; }   # NODE
connected() { number "$1" $'\nraft_clients ([0-9]+)' /metrics; } # NODE: connections of clients, this one included

await_applied() { # INDEX: by every node
  local name before limit
  for name in $(nodes old); do
    before=0 limit=$((SECONDS + 30))
    while applied "$name" && ((number < $1)); do
      ((number == before)) || before=$number limit=$((SECONDS + 30))
      ((SECONDS < limit)) || fail "$name has applied $number entries of $1, and no more within 30 s"
      sleep 0.1
    done
  done
}

still_leads() { # NODE: for what was done to one leader is not there at the next
  find_leader old
  [[ $leader == "$1" ]] || fail "$leader leads instead of $1 since this run: too much else on this machine?"
}

# --- Cases: what gives the old cluster its history, and what makes sure that it was there during a run ----------

# Launches `filling`, a load of 256 clients, and waits until the log has so many more entries; fails if it ends before.
fill() { # CASE ENTRIES KEYS FLAGS...
  local until shown=0 before=0 limit=$((SECONDS + 30))
  find_leader old
  last "$leader"
  until=$((number + $2))
  launch filling "$RAFT_SHELL" --json bench "redis://127.0.0.1:${client_port[$leader]}" --clients 256 --keys "$3" \
    --svg "$work/plot.svg" "${@:4}"
  while last "$leader" && ((number < until)); do
    ((number == before)) || before=$number limit=$((SECONDS + 30))
    kill -0 "${pids[filling]}" 2>/dev/null && ((SECONDS < limit)) || break
    ((number < shown)) || { say "$1: $(grouped "$number") entries of $(grouped "$until")"; shown=$((number + $2 / 10)); }
    sleep 0.1
  done
  ((number >= until)) && return
  stop filling
  tail -qn 5 "$work"/old?.log >&2
  say "$1: after $number entries of $until no more came; the last of the nodes' logs is above"
  return 1
}

give_entries() {
  fill entries "$entries" "$keys" --mix put=1 --seconds 86400 || fail "the entries could not be put"
  stop filling
  await_applied "$entries"
}

give_state() {
  local try all=$((keys + state_keys))
  # Because there are gets, every key is set first, up to one that fails; for the gets there is the least of time.
  for ((try = 1; try <= 3; try++)); do
    fill state "$all" "$all" --mix get=1 --value-size "$state_bytes" --seconds 0.1 && break
  done
  ((try <= 3)) && wait "${pids[filling]}" || fail "the keys could not be put"
  unset 'pids[filling]'
  check_state
  last "$leader"
  await_applied "$number"
}

check_entries() { await_applied "$entries"; }

row_entries() { echo "$(grouped "$entries") entries behind it"; }

check_state() {
  find_leader old
  ask_redis "${client_port[$leader]}" DBSIZE && ((${answer#:} >= keys + state_keys)) ||
    fail "there should be $((keys + state_keys)) keys; DBSIZE says \"$answer\""
  ask_redis "${client_port[$leader]}" STRLEN "$(printf 'bench-%08d' $((keys + state_keys - 1)))" && [[ $answer == ":$state_bytes" ]] ||
    fail "the last key should have $state_bytes bytes; STRLEN says \"$answer\""
}

row_state() { echo "$((state_keys * state_bytes >> 20)) MiB of state in $(grouped "$state_keys") keys"; }

give_idle() {
  find_leader old
  idle_leader=$leader
  launch silent hold "${client_port[$leader]}"
  local limit=$((SECONDS + 30))
  until connected "$leader" && ((number > connections)); do
    ((SECONDS < limit)) && kill -0 "${pids[silent]}" 2>/dev/null ||
      fail "the leader has $((number - 1)) of $connections connections: $(tail -n 3 "$work/silent.log")"
    sleep 0.1
  done
}

hold() { # PORT: connections to it, without a word
  local n silent
  for ((n = 0; n < connections; n++)); do exec {silent}<>"/dev/tcp/127.0.0.1/$1" || return; done
  exec sleep infinity
}

check_idle() {
  still_leads "$idle_leader"
  connected "$leader"
  ((number > connections)) || fail "$((number - 1)) of $connections silent connections are left"
}

row_idle() { echo "$(grouped "$connections") connections that say nothing"; }

give_slow() {
  local name
  find_leader old
  slow_leader=$leader
  for name in $(nodes old); do [[ $name == "$leader" ]] || slow_node=$name; done
  mkfifo "$work/never" && exec {never}<>"$work/never" || fail "cannot make $work/never"
  : >"$work/lag"
  launch slow keep_stopping "${pids[$slow_node]}"
  launch watch watch_lag "$leader" "${slow_node: -1}" "${pids[$slow_node]}"
}

nap() { read -r -t "$1" -u "$never"; } # SECONDS: without a process of its own

keep_stopping() { # PROCESS
  while kill -STOP "$1" && { nap 0.02; kill -CONT "$1"; }; do nap 0.02; done
}

watch_lag() { # LEADER ID PROCESS: a line each time, with the follower's state in /proc (T: stopped), and what it lacks of the log
  local status last matched
  while status=$(<"/proc/$3/stat"); do
    ask "${http_port[$1]}" GET /status
    status=${status##*) } last='"last": ([0-9]+)' matched="\"id\": $2, [^}]*\"matched\": ([0-9]+)"
    [[ $answer =~ $last ]] && last=${BASH_REMATCH[1]} && [[ $answer =~ $matched ]] &&
      echo "${status%% *} $((last - BASH_REMATCH[1]))" >>"$work/lag"
    nap 0.05
  done
}

check_slow() {
  local found
  still_leads "$slow_leader"
  found=$(awk -v clients="$clients" \
    '$1 == "T" && $2 > clients { n++; if ($2 > most) most = $2 } END { print n + 0, most + 0 }' "$work/lag")
  ((${found% *} > 0)) || fail "$slow_node was not slow: of $(wc -l <"$work/lag") looks none found it stopped and more than $clients entries behind"
  say "slow: stopped and behind in ${found% *} of $(wc -l <"$work/lag") looks, by ${found#* } entries at most"
  : >"$work/lag"
}

row_slow() { echo "a follower that is stopped half of the time"; }

# --- Measuring ------------------------------------------------------------------------------------

measure() { # CASE
  local run system
  for system in new old; do start_fresh "$system"; done
  "give_$1"
  for ((run = 1; run <= runs; run++)); do
    for system in $(in_turn $run new old); do
      bench "$system" "$clients" "$seconds" --mix put=1
      note "$1" "$system" "$rate"
      say "$1, run $run of $runs: $system $(to_int "$rate") puts a second, p99 $p99 ms"
      [[ $system == new ]] || "check_$1"
    done
  done
  stop silent slow watch
  for system in new old; do stop_system "$system"; done
}

table() {
  local name new old ratio slower=()
  printf '| puts/s, where the other one has | new | with history | with history / new |\n| --- | ---: | ---: | ---: |\n'
  for name in "${cases[@]}"; do
    new=$(of "$name" new) old=$(of "$name" old) ratio=$(calc "$old / ($new + 1e-9)")
    if [[ $(calc "$ratio < $least_ratio") == 1 ]]; then
      slower+=("$name")
      printf '| %s | %.0f | %.0f | **%.2f**, more than 15 %% slower |\n' "$("row_$name")" "$new" "$old" "$ratio"
    else
      printf '| %s | %.0f | %.0f | %.2f |\n' "$("row_$name")" "$new" "$old" "$ratio"
    fi
  done
  ((${#slower[@]} == 0)) || say "" "more than 15 % slower with a history: ${slower[*]}"
}

# --- All of it ------------------------------------------------------------------------------------

check_ports "$port" 60
configure new "$port"
configure old $((port + 30))
look_around

for name in "${cases[@]}"; do measure "$name"; done

describe_machine
echo "runs on each: $runs of $seconds s; medians"
echo
table
end
