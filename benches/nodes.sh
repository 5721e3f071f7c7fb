# shellcheck shell=bash disable=SC2015,SC2034,SC2154 # "a && b || fail" is meant; who sources it sets `keys`, and uses what is set here
# What the scripts beside it share, which source it: servers as processes, the load, medians, and an end without remains.
# One sets `kind` of each of its systems, and then: options, `work_in`, `check_ports`, `configure`, `start_fresh`, `bench`.
export LC_ALL=C
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*" >&2; }
fail() { say "${0##*/}: $*"; exit 1; }
wrong() { say "${0##*/}: $*; --help tells what there is"; exit 2; }
calc() { awk "BEGIN { printf \"%.6g\", ($1) }"; }
to_int() { awk "BEGIN { printf \"%d\", ($1) }"; }

# --- Options, and what there has to be --------------------------------------------------------------

whole() { # OPTION VALUE MOST: the value is a whole number that is no more than this
  [[ $2 =~ ^[1-9][0-9]{0,9}$ ]] && (($2 <= $3)) || wrong "$1 needs a whole number from 1 to $3, not \"$2\""
}

check_folder() { # makes `folder` a full path; sets `disk`, the type of its file system
  [[ -d $folder && -w $folder ]] || wrong "-d: \"$folder\" is no folder that can be written to"
  folder=$(cd "$folder" && pwd)
  disk=$(df --output=fstype "$folder" | tail -1)
  [[ $disk != tmpfs ]] || wrong "$folder is in memory, where an fsync does nothing: name another folder with -d"
  [[ -r /proc/self/stat ]] || fail "there is no /proc: this needs Linux"
}

find_programs() {
  RAFT=${RAFT:-$ROOT/target/release/raft} RAFT_SHELL=${RAFT_SHELL:-$ROOT/target/release/raft-shell}
  if [[ ! -x $RAFT || ! -x $RAFT_SHELL ]]; then
    say "building: cargo build --release"
    (cd "$ROOT" && cargo build --release) >&2 || fail "the build failed"
    [[ -x $RAFT && -x $RAFT_SHELL ]] || fail "there is no $RAFT, or no $RAFT_SHELL"
  fi
}

check_ports() { # FIRST COUNT: nobody has them
  local n
  for ((n = $1; n < $1 + $2; n++)); do
    ! (exec 3<>"/dev/tcp/127.0.0.1/$n") 2>/dev/null || fail "port $n is taken; -p names the first of $2 others"
  done
}

busy_ticks() { awk '/^cpu / { print $2 + $3 + $4 + $7 + $8 + $9 }' /proc/stat; }

look_around() { # sets `busy`: how many cores others use
  busy=$(busy_ticks)
  sleep 1
  busy=$(calc "($(busy_ticks) - $busy) / $(getconf CLK_TCK)")
  [[ $(calc "$busy > 0.2") == 0 ]] || say "something else uses $busy cores: these figures will be off"
}

describe_machine() {
  echo "$(uname -sr), $(nproc) cores, $(sed -n 's/^model name[^:]*: //p;T;q' /proc/cpuinfo), data on $disk"
  echo "others used $busy cores before it began"
  "$RAFT" --version
}

# --- Processes, and how all of this ends ----------------------------------------------------------

declare -A pids=() # of what runs, by name

work_in() { # FOLDER PREFIX: sets `work`, a new folder there for all files, removed at the end, with all that runs
  work=$(mktemp -d "$1/$2.XXXXXX") || fail "cannot make a folder in $1"
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

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
  # shellcheck disable=SC2046 # one word for each process
  { kill -KILL $(jobs -p); wait; } 2>/dev/null
  rm -rf "$work"
}

# --- The systems ----------------------------------------------------------------------------------

declare -A kind=()        # of each system: raft, etcd or redis; for start_KIND, probe_KIND and leads_KIND
declare -A client_port=() # of each node, by its name: that of its system, and a number from 1 on
declare -A http_port=()   # of each node of the kind raft

nodes() { # SYSTEM: their names
  case ${kind[$1]} in redis) echo "${1}1" ;; *) echo "$1"{1,2,3} ;; esac
}

configure() { # SYSTEM PORT: three nodes of ours, on 24 ports from this one on, of which 9 are used
  local n config=$work/$1.ini
  "$RAFT" init --nodes 3 -o "$config" >"$work/init.log" 2>&1 || fail "raft init: $(<"$work/init.log")"
  for n in 1 2 3; do
    client_port[$1$n]=$(($2 + 10 + n)) http_port[$1$n]=$(($2 + 20 + n))
    sed -i -E "s/^(Port = )311$n\b/\1$(($2 + n))/; s/^(ClientPort = )411$n\b/\1${client_port[$1$n]}/" "$config"
    sed -i -E "s/^(HttpPort = )511$n\b/\1${http_port[$1$n]}/" "$config"
  done
  sed -i -E "s|^(DataDirectory = )[^ ]*|\1$work/$1|" "$config"
}

