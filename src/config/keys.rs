//! The table of all keys of raft.ini: name, default, range, field and explanation, each in one place. Reading a file,
//! writing one, checking a [`Config`] and explaining a key all go through it.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::{Config, NodeConfig, Start, start};
use crate::consensus::NodeId;

/// A key of a section whose values are kept in a `T`.
pub(super) struct Key<T: 'static> {
    pub name: &'static str,
    pub absent: Absent,
    pub kind: Kind<T>,
    /// What it is, in half a line.
    pub summary: &'static str,
    /// The rest of the explanation.
    pub details: &'static str,
}

/// What holds when a file does not have the key.
pub(super) enum Absent {
    /// The value of [`Config::default`].
    Default,
    /// A mistake.
    Required,
    /// It follows from others, so.
    Derived(&'static str),
}

/// How a value is written and where it is kept.
pub(super) enum Kind<T: 'static> {
    Number { unit: Unit, range: RangeInclusive<u64>, get: fn(&T) -> u64, set: fn(&mut T, u64) },
    Word { allowed: &'static str, get: fn(&T) -> String, set: fn(&mut T, &str) -> Result<(), String> },
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    None,
    Milliseconds,
    Seconds,
    Bytes,
}

const NAME: &str = "1 to 64 letters, digits, `-`, `_` or `.`, the first a letter";
const HOST: &str = "a host name or an address that peers can dial, without a port";
const FLAG: &str = "True or False";
const MAX_TIME_MS: u64 = 600_000;
const MAX_BYTES: u64 = 1 << 40;
const YEAR_SECONDS: u64 = 366 * 24 * 60 * 60;

/// `[Cluster]`.
pub(super) static CLUSTER: &[Key<Config>] = &[
    Key {
        name: "Name",
        absent: Absent::Default,
        kind: Kind::Word { allowed: NAME, get: |c| c.name.clone(), set: |c, text| name(text).map(|v| c.name = v) },
        summary: "nodes of clusters with different names refuse each other",
        details: "It is mixed into the cluster id, which every handshake between nodes carries. Choose another name for \
                  every cluster that could reach this one by mistake. It cannot be changed after the first start.",
    },
    Key {
        name: "NodeCount",
        absent: Absent::Derived("all nodes of [Nodes]"),
        kind: Kind::Number {
            unit: Unit::None,
            range: 1..=99,
            get: |c| c.node_count as u64,
            set: |c, v| c.node_count = v as usize,
        },
        summary: "how many of [Nodes], from the first, vote when the cluster first starts",
        details: "A majority of the voters must be up for the cluster to work: 2 of 3, 3 of 5, and so on; an even number \
                  tolerates no more failures than the odd one below it. After the first start the membership stored in \
                  the data folders rules.",
    },
    Key {
        name: "ElectionTimeout",
        absent: Absent::Default,
        kind: Kind::Number {
            unit: Unit::Milliseconds,
            range: 10..=MAX_TIME_MS,
            get: |c| milliseconds(c.election_timeout),
            set: |c, v| c.election_timeout = Duration::from_millis(v),
        },
        summary: "without a leader for this long, up to twice as long, a node runs for election",
        details: "Each timeout is drawn at random from [T, 2T), so that nodes seldom run at the same time. It should be at \
                  least ten times a round trip between nodes plus a write to disk: too low, and a leader that is merely \
                  slow is deposed; too high, and the cluster is without a leader for longer after a crash. Also how long \
                  a leader that no longer hears a majority goes on.",
    },
    Key {
        name: "HeartbeatInterval",
        absent: Absent::Default,
        kind: Kind::Number {
            unit: Unit::Milliseconds,
            range: 1..=MAX_TIME_MS,
            get: |c| milliseconds(c.heartbeat_interval),
            set: |c, v| c.heartbeat_interval = Duration::from_millis(v),
        },
        summary: "a leader with nothing else to say shows this often that it is there",
        details: "Must be below ElectionTimeout, and is best at a fifth of it or less, so that a few lost messages do not \
                  cause an election. Lower costs more messages while idle, nothing more.",
    },
    Key {
        name: "MinReplicationInterval",
        absent: Absent::Default,
        kind: Kind::Number {
            unit: Unit::Milliseconds,
            range: 0..=MAX_TIME_MS,
            get: |c| milliseconds(c.min_replication_interval),
            set: |c, v| c.min_replication_interval = Duration::from_millis(v),
        },
        summary: "least time between two messages with entries to the same follower",
        details: "With 0 entries leave at once, and batches form by themselves from what comes in meanwhile. More makes \
                  batches larger at the price of latency. At most HeartbeatInterval.",
    },
    Key {
        name: "StorageClass",
        absent: Absent::Default,
        kind: Kind::Word {
            allowed: "FileStorage or InMemoryStorage",
            get: |c| c.storage.to_string(),
            set: |c, text| text.parse().map(|v| c.storage = v),
        },
        summary: "FileStorage; or InMemoryStorage, with which nothing survives the end of a node",
        details: "With FileStorage every acknowledged write is on the disks of a majority. InMemoryStorage is for tests and \
                  scenarios: a node that restarts has forgotten its log and its votes. Where its peers remember it, it neither \
                  votes nor counts until all other voters have answered it and it has caught up with a leader. Whatever was \
                  acknowledged is lost when a majority restarts.",
    },
    Key {
        name: "DataDirectory",
        absent: Absent::Default,
        kind: Kind::Word {
            allowed: "a folder",
            get: |c| c.data_directory.display().to_string(),
            set: |c, text| {
                c.data_directory = PathBuf::from(text);
                Ok(())
            },
        },
        summary: "each node keeps its data in a folder under this one, named after its label",
        details: "Relative to the folder of raft.ini; ~ is the home folder. It is made when it is not there. Two clusters \
                  must not share one.",
    },
    Key {
        name: "Runtime",
        absent: Absent::Default,
        kind: Kind::Word {
            allowed: "ThreadedRuntime, AsyncRuntime",
            get: |c| c.runtime.to_string(),
            set: |c, text| text.parse().map(|v| c.runtime = v),
        },
        summary: "what carries a node's work: ThreadedRuntime, AsyncRuntime",
        details: "ThreadedRuntime serves all sockets with a fixed pool of threads, and applies the protocol in one of its own. \
                  AsyncRuntime does the same with tasks on two threads, whatever Workers says. \
                  docs/ARCHITECTURE.md says when to choose which. On the command line, -r overrides it.",
    },
    Key {
        name: "Debug",
        absent: Absent::Default,
        kind: Kind::Word {
            allowed: FLAG,
            get: |c| if c.debug { "True" } else { "False" }.into(),
            set: |c, text| flag(text).map(|v| c.debug = v),
        },
        summary: "log every step, not only what changes",
        details: "The same as -v on the command line. RUST_LOG, when set, rules over both.",
    },
    Key {
        name: "SnapshotEntries",
        absent: Absent::Default,
        kind: Kind::Number {
            unit: Unit::None,
            range: 1..=1_000_000_000_000,
            get: |c| c.limits.snapshot_entries,
            set: |c, v| c.limits.snapshot_entries = v,
        },
        summary: "a snapshot is due after this many log entries",
        details: "A snapshot lets a node drop the log before it, and start without replaying it. Whichever of \
                  SnapshotEntries, SnapshotBytes and SnapshotSeconds is reached first counts. When the last snapshot is \
                  larger than SnapshotBytes, this grows in proportion.",
    },
    Key {
        name: "SnapshotBytes",
        absent: Absent::Default,
        kind: Kind::Number {
            unit: Unit::Bytes,
            range: 4096..=MAX_BYTES,
            get: |c| c.limits.snapshot_bytes,
            set: |c, v| c.limits.snapshot_bytes = v,
        },
        summary: "a snapshot is due after this much log",
        details: "Whichever of SnapshotEntries, SnapshotBytes and SnapshotSeconds is reached first counts. When the last snapshot is larger \
                  than this, a new one is due after as much log as that one has bytes: so what is written for snapshots \
                  is never more than what is written for the log. A part of the log is kept for followers that are \
                  nearly there.",
    },
    Key {
        name: "SnapshotSeconds",
        absent: Absent::Default,
        kind: Kind::Number {
            unit: Unit::Seconds,
            range: 0..=YEAR_SECONDS,
            get: |c| c.limits.snapshot_age.map_or(0, |age| age.as_secs()),
            set: |c, v| c.limits.snapshot_age = (v > 0).then(|| Duration::from_secs(v)),
        },
        summary: "a snapshot is due this long after the first entry since the last; 0: never for its age",
        details: "So the log of a node that has little to do goes, too, and what a start has to replay is never older. A \
                  node on which nothing was written since its last snapshot makes no other.",
    },
    Key {
        name: "SnapshotRateBytes",
        absent: Absent::Default,
        kind: Kind::Number {
            unit: Unit::Bytes,
            range: 65536..=MAX_BYTES,
            get: |c| c.limits.snapshot_rate_bytes,
            set: |c, v| c.limits.snapshot_rate_bytes = v,
        },
        summary: "most that a leader sends of a snapshot in a second",
        details: "A follower that lacks more than the log still has gets a snapshot, on a connection of its own. The limit, \
                  for each follower, leaves the network and the disks to everything else.",
    },
    Key {
        name: "SegmentBytes",
        absent: Absent::Default,
        kind: Kind::Number {
            unit: Unit::Bytes,
            range: 4096..=1 << 30,
            get: |c| c.limits.segment_bytes,
            set: |c, v| c.limits.segment_bytes = v,
        },
        summary: "size of one file of the log",
        details: "The log is dropped file by file: smaller files free space sooner, larger ones are changed less often.",
    },
    Key {
        name: "MaxRequestBytes",
        absent: Absent::Default,
        kind: Kind::Number {
            unit: Unit::Bytes,
            range: 1024..=64 << 20,
            get: |c| c.limits.max_request_bytes,
            set: |c, v| c.limits.max_request_bytes = v,
        },
        summary: "largest request of a client, key and value and all",
        details: "A larger one is refused as malformed. Large values delay heartbeats and everybody else's requests. At most \
                  MaxInflightBytes. It should be the same on all nodes.",
    },
    Key {
        name: "MaxInflightBytes",
        absent: Absent::Default,
        kind: Kind::Number {
            unit: Unit::Bytes,
            // What one turn accepts is written as one unit, of which the log takes 1 GiB.
            range: 65536..=512 << 20,
            get: |c| c.limits.max_inflight_bytes,
            set: |c, v| c.limits.max_inflight_bytes = v,
        },
        summary: "most that a node accepts before it is applied, and that it queues for a peer",
        details: "Beyond it new requests are refused as overloaded (and never take effect), until the cluster has caught up. \
                  What is not applied yet, requests that wait for an answer, and the queue for each peer may take that much memory \
                  each, besides the data itself.",
    },
    Key {
        name: "Workers",
        absent: Absent::Default,
        kind: Kind::Number {
            unit: Unit::None,
            range: 1..=256,
            get: |c| c.limits.workers as u64,
            set: |c, v| c.limits.workers = v as usize,
        },
        summary: "threads that serve the sockets of a node",
        details: "They share the connections of Redis clients. Those of peers and of HTTP clients are served by other threads. \
                  More than the cores of the machine seldom helps.",
    },
    Key {
        name: "MaxConnections",
        absent: Absent::Default,
        kind: Kind::Number {
            unit: Unit::None,
            range: 1..=1_000_000,
            get: |c| c.limits.max_connections as u64,
            set: |c, v| c.limits.max_connections = v as usize,
        },
        summary: "most connections of clients to a node",
        details: "Those of the Redis protocol and of HTTP together. One more is closed at once. The limit of open files of the process (ulimit -n) has to be above it.",
    },
];

/// `[Nodes]`: not a table, for its keys are numbered.
pub(super) const NODES_KEY: &str = "Node1";
pub(super) const NODES_ALLOWED: &str = "the X of a section [Node.X]";
pub(super) const NODES_SUMMARY: &str = "the nodes, each with a section of its own: Node1 = A is described in [Node.A]";
pub(super) const NODES_DETAILS: &str = "Node1, Node2, and so on; numbers may be left out. The first NodeCount of them vote. After \
                                        the first start the membership stored in the data folders rules, and a raft.ini \
                                        that differs from it is refused.";

/// `[Node.X]`.
pub(super) static NODE: &[Key<NodeConfig>] = &[
    Key {
        name: "Label",
        absent: Absent::Derived("the X of [Node.X]"),
        kind: Kind::Word { allowed: NAME, get: |n| n.label.clone(), set: |n, text| name(text).map(|v| n.label = v) },
        summary: "its name, in logs and as the folder of its data",
        details: "Also for -n on the command line, as in `raft -c raft.ini -n B`.",
    },
    Key {
        name: "Id",
        absent: Absent::Required,
        kind: Kind::Number { unit: Unit::None, range: 1..=65535, get: |n| n.id.0, set: |n, v| n.id = NodeId(v) },
        summary: "its number: never give it to another node",
        details: "Votes and the log name nodes by it. It is stored in the data folder, and a folder of another id is refused.",
    },
    Key {
        name: "Host",
        absent: Absent::Required,
        kind: Kind::Word { allowed: HOST, get: |n| n.host.clone(), set: |n, text| host(text).map(|v| n.host = v) },
        summary: "where it listens, and where the others find it",
        details: "Names are looked up anew for every connection. As long as there is neither encryption nor authentication, \
                  an address other than a loopback one (127.0.0.1, ::1, localhost) needs --insecure.",
    },
    Key {
        name: "Port",
        absent: Absent::Required,
        kind: Kind::Number {
            unit: Unit::None,
            range: 1..=65535,
            get: |n| n.port.into(),
            set: |n, v| n.port = v as u16,
        },
        summary: "for the other nodes",
        details: "Nodes speak their own protocol here; clients use ClientPort or HttpPort.",
    },
    Key {
        name: "ClientPort",
        absent: Absent::Derived("Port + 1000"),
        kind: Kind::Number {
            unit: Unit::None,
            range: 1..=65535,
            get: |n| n.client_port.into(),
            set: |n, v| n.client_port = v as u16,
        },
        summary: "for clients: the Redis protocol",
        details: "raft-shell, redis-cli and every Redis client library connect here, to any node.",
    },
    Key {
        name: "HttpPort",
        absent: Absent::Derived("Port + 2000"),
        kind: Kind::Number {
            unit: Unit::None,
            range: 1..=65535,
            get: |n| n.http_port.into(),
            set: |n, v| n.http_port = v as u16,
        },
        summary: "for clients: HTTP",
        details: "The REST service: topics, messages, keys and values, status and metrics. No other port of the host may be \
                  the same.",
    },
];

/// `[Start.X]`.
pub(super) static START: &[Key<Start>] = &[
    Key {
        name: "Term",
        absent: Absent::Derived("the term of the last entry"),
        kind: Kind::Word {
            allowed: start::TERM,
            get: |s| s.term.map_or_else(String::new, |term| term.to_string()),
            set: |s, text| start::term(text).map(|v| s.term = v),
        },
        summary: "in a scenario, the term that the node begins in",
        details: "A section [Start.X] forces a state on node X, and goes with StorageClass = InMemoryStorage only: \
                  docs/SCENARIOS.md. At least the term of the last entry of Log.",
    },
    Key {
        name: "VotedFor",
        absent: Absent::Derived("itself for a leader or candidate, otherwise nobody"),
        kind: Kind::Word {
            allowed: "a Label or an Id",
            get: |s| s.voted_for.clone().unwrap_or_default(),
            set: |s, text| {
                s.voted_for = (!text.is_empty()).then(|| text.to_owned());
                Ok(())
            },
        },
        summary: "in a scenario, whom the node has voted for in its term",
        details: "One that has voted votes for nobody else in that term. So a leader's rivals cannot win its term, too, give \
                  a majority the leader's Term and VotedFor.",
    },
    Key {
        name: "Role",
        absent: Absent::Default,
        kind: Kind::Word {
            allowed: start::ROLE,
            get: |s| s.role.to_string(),
            set: |s, text| text.parse().map(|v| s.role = v),
        },
        summary: "in a scenario, the role that the node takes once it is connected to all others",
        details: "After 5 seconds it takes it all the same. A leader appends nothing until a client asks for something; a \
                  candidate asks for votes in its Term.",
    },
    Key {
        name: "Log",
        absent: Absent::Derived("no entries"),
        kind: Kind::Word {
            allowed: start::LOG,
            get: |s| start::listed_log(&s.log),
            set: |s, text| start::log(text).map(|v| s.log = v),
        },
        summary: "in a scenario, the log that the node begins with, as the terms of its entries",
        details: "None of them is known to be committed. The entry of term t at index i is the same command on every node.",
    },
    Key {
        name: "NextIndex",
        absent: Absent::Derived("the index after the leader's last"),
        kind: Kind::Word {
            allowed: start::INDEXES,
            get: |s| start::listed_indexes(&s.next_index),
            set: |s, text| start::indexes(text).map(|v| s.next_index = v),
        },
        summary: "in a scenario, the index of the entry that a leader sends each peer next",
        details: "From 1 to one more than the leader's last, and above the peer's MatchIndex. Peers are named by Label or Id.",
    },
    Key {
        name: "MatchIndex",
        absent: Absent::Derived("0 for every peer"),
        kind: Kind::Word {
            allowed: start::INDEXES,
            get: |s| start::listed_indexes(&s.match_index),
            set: |s, text| start::indexes(text).map(|v| s.match_index = v),
        },
        summary: "in a scenario, how far a leader knows each peer's log to be equal to its own",
        details: "It must be so: the peer's Log is compared.",
    },
];

impl<T> Key<T> {
    /// The value as a file would have it.
    pub fn get(&self, from: &T) -> String {
        match &self.kind {
            Kind::Number { unit, get, .. } => shown(*unit, get(from)),
            Kind::Word { get, .. } => get(from),
        }
    }

