//! What must be true of the whole cluster, whatever goes wrong, checked after every step at the price of what has changed.
//!
//! The oracle sees everything: what every node has in memory and what its disk was told, what is sent and what arrives, what
//! machines apply and what clients are told. The invariants are those of the project's catalogue, each in a place of its own:
//!
//! | file | invariants |
//! | --- | --- |
//! | `elections` | I1 election safety, I2 vote correctness, I14 leader completeness |
//! | `logs` | I3 leader append-only, I4 log safety, I5 commit rule, I7 commit clamp, I8 monotonicity, I9 leader's book-keeping |
//! | `disks` | I6 durable acknowledgements never shrink, I8 and I10 across restarts, I13 log matching |
//! | `messages` | I10 persist before send, I15 terms of messages |
//! | `machines` | I12 apply order, state machines that are equal, snapshots that are what they cover |
//! | `clients` | I16 acknowledged durability, I17 linearizability, I18 read freshness |
//! | `sessions` | I19 exactly once in a session |
//! | `values` | I17 every answer of keys and values |
//! | `queue` | I20 messages, leases and their order |
//!
//! Not yet applicable, and never counted as passed: I11 (configurations that change at run time).
//! I21 (bounds) and I22 (liveness) are checked where the simulation runs: `simulation`, `network` and `liveness`.

mod clients;
mod disks;
mod elections;
mod logs;
mod machines;
mod messages;
mod queue;
mod sessions;
mod values;

use std::collections::BTreeMap;
use std::fmt;

use rustc_hash::FxHashMap;

use self::clients::History;
pub use self::clients::{Operation, OperationId, Outline};
use self::disks::DiskMemory;
use self::machines::Chain;
use self::queue::Queues;
use self::sessions::Sessions;
use self::values::Values;
pub use self::values::{FIRST, Look};
use crate::consensus::{EntryHeader, Index, Membership, NodeId, Payload, Term};

/// Something is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant, by number and name.
    pub invariant: &'static str,
    /// What was seen, for people.
    pub details: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.details)
    }
}

/// All is well, or not.
pub type Check = Result<(), Violation>;

/// Fails with this invariant unless the condition holds.
macro_rules! hold {
    ($invariant:literal, $condition:expr, $($details:tt)+) => {
        if !$condition {
            return Err($crate::runtime::simulated::oracle::Violation { invariant: $invariant, details: format!($($details)+) });
        }
    };
}
pub(crate) use hold;

/// Knows what has been true so far, whatever any node may have forgotten since.
pub struct Oracle {
    membership: Membership,
    /// Who led each term.
    leaders: BTreeMap<Term, NodeId>,
    /// Votes that became durable.
    votes: BTreeMap<(Term, NodeId), NodeId>,
    /// Every entry that any node has written to its disk. Only looked up: its order is nobody's business.
    made: FxHashMap<(Index, Term), Made>,
    nodes: BTreeMap<NodeId, Seen>,
    chain: Chain,
    history: History,
    sessions: Sessions,
    queues: Queues,
    values: Values,
}

/// An entry, and the term of the one before it.
struct Made {
    prev: Term,
    header: EntryHeader,
    payload: Payload,
}

/// What was seen of one node.
#[derive(Default)]
struct Seen {
    term: Term,
    vote: Option<NodeId>,
    commit: Index,
    applied: Index,
    /// The terms of the log in memory, from entry 1 on.
    log: Vec<Term>,
    /// Equal to the log of some leader up to here.
    verified: Index,
    /// What arrived in this turn that may verify more: the leader's term, and two places.
    arrived: Vec<(Term, [(Index, Term); 2])>,
    /// Requests for votes that arrived lately: the candidate, its term, and the end of its log.
    asked: Vec<(NodeId, Term, (Term, Index))>,
    /// The end of its log before this turn.
    last_before: (Term, Index),
    leads: Option<Term>,
    /// A leader's match indexes.
    matched: BTreeMap<NodeId, Index>,
    disk: DiskMemory,
    /// Last entry that its state machine has applied.
    machine: Index,
}

impl Oracle {
    /// Knows of a new cluster of so many nodes.
    pub fn new(nodes: u64) -> Self {
        let membership = Membership::of_voters((1..=nodes).map(NodeId));
        let nodes = membership.voters.iter().map(|&id| (id, Seen::default())).collect();
        Oracle {
            membership,
            leaders: BTreeMap::new(),
            votes: BTreeMap::new(),
            made: FxHashMap::default(),
            nodes,
            chain: Chain::default(),
            history: History::default(),
            sessions: Sessions::default(),
            queues: Queues::default(),
            values: Values::default(),
        }
    }

    /// Last index that any node has ever committed.
    pub fn committed(&self) -> Index {
        self.chain.last()
    }

    /// How many entries repeated a command of a session.
    pub fn repeated(&self) -> u64 {
        self.sessions.repeated()
    }

    /// How many terms had a leader.
    pub fn elections(&self) -> u64 {
        self.leaders.len() as u64
    }

    fn seen(&mut self, id: NodeId) -> &mut Seen {
        self.nodes.entry(id).or_default()
    }

    fn is_majority(&self, count: usize) -> bool {
        2 * count > self.membership.voters.len()
    }
}

/// The term of an entry in a list of terms from entry 1 on.
fn term_at(terms: &[Term], index: Index) -> Option<Term> {
    match index.0.checked_sub(1) {
        None => Some(Term(0)),
        Some(place) => terms.get(place as usize).copied(),
    }
}

/// The last index and term of a list of terms from entry 1 on.
fn last_of(terms: &[Term]) -> (Term, Index) {
    (terms.last().copied().unwrap_or_default(), Index(terms.len() as u64))
}

/// Something happened that never may.
pub fn fail<T>(invariant: &'static str, details: String) -> Result<T, Violation> {
    Err(Violation { invariant, details })
}