start_raft() { launch "$1" "$RAFT" -c "$work/${1%?}.ini" -n "${1: -1}"; } # NAME

start_fresh() { # SYSTEM: without data; sets `ms`, the time to the first success
  local name names began
  rm -rf "${work:?}/$1"
  read -ra names <<<"$(nodes "$1")"
  began=${EPOCHREALTIME/./}
  for name in "${names[@]}"; do "start_${kind[$1]}" "$name"; done
  first_success "$1" "$began" "${names[@]}"
}

stop_system() { # SYSTEM
  local names
  read -ra names <<<"$(nodes "$1")"
  stop "${names[@]}"
}

ask() { # PORT METHOD PATH [BODY]: sets `answer`, to a request over HTTP
  local body=${4-}
  answer=
  exec 3<>"/dev/tcp/127.0.0.1/$1" || return
  printf '%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s' "$2" "$3" ${#body} "$body" >&3
  IFS= read -r -d '' -t 2 answer <&3
  exec 3>&-
  [[ -n $answer ]]
}

ask_redis() { # PORT WORD...: sets `answer`, the first line that comes within 5 s
  local port=$1 request word
  shift
  answer=
  printf -v request "*%d\r\n" $#
  for word; do printf -v request "%s\$%d\r\n%s\r\n" "$request" ${#word} "$word"; done
  exec 3<>"/dev/tcp/127.0.0.1/$port" || return
  printf %s "$request" >&3
  IFS=$'\r' read -r -t 5 answer <&3
}

# Whether a put is served there, within 5 s.
probe_redis() { ask_redis "$1" SET probe x && [[ $answer == +OK ]]; } # PORT
probe_raft() { probe_redis "$1"; }

# Whether it leads.
leads_redis() { true; } # NODE
leads_raft() { ask "${http_port[$1]}" GET /status && [[ $answer == *'"role": "Leader"'* ]]; }

first_success() { # SYSTEM SINCE NODE...: sets `ms`, from SINCE (in µs) until a put is served by any of these nodes
  local system=$1 since=$2 name probes=() found=$work/found limit=$((SECONDS + 30))
  shift 2
  rm -f "$found"
  until [[ -s $found ]]; do
    for name; do
      { "probe_${kind[$system]}" "${client_port[$name]}" && set -C && echo "${EPOCHREALTIME/./}" >"$found"; } 2>/dev/null &
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

find_leader() { # SYSTEM: sets `leader`, the name of its node
  local try
  for ((try = 0; try < 100; try++)); do
    for leader in $(nodes "$1"); do ! "leads_${kind[$1]}" "$leader" 2>/dev/null || return 0; done
    sleep 0.1
  done
  fail "$1 has no leader after 10 s"
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

failures=() # what runs had failed requests

# Sets `rate` (of answers with something) and `p99`, and `cpu`, in s per 1,000 requests. How many keys there are says `keys`.
bench() { # SYSTEM CLIENTS SECONDS FLAGS...
  local system=$1 clients=$2 time=$3 out=$work/bench.log scheme=redis before after began window
  shift 3
  [[ ${kind[$system]} != etcd ]] || scheme=etcd
  find_leader "$system"
  rm -f "$out"
  launch bench "$RAFT_SHELL" --json bench "$scheme://127.0.0.1:${client_port[$leader]}" --clients "$clients" \
    --seconds "$time" --keys "$keys" --svg "$work/plot.svg" "$@"
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

in_turn() { # NUMBER SYSTEM...: the same, but the first moves on with each number, so that nobody is always first
  local first=$(($1 % ($# - 1)))
  shift
  echo "${@:first+1}" "${@:1:first}"
}

declare -A samples=() # of each row and system
note() { samples[$1/$2]+=" $3"; } # ROW SYSTEM VALUE

of() { # ROW SYSTEM [median|worst]: empty if there is none
  tr ' ' '\n' <<<"${samples[$1/$2]-}" | awk NF | sort -g |
    awk -v which="${3-median}" '{ v[NR] = $1 } END { if (NR) print which == "worst" ? v[NR] : (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2 }'
}

# To be called last.
end() {
  ((${#failures[@]})) || exit 0
  say "" "requests failed, in these runs:" "${failures[@]}"
  exit 1
}