    /// Takes a value as a file has it. The error says what is allowed.
    pub fn set(&self, to: &mut T, text: &str) -> Result<(), String> {
        match &self.kind {
            Kind::Number { unit, range, set, .. } => match number(*unit, text) {
                Some(value) if range.contains(&value) => {
                    set(to, value);
                    Ok(())
                }
                _ => Err(format!("expected {}", self.allowed())),
            },
            Kind::Word { set, .. } => set(to, text),
        }
    }

    /// Which values are allowed, in words.
    pub fn allowed(&self) -> String {
        match &self.kind {
            Kind::Number { unit: Unit::None, range, .. } => {
                format!("a whole number from {} to {}", range.start(), range.end())
            }
            Kind::Number { unit: Unit::Milliseconds, range, .. } => {
                format!("a whole number of milliseconds from {} to {}, without a unit", range.start(), range.end())
            }
            Kind::Number { unit: Unit::Seconds, range, .. } => {
                format!("a whole number of seconds from {} to {}, without a unit", range.start(), range.end())
            }
            Kind::Number { unit: Unit::Bytes, range, .. } => {
                let [from, to] = [range.start(), range.end()].map(|value| shown(Unit::Bytes, *value));
                format!("a size from {from} to {to}, written as 65536, 64 KiB or 1 MiB")
            }
            Kind::Word { allowed, .. } => (*allowed).into(),
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    time.as_millis().try_into().unwrap_or(u64::MAX)
}

fn number(unit: Unit, text: &str) -> Option<u64> {
    let (digits, factor) = match (unit, text.strip_suffix("KiB"), text.strip_suffix("MiB")) {
        (Unit::Bytes, Some(digits), _) => (digits.trim_end(), 1 << 10),
        (Unit::Bytes, _, Some(digits)) => (digits.trim_end(), 1 << 20),
        _ => (text, 1),
    };
    // A sign is refused here, which `parse` would take.
    let digits = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

fn shown(unit: Unit, value: u64) -> String {
    match unit {
        Unit::Bytes if value.is_multiple_of(1 << 20) => format!("{} MiB", value >> 20),
        Unit::Bytes if value.is_multiple_of(1 << 10) => format!("{} KiB", value >> 10),
        _ => value.to_string(),
    }
}

fn name(text: &str) -> Result<String, String> {
    let allowed = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.');
    let starts_well = text.starts_with(|char: char| char.is_ascii_alphabetic());
    (starts_well && text.len() <= 64 && text.chars().all(allowed))
        .then(|| text.to_string())
        .ok_or_else(|| format!("expected {NAME}"))
}

fn host(text: &str) -> Result<String, String> {
    let good = match text.parse::<IpAddr>() {
        Ok(address) => !address.is_unspecified() && !address.is_multicast(),
        Err(_) => {
            let allowed = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.');
            // What looks like an IPv4 address must be one.
            let like_address = text.chars().all(|char| char.is_ascii_digit() || char == '.');
            !text.is_empty() && !like_address && text.chars().all(allowed)
        }
    };
    good.then(|| text.to_string()).ok_or_else(|| format!("expected {HOST}"))
}

fn flag(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" => Ok(true),
        "false" | "no" | "0" => Ok(false),
        _ => Err(format!("expected {FLAG}")),
    }
}
